"""How fast all uploads together may send: a bucket of bytes that fills at the limit, and a line before it."""

from __future__ import annotations

import itertools
import threading
from bisect import insort
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from tidegate.errors import Unavailable
from tidegate.store.hub import aside

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ASK_SECONDS: Final = 1.0  # how old the limit may get
CHECK_SECONDS: Final = 1.0
SLICE_SECONDS: Final = 0.1
BURST_SECONDS: Final = 0.2
LEAST_SLICE_BYTES: Final = 1460  # what fits into one packet
LEAST_PAUSE_SECONDS: Final = 0.01  # small pieces then find enough for many, instead of a pause for each


class Bucket:
    """Bytes that may be sent, by a clock it is told. It fills at `rate` bytes a second, None is no limit.

    Between any two moments it grants no more than `rate` times the seconds between them, and one burst:
    what fills it in BURST_SECONDS, or one packet. It is empty when a limit begins.
    """

    __slots__ = ("_level", "_since", "rate")

    def __init__(self) -> None:
        self.rate: float | None = None
        self._level = 0.0
        self._since = 0.0

    def set(self, rate: float | None, now: float) -> None:
        """Fill at another rate from now on. What has come in until now may go, as far as it fits."""
        if rate == self.rate:
            return
        if self.rate is None:
            self._level, self._since = 0.0, now
        else:
            self._fill(self.rate, now)
        self.rate = rate

    def grant(self, count: int, now: float) -> int:
        """Take out what may go of `count` bytes: all or a slice of them, or 0 if there is not enough yet."""
        if self.rate is None:
            return count
        self._fill(self.rate, now)
        piece = _piece(count, self.rate)
        if self._level < piece:
            return 0
        self._level -= piece
        return piece

    def wait_seconds(self, count: int) -> float:
        """Say how long after the last call of `grant` there is enough for a slice of `count` bytes."""
        return 0.0 if self.rate is None else max(0.0, (_piece(count, self.rate) - self._level) / self.rate)

    def _fill(self, rate: float, now: float) -> None:
        most = max(LEAST_SLICE_BYTES, rate * BURST_SECONDS)
        self._level = min(most, self._level + rate * (now - self._since))
        self._since = now


class _Waiter:
    """One call of `take`, and its place in the line: most urgent first, then by number."""

    __slots__ = ("check", "check_at", "number", "urgency", "wake")

    def __init__(self, lock: threading.Lock, urgency: int, check: Callable[[], object] | None) -> None:
        self.wake = threading.Condition(lock)
        self.urgency = urgency
        self.number = 0
        self.check = check
        self.check_at = 0.0

    def place(self) -> tuple[int, int]:
        return self.urgency, self.number


class Throttle:
    """Shared by all threads that send. Costs next to nothing while there is no limit.

    `limit` returns bytes per second, more than 0, or None for no limit. It is asked about once a second
    by a thread that sends or waits, so it must be quick; a change counts from then on, also for those who
    wait. `steady` is a clock in seconds that never jumps.
    """

    def __init__(self, limit: Callable[[], float | None], steady: Callable[[], float]) -> None:
        self._limit = limit
        self._steady = steady
        self._lock = threading.Lock()
        self._line: list[_Waiter] = []
        self._numbers = itertools.count()
        self._bucket = Bucket()
        self._ask_at = float("-inf")
        self._free_until = float("-inf")  # before that moment nobody needs the lock: there is no limit
        self._closed = False

    def take(self, count: int, urgency: int = 5, check: Callable[[], object] | None = None) -> int:
        """Wait until some of these bytes may be sent, and return how many. A lower number is more urgent.

        Slices are of about SLICE_SECONDS, in turn with everybody of the same urgency; all may have to wait
        for those who are more urgent. `check` is called about each second of waiting, and what it raises
        goes to the caller. Raises Unavailable after `close`.
        """
        if self._steady() < self._free_until or not count:
            return count
        return aside(lambda: self._turn(self._waiter(urgency, check), count))

    def is_open(self) -> bool:
        """Whether there is no limit now."""
        now = self._steady()
        if now >= self._free_until:
            with self._lock:
                self._ask(now)
        return now < self._free_until

    def close(self) -> None:
        """Let nobody send any more: all calls that wait, and all to come, raise Unavailable."""
        with self._lock:
            self._closed = True
            self._free_until = float("-inf")
            for waiter in self._line:
                waiter.wake.notify()

    def _waiter(self, urgency: int, check: Callable[[], object] | None) -> _Waiter:
        waiter = _Waiter(self._lock, urgency, check)
        waiter.check_at = self._steady() + CHECK_SECONDS
        return waiter

    def _turn(self, waiter: _Waiter, count: int) -> int:
        """Wait for one slice, from the end of the line of this urgency."""
        waiter.number = next(self._numbers)
        while True:
            with self._lock, self._in_line(waiter):
                granted = self._wait(waiter, count)
            if granted is not None:
                return granted
            # Outside of the line and without the lock: a disk that hangs must not hold up the others.
            if waiter.check is not None:
                waiter.check()
            waiter.check_at = self._steady() + CHECK_SECONDS

    @contextmanager
    def _in_line(self, waiter: _Waiter) -> Iterator[None]:
        """Stand in line. Whoever is first after that is woken, because only the first keeps the time."""
        insort(self._line, waiter, key=_Waiter.place)
        try:
            yield
        finally:
            self._line.remove(waiter)
            if self._line:
                self._line[0].wake.notify()

    def _wait(self, waiter: _Waiter, count: int) -> int | None:
        """Wait for one slice; return None when it is time for a check."""
        while True:
            if self._closed:
                raise Unavailable("the direct carrier is closing")
            now = self._steady()
            until = waiter.check_at
            if self._line[0] is waiter:
                self._ask(now)
                if granted := self._bucket.grant(count, now):
                    return granted
                pause = max(LEAST_PAUSE_SECONDS, self._bucket.wait_seconds(count))
                until = min(until, self._ask_at, now + pause)
            if now >= waiter.check_at:
                return None
            waiter.wake.wait(until - now)

    def _ask(self, now: float) -> None:
        if now < self._ask_at:
            return
        rate = self._limit()
        self._bucket.set(rate, now)
        self._ask_at = now + ASK_SECONDS
        self._free_until = self._ask_at if rate is None else float("-inf")


def _piece(count: int, rate: float) -> int:
    """How much of `count` bytes goes at once."""
    return min(count, max(LEAST_SLICE_BYTES, int(rate * SLICE_SECONDS)))
