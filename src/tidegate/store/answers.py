"""Reads HTTP/1.1 answers out of a stream of bytes: as much of it as S3 and its kin send, and nothing odd."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tidegate.errors import Unavailable

if TYPE_CHECKING:
    from collections.abc import Callable

HEAD_LIMIT = 65_536
BODY_LIMIT = 8 * 1024 * 1024  # a page of 1,000 uploads with the longest keys is smaller

_BODILESS = frozenset((204, 304))


@dataclass(frozen=True, slots=True)
class Answer:
    """What the server said. Header names are in lower case; `body` is complete."""

    status: int
    headers: dict[str, str]
    body: bytes


class Reader:
    """Takes answers off a connection, one after the other.

    `receive` returns some bytes, none at the end of the stream. Every method raises `Unavailable` for
    what is not an answer, or not all of one.
    """

    __slots__ = ("_receive", "pending")

    def __init__(self, receive: Callable[[], bytes]) -> None:
        self._receive = receive
        self.pending = b""

    def early(self) -> bool:
        """Whether what has come in is, or begins, a final answer; interim ones (1xx) are dropped."""
        while self.pending.startswith(b"HTTP/1.1 1"):
            end = self.pending.find(b"\r\n\r\n")
            if end < 0:
                return False
            self.pending = self.pending[end + 4 :]
        return bool(self.pending)

    def read(self, *, is_head: bool) -> tuple[Answer, bool]:
        """Read the next final answer, and whether another may follow on this connection."""
        while True:
            version, status, headers = self._read_head()
            if status >= 200:
                break
        connection = headers.get("connection", "").lower()
        lasting = connection != "close" if version == "HTTP/1.1" else connection == "keep-alive"
        if is_head or status in _BODILESS:
            return Answer(status, headers, b""), lasting
        if headers.get("transfer-encoding", "identity").lower() == "chunked":
            return Answer(status, headers, self._read_chunks()), lasting
        length = headers.get("content-length")
        if length is None:
            return Answer(status, headers, self._read_to_end()), False
        if not (length.isascii() and length.isdigit()):
            raise Unavailable(f"the server sent an answer of {length!r} bytes")
        return Answer(status, headers, self._take(int(length))), lasting

    def _read_head(self) -> tuple[str, int, dict[str, str]]:
        while (end := self.pending.find(b"\r\n\r\n")) < 0:
            if len(self.pending) > HEAD_LIMIT:
                raise Unavailable("the server sent headers without end")
            self._more()
        first, *lines = self.pending[:end].decode("latin-1").split("\r\n")
        self.pending = self.pending[end + 4 :]
        words = first.split(" ", 2)
        if len(words) < 2 or words[0] not in ("HTTP/1.1", "HTTP/1.0") or not _is_status(words[1]):
            raise Unavailable(f"the server does not speak HTTP: {first[:80]!r}")
        headers = {}
        for line in lines:
            name, colon, value = line.partition(":")
            if not colon or name[:1] in "\t ":
                raise Unavailable(f"the server sent a header that is none: {line[:80]!r}")
            headers[name.lower()] = value.strip()
        return words[0], int(words[1]), headers

    def _read_chunks(self) -> bytes:
        pieces, total = [], 0
        while True:
            size_text = self._take_line().split(b";", 1)[0].strip()
            try:
                size = int(size_text, 16)
            except ValueError:
                raise Unavailable(f"the server sent a chunk of {size_text[:20]!r} bytes") from None
            total += size
            if size < 0 or total > BODY_LIMIT:
                raise Unavailable("the server sent an answer that is too long")
            if not size:
                break
            pieces.append(self._take(size))
            if self._take_line():
                raise Unavailable("the server sent a chunk that is longer than it said")
        while self._take_line():
            pass  # trailers
        return b"".join(pieces)

    def _read_to_end(self) -> bytes:
        while more := self._receive():
            self.pending += more
            if len(self.pending) > BODY_LIMIT:
                raise Unavailable("the server sent an answer that is too long")
        return self._take(len(self.pending))

    def _take_line(self) -> bytes:
        while (end := self.pending.find(b"\r\n")) < 0:
            if len(self.pending) > HEAD_LIMIT:
                raise Unavailable("the server sent a line without end")
            self._more()
        line = self.pending[:end]
        self.pending = self.pending[end + 2 :]
        return line

    def _take(self, size: int) -> bytes:
        if size > BODY_LIMIT:
            raise Unavailable("the server sent an answer that is too long")
        pieces, there = [self.pending], len(self.pending)
        while there < size:
            piece = self._receive()
            if not piece:
                raise Unavailable("the server hung up in the middle of its answer")
            pieces.append(piece)
            there += len(piece)
        whole = b"".join(pieces)
        self.pending = whole[size:]
        return whole[:size]

    def _more(self) -> None:
        piece = self._receive()
        if not piece:
            raise Unavailable("the server hung up in the middle of its answer")
        self.pending += piece


def _is_status(word: str) -> bool:
    return len(word) == 3 and word.isascii() and word.isdigit() and word[0] in "12345"
