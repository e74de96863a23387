"""One image from an http(s) address, within bounds of size and time."""

import threading
import time
from io import BytesIO

from resnet_cli import __version__, internet
from resnet_cli.errors import ImageError

MAX_BYTES = 64 << 20
MAX_REDIRECTS = 5
CONNECT_SECONDS = 3.0  # for each address of a host
STALL_SECONDS = 5.0  # between two bytes of an answer
DEADLINE_SECONDS = 30.0  # the whole download


def is_address(name: str) -> bool:
    """Tell whether a name is an http(s) address."""
    return name.lower().startswith(("http://", "https://"))


def download(address: str) -> BytesIO:
    """Return what an address holds, whatever the server calls it.

    Args:
        address: of http or https; redirects to others are refused.

    Returns:
        At most MAX_BYTES.

    Raises:
        ImageError: of the kind `download_failed` or `too_large`.
    """
    if internet.offline():
        raise ImageError("download_failed", "expected a file, as RESNET_OFFLINE is set; received an address")
    outcome: list[BytesIO | BaseException] = []

    def work() -> None:
        try:
            outcome.append(_get(address))
        except BaseException as error:
            outcome.append(error)

    # In a thread, as neither looking up a host nor headers that come byte by byte have a timeout.
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(DEADLINE_SECONDS)
    if not outcome:
        raise _late(address)
    if isinstance(outcome[0], BaseException):
        raise outcome[0]
    return outcome[0]


def _get(address: str) -> BytesIO:
    import requests  # a tenth of a second, and needless for files
    from urllib3.exceptions import HTTPError

    deadline = time.monotonic() + DEADLINE_SECONDS
    content = BytesIO()
    try:
        with requests.Session() as session:
            session.max_redirects = MAX_REDIRECTS
            session.headers["User-Agent"] = f"resnet-cli/{__version__}"
            session.headers["Accept-Encoding"] = "identity"  # pictures are compressed already
            with session.get(address, stream=True, timeout=(CONNECT_SECONDS, STALL_SECONDS)) as response:
                response.raise_for_status()
                for chunk in response.iter_content(1 << 16):
                    content.write(chunk)
                    if content.tell() > MAX_BYTES:
                        raise ImageError("too_large", f"expected at most {MAX_BYTES >> 20} MiB, received more")
                    if time.monotonic() > deadline:
                        raise _late(address)
    except requests.exceptions.InvalidSchema as error:
        raise ImageError("download_failed", "expected a redirect to http(s), received one to another scheme") from error
    except OSError as error:
        raise ImageError("download_failed", internet.explained(error, internet.host(address))[0]) from error
    except (ValueError, HTTPError) as error:  # what requests lets through; its words may show a password
        raise ImageError("download_failed", "the address is malformed") from error
    content.seek(0)
    return content


def _late(address: str) -> ImageError:
    host = internet.host(address)
    return ImageError("download_failed", f"{host} took longer than {DEADLINE_SECONDS:.0f} s in all")
