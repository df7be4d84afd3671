"""How fast is asked: evenly, at a rate that S3 can press down and that recovers by itself."""

from __future__ import annotations

import threading

BURST_SECONDS = 0.1
CUT_SECONDS = 0.3
"""All that is throttled within this time counts as one hint: those requests were under way together."""

LEAST = 0.5
_STEP = 0.02


class Pace:
    """Gives out moments to send at, `rate` of them a second at most. Any number of threads may ask.

    When S3 throttles, the rate is halved; each second without that it grows by a fiftieth of the most.
    All moments are of one clock that only grows, and are told by the caller.
    """

    def __init__(self, most: float, now: float) -> None:
        self._lock = threading.Lock()
        self._most = most
        self._rate = most
        self._next = self._grown = now
        self._cut = float("-inf")

    @property
    def rate(self) -> float:
        """Requests a second, as of now."""
        return self._rate

    def take(self, now: float) -> float:
        """Take the next moment; say how many seconds from now it is."""
        with self._lock:
            self._grow(now)
            moment = max(self._next, now - BURST_SECONDS)
            self._next = moment + 1 / self._rate
            return max(0.0, moment - now)

    def throttled(self, now: float) -> None:
        """Be told that S3 wants less."""
        with self._lock:
            if now - self._cut >= CUT_SECONDS:
                self._cut = self._grown = now
                self._rate = max(LEAST, self._rate / 2)
                self._next = max(self._next, now)

    def _grow(self, now: float) -> None:
        passed = now - self._grown
        if passed >= 1.0:
            self._grown = now
            self._rate = min(self._most, self._rate + self._most * _STEP * passed)
