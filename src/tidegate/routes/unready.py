"""What is answered while there is no agent, because no configuration was good yet: that, and its faults."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tidegate import __version__
from tidegate.routes.answers import CONFIGURATION
from tidegate.routes.board import Picture
from tidegate.routes.reports import statistics
from tidegate.routes.wire import CURSOR, TOKEN, Rejected, cut, fields_of
from tidegate.view.snapshot import Snapshot

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tidegate.clock import Clock

_SHOWN = 3
"""So many faults are named; all are counted."""

_WORDS = 250
_REMEDY = "no configuration was good yet, so there is no agent; correct it and deploy it"


@dataclass(frozen=True, slots=True, kw_only=True)
class Unready:
    """A component that waits for a better configuration. `since` is a moment of the wall clock."""

    thing: str
    since: float
    faults: Sequence[str]
    clock: Clock

    def answer(self, route: str, raw: Mapping[str, Any]) -> dict[str, Any]:
        """Tell what can be told without an agent. Raises Rejected for all else."""
        if route == "statistics/get":
            return statistics(self._picture(), fields_of(raw, (TOKEN, CURSOR))["cursor"])
        if route == "configuration/get":
            fields_of(raw, CONFIGURATION)
            return self._configuration()
        more = len(self.faults) - _SHOWN
        named = "; ".join((*self._named(), *([f"and {more} more"] if more > 0 else ())))
        raise Rejected(503, "NotConfigured", f"{_REMEDY}: {named}")

    def _named(self) -> list[str]:
        return [cut(fault, _WORDS) for fault in self.faults[:_SHOWN]]

    def _configuration(self) -> dict[str, Any]:
        """Say that nothing holds, in the form of what holds otherwise, and why."""
        return {
            "thing": cut(self.thing, 130),
            "agent": {},
            "streamManager": {},
            "events": {},
            "sources": [],
            "configuration": {"faults": self._named(), "count": len(self.faults)},
        }

    def _picture(self) -> Picture:
        moment = self.clock.now()
        nothing = Snapshot(
            version=__version__,
            pid=os.getpid(),
            at=moment.wall,
            started_at=self.since,
            ledger="disk",
            sources={},
            troubles={"configuration": {"since": self.since, "reason": _REMEDY}},
            lanes={},
        )
        return Picture(
            at=moment.wall,
            taken=moment.steady,
            snapshot=nothing,
            names=(),
            tally={},
            counters={},
            oldest={},
            pauses=(),
            quarantine=(),
            events=0,
            paused=frozenset(),
            faults=self.faults,
            in_memory=False,
            thing=self.thing,
        )
