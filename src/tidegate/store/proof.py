"""Whether the bytes that came are those that S3 has: with whatever checksum it keeps of them."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from tidegate.store.checksum import CRC32C, CRC64NVME, MD5, SHA256, combine, hasher

if TYPE_CHECKING:
    from tidegate.store.archive_calls import Archive
    from tidegate.store.checksum import Digest, Hasher
    from tidegate.store.stored import Stored

_BEST_FIRST = (CRC64NVME, SHA256, CRC32C)


class Proof:
    """Takes the bytes of one object in their order, and says at the end whether they are right.

    A checksum of parts' checksums needs the size of the parts, which S3 is asked for: all of them are as
    large as the first, but for the last.
    """

    def __init__(self, stored: Stored, part_size: int | None) -> None:
        """`part_size` is of an object in parts, None for one without."""
        self._stored = stored
        self._part_size = part_size
        self._algorithm = _algorithm(stored)
        self._hasher: Hasher = hasher(self._algorithm)
        self._begun = 0
        self._digests: list[Digest] = []

    @classmethod
    def of(cls, archive: Archive, bucket: str, key: str, version: str, stored: Stored) -> Proof:
        """Begin one. Raises what asking S3 raises."""
        size = archive.stored(bucket, key, version, part=1).size if _parts(stored) else None
        return cls(stored, size)

    def update(self, data: bytes) -> None:
        """Take the next bytes."""
        view = memoryview(data)
        while self._part_size and len(view) >= (room := self._part_size - self._begun):
            self._hasher.update(view[:room])
            self._digests.append(self._hasher.digest())
            self._hasher, self._begun = hasher(self._algorithm), 0
            view = view[room:]
        self._hasher.update(view)
        self._begun += len(view)

    def holds(self) -> bool | None:
        """Whether they are right; None where S3 keeps nothing to tell that by, but the size."""
        if not self._part_size:
            return self._stored.proves(self._hasher.digest())
        digests = [*self._digests, *([self._hasher.digest()] if self._begun else [])]
        if len(digests) != _parts(self._stored):
            return None  # parts of several sizes
        return self._stored.proves(combine(digests))


def _algorithm(stored: Stored) -> str:
    """The best checksum that S3 keeps of it and that can be computed here; else MD5, for the ETag."""
    for name in _BEST_FIRST:
        if name in stored.checksums:
            with suppress(ValueError):
                hasher(name)
                return name
    return MD5


def _parts(stored: Stored) -> int:
    """Of how many parts' checksums the checksum is one; 0 for one of all bytes."""
    algorithm = _algorithm(stored)
    text = stored.etag if algorithm == MD5 else stored.checksums[algorithm]
    _, _, count = text.partition("-")
    return int(count) if count.isdigit() else 0
