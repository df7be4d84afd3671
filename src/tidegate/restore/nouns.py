"""The words of a retrieval: what is selected, how it is asked for, and where an object and a job stand."""

from __future__ import annotations

import dataclasses
import enum
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tidegate.store.archive_calls import Found


class Kind(enum.IntEnum):
    """Where an object is archived, which decides what may be asked for.

    The tiers of Intelligent-Tiering take no days: their objects come back for good. The deep ones know no
    Expedited.
    """

    GLACIER = 0
    DEEP = 1
    TIERING = 2
    TIERING_DEEP = 3

    @property
    def is_deep(self) -> bool:
        """Whether it is among the slow ones."""
        return self in (Kind.DEEP, Kind.TIERING_DEEP)

    @property
    def takes_days(self) -> bool:
        """Whether a copy is made, that stays for some days."""
        return self in (Kind.GLACIER, Kind.DEEP)


class State(enum.IntEnum):
    """Where one object of a job stands.

    WANTED   has to be asked for
    ASKED    S3 has taken our request
    ALREADY  somebody's request was under way before ours
    READY    it was seen restored
    OPEN     it can be read without any request
    FAILED   it cannot be restored; the journal knows why
    FETCHED  it is on this device, proven whole
    """

    WANTED = 0
    ASKED = 1
    ALREADY = 2
    READY = 3
    OPEN = 4
    FAILED = 5
    FETCHED = 6


WAITING = (State.ASKED, State.ALREADY)
READABLE = (State.READY, State.OPEN, State.FETCHED)


class Phase(enum.Enum):
    """What a job is at. A job that was killed goes on with the phase it was in."""

    READING = "reading"
    PLANNING = "planning"
    REQUESTING = "requesting"
    WAITING = "waiting"
    FETCHING = "fetching"
    ENDED = "ended"


class Status(enum.Enum):
    """What is told of a job. All but the first end it."""

    RESTORING = "Restoring"
    COMPLETE = "Complete"
    FAILED = "Failed"
    CANCELLED = "Cancelled"
    TIMEOUT = "Timeout"


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """Which objects of a prefix are meant. Sizes in bytes, times in seconds since 1970, bounds included."""

    classes: tuple[str, ...] = ()
    smallest: int | None = None
    largest: int | None = None
    after: float | None = None
    before: float | None = None
    suffixes: tuple[str, ...] = ()

    def takes(self, found: Found) -> bool:
        """Whether this one is meant."""
        return (
            (not self.classes or found.storage in self.classes)
            and (self.smallest is None or found.size >= self.smallest)
            and (self.largest is None or found.size <= self.largest)
            and (self.after is None or found.modified >= self.after)
            and (self.before is None or found.modified <= self.before)
            and (not self.suffixes or found.key.endswith(self.suffixes))
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Spec:
    """What was ordered. It never changes.

    `bucket` and `prefix` with the `filter` are the selection, unless `listed` says that the journal holds
    one by key. `rate` is in requests a second, `timeout` in seconds from the creation, and `poll`
    is the most seconds between two looks; 0 leaves that to what the tier may take. `speed_up` asks
    again, in this tier, for what others have under way. `fallback` is the tier for what cannot be had as
    Expedited; empty for none. `settings` are the ways to S3 (see `connect`), `batch` and `fetch` the values
    of `BatchSpec` and `FetchSpec`, and `sinks` where events go (see `sinks`). A job that would have to ask
    for more than `most` objects asks for none; None is for any number.
    """

    id: str
    tier: str
    days: int
    created: float
    bucket: str = ""
    prefix: str = ""
    filter: Filter = field(default_factory=Filter)
    listed: bool = False
    engine: str = "direct"
    rate: float = 50.0
    tag: str = ""
    timeout: float = 5 * 86_400.0
    poll: float = 0.0
    speed_up: bool = False
    fallback: str = "Standard"
    settings: Mapping[str, Any] = field(default_factory=dict)
    batch: Mapping[str, Any] = field(default_factory=dict)
    fetch: Mapping[str, Any] = field(default_factory=dict)
    sinks: tuple[Mapping[str, Any], ...] = ()
    most: int | None = None

    def as_json(self) -> dict[str, Any]:
        """Write it down."""
        return dataclasses.asdict(self)

    @classmethod
    def of_json(cls, said: Mapping[str, Any]) -> Spec:
        """Read it back."""
        chosen = dict(said["filter"])
        chosen |= {name: tuple(chosen[name]) for name in ("classes", "suffixes")}
        return cls(**{**said, "filter": Filter(**chosen), "sinks": tuple(said["sinks"])})


@dataclass(frozen=True, slots=True)
class Counts:
    """How many objects of a job stand where."""

    wanted: int = 0
    asked: int = 0
    already: int = 0
    ready: int = 0
    open: int = 0
    failed: int = 0
    fetched: int = 0

    @property
    def total(self) -> int:
        """All of them, each once."""
        return sum(dataclasses.astuple(self))

    @property
    def readable(self) -> int:
        """Those that can be read, or were."""
        return self.ready + self.open + self.fetched

    @property
    def waiting(self) -> int:
        """Those that S3 is at."""
        return self.asked + self.already

    def as_json(self) -> dict[str, int]:
        """Name them all."""
        return {"total": self.total, **dataclasses.asdict(self)}
