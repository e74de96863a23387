"""Prefetch the items of an iterator in a thread, in bounded memory (standard library only)."""

import queue
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")

POLL_SECONDS = 0.1  # between checks for close()


@dataclass(frozen=True)
class _End:
    """Follows the last item; `error` is the one that ended the iterator early."""

    error: BaseException | None = None


class Prefetcher(Generic[T]):
    """Iterates over `items` in a thread, at most `capacity` items ahead of the consumer.

    An error of the iterator is raised to the consumer after the items before it.
    """

    def __init__(self, items: Iterable[T], capacity: int) -> None:
        self._queue: queue.Queue[T | _End] = queue.Queue(capacity)
        self._closed = threading.Event()
        self._end: _End | None = None
        self.total: int | None = None  # number of items, as soon as the iterator has ended
        self._thread = threading.Thread(target=self._work, args=(items,), daemon=True)
        self._thread.start()

    def _work(self, items: Iterable[T]) -> None:
        count = 0
        try:
            for item in items:
                self._put(item)
                count += 1
                if self._closed.is_set():
                    return
            self.total = count
            self._put(_End())
        except BaseException as error:
            self._put(_End(error))

    def _put(self, item: T | _End) -> None:
        while not self._closed.is_set():
            try:
                return self._queue.put(item, timeout=POLL_SECONDS)
            except queue.Full:
                continue

    def take(self, limit: int) -> list[T]:
        """Return up to `limit` queued items, waiting for at least one; empty at the end."""
        taken: list[T] = []
        while len(taken) < limit and not self._end and not self._closed.is_set():
            try:
                item = self._queue.get(block=not taken, timeout=POLL_SECONDS)
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

    def wait(self, seconds: float) -> None:
        """Wait until the iterator has ended, but no longer than this."""
        self._thread.join(seconds)

    def close(self) -> None:
        """Stop the thread after its current item."""
        self._closed.set()
