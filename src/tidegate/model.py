"""The nouns of tidegate. Values only: nothing here reads a disk, a clock or a network.

Those of which each file needs several are named tuples, which are made in a quarter of the time.
"""

from __future__ import annotations

import enum
import hashlib
import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True)
class Moment:
    """One reading of both clocks.

    `wall` is what the device believes the time is (seconds since 1970, may jump); `steady` only ever
    grows by the seconds that passed; `trusted_for` is for how many of those seconds `wall` has not
    jumped, so a wall-clock age below it is to be believed.
    """

    wall: float
    steady: float
    trusted_for: float


class Fingerprint(NamedTuple):
    """What tells one version of a file from every other, without reading it.

    The kernel sets `ctime_ns` at every change of content or metadata and no program can set it back,
    so a version with its old `mtime_ns` restored is still seen as new.
    """

    device: int
    inode: int
    size: int
    mtime_ns: int
    ctime_ns: int

    @classmethod
    def of(cls, stat: os.stat_result) -> Fingerprint:
        """Take the fingerprint out of what `stat` said."""
        return cls(stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns)

    @classmethod
    def parse(cls, text: str) -> Fingerprint:
        """Read what `str` wrote."""
        return cls._make(map(int, text.split(":")))

    def __str__(self) -> str:
        return f"{self.device}:{self.inode}:{self.size}:{self.mtime_ns}:{self.ctime_ns}"


class Candidate(NamedTuple):
    """One version of one local file. `path` is absolute; bytes that are not UTF-8 are surrogates."""

    path: str
    fingerprint: Fingerprint

    def identity(self, source: str) -> bytes:
        """Name this version for this source: the same version always gets the same 16 bytes."""
        text = f"{source}\0{self.path}\0{self.fingerprint}"
        return hashlib.blake2b(os.fsencode(text), digest_size=16).digest()


class ObjectRef(NamedTuple):
    """One object in S3."""

    bucket: str
    key: str

    def __str__(self) -> str:
        return f"s3://{self.bucket}/{self.key}"


class State(enum.IntEnum):
    """Where a promise stands.

    READY   written down, nobody has been asked to carry it yet
    SENT    a carrier has it, or may have it (asked, but its answer was lost)
    STORED  proven to be in S3; the local file is not yet dealt with
    DONE    stored, and the local file is dealt with
    DROPPED never stored, because this version of the file was gone before it could be; promised anew if
            it is found again
    FAILED  quarantined: kept on disk and listed, tried again only when asked or when the file changes
    """

    READY = 0
    SENT = 1
    STORED = 2
    DONE = 3
    DROPPED = 4
    FAILED = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Transfer:
    """A promise to make `target` hold the bytes of `body`.

    It never changes. How far it has got is the ledger's business, so a copy of this value can be handed
    to any thread and never goes stale.
    """

    id: bytes
    source: str
    carrier: str
    body: Candidate
    target: ObjectRef
    metadata: Mapping[str, str] = field(default_factory=dict)


class Verdict(enum.Enum):
    """What a carrier has to say about a promise.

    STORED   the object is in S3, whole
    AGAIN    the carrier has lost it, or could not try: send it again, at no cost to it
    REFUSED  it was tried and said no: this file is at fault, as far as one can tell
    BLOCKED  it was tried and said no, for a reason that holds for the whole bucket
    CHANGED  the file is not the version that was promised any more; nothing of it was stored
    """

    STORED = "stored"
    AGAIN = "again"
    REFUSED = "refused"
    BLOCKED = "blocked"
    CHANGED = "changed"


class Effect(enum.Enum):
    """What storing a file came to for its bucket, by the name of the counter; as far as anybody looked."""

    ADDED = "added"
    UPDATED = "updated"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """One piece of news from a carrier about the promise with this receipt.

    `promise` is the id that the carrier names; only if it names none (None) is the receipt all there is.
    `wait` is for how many seconds it should not be sent AGAIN. `etag` is that of a stored object, if told,
    and `effect` what it replaced.
    """

    verdict: Verdict
    lane: str = ""
    receipt: int | None = None
    note: str = ""
    promise: bytes | None = None
    wait: float = 0.0
    etag: str = ""
    effect: Effect = Effect.ADDED


@dataclass(frozen=True, slots=True)
class Trouble:
    """Something does not work, since then (wall-clock seconds), for this reason."""

    since: float
    reason: str
