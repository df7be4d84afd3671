"""Which tasks will get no news, and which stream no longer moves. Judges descriptions; asks nobody.

Two things that are not documented must both be lived with: Stream Manager may report an error and go
on, or say nothing and try the same task for ever while all behind it wait. And a status message may be
lost: the status stream keeps only the newest.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tidegate.carry.streams.statuses import is_about_bucket
from tidegate.disk.walk import is_current
from tidegate.model import Outcome, Verdict

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Sequence

    from tidegate.carry.streams.client import Description
    from tidegate.model import Transfer

PATIENCE_SECONDS = 10.0
"""A stream that fails at one task this long is stuck; doubled each time it happens again, to an hour."""

SLOWEST_BYTES_PER_SECOND = 50_000
"""A large file gets as much more patience as its upload takes at this rate."""


@dataclass(slots=True)
class Report:
    """What is known about one stream: news about its tasks, and whether it is beyond waiting for."""

    outcomes: list[Outcome] = field(default_factory=list)
    give_up: bool = False


@dataclass(slots=True)
class _Watch:
    """What was seen last time: how far the stream was, since when, and which task was silent."""

    exported: int
    since: float
    silent: set[int] = field(default_factory=set)
    error: str = ""


class Stalls:
    """Remembers, between audits only, what each stream looked like. May forget it at any time."""

    def __init__(self, steady: Callable[[], float]) -> None:
        self._steady = steady
        self._watches: dict[str, _Watch] = {}
        self._patience = PATIENCE_SECONDS

    def troubles(self) -> dict[str, str]:
        """Return the last error of each stream that does not get on."""
        return {lane: watch.error for lane, watch in list(self._watches.items()) if watch.error}

    def keep(self, lanes: Container[str]) -> None:
        """Forget all streams but these: nothing waits in the others."""
        for lane in [lane for lane in self._watches if lane not in lanes]:
            del self._watches[lane]

    def examine(
        self,
        lane: str,
        description: Description,
        waiting: Sequence[tuple[int, Transfer, float]],
        *,
        read_up: bool,
    ) -> Report:
        """Compare the promises that wait in a stream with how far it is.

        `read_up`: every status message written before the descriptions were made has been read.
        """
        watch = self._watches.get(lane)
        if watch is None or watch.exported != description.exported or not waiting:
            if watch is not None and watch.exported != description.exported:
                self._patience = PATIENCE_SECONDS
            silent = watch.silent if watch else set()
            watch = self._watches[lane] = _Watch(description.exported, self._steady(), silent)
        news = self._without_news(lane, description, waiting, watch, read_up=read_up)
        blocked = any(receipt > description.exported for receipt, _, _ in waiting)
        watch.error = description.error if blocked and self._steady() > watch.since else ""
        report = self._judge(lane, waiting, description.exported) if watch.error else Report()
        report.outcomes += news
        return report

    def _without_news(
        self,
        lane: str,
        description: Description,
        waiting: Sequence[tuple[int, Transfer, float]],
        watch: _Watch,
        *,
        read_up: bool,
    ) -> list[Outcome]:
        """Tasks that the stream never had, and tasks that it has done with while no message told of it."""
        unknown = [receipt for receipt, _, _ in waiting if receipt > description.newest]
        silent = (
            {receipt for receipt, _, _ in waiting if receipt <= description.exported} if read_up else set()
        )
        lost = silent & watch.silent  # seen twice: the message that belongs to it is not merely late
        watch.silent = silent - lost
        return [
            Outcome(lane=lane, receipt=receipt, verdict=Verdict.AGAIN, note="its stream was started anew")
            for receipt in unknown
        ] + [
            Outcome(lane=lane, receipt=receipt, verdict=Verdict.AGAIN, note="its status message was lost")
            for receipt in sorted(lost)
        ]

    def _judge(self, lane: str, waiting: Sequence[tuple[int, Transfer, float]], exported: int) -> Report:
        """Judge whether a stream that names an error, and moved no further than `exported`, is stuck."""
        watch = self._watches[lane]
        receipt, head, _ = next(row for row in waiting if row[0] > exported)
        is_culprit = receipt == exported + 1  # otherwise a task that we know nothing of any more
        gone = is_culprit and _has_changed(head)
        patience = self._patience + head.body.fingerprint.size / SLOWEST_BYTES_PER_SECOND
        if not gone and (is_about_bucket(watch.error) or self._steady() - watch.since < patience):
            return Report()
        self._patience = min(2 * self._patience, 3600.0)
        del self._watches[lane]
        verdict = Verdict.AGAIN if gone else Verdict.REFUSED
        note = f"Stream Manager keeps failing: {watch.error}"[:500]
        news = [Outcome(lane=lane, receipt=receipt, verdict=verdict, note=note)] if is_culprit else []
        return Report(news, give_up=True)


def _has_changed(transfer: Transfer) -> bool:
    """The file is not what was promised any more, or out of reach: to try on is pointless."""
    try:
        return not is_current(transfer.body)
    except OSError:
        return True
