"""Weights from the Hugging Face Hub, in its own cache, which other tools share.

Importing huggingface_hub takes a third of a second, so it is imported only when needed, and never for a file that is
already known.
"""

import re
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, Self

from resnet_cli.errors import ModelError, ResnetError
from resnet_cli.system import cache_folder, http
from resnet_cli.system.http import TransientError
from resnet_cli.system.progress import Progress
from resnet_cli.weights.published import Pretrained

FILE = "model.safetensors"  # in every repository of timm
SHA256 = re.compile("[0-9a-f]{64}")
CHUNK = 2**14  # bytes between two heartbeats of a download; the library's default is 10 MB
STALE_SECONDS = 3600  # age of an unfinished download that no process writes any more


def offline() -> bool:
    """Return whether `HF_HUB_OFFLINE` forbids access to the Hub."""
    from huggingface_hub import constants

    return constants.HF_HUB_OFFLINE


def url(row: Pretrained) -> str:
    """Return the URL of a row's file on the Hub, or on the server that `HF_ENDPOINT` sets."""
    from huggingface_hub import hf_hub_url

    return hf_hub_url(row.repository, FILE)


def folder(row: Pretrained) -> Path:
    """Return the folder of a row's repository in the Hub's cache."""
    from huggingface_hub import constants
    from huggingface_hub.file_download import repo_folder_name

    return Path(constants.HF_HUB_CACHE) / repo_folder_name(repo_id=row.repository, repo_type="model")


def find(row: Pretrained) -> tuple[Path, str] | None:
    """Return a row's file in the Hub's cache and the SHA-256 that the Hub stated; its content is not read."""
    from huggingface_hub import try_to_load_from_cache

    with suppress(OSError, ValueError):
        found = try_to_load_from_cache(row.repository, FILE)
        if isinstance(found, str) and SHA256.fullmatch(sha256 := _blob(Path(found)).name):
            return Path(found), sha256
    return None


def _blob(path: Path) -> Path:
    """Follow one link, to the blob named by its hash; the blob may itself be a link to a file with another name."""
    return path.parent / path.readlink() if path.is_symlink() else path


def download(row: Pretrained, progress: Progress, watchdog: http.Watchdog) -> tuple[Path, str]:
    """Download the file of a row into the Hub's cache, in at most two attempts.

    Returns:
        The file and its SHA-256, which is the one that the Hub states.

    Raises:
        ModelError: the Hub does not respond, or not as expected; the message is one line.
        OSError: the cache cannot be written to.
    """
    _remove_stale(row)
    with suppress(TransientError):
        return _attempt(row, progress, watchdog, force=False)
    try:
        return _attempt(row, progress, watchdog, force=True)
    except TransientError as error:
        raise ModelError(str(error)) from error


def _attempt(row: Pretrained, progress: Progress, watchdog: http.Watchdog, *, force: bool) -> tuple[Path, str]:
    host = http.host(url(row))
    try:
        path, expected = watchdog.watch(partial(_get, row, progress, force), host, _growth_check(row))
    except ModelError:
        raise
    except Exception as error:  # the library has no base class for its errors
        if isinstance(error, OSError) and error.errno is not None:  # the disk's
            raise
        reason, transient = _describe_error(error, host)
        raise (TransientError if transient else ModelError)(reason) from error
    digest = cache_folder.digest(path)
    if digest == expected:
        return path, expected
    for damaged in (_blob(path), path):
        damaged.unlink(missing_ok=True)
    raise TransientError(f"expected sha256:{expected}, got {digest}")


def _get(row: Pretrained, progress: Progress, force: bool, heartbeat: Callable[[], None]) -> tuple[Path, str]:
    from huggingface_hub import constants, get_hf_file_metadata, hf_hub_download

    constants.DOWNLOAD_CHUNK_SIZE = CHUNK
    constants.HF_HUB_DISABLE_XET = True  # its downloads cannot be abandoned, and it pays only for larger files
    constants.HF_HUB_DISABLE_TELEMETRY = True  # costs an extra request
    expected = get_hf_file_metadata(url(row)).etag or ""
    if not SHA256.fullmatch(expected):
        raise ModelError("the response has no SHA-256 for the file, unlike a Hugging Face Hub's")
    bar: Any = partial(_ProgressAdapter, progress, heartbeat)
    return Path(hf_hub_download(row.repository, FILE, force_download=force, tqdm_class=bar)), expected


class _ProgressAdapter:
    """Takes the place of tqdm in huggingface_hub."""

    def __init__(
        self, progress: Progress, heartbeat: Callable[[], None], total: int | None = None, **_: object
    ) -> None:
        self._progress, self._heartbeat, self._total, self._done = progress, heartbeat, total, 0
        progress.download(0, total)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing is left to close."""

    def update(self, size: int) -> None:
        self._heartbeat()
        if size < 0:  # the library starts over after each interruption, without a limit
            raise TransientError(f"incomplete: got {self._done} of {self._total or 0} bytes")
        self._done += size
        self._progress.download(self._done, self._total)


def _describe_error(error: Exception, host: str) -> tuple[str, bool]:
    """Return a message for an error, and whether a retry may succeed."""
    from huggingface_hub.errors import FileMetadataError

    causes: list[BaseException] = [error]
    while deeper := causes[-1].__cause__ or causes[-1].__context__:  # httpcore hides the system's error
        causes.append(deeper)
    for cause in causes:
        if isinstance(cause, TransientError):
            return str(cause), True
        if response := getattr(cause, "response", None):
            return f"the server returned HTTP {response.status_code}", response.status_code >= 500
    if any(isinstance(cause, TimeoutError) for cause in causes):
        return f"{host} timed out", False
    if any(isinstance(cause, FileMetadataError) for cause in causes):
        return f"{host} does not respond like a Hugging Face Hub", False
    if isinstance(causes[-1], OSError):
        return f"cannot connect to {host} ({http.error_message(causes[-1])})", True
    return f"huggingface_hub failed ({http.error_message(causes[-1])})", True


def _unfinished(row: Pretrained) -> Iterator[Path]:
    return (folder(row) / "blobs").glob("*.incomplete")


def _remove_stale(row: Pretrained) -> None:
    """Delete old unfinished downloads; the library does not lock them, so only age shows that a process died."""
    for path in _unfinished(row):
        with suppress(OSError):
            if time.time() - path.stat().st_mtime > STALE_SECONDS:
                path.unlink()


def _growth_check(row: Pretrained) -> Callable[[], bool]:
    """Return a function that tells whether the download, perhaps another process's, has grown since its last call."""

    def size() -> int:
        with suppress(OSError):
            return sum(path.stat().st_size for path in _unfinished(row))
        return 0

    sizes = [size()]

    def grown() -> bool:
        sizes.append(size())
        return sizes[-1] != sizes[-2]

    return grown


def remove(row: Pretrained) -> int:
    """Delete a row's repository from the Hub's cache, and return its size in bytes.

    Raises:
        ResnetError: a file cannot be deleted.
    """
    size = sum(path.lstat().st_size for path in folder(row).rglob("*") if path.is_file() and not path.is_symlink())
    try:
        shutil.rmtree(folder(row))
    except FileNotFoundError:
        return 0
    except OSError as error:
        raise ResnetError(f"cannot delete {error.filename or folder(row)}: {http.error_message(error)}") from error
    return size
