"""What everything that uses the network shares: whether it may, and errors in words."""

import os
import re
from collections.abc import Iterator


def offline() -> bool:
    """Tell whether `RESNET_OFFLINE` forbids the network."""
    return os.environ.get("RESNET_OFFLINE", "") not in ("", "0")


def without_password(address: str) -> str:
    """Return an address that may be shown."""
    return re.sub(r"^(\w+://)?[^/@]*@", r"\1", address)


def host(address: str) -> str:
    """Return the host of an address, with its port."""
    return without_password(address).partition("//")[2].partition("/")[0] or address


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
