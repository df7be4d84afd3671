"""A clock that goes when it is told to, and what is to happen when it gets there."""

from __future__ import annotations

import functools
import heapq
import itertools
import threading
from datetime import datetime, timedelta, timezone
from email.utils import formatdate
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

MINUTE = 60.0
HOUR = 60 * MINUTE
DAY = 24 * HOUR


class Clock:
    """Seconds since 1970. What is due happens in its order, at its own time, while the clock is advanced."""

    def __init__(self, start: float) -> None:
        self.lock = threading.RLock()  # of everything that the stand-in knows
        self.release: Callable[[], None] = lambda: None  # hands over the events that were held back
        self.deliver: Callable[[], None] = lambda: None  # waits until all are delivered
        self._now = start
        self._due: list[tuple[float, int, Callable[[], None]]] = []
        self._count = itertools.count()

    @property
    def now(self) -> float:
        return self._now

    def at(self, when: float, action: Callable[[], None]) -> None:
        """Have something done when the clock gets there; what is past is done at the next advance."""
        with self.lock:
            heapq.heappush(self._due, (when, next(self._count), action))

    def advance(self, seconds: float, *, wait: bool = True) -> float:
        """Let so many seconds go by and return the new time.

        Events that came up meanwhile have been delivered then, unless nobody is to `wait` for that.
        """
        with self.lock:
            end = self._now + seconds
            while self._due and self._due[0][0] <= end:
                when, _, action = heapq.heappop(self._due)
                self._now = max(self._now, when)
                action()
            self._now = end
        self.release()
        if wait:
            self.deliver()
        return end


def midnight_after(when: float, days: int) -> float:
    """Return the first midnight UTC that is at least so many days later: when a restored copy expires."""
    moment = datetime.fromtimestamp(when, timezone.utc) + timedelta(days=days)
    midnight = moment.replace(hour=0, minute=0, second=0, microsecond=0)
    return (midnight if midnight == moment else midnight + timedelta(days=1)).timestamp()


@functools.lru_cache(maxsize=4096)
def iso(when: float) -> str:
    """Write a time as S3 does in XML and in events."""
    return datetime.fromtimestamp(when, timezone.utc).isoformat(timespec="milliseconds")[:23] + "Z"


def http_date(when: float) -> str:
    return formatdate(when, usegmt=True)
