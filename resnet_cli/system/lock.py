"""One writer per file (standard library only)."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from resnet_cli.errors import UsageError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]


@contextmanager
def only_writer(path: Path) -> Iterator[None]:
    """Hold the right to write a file, whichever link names it; where locks are impossible, do without.

    The system releases the lock of a killed process, so that what such a process leaves behind blocks nobody.

    Raises:
        UsageError: another process writes the file.
    """
    real = Path(os.path.realpath(path))
    lock = real.with_name(f".{real.name}.lock")
    locked = False
    while not locked:
        try:
            file = lock.open("ab")
        except OSError:  # its folder cannot be written to, or the name is too long
            yield
            return
        with file:
            lock_file(file.fileno(), path)
            if locked := _is_at(lock, file.fileno()):  # else the previous writer has removed it in the meantime
                try:
                    yield
                finally:
                    with suppress(OSError):
                        if not os.fstat(file.fileno()).st_size:  # else it is a user's file of that name
                            lock.unlink()


def lock_file(descriptor: int, path: Path) -> None:
    """Lock an open file until it is closed; where the file system has no locks, do nothing.

    Args:
        descriptor: the file's descriptor.
        path: the file that is written, for the message.

    Raises:
        UsageError: another process holds the lock.
    """
    if try_lock(descriptor) is False:
        message = f"{path}: another run is writing this file; wait for it to end, or choose another name"
        raise UsageError(message)


def try_lock(descriptor: int) -> bool | None:
    """Try to lock an open file or folder until it is closed.

    Returns:
        Whether that succeeded, or None where the file system has no locks.
    """
    if not fcntl:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return False if error.errno in (errno.EWOULDBLOCK, errno.EACCES) else None
    return True


def _is_at(path: Path, descriptor: int) -> bool:
    with suppress(OSError):
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    return False
