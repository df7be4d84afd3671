"""Brings one object here: piece by piece, at the speed that is allowed, and proven before it counts."""

from __future__ import annotations

import os
import threading
from contextlib import contextmanager
from hashlib import sha256
from typing import TYPE_CHECKING

from tidegate.config import Verify
from tidegate.disk.space import usage_of
from tidegate.disk.target import mark_of
from tidegate.errors import Refused
from tidegate.restore.proof import Proof
from tidegate.spool.spool import RESERVE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tidegate.carry.direct.throttle import Throttle
    from tidegate.config import Download
    from tidegate.disk.target import Target
    from tidegate.store.library import Library, Listed
    from tidegate.store.stored import Stored

SMALL_BYTES = 2**20
"""Up to this size one request brings an object and what proves it."""

LEAST_PIECE, MOST_PIECE = 64 * 2**10, 4 * 2**20
_QUICK_SECONDS, _SLOW_SECONDS = 0.25, 1.0


class Wrong(Refused):
    """What came is not what S3 says that it has. It was thrown away."""


class Moved(Refused):
    """It is not the object any more that was listed."""


class NoRoom(Refused):
    """The disk is too full for it now."""


class Bringer:
    """Brings the objects of one source. Safe to use from several threads."""

    def __init__(
        self,
        settings: Download,
        library: Library,
        target: Target,
        throttle: Throttle,
        *,
        steady: Callable[[], float],
    ) -> None:
        self._settings = settings
        self._library = library
        self._target = target
        self._throttle = throttle
        self._steady = steady
        self._lock = threading.Lock()
        self._claimed = 0

    def bring(self, wanted: Listed, check: Callable[[], None]) -> tuple[str, str, str]:
        """Bring an object. Returns the name of the part that it is now, its ETag, and its mark.

        `check` is called between pieces, and what it raises ends it; another try goes on from there. Raises
        Refused for what cannot be had so, with the reason, and what asking S3 and the disk raise.
        """
        name = self.part_of(wanted)
        with self._room(wanted.size):
            if wanted.size <= SMALL_BYTES:
                stored, mark = self._bring_whole(wanted, name, check)
            else:
                stored, mark = self._bring_pieces(wanted, name, check)
        return name, stored.etag, mark

    def part_of(self, wanted: Listed) -> str:
        """Return what a part of this version of an object is called."""
        text = f"{self._settings.bucket}\0{wanted.key}\0{wanted.etag}"
        return sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:40]

    def has(self, wanted: Listed, path: str, check: Callable[[], None]) -> bool:
        """Tell whether a file of this size that is there already holds the object. Only a proof counts."""
        stored = self._library.stored(self._settings.bucket, wanted.key)
        proof = self._proof(wanted.key, stored)
        with self._target.opened(path) as descriptor:
            _show(descriptor, proof, os.fstat(descriptor).st_size, check)
        return stored.etag == wanted.etag and bool(proof.holds())

    def _bring_whole(self, wanted: Listed, name: str, check: Callable[[], None]) -> tuple[Stored, str]:
        self._meter(wanted.size, check)
        stored, data = self._library.whole(self._settings.bucket, wanted.key, wanted.etag)
        proof = self._proof(wanted.key, stored)
        proof.update(data)
        with self._target.part(name) as file:
            file.write(data)
            file.flush()
            return stored, self._finish(file.fileno(), name, proof, stored)

    def _bring_pieces(self, wanted: Listed, name: str, check: Callable[[], None]) -> tuple[Stored, str]:
        archive, bucket, key = self._library.archive, self._settings.bucket, wanted.key
        stored = self._library.stored(bucket, key)
        if stored.etag != wanted.etag:
            raise Moved("another object has taken its place just now")
        proof = self._proof(key, stored)
        size, length = stored.size or 0, LEAST_PIECE * 4
        with self._target.part(name, more=True) as file:
            at = _show(file.fileno(), proof, min(size, os.fstat(file.fileno()).st_size), check)
            file.truncate(at)
            while at < size:
                end = min(size, at + length)
                length = self._next_length(length, self._meter(end - at, check))
                data = archive.piece(bucket, key, "", stored.etag, at, end)
                file.write(data)
                proof.update(data)
                at = end
            file.flush()
            return stored, self._finish(file.fileno(), name, proof, stored)

    def _proof(self, key: str, stored: Stored) -> Proof:
        return Proof.of(self._library.archive, self._settings.bucket, key, "", stored)

    def _finish(self, descriptor: int, name: str, proof: Proof, stored: Stored) -> str:
        """See that the file is right, and durable. Returns its mark."""
        verdict = proof.holds()
        status = os.fstat(descriptor)
        if verdict is False or status.st_size != stored.size:
            self._target.throw_away(name)
            raise Wrong("what came is not what S3 says that it has")
        if verdict is None and self._settings.verify is Verify.CHECKSUM:
            raise Refused("S3 has no checksum of it that could be compared; write Verify: Head to do without")
        os.fsync(descriptor)
        return mark_of(status)

    def _meter(self, count: int, check: Callable[[], None]) -> float:
        """Wait until so many bytes may come. Returns how long that was, in seconds."""
        check()
        began = self._steady()
        while count > 0:
            count -= self._throttle.take(count, self._settings.priority, check)
        return self._steady() - began

    def _next_length(self, length: int, seconds: float) -> int:
        """Ask for so much that a limit is kept from moment to moment, with few requests."""
        if seconds > _SLOW_SECONDS:
            return max(LEAST_PIECE, length // 2)
        return min(MOST_PIECE, length * 2) if seconds < _QUICK_SECONDS else length

    @contextmanager
    def _room(self, size: int) -> Iterator[None]:
        """Keep so much of the disk for the block. Raises NoRoom where there is less."""
        with self._lock:
            usage = usage_of(self._target.root)
            free = usage.free - self._claimed - (RESERVE.free_bytes or 0)
            if (usage.used or usage.free) and size > free:
                raise NoRoom(f"no room in {self._target.root} for {size} bytes more")
            self._claimed += size
        try:
            yield
        finally:
            with self._lock:
                self._claimed -= size


def _show(descriptor: int, proof: Proof, size: int, check: Callable[[], None]) -> int:
    """Let the proof see the beginning of a file. Returns how many bytes that were."""
    at = 0
    while at < size:
        check()
        data = os.pread(descriptor, min(MOST_PIECE, size - at), at)
        if not data:
            break
        proof.update(data)
        at += len(data)
    return at
