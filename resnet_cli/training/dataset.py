"""One folder per class -> image names, split into training and validation."""

import hashlib
import os
from collections.abc import Container, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from resnet_cli.errors import ImageError, UsageError
from resnet_cli.images import decode, inputs

ROLES = {"train": ("train", "training"), "val": ("val", "valid", "validation")}  # spellings, in lower case
COMPARED = 2000  # validation images that are compared with the training images; all of a large set would take minutes


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
    unused: tuple[str, ...] = ()  # names of folders beside `train`

    @property
    def unreadable(self) -> dict[str, str]:
        """Why images cannot be read, by `train/CLASS/FILE` or `val/CLASS/FILE`, with the folders' own names."""
        splits = (self.train, self.validation)
        return {
            f"{split.folder.name}/{name}": why for split in splits for name, why in sorted(split.unreadable.items())
        }

    def exclude(self, unreadable: Mapping[str, str]) -> None:
        """Exclude images already known to be unreadable, named as in `unreadable`."""
        for split in (self.train, self.validation) if unreadable else ():
            named = {f"{split.folder.name}/{name}": name for name in split.names}
            split.unreadable.update({named[name]: unreadable[name] for name in named.keys() & unreadable.keys()})


@dataclass(frozen=True)
class Folders:
    """Where the splits of a dataset are.

    Args:
        train: the folder with one subfolder per class.
        validation: the same for the validation images, or None.
        unused: names of other folders beside them, such as `test`.
    """

    train: Path
    validation: Path | None
    unused: tuple[str, ...] = ()


def find_folders(root: Path) -> Folders:
    """Find `train` and `val`, whatever their case and usual spelling; without `train`, all folders are classes.

    Raises:
        UsageError: there are no folders, two with the same role, or `val` without `train`.
    """
    names = _folders(root) if root.is_dir() else ()
    roles = {role: [name for name in names if name.lower() in spellings] for role, spellings in ROLES.items()}
    if len(names) > 2:  # `train` can also be a class, beside others
        roles["train"] = [name for name in roles["train"] if _folders(root / name)]
    if twice := next((found for found in roles.values() if len(found) > 1), None):
        raise UsageError(f"{root}: expected one of the folders {' and '.join(twice)}, found both")
    train, validation = ([*found, None][0] for found in (roles["train"], roles["val"]))
    if train:
        unused = tuple(name for name in names if name not in (train, validation))
        return Folders(root / train, root / validation if validation else None, unused)
    if validation or len(names) < 2:
        found = ", ".join(names[:3]) or "none"
        raise UsageError(f"{root}: expected a folder `train`, or at least two folders of classes, found {found}")
    return Folders(root, None)


def scan_dataset(root: Path, share: float) -> Dataset:
    """List the images of `root/train/CLASS/` and `root/val/CLASS/`, or those of `root/CLASS/`.

    Args:
        root: the folder.
        share: share of the training images, from 0 to 1, to validate on if there is no `val`, but at least one of each
            class. They are chosen by a hash of each `CLASS/FILE`, so they are the same in every run, and hardly depend
            on the other images.

    Raises:
        UsageError: there is no `train`, fewer than two classes, a class without images, a class in `val` that is not in
            `train`, or no validation image.
    """
    folders = find_folders(root)
    train, validation = folders.train, folders.validation
    classes = _folders(train)
    if len(classes) < 2:
        raise UsageError(f"{train}: expected at least two class folders, found {len(classes)}")
    names = {name: _images(train / name) for name in classes}
    if empty := [name for name in classes if not names[name]]:
        raise UsageError(f"{train}: expected images in each class, found none in {', '.join(empty[:5])}")

    if validation:
        if unknown := sorted(set(_folders(validation)) - set(classes)):
            raise UsageError(f"{validation}: found classes that are missing in {train}: {', '.join(unknown[:5])}")
        validation_names = {name: _images(validation / name) for name in classes}
        dataset = Dataset(classes, _split(train, names), _split(validation, validation_names), folders.unused)
    else:
        held_out = {name: _held_out(name, files, share) for name, files in names.items()}
        validation_names = {name: [file for file in names[name] if file in held_out[name]] for name in classes}
        training_names = {name: [file for file in names[name] if file not in held_out[name]] for name in classes}
        dataset = Dataset(classes, _split(train, training_names), _split(train, validation_names), folders.unused)
    if not len(dataset.validation):
        raise UsageError(f"{root}: no validation images; add a folder `val`, or a second image to a class")
    return dataset


def count_copies(dataset: Dataset) -> int:
    """Return how many validation images have the same content as a training image, among `COMPARED` of them."""
    step = -(-len(dataset.validation) // COMPARED)
    candidates = _by_size(dataset.validation, dataset.validation.names[::step])
    training = _by_size(dataset.train, dataset.train.names, candidates.keys())
    seen = {_digest(path) for paths in training.values() for path in paths} - {None}
    return sum(_digest(path) in seen for size in training for path in candidates[size])


def _by_size(split: Split, names: Iterable[str], sizes: Container[int] | None = None) -> dict[int, list[Path]]:
    """Return files by their size in bytes, of the given sizes only: others cannot have the same content."""
    found: dict[int, list[Path]] = {}
    for name in names:
        with suppress(OSError):
            size = (split.folder / name).stat().st_size
            if size and (sizes is None or size in sizes):
                found.setdefault(size, []).append(split.folder / name)
    return found


def _digest(path: Path) -> bytes | None:
    """Return a hash of a file's content, or None if it cannot be read, which is reported later."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").digest()
    except OSError:
        return None


def _folders(root: Path) -> tuple[str, ...]:
    return tuple(sorted(path.name for path in root.iterdir() if path.is_dir() and not path.name.startswith(".")))


def _images(folder: Path) -> list[str]:
    if not folder.is_dir():
        return []
    return [os.path.relpath(name, folder) for name in inputs.find([str(folder)]) if name != str(folder)]


def _held_out(name: str, files: list[str], share: float) -> set[str]:
    """Return the files of a class to validate on: by their hashes, at least one and at most all but one."""
    ordered = sorted((_fraction(f"{name}/{file}"), file) for file in files)
    count = sum(fraction < share for fraction, _ in ordered)
    return {file for _, file in ordered[: min(max(count, 1), len(files) - 1)]}


def _split(folder: Path, names: dict[str, list[str]]) -> Split:
    classes = np.repeat(np.arange(len(names), dtype=np.int32), [len(files) for files in names.values()])
    return Split(folder, tuple(f"{name}/{file}" for name, files in names.items() for file in files), classes)


def _fraction(name: str) -> float:
    """Return a number from 0 to 1 that depends on the name only."""
    digest = hashlib.sha256(name.encode(errors="surrogateescape")).digest()
    return int.from_bytes(digest[:8]) / 2**64
