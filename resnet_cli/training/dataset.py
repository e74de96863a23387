"""One folder per class -> image names, split into training and validation."""

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from resnet_cli.errors import ImageError, UsageError
from resnet_cli.images import decode, inputs


@dataclass(frozen=True)
class Split:
    """Labelled images; only the name (about 100 bytes) and class of each are in memory.

    Args:
        folder: the parent folder of the names.
        names: `CLASS/FILE`, sorted.
        classes: class index of each.
        unreadable: why images cannot be read, by name, of those opened so far.
    """

    folder: Path
    names: tuple[str, ...]
    classes: NDArray[np.int32]
    unreadable: dict[str, str] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.names)

    def open(self, index: int, size: int) -> Image.Image | None:
        """Read an image; None if it is unreadable.

        Args:
            index: position of the image.
            size: size of the network's input in pixels.
        """
        name = self.names[index]
        if name in self.unreadable:
            return None
        try:
            return decode.load_image(self.folder / name, 2 * size)
        except ImageError as error:
            self.unreadable[name] = str(error)
            return None


@dataclass(frozen=True)
class Dataset:
    """The classes of a folder, in the order of the network's output, and its images."""

    classes: tuple[str, ...]
    train: Split
    validation: Split

    @property
    def unreadable(self) -> dict[str, str]:
        """Why images cannot be read, by `train/CLASS/FILE` or `val/CLASS/FILE`."""
        splits = (self.train, self.validation)
        return {
            f"{split.folder.name}/{name}": why for split in splits for name, why in sorted(split.unreadable.items())
        }

    def exclude(self, unreadable: Mapping[str, str]) -> None:
        """Exclude images already known to be unreadable, named as in `unreadable`."""
        for split in (self.train, self.validation) if unreadable else ():
            named = {f"{split.folder.name}/{name}": name for name in split.names}
            split.unreadable.update({named[name]: unreadable[name] for name in named.keys() & unreadable.keys()})


def scan_dataset(root: Path, share: float) -> Dataset:
    """List the images of `root/train/CLASS/` and `root/val/CLASS/`.

    Args:
        root: the folder.
        share: share of the training images, from 0 to 1, to validate on if there is no `val`. They are chosen by a hash
            of each `CLASS/FILE`, so they are the same in every run and do not depend on the other images.

    Raises:
        UsageError: there is no `train`, fewer than two classes, a class without images, a class in `val` that is not in
            `train`, or no validation image.
    """
    train = root / "train"
    if not train.is_dir():
        raise UsageError(f"{root}: expected a folder `train` with one subfolder per class, found none")
    classes = _folders(train)
    if len(classes) < 2:
        raise UsageError(f"{train}: expected at least two class folders, found {len(classes)}")
    names = {name: _images(train / name) for name in classes}
    if empty := [name for name in classes if not names[name]]:
        raise UsageError(f"{train}: expected images in each class, found none in {', '.join(empty[:5])}")

    if (root / "val").is_dir():
        if unknown := sorted(set(_folders(root / "val")) - set(classes)):
            raise UsageError(f"{root / 'val'}: found classes that are missing in {train}: {', '.join(unknown[:5])}")
        validation_names = {name: _images(root / "val" / name) for name in classes}
        dataset = Dataset(classes, _split(train, names), _split(root / "val", validation_names))
    else:
        validation_names = {
            name: [file for file in files if _is_held_out(f"{name}/{file}", share)] for name, files in names.items()
        }
        training_names = {
            name: [file for file in files if not _is_held_out(f"{name}/{file}", share)] for name, files in names.items()
        }
        if empty := [name for name in classes if not training_names[name]]:
            left = f"the validation split left no training images for {', '.join(empty[:5])}"
            raise UsageError(f"{train}: {left}; add images or a folder `val`")
        dataset = Dataset(classes, _split(train, training_names), _split(train, validation_names))
    if not len(dataset.validation):
        raise UsageError(f"{root}: no validation images; add a folder `val` or raise --validation-share")
    return dataset


def _folders(root: Path) -> tuple[str, ...]:
    return tuple(sorted(path.name for path in root.iterdir() if path.is_dir() and not path.name.startswith(".")))


def _images(folder: Path) -> list[str]:
    if not folder.is_dir():
        return []
    return [os.path.relpath(name, folder) for name in inputs.find([str(folder)]) if name != str(folder)]


def _split(folder: Path, names: dict[str, list[str]]) -> Split:
    classes = np.repeat(np.arange(len(names), dtype=np.int32), [len(files) for files in names.values()])
    return Split(folder, tuple(f"{name}/{file}" for name, files in names.items() for file in files), classes)


def _is_held_out(name: str, share: float) -> bool:
    digest = hashlib.sha256(name.encode(errors="surrogateescape")).digest()
    return int.from_bytes(digest[:8]) < share * 2**64
