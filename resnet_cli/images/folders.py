"""Walks through folders: sorted by name, one listing at a time, and never in circles.

Names are plain strings instead of paths, because there can be very many of them.
"""

import os
import re
import stat
from collections import Counter
from collections.abc import Iterable, Iterator, Set
from contextlib import suppress
from dataclasses import dataclass, field
from fnmatch import fnmatch, translate

from resnet_cli.images import formats, readers

WILDCARD = re.compile(r"[*?[]")
THUMBNAILS = frozenset(("@eaDir", "__MACOSX"))  # folders of Synology and macOS with small copies of images


@dataclass
class Skipped:
    """Counts what is skipped in folders.

    Args:
        hidden: files and folders whose name starts with a dot.
        not_images: files that are not images, by suffix and content.
        kinds: those of them that people take for pictures, such as videos, by the name of their format.
    """

    hidden: int = 0
    not_images: int = 0
    kinds: Counter[str] = field(default_factory=Counter)


def walk(root: str, skipped: Skipped, exclude: Iterable[str] = ()) -> Iterator[str]:
    """Yield the images in a folder, at any depth, and each folder that cannot be listed.

    Args:
        root: the folder.
        skipped: counts what is skipped.
        exclude: patterns of names, or of paths below the folder, that are left out.
    """
    patterns = [translate(pattern.rstrip("/")) for pattern in exclude]
    excluded = re.compile("|".join(patterns)).match if patterns else None
    seen: set[tuple[int, int]] = set()
    stack = [iter([(root, True)])]  # not recursion: folders can be nested deeper than Python's call limit
    while stack:
        path, is_folder = next(stack[-1], ("", False))
        if not path:
            stack.pop()
        elif (
            excluded
            and path != root
            and (excluded(os.path.basename(path)) or excluded(path[len(root) :].lstrip(os.sep)))
        ):
            continue
        elif not is_folder:
            if is_image(path, skipped):
                yield path
        else:
            try:
                status = os.stat(path)
                names, folders = _entries(path)
            except OSError:
                yield path
                continue
            if (status.st_dev, status.st_ino) not in seen:
                seen.add((status.st_dev, status.st_ino))
                shown = [name for name in names if not name.startswith(".") and name not in THUMBNAILS]
                skipped.hidden += len(names) - len(shown)
                stack.append(_joined(path, shown, folders))


def subfolders(folder: str | os.PathLike[str]) -> list[str]:
    """Return the folders in a folder; none if it cannot be listed."""
    try:
        names, folders = _entries(os.fspath(folder))
    except OSError:
        return []
    return [os.path.join(folder, name) for name in names if name in folders]


def sorted_glob(pattern: str) -> Iterator[str]:
    """Yield the paths that match a pattern; unlike `glob`, lazily, sorted and without link cycles.

    Without the set of positions, a pattern with several `**` would list folders and yield paths several times.

    Args:
        pattern: a path in which `*`, `?` and `[...]` match within a name, and a part `**` matches any number of
            folders. As in `glob`, only a part that starts with a dot matches hidden names.

    Yields:
        Files and folders in the order of `walk`, but nothing inside a folder that matches.
    """
    parts = pattern.replace(os.altsep or os.sep, os.sep).split(os.sep)
    first = next(at for at, part in enumerate(parts) if WILDCARD.search(part))
    base = os.sep.join([*parts[:first], ""])
    parts = [part for part in parts[first:] if part]
    # Each path carries the pattern positions that it may have reached; `**` allows several.
    stack = [iter([(base or os.curdir, True, _skip_globstars({0}, parts))])]
    while stack:
        path, is_folder, positions = next(stack[-1], ("", False, frozenset[int]()))
        if not path:
            stack.pop()
        elif len(parts) in positions:
            yield path
        elif is_folder and positions:
            try:
                names, folders = _entries(path)
            except OSError:
                continue
            if os.path.islink(path):
                positions = frozenset(at for at in positions if parts[at] != "**")
            inside = _joined(base if path == os.curdir else path, names, folders)
            stack.append(_advance(inside, positions, parts))


def _entries(folder: str) -> tuple[list[str], set[str]]:
    """Return the sorted names in a folder, and those that are folders."""
    names, folders = [], set()
    with os.scandir(folder) as entries:
        for entry in entries:
            names.append(entry.name)
            if _is_folder(entry):
                folders.add(entry.name)
    return sorted(names), folders


def _is_folder(entry: "os.DirEntry[str]") -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def _joined(folder: str, names: list[str], folders: set[str]) -> Iterator[tuple[str, bool]]:
    return ((os.path.join(folder, name), name in folders) for name in names)


def is_image(path: str, skipped: Skipped | None = None) -> bool:
    """Return whether a file is an image, by its suffix or its content; it need not exist.

    Args:
        path: the file.
        skipped: counts it if it is none.
    """
    suffix = os.path.splitext(path)[1].lower()
    if suffix in formats.SUFFIXES:
        return True
    found: formats.Format | bool = False
    with suppress(OSError):
        if stat.S_ISREG(os.stat(path).st_mode):  # a pipe is not opened
            found = readers.identify(path)
    if found is True:
        return True
    if skipped:
        skipped.not_images += 1
        if row := found or formats.BY_SUFFIX.get(suffix):
            skipped.kinds[row.name] += 1
    return False


def _advance(
    inside: Iterator[tuple[str, bool]], positions: Set[int], parts: list[str]
) -> Iterator[tuple[str, bool, frozenset[int]]]:
    for path, is_folder in inside:
        name = os.path.basename(path)
        yield (
            path,
            is_folder,
            _skip_globstars({at + (parts[at] != "**") for at in positions if _matches(name, parts[at])}, parts),
        )


def _matches(name: str, part: str) -> bool:
    return (part == "**" or fnmatch(name, part)) and (part.startswith(".") or not name.startswith("."))


def _skip_globstars(positions: set[int], parts: list[str]) -> frozenset[int]:
    """Let each `**` also match no folder at all."""
    for at, part in enumerate(parts):
        if part == "**" and at in positions:
            positions.add(at + 1)
    return frozenset(positions)
