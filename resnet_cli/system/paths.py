"""Paths: `file://` URLs, and a home folder that libraries can rely on (standard library only)."""

import os
from pathlib import Path
from urllib.parse import unquote_to_bytes


def is_file_url(name: str) -> bool:
    """Return whether a name is a `file://` URL."""
    return name[:7].lower() == "file://"


def local_path(name: str) -> str:
    """Return the path that a `file://` URL names on this machine; any other name, or other machine's, as it is.

    A `#` or `?` is part of the path, because files have neither fragments nor queries.
    """
    host, slash, path = name[7:].partition("/")
    if not is_file_url(name) or not slash or host.lower() not in ("", "localhost"):
        return name
    return os.fsdecode(b"/" + unquote_to_bytes(os.fsencode(path)))


def expand_home(name: str) -> Path:
    """Return a path with `~` replaced by the home folder, where there is one."""
    return Path(os.path.expanduser(name))  # noqa: PTH111 - Path.expanduser raises an error for an unknown user


def ensure_home() -> None:
    """Set `HOME` for a user without a home folder, so that libraries don't make one called `~`.

    Nothing can be written under the null device, and libraries cope with a home that is read-only.
    """
    if os.name == "posix" and not Path(os.environ.get("HOME", "")).is_absolute():
        os.environ.pop("HOME", None)
        home = expand_home("~")  # of the user database
        os.environ["HOME"] = str(home) if home.is_absolute() else os.devnull
