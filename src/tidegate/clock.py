"""The only place that reads the clocks."""

from __future__ import annotations

import time
from threading import Lock

from tidegate.model import Moment

JUMP_SECONDS = 1.0
"""A wall clock that runs away from the steady one by more than this between two readings has jumped."""


class Clock:
    """Reads the wall clock, and notices when somebody sets it."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._offset = time.time() - time.monotonic()
        self._jumped: float | None = None

    def now(self) -> Moment:
        """Read both clocks. At first the wall clock is believed without limit."""
        with self._lock:
            wall, steady = time.time(), time.monotonic()
            if abs(wall - steady - self._offset) > JUMP_SECONDS:
                self._jumped = steady
            self._offset = wall - steady
            trusted_for = float("inf") if self._jumped is None else steady - self._jumped
            return Moment(wall, steady, trusted_for)

    def wall(self) -> float:
        """Return seconds since 1970, as far as this device knows."""
        return self.now().wall

    def steady(self) -> float:
        """Return seconds that only ever grow."""
        return time.monotonic()
