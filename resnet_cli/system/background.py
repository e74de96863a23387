"""Running a function in a thread while the caller waits, gives up or handles signals (standard library only)."""

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

T = TypeVar("T")


def in_thread(function: Callable[[], T]) -> "Future[T]":
    """Run a function in a daemon thread; unlike a pool's, it does not delay the exit if the call is abandoned."""
    result: Future[T] = Future()

    def run() -> None:
        try:
            result.set_result(function())
        except BaseException as error:
            result.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return result
