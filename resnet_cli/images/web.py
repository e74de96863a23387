"""Download one image from a URL, with limits on size and time."""

import time
from functools import partial
from io import BytesIO

from resnet_cli.errors import ImageError, ImageErrorKind
from resnet_cli.system import http
from resnet_cli.system.background import in_thread
from resnet_cli.version import __version__

MAX_BYTES = 64 << 20
MAX_REDIRECTS = 5
DEADLINE_SECONDS = 30.0  # for the whole download


def is_url(name: str) -> bool:
    """Return whether a name is an http(s) URL."""
    return name.lower().startswith(("http://", "https://"))


def download(url: str) -> BytesIO:
    """Return the content of an http(s) URL, whatever its type; redirects to other schemes are refused.

    Raises:
        ImageError: of the kind `download_failed` or `too_large`.
    """
    if http.offline():
        raise ImageError(ImageErrorKind.DOWNLOAD_FAILED, "cannot download: RESNET_OFFLINE is set")
    # In a thread, because neither the look-up of a host nor headers that arrive byte by byte have a timeout.
    try:
        return in_thread(partial(_get, url)).result(DEADLINE_SECONDS)
    except TimeoutError as error:
        raise _timeout(url) from error


def _get(url: str) -> BytesIO:
    import requests  # takes a tenth of a second, and files do not need it
    from urllib3.exceptions import HTTPError

    deadline = time.monotonic() + DEADLINE_SECONDS
    content = BytesIO()
    try:
        with requests.Session() as session:
            session.max_redirects = MAX_REDIRECTS
            session.headers["User-Agent"] = f"resnet-cli/{__version__}"
            session.headers["Accept-Encoding"] = "identity"  # images are compressed already
            with session.get(url, stream=True, timeout=(http.CONNECT_SECONDS, http.STALL_SECONDS)) as response:
                response.raise_for_status()
                for chunk in response.iter_content(1 << 16):
                    content.write(chunk)
                    if content.tell() > MAX_BYTES:
                        message = f"expected at most {MAX_BYTES >> 20} MiB, got more"
                        raise ImageError(ImageErrorKind.TOO_LARGE, message)
                    if time.monotonic() > deadline:
                        raise _timeout(url)
    except requests.exceptions.InvalidSchema as error:
        message = "expected a redirect to http or https, got another scheme"
        raise ImageError(ImageErrorKind.DOWNLOAD_FAILED, message) from error
    except OSError as error:
        raise ImageError(ImageErrorKind.DOWNLOAD_FAILED, http.describe_error(error, http.host(url))[0]) from error
    except (ValueError, HTTPError) as error:  # not wrapped by requests; their messages may contain a password
        raise ImageError(ImageErrorKind.DOWNLOAD_FAILED, "the URL is malformed") from error
    content.seek(0)
    return content


def _timeout(url: str) -> ImageError:
    message = f"the download from {http.host(url)} took longer than {DEADLINE_SECONDS:.0f} s"
    return ImageError(ImageErrorKind.DOWNLOAD_FAILED, message)
