"""Weights of the Hugging Face hub, in its own cache, which other tools share.

huggingface_hub takes a third of a second to import: only what needs it does, and nobody who knows the file already.
"""

import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from resnet_cli import files, internet, store
from resnet_cli.errors import ModelError, ResnetError
from resnet_cli.pretrained import Pretrained

if TYPE_CHECKING:
    from resnet_cli.cache import Progress

FILE = "model.safetensors"  # in every repository of timm's
SHA256 = re.compile("[0-9a-f]{64}")
CHUNK = 2**14  # bytes between two signs of a download, which the library would give every 10 MB


class _PassingError(Exception):
    """A download that may go well another time."""


def offline() -> bool:
    """Tell whether `HF_HUB_OFFLINE` forbids to ask the hub."""
    from huggingface_hub import constants

    return constants.HF_HUB_OFFLINE


def address(row: Pretrained) -> str:
    """Return where the hub, or what `HF_ENDPOINT` says, has the file of a row."""
    from huggingface_hub import hf_hub_url

    return hf_hub_url(row.repository, FILE)


def folder(row: Pretrained) -> Path:
    """Return the folder of a row's repository in the hub's cache."""
    from huggingface_hub import constants
    from huggingface_hub.file_download import repo_folder_name

    return Path(constants.HF_HUB_CACHE) / repo_folder_name(repo_id=row.repository, repo_type="model")


def find(row: Pretrained) -> tuple[Path, str] | None:
    """Return the file of a row in the hub's cache and the SHA-256 that the hub gave; its content is not looked at."""
    from huggingface_hub import try_to_load_from_cache

    with suppress(OSError, ValueError):
        found = try_to_load_from_cache(row.repository, FILE)
        if isinstance(found, str) and SHA256.fullmatch(sha256 := _blob(Path(found)).name):
            return Path(found), sha256
    return None


def _blob(path: Path) -> Path:
    """Follow one link, to the blob that is named by its hash; it may be a link itself, named by something else."""
    return path.parent / path.readlink() if path.is_symlink() else path


def whole(file: Path) -> bool:
    """Tell whether a file is as long as the header of safetensors says."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, "numpy"):
            return True
    except (SafetensorError, OSError):
        return False


def download(row: Pretrained, progress: "Progress | None", patience: internet.Patience) -> tuple[Path, str]:
    """Fetch the file of a row into the hub's cache, trying twice.

    Args:
        row: which weights.
        progress: is told how the download goes.
        patience: how long the hub is waited for.

    Returns:
        The file and its SHA-256, which is that of the hub.

    Raises:
        ModelError: the hub does not answer, or not as it should; one line says why.
        OSError: the cache cannot be written.
    """
    files.remove_stale(_unfinished(row))
    with suppress(_PassingError):
        return _attempt(row, progress, patience, anew=False)
    try:
        return _attempt(row, progress, patience, anew=True)
    except _PassingError as error:
        raise ModelError(str(error)) from error


def _attempt(
    row: Pretrained, progress: "Progress | None", patience: internet.Patience, *, anew: bool
) -> tuple[Path, str]:
    host = internet.host(address(row))
    try:
        path, expected = patience.watch(partial(_get, row, progress, anew), host, _growth(row))
    except ModelError:
        raise
    except Exception as error:  # the library has no one kind of its own
        if isinstance(error, OSError) and error.errno is not None:  # the disk's
            raise
        reason, passing = _explained(error, host)
        raise (_PassingError if passing else ModelError)(reason) from error
    digest = store.digest(path)
    if digest == expected:
        return path, expected
    for damaged in (_blob(path), path):
        damaged.unlink(missing_ok=True)
    raise _PassingError(f"expected sha256:{expected} but got {digest}")


def _get(row: Pretrained, progress: "Progress | None", anew: bool, sign: Callable[[], None]) -> tuple[Path, str]:
    from huggingface_hub import constants, get_hf_file_metadata, hf_hub_download

    constants.DOWNLOAD_CHUNK_SIZE = CHUNK
    constants.HF_HUB_DISABLE_XET = True  # its downloads cannot be given up, and the files are small for it
    constants.HF_HUB_DISABLE_TELEMETRY = True  # it costs a request of its own
    expected = get_hf_file_metadata(address(row)).etag or ""
    if not SHA256.fullmatch(expected):
        raise ModelError("the answer names no SHA-256 of the file, as a Hugging Face hub's does")
    bar: Any = partial(_Bar, progress, sign)
    return Path(hf_hub_download(row.repository, FILE, force_download=anew, tqdm_class=bar)), expected


class _Bar:
    """Passes on what huggingface_hub tells tqdm."""

    def __init__(
        self, progress: "Progress | None", sign: Callable[[], None], total: int | None = None, **_: Any
    ) -> None:
        self._progress, self._sign, self._total, self._done = progress, sign, total or 0, 0
        if progress:
            progress.reset()
            progress.total = self._total

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._progress:
            self._progress.close()

    def update(self, size: int) -> None:
        self._sign()
        if size < 0:  # it starts from zero after each interruption, for ever
            raise _PassingError(f"cut short: got {self._done} of {self._total} bytes")
        self._done += size
        if self._progress:
            self._progress.update(size)


def _explained(error: Exception, host: str) -> tuple[str, bool]:
    """Say what went wrong, and whether it may go well another time."""
    from huggingface_hub.errors import FileMetadataError

    causes: list[BaseException] = [error]
    while deeper := causes[-1].__cause__ or causes[-1].__context__:  # httpcore hides what the system said
        causes.append(deeper)
    for cause in causes:
        if isinstance(cause, _PassingError):
            return str(cause), True
        if response := getattr(cause, "response", None):
            return f"the server answered {response.status_code}", response.status_code >= 500
    if any(isinstance(cause, TimeoutError) for cause in causes):
        return f"{host} timed out", False
    if any(isinstance(cause, FileMetadataError) for cause in causes):
        return f"{host} does not answer as a Hugging Face hub", False
    if isinstance(causes[-1], OSError):
        return f"no connection to {host} ({internet.words(causes[-1])})", True
    return f"huggingface_hub failed ({internet.words(causes[-1])})", True


def _unfinished(row: Pretrained) -> Iterator[Path]:
    return (folder(row) / "blobs").glob("*.incomplete")


def _growth(row: Pretrained) -> Callable[[], bool]:
    """Return what tells whether a download has grown since it was last asked: the library lets one wait for another."""

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
    """Delete a row's repository from the hub's cache.

    Args:
        row: which weights.

    Returns:
        How many bytes it took.

    Raises:
        ResnetError: something cannot be deleted.
    """
    size = sum(path.lstat().st_size for path in folder(row).rglob("*") if path.is_file() and not path.is_symlink())
    try:
        shutil.rmtree(folder(row))
    except FileNotFoundError:
        return 0
    except OSError as error:
        raise ResnetError(f"cannot delete {error.filename or folder(row)}: {internet.words(error)}") from error
    return size
