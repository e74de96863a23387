"""Published weights from the network: downloaded once, with a memory for failures."""

import os
import shutil
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from resnet_cli.errors import ModelError, UsageError
from resnet_cli.system import atomic, http
from resnet_cli.system.cache_folder import digest, hash_file
from resnet_cli.system.http import TransientError
from resnet_cli.system.paths import expand_home, is_file_url, local_path
from resnet_cli.system.progress import SILENT, Progress
from resnet_cli.weights import hub
from resnet_cli.weights.local import CachedFile, failure_marker, find_cached, own_file, own_folder, write_sidecar
from resnet_cli.weights.published import Pretrained

# A dead network fails within 10 s: RESPONSE_SECONDS covers all attempts together, and a stall is not retried.
RESPONSE_SECONDS = 5.0  # in total, until the first byte of a response
ATTEMPTS = 2
RETRY_AFTER_SECONDS = 15 * 60


def fetch(row: Pretrained, progress: Progress = SILENT, *, retry: bool = False) -> Path:
    """Return the file of a row: from the caches if its hash is right, otherwise from the network.

    Args:
        row: the weights.
        progress: receives the progress of the download.
        retry: whether to use the network even if that failed a moment ago.

    Returns:
        The file in the cache. It has the hash of the row or the one that the Hub states.

    Raises:
        ModelError: the file is unavailable; at most three lines say why and what to do.
    """
    found = find_cached(row)
    if found and found.complete:
        return found.path
    origin = _origin(row)
    shown = http.redact_password(origin.url)
    what, advice = f"cannot {'copy' if origin.is_folder else 'download'} {shown}", _advice(row, origin, found)
    if found:
        expected = f" (expected {found.algorithm}:{found.hash})" if found.hash else ""
        what = f"{found.path} is damaged or another file{expected}; {what}"
    if origin.blocked_by:
        raise ModelError(f"{what}: {origin.blocked_by} is set\n{advice}")
    marker = _FailureMarker(failure_marker(row), shown, row.name)
    if not retry and not origin.is_folder and (failed := marker.read()):
        raise ModelError(f"{what}: {failed}\n{advice}")
    try:
        path = origin.download(row, origin.url, progress)
    except (ModelError, TransientError) as error:
        if not origin.is_folder:  # which takes no time to look into again
            marker.write(str(error))
        raise ModelError(f"{what}: {error}\n{advice}") from error
    except (OSError, UsageError) as error:
        raise unwritable(origin.folder, origin.variable, error.__cause__ or error) from error
    marker.clear()
    return path


def unwritable(folder: Path, variable: str, error: BaseException) -> ModelError:
    """Return the error for a cache folder that cannot be written to.

    Args:
        folder: the folder.
        variable: the environment variable that sets it.
        error: the system's error.
    """
    return ModelError(
        f"cannot write to the cache folder {folder}: {http.error_message(error)}\n"
        f"Set {variable} to a writable folder with enough free space."
    )


@dataclass(frozen=True)
class _Origin:
    """Where a file is downloaded from."""

    url: str
    folder: Path
    variable: str  # sets the folder
    blocked_by: str  # the variable that forbids the download, or empty
    download: Callable[[Pretrained, str, Progress], Path]
    is_folder: bool = False  # whether it is on this machine


def _origin(row: Pretrained) -> _Origin:
    mirror = os.environ.get("RESNET_WEIGHTS_MIRROR")
    if mirror and (folder := _mirror_folder(mirror)):
        return _Origin(str(folder / row.file), own_folder(), "RESNET_CACHE_DIR", "", _from_folder, is_folder=True)
    blocked_by = "RESNET_OFFLINE" if http.offline() else ""
    if row.repository and not mirror:
        blocked_by = blocked_by or ("HF_HUB_OFFLINE" if hub.offline() else "")
        return _Origin(hub.url(row), hub.folder(row).parent, "HF_HOME", blocked_by, _from_hub)
    url = f"{mirror.rstrip('/')}/{row.file}" if mirror else row.url
    return _Origin(url, own_folder(), "RESNET_CACHE_DIR", blocked_by, _from_web)


def _mirror_folder(mirror: str) -> Path | None:
    """Return the folder that a mirror is: an absolute path, one that starts with `.` or `~`, or any that exists."""
    path = expand_home(local_path(mirror))
    is_folder = path.is_absolute() or mirror.startswith((".", "~")) or is_file_url(mirror) or path.is_dir()
    return path if is_folder else None


def _advice(row: Pretrained, origin: _Origin, damaged: CachedFile | None) -> str:
    by_hand = "Replace that file" if damaged else f"Save the file as {own_file(row)}"
    home = "" if origin.url == row.url else f" (from {row.url})"
    variables = "HF_ENDPOINT or RESNET_WEIGHTS_MIRROR" if row.repository else "RESNET_WEIGHTS_MIRROR"
    bundle = "run `resnet weights install` with a bundle that contains it."
    return f"{by_hand}{home}, set {variables} to a URL or folder that has it, or {bundle}"


@dataclass(frozen=True)
class _FailureMarker:
    """Marks a failed download, so that a shell loop waits for a dead network only once."""

    path: Path
    url: str
    name: str

    def write(self, reason: str) -> None:
        with suppress(OSError):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.path.write_text(f"{self.url}\n{reason}\n", "utf-8", "replace")

    def read(self) -> str | None:
        try:
            failed = self.path.stat().st_mtime
            url, _, reason = self.path.read_text("utf-8", "replace").partition("\n")
        except OSError:
            return None
        if url != self.url or abs(time.time() - failed) >= RETRY_AFTER_SECONDS:
            return None
        until = time.strftime("%H:%M", time.localtime(failed + RETRY_AFTER_SECONDS))
        advice = f"Not retried before {until}; run `resnet weights download {self.name}` to retry now."
        return f"{reason.strip()}\n{advice}"

    def clear(self) -> None:
        with suppress(OSError):
            self.path.unlink(missing_ok=True)


def _from_hub(row: Pretrained, _: str, progress: Progress) -> Path:
    path, sha256 = hub.download(row, progress, http.Watchdog(RESPONSE_SECONDS, http.STALL_SECONDS))
    write_sidecar(row, path, sha256)
    return path


def _from_web(row: Pretrained, url: str, progress: Progress) -> Path:
    file = own_file(row)
    file.parent.mkdir(parents=True, exist_ok=True)
    atomic.remove_leftovers(file)
    watchdog = http.Watchdog(RESPONSE_SECONDS)
    for attempt in range(1, ATTEMPTS + 1):
        try:
            with atomic.atomic_write(file) as temporary:
                http.fetch(url, temporary, progress, watchdog)
                _check(row, temporary)
            break
        except TransientError:
            if attempt == ATTEMPTS:
                raise
    if not row.md5:
        write_sidecar(row, file, digest(file))
    return file


def _from_folder(row: Pretrained, name: str, progress: Progress) -> Path:
    """Copy the file of a row into our own cache; if that cannot be written to, use the file where it is."""
    source, file = Path(name), own_file(row)
    if not source.parent.is_dir():
        raise ModelError(f"there is no folder {source.parent}")
    progress.report(f"Copying {row.file}")
    try:
        _check(row, source)
    except OSError as error:
        raise ModelError(http.error_message(error)) from error
    with suppress(OSError, UsageError):
        file.parent.mkdir(parents=True, exist_ok=True)
        atomic.remove_leftovers(file)
        with atomic.atomic_write(file) as temporary:
            shutil.copyfile(source, temporary)
            _check(row, temporary)
        if not row.md5:
            write_sidecar(row, file, digest(file))
        return file
    return source


def _check(row: Pretrained, file: Path) -> None:
    """Compare a downloaded file with its published hash; without one, it must at least be complete."""
    from resnet_cli.weights import checkpoint

    if row.md5:
        if (got := hash_file(file, "md5")) != row.md5:
            raise TransientError(f"expected md5:{row.md5}, got {got}")
    elif not checkpoint.is_complete(file):
        raise TransientError("expected a complete safetensors file, got an incomplete or different file")
