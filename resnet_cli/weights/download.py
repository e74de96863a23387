"""Published weights on this machine: found, checked, downloaded once; a failed download is remembered."""

import contextlib
import json
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, Protocol

from resnet_cli import files, hub, internet
from resnet_cli.errors import ModelError, ResnetError, UsageError
from resnet_cli.pretrained import Pretrained
from resnet_cli.store import cache_dir, digest

# A dead network ends within 10 s: ANSWER is spent once over all attempts, and no attempt follows a STALL.
ANSWER_SECONDS = 5.0  # all waiting for the first byte of an answer
CONNECT_SECONDS = 3.0  # for each address of a host
STALL_SECONDS = 5.0  # between two bytes of an answer
REMEMBER_SECONDS = 15 * 60


class Progress(Protocol):
    """What is told of a download, as pooch wants it; every call may come from another thread.

    Attributes:
        total: bytes to come, 0 where the server does not say.
    """

    total: int

    def update(self, n: int, /) -> None:
        """Count `n` more bytes."""

    def reset(self) -> None:
        """Count from zero again."""

    def close(self) -> None:
        """Everything has come."""


@dataclass(frozen=True)
class Kept:
    """A file of weights in a cache.

    Args:
        path: the file.
        algorithm: of the hash.
        hash: what it should be, in hexadecimal digits; empty where nobody said and not all of the file is there.
        whole: whether it is.
    """

    path: Path
    algorithm: str
    hash: str
    whole: bool


def own_folder() -> Path:
    """Return where our own cache has weights."""
    return cache_dir() / "weights"


def own_file(row: Pretrained) -> Path:
    """Return where our own cache has the file of a row."""
    return own_folder() / row.file


def find(row: Pretrained) -> Kept | None:
    """Return the file of a row from the caches, a damaged one only where no other is whole.

    Args:
        row: which weights.

    Raises:
        ModelError: there is a file that cannot be read.
    """
    damaged = None
    for path, algorithm, expected in _places(row):
        found = _digest(path, algorithm)
        if found == expected:
            if row.repository:
                record(row, path, expected)
            return Kept(path, algorithm, expected, whole=True)
        if found:
            damaged = damaged or Kept(path, algorithm, expected, whole=False)
    return damaged


def _places(row: Pretrained) -> Iterator[tuple[Path, str, str]]:
    """Walk the files that may be a row's, with the hashes they should have; the hub's cache is the slowest to ask."""
    file = own_file(row)
    if row.md5:
        yield file, "md5", row.md5
        return
    recorded = _recorded(row)
    if recorded:
        yield recorded[0], "sha256", recorded[1]
    if not (recorded and recorded[0] == file) and (by_hand := _digest(file, "sha256")):
        yield file, "sha256", by_hand if hub.whole(file) else ""
    if found := hub.find(row):
        yield found[0], "sha256", found[1]


def _note(row: Pretrained) -> Path:
    return own_file(row).with_suffix(".json")


def _marker(row: Pretrained) -> Path:
    return own_file(row).with_name(f"{row.file}.failed")


def _recorded(row: Pretrained) -> tuple[Path, str] | None:
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        noted = json.loads(_note(row).read_text("utf-8"))
        return own_file(row).parent / noted["path"], str(noted["sha256"])
    return None


def record(row: Pretrained, path: Path, sha256: str) -> None:
    """Note which file of the hub a row has, in our cache or the hub's; a note that cannot be written costs only time.

    Args:
        row: which weights.
        path: the file.
        sha256: its hash in hexadecimal digits.
    """
    if _recorded(row) == (path, sha256):
        return
    note = {"path": path.name if path == own_file(row) else str(path), "sha256": sha256}
    with contextlib.suppress(OSError, UsageError):
        _note(row).parent.mkdir(parents=True, exist_ok=True)
        with files.replacing(_note(row)) as unfinished:
            unfinished.write_text(json.dumps(note), "utf-8")


def fetch(row: Pretrained, progress: Progress | None = None, *, retry: bool = False) -> Path:
    """Return the file of a row, from the caches if its hash is right, else from the network.

    Args:
        row: which weights.
        progress: is told how the download goes.
        retry: try the network even if it failed a moment ago.

    Returns:
        The file in the cache; its hash is that of the row, or that of the hub.

    Raises:
        ModelError: the file is not to be had; at most three lines say why and what to do.
    """
    found = find(row)
    if found and found.whole:
        return found.path
    source = _source(row)
    shown = internet.without_password(source.address)
    what, advice = f"cannot download {shown}", _advice(row, source, found)
    if source.forbidden:
        raise ModelError(f"{what}: {source.forbidden} is set\n{advice}")
    failure = _Failure(_marker(row), shown, row.name)
    if not retry and (remembered := failure.recall()):
        raise ModelError(f"{what}: {remembered}\n{advice}")
    try:
        path = source.download(row, source.address, progress)
    except (ModelError, ValueError) as error:
        reason = str(error).partition(". Deleted download")[0]  # pooch's advice on a wrong hash is for its authors
        failure.remember(reason)
        raise ModelError(f"{what}: {reason}\n{advice}") from error
    except OSError as error:
        raise unusable(source.folder, source.setting, error.__cause__ or error) from error
    failure.forget()
    return path


def unusable(folder: Path, setting: str, error: BaseException) -> ModelError:
    """Return the error of a cache that cannot be written.

    Args:
        folder: the cache.
        setting: the environment variable that names it.
        error: the system's.
    """
    return ModelError(
        f"cannot write to the cache folder {folder}: {internet.words(error)}\n"
        f"set {setting} to a folder that has room and may be written to"
    )


def remove(row: Pretrained) -> int:
    """Delete the file of a row from the caches, and what is noted of it.

    Args:
        row: which weights.

    Returns:
        How many bytes it took.

    Raises:
        ResnetError: something cannot be deleted.
    """
    size = hub.remove(row) if row.repository else 0
    for path in (own_file(row), _note(row), _marker(row)):
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
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
        raise ModelError(f"cannot read {file}: {error.strerror}") from error


@dataclass(frozen=True)
class _Source:
    """Where a file comes from, and what may keep it from coming."""

    address: str
    folder: Path
    setting: str  # names the folder
    forbidden: str  # the setting that forbids to ask, or nothing
    download: "Callable[[Pretrained, str, Progress | None], Path]"


def _source(row: Pretrained) -> _Source:
    mirror = os.environ.get("RESNET_WEIGHTS_MIRROR")
    forbidden = "RESNET_OFFLINE" if internet.offline() else ""
    if row.repository and not mirror:
        forbidden = forbidden or ("HF_HUB_OFFLINE" if hub.offline() else "")
        return _Source(hub.address(row), hub.folder(row).parent, "HF_HOME", forbidden, _from_hub)
    address = f"{mirror.rstrip('/')}/{row.file}" if mirror else row.url
    return _Source(address, own_folder(), "RESNET_CACHE_DIR", forbidden, _from_web)


def _advice(row: Pretrained, source: _Source, damaged: Kept | None) -> str:
    by_hand = f"{damaged.path} is damaged: replace it" if damaged else f"put the file at {own_file(row)}"
    home = "" if source.address == row.url else f" (from {row.url})"
    settings = "HF_ENDPOINT or RESNET_WEIGHTS_MIRROR" if row.repository else "RESNET_WEIGHTS_MIRROR"
    return f"{by_hand}{home}, set {settings} to an address that has it, or `resnet weights install` a bundle of it"


@dataclass(frozen=True)
class _Failure:
    """A marker beside the file: a shell loop waits for a dead network once, not every time."""

    marker: Path
    address: str
    name: str

    def remember(self, reason: str) -> None:
        with contextlib.suppress(OSError):
            self.marker.parent.mkdir(parents=True, exist_ok=True)
            self.marker.write_text(f"{self.address}\n{reason}\n", "utf-8", "replace")

    def recall(self) -> str | None:
        try:
            failed = self.marker.stat().st_mtime
            address, _, reason = self.marker.read_text("utf-8", "replace").partition("\n")
        except OSError:
            return None
        if address != self.address or abs(time.time() - failed) >= REMEMBER_SECONDS:
            return None
        until = time.strftime("%H:%M", time.localtime(failed + REMEMBER_SECONDS))
        return f"{reason.strip()}\nnot tried again before {until}, but by `resnet weights download {self.name}`"

    def forget(self) -> None:
        with contextlib.suppress(OSError):
            self.marker.unlink(missing_ok=True)


def _from_hub(row: Pretrained, _address: str, progress: Progress | None) -> Path:
    path, sha256 = hub.download(row, progress, internet.Patience(ANSWER_SECONDS, STALL_SECONDS))
    record(row, path, sha256)
    return path


def _from_web(row: Pretrained, address: str, progress: Progress | None) -> Path:
    """Let pooch download to a temporary name, check the hash, try once more, and move the file into place."""
    import pooch  # half a second with requests, and needless where the cache has the file

    file = own_file(row)
    files.remove_stale(file.parent.glob("tmp*"))  # as pooch calls them
    if not row.md5:
        if (found := find(row)) and found.whole:  # another process was faster
            return found.path
        file.unlink(missing_ok=True)  # it is damaged, which pooch does not know
    pooch.get_logger().setLevel("CRITICAL")
    known, urls = {row.file: f"md5:{row.md5}" if row.md5 else None}, {row.file: address}
    kennel = pooch.create(file.parent, base_url="", registry=known, urls=urls, retry_if_failed=1)
    kennel.fetch(row.file, downloader=_Downloader(row, progress))
    if not row.md5:
        record(row, file, digest(file))
    return file


class _Downloader:
    """Pooch's HTTP downloader, given up where it takes too long; what has no hash must be whole at least."""

    def __init__(self, row: Pretrained, progress: Progress | None) -> None:
        self.row, self.progress, self.patience = row, progress, internet.Patience(ANSWER_SECONDS)

    def __call__(self, url: str, part: str, _pooch: object) -> None:
        Path(part).chmod(0o644)  # a cache may be shared, and tempfile shuts other users out
        with Path(part).open("wb") as stream:  # closed here, it ends a thread that was given up
            self.patience.watch(partial(self._get, url, stream), internet.host(url))
        if not self.row.md5 and not hub.whole(Path(part)):
            raise ValueError("expected a whole safetensors file, got something else")

    def _get(self, url: str, stream: BinaryIO, sign: Callable[[], None]) -> None:
        import pooch

        def answer(response: Any, **_: object) -> None:
            if not response.is_redirect:
                sign()

        if self.progress:
            self.progress.reset()
        download = pooch.HTTPDownloader(
            progressbar=self.progress or False,
            chunk_size=2**14,
            timeout=(CONNECT_SECONDS, STALL_SECONDS),
            hooks={"response": answer},
        )
        try:
            download(url, stream, None)
        except OSError as error:
            if error.errno is not None:  # the disk's; the errors of requests are OSErrors without a number
                raise
            reason, again = internet.explained(error, internet.host(url))
            raise (ValueError if again else ModelError)(reason) from error  # pooch tries again after a ValueError
