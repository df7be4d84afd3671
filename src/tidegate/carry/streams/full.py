"""Streams that refuse messages because they are full: when to try again, and when never to.

Nothing documents whether tasks that are done with ever make room in a stream that rejects new data. So a
full stream is left alone for a while; when all in it is done, it is tried once more; when it refuses even
then, nothing but finished tasks fills it, and it will never take another.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from tidegate.carry.streams.client import Description

REST_SECONDS = 5.0
"""A stream that refused a message is offered none for so long."""


class FullStreams:
    """Remembers which streams refused a message. May forget it at any time. Safe to use from any thread."""

    def __init__(self, steady: Callable[[], float]) -> None:
        self._steady = steady
        self._refusals: dict[str, tuple[str, float, str]] = {}
        self._tried: dict[str, int] = {}

    def refused(self, source: str, lane: str, reason: str) -> None:
        """Note that a stream refused a message."""
        self._refusals[lane] = source, self._steady(), reason

    def accepted(self, lane: str) -> None:
        """Note that a stream took a message."""
        self._refusals.pop(lane, None)

    def may_be_tried(self, lane: str) -> bool:
        """Tell whether a stream may be offered a message now."""
        refusal = self._refusals.get(lane)
        return refusal is None or self._steady() - refusal[1] >= REST_SECONDS

    def lanes(self) -> list[tuple[str, str]]:
        """List the streams whose last answer was a refusal: (source, lane)."""
        return [(source, lane) for lane, (source, _, _) in list(self._refusals.items())]

    def troubles(self) -> dict[str, str]:
        """Say what each stream that refuses messages said."""
        return {lane: reason for lane, (_, _, reason) in list(self._refusals.items())}

    def is_spent(self, lane: str, description: Description) -> bool:
        """Tell whether a stream, whose tasks are all accounted for, has no use any more.

        The first time that it is asked about a full stream, it has that stream tried again instead.
        """
        if lane not in self._refusals or not 0 <= description.newest <= description.exported:
            return False
        if self._tried.get(lane) == description.newest:
            return True
        self._tried[lane] = description.newest
        self.accepted(lane)
        return False

    def forget(self, lane: str) -> None:
        """The stream is no more."""
        self._refusals.pop(lane, None)
        self._tried.pop(lane, None)
