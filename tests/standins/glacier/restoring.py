"""What becomes of an archived object that is asked for."""

from __future__ import annotations

import enum
import zlib
from typing import TYPE_CHECKING

from tests.standins.glacier.clock import HOUR, MINUTE, Clock, http_date, midnight_after
from tests.standins.glacier.errors import Refusal
from tests.standins.glacier.objects import ARCHIVES, TIERING, Bucket, Crowd, Restore, Stored

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.standins.glacier.faults import Faults

FLEXIBLE = {
    "Expedited": (MINUTE, 5 * MINUTE),
    "Standard": (3 * HOUR, 5 * HOUR),
    "Bulk": (5 * HOUR, 12 * HOUR),
}
DEEP = {"Standard": (9 * HOUR, 12 * HOUR), "Bulk": (12 * HOUR, 48 * HOUR)}
WINDOWS = {  # shortest and longest time of a restore, in seconds
    "GLACIER": FLEXIBLE,
    "ARCHIVE_ACCESS": FLEXIBLE,
    "DEEP_ARCHIVE": DEEP,
    "DEEP_ARCHIVE_ACCESS": DEEP,
}
BATCH_STANDARD = (10 * MINUTE, 5 * HOUR)  # Standard of a batch job starts to come within minutes
SPEED = Crowd.TIERS.index
FOREVER = float("inf")


class State(enum.Enum):
    """Whether the bytes of a version can be read now."""

    READABLE = "readable"  # it was never archived, or has moved to a tier of frequent access
    ARCHIVED = "archived"
    ONGOING = "ongoing"
    RESTORED = "restored"  # there is a copy for some days


def state_of(stored: Stored, now: float) -> State:
    restore = stored.restore
    if stored.storage_class in ARCHIVES:
        if restore is None or now >= restore.expiry:
            return State.ARCHIVED
        return State.ONGOING if now < restore.ready else State.RESTORED
    if stored.storage_class == TIERING and stored.access_tier:
        if restore is None:
            return State.ARCHIVED
        return State.ONGOING if now < restore.ready else State.READABLE
    return State.READABLE


def headers_of(stored: Stored, now: float) -> dict[str, str]:
    """Make the headers that tell where a version stands."""
    state = state_of(stored, now)
    headers = {} if stored.storage_class == "STANDARD" else {"x-amz-storage-class": stored.storage_class}
    if stored.access_tier and state is not State.READABLE:
        headers["x-amz-archive-status"] = stored.access_tier
    if state is State.ONGOING:
        headers["x-amz-restore"] = 'ongoing-request="true"'
    elif state is State.RESTORED and stored.restore:
        headers["x-amz-restore"] = (
            f'ongoing-request="false", expiry-date="{http_date(stored.restore.expiry)}"'
        )
    return headers


def invalid_state(stored: Stored, message: str) -> Refusal:
    details = {"StorageClass": stored.storage_class}
    if stored.access_tier:
        details["AccessTier"] = stored.access_tier
    return Refusal(403, "InvalidObjectState", message, details=details)


class Restorer:
    """Begins restores, speeds them up and lengthens them."""

    def __init__(self, clock: Clock, faults: Faults, seed: int) -> None:
        self.begun = 0
        self.told: Callable[[Bucket, Stored, str], None] = lambda *_: None  # Post, Completed and Delete
        self.wanted: Callable[[Bucket], bool] = lambda _: False  # whether anybody wants to be told
        self._clock = clock
        self._faults = faults
        self._seed = seed

    def ask(
        self, bucket: Bucket, stored: Stored, tier: str, days: int | None, *, by_batch: bool = False
    ) -> int:
        """Do what a RestoreObject asks for and return the status of its answer, 200 or 202."""
        state = state_of(stored, self._clock.now)
        if state is State.READABLE:
            raise invalid_state(stored, "Restore is not allowed for the object's current storage class")
        window = self._check(stored, tier, days)
        restore = stored.restore
        if state is State.ONGOING and restore is not None:
            if SPEED(tier) <= SPEED(restore.tier) or (days or 0) != restore.days:
                raise Refusal(409, "RestoreAlreadyInProgress", "Object restore is already in progress")
            self._begin(bucket, stored, tier, days, window, no_later_than=restore.ready)
            return 202
        if state is State.RESTORED and restore is not None and days is not None:
            expiry = midnight_after(self._clock.now, days)
            lengthened = restore._replace(days=days, expiry=expiry)
            if lengthened != restore:
                stored.restore = lengthened
                self._tell_later(bucket, stored)
            return 200
        if tier == "Expedited" and self._faults.take_expedited():
            message = "Glacier expedited retrievals are currently not available, please try again later"
            raise Refusal(503, "GlacierExpeditedRetrievalNotAvailable", message)
        if by_batch and tier == "Standard" and window is FLEXIBLE["Standard"]:
            window = BATCH_STANDARD
        self._begin(bucket, stored, tier, days, window)
        self.begun += 1
        self.told(bucket, stored, "Post")
        return 202

    def _check(self, stored: Stored, tier: str, days: int | None) -> tuple[float, float]:
        if tier not in FLEXIBLE:
            raise Refusal(400, "MalformedXML", f"The XML you provided was not well-formed: tier {tier}")
        if stored.storage_class == TIERING:
            if days is not None:
                raise Refusal(400, "InvalidArgument", "Days is not allowed for Intelligent-Tiering")
        elif days is None or days < 1:
            raise Refusal(400, "InvalidArgument", "Days must be a positive number")
        window = WINDOWS[stored.access_tier or stored.storage_class].get(tier)
        if window is None:
            message = "Retrieval option is not supported by this storage class"
            raise Refusal(400, "InvalidArgument", message)
        return window

    def _begin(
        self,
        bucket: Bucket,
        stored: Stored,
        tier: str,
        days: int | None,
        window: tuple[float, float],
        no_later_than: float = FOREVER,
    ) -> None:
        shortest, longest = window
        lot = zlib.crc32(f"{self._seed} {stored.key} {stored.version}".encode()) / 2**32
        ready = min(self._clock.now + shortest + lot * (longest - shortest), no_later_than)
        expiry = FOREVER if days is None else midnight_after(ready, days)
        stored.restore = Restore(tier, days or 0, ready, expiry)
        self._tell_later(bucket, stored)

    def _tell_later(self, bucket: Bucket, stored: Stored) -> None:
        """Have it told when the restore ends and when its copy goes, unless it was changed until then."""
        restore = stored.restore
        if restore is None or not self.wanted(bucket):
            return

        def completed() -> None:
            if stored.restore == restore:
                self.told(bucket, stored, "Completed")

        def expired() -> None:
            if stored.restore == restore:
                self.told(bucket, stored, "Delete")

        if restore.ready > self._clock.now:
            self._clock.at(restore.ready, completed)
        if restore.expiry != FOREVER:
            self._clock.at(restore.expiry, expired)
