"""The queue of the direct carrier: urgent before less urgent, and small files past large ones."""

from __future__ import annotations

import heapq
import itertools
import threading
from typing import Generic, TypeVar

Job = TypeVar("Job")


class Jobs(Generic[Job]):
    """Jobs wait here for one of `workers`. Safe to use from any thread.

    Of equal urgency (a lower number goes first) the one that was put first comes first. Large jobs never
    keep all workers busy: one is left for the others, unless there is only one.
    """

    def __init__(self, workers: int) -> None:
        self._free_for_large = max(1, workers - 1)
        self._small: list[tuple[int, int, Job]] = []
        self._large: list[tuple[int, int, Job]] = []
        self._numbers = itertools.count()
        self._news = threading.Condition()
        self._closed = False

    def put(self, urgency: int, job: Job, *, large: bool = False) -> None:
        """Let one job wait. After `close` it is forgotten."""
        with self._news:
            heapq.heappush(self._large if large else self._small, (urgency, next(self._numbers), job))
            self._news.notify()

    def get(self) -> tuple[Job, bool] | None:
        """Wait for a job, and tell whether it is a large one. None: there will be no more."""
        with self._news:
            while not self._closed:
                heap = self._best()
                if heap:
                    large = heap is self._large
                    self._free_for_large -= large
                    return heapq.heappop(heap)[2], large
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

    def _best(self) -> list[tuple[int, int, Job]]:
        if not self._large or not self._free_for_large:
            return self._small
        if not self._small or self._large[0][:2] < self._small[0][:2]:
            return self._large
        return self._small
