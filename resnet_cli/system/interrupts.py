"""Ctrl-C and SIGTERM: they end the program at once, but not in the middle of a record (standard library only)."""

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TypeVar

T = TypeVar("T")

PATIENCE = 0.5  # seconds that the rest of a record may take; who reads a pipe may have stopped reading


class Terminated(BaseException):
    """SIGTERM."""


INTERRUPTIONS = (KeyboardInterrupt, Terminated)

_came: int | None = None  # the first signal
_writing = False  # whether a record is being written
_owed = False  # whether the signal waits for its end


def install() -> None:
    """Handle the signals, but for Ctrl-C where the shell says that it is not meant for this program."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _handle)
    signal.signal(signal.SIGTERM, _handle)
    if hasattr(signal, "SIGALRM"):
        signal.signal(signal.SIGALRM, _handle)
    sys.unraisablehook = _drop


def uninstall() -> None:
    """Let signals end the process by themselves, as there is nothing left to save."""
    for number in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(number) is _handle:
            signal.signal(number, signal.SIG_DFL)


@contextmanager
def whole() -> Iterator[None]:
    """Let what is written here be written to its end before a signal ends the program."""
    global _writing
    _writing = True
    try:
        yield
    finally:
        _writing = False
        if _owed:
            _end()


def apart(function: Callable[[], T]) -> T:
    """Call what may stay long inside a library: in a thread of its own, so that signals are heard meanwhile."""
    from concurrent.futures import Future  # it takes long to import, and until `install` Ctrl-C is a traceback

    result: Future[T] = Future()

    def work() -> None:
        try:
            result.set_result(function())
        except BaseException as error:
            result.set_exception(error)

    threading.Thread(target=work, daemon=True).start()
    return result.result()


def watch() -> None:
    """From now on, end the process soon after a signal even where it hangs, as over a terminal that has stopped."""
    if os.name != "posix":
        return
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)

    def wait() -> None:
        while (number := os.read(reader, 1)[0]) not in (signal.SIGINT, signal.SIGTERM):
            pass
        time.sleep(3 * PATIENCE)  # a record and the end of the results may each take one
        os._exit(128 + number)

    threading.Thread(target=wait, daemon=True).start()
    if _came is not None:  # and was lost: Python drops what is raised in a callback, of which importing has many
        _end()


def _drop(lost: "sys.UnraisableHookArgs") -> None:
    """Keep quiet of an interruption that Python drops, as `watch` raises it again."""
    if not isinstance(lost.exc_value, INTERRUPTIONS):
        sys.__unraisablehook__(lost)


def _handle(number: int, frame: FrameType | None) -> None:
    global _came, _owed
    if number not in (signal.SIGINT, signal.SIGTERM):  # patience is at its end
        if _writing:
            _end()
    elif _came is None:
        _came = number
        if hasattr(signal, "setitimer"):
            signal.setitimer(signal.ITIMER_REAL, PATIENCE, PATIENCE)
        if _writing:
            _owed = True
        else:
            _end()
    else:
        _end()


def _end() -> None:
    global _owed
    _owed = False
    raise Terminated if _came == signal.SIGTERM else KeyboardInterrupt
