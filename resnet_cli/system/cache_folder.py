"""The cache folder: what is remembered of files, compiled networks within a limit, and what all of it takes.

Everything here only saves time: a cache that cannot be read or written costs the answer nothing.
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

from resnet_cli import files
from resnet_cli.errors import ResnetError, UsageError

PARTS = ("weights", "compiled", "remembered")  # folders of the cache folder
COMPILED_LIMIT = 2_000_000_000  # bytes of compiled networks; those not used for longest go first
FRESH_SECONDS = 0.1  # a file changed this shortly ago may change again within one tick of the file system's clock


def cache_dir() -> Path:
    """Return the folder of everything kept between runs: `RESNET_CACHE_DIR`, else the platform's."""
    named = os.environ.get("RESNET_CACHE_DIR")
    return (Path(named) if named else platformdirs.user_cache_path("resnet-cli")).absolute()


def remembered(path: Path, what: str, compute: Callable[[Path], Any], *, anew: bool = False) -> Any:
    """Return what `compute` says of a file, computed once as long as the file is untouched.

    Size, time of the last change and inode tell whether it is, as they do for git's index: hashing 100 MB on every
    start would take as long as the answer itself.

    Args:
        path: the file.
        what: name of the value.
        compute: gives the value, ready for JSON.
        anew: compute it in any case.

    Raises:
        OSError: there is no such file.
    """
    path = Path(os.path.realpath(path))
    note = cache_dir() / "remembered" / f"{_hash(os.fsencode(path))}.json"
    state = _state(path)
    values: dict[str, Any] = {}
    with suppress(OSError, ValueError, KeyError, TypeError):
        known = json.loads(note.read_text("utf-8"))
        values = dict(known["values"]) if known["state"] == state else {}
    if anew or what not in values:
        values[what] = compute(path)
        if state == _state(path) and abs(time.time() - state[1] / 1e9) > FRESH_SECONDS:
            with suppress(OSError, UsageError):
                _write(note, json.dumps({"state": state, "values": values}).encode())
    return values[what]


def digest(path: Path, algorithm: str = "sha256", *, anew: bool = False) -> str:
    """Return the hash of a file's content in hexadecimal digits.

    Args:
        path: the file.
        algorithm: a name that `hashlib.new` knows.
        anew: read the file in any case; a disk may have damaged it unnoticed.

    Raises:
        OSError: the file cannot be read.
    """

    def compute(file: Path) -> str:
        with file.open("rb") as stream:
            return hashlib.file_digest(stream, lambda: hashlib.new(algorithm, usedforsecurity=False)).hexdigest()

    return str(remembered(path, algorithm, compute, anew=anew))


def find_compiled(key: Any) -> Path | None:
    """Return a compiled network, or None where there is none or it is damaged.

    Args:
        key: everything that it follows from, ready for JSON.
    """
    for path in _folder("compiled").glob(f"{_key(key)}-*.blob"):
        with suppress(OSError):
            if path.stem.endswith(f"-{digest(path)[:32]}"):  # an entry is named by what it follows from and what it is
                os.utime(path, ns=(time.time_ns(), path.stat().st_mtime_ns))
                return path
            path.unlink()
    return None


def keep_compiled(key: Any, content: bytes) -> Path:
    """Store a compiled network, and drop those not used for longest where all take more than `COMPILED_LIMIT`.

    Args:
        key: everything that it follows from, ready for JSON.
        content: the network.

    Returns:
        Its file.

    Raises:
        OSError: the cache folder cannot be written.
        UsageError: likewise.
    """
    path = _folder("compiled") / f"{_key(key)}-{_hash(content)}.blob"
    _write(path, content)
    kept = 0
    for entry in sorted(path.parent.glob("*.blob"), key=lambda entry: -entry.stat().st_atime_ns):
        kept += entry.stat().st_size
        if kept > COMPILED_LIMIT and entry != path:
            entry.unlink(missing_ok=True)
    return path


@dataclass(frozen=True)
class Part:
    """What a folder of the cache folder takes."""

    name: str
    path: Path
    files: int
    bytes: int


def info() -> tuple[Part, ...]:
    """Return what is in the cache folder, a part a folder."""
    parts = []
    for name in PARTS:
        sizes = [path.stat().st_size for path in _folder(name).rglob("*") if path.is_file()]
        parts.append(Part(name, _folder(name), len(sizes), sum(sizes)))
    return tuple(parts)


def clear(names: tuple[str, ...]) -> tuple[Part, ...]:
    """Delete parts of the cache folder.

    Args:
        names: which of `PARTS`.

    Returns:
        What was deleted.

    Raises:
        UsageError: there is no such part.
        ResnetError: something cannot be deleted.
    """
    if unknown := [name for name in names if name not in PARTS]:
        raise UsageError(f"parts of the cache are {', '.join(PARTS)}, got {unknown[0]!r}")
    cleared = tuple(part for part in info() if part.name in names)
    for part in cleared:
        try:
            shutil.rmtree(part.path)
        except FileNotFoundError:
            continue
        except OSError as error:
            raise ResnetError(f"cannot delete {error.filename or part.path}: {error.strerror}") from error
    return cleared


def _folder(name: str) -> Path:
    return cache_dir() / name


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with files.replacing(path) as unfinished:
        unfinished.write_bytes(content)


def _key(key: Any) -> str:
    return _hash(json.dumps(key, sort_keys=True).encode())


def _hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:32]


def _state(path: Path) -> list[int]:
    status = path.stat()
    return [status.st_size, status.st_mtime_ns, status.st_ino]
