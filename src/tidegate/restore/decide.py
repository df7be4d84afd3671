"""What to do about an object, what an answer means, and how long it takes. Pure functions.

Behaviour and times: Amazon S3 user guide, "Restoring an archived object" and "Archive retrieval options";
API reference, "RestoreObject".
"""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING

from tidegate.config.back import TIERS
from tidegate.restore.nouns import Kind, State
from tidegate.store.archive_calls import INTELLIGENT
from tidegate.store.errors import Kind as Fault

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tidegate.store.archive_calls import Found
    from tidegate.store.errors import S3Error

MINUTE, HOUR, DAY = 60.0, 3600.0, 86_400.0

_KINDS = {
    "GLACIER": Kind.GLACIER,
    "DEEP_ARCHIVE": Kind.DEEP,
    "ARCHIVE_ACCESS": Kind.TIERING,
    "DEEP_ARCHIVE_ACCESS": Kind.TIERING_DEEP,
}
_WINDOWS = {
    # Seconds from a request to the first and to the last restore that is to be expected.
    (False, "Expedited"): (MINUTE, 5 * MINUTE),
    (False, "Standard"): (3 * HOUR, 5 * HOUR),
    (False, "Bulk"): (5 * HOUR, 12 * HOUR),
    (True, "Standard"): (9 * HOUR, 12 * HOUR),
    (True, "Bulk"): (12 * HOUR, 48 * HOUR),
}
_BATCH_STANDARD = (MINUTE, 5 * HOUR)  # they "start within minutes"
_THROTTLES = frozenset(
    (
        *("SlowDown", "ThrottlingException", "Throttling", "RequestLimitExceeded", "RequestThrottled"),
        *("TooManyRequests", "TooManyRequestsException", "ServiceUnavailable", "BandwidthLimitExceeded"),
    )
)
NO_EXPEDITED = "GlacierExpeditedRetrievalNotAvailable"


class Answer(enum.Enum):
    """What an answer that is no new state asks us to do.

    SLOWER   ask again, and all of it more slowly
    AGAIN    ask again a little later
    LATER    there is no capacity for Expedited now
    BLOCKED  as far as one can tell, everything in this bucket will be answered so
    """

    SLOWER = "slower"
    AGAIN = "again"
    LATER = "later"
    BLOCKED = "blocked"


def kind_of(found: Found) -> Kind | None:
    """Tell where an object is archived; None if it is not."""
    return _KINDS.get(found.tier if found.storage == INTELLIGENT else found.storage)


def needs_head(found: Found) -> bool:
    """Whether a listing does not tell all: in Intelligent-Tiering it does not name the archive tier."""
    return found.storage == INTELLIGENT and not found.tier


def state_of(found: Found, *, now: float, days: int, speed_up: bool = False) -> tuple[State, Kind]:
    """Decide what an object needs: WANTED, ALREADY, READY or OPEN.

    A restored copy is enough if it stays for all the days that were ordered, as of `now`; else it is
    WANTED, which lengthens its stay.
    """
    kind = kind_of(found)
    if kind is None:
        return State.OPEN, Kind.GLACIER
    if found.ongoing:
        return (State.WANTED if speed_up else State.ALREADY), kind
    if found.expires is not None and found.expires >= now + days * DAY:
        return State.READY, kind
    return State.WANTED, kind


def tier_for(tier: str, kind: Kind) -> str:
    """The tier to ask for: where there is no Expedited, it is Standard."""
    return "Standard" if kind.is_deep and tier == "Expedited" else tier


def window(tier: str, kinds: Iterable[Kind], *, by_batch: bool = False) -> tuple[float, float]:
    """Seconds after which the first, and the last, of these kinds will be there."""
    spans = [
        _BATCH_STANDARD
        if by_batch and tier == "Standard" and not kind.is_deep
        else _WINDOWS[kind.is_deep, tier_for(tier, kind)]
        for kind in kinds
    ]
    return min((first for first, _ in spans), default=0.0), max((last for _, last in spans), default=0.0)


def estimates(kinds: Iterable[Kind], requests: int, rate: float) -> dict[str, float]:
    """Seconds until the last object is there, by tier: asking for them, and waiting for the last."""
    kinds = tuple(kinds)
    return {tier: requests / rate + window(tier, kinds)[1] for tier in TIERS}


def after_restore(status: int) -> State:
    """Read a good answer: 202 is a new restore, 200 one that was there and stays longer now."""
    return State.READY if status == 200 else State.ASKED


def after_error(error: S3Error) -> State | Answer:
    """Read a no: for some it is news of the object, for others only of the moment."""
    if error.code == "RestoreAlreadyInProgress":
        return State.ALREADY
    if error.code == "InvalidObjectState":
        return State.OPEN  # it is in no archive
    if error.code == NO_EXPEDITED:
        return Answer.LATER
    if error.code in _THROTTLES or (not error.code and error.status in (429, 503)):
        return Answer.SLOWER
    if error.kind in (Fault.AGAIN, Fault.CONFLICT):
        return Answer.AGAIN
    if error.kind is Fault.BLOCKED and error.code not in ("NoSuchKey", "MethodNotAllowed", "NoSuchVersion"):
        return Answer.BLOCKED
    return State.FAILED


def still(found: Found | None, *, now: float, asked: float, days: int, first: float) -> State:
    """Tell what has become of an object that was asked for at `asked`, by looking at it again.

    WANTED means that there is nothing under way: the request was lost. One whose copy may have come and
    gone since (`first` is the least number of seconds a restore takes) has been READY.
    """
    if found is None:
        return State.FAILED
    if kind_of(found) is None or found.expires is not None:
        return State.READY
    if found.ongoing:
        return State.ASKED
    return State.READY if now > asked + first + days * DAY else State.WANTED
