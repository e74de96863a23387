"""A folder a class -> the names of its images, split in those to learn from and those to validate with."""

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from resnet_cli import images, inputs
from resnet_cli.errors import ImageError, UsageError


@dataclass(frozen=True)
class Split:
    """Labelled images; what is kept of each is its name, about 100 bytes, and its class.

    Args:
        folder: what the names start from.
        names: `CLASS/FILE`, sorted.
        classes: the class of each.
        bad: why an image that was met cannot be read, by name.
    """

    folder: Path
    names: tuple[str, ...]
    classes: NDArray[np.int32]
    bad: dict[str, str] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.names)

    def open(self, index: int, size: int) -> Image.Image | None:
        """Read an image, or note that it is bad.

        Args:
            index: which.
            size: the side in pixels that the network sees.
        """
        name = self.names[index]
        if name in self.bad:
            return None
        try:
            return images.load(self.folder / name, 2 * size)
        except ImageError as error:
            self.bad[name] = str(error)
            return None


@dataclass(frozen=True)
class Tree:
    """The classes of a folder, in the order of the network's outputs, and its images."""

    classes: tuple[str, ...]
    train: Split
    validation: Split

    @property
    def bad(self) -> dict[str, str]:
        """Why images that were met cannot be read, by `train/CLASS/FILE` or `val/CLASS/FILE`."""
        splits = (self.train, self.validation)
        return {f"{split.folder.name}/{name}": why for split in splits for name, why in sorted(split.bad.items())}

    def leave_out(self, bad: Mapping[str, str]) -> None:
        """Leave out images that were met before, named as in `bad`, as far as they are still there."""
        for split in (self.train, self.validation) if bad else ():
            named = {f"{split.folder.name}/{name}": name for name in split.names}
            split.bad.update({named[name]: bad[name] for name in named.keys() & bad.keys()})


def scan(root: Path, share: float) -> Tree:
    """List the images of `root/train/CLASS/` and `root/val/CLASS/`.

    Args:
        root: the folder.
        share: part of the training images, 0 to 1, that validates where there is no `val`. Which ones follows from a
            hash of each image's `CLASS/FILE`, so that they are the same in every run and whatever else is in the tree.

    Returns:
        The tree; an image is in one split.

    Raises:
        UsageError: there is no `train`, there are fewer than two classes, a class has no images, `val` has a class
            that `train` has not, or nothing is left to validate with.
    """
    train = root / "train"
    if not train.is_dir():
        raise UsageError(f"{root}: expected a folder `train` in it that has a folder a class, found none")
    classes = _folders(train)
    if len(classes) < 2:
        raise UsageError(f"{train}: expected at least two folders, one a class, found {len(classes)}")
    names = {name: _images(train / name) for name in classes}
    if empty := [name for name in classes if not names[name]]:
        raise UsageError(f"{train}: expected images in each class, found none in {', '.join(empty[:5])}")

    if (root / "val").is_dir():
        if strange := sorted(set(_folders(root / "val")) - set(classes)):
            raise UsageError(f"{root / 'val'}: {', '.join(strange[:5])} has no folder of that name in {train}")
        held = {name: _images(root / "val" / name) for name in classes}
        tree = Tree(classes, _split(train, names), _split(root / "val", held))
    else:
        held = {name: [file for file in files if _drawn(f"{name}/{file}", share)] for name, files in names.items()}
        kept = {name: [file for file in files if not _drawn(f"{name}/{file}", share)] for name, files in names.items()}
        if empty := [name for name in classes if not kept[name]]:
            raise UsageError(f"{train}: no training image of {', '.join(empty[:5])} is left beside the validation's")
        tree = Tree(classes, _split(train, kept), _split(train, held))
    if not len(tree.validation):
        raise UsageError(f"{root}: no images to validate with; add a folder `val` or raise --validation-share")
    return tree


def _folders(root: Path) -> tuple[str, ...]:
    return tuple(sorted(path.name for path in root.iterdir() if path.is_dir() and not path.name.startswith(".")))


def _images(folder: Path) -> list[str]:
    if not folder.is_dir():
        return []
    return [os.path.relpath(name, folder) for name in inputs.find([str(folder)]) if name != str(folder)]


def _split(folder: Path, names: dict[str, list[str]]) -> Split:
    classes = np.repeat(np.arange(len(names), dtype=np.int32), [len(files) for files in names.values()])
    return Split(folder, tuple(f"{name}/{file}" for name, files in names.items() for file in files), classes)


def _drawn(name: str, share: float) -> bool:
    digest = hashlib.sha256(name.encode(errors="surrogateescape")).digest()
    return int.from_bytes(digest[:8]) < share * 2**64
