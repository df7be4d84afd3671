"""An object that comes piece by piece: what is here of it already is gone on with, and its proof sees all."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, BinaryIO

if TYPE_CHECKING:
    from collections.abc import Callable

    from tidegate.store.archive_calls import Archive
    from tidegate.store.proof import Proof
    from tidegate.store.stored import Stored

LEAST_PIECE, MOST_PIECE = 64 * 2**10, 4 * 2**20
_QUICK_SECONDS, _SLOW_SECONDS = 0.25, 1.0


def bring_rest(
    file: BinaryIO,
    archive: Archive,
    name: tuple[str, str, str],
    stored: Stored,
    proof: Proof,
    *,
    take: Callable[[int], float],
    check: Callable[[], None],
    length: int = 4 * LEAST_PIECE,
) -> None:
    """Add to a file, which is open for that, what it lacks of the object `name`: bucket, key and version.

    Before each piece `take` is told of how many bytes it will be, waits for as long as a limit wants, and
    returns how long that was, in seconds. The first piece is of `length` bytes, later ones are longer where
    nobody had to wait. What `take` or `check` raises breaks it off; so does what asking S3 and writing raise,
    and 412 of S3 if another object has taken the place of the one that is `stored`.
    """
    size = stored.size or 0
    at = show(file.fileno(), proof, min(size, os.fstat(file.fileno()).st_size), check)
    file.truncate(at)
    while at < size:
        check()
        end = min(size, at + length)
        length = _next_length(length, take(end - at))
        data = archive.piece(*name, stored.etag, at, end)
        file.write(data)
        proof.update(data)
        at = end
    file.flush()


def show(descriptor: int, proof: Proof, size: int, check: Callable[[], None]) -> int:
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


def _next_length(length: int, seconds: float) -> int:
    """Ask for so much that a limit is kept from moment to moment, with few requests."""
    if seconds > _SLOW_SECONDS:
        return max(LEAST_PIECE, length // 2)
    return min(MOST_PIECE, length * 2) if seconds < _QUICK_SECONDS else length
