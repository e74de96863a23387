"""From what stands on the command line to the names of images, lazily; and from a name to its pixels."""

import os
import re
import sys
from collections.abc import Iterable, Iterator
from io import BufferedIOBase, BytesIO
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from resnet_cli import download, folders, images
from resnet_cli.errors import ImageError, UsageError
from resnet_cli.pretrained import Fit, Resizing

STANDARD_INPUT = "-"
MAX_STANDARD_INPUT = 256 << 20  # bytes; an endless pipe is no image
MAX_NAME = 1 << 16  # bytes; beyond it, a list of names is something else


def find(names: Iterable[str], left_out: folders.LeftOut | None = None) -> Iterator[str]:
    """Name the images behind the inputs, lazily: one folder at a time is listed.

    Args:
        names: files, folders, patterns such as `photos/**/*.jpg`, http(s) addresses, and `-` for standard input.
        left_out: counts what is left out of folders, up to date with what was yielded.

    Yields:
        A file, an address and `-` as they are, whether or not there is an image, so that every input gets a record. Of
        a folder, at any depth and sorted by name, each file that is an image by suffix or by content; hidden names are
        left out, a folder that links lead to again is walked once. A folder without images, or one that cannot be
        listed, is yielded itself for `decode` to report. What matches a pattern stands in the same order, and a
        pattern that nothing matches is yielded itself; a file of just this name is no pattern.
    """
    left_out = folders.LeftOut() if left_out is None else left_out
    for name in names:
        for path in _expanded(name):
            if path and os.path.isdir(path):
                found = folders.walk(path, left_out)
                yield next(found, path)
                yield from found
            else:
                yield path


def is_one(names: list[str]) -> bool:
    """Tell whether inputs are certainly one image: a file, an address or standard input."""
    return len(names) == 1 and not os.path.isdir(names[0]) and [*_expanded(names[0])] == names


def decode(name: str, size: int, fit: Fit, resizing: Resizing = images.USUAL) -> NDArray[np.uint8]:
    """Read the image that a name from `find` stands for.

    Args:
        name: a file, an http(s) address, or `-`.
        size: side of the square in pixels.
        fit: how the picture becomes square.
        resizing: the network's wishes.

    Returns:
        RGB values from 0 to 255: (size, size, 3) uint8.

    Raises:
        ImageError: as `images.decode` and `download.download` do.
    """
    if not name:  # which Path takes for the current folder
        raise ImageError("not_found", "expected the name of an image, received an empty one")
    if name == STANDARD_INPUT:
        return images.decode_stream(_standard_input(), size, fit, resizing)
    if download.is_address(name):
        return images.decode_stream(download.download(name), size, fit, resizing)
    return images.decode(name, size, fit, resizing)


def listed(file: BufferedIOBase, nul: bool) -> Iterator[str]:
    """Read names from a list, each as soon as it is complete.

    Args:
        file: the list, open for bytes; it may be an endless pipe.
        nul: names end with NUL and are taken as they are; else each is a line. A line may end as on Windows, unless
            there is a file whose name ends so.

    Yields:
        The names that are not empty.

    Raises:
        UsageError: this is no list of names.
    """
    end = b"\0" if nul else b"\n"
    rest = b""
    while chunk := file.read1(1 << 16):
        *names, rest = (rest + chunk).split(end)
        if max(map(len, (rest, *names))) > MAX_NAME:
            kind = "NUL-separated names" if nul else "a name a line"
            raise UsageError(f"expected {kind}, received one of over {MAX_NAME:,} bytes")
        yield from filter(None, (_name(name, nul) for name in names))
    if rest:
        yield _name(rest, nul)


def _name(raw: bytes, nul: bool) -> str:
    if not nul and raw.endswith(b"\r") and not os.path.lexists(raw):
        raw = raw[:-1]
    return os.fsdecode(raw)


def parse_shard(text: str) -> tuple[int, int]:
    """Read K/N, as in 2/8: the second of eight machines that share the work.

    Raises:
        UsageError: it is not of this form, or K is not one of 1 to N.
    """
    if match := re.fullmatch(r"([0-9]{1,9})/([0-9]{1,9})", text):
        k, n = int(match[1]), int(match[2])
        if 1 <= k <= n:
            return k, n
    raise UsageError(f"--shard takes K/N with K from 1 to N, as in 2/8, got {text!r}")


def shard(names: Iterable[str], k: int, n: int) -> Iterator[str]:
    """Return every n-th of the images that were found, from the k-th on.

    Args:
        names: what `find` yields.
        k: 1 to n.
        n: machines that share the work.
    """
    return islice(names, k - 1, None, n)


def _standard_input() -> BytesIO:
    content = sys.stdin.buffer.read(MAX_STANDARD_INPUT + 1)
    if len(content) > MAX_STANDARD_INPUT:
        raise ImageError("too_large", f"expected at most {MAX_STANDARD_INPUT >> 20} MiB on standard input, got more")
    return BytesIO(content)


def _expanded(name: str) -> Iterator[str]:
    """Yield what a pattern matches, and any other name as it is."""
    if name == STANDARD_INPUT or download.is_address(name) or not folders.WILDCARD.search(name) or _exists(name):
        yield name
        return
    # A file of the name "-" is not standard input.
    matches = (f"./{path}" if path == STANDARD_INPUT else path for path in folders.matching(name))
    yield next(matches, name)
    yield from matches


def _exists(name: str) -> bool:
    try:
        return os.path.lexists(name)
    except ValueError:  # a NUL in the name
        return False
