"""The bytes of a request, read from an open file while they are sent.

A body is sent with its checksum in front of it, so its bytes are read before they are sent. A small one
is read once and held; a larger one is read twice, and hashed again as it is sent: if the second reading
differs, its last chunk is never sent, and nothing of a torn object is stored. Neither moves the
position of the descriptor: parts of one file may be sent from one descriptor at the same time.
"""

from __future__ import annotations

import hashlib
import os
from typing import TYPE_CHECKING

from tidegate.errors import TidegateError
from tidegate.store.checksum import Digest, digest_of, hasher

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

Buffer = bytes | bytearray | memoryview

CHUNK_BYTES = 256 * 1024


class BodyChanged(TidegateError):  # noqa: N818 - it is news, not a mishap
    """The bytes are not what they were when their checksum was taken, or fewer. Nothing was stored."""


def _nothing() -> None:
    """Check nothing."""


class Body:
    """`size` bytes of an open file from `offset` on. Used by one thread, for one request and its repetition.

    `check` is called before each chunk is read or sent, and about each second while the network does not
    move, with `to_the_end` also while the answer is awaited; whatever it raises ends the request and reaches
    the caller. `take` is asked for leave to send so
    many bytes; it may wait, and answers how many of them may go now, at least one. `buffer`, if it can take
    all of the body, is where that is held to be read only once; it belongs to the caller, who must not use
    it until the request is done.

    Reading raises OSError as the file does, and `BodyChanged`.
    """

    __slots__ = (
        "_buffer",
        "_descriptor",
        "_digest",
        "_held",
        "_offset",
        "_take",
        "check",
        "size",
        "to_the_end",
    )

    def __init__(
        self,
        descriptor: int,
        size: int,
        *,
        offset: int = 0,
        check: Callable[[], None] = _nothing,
        take: Callable[[int], int] | None = None,
        buffer: bytearray | None = None,
        to_the_end: bool = False,
    ) -> None:
        self._descriptor = descriptor
        self.size = size
        self._offset = offset
        self.check = check
        self._take = take
        self.to_the_end = to_the_end
        self._buffer = buffer
        self._held: Buffer | None = None
        self._digest: Digest | None = None

    @property
    def digest(self) -> Digest:
        """The checksum, once it was taken."""
        assert self._digest is not None
        return self._digest

    def measure(self, algorithm: str, *, sha256: bool = False) -> tuple[Digest, str]:
        """Take the checksum, and the SHA-256 in hex where it is asked for (otherwise empty)."""
        if self._held is None and not self._hold():
            return self._measure_chunks(algorithm, sha256=sha256)
        held = self._held
        assert held is not None
        self._digest = digest_of(algorithm, held)
        return self._digest, hashlib.sha256(held).hexdigest() if sha256 else ""

    def chunks(self) -> Iterator[Buffer]:
        """Yield what is to be sent. Each chunk is good until the next is asked for."""
        if self._held is None:
            yield from self._proven_chunks()
            return
        view = memoryview(self._held) if self.size > CHUNK_BYTES else self._held
        for start in range(0, self.size, CHUNK_BYTES):
            self.check()
            chunk = view[start : start + CHUNK_BYTES] if self.size > CHUNK_BYTES else view
            yield from self._granted(chunk)

    def _hold(self) -> bool:
        """Read it all if it may be held; return whether it is."""
        if self.size <= CHUNK_BYTES and self._buffer is None:
            self.check()
            held = os.pread(self._descriptor, self.size, self._offset)
            if len(held) == self.size:  # a file system may give less at once
                self._held = held
                return True
        if self._buffer is None or len(self._buffer) < self.size:
            return False
        whole = memoryview(self._buffer)[: self.size]
        for start in range(0, self.size, CHUNK_BYTES):
            self.check()
            self._read(whole[start : start + CHUNK_BYTES], start)
        self._held = whole
        return True

    def _measure_chunks(self, algorithm: str, *, sha256: bool) -> tuple[Digest, str]:
        begun, second = hasher(algorithm), hashlib.sha256()
        for chunk in self._read_chunks():
            begun.update(chunk)
            if sha256:
                second.update(chunk)
        self._digest = begun.digest()
        return self._digest, second.hexdigest() if sha256 else ""

    def _proven_chunks(self) -> Iterator[Buffer]:
        """Read it once more, and keep the last chunk back until all is known to be as it was."""
        begun = hasher(self._digest.algorithm) if self._digest else None
        left = self.size
        for chunk in self._read_chunks():
            left -= len(chunk)
            if begun is not None:
                begun.update(chunk)
                if not left and begun.digest() != self._digest:
                    raise BodyChanged("the file was changed while it was sent")
            yield from self._granted(chunk)

    def _granted(self, chunk: Buffer) -> Iterator[Buffer]:
        """Hand the chunk out as fast as that is allowed."""
        count = self._take(len(chunk)) if self._take else len(chunk)
        if count == len(chunk):
            yield chunk
            return
        left = memoryview(chunk)
        while left:
            yield left[:count]
            left = left[count:]
            self.check()  # slices may be seconds apart
            count = self._take(len(left)) if left and self._take else 0

    def _read_chunks(self) -> Iterator[memoryview]:
        view = memoryview(bytearray(min(self.size, CHUNK_BYTES)))
        for start in range(0, self.size, CHUNK_BYTES):
            self.check()
            chunk = view[: min(CHUNK_BYTES, self.size - start)]
            self._read(chunk, start)
            yield chunk

    def _read(self, into: memoryview, start: int) -> None:
        """Fill the view with the bytes from `start` on."""
        done = 0
        while done < len(into):
            count = os.preadv(self._descriptor, [into[done:]], self._offset + start + done)
            if not count:
                raise BodyChanged(f"the file ends after {self._offset + start + done} bytes")
            done += count
