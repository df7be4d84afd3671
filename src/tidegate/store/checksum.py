"""Checksums that S3 keeps with an object, computed piece by piece.

CRC64NVME is S3's own choice for what comes without any, and the only one of these whose checksum of a
multipart object is that of its bytes; for the others it is a checksum of the parts' checksums with the
number of parts behind it (Amazon S3 user guide, "Checking object integrity"). MD5 is for stores that
answer with nothing but an ETag. The CRCs are computed by awscrt, about 50 GB/s where SHA-256 makes 1.
"""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from tidegate.store import crt

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tidegate.store.body import Buffer

CRCS = crt.load()
"""None where there is no wheel of awscrt for this machine, and nothing to build it with."""

CRC64NVME, CRC32C, SHA256, MD5 = "CRC64NVME", "CRC32C", "SHA256", "MD5"


@dataclass(frozen=True, slots=True)
class Digest:
    """The checksum of `size` bytes, or where `parts` is not 0 one of that many checksums of parts."""

    algorithm: str
    raw: bytes
    size: int
    parts: int = 0

    @property
    def text(self) -> str:
        """As headers have it: base64, big-endian."""
        text = base64.b64encode(self.raw).decode()
        return f"{text}-{self.parts}" if self.parts else text

    @property
    def etag(self) -> str:
        """As the ETag of an unencrypted object would be if this is an MD5."""
        return f"{self.raw.hex()}-{self.parts}" if self.parts else self.raw.hex()


class Hasher(Protocol):
    """Takes bytes as they come."""

    def update(self, data: Buffer, /) -> None:
        """Take more bytes."""

    def digest(self) -> Digest:
        """Say what the checksum of all bytes so far is."""


def best(*, has_crt: bool = CRCS is not None) -> str:
    """Name the algorithm to use where the store knows them all."""
    return CRC64NVME if has_crt else SHA256


def hasher(algorithm: str) -> Hasher:
    """Begin a checksum. Raises ValueError for an algorithm that cannot be computed here."""
    if algorithm == CRC64NVME and CRCS is not None:
        return _Crc(algorithm, CRCS.crc64nvme, 8)
    if algorithm == CRC32C and CRCS is not None:
        return _Crc(algorithm, CRCS.crc32c, 4)
    if algorithm in (SHA256, MD5):
        return _Hash(algorithm)
    raise ValueError(f"{algorithm} cannot be computed here: it needs the package awscrt")


def digest_of(algorithm: str, data: Buffer) -> Digest:
    """Compute the checksum of some bytes."""
    begun = hasher(algorithm)
    begun.update(data)
    return begun.digest()


def combine(parts: Sequence[Digest]) -> Digest:
    """Compute what S3 says of an object that consists of these parts, in this order.

    Raises ValueError without parts, or where they were not computed alike.
    """
    if len({part.algorithm for part in parts}) != 1:
        raise ValueError("a checksum is combined of parts with one algorithm")
    algorithm, size = parts[0].algorithm, sum(part.size for part in parts)
    if algorithm == CRC64NVME and CRCS is not None:
        value = int.from_bytes(parts[0].raw, "big")
        for part in parts[1:]:
            value = CRCS.combine_crc64nvme(value, int.from_bytes(part.raw, "big"), part.size)
        return Digest(algorithm, value.to_bytes(8, "big"), size)
    whole = digest_of(algorithm, b"".join(part.raw for part in parts))
    return Digest(algorithm, whole.raw, size, len(parts))


class _Crc:
    __slots__ = ("_algorithm", "_compute", "_length", "_size", "_value")

    def __init__(self, algorithm: str, compute: Callable[..., int], length: int) -> None:
        self._algorithm = algorithm
        self._compute = compute
        self._length = length
        self._size = self._value = 0

    def update(self, data: Buffer, /) -> None:
        self._value = self._compute(data, self._value)
        self._size += len(data)

    def digest(self) -> Digest:
        return Digest(self._algorithm, self._value.to_bytes(self._length, "big"), self._size)


class _Hash:
    __slots__ = ("_algorithm", "_hash", "_size")

    def __init__(self, algorithm: str) -> None:
        self._algorithm = algorithm
        self._hash = hashlib.sha256() if algorithm == SHA256 else hashlib.md5(usedforsecurity=False)
        self._size = 0

    def update(self, data: Buffer, /) -> None:
        self._hash.update(data)
        self._size += len(data)

    def digest(self) -> Digest:
        return Digest(self._algorithm, self._hash.digest(), self._size)
