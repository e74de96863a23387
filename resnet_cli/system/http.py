"""What everything that uses the network shares: whether it may, how long it waits, and errors in words."""

import os
import re
import threading
import time
from collections.abc import Callable, Iterator
from typing import TypeVar

from resnet_cli.errors import ModelError

T = TypeVar("T")


def offline() -> bool:
    """Tell whether `RESNET_OFFLINE` forbids the network."""
    return os.environ.get("RESNET_OFFLINE", "") not in ("", "0")


def without_password(address: str) -> str:
    """Return an address that may be shown."""
    return re.sub(r"^(\w+://)?[^/@]*@", r"\1", address)


def host(address: str) -> str:
    """Return the host of an address, with its port."""
    return without_password(address).partition("//")[2].partition("/")[0] or address


class Patience:
    """How long a server is waited for, over all attempts; it works in threads, as getaddrinfo has no timeout."""

    def __init__(self, seconds: float, stall: float | None = None) -> None:
        """Set the limits.

        Args:
            seconds: all waiting for the first sign of an answer.
            stall: seconds between two signs, None where the work itself sees to that.
        """
        self._seconds, self._stall = seconds, stall

    def watch(
        self, work: Callable[[Callable[[], None]], T], host: str, elsewhere: Callable[[], bool] = lambda: False
    ) -> T:
        """Return what `work` returns.

        Args:
            work: is given a function to call at each sign of an answer; it raises once patience is over.
            host: whom the work waits for.
            elsewhere: tells whether, so far without a sign, it waits for another process that gets on.

        Raises:
            ModelError: patience is over; the thread is given up.
        """
        heard, ended, given_up = threading.Event(), threading.Event(), threading.Event()
        results, errors = list[T](), list[BaseException]()

        def sign() -> None:
            if given_up.is_set():
                raise TimeoutError
            heard.set()

        def expect(seconds: float | None, elsewhere: Callable[[], bool] = lambda: False) -> None:
            while not heard.wait(seconds):
                if not elsewhere():
                    given_up.set()
                    raise ModelError(f"{host} timed out")
            heard.clear()

        def run() -> None:
            try:
                results.append(work(sign))
            except BaseException as error:
                errors.append(error)
            finally:
                ended.set()
                heard.set()

        started = time.monotonic()
        threading.Thread(target=run, daemon=True).start()
        expect(self._seconds, elsewhere)
        self._seconds -= time.monotonic() - started
        while not ended.is_set():
            expect(self._stall)
        if errors:
            raise errors[0]
        return results[0]


def explained(error: OSError, host: str) -> tuple[str, bool]:
    """Put an error of requests into words.

    Args:
        error: what requests raised.
        host: whom it was to reach.

    Returns:
        What went wrong, and whether it may go well another time.
    """
    import requests
    from urllib3.exceptions import IncompleteRead

    causes = list(_causes(error))
    if isinstance(error, requests.HTTPError) and error.response is not None:
        status = error.response.status_code
        return f"the server answered {status}", status >= 500
    if any(isinstance(cause, TimeoutError) for cause in causes):
        return f"{host} timed out", False
    if isinstance(error, requests.TooManyRedirects):
        return "the server redirects in circles or too often", False
    if isinstance(error, requests.exceptions.ContentDecodingError):
        return "the answer's compression is damaged", False
    if isinstance(error, ValueError):  # InvalidURL and its kin; their own words may show a password
        return "the address, or that of the proxy, is malformed", False
    for cause in causes:
        if isinstance(cause, IncompleteRead) and cause.expected is not None:
            return f"cut short: got {cause.partial} of {cause.partial + cause.expected} bytes", True
    fate = "lost the" if isinstance(error, requests.exceptions.ChunkedEncodingError) else "no"
    return f"{fate} connection to {host} ({words(causes[-1])})", True


def words(error: BaseException) -> str:
    """Return an error's message, the system's where there is one, in one line."""
    text = getattr(error, "strerror", None) or str(error)
    return "".join(character if character.isprintable() else " " for character in text).strip()


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """Walk from what a library raised down to what the system said."""
    while error:
        yield error
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
