"""Writing files so that a half-written one never stands under its final name (standard library only)."""

import csv
import os
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from resnet_cli.errors import UsageError


def check(path: Path) -> None:
    """Refuse a name under which no file can stand, before the work that is to fill it.

    Raises:
        UsageError: it is a folder, or its folder does not exist.
    """
    if path.is_dir() or not path.parent.is_dir():
        raise UsageError(f"{path}: expected a file in an existing folder")


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a temporary name in the same folder, of the same suffix, whose file is moved to `path` in the end.

    Args:
        path: the final name; a file of that name is replaced.

    Raises:
        UsageError: the folder does not exist, or nothing can be written there.
    """
    check(path)
    try:
        with tempfile.TemporaryDirectory(prefix=".resnet-", dir=path.parent) as folder:
            unfinished = Path(folder) / path.name
            yield unfinished
            with unfinished.open("rb+") as file:
                os.fsync(file)  # or a power cut may leave an empty file under the final name
            unfinished.replace(path)
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror or error}") from error


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
