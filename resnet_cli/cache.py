"""Published weights on this machine: found, checked, downloaded once; a failed download is remembered."""

import contextlib
import os
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Protocol

from resnet_cli import internet
from resnet_cli.errors import ModelError
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


def fetch(row: Pretrained, progress: Progress | None = None, *, retry: bool = False) -> Path:
    """Return the file of a row, from the cache if its hash is right, else from the network.

    Args:
        row: which weights.
        progress: is told how the download goes.
        retry: try the network even if it failed a moment ago.

    Returns:
        The file in the cache; its hash is that of the row.

    Raises:
        ModelError: the file is not to be had; at most three lines say why and what to do.
    """
    file = cache_dir() / "weights" / row.file
    found = _md5(file)
    if found == row.md5:
        return file
    address = _address(row)
    what = f"cannot download {internet.without_password(address)}"
    advice = _advice(row, address, f"{file} is damaged: replace it" if found else f"put the file at {file}")
    if internet.offline():
        raise ModelError(f"{what}: RESNET_OFFLINE is set\n{advice}")
    failure = _Failure(file.with_name(f"{file.name}.failed"), internet.without_password(address))
    if not retry and (remembered := failure.recall()):
        raise ModelError(f"{what}: {remembered}\n{advice}")
    try:
        _download(row, address, file, progress)
    except (ModelError, ValueError) as error:
        reason = str(error).partition(". Deleted download")[0]  # pooch's advice on a wrong hash is for its authors
        failure.remember(reason)
        raise ModelError(f"{what}: {reason}\n{advice}") from error
    except OSError as error:
        raise ModelError(
            f"cannot write to the cache folder {file.parent}: {internet.words(error.__cause__ or error)}\n"
            "set RESNET_CACHE_DIR to a folder that has room and may be written to"
        ) from error
    failure.forget()
    return file


def _md5(file: Path) -> str | None:
    try:
        return digest(file, "md5")
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise ModelError(f"cannot read {file}: {error.strerror}") from error


def _address(row: Pretrained) -> str:
    mirror = os.environ.get("RESNET_WEIGHTS_MIRROR")
    return f"{mirror.rstrip('/')}/{row.file}" if mirror else row.url


def _advice(row: Pretrained, address: str, by_hand: str) -> str:
    home = "" if address == row.url else f" (from {row.url})"
    return f"{by_hand}{home}, or set RESNET_WEIGHTS_MIRROR to an address that has it"


@dataclass(frozen=True)
class _Failure:
    """A marker beside the file: a shell loop waits for a dead network once, not every time."""

    marker: Path
    address: str

    def remember(self, reason: str) -> None:
        with contextlib.suppress(OSError):
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
        return f"{reason.strip()}\nnot tried again before {until}, unless you delete {self.marker}"

    def forget(self) -> None:
        with contextlib.suppress(OSError):
            self.marker.unlink(missing_ok=True)


def _download(row: Pretrained, address: str, file: Path, progress: Progress | None) -> None:
    """Let pooch download to a temporary name, check the hash, try once more, and move the file into place."""
    import pooch  # half a second with requests, and needless where the cache has the file

    pooch.get_logger().setLevel("CRITICAL")
    known, urls = {row.file: f"md5:{row.md5}"}, {row.file: address}
    kennel = pooch.create(file.parent, base_url="", registry=known, urls=urls, retry_if_failed=1)
    kennel.fetch(row.file, downloader=_Downloader(progress))


class _Downloader:
    """Pooch's HTTP downloader in a thread, as neither getaddrinfo nor a host of many dead addresses has a timeout."""

    def __init__(self, progress: Progress | None) -> None:
        self.progress, self.patience = progress, ANSWER_SECONDS

    def __call__(self, url: str, part: str, _pooch: object) -> None:
        Path(part).chmod(0o644)  # a cache may be shared, and tempfile shuts other users out
        with Path(part).open("wb") as stream:  # closed here, it ends a thread that was given up
            self._watch(url, stream)

    def _watch(self, url: str, stream: BinaryIO) -> None:
        answered, errors = threading.Event(), list[BaseException]()

        def work() -> None:
            try:
                self._get(url, stream, answered)
            except BaseException as error:
                errors.append(error)
            finally:
                answered.set()

        started = time.monotonic()
        thread = threading.Thread(target=work, daemon=True)
        thread.start()
        if not answered.wait(self.patience):
            raise ModelError(f"{internet.host(url)} timed out")
        self.patience -= time.monotonic() - started
        thread.join()
        if errors:
            raise errors[0]

    def _get(self, url: str, stream: BinaryIO, answered: threading.Event) -> None:
        import pooch

        def answer(response: Any, **_: object) -> None:
            if not response.is_redirect:
                answered.set()

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
