"""The queue before a judge: what several requests ask at the same time is judged in one batch."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from typing import Any

from genrm_lightning.serving.refusals import full, stopping

# Judges a batch: of one group, works -> a result or an exception each.
Run = Callable[[Hashable, list[Any]], list[Any]]


@dataclass(eq=False)  # one is equal to itself alone
class _Item:
    group: Hashable
    work: Any
    future: Future = field(default_factory=Future)


class Batcher:
    """One thread that runs batches of what waits, the oldest first.

    Args:
        run: called in that thread alone; an exception it raises is the answer to each item of the batch.
        most: items of a batch.
        room: sizes of a batch's items together, in several measures, where one alone is not larger: what one client
            sends may keep the others waiting, and fill the memory, no longer and no more than that.
        size: of a work of a group, in the same measures.
        wait: seconds that the first item of a batch waits for others to join it.
        capacity: items that may wait. A request of more is taken all the same where nothing else waits.
        taken_back: called for each item that is cancelled while it waits.
    """

    def __init__(
        self,
        run: Run,
        *,
        most: int,
        wait: float,
        capacity: int,
        room: Sequence[float] = (),
        size: Callable[[Hashable, Any], Sequence[float]] = lambda group, work: (),
        taken_back: Callable[[], None] = lambda: None,
    ) -> None:
        self.run, self.most, self.wait, self.capacity = run, most, wait, capacity
        self.room, self.size, self.taken_back = room, size, taken_back
        self._waiting: dict[_Item, None] = {}  # the oldest first
        self._running: list[_Item] = []
        self._closed = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._work, name="judge", daemon=True)

    def start(self) -> None:
        self._thread.start()

    @property
    def alive(self) -> bool:
        return self._thread.is_alive()

    @property
    def waiting(self) -> int:
        """Items that no batch has taken yet."""
        return len(self._waiting)

    def submit(self, group: Hashable, works: Sequence[Any], admitted: bool = False) -> list[Future]:
        """A future of each work; one that is cancelled before its turn is not run, and leaves its place to others.

        Args:
            group: only works of one group share a batch.
            admitted: take them even where the queue is full: they belong to a request that is half done.

        Raises:
            Refused: the queue is full, or the server is being stopped.
        """
        items = [_Item(group, work) for work in works]
        with self._changed:
            if self._closed:
                raise stopping()
            if not admitted and self._waiting and len(self._waiting) + len(items) > self.capacity:
                raise full()
            self._waiting.update(dict.fromkeys(items))
            self._changed.notify()
        for item in items:
            item.future.add_done_callback(partial(self._left, item))
        return [item.future for item in items]

    def _left(self, item: _Item, future: Future) -> None:
        """Forget an item that was cancelled."""
        if future.cancelled():
            with self._changed:
                waited = item in self._waiting
                self._waiting.pop(item, None)
            if waited:
                self.taken_back()

    def close(self, seconds: float) -> bool:
        """Refuse what waits and end the thread; whether it ended in that time: a batch cannot be broken off."""
        with self._changed:
            self._closed = True
            left = [*self._waiting, *self._running]
            self._waiting.clear()
            self._changed.notify()
        for item in left:
            _settle(item, stopping())
        self._thread.join(seconds)
        return not self._thread.is_alive()

    def _work(self) -> None:
        while batch := self._next():
            items = self._running = [item for item in batch if item.future.set_running_or_notify_cancel()]
            if not items:
                continue
            try:
                results = list(self.run(items[0].group, [item.work for item in items]))
                if len(results) != len(items):
                    raise RuntimeError(f"expected {len(items)} results of a batch, got {len(results)}")
            except BaseException as error:  # whatever it was, the next batch is another one; a panic is no Exception
                results = [error] * len(items)
            for item, result in zip(items, results, strict=True):
                _settle(item, result)

    def _next(self) -> list[_Item]:
        """The next batch; empty when all is over."""
        with self._changed:
            while not self._closed:
                while not self._waiting and not self._closed:
                    self._changed.wait()
                end = time.monotonic() + self.wait
                while len(self._waiting) < self.most and not self._closed and (left := end - time.monotonic()) > 0:
                    self._changed.wait(left)
                if self._waiting:  # else all of them were cancelled
                    return self._take()
            return []

    def _take(self) -> list[_Item]:
        group = next(iter(self._waiting)).group
        batch: list[_Item] = []
        left = list(self.room)
        for item in islice((item for item in self._waiting if item.group == group), self.most):
            left = [room - size for room, size in zip(left, self.size(group, item.work), strict=True)]
            if batch and min(left, default=0) < 0:
                break
            batch.append(item)
        for item in batch:
            del self._waiting[item]
        return batch


def _settle(item: _Item, result: Any) -> None:
    """Answer an item that has no answer yet."""
    with suppress(InvalidStateError):
        if isinstance(result, BaseException):
            item.future.set_exception(result)
        else:
            item.future.set_result(result)
