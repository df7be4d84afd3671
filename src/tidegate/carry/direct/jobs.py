"""The queues of the direct carrier: jobs for its workers, and what became of them."""

from __future__ import annotations

import heapq
import itertools
import threading
from collections import deque
from typing import TYPE_CHECKING, Final, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

GATHER_SECONDS: Final = 0.1

Job = TypeVar("Job")
Light = TypeVar("Light")
Item = TypeVar("Item")


class Jobs(Generic[Job, Light]):
    """Jobs wait here for their turn; `limit` of them are done at a time. Safe to use from any thread.

    Of equal urgency (a lower number goes first) the one that was put first comes first. A large job is put
    again for each of its pieces, and with its first number, so that what was begun is finished before
    another one is begun; yet each time it takes its turn with the small ones. Large jobs are never all
    that is done: one place is left for the others, unless there is only one.

    Light jobs are for one thread, which asks by `get_light` and is told by `on_light` when that makes
    sense, and for who has places lent to do many of them elsewhere. All others are for who asks by `get`.
    """

    def __init__(self, limit: int, on_light: Callable[[], object] = tuple) -> None:
        self._limit = self._free = limit
        self._free_for_large = max(1, limit - 1)
        self._on_light = on_light
        self._light: list[tuple[int, int, Light]] = []
        self._small: list[tuple[int, int, Job]] = []
        self._large: list[tuple[int, int, int, Job]] = []
        self._numbers = itertools.count()
        lock = threading.Lock()
        self._news = threading.Condition(lock)
        self._lender = threading.Condition(lock)
        self._owed = 0  # places that a borrower gets before anybody else
        self._light_is_awaited = False
        self._closed = False

    def put(self, urgency: int, job: Job) -> None:
        """Let a small job wait. After `close` it is forgotten."""
        with self._news:
            heapq.heappush(self._small, (urgency, next(self._numbers), job))
            self._tell()

    def put_light(self, urgency: int, job: Light) -> None:
        """Let a light job wait."""
        with self._news:
            heapq.heappush(self._light, (urgency, next(self._numbers), job))
            self._tell()

    def put_large(self, urgency: int, job: Job, number: int | None = None) -> int:
        """Let a large job wait, or, by the number that it got the first time, its next piece."""
        with self._news:
            turn = next(self._numbers)
            number = turn if number is None else number
            heapq.heappush(self._large, (urgency, number, turn, job))
            self._tell()
        return number

    def get(self) -> tuple[Job, bool] | None:
        """Wait for a job that is not light, and tell whether it is a large one. None: there is no more."""
        with self._news:
            while not self._closed:
                if self._free > self._owed and not self._is_light_next():
                    if self._is_large_next():
                        self._free_for_large -= 1
                        return self._taken(heapq.heappop(self._large)[-1]), True
                    if self._small:
                        return self._taken(heapq.heappop(self._small)[-1]), False
                self._news.wait()
            return None

    def get_light(self) -> Light | None:
        """Take a light job, if it is the turn of one."""
        with self._news:
            if self._closed or self._free <= self._owed or not self._is_light_next():
                self._light_is_awaited = True
                return None
            return self._taken(heapq.heappop(self._light)[-1])

    def done(self, *, large: bool = False) -> None:
        """One job less is being done."""
        with self._news:
            self._free += 1
            self._free_for_large += large
            self._tell()

    def resize(self, limit: int) -> None:
        """From now on so many are done at a time. Those under way beyond that are brought to their end."""
        with self._news:
            self._free += limit - self._limit
            self._free_for_large += max(1, limit - 1) - max(1, self._limit - 1)
            self._limit = limit
            self._news.notify_all()
            self._tell()

    def close(self) -> None:
        """Send everybody home."""
        with self._news:
            self._closed = True
            self._news.notify_all()
            self._lender.notify_all()

    # Light jobs that are done elsewhere

    def many_light(self, count: int, seconds: float) -> bool:
        """Wait so long for so many light jobs, and tell whether they wait."""
        with self._lender:
            self._lender.wait_for(lambda: self._closed or len(self._light) >= count, seconds)
            return len(self._light) >= count and not self._closed

    def lend(self, held: int, *, half: bool) -> int:
        """Wait for places to do light jobs in. Returns how many are held, of which `held` were before.

        There will be all of them, or `half`, as also while other jobs wait: the rest is for who asks here.
        """
        with self._lender:
            half = half or bool(self._small or self._large)
            fair = max(1, self._limit // 2) if half else self._limit
            self._owed = max(0, fair - held)
            self._lender.wait_for(lambda: self._closed or held + self._free > 0)
            if self._closed:
                return held
            change = min(fair - held, self._free)
            self._free -= change
            self._owed = fair - held - change
            self._tell()
            return held + change

    def take_light(self, accepts: Callable[[Light], bool]) -> list[Light]:
        """Take light jobs, as long as the next one is accepted."""
        taken = []
        with self._lender:
            while self._light and accepts(self._light[0][-1]):
                taken.append(heapq.heappop(self._light)[-1])
        return taken

    def repay(self, held: int) -> None:
        """Give the places back, and what is left of the light jobs."""
        with self._lender:
            self._free += held
            self._owed = 0
            self._tell()

    # Whose turn it is

    def _taken(self, job: Item) -> Item:
        self._free -= 1
        self._tell()
        return job

    def _tell(self) -> None:
        self._lender.notify()
        if not self._is_light_next():
            self._news.notify()
        elif self._light_is_awaited and self._free > self._owed:
            self._light_is_awaited = False
            self._on_light()

    def _is_light_next(self) -> bool:
        if not self._light:
            return False
        mine = self._light[0][:2]
        if self._small and self._small[0][:2] < mine:
            return False
        return not self._is_large_next() or mine < self._turn_of_large()

    def _is_large_next(self) -> bool:
        if not self._large or self._free_for_large <= 0:
            return False
        return not self._small or self._turn_of_large() < self._small[0][:2]

    def _turn_of_large(self) -> tuple[int, int]:
        urgency, _, turn, _ = self._large[0]
        return urgency, turn


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

    def expect(self, count: int) -> None:
        """So many more items will be put, some time."""
        with self._lock:
            self._expected += count

    def put(self, item: Item) -> None:
        """Tell what was expected."""
        with self._lock:
            self._items.append(item)
            self._expected -= 1
            if len(self._items) == 1:
                self._some.set()
            if self._expected <= 0 or len(self._items) >= self._enough:
                self._full.set()

    def put_all(self, items: Sequence[Item]) -> None:
        """Tell much that was expected."""
        with self._lock:
            self._items += items
            self._expected -= len(items)
            self._some.set()
            if self._expected <= 0 or len(self._items) >= self._enough:
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
