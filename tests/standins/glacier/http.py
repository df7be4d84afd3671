"""HTTP/1.1 with as little work as possible: a protocol of asyncio that hands whole requests to one function."""

from __future__ import annotations

import asyncio
import socket
import struct
import threading
from dataclasses import dataclass, field
from email.utils import formatdate
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, parse_qsl, unquote

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.standins.glacier.errors import Refusal

HOST = "127.0.0.1"
REASONS = {200: "OK", 202: "Accepted", 204: "No Content", 206: "Partial Content", 503: "Slow Down"}


@dataclass(slots=True)
class Request:
    """A request; `path` is decoded, and `query` has the last of each name."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: bytes = b""
    raw_query: str = ""

    def every(self, name: str) -> list[str]:
        """Return all values of a name in the query."""
        return parse_qs(self.raw_query).get(name, [])


@dataclass(slots=True)
class Reply:
    """An answer, and what becomes of it: it may come late, in part or not at all."""

    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    length: int | None = None  # of the body that a HEAD does not have
    delay: float = 0.0
    fate: str = ""  # "drop", "cut" or "hang"

    def encode(self) -> bytes:
        lines = "".join(f"{name}: {value}\r\n" for name, value in self.headers.items())
        length = len(self.body) if self.length is None else self.length
        head = (
            f"HTTP/1.1 {self.status} {REASONS.get(self.status, 'Because')}\r\nx-amz-request-id: REQUEST\r\n"
            f"Date: {formatdate(usegmt=True)}\r\nContent-Length: {length}\r\n{lines}\r\n"
        )
        return head.encode("latin-1", "replace") + self.body


def refusal_reply(refusal: Refusal, *, is_head: bool) -> Reply:
    body = b"" if is_head else refusal.xml()
    return Reply(refusal.status, body, {"Content-Type": "application/xml", **refusal.headers})


class Server:
    """Serves in a thread of its own until `stop`."""

    def __init__(self, handle: Callable[[Request], Reply], port: int) -> None:
        self._handle = handle
        self._connections: set[_Connection] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="glacier")
        made = self._loop.create_server(self._accept, HOST, port, backlog=512)
        self._server = self._loop.run_until_complete(made)
        self.port: int = self._server.sockets[0].getsockname()[1]
        self._thread.start()

    def stop(self) -> None:
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def drop_connections(self) -> None:
        """Reset every connection."""
        self._loop.call_soon_threadsafe(self._reset_all)

    def _reset_all(self) -> None:
        for connection in tuple(self._connections):
            connection.reset()

    async def _end(self) -> None:
        self._server.close()
        self._reset_all()
        await asyncio.sleep(0)  # lets the connections be told that they are lost
        await self._server.wait_closed()

    def _accept(self) -> _Connection:
        return _Connection(self._handle, self._connections)


class _Connection(asyncio.Protocol):
    """Answers the requests of one client in their order."""

    def __init__(self, handle: Callable[[Request], Reply], all_of_them: set[_Connection]) -> None:
        self._handle = handle
        self._all = all_of_them
        self._buffer = bytearray()
        self._request: Request | None = None  # whose body is not yet there
        self._missing = 0
        self._is_waiting = False
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._all.add(self)

    def connection_lost(self, _: Exception | None) -> None:
        self._all.discard(self)

    def reset(self) -> None:
        endpoint = self._transport.get_extra_info("socket")
        if endpoint is not None and not self._transport.is_closing():
            endpoint.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._transport.abort()

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        self._go_on()

    def _go_on(self) -> None:
        while not self._is_waiting and (request := self._next()) is not None:
            reply = self._handle(request)
            if reply.delay:
                self._is_waiting = True
                asyncio.get_running_loop().call_later(reply.delay, self._send_late, reply)
            else:
                self._send(reply)

    def _send_late(self, reply: Reply) -> None:
        self._is_waiting = False
        self._send(reply)
        self._go_on()

    def _send(self, reply: Reply) -> None:
        if reply.fate == "hang":
            self._is_waiting = True
        elif reply.fate == "drop":
            self.reset()
        elif reply.fate == "cut":
            data = reply.encode()
            self._transport.write(data[: len(data) // 2])
            self._transport.close()
        elif not self._transport.is_closing():
            self._transport.write(reply.encode())

    def _next(self) -> Request | None:
        """Take the next request out of the buffer if it is there as a whole."""
        if self._request is None:
            end = self._buffer.find(b"\r\n\r\n")
            if end < 0:
                return None
            self._request = parse(bytes(self._buffer[:end]).decode("latin-1"))
            del self._buffer[: end + 4]
            self._missing = int(self._request.headers.get("content-length", 0))
            if self._request.headers.get("expect", "").lower() == "100-continue":
                self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        if len(self._buffer) < self._missing:
            return None
        request, self._request = self._request, None
        if self._missing:
            request.body = bytes(self._buffer[: self._missing])
            del self._buffer[: self._missing]
            if "aws-chunked" in request.headers.get("content-encoding", ""):
                request.body = unchunk(request.body)
        return request


def parse(head: str) -> Request:
    """Read the lines before the body; the address may be a whole URL, as a proxy gets it."""
    first, *lines = head.split("\r\n")
    method, target, _ = first.split(" ")
    headers = {}
    for line in lines:
        name, _, value = line.partition(":")
        headers[name.lower()] = value.strip()
    if target.startswith("http"):
        target = "/" + target.partition("://")[2].partition("/")[2]
    path, _, query = target.partition("?")
    return Request(
        method,
        unquote(path) if "%" in path else path,
        dict(parse_qsl(query, keep_blank_values=True)) if query else {},
        headers,
        raw_query=query,
    )


def unchunk(body: bytes) -> bytes:
    """Take the chunks of aws-chunked out of their frames; signatures and trailers are not looked at."""
    content, at = b"", 0
    while True:
        end = body.index(b"\r\n", at)
        size = int(body[at:end].partition(b";")[0], 16)
        if not size:
            return content
        content += body[end + 2 : end + 2 + size]
        at = end + 2 + size + 2
