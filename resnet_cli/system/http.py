"""Shared network code: offline mode, timeouts, downloads and error messages."""

import os
import re
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from functools import partial
from pathlib import Path
from typing import BinaryIO, TypeVar

from resnet_cli.errors import ModelError
from resnet_cli.system.background import in_thread
from resnet_cli.system.progress import Progress

T = TypeVar("T")

CHUNK = 2**14  # bytes per read
CONNECT_SECONDS = 3.0  # per address of a host
STALL_SECONDS = 5.0  # between two reads of a response


class TransientError(Exception):
    """A download that may succeed if it is tried again."""


def offline() -> bool:
    """Return whether `RESNET_OFFLINE` forbids network access."""
    return os.environ.get("RESNET_OFFLINE", "") not in ("", "0")


def redact_password(url: str) -> str:
    """Return a URL without its user name and password."""
    return re.sub(r"^(\w+://)?[^/@]*@", r"\1", url)


def host(url: str) -> str:
    """Return the host of a URL, with its port."""
    return redact_password(url).partition("//")[2].partition("/")[0] or url


class Watchdog:
    """Timeouts that cover all attempts of a download; work runs in a thread because getaddrinfo has no timeout.

    Args:
        seconds: total time to wait for the first heartbeat of each attempt.
        stall: seconds between two heartbeats; None if the work has its own timeout.
    """

    def __init__(self, seconds: float, stall: float | None = None) -> None:
        self._seconds, self._stall = seconds, stall

    def watch(
        self, work: Callable[[Callable[[], None]], T], host: str, is_progressing: Callable[[], bool] = lambda: False
    ) -> T:
        """Return the result of `work`.

        Args:
            work: receives a heartbeat function to call whenever data arrives; it raises after a timeout.
            host: the server, for the error message.
            is_progressing: called while there is no heartbeat; whether another process is making progress instead.

        Raises:
            ModelError: on a timeout; the thread is abandoned.
        """
        heard, given_up = threading.Event(), threading.Event()

        def heartbeat() -> None:
            if given_up.is_set():
                raise TimeoutError
            heard.set()

        def expect(seconds: float | None, is_progressing: Callable[[], bool] = lambda: False) -> None:
            while not heard.wait(seconds):
                if not is_progressing():
                    given_up.set()
                    raise ModelError(f"{host} timed out")
            heard.clear()

        def end(_: "Future[T]") -> None:
            heard.set()

        started = time.monotonic()
        result = in_thread(partial(work, heartbeat))
        result.add_done_callback(end)
        expect(self._seconds, is_progressing)
        self._seconds -= time.monotonic() - started
        while not result.done():
            expect(self._stall)
        return result.result()


def fetch(url: str, path: Path, progress: Progress, watchdog: Watchdog) -> None:
    """Download a file.

    Args:
        url: its URL.
        path: the file to write.
        progress: receives the bytes.
        watchdog: the timeout of the response.

    Raises:
        TransientError: the server or the connection failed; it may work the next time.
        ModelError: the URL, the server or the network does not work.
        OSError: the file cannot be written.
    """
    with path.open("wb") as file:  # closing the file stops an abandoned thread
        watchdog.watch(partial(_receive, url, file, progress), host(url))


def _receive(url: str, file: BinaryIO, progress: Progress, heartbeat: Callable[[], None]) -> None:
    import requests  # takes a tenth of a second, and cached files do not need it
    from urllib3.exceptions import HTTPError

    try:
        with requests.get(url, stream=True, timeout=(CONNECT_SECONDS, STALL_SECONDS)) as response:
            response.raise_for_status()
            heartbeat()
            length = response.headers.get("Content-Length", "")
            total, done = int(length) if length.isdecimal() else None, 0
            progress.download(done, total)
            for chunk in response.iter_content(CHUNK):
                file.write(chunk)
                done += len(chunk)
                progress.download(done, total)
    except OSError as error:
        if error.errno is not None:  # the disk's; the errors of requests are OSErrors without a number
            raise
        reason, transient = describe_error(error, host(url))
        raise (TransientError if transient else ModelError)(reason) from error
    except (ValueError, HTTPError) as error:  # not wrapped by requests; their messages may contain a password
        raise ModelError("the URL is malformed") from error


def describe_error(error: OSError, host: str) -> tuple[str, bool]:
    """Return a message for an error of requests, and whether a retry may succeed.

    Args:
        error: the error.
        host: the server that it concerns.
    """
    import requests
    from urllib3.exceptions import IncompleteRead

    causes = list(_causes(error))
    if isinstance(error, requests.HTTPError) and error.response is not None:
        status = error.response.status_code
        return f"the server returned HTTP {status}", status >= 500
    if any(isinstance(cause, TimeoutError) for cause in causes):
        return f"{host} timed out", False
    if isinstance(error, requests.TooManyRedirects):
        return "too many redirects", False
    if isinstance(error, requests.exceptions.ContentDecodingError):
        return "the compressed response is damaged", False
    if isinstance(error, ValueError):  # InvalidURL and the like, whose messages may contain a password
        return "the URL or the proxy's URL is malformed", False
    for cause in causes:
        if isinstance(cause, IncompleteRead) and cause.expected is not None:
            return f"incomplete: got {cause.partial} of {cause.partial + cause.expected} bytes", True
    lost = isinstance(error, requests.exceptions.ChunkedEncodingError)
    failure = "lost the connection" if lost else "cannot connect"
    return f"{failure} to {host} ({error_message(causes[-1])})", True


def error_message(error: BaseException) -> str:
    """Return an error's message in one line, preferably the system's."""
    text = getattr(error, "strerror", None) or str(error)
    return "".join(character if character.isprintable() else " " for character in text).strip()


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an error and its causes, down to the system's."""
    while error:
        yield error
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
