"""What changes in the state of an agent that somebody should be told of: found by comparing moments."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from tidegate.model import Moment
    from tidegate.view.snapshot import Snapshot

TIDY_SECONDS = 30.0
REMEMBERED = 1000
"""Held files whose time is kept."""


class Notices:
    """Remembers the moment before. Used by one thread."""

    def __init__(self) -> None:
        self._down: dict[str, str] = {}
        self._held: dict[tuple[str, str], float] = {}
        self._told: set[tuple[str, str]] = set()
        self._tidy_due = 0.0

    def step(
        self, seen: Snapshot, held_seconds: float, moment: Moment
    ) -> Iterator[tuple[str, Mapping[str, Any]]]:
        """Yield events: (kind, body)."""
        down = {part: str(trouble["reason"]) for part, trouble in seen.troubles.items()} | dict(seen.lanes)
        for part in down.keys() - self._down.keys():
            yield "carrier-down", {"part": part, "reason": down[part]}
        for part in self._down.keys() - down.keys():
            yield "carrier-up", {"part": part, "reason": self._down[part]}
        self._down = down
        yield from self._held_too_long(seen, held_seconds, moment)

    def _held_too_long(
        self, seen: Snapshot, held_seconds: float, moment: Moment
    ) -> Iterator[tuple[str, Mapping[str, Any]]]:
        held = {(name, one.path): one.why for name, report in seen.sources.items() for one in report.held}
        self._held = {key: self._held.get(key, moment.steady) for key in list(held)[:REMEMBERED]}
        self._told &= held.keys()
        for (name, path), since in self._held.items():
            seconds = moment.steady - since
            if seconds >= held_seconds and (name, path) not in self._told:
                self._told.add((name, path))
                body = {"source": name, "path": path, "why": held[name, path], "seconds": round(seconds)}
                yield "held-too-long", body

    def is_time_to_tidy(self, steady: float) -> bool:
        """Whether it is time to tidy up; if so, the next time is later."""
        if steady < self._tidy_due:
            return False
        self._tidy_due = steady + TIDY_SECONDS
        return True
