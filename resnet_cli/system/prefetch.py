"""An iterator that works ahead in a thread of its own, in bounded memory (standard library only)."""

import queue
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")

PATIENCE = 0.1  # seconds between two looks at whether anybody still waits


@dataclass(frozen=True)
class _End:
    """After the last item; `error` is what ended the iterator early."""

    error: BaseException | None = None


class Ahead(Generic[T]):
    """Iterates over `items` in a thread of its own, at most `most` items ahead of who takes them.

    Args:
        items: what to iterate over; what it raises is raised to who takes its items.
        most: how many items wait at most.
    """

    def __init__(self, items: Iterable[T], most: int) -> None:
        self._waiting: queue.Queue[T | _End] = queue.Queue(most)
        self._closed = threading.Event()
        self._end: _End | None = None
        threading.Thread(target=self._work, args=(items,), daemon=True).start()

    def _work(self, items: Iterable[T]) -> None:
        try:
            for item in items:
                self._put(item)
                if self._closed.is_set():
                    return
            self._put(_End())
        except BaseException as error:
            self._put(_End(error))

    def _put(self, item: T | _End) -> None:
        while not self._closed.is_set():
            try:
                return self._waiting.put(item, timeout=PATIENCE)
            except queue.Full:
                continue

    def take(self, most: int) -> list[T]:
        """Return the items that wait, or wait for one; none after the end.

        Args:
            most: how many to return at most.
        """
        taken: list[T] = []
        while len(taken) < most and not self._end and not self._closed.is_set():
            try:
                item = self._waiting.get(block=not taken, timeout=PATIENCE)
            except queue.Empty:
                if taken:
                    break
                continue
            if isinstance(item, _End):
                self._end = item
            else:
                taken.append(item)
        if not taken and self._end and self._end.error:
            raise self._end.error
        return taken

    def __iter__(self) -> Iterator[T]:
        while taken := self.take(1):
            yield from taken

    def close(self) -> None:
        """End the thread; what it works at is finished first."""
        self._closed.set()
