"""The queues of the direct carrier: jobs for its workers, and what became of them."""

from __future__ import annotations

import heapq
import itertools
import threading
from collections import deque
from typing import Final, Generic, TypeVar

GATHER_SECONDS: Final = 0.1

Job = TypeVar("Job")
Item = TypeVar("Item")


class Jobs(Generic[Job]):
    """Jobs wait here for one of `workers`. Safe to use from any thread.

    Of equal urgency (a lower number goes first) the one that was put first comes first. A large job is put
    again for each of its pieces, and with its first number, so that what was begun is finished before
    another one is begun; yet each time it takes its turn with the small ones. Large jobs never keep all
    workers busy: one is left for the others, unless there is only one.
    """

    def __init__(self, workers: int) -> None:
        self._free_for_large = max(1, workers - 1)
        self._small: list[tuple[int, int, Job]] = []
        self._large: list[tuple[int, int, int, Job]] = []
        self._numbers = itertools.count()
        self._news = threading.Condition()
        self._closed = False

    def put(self, urgency: int, job: Job) -> None:
        """Let a small job wait. After `close` it is forgotten."""
        with self._news:
            heapq.heappush(self._small, (urgency, next(self._numbers), job))
            self._news.notify()

    def put_large(self, urgency: int, job: Job, number: int | None = None) -> int:
        """Let a large job wait, or, by the number that it got the first time, its next piece."""
        with self._news:
            turn = next(self._numbers)
            number = turn if number is None else number
            heapq.heappush(self._large, (urgency, number, turn, job))
            self._news.notify()
        return number

    def get(self) -> tuple[Job, bool] | None:
        """Wait for a job, and tell whether it is a large one. None: there will be no more."""
        with self._news:
            while not self._closed:
                if self._is_large_next():
                    self._free_for_large -= 1
                    return heapq.heappop(self._large)[-1], True
                if self._small:
                    return heapq.heappop(self._small)[-1], False
                self._news.wait()
            return None

    def done_with_large(self) -> None:
        """One large job less is worked on."""
        with self._news:
            self._free_for_large += 1
            self._news.notify()

    def close(self) -> None:
        """Send the workers home."""
        with self._news:
            self._closed = True
            self._news.notify_all()

    def _is_large_next(self) -> bool:
        if not self._large or not self._free_for_large:
            return False
        urgency, _, turn, _ = self._large[0]
        return not self._small or (urgency, turn) < self._small[0][:2]


class Gathered(Generic[Item]):
    """What many threads tell one, which is not woken for each item: a commit for each would cost more.

    It gets them when there are `enough`, when no more are expected, or so many seconds after the first one.
    """

    def __init__(self, enough: int, seconds: float = GATHER_SECONDS) -> None:
        self._enough = enough
        self._seconds = seconds
        self._items: deque[Item] = deque()
        self._expected = 0
        self._lock = threading.Lock()
        self._some = threading.Event()
        self._full = threading.Event()

    def expect(self) -> None:
        """One more item will be put, some time."""
        with self._lock:
            self._expected += 1

    def put(self, item: Item) -> None:
        """Tell what was expected."""
        with self._lock:
            self._items.append(item)
            self._expected -= 1
            if len(self._items) == 1:
                self._some.set()
            if self._expected <= 0 or len(self._items) == self._enough:
                self._full.set()

    def wake(self) -> None:
        """Let who waits have what there is, be it nothing."""
        with self._lock:
            self._some.set()
            self._full.set()

    def take(self, limit: int, seconds: float) -> list[Item]:
        """Wait up to so many seconds for the first item; return up to `limit`, those first put first."""
        if not self._some.wait(seconds):
            return []
        self._full.wait(self._seconds)
        with self._lock:
            taken = [self._items.popleft() for _ in range(min(limit, len(self._items)))]
            if not self._items:
                self._some.clear()
            if len(self._items) < self._enough and self._expected > 0:
                self._full.clear()
            return taken
