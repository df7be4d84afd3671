"""The fastest thing that looks like S3 to an uploader: it counts, forgets the bytes and says yes.

It is for measuring clients, so it has to be cheaper than any of them. It knows how large each object is
and what it was announced with, and nothing else. A checksum in a header is told back as S3 does: to the request
itself, to HEAD and in the list of parts; and an MD5 as the ETag, which is a running number without one. Nothing is
verified, so that proves nothing. A checksum behind the body (a trailer) is forgotten with the body.

    python -m tests.standins.sink --port 9001 --latency 0.03

`GET /-/counters` answers with the counters as JSON; `DELETE /-/counters` sets them to nothing and forgets
all objects.
"""

from __future__ import annotations

import argparse
import asyncio
import binascii
import contextlib
import json
import signal
import threading
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import parse_qs

if TYPE_CHECKING:
    import ssl
    from collections.abc import Iterator

HOST = "127.0.0.1"
BUFFER_BYTES = 64 * 1024
"""What is read at once. It is forgotten at once, too, so all conversations share one."""

CHECKSUM = b"\r\nx-amz-checksum-"
NAMES = {
    b"crc64nvme": "CRC64NVME",
    b"crc32c": "CRC32C",
    b"crc32": "CRC32",
    b"sha256": "SHA256",
    b"sha1": "SHA1",
}
NAMESPACE = b'<?xml version="1.0" encoding="UTF-8"?>\n'


@dataclass(slots=True)
class Counters:
    connections: int = 0
    puts: int = 0
    parts: int = 0
    heads: int = 0
    others: int = 0
    body_bytes: int = 0


@dataclass(slots=True)
class Shelf:
    """What the sink remembers. `latency` is how many seconds each answer is held back.

    `told` is what is said of objects, as lines of a header; a part is its size and the line with its checksum.
    """

    latency: float = 0.0
    counters: Counters = field(default_factory=Counters)
    sizes: dict[bytes, int] = field(default_factory=dict)
    told: dict[bytes, bytes] = field(default_factory=dict)
    uploads: dict[str, dict[int, tuple[int, bytes]]] = field(default_factory=dict)
    buffer: memoryview = field(default_factory=lambda: memoryview(bytearray(BUFFER_BYTES)))

    def clear(self) -> None:
        self.counters = Counters()
        self.sizes.clear()
        self.told.clear()
        self.uploads.clear()


class Conversation(asyncio.BufferedProtocol):
    """One client. Requests are taken out of the stream by hand: that is what makes it fast."""

    def __init__(self, shelf: Shelf) -> None:
        self._shelf = shelf
        self._buffer = b""
        self._left = 0  # of the body that is just coming
        self._size = 0
        self._line: list[bytes] = []
        self._head = b""
        self._folded = b""  # the same in lower case
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._shelf.counters.connections += 1

    def get_buffer(self, _sizehint: int) -> memoryview:
        return self._shelf.buffer

    def buffer_updated(self, nbytes: int) -> None:
        taken = 0
        if self._left:
            taken = min(self._left, nbytes)
            self._left -= taken
            if self._left:
                return
            self._answer()
        self._buffer += self._shelf.buffer[taken:nbytes]
        while self._buffer:
            end = self._buffer.find(b"\r\n\r\n")
            if end < 0:
                return
            self._head = self._buffer[:end]
            self._folded = self._head.lower()
            self._line = self._head.split(b"\r\n", 1)[0].split(b" ")
            self._size = self._number(b"\r\ncontent-length:", 0)
            rest = self._buffer[end + 4 :]
            if self._size and b"100-continue" in self._folded:
                self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            self._left = max(0, self._size - len(rest))
            self._buffer = rest[self._size :]
            if self._left:
                return
            self._answer()

    def _number(self, name: bytes, otherwise: int) -> int:
        start = self._folded.find(name)
        return int(self._folded[start + len(name) :].split(b"\r\n", 1)[0]) if start >= 0 else otherwise

    def _etag(self) -> bytes:
        """As S3 makes it of an MD5; without one nothing that could be taken for it."""
        start = self._folded.find(b"\r\ncontent-md5:")
        if start < 0:
            return b"%d" % self._shelf.counters.puts
        return binascii.a2b_base64(self._head[start + 14 :].split(b"\r\n", 1)[0]).hex().encode()

    def _checksum(self) -> bytes:
        """The checksum that the request announces, as a header line of the answer; nothing if it has none."""
        start = self._folded.find(CHECKSUM)
        while start >= 0:
            end = self._head.find(b"\r\n", start + 2)
            line = self._head[start + 2 : end if end >= 0 else None]
            if line[15:].split(b":", 1)[0].lower() in NAMES:
                return line + b"\r\n"
            start = self._folded.find(CHECKSUM, start + 2)
        return b""

    def _answer(self) -> None:
        answer = self._carry_out()
        if self._shelf.latency:
            asyncio.get_running_loop().call_later(self._shelf.latency, self._transport.write, answer)
        else:
            self._transport.write(answer)

    def _carry_out(self) -> bytes:
        method, target = self._line[0], self._line[1]
        shelf, counters = self._shelf, self._shelf.counters
        path, _, query = target.partition(b"?")
        counters.body_bytes += self._size
        if target == b"/-/counters":
            return self._tell_counters(method)
        if method == b"PUT" and b"partNumber=" not in query:
            counters.puts += 1
            shelf.sizes[path] = self._decoded_size()
            told = shelf.told[path] = b'ETag: "%s"\r\n%s' % (self._etag(), self._checksum())
            return b"HTTP/1.1 200 OK\r\n%sContent-Length: 0\r\n\r\n" % told
        if method == b"HEAD":
            counters.heads += 1
            size = shelf.sizes.get(path)
            if size is None:
                return b"HTTP/1.1 404 Not Found\r\n\r\n"
            return b"HTTP/1.1 200 OK\r\n%sContent-Length: %d\r\n\r\n" % (shelf.told[path], size)
        return self._carry_out_others(method, path, query.decode())

    def _decoded_size(self) -> int:
        return self._number(b"\r\nx-amz-decoded-content-length:", self._size)

    def _carry_out_others(self, method: bytes, path: bytes, query: str) -> bytes:
        asked = parse_qs(query, keep_blank_values=True)
        upload_id = asked.get("uploadId", [""])[0]
        parts = self._shelf.uploads.get(upload_id, {})
        if method == b"PUT":
            self._shelf.counters.parts += 1
            checksum = self._checksum()
            parts[int(asked["partNumber"][0])] = self._decoded_size(), checksum
            return b'HTTP/1.1 200 OK\r\nETag: "0"\r\n%sContent-Length: 0\r\n\r\n' % checksum
        self._shelf.counters.others += 1
        if method == b"POST" and "uploads" in asked:
            upload_id = f"upload{self._shelf.counters.others}"
            self._shelf.uploads[upload_id] = {}
            return document("InitiateMultipartUploadResult", f"<UploadId>{upload_id}</UploadId>")
        if method == b"POST":
            self._shelf.uploads.pop(upload_id, None)
            self._shelf.sizes[path] = sum(size for size, _ in parts.values())
            checksum = self._checksum()
            self._shelf.told[path] = b'ETag: "0"\r\n' + checksum
            return document("CompleteMultipartUploadResult", '<ETag>"0"</ETag>' + element(checksum))
        if method == b"DELETE":
            self._shelf.uploads.pop(upload_id, None)
            self._shelf.sizes.pop(path, None)
            self._shelf.told.pop(path, None)
            return b"HTTP/1.1 204 No Content\r\n\r\n"
        if upload_id:
            listed = "".join(
                f'<Part><PartNumber>{number}</PartNumber><ETag>"0"</ETag><Size>{size}</Size>{element(checksum)}</Part>'
                for number, (size, checksum) in sorted(parts.items())
            )
            return document("ListPartsResult", listed)
        if "uploads" in asked:
            return document("ListMultipartUploadsResult", "")
        return document("ListBucketResult", "<IsTruncated>false</IsTruncated>")

    def _tell_counters(self, method: bytes) -> bytes:
        self._shelf.counters.body_bytes -= self._size
        sizes = self._shelf.sizes.values()
        held = {"objects": len(sizes), "object_bytes": sum(sizes)}
        text = json.dumps(asdict(self._shelf.counters) | held)
        if method == b"DELETE":
            self._shelf.clear()
        return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(text), text.encode())


def element(line: bytes) -> str:
    """Write a header line with a checksum as the XML of S3; nothing stays nothing."""
    name, _, text = line[15:].decode().partition(":")
    tag = f"Checksum{NAMES[name.lower().encode()]}" if line else ""
    return f"<{tag}>{text.strip()}</{tag}>" if line else ""


def document(tag: str, content: str) -> bytes:
    body = NAMESPACE + f"<{tag}>{content}</{tag}>".encode()
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)


async def serve(shelf: Shelf, port: int, context: ssl.SSLContext | None = None) -> asyncio.Server:
    loop = asyncio.get_running_loop()
    return await loop.create_server(lambda: Conversation(shelf), HOST, port, ssl=context, backlog=1024)


@contextlib.contextmanager
def sinking(shelf: Shelf, context: ssl.SSLContext | None = None) -> Iterator[str]:
    """Serve in a thread of this process and yield the URL."""
    loop = asyncio.new_event_loop()
    server = loop.run_until_complete(serve(shelf, 0, context))
    port = server.sockets[0].getsockname()[1]
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield f"{'https' if context else 'http'}://{HOST}:{port}"
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        server.close()
        loop.run_until_complete(asyncio.sleep(0))
        loop.close()


async def run(port: int, latency: float) -> None:
    server = await serve(Shelf(latency), port)
    stopped = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    print("listening on http://{}:{}".format(*server.sockets[0].getsockname()), flush=True)
    await stopped.wait()
    server.close()


def main() -> None:
    parser = argparse.ArgumentParser(description="Serve the fastest S3 that forgets everything.")
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    parser.add_argument("--latency", type=float, default=0.0, help="seconds before each answer")
    arguments = parser.parse_args()
    asyncio.run(run(arguments.port, arguments.latency))


if __name__ == "__main__":
    main()
