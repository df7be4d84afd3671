"""When a destination is left alone because nothing gets through to it, and when one file tries again."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from tidegate.policy import outage_seconds

if TYPE_CHECKING:
    from collections.abc import Callable

FAILURES = 3
"""So many in a row, and nothing that worked in between, are an outage."""


class Outage:
    """Knows whether a destination can be reached, from those who tried. Safe to use from any thread.

    After an outage began one file at a time tries, in growing intervals; the first that gets an answer
    ends it.
    """

    def __init__(self, steady: Callable[[], float], jitter: Callable[[], float]) -> None:
        self._steady = steady
        self._jitter = jitter
        self._lock = threading.Lock()
        self._failures = 0
        self._rounds = 0
        self._until = 0.0
        self._trying = False
        self.reason = ""

    @property
    def lasts(self) -> bool:
        """Whether there is one, be it that somebody is just trying."""
        return self._rounds > 0

    def is_closed(self) -> bool:
        """Whether nothing is to be sent now."""
        return self._rounds > 0 and (self._trying or self._steady() < self._until)

    def forbids(self) -> bool:
        """Whether not even somebody who was told yes is to go on: the outage began since."""
        return self._rounds > 0 and not self._trying and self._steady() < self._until

    def admits(self) -> bool:
        """Ask to send one file; during an outage the first that asks when it is time is told yes."""
        if not self._rounds:
            return True
        with self._lock:
            if self.is_closed():
                return False
            self._trying = self._rounds > 0
            return True

    def worked(self) -> None:
        """The destination answered."""
        if not self._failures and not self._rounds:
            return
        with self._lock:
            self._failures = self._rounds = 0
            self._trying = False

    def failed(self, reason: str) -> None:
        """It did not."""
        with self._lock:
            self.reason = reason
            self._failures += 1
            if self._trying or (not self._rounds and self._failures >= FAILURES):
                self._trying = False
                self._rounds += 1
                self._until = self._steady() + outage_seconds(self._rounds, self._jitter())

    def undecided(self) -> None:
        """Who was to try never came to it: the next one may."""
        with self._lock:
            self._trying = False
