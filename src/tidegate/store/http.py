"""Requests on one connection, one after the other: the part of HTTP/1.1 that uploads need.

A server may answer while it is still being sent to, with "no" or "slow down" as a rule: sending stops
and the answer is read, instead of being lost in a broken pipe.
"""

from __future__ import annotations

import contextlib
import select
import socket
import ssl
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tidegate.errors import Unavailable
from tidegate.store.answers import Answer, Reader
from tidegate.store.hub import is_task, wait
from tidegate.store.wire import GLANCE_SECONDS, connect

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from tidegate.store.body import Buffer
    from tidegate.store.wire import Address, Manner

_PIECE = 65_536
_JOIN_BYTES = 16_384  # up to here copying is cheaper than another system call
_EARLY = "it answered before it had all of the request, and hung up"


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What is asked. `target` and the lines of `head` are ready to be sent, without the Host header.

    `chunks` yields the body anew each time it is called; together they have the length that `head`
    says. `check` is called about each second while the body cannot be sent; what it raises ends the
    request; with `to_the_end` also while the answer is awaited. `repeatable` says that being carried out
    twice does no harm.
    """

    method: str
    target: str
    head: str
    chunks: Callable[[], Iterable[Buffer]] = tuple
    check: Callable[[], object] = tuple
    repeatable: bool = True
    to_the_end: bool = False


class Stale(Unavailable):
    """The connection was closed, and nothing of an answer came. On one that was kept, that is no news."""


class _Broken(Exception):  # noqa: N818 - it never leaves this module
    """Nobody takes any more bytes, but there may be an answer that says why."""


class Connection:
    """One connection, used by one thread at a time. After a failure, or an early answer, it is closed."""

    __slots__ = ("_address", "_glance", "_reader", "_seconds", "_secure", "_socket", "idle_since", "lasting")

    def __init__(self, address: Address, manner: Manner, context: ssl.SSLContext | None) -> None:
        self._address = address
        self._seconds = manner.read_seconds
        self._glance: Callable[[], object] = tuple
        self._secure = context is not None
        self._socket = connect(address, manner, context)
        self._reader = Reader(self._receive)
        self.lasting = True
        self.idle_since = 0.0

    def exchange(self, head: bytes, request: Request) -> Answer:
        """Send the request and read the answer.

        Raises `Unavailable` when the network or the server fails, and whatever the body raises.
        """
        self.lasting = False  # until all has gone well
        self._glance = request.check if request.to_the_end else tuple
        broken = self._send(head, request)
        try:
            answer, lasting = self._reader.read(is_head=request.method == "HEAD")
        except (OSError, Unavailable) as error:
            reason = self._say(broken or error)
            if not self._reader.pending and not isinstance(error, TimeoutError):
                raise Stale(reason) from error
            raise Unavailable(reason) from error
        self.lasting = lasting and not broken and not self._reader.pending
        return answer

    def is_fresh(self) -> bool:
        """Whether the server has neither hung up nor said anything unasked."""
        return not wait(self._socket, select.POLLIN, 0)

    def hang_up(self) -> None:
        """End it, from whatever thread: who waits for it stops waiting."""
        with contextlib.suppress(OSError):  # it was not connected any more
            self._socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Let go of it."""
        self.lasting = False
        self._socket.close()

    def _send(self, head: bytes, request: Request) -> str:
        """Send all of it; or until there is an answer or nobody listens, and return why it is not all."""
        try:
            for number, chunk in enumerate(request.chunks()):
                if number and self._has_answer():
                    return _EARLY
                if head and len(chunk) <= _JOIN_BYTES:
                    head, chunk = b"", head + chunk  # noqa: PLW2901 - one packet for a small request
                if head and not self._push(head, request):
                    return _EARLY
                head = b""
                if not self._push(chunk, request):
                    return _EARLY
            if head and not self._push(head, request):
                return _EARLY
        except _Broken as broken:
            return str(broken)
        return ""

    def _push(self, data: Buffer, request: Request) -> bool:
        """Send the data; False if there is an answer before that is done."""
        count = self._send_some(data)
        if count == len(data):
            return True
        view, waited = memoryview(data)[count:], 0.0
        while view:
            events = wait(self._socket, select.POLLIN | select.POLLOUT, GLANCE_SECONDS)
            if events & ~select.POLLOUT and self._has_answer():
                return False
            if not events:
                waited += GLANCE_SECONDS
                request.check()
                if waited >= self._seconds:
                    raise Unavailable(self._say(f"it took nothing for {self._seconds:g} seconds"))
            count = self._send_some(view)
            view, waited = view[count:], 0.0 if count else waited
        return True

    def _send_some(self, data: Buffer) -> int:
        """Send what can be sent at once. Raises `_Broken` when nobody listens."""
        try:
            if self._secure:
                return self._socket.send(data)
            return self._socket.send(data, socket.MSG_DONTWAIT)
        except (BlockingIOError, ssl.SSLWantWriteError, ssl.SSLWantReadError):
            return 0
        except OSError as error:
            raise _Broken(error.strerror or str(error)) from error

    def _has_answer(self) -> bool:
        """Whether there is an answer, or the end of the connection, to be read."""
        if not wait(self._socket, select.POLLIN, 0):
            return False
        try:
            piece = self._socket.recv(_PIECE)
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return False  # TLS has something to say to itself
        except OSError:
            return True
        self._reader.pending += piece
        return not piece or self._reader.early()

    def _receive(self) -> bytes:
        """Wait for some bytes; none at the end of the stream. Raises OSError, and TimeoutError."""
        waited, seconds = 0.0, min(self._seconds, GLANCE_SECONDS)
        flags = 0
        if is_task() and not self._secure:
            flags = socket.MSG_DONTWAIT
            wait(self._socket, select.POLLIN, seconds)
        while True:
            try:
                return self._socket.recv(_PIECE, flags)
            except ssl.SSLWantWriteError:
                events = wait(self._socket, select.POLLOUT, seconds)
            except ssl.SSLWantReadError:
                events = wait(self._socket, select.POLLIN, seconds)
            except BlockingIOError:  # of a plain socket, the time-out that the kernel keeps for it
                events = wait(self._socket, select.POLLIN, seconds) if flags else 0
            if not events:
                waited += seconds
                self._glance()
            if waited >= self._seconds:
                raise TimeoutError(f"it sent nothing for {self._seconds:g} seconds")

    def _say(self, reason: object) -> str:
        return f"{self._address.host}:{self._address.port}: {reason}"
