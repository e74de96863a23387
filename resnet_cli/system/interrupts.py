"""Ctrl-C and SIGTERM: end the program promptly, but not in the middle of a record (standard library only)."""

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

GRACE_SECONDS = 0.5  # to finish a record; the reader of a pipe may have stopped


class Terminated(BaseException):
    """SIGTERM."""


INTERRUPTIONS = (KeyboardInterrupt, Terminated)

_received: int | None = None  # the first signal
_writing = False  # whether a record is being written
_deferred = False  # whether the signal waits for the end of the record
_lost = False  # whether Python has dropped the interruption, as it does in callbacks; the timer raises it again


def install() -> None:
    """Handle SIGINT, SIGTERM and the timer that enforces the grace period.

    Without it, a signal while modules are imported ends in a traceback. A shell's request to ignore Ctrl-C (`&` in a
    script) is respected.
    """
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _handle)
    signal.signal(signal.SIGTERM, _handle)
    if hasattr(signal, "SIGALRM"):
        signal.signal(signal.SIGALRM, _handle)
    sys.unraisablehook = _note_lost_interruption


def uninstall() -> None:
    """Restore the default handlers, because nothing is left to save.

    Without it, a signal during the final flush to a stopped pipe would wait for that flush.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(number) is _handle:
            signal.signal(number, signal.SIG_DFL)


@contextmanager
def defer_signals() -> Iterator[None]:
    """Finish what is written in this context before a signal ends the program.

    Without it, Ctrl-C could leave half a record, or a record that was written but not counted.
    """
    global _writing
    _writing = True
    try:
        yield
    finally:
        _writing = False
        if _deferred:
            _raise_interruption()


def run_in_thread(function: Callable[[], T]) -> T:
    """Run a function in a thread, so that signals are handled while it is inside a library.

    Without it, Ctrl-C waits until OpenVINO has compiled a network, because Python handles signals between bytecodes.
    """
    from resnet_cli.system.background import in_thread  # slow, and before `install` Ctrl-C ends in a traceback

    return in_thread(function).result()


def start_watchdog() -> None:
    """End the process soon after a signal from now on, even if it hangs.

    Without it, Ctrl-C has no effect while the process writes to a stopped terminal or pipe.
    """
    if os.name != "posix":
        return
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)

    def wait() -> None:
        while (number := os.read(reader, 1)[0]) not in (signal.SIGINT, signal.SIGTERM):
            pass
        time.sleep(3 * GRACE_SECONDS)  # a record and the end of the results may take one each
        os._exit(128 + number)

    threading.Thread(target=wait, daemon=True).start()
    if _received is not None:  # a signal was lost: Python drops exceptions raised in callbacks, and imports run many
        _raise_interruption()


def _note_lost_interruption(lost: "sys.UnraisableHookArgs") -> None:
    """Note an interruption that Python drops, rather than report it."""
    global _lost
    if isinstance(lost.exc_value, INTERRUPTIONS):
        _lost = True
    else:
        sys.__unraisablehook__(lost)


def _handle(number: int, frame: FrameType | None) -> None:
    global _received, _deferred
    if number not in (signal.SIGINT, signal.SIGTERM):  # the grace period is over
        if _writing or _lost:
            _raise_interruption()
    elif _received is None:
        _received = number
        if hasattr(signal, "setitimer"):
            signal.setitimer(signal.ITIMER_REAL, GRACE_SECONDS, GRACE_SECONDS)
        if _writing:
            _deferred = True
        else:
            _raise_interruption()
    else:
        _raise_interruption()


def _raise_interruption() -> None:
    global _deferred, _lost
    _deferred = _lost = False
    raise Terminated if _received == signal.SIGTERM else KeyboardInterrupt
