"""Brings one object here: piece by piece, at the speed that is allowed, and proven before it counts."""

from __future__ import annotations

import os
from hashlib import sha256
from typing import TYPE_CHECKING

from tidegate.config import Verify
from tidegate.disk.space import Room
from tidegate.disk.target import mark_of
from tidegate.errors import Refused
from tidegate.spool.spool import RESERVE
from tidegate.store.pieces import bring_rest, show
from tidegate.store.proof import Proof

if TYPE_CHECKING:
    from collections.abc import Callable

    from tidegate.carry.direct.throttle import Throttle
    from tidegate.config import Download
    from tidegate.disk.target import Target
    from tidegate.store.library import Library, Listed
    from tidegate.store.stored import Stored

SMALL_BYTES = 2**20
"""Up to this size one request brings an object and what proves it."""


class Wrong(Refused):
    """What came is not what S3 says that it has. It was thrown away."""


class Moved(Refused):
    """It is not the object any more that was listed."""


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
        self._room = Room(target.root, reserve=RESERVE.free_bytes or 0)

    def bring(self, wanted: Listed, check: Callable[[], None]) -> tuple[str, str, str]:
        """Bring an object. Returns the name of the part that it is now, its ETag, and its mark.

        `check` is called between pieces, and what it raises ends it; another try goes on from there. Raises
        Refused for what cannot be had so, with the reason, and what asking S3 and the disk raise.
        """
        name = self.part_of(wanted)
        with self._room.kept(wanted.size):
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
            show(descriptor, proof, os.fstat(descriptor).st_size, check)
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
        bucket, key = self._settings.bucket, wanted.key
        stored = self._library.stored(bucket, key)
        if stored.etag != wanted.etag:
            raise Moved("another object has taken its place just now")
        proof = self._proof(key, stored)
        with self._target.part(name, more=True) as file:
            bring_rest(
                file,
                self._library.archive,
                (bucket, key, ""),
                stored,
                proof,
                take=lambda count: self._meter(count, check),
                check=check,
            )
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
