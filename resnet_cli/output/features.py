"""The features of any number of images as one NumPy file, written in bounded memory."""

import os
import shutil
import struct
import zipfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from itertools import islice
from pathlib import Path
from tempfile import TemporaryFile
from typing import BinaryIO

import numpy as np
from numpy.lib import format as npy

from resnet_cli.errors import UsageError
from resnet_cli.system import atomic, interrupts
from resnet_cli.tasks.results import Result

NAMES_AT_ONCE = 10_000
MARK = struct.pack("<HH", 0x7372, 6) + b"resnet"  # an extra field of the zip archive, which readers ignore


def is_ours(head: bytes) -> bool:
    """Return whether the first bytes of a file are those of features that were written here."""
    return MARK in head[:256]


@contextmanager
def open_features(path: Path) -> Iterator[Callable[[Result], Result]]:
    """Write features to a file that appears when all are complete.

    Args:
        path: the NPZ file: `features`, float32 (images, channels), and `names`, text (images,), of all readable images.

    Yields:
        A function that adds a result, and returns it.

    Raises:
        UsageError: the file cannot be written.
    """
    path = Path(os.path.realpath(path))  # so that a link remains a link
    atomic.remove_leftovers(path)
    count = longest = channels = 0
    with ExitStack() as stack:
        with interrupts.defer_signals():
            temporary = stack.enter_context(atomic.atomic_write(path))
        # Buffered on disk: the .npy header needs their number first, and the width of the longest name.
        names, rows = (stack.enter_context(TemporaryFile(dir=temporary.parent)) for _ in range(2))

        def add(result: Result) -> Result:
            nonlocal count, longest, channels
            if result.features is not None:
                try:
                    rows.write(result.features.astype("<f4").tobytes())
                    names.write(result.image.encode("utf-8", "surrogatepass") + b"\0")
                except OSError as error:
                    raise UsageError(f"cannot write {path}: {error.strerror}") from error
                count, longest, channels = count + 1, max(longest, len(result.image)), len(result.features)
            return result

        yield add
        with zipfile.ZipFile(temporary, "w") as archive:
            with _member(archive, "features", (count, channels), "<f4") as member:
                rows.seek(0)
                shutil.copyfileobj(rows, member)
            with _member(archive, "names", (count,), f"<U{max(1, longest)}") as member:
                names.seek(0)
                remaining = _names(names)
                while batch := list(islice(remaining, NAMES_AT_ONCE)):
                    member.write(np.array(batch, f"<U{longest}").tobytes())


@contextmanager
def _member(archive: zipfile.ZipFile, name: str, shape: tuple[int, ...], dtype: str) -> Iterator[BinaryIO]:
    """Open an array of an NPZ file for writing."""
    about = zipfile.ZipInfo(f"{name}.npy")
    about.extra = MARK
    about.compress_type = zipfile.ZIP_DEFLATED if "U" in dtype else zipfile.ZIP_STORED  # names are padded with zeros
    with archive.open(about, "w", force_zip64=True) as member:
        npy.write_array_header_1_0(member, {"descr": dtype, "fortran_order": False, "shape": shape})
        yield member  # type: ignore[misc]


def _names(file: BinaryIO) -> Iterator[str]:
    rest = b""
    while chunk := file.read(1 << 16):
        *names, rest = (rest + chunk).split(b"\0")
        yield from (name.decode("utf-8", "surrogatepass") for name in names)
