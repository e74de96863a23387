"""The features of any number of images as one NumPy file, written in bounded memory."""

import shutil
import zipfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from itertools import islice
from pathlib import Path
from tempfile import TemporaryFile
from typing import BinaryIO

import numpy as np
from numpy.lib import format as npy

from resnet_cli import files, interrupts
from resnet_cli.errors import UsageError
from resnet_cli.predict import Record

NAMES_AT_ONCE = 10_000


@contextmanager
def writing(path: Path) -> Iterator[Callable[[Record], Record]]:
    """Write features to a file that appears under its name when all are there.

    Args:
        path: the file, NPZ: `features`, float32 (images, channels), and `names`, text (images,), of the images that
            could be read.

    Yields:
        What takes a record, and returns it.

    Raises:
        UsageError: the file cannot be written.
    """
    files.remove_unfinished(path)
    count = longest = channels = 0
    with ExitStack() as stack:
        with interrupts.whole():
            unfinished = stack.enter_context(files.replacing(path))
        # As they come; NumPy's format wants their number first, and all names as wide as the widest.
        names, rows = (stack.enter_context(TemporaryFile(dir=unfinished.parent)) for _ in range(2))

        def add(record: Record) -> Record:
            nonlocal count, longest, channels
            if record.features is not None:
                try:
                    rows.write(record.features.astype("<f4").tobytes())
                    names.write(record.image.encode("utf-8", "surrogatepass") + b"\0")
                except OSError as error:
                    raise UsageError(f"cannot write {path}: {error.strerror}") from error
                count, longest, channels = count + 1, max(longest, len(record.image)), len(record.features)
            return record

        yield add
        with zipfile.ZipFile(unfinished, "w") as archive:
            with _member(archive, "features", (count, channels), "<f4") as member:
                rows.seek(0)
                shutil.copyfileobj(rows, member)
            with _member(archive, "names", (count,), f"<U{max(1, longest)}") as member:
                names.seek(0)
                coming = _names(names)
                while some := list(islice(coming, NAMES_AT_ONCE)):
                    member.write(np.array(some, f"<U{longest}").tobytes())


@contextmanager
def _member(archive: zipfile.ZipFile, name: str, shape: tuple[int, ...], dtype: str) -> Iterator[BinaryIO]:
    """Open an array of an NPZ file for its content."""
    about = zipfile.ZipInfo(f"{name}.npy")
    about.compress_type = zipfile.ZIP_DEFLATED if "U" in dtype else zipfile.ZIP_STORED  # names are mostly zeros
    with archive.open(about, "w", force_zip64=True) as member:
        npy.write_array_header_1_0(member, {"descr": dtype, "fortran_order": False, "shape": shape})
        yield member  # type: ignore[misc]


def _names(file: BinaryIO) -> Iterator[str]:
    rest = b""
    while chunk := file.read(1 << 16):
        *whole, rest = (rest + chunk).split(b"\0")
        yield from (name.decode("utf-8", "surrogatepass") for name in whole)
