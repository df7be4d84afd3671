"""How far a job is, as it is told: a percentage that only grows, and events, one for each change."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from tidegate.restore.decide import HOUR, MINUTE

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tidegate.restore.nouns import Counts, Spec, Status

_ALMOST = 99
LEAST_LOOK_SECONDS, MOST_LOOK_SECONDS = MINUTE / 2, HOUR / 4


def percent(counts: Counts, share: float, told: int) -> int:
    """Whole percents of what can be had, never fewer than were `told`; 100 is for the end alone.

    `share` is the part of the objects under way that has come, as far as a sample tells.
    """
    possible = counts.total - counts.failed
    if possible <= 0:
        return told
    there = counts.readable + share * counts.waiting
    return max(told, min(_ALMOST, math.floor(100 * there / possible)))


def left(
    counts: Counts, share: float, *, now: float, began: float, last: float, rate: float, longest: float
) -> float:
    """Estimate the seconds that are left: the longest of three ways to see it.

    `began` is when the first was asked for and `last` when the last was, or will be if that is `now`;
    `rate` is in requests a second and `longest` what S3 may take for one.
    """
    asking = counts.wanted / rate if rate > 0 else 0.0
    coming = max(0.0, last + longest - now) if counts.waiting + counts.wanted else 0.0
    extrapolated = 0.0
    if counts.waiting and 0.02 < share < 1:
        extrapolated = (now - began) * (1 - share) / share
    if extrapolated:  # what has been seen is worth more than what may be
        coming = min(coming, 2 * extrapolated)
    return max(asking + (longest if counts.wanted else 0.0), coming, min(extrapolated, coming))


def look_seconds(longest: float) -> float:
    """How often to look how far it is: 50 times in the time that S3 may take."""
    return min(MOST_LOOK_SECONDS, max(LEAST_LOOK_SECONDS, longest / 50))


def event(
    spec: Spec, status: Status, shown: int, failed: int, batch_ids: str, detail: Mapping[str, Any]
) -> dict[str, Any]:
    """Make an event: five texts that have been the same since the seed, and what else is known."""
    return {
        "JobId": spec.id,
        "BatchJobId": batch_ids,
        "Status": status.value,
        "ProgressPercent": str(shown),
        "FailedBatchFiles": str(failed),
        "detail": dict(detail),
    }
