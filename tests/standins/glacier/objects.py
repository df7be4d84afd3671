"""Buckets and the versions in them; also a million of them that are made up when somebody looks."""

from __future__ import annotations

import bisect
import functools
import hashlib
import heapq
import uuid
from array import array
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from tests.standins.glacier.errors import Refusal

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tests.standins.glacier.notifications import Rules

ARCHIVES = ("GLACIER", "DEEP_ARCHIVE")
TIERING = "INTELLIGENT_TIERING"
SMALL = 65_536  # bytes: up to here an object that was made up has bytes of its own
HUGE = 64 * 1024 * 1024  # bytes: from here on nobody computes what nobody reads
NULL = "null"  # the version ID of what was stored without versioning


class Restore(NamedTuple):
    """A restore that began: under way until `ready`, then a copy until `expiry` (seconds since 1970)."""

    tier: str
    days: int
    ready: float
    expiry: float


@dataclass(slots=True, eq=False)
class Stored:
    """One version of an object, or a delete marker. `body` None: the bytes are made up from key and size."""

    key: str
    size: int
    modified: float
    storage_class: str = "STANDARD"
    access_tier: str = ""  # of Intelligent-Tiering: where it sleeps
    version: str = NULL
    is_marker: bool = False
    body: bytes | None = None
    parts: tuple[int, ...] = ()  # sizes
    headers: dict[str, str] = field(default_factory=dict)
    checksummed: bool = True  # S3 computes a CRC-64 of everything it got since the end of 2024
    row: Restore | None = None
    crowd: Crowd | None = None
    index: int = 0
    _etag: str = ""

    @property
    def restore(self) -> Restore | None:
        return self.crowd.restore_of(self.index) if self.crowd else self.row

    @restore.setter
    def restore(self, restore: Restore) -> None:
        if self.crowd:
            self.crowd.set_restore(self.index, restore)
        else:
            self.row = restore

    @property
    def content(self) -> bytes:
        return self.cut(0, self.size)

    def cut(self, start: int, end: int) -> bytes:
        """Return some of the bytes, without making up the others."""
        return content_of(self.key, self.size, start, end) if self.body is None else self.body[start:end]

    @property
    def etag(self) -> str:
        """The MD5 of the bytes, or of the MD5s of the parts and their number.

        Of huge objects that were made up it only looks like that.
        """
        if not self._etag:
            if self.parts:
                self._etag = etag_of_parts(self.content, self.parts)
            elif self.body is None and self.size > SMALL:
                self._etag = _etag_of_large(self.size)
            else:
                self._etag = hashlib.md5(self.content).hexdigest()
        return self._etag


def content_of(key: str, size: int, start: int, end: int) -> bytes:
    """Make up the bytes of an object: small ones all differ, large ones are the same for each size."""
    pattern = key.encode() + b"\n" if size <= SMALL else b"0123456789abcdef"
    skipped = start % len(pattern)
    length = end - start
    return (pattern * ((skipped + length) // len(pattern) + 1))[skipped : skipped + length]


@functools.lru_cache(maxsize=64)
def _etag_of_large(size: int) -> str:
    if size > HUGE:
        return f"{hashlib.md5(str(size).encode()).hexdigest()}-{size // HUGE + 1}"
    return hashlib.md5(content_of("", size, 0, size)).hexdigest()


def etag_of_parts(content: bytes, parts: Sequence[int]) -> str:
    digests, start = b"", 0
    for size in parts:
        digests += hashlib.md5(content[start : start + size]).digest()
        start += size
    return f"{hashlib.md5(digests).hexdigest()}-{len(parts)}"


class Crowd:
    """Many objects with numbered keys, and 25 bytes for each once a restore has begun.

    Sizes, classes and access tiers go round: object number n has the one at n modulo how many there are.
    """

    TIERS = ("Bulk", "Standard", "Expedited")

    def __init__(
        self,
        count: int,
        modified: float,
        *,
        prefix: str,
        suffix: str,
        sizes: Sequence[int],
        classes: Sequence[str],
        access_tiers: Sequence[str],
    ) -> None:
        self.count = count
        self.gone: set[int] = set()  # those that were deleted or have become rows
        self._modified = modified
        self._prefix, self._suffix = prefix, suffix
        self._sizes, self._classes, self._access_tiers = sizes, classes, access_tiers
        self._width = len(str(max(count - 1, 0)))
        self._tiers = bytearray()
        self._days = self._ready = self._expiry = array("d")

    def key(self, index: int) -> str:
        return f"{self._prefix}{index:0{self._width}d}{self._suffix}"

    def find(self, key: str) -> Stored | None:
        end = len(key) - len(self._suffix)
        digits = key[len(self._prefix) : end]
        if len(digits) != self._width or not (digits.isascii() and digits.isdigit()):
            return None
        index = int(digits)
        if index >= self.count or index in self.gone or self.key(index) != key:
            return None
        return self[index]

    def __getitem__(self, index: int) -> Stored:
        return Stored(
            self.key(index),
            self._sizes[index % len(self._sizes)],
            self._modified,
            self._classes[index % len(self._classes)],
            self._access_tiers[index % len(self._access_tiers)],
            crowd=self,
            index=index,
        )

    def after(self, bound: str, *, inclusive: bool) -> Iterator[Stored]:
        """Yield what comes after `bound`, or with it, by key."""
        search = bisect.bisect_left if inclusive else bisect.bisect_right
        for index in range(search(_Keys(self), bound), self.count):
            if index not in self.gone:
                yield self[index]

    def restore_of(self, index: int) -> Restore | None:
        if not self._tiers or not self._tiers[index]:
            return None
        tier = self.TIERS[self._tiers[index] - 1]
        return Restore(tier, int(self._days[index]), self._ready[index], self._expiry[index])

    def set_restore(self, index: int, restore: Restore) -> None:
        if not self._tiers:
            self._tiers = bytearray(self.count)
            self._days, self._ready, self._expiry = (array("d", bytes(8 * self.count)) for _ in range(3))
        self._tiers[index] = self.TIERS.index(restore.tier) + 1
        self._days[index], self._ready[index], self._expiry[index] = restore[1:]

    @property
    def restores(self) -> int:
        """How many have ever been asked for."""
        return self.count - self._tiers.count(0) if self._tiers else 0


class _Keys:
    """The keys of a crowd as a sequence to search in."""

    def __init__(self, crowd: Crowd) -> None:
        self._crowd = crowd

    def __len__(self) -> int:
        return self._crowd.count

    def __getitem__(self, index: int) -> str:
        return self._crowd.key(index)


class Bucket:
    """Versions by key, oldest first."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.versioning = ""
        self.rules: Rules | None = None
        self.notification = b""  # as it was put
        self.crowds: list[Crowd] = []
        self._rows: dict[str, list[Stored]] = {}
        self._order: list[str] = []

    def put(self, stored: Stored) -> Stored:
        """Store a version; without versioning it replaces the one there was."""
        crowd_member = self._in_crowds(stored.key)
        versions = self._rows.setdefault(stored.key, [])
        if not versions:
            bisect.insort(self._order, stored.key)
        if crowd_member is not None and crowd_member.crowd is not None:
            crowd_member.crowd.gone.add(crowd_member.index)
            versions.append(crowd_member)
        if self.versioning == "Enabled":
            stored.version = uuid.uuid4().hex
        else:
            versions[:] = [it for it in versions if it.version != NULL]
        versions.append(stored)
        return stored

    def delete(self, key: str, version: str | None, now: float) -> Stored | None:
        """Delete a version, or put a delete marker on top; return the marker or version, if any."""
        if version is None and self.versioning:
            return self.put(Stored(key, 0, now, is_marker=True))
        found = next((it for it in self.versions(key) if it.version == (version or NULL)), None)
        if found is not None:
            if found.crowd is not None:
                found.crowd.gone.add(found.index)
            self._forget(found)
        return found

    def _forget(self, stored: Stored) -> None:
        versions = self._rows.get(stored.key)
        if versions is None:
            return
        versions[:] = [it for it in versions if it.version != stored.version]
        if not versions:
            del self._rows[stored.key]
            del self._order[bisect.bisect_left(self._order, stored.key)]

    def find(self, key: str, version: str | None = None) -> Stored:
        """Find the current version or the one asked for; a delete marker is refused."""
        versions = self.versions(key)
        if version is not None:
            versions = [it for it in versions if it.version == version]
            if not versions:
                raise Refusal(404, "NoSuchVersion", "The specified version does not exist.")
        if not versions:
            raise Refusal(404, "NoSuchKey", "The specified key does not exist.")
        found = versions[-1]
        if found.is_marker:
            headers = {"x-amz-delete-marker": "true", "x-amz-version-id": found.version}
            if version is None:
                raise Refusal(404, "NoSuchKey", "The specified key does not exist.", headers=headers)
            message = "The specified method is not allowed against this resource."
            raise Refusal(405, "MethodNotAllowed", message, headers=headers)
        return found

    def versions(self, key: str) -> list[Stored]:
        """List the versions of a key, oldest first."""
        rows = self._rows.get(key)
        if rows is not None:
            return rows
        member = self._in_crowds(key)
        return [member] if member else []

    def after(self, prefix: str, bound: str, *, inclusive: bool = False) -> Iterator[list[Stored]]:
        """Yield the versions of each key with the prefix that comes after `bound`, in the order of keys."""
        start, inclusive = (prefix, True) if prefix > bound else (bound, inclusive)
        search = bisect.bisect_left if inclusive else bisect.bisect_right
        names = self._order[search(self._order, start) :]
        rows = (found for key in names if (found := self._rows.get(key)))
        crowds = (([it] for it in crowd.after(start, inclusive=inclusive)) for crowd in self.crowds)
        for versions in heapq.merge(rows, *crowds, key=lambda it: it[0].key):
            if not versions[0].key.startswith(prefix):
                return
            yield versions

    def _in_crowds(self, key: str) -> Stored | None:
        return next((found for crowd in self.crowds if (found := crowd.find(key))), None)

    @property
    def restores(self) -> int:
        """How many versions were ever asked for."""
        rows = sum(it.row is not None for versions in self._rows.values() for it in versions)
        return rows + sum(crowd.restores for crowd in self.crowds)
