"""The cache folder: cached facts about files, and compiled networks up to a size limit.

The cache only saves time: if it cannot be read or written, results are the same.
"""

import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import platformdirs

from resnet_cli.errors import ResnetError, UsageError
from resnet_cli.system import atomic, paths

PARTS = ("weights", "compiled", "remembered")  # subfolders of the cache folder
REBUILT = ("compiled", "remembered")  # those that cost no download to get back
COMPILED_LIMIT = 2_000_000_000  # bytes of compiled networks; the least recently used are deleted first
CLOCK_TICK_SECONDS = 0.1  # a file changed this recently could change again without a new timestamp


def cache_dir() -> Path:
    """Return the cache folder: `RESNET_CACHE_DIR`, otherwise the platform's."""
    paths.ensure_home()
    named = os.environ.get("RESNET_CACHE_DIR")
    return (paths.expand_home(named) if named else platformdirs.user_cache_path("resnet-cli")).absolute()


def cached_value(path: Path, what: str, compute: Callable[[Path], Any], *, refresh: bool = False) -> Any:
    """Return `compute(path)`, cached until the file changes.

    Size, modification time and inode show a change, as in git's index: hashing 100 MB on every start would take as long
    as the prediction itself.

    Args:
        path: the file.
        what: name of the value.
        compute: computes the value, ready for JSON.
        refresh: whether to compute it in any case.

    Raises:
        OSError: the file does not exist.
    """
    path = Path(os.path.realpath(path))
    entry = cache_dir() / "remembered" / f"{_hash(os.fsencode(path))}.json"
    state = _fingerprint(path)
    values: dict[str, Any] = {}
    with suppress(OSError, ValueError, KeyError, TypeError):
        known = json.loads(entry.read_text("utf-8"))
        values = dict(known["values"]) if known["state"] == state else {}
    if refresh or what not in values:
        values[what] = compute(path)
        if state == _fingerprint(path) and abs(time.time() - state[1] / 1e9) > CLOCK_TICK_SECONDS:
            with suppress(OSError, UsageError):
                _write(entry, json.dumps({"state": state, "values": values}).encode())
    return values[what]


def digest(path: Path, algorithm: str = "sha256", *, refresh: bool = False) -> str:
    """Return the hash of a file's content in hexadecimal.

    Args:
        path: the file.
        algorithm: a name that `hashlib.new` accepts.
        refresh: whether to read the file in any case, to find damage on the disk.

    Raises:
        OSError: the file cannot be read.
    """
    return str(cached_value(path, algorithm, lambda file: hash_file(file, algorithm), refresh=refresh))


def hash_file(path: Path, algorithm: str) -> str:
    """Read a file and return the hash of its content in hexadecimal.

    Raises:
        OSError: the file cannot be read.
    """
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.new(algorithm, usedforsecurity=False)).hexdigest()


def find_compiled(key: object) -> Path | None:
    """Return a compiled network, or None if there is none or it is damaged.

    Args:
        key: everything that it depends on, ready for JSON.
    """
    for path in _files("compiled", f"{_key(key)}-*.blob"):
        with suppress(OSError):
            if path.stem.endswith(f"-{digest(path)[:32]}"):  # the name contains the hash of the content
                os.utime(path, ns=(time.time_ns(), path.stat().st_mtime_ns))
                return path
            path.unlink()
    return None


def save_compiled(key: object, content: bytes) -> Path:
    """Save a compiled network and return its path; delete the least recently used ones above `COMPILED_LIMIT`.

    Args:
        key: everything that it depends on, ready for JSON.
        content: the network.

    Raises:
        OSError, UsageError: the cache folder cannot be written to.
    """
    path = _folder("compiled") / f"{_key(key)}-{_hash(content)}.blob"
    _write(path, content)
    total = 0
    for entry in sorted(path.parent.glob("*.blob"), key=lambda entry: -entry.stat().st_atime_ns):
        total += entry.stat().st_size
        if total > COMPILED_LIMIT and entry != path:
            entry.unlink(missing_ok=True)
    return path


@dataclass(frozen=True)
class Part:
    """A subfolder of the cache folder, with its number of files and their size."""

    name: str
    path: Path
    files: int
    bytes: int


def info() -> tuple[Part, ...]:
    """Return the parts of the cache folder."""
    parts = []
    for name in PARTS:
        sizes = [path.stat().st_size for path in _files(name, "**/*") if path.is_file()]
        parts.append(Part(name, _folder(name), len(sizes), sum(sizes)))
    return tuple(parts)


def clear(names: tuple[str, ...]) -> tuple[Part, ...]:
    """Delete parts of the cache folder and return what they contained.

    Args:
        names: some of `PARTS`.

    Raises:
        UsageError: there is no such part.
        ResnetError: a file cannot be deleted.
    """
    if unknown := [name for name in names if name not in PARTS]:
        raise UsageError(f"the cache part must be one of {', '.join(PARTS)}, got {unknown[0]!r}")
    cleared = tuple(part for part in info() if part.name in names)
    for part in cleared:
        try:
            shutil.rmtree(part.path)
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:
            raise ResnetError(f"cannot delete {error.filename or part.path}: {error.strerror}") from error
    return cleared


def _folder(name: str) -> Path:
    return cache_dir() / name


def _files(name: str, pattern: str) -> list[Path]:
    """Return the files in a part of the cache folder; none if it cannot be read, such as in another user's home."""
    with suppress(OSError):
        return [*_folder(name).glob(pattern)]
    return []


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic.atomic_write(path) as temporary:
        temporary.write_bytes(content)


def _key(key: object) -> str:
    return _hash(json.dumps(key, sort_keys=True).encode())


def _hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:32]


def _fingerprint(path: Path) -> list[int]:
    status = path.stat()
    return [status.st_size, status.st_mtime_ns, status.st_ino]
