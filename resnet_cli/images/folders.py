"""Walks through folders: sorted by name, one listing at a time, and never in circles.

Names are plain strings here, not paths: there may be very many of them.
"""

import os
import re
import stat
from collections.abc import Iterator, Set
from dataclasses import dataclass
from fnmatch import fnmatch

from resnet_cli import images

WILDCARD = re.compile(r"[*?[]")


@dataclass
class LeftOut:
    """Counts what folders hold besides the images that were found.

    Args:
        hidden: files and folders whose name begins with a dot.
        others: files that are no images, by suffix and by content.
    """

    hidden: int = 0
    others: int = 0


def walk(root: str, left_out: LeftOut) -> Iterator[str]:
    """Name the images in a folder, at any depth.

    Args:
        root: the folder.
        left_out: counts what is left out, up to date with what was yielded.

    Yields:
        Each file that is an image by suffix or by content; also each folder that cannot be listed.
    """
    seen: set[tuple[int, int]] = set()
    waiting = [iter([(root, True)])]  # a stack instead of recursion: folders may be nested deeper than Python's calls
    while waiting:
        path, is_folder = next(waiting[-1], ("", False))
        if not path:
            waiting.pop()
        elif not is_folder:
            if _is_image(path):
                yield path
            else:
                left_out.others += 1
        else:
            try:
                status = os.stat(path)
                names, folders = _entries(path)
            except OSError:
                yield path
                continue
            if (status.st_dev, status.st_ino) not in seen:
                seen.add((status.st_dev, status.st_ino))
                shown = [name for name in names if not name.startswith(".")]
                left_out.hidden += len(names) - len(shown)
                waiting.append(_joined(path, shown, folders))


def matching(pattern: str) -> Iterator[str]:
    """Name what a pattern matches; `glob` would list everything first, unsorted, and follow links in circles.

    Args:
        pattern: a path in which `*`, `?` and `[...]` match within a name, and a part `**` any number of folders. As in
            `glob`, hidden names are matched only by what begins with a dot itself.

    Yields:
        Files and folders in the order in which `walk` would come to them; of a folder that matches, nothing inside.
    """
    parts = pattern.replace(os.altsep or os.sep, os.sep).split(os.sep)
    first = next(at for at, part in enumerate(parts) if WILDCARD.search(part))
    base = os.sep.join([*parts[:first], ""])
    parts = [part for part in parts[first:] if part]
    # With each path goes how many parts of the pattern it may have used up; `**` makes that several.
    waiting = [iter([(base or os.curdir, True, _skipping({0}, parts))])]
    while waiting:
        path, is_folder, used = next(waiting[-1], ("", False, frozenset[int]()))
        if not path:
            waiting.pop()
        elif len(parts) in used:
            yield path
        elif is_folder and used:
            try:
                names, folders = _entries(path)
            except OSError:
                continue
            if os.path.islink(path):
                used = frozenset(at for at in used if parts[at] != "**")
            inside = _joined(base if path == os.curdir else path, names, folders)
            waiting.append(_used(inside, used, parts))


def _entries(folder: str) -> tuple[list[str], set[str]]:
    """List a folder: all names, sorted, and those that are folders. Plain strings, as there may be very many."""
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


def _is_image(path: str) -> bool:
    if os.path.splitext(path)[1].lower() in images.SUFFIXES:
        return True
    try:
        return stat.S_ISREG(os.stat(path).st_mode) and images.is_image(path)  # a pipe is not opened
    except OSError:
        return False


def _used(
    inside: Iterator[tuple[str, bool]], used: Set[int], parts: list[str]
) -> Iterator[tuple[str, bool, frozenset[int]]]:
    for path, is_folder in inside:
        name = os.path.basename(path)
        yield path, is_folder, _skipping({at + (parts[at] != "**") for at in used if _fits(name, parts[at])}, parts)


def _fits(name: str, part: str) -> bool:
    return (part == "**" or fnmatch(name, part)) and (part.startswith(".") or not name.startswith("."))


def _skipping(used: set[int], parts: list[str]) -> frozenset[int]:
    """Let each `**` stand for no folder, too."""
    for at, part in enumerate(parts):
        if part == "**" and at in used:
            used.add(at + 1)
    return frozenset(used)
