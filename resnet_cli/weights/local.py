"""Published weights on this machine: found in the caches, verified and removed."""

import json
import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from resnet_cli.errors import ModelError, ResnetError, UsageError
from resnet_cli.system import atomic
from resnet_cli.system.cache_folder import cache_dir, digest
from resnet_cli.weights import hub
from resnet_cli.weights.published import Pretrained


@dataclass(frozen=True)
class CachedFile:
    """A weights file in a cache.

    Args:
        path: the file.
        algorithm: the hash algorithm.
        hash: expected hash in hexadecimal; empty if none is known and the file is incomplete.
        complete: whether the file has this hash.
    """

    path: Path
    algorithm: str
    hash: str
    complete: bool


def own_folder() -> Path:
    """Return the weights folder of our own cache."""
    return cache_dir() / "weights"


def own_file(row: Pretrained) -> Path:
    """Return the path of a row's file in our own cache."""
    return own_folder() / row.file


def find_cached(row: Pretrained) -> CachedFile | None:
    """Return the file of a row from the caches; a damaged one only if no other is complete.

    Raises:
        ModelError: a file cannot be read.
    """
    damaged = None
    for path, algorithm, expected in _candidates(row):
        found = _digest(path, algorithm)
        if found == expected:
            if row.repository:
                write_sidecar(row, path, expected)
            return CachedFile(path, algorithm, expected, complete=True)
        if found:
            damaged = damaged or CachedFile(path, algorithm, expected, complete=False)
    return damaged


def _candidates(row: Pretrained) -> Iterator[tuple[Path, str, str]]:
    """Yield candidate files for a row with their expected hashes; the Hub's cache comes last because it is slowest."""
    file = own_file(row)
    if row.md5:
        yield file, "md5", row.md5
        return
    sidecar = _read_sidecar(row)
    if sidecar:
        yield sidecar[0], "sha256", sidecar[1]
    if not (sidecar and sidecar[0] == file) and (by_hand := _digest(file, "sha256")):
        yield file, "sha256", by_hand if _is_complete(file) else ""
    if found := hub.find(row):
        yield found[0], "sha256", found[1]


def _sidecar(row: Pretrained) -> Path:
    return own_file(row).with_suffix(".json")


def failure_marker(row: Pretrained) -> Path:
    """Return the path of the file that marks a failed download of a row."""
    return own_file(row).with_name(f"{row.file}.failed")


def _read_sidecar(row: Pretrained) -> tuple[Path, str] | None:
    with suppress(OSError, ValueError, KeyError, TypeError):
        content = json.loads(_sidecar(row).read_text("utf-8"))
        return own_file(row).parent / content["path"], str(content["sha256"])
    return None


def write_sidecar(row: Pretrained, path: Path, sha256: str) -> None:
    """Record which cached file a row has and its SHA-256; if that fails, later lookups are only slower."""
    if _read_sidecar(row) == (path, sha256):
        return
    content = {"path": path.name if path == own_file(row) else str(path), "sha256": sha256}
    with suppress(OSError, UsageError):
        _sidecar(row).parent.mkdir(parents=True, exist_ok=True)
        with atomic.atomic_write(_sidecar(row)) as temporary:
            temporary.write_text(json.dumps(content), "utf-8")


def remove_cached(row: Pretrained) -> int:
    """Delete the file of a row from the caches, and return its size in bytes.

    Raises:
        ResnetError: a file cannot be deleted.
    """
    size = hub.remove(row) if row.repository else 0
    for path in (own_file(row), _sidecar(row), failure_marker(row)):
        with suppress(FileNotFoundError, NotADirectoryError):
            size += path.stat().st_size
            try:
                path.unlink()
            except OSError as error:
                raise ResnetError(f"cannot delete {path}: {error.strerror}") from error
    return size


def _digest(file: Path, algorithm: str) -> str | None:
    try:
        return digest(file, algorithm)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        if not os.access(file.parent, os.X_OK):  # the cache is in another user's home
            return None
        raise ModelError(f"cannot read {file}: {error.strerror}") from error


def _is_complete(file: Path) -> bool:
    from resnet_cli.weights import checkpoint  # h5py takes a tenth of a second

    return checkpoint.is_complete(file)
