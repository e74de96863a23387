"""Ctrl-C and SIGTERM: they end the program at once, but not in the middle of a record (standard library only)."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

PATIENCE = 0.5  # seconds that the rest of a record may take; who reads a pipe may have stopped reading


class Terminated(BaseException):
    """SIGTERM."""


INTERRUPTIONS = (KeyboardInterrupt, Terminated)

_whole = False  # whether a record is being written
_waiting: int | None = None  # the signal that waits for its end


def install() -> None:
    """Handle the signals, but for Ctrl-C where the shell says that it is not meant for this program."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _handle)
    signal.signal(signal.SIGTERM, _handle)
    if hasattr(signal, "SIGALRM"):
        signal.signal(signal.SIGALRM, _handle)


@contextmanager
def whole() -> Iterator[None]:
    """Let what is written here be written to its end before a signal ends the program."""
    global _whole
    _whole = True
    try:
        yield
    finally:
        _whole = False
        if _waiting is not None:
            _end(_waiting)


def _handle(number: int, frame: FrameType | None) -> None:
    global _waiting
    if _whole and _waiting is None:
        _waiting = number
        if hasattr(signal, "setitimer"):
            signal.setitimer(signal.ITIMER_REAL, PATIENCE)
    else:
        _end(number if _waiting is None else _waiting)


def _end(number: int) -> None:
    raise Terminated if number == signal.SIGTERM else KeyboardInterrupt
