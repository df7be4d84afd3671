"""What a user can say about bringing objects back from an archive because somebody asked for it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tidegate.config.schema import FAULTY, YES_OR_NO, Key, defaults, fault, number, show, text, texts
from tidegate.config.values import bucket_name, folder

if TYPE_CHECKING:
    from collections.abc import Callable

    from tidegate.config.parse import S3Settings

TIERS = ("Expedited", "Standard", "Bulk")
"""How fast, in S3's words, fastest first."""

ENGINES = ("direct", "batch")
"""Who asks for the objects: we do, one by one, or S3 Batch Operations."""

_USUAL = ("Standard", "Bulk")  # Expedited costs far more


@dataclass(frozen=True, slots=True, kw_only=True)
class RestoreSettings:
    """How far a request may go. `max_rate` is in requests a second, of all jobs together.

    Objects come from these `buckets` only, and only in these `tiers`; the first of them is the usual one.
    `folder` is where they are downloaded to; None: nowhere. `s3` is how S3 is reached.
    """

    max_rate: float
    buckets: tuple[str, ...]
    tiers: tuple[str, ...]
    folder: str | None
    s3: S3Settings


def _buckets(names: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(map(bucket_name, names))


def _tiers(names: tuple[str, ...]) -> tuple[str, ...]:
    known = {name.lower(): name for name in TIERS}
    for name in names:
        if name.lower() not in known:
            raise ValueError(f"has {show(name)}, which is no tier; write some of {', '.join(TIERS)}")
    return tuple(known[name.lower()] for name in names)


_BUCKETS: Callable[[tuple[str, ...]], object] = _buckets
_CHOSEN: Callable[[tuple[str, ...]], object] = _tiers

RESTORE = (
    Key("Enabled", "enabled", YES_OR_NO, "false", "Whether objects are brought back by request."),
    Key("MaxRate", "max_rate", number("number of requests", "50", 0.1, 1000), 50, "Requests a second."),
    Key("Buckets", "buckets", texts("list of buckets", _BUCKETS), (), "From where objects may come back."),
    Key("Tiers", "tiers", texts("list of tiers", _CHOSEN), None, "How fast they may."),
    Key("Folder", "folder", text("absolute folder", folder), None, "Where they are downloaded to."),
)
"""Keys under Restore."""


def restore_of(
    values: dict[str, Any], s3: Callable[[], S3Settings], faults: list[str]
) -> RestoreSettings | None:
    """Make the settings of what was read under Restore, if it is enabled."""
    whole = defaults(RESTORE) | values
    whole["tiers"] = _USUAL if whole["tiers"] is None else whole["tiers"]
    if whole["enabled"] is True and whole["buckets"] == ():
        fault(faults, "Restore.Buckets", "is missing; write from where objects may be, for example [archive]")
    if whole["enabled"] is True and whole["tiers"] == ():
        fault(faults, "Restore.Tiers", "is an empty list; write some tiers, or leave it out")
    if faults or FAULTY in whole.values() or not whole.pop("enabled"):
        return None
    return RestoreSettings(**whole, s3=s3())
