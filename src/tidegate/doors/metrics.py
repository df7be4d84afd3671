"""Counters and gauges for the component of CloudWatch metrics, which takes one metric with each message.

That component reads JSON messages only. They are short: nucleus lite kills subscriptions over long ones.
"""

from __future__ import annotations

import logging
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

from tidegate.doors.door import Door
from tidegate.errors import NotAllowed, TidegateError
from tidegate.ledger.posts import STORED_AT
from tidegate.model import State
from tidegate.policy import Hold

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from tidegate.routes.board import Picture

TOPIC = "cloudwatch/metric/put"
RETRY_SECONDS = 600.0
"""Where nobody gave us the right to publish them."""

ABSENT_SECONDS = 1.0
"""Between two looks while there is nothing to be seen."""

COUNTERS = (
    ("FilesUploaded", "files_stored", "Count"),
    ("BytesUploaded", "bytes_stored", "Bytes"),
    ("FilesFailed", "files_quarantined", "Count"),
    ("FilesEvicted", "files_evicted", "Count"),
    ("FilesDropped", "files_dropped", "Count"),
    ("Retries", "retries", "Count"),
)
"""Name, counter of the ledger, unit. Told is what was added since it was told last."""

_TIMED = (("timed uploads", "uploads_timed"), ("their milliseconds", "upload_milliseconds"))
_ADDED_UP = (*((name, counter) for name, counter, _ in COUNTERS), *_TIMED)

log = logging.getLogger(__name__)


class Metric(NamedTuple):
    """One value, of a source or ("") of the whole agent.

    `stands` is where what it counts is; `reason` why what it counts is so, where there is more than one.
    """

    source: str
    name: str
    value: float
    unit: str
    stands: Mapping[str, int] = MappingProxyType({})
    reason: str = ""


class MetricsDoor(Door):
    """Reports each `seconds`, from `start` to `close`. What cannot be told is not told later.

    But counters add up: each report has what was added since the last one that got through.
    """

    def __init__(
        self,
        put: Callable[[str, Mapping[str, Any]], None],
        look: Callable[[], Picture | None],
        *,
        namespace: str,
        seconds: float,
    ) -> None:
        """`put` publishes JSON and waits until that is done; `look` may find nothing to report on."""
        super().__init__("metrics")
        self._put = put
        self._look = look
        self._namespace = namespace
        self._seconds = seconds
        self._told: dict[tuple[str, str], int] | None = None
        self._said = ""

    def _step(self) -> float:
        try:
            picture = self._look()
            if picture is None:
                return min(ABSENT_SECONDS, self._seconds)
            if self._told is None:
                self._told = totals(picture)
            for metric in metrics(picture, self._told):
                self._put(TOPIC, message(metric, self._namespace, picture))
                self._told |= {(metric.source, what): total for what, total in metric.stands.items()}
        except TidegateError as err:
            if str(err) != self._said:
                self._said = str(err)
                log.warning("CloudWatch is told nothing, and it is tried again: %s", err)
            return RETRY_SECONDS if isinstance(err, NotAllowed) else self._seconds
        self._said = ""
        return self._seconds


def totals(picture: Picture) -> dict[tuple[str, str], int]:
    """Tell where each counter stands: (source, name of the metric) -> value."""
    return {
        (source, name): found.get(counter, 0)
        for source, found in picture.counters.items()
        for name, counter in _ADDED_UP
    }


def metrics(picture: Picture, told: Mapping[tuple[str, str], int]) -> Iterator[Metric]:
    """List what there is to tell; of counters what is more than was `told`. Without what is not known."""
    if picture.bandwidth is not None:
        yield Metric("", "BandwidthLimit", picture.bandwidth, "Bytes/Second")
    for source in _worth_telling(picture):
        now = picture.counters.get(source, {})
        for name, counter, unit in COUNTERS:
            total = now.get(counter, 0)
            yield Metric(source, name, max(0, total - told.get((source, name), 0)), unit, {name: total})
        yield from _duration(source, now, told)
        tally, report = picture.tally.get(source, {}), picture.snapshot.sources.get(source)
        waiting = [tally.get(state, (0, 0)) for state in (State.READY, State.SENT)]
        yield Metric(source, "BacklogFiles", sum(files for files, _ in waiting), "Count")
        yield Metric(source, "BacklogBytes", sum(size for _, size in waiting), "Bytes")
        oldest = picture.oldest.get(source)
        age = 0.0 if oldest is None else max(0.0, picture.at - oldest)
        yield Metric(source, "OldestPendingAge", round(age, 1), "Seconds")
        yield Metric(source, "FilesQuarantined", tally.get(State.FAILED, (0, 0))[0], "Count")
        holds = report.holds if report else {}
        yield Metric(source, "HoldFiles", sum(holds.values()), "Count")
        for why, count in holds.items():
            yield Metric(source, "HoldFiles", count, "Count", reason=Hold(why).name.capitalize())
        if (stored_at := now.get(STORED_AT)) is not None:
            yield Metric(source, "LastSuccessAge", max(0.0, round(picture.at - stored_at)), "Seconds")
        if report and report.free_bytes is not None:
            yield Metric(source, "DiskFree", report.free_bytes, "Bytes")
        if report and report.full_seconds is not None:
            yield Metric(source, "TimeToFull", round(report.full_seconds), "Seconds")


def _duration(source: str, now: Mapping[str, int], told: Mapping[tuple[str, str], int]) -> Iterator[Metric]:
    """Tell how long uploads took on average that came to an end since it was told last, if any did."""
    stands = {what: now.get(counter, 0) for what, counter in _TIMED}
    before = {what: told.get((source, what), 0) for what in stands}
    if any(stands[what] < before[what] for what in stands):
        before = dict.fromkeys(stands, 0)  # another ledger counts anew
    count, milliseconds = (stands[what] - before[what] for what in stands)
    if count:
        yield Metric(source, "UploadDuration", round(milliseconds / count / 1000, 3), "Seconds", stands)


def _worth_telling(picture: Picture) -> list[str]:
    """Name the sources that there are, and those that were and have left something behind.

    Ways of posted objects count where something was posted: each figure of each costs money.
    """
    ways = {name for name in picture.names if name in picture.snapshot.sources or name in picture.counters}
    left = {
        name
        for name, stands in picture.tally.items()
        if any(stands.get(state, (0, 0))[0] for state in (State.READY, State.SENT, State.FAILED))
    }
    return sorted(ways | left)


def message(metric: Metric, namespace: str, picture: Picture) -> dict[str, Any]:
    """Write a metric as the component takes it. The dimension coreName it adds itself."""
    told: dict[str, Any] = {
        "metricName": metric.name,
        "value": metric.value,
        "unit": metric.unit,
        "timestamp": round(picture.at),
    }
    dimensions = [
        {"name": name, "value": value}
        for name, value in (("Source", metric.source), ("Reason", metric.reason))
        if value
    ]
    if dimensions:
        told["dimensions"] = dimensions
    return {"request": {"namespace": namespace, "metricData": told}}
