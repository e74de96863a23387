"""Atomic writing: a half-written file never has its final name (standard library only)."""

import csv
import glob
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from resnet_cli.errors import UsageError
from resnet_cli.system import lock

PREFIX = ".resnet-"  # of the folders that contain temporary files
PNG_METADATA = {"Software": "resnet"}  # tells our figures from other programs'
HEAD = 1 << 16  # bytes that tell who wrote a file


def check_writable(path: Path) -> None:
    """Check that a file can have this name, before the work that fills it.

    Raises:
        UsageError: it is a folder, or its folder does not exist.
    """
    if path.is_dir() or not path.parent.is_dir():
        raise UsageError(f"{path}: expected a file in an existing folder")


def check_replaceable(path: Path, is_ours: Callable[[bytes], object], *, force: bool) -> None:
    """Check that a file can have this name, and that no other program's file is lost to it.

    Args:
        path: the file.
        is_ours: whether the first bytes of a file, at most `HEAD`, are those of one that is written here.
        force: whether any file may be replaced.

    Raises:
        UsageError: the folder does not exist, or another program's file is there.
    """
    check_writable(path)
    if force or not path.is_file():  # devices and pipes are not replaced
        return
    try:
        with path.open("rb") as file:
            head = file.read(HEAD)
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror}") from error
    if head and not is_ours(head):
        advice = "choose another name, or replace it with --force"
        raise UsageError(f"{path} already exists and was not written by this command; {advice}")


@contextmanager
def atomic_write(path: Path, *companions: Path) -> Iterator[Path]:
    """Yield a temporary path with the same suffix; on success, its file is moved to `path`.

    Args:
        path: the final name; an existing file is replaced.
        companions: final names, in the same folder, of files to write next to the temporary path. They are moved first,
            so that `path` never exists without them.

    Raises:
        UsageError: the folder does not exist, or cannot be written to.
    """
    for final in (path, *companions):
        check_writable(final)
    try:
        with tempfile.TemporaryDirectory(prefix=PREFIX, dir=path.parent) as folder, _try_lock(Path(folder)):
            temporary = Path(folder) / path.name
            yield temporary
            for final in (path, *companions):
                with temporary.with_name(final.name).open("rb+") as file:
                    os.fsync(file)  # or a power cut could leave an empty file
                with suppress(OSError):  # there is none to take the permissions from
                    shutil.copymode(final, file.name)
            for companion in companions:
                temporary.with_name(companion.name).replace(companion)
            try:
                temporary.replace(path)
            except OSError:
                for companion in companions:
                    companion.unlink()
                raise
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror or error}") from error


def remove_leftovers(path: Path) -> None:
    """Delete temporary files of killed processes; running ones hold a lock on theirs.

    Args:
        path: the final name.
    """
    for temporary in path.parent.glob(f"{PREFIX}*/{glob.escape(path.name)}"):
        with _try_lock(temporary.parent) as locked:
            if locked:
                shutil.rmtree(temporary.parent, ignore_errors=True)


@contextmanager
def _try_lock(folder: Path) -> Iterator[bool]:
    """Try to lock a folder; yield whether that succeeded. The system releases the lock if the process is killed."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:  # on Windows, or if the folder is gone
        yield False
        return
    try:
        yield lock.try_lock(descriptor) is True
    finally:
        os.close(descriptor)


def has_header(header: Sequence[str]) -> Callable[[bytes], bool]:
    """Return a function that tells whether the first bytes of a file are those of a CSV file with this header."""
    line = ",".join(header).encode()
    return lambda head: head.split(b"\n", 1)[0].rstrip(b"\r") == line


def is_our_png(head: bytes) -> bool:
    """Return whether the first bytes of a file are those of a PNG file with `PNG_METADATA`."""
    return head.startswith(b"\x89PNG") and b"tEXtSoftware\0resnet" in head


def write_csv(path: Path, header: Sequence[str], rows: Iterable[Iterable[object]]) -> None:
    """Write a table as CSV; an existing file is replaced."""
    with (
        atomic_write(Path(os.path.realpath(path))) as temporary,  # so that a link remains a link
        temporary.open("w", newline="", encoding="utf-8", errors="surrogateescape") as file,
    ):
        writer = csv.writer(file)
        writer.writerow(header)
        writer.writerows(rows)
