"""Writing files so that a half-written one never stands under its final name (standard library only)."""

import csv
import glob
import os
import shutil
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from resnet_cli.errors import UsageError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

PREFIX = ".resnet-"  # of the folders in which unfinished files stand
STALE_SECONDS = 3600  # a download that has written nothing for so long is over


def check(path: Path) -> None:
    """Refuse a name under which no file can stand, before the work that is to fill it.

    Raises:
        UsageError: it is a folder, or its folder does not exist.
    """
    if path.is_dir() or not path.parent.is_dir():
        raise UsageError(f"{path}: expected a file in an existing folder")


@contextmanager
def replacing(path: Path, *companions: Path) -> Iterator[Path]:
    """Give a temporary name in the same folder, of the same suffix, whose file is moved to `path` in the end.

    Args:
        path: the final name; a file of that name is replaced.
        companions: final names, in the same folder, of what is written beside the temporary name; they are moved
            before it, so that it never stands there alone.

    Raises:
        UsageError: the folder does not exist, or nothing can be written there.
    """
    for final in (path, *companions):
        check(final)
    try:
        with tempfile.TemporaryDirectory(prefix=PREFIX, dir=path.parent) as folder, _claimed(Path(folder)):
            unfinished = Path(folder) / path.name
            yield unfinished
            for final in (path, *companions):
                with unfinished.with_name(final.name).open("rb+") as file:
                    os.fsync(file)  # or a power cut may leave an empty file under the final name
            for companion in companions:
                unfinished.with_name(companion.name).replace(companion)
            try:
                unfinished.replace(path)
            except OSError:
                for companion in companions:
                    companion.unlink()
                raise
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror or error}") from error


def remove_unfinished(path: Path) -> None:
    """Remove what killed processes left of unfinished files, and nothing that a living one still writes.

    Args:
        path: the final name.
    """
    for unfinished in path.parent.glob(f"{PREFIX}*/{glob.escape(path.name)}"):
        with _claimed(unfinished.parent) as claimed:
            if claimed:
                shutil.rmtree(unfinished.parent, ignore_errors=True)


def remove_stale(downloads: Iterable[Path]) -> None:
    """Remove unfinished downloads of killed processes, told by their age, as libraries do not hold what they write.

    Args:
        downloads: unfinished files.
    """
    for path in downloads:
        with suppress(OSError):
            if time.time() - path.stat().st_mtime > STALE_SECONDS:
                path.unlink()


@contextmanager
def _claimed(folder: Path) -> Iterator[bool]:
    """Hold a folder, which ends with the process, and say whether nobody else holds it and it could be held."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:  # Windows, or the folder is gone
        yield False
        return
    try:
        claimed = False
        with suppress(OSError):  # held by another process, or a network's file system that cannot
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            claimed = True
        yield claimed
    finally:
        os.close(descriptor)


def write_csv(path: Path, header: Sequence[str], rows: Iterable[Iterable[object]]) -> None:
    """Write a table.

    Args:
        path: the file; one of that name is replaced.
        header: names of the columns.
        rows: their values.
    """
    with (
        replacing(path) as unfinished,
        unfinished.open("w", newline="", encoding="utf-8", errors="surrogateescape") as file,
    ):
        writer = csv.writer(file)
        writer.writerow(header)
        writer.writerows(rows)
