"""What all that is open has in common: a thread of its own, which keeps it so."""

from __future__ import annotations

from abc import ABC, abstractmethod

from tidegate.loop import Loop


class Door(ABC):
    """Repeats its `_step` from `start` to `stop`. It knows itself what to do about troubles."""

    def __init__(self, name: str) -> None:
        """`name` is that of the thread."""
        self._loop = Loop(name, self._step)

    def start(self) -> None:
        """Open it, now or as soon as that is possible."""
        self._loop.start()

    def wake(self) -> None:
        """Go on now, also with what was refused before: we may have got the right to it."""
        self._loop.nudge()

    def stop(self) -> None:
        """Ask it to end after the step under way."""
        self._loop.stop()

    def join(self, seconds: float) -> None:
        """Wait for its end, at most so long."""
        self._loop.join(seconds)

    @abstractmethod
    def _step(self) -> float:
        """Do what is due. Returns the seconds until the next."""
