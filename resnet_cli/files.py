"""Writing files so that a half-written one never stands under its final name (standard library only)."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from resnet_cli.errors import UsageError


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a temporary name in the same folder, of the same suffix, whose file is moved to `path` in the end.

    Args:
        path: the final name; a file of that name is replaced.

    Raises:
        UsageError: the folder does not exist, or nothing can be written there.
    """
    if path.is_dir() or not path.parent.is_dir():
        raise UsageError(f"{path}: expected a file in an existing folder")
    try:
        with tempfile.TemporaryDirectory(prefix=".resnet-", dir=path.parent) as folder:
            unfinished = Path(folder) / path.name
            yield unfinished
            unfinished.replace(path)
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror or error}") from error
