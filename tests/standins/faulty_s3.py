"""A small S3 that computes checksums as the real one does, and misbehaves on request.

A script looks at each request and says what goes wrong with it, if anything:

    def script(seen):
        if seen.is_a("PUT part") and seen.number == 2:
            return Fault(error(503, "SlowDown"), take=1000)

    with FaultyS3(script) as s3: ...  s3.url, s3.objects, s3.uploads, s3.seen

Requests are what `Seen.kind` names: put, head, get, delete, list, create, part, list parts, complete, abort,
list uploads. What a fault says instead of the truth changes nothing; what it only cuts or delays has
been done.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import itertools
import socket
import struct
import threading
from dataclasses import dataclass, field
from email.utils import formatdate
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, quote_plus, unquote
from xml.etree import ElementTree as ET
from xml.sax.saxutils import escape

from awscrt.checksums import combine_crc64nvme, crc64nvme

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable

    from typing_extensions import Self

HOST = "127.0.0.1"
CRC = "x-amz-checksum-crc64nvme"
LISTS = {"uploads": "list uploads", "uploadId": "list parts", "list-type": "list"}
REASONS = {200: "OK", 204: "No Content", 404: "Not Found", 503: "Slow Down"}


@dataclass(frozen=True, slots=True)
class Fault:
    """What happens to one request instead of, or after, what it asks for.

    `answer` replaces the true answer (None: the true one is given, for what was then done). `take`: no
    more than this of the body is read before the answer; `pace`: bytes read in a hundredth of a second;
    `wait` is waited for before answering, `delay` for so many seconds; `cut`: only so much of the answer
    is sent, then the connection ends, with a `reset` if asked for. `hang_up`: the connection ends after
    the answer.
    """

    answer: bytes | None = None
    take: int | None = None
    pace: int | None = None
    wait: threading.Event | None = None
    delay: float = 0.0
    cut: int | None = None
    reset: bool = False
    hang_up: bool = False


@dataclass(slots=True)
class Seen:
    """A request. `number` counts the requests of its kind, from 1; `body` is what was read of it."""

    method: str
    target: str
    headers: dict[str, str]
    kind: str = ""
    number: int = 0
    connection: int = 0
    body: bytes = b""
    query: dict[str, str] = field(default_factory=dict)

    @property
    def path(self) -> str:
        """Bucket and key, decoded."""
        target = self.target.partition("?")[0]
        return unquote(target.partition("://")[2].partition("/")[2] or target[1:])


@dataclass(slots=True)
class Held:
    """An object or a part."""

    body: bytes
    headers: dict[str, str] = field(default_factory=dict)
    parts: list[bytes] = field(default_factory=list)

    @property
    def crc(self) -> int:
        return crc64nvme(self.body)


def text_of(crc: int) -> str:
    return base64.b64encode(crc.to_bytes(8, "big")).decode()


def reply(
    status: int, headers: dict[str, str] | None = None, body: bytes = b"", *, is_head: bool = False
) -> bytes:
    lines = {"Date": formatdate(usegmt=True), "x-amz-request-id": "REQUEST", **(headers or {})}
    if not is_head:
        lines["Content-Length"] = str(len(body))
    text = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    return f"HTTP/1.1 {status} {REASONS.get(status, 'Because')}\r\n{text}\r\n".encode() + body


def error(status: int, code: str, *, headers: dict[str, str] | None = None, details: str = "") -> bytes:
    body = f"<Error><Code>{code}</Code><Message>because of {code}</Message><RequestId>R</RequestId>{details}</Error>"
    return reply(status, headers, b'<?xml version="1.0" encoding="UTF-8"?>\n' + body.encode())


def page(tag: str, content: str, headers: dict[str, str] | None = None) -> bytes:
    return reply(
        200, headers, f'<{tag} xmlns="http://s3.amazonaws.com/doc/2006-03-01/">{content}</{tag}>'.encode()
    )


class FaultyS3:
    """Serves from a thread for each connection until the block ends."""

    def __init__(
        self,
        script: Callable[[Seen], Fault | None] = lambda _: None,
        *,
        context: ssl.SSLContext | None = None,
        receive_buffer: int | None = None,
    ) -> None:
        self.script = script
        self.seen: list[Seen] = []
        self.connections = 0
        self.objects: dict[str, Held] = {}
        self.uploads: dict[str, tuple[str, dict[str, str], dict[int, Held]]] = {}
        self.page_size = 1000
        self.has_checksums = True
        self.has_md5 = False  # as ETags; else those are some mark, as with KMS
        self._context = context
        self._gate = threading.Lock()
        self._ids = itertools.count(1)
        self._stopping = threading.Event()
        self._open: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []
        self._listener = socket.socket()
        if receive_buffer:
            self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self._listener.bind((HOST, 0))
        self._listener.listen(128)
        self.port = self._listener.getsockname()[1]
        self.url = f"{'https' if context else 'http'}://{HOST}:{self.port}"

    def __enter__(self) -> Self:
        self._start(self._accept)
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self.drop_connections()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join()

    def drop_connections(self, *, reset: bool = False) -> None:
        """End every connection, as a server does that has had enough of idle ones, and see that it is so."""
        with self._gate:
            dropped = set(self._open)
            for endpoint in dropped:
                end(endpoint, reset=reset)
        while self._open & dropped and not self._stopping.wait(0.002):
            pass

    def _start(self, work: Callable[..., None], *arguments: object) -> None:
        thread = threading.Thread(target=work, args=arguments)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                endpoint, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            self._start(self._converse, endpoint, self.connections)

    def _converse(self, endpoint: socket.socket, number: int) -> None:
        try:
            endpoint.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self._context:
                endpoint = self._context.wrap_socket(endpoint, server_side=True)
            with self._gate:
                self._open.add(endpoint)
                if self._stopping.is_set():
                    return
            buffer = bytearray()
            while self._serve_one(endpoint, buffer, number):
                pass
        except OSError:
            pass  # the client is gone
        finally:
            with self._gate:
                self._open.discard(endpoint)
            endpoint.close()

    def _serve_one(self, endpoint: socket.socket, buffer: bytearray, connection: int) -> bool:
        while b"\r\n\r\n" not in buffer:
            if not fill(endpoint, buffer):
                return False
        head, _, rest = bytes(buffer).partition(b"\r\n\r\n")
        buffer[:] = rest
        seen = self._recognise(head.decode("latin-1"), connection)
        fault = self.script(seen) or Fault()
        size = int(seen.headers.get("content-length", "0"))
        wanted = size if fault.take is None else min(fault.take, size)
        while len(buffer) < wanted:
            if not fill(endpoint, buffer, fault.pace or 65_536):
                return False
            if fault.pace and self._stopping.wait(0.01):
                return False
        seen.body = bytes(buffer[:wanted])
        del buffer[:wanted]
        return self._say(endpoint, fault, fault.answer or self._carry_out(seen)) and wanted == size

    def _say(self, endpoint: socket.socket, fault: Fault, answer: bytes) -> bool:
        if self._stopping.wait(fault.delay):
            return False
        while fault.wait is not None and not fault.wait.wait(0.05):
            if self._stopping.is_set():
                return False
        endpoint.sendall(answer[: fault.cut])
        if fault.cut is not None or fault.reset or fault.hang_up:
            end(endpoint, reset=fault.reset)
            return False
        return True

    def _recognise(self, head: str, connection: int) -> Seen:
        first, *lines = head.split("\r\n")
        method, target, _ = first.split(" ")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        query = dict(parse_qsl(target.partition("?")[2], keep_blank_values=True))
        kinds = {
            "POST": "create" if "uploads" in query else "complete",
            "PUT": "part" if "partNumber" in query else "put",
            "GET": next(
                (kind for name, kind in LISTS.items() if name in query),
                "get",
            ),
            "DELETE": "abort" if "uploadId" in query else "delete",
        }
        kind = kinds.get(method, method.lower())
        with self._gate:
            number = sum(seen.kind == kind for seen in self.seen) + 1
            seen = Seen(method, target, headers, kind, number, connection, query=query)
            self.seen.append(seen)
        return seen

    def _carry_out(self, seen: Seen) -> bytes:
        with self._gate:
            if seen.query.get("uploadId", "") not in ("", *self.uploads):
                return error(404, "NoSuchUpload")
            return getattr(self, "_" + seen.kind.replace(" ", "_"))(seen)

    def _put(self, seen: Seen) -> bytes:
        held = Held(seen.body, seen.headers)
        if self._is_bad(seen, held):
            return error(400, "BadDigest")
        if seen.headers.get("if-none-match") == "*" and seen.path in self.objects:
            return error(412, "PreconditionFailed")
        self.objects[seen.path] = held
        return reply(200, self._marks(held) | {"x-amz-version-id": str(next(self._ids))})

    def _is_bad(self, seen: Seen, held: Held) -> bool:
        md5 = base64.b64encode(hashlib.md5(held.body, usedforsecurity=False).digest()).decode()
        return (
            self.has_checksums and seen.headers.get(CRC, text_of(held.crc)) != text_of(held.crc)
        ) or seen.headers.get("content-md5", md5) != md5

    def _marks(self, held: Held) -> dict[str, str]:
        """What is said of an object or a part."""
        marks = {"ETag": self._etag(held)}
        return marks | {CRC: text_of(held.crc)} if self.has_checksums else marks

    def _etag(self, held: Held) -> str:
        if not self.has_md5:
            return f'"{held.crc:016x}"'
        digests = [hashlib.md5(part, usedforsecurity=False) for part in held.parts or [held.body]]
        if not held.parts:
            return f'"{digests[0].hexdigest()}"'
        whole = hashlib.md5(b"".join(digest.digest() for digest in digests), usedforsecurity=False)
        return f'"{whole.hexdigest()}-{len(digests)}"'

    def _checksum_element(self, crc: int) -> str:
        return f"<ChecksumCRC64NVME>{text_of(crc)}</ChecksumCRC64NVME>" if self.has_checksums else ""

    def _head(self, seen: Seen) -> bytes:
        held = self.objects.get(seen.path)
        if held is None:
            return reply(404, is_head=True)
        kept = {name: value for name, value in held.headers.items() if name.startswith("x-amz-meta-")}
        said = self._marks(held) | {"Content-Length": str(len(held.body))}
        return reply(200, kept | said, is_head=True)

    def _get(self, seen: Seen) -> bytes:
        held = self.objects.get(seen.path)
        if held is None:
            return error(404, "NoSuchKey")
        if seen.headers.get("if-match", self._etag(held)) != self._etag(held):
            return error(412, "PreconditionFailed")
        if "range" in seen.headers:
            first, _, last = seen.headers["range"].removeprefix("bytes=").partition("-")
            return reply(206, {"ETag": self._etag(held)}, held.body[int(first) : int(last) + 1])
        asked = seen.headers.get("x-amz-checksum-mode") == "ENABLED"
        return reply(200, self._marks(held) if asked else {"ETag": self._etag(held)}, held.body)

    def _list(self, seen: Seen) -> bytes:
        bucket = seen.path.partition("/")[0]
        prefix, after = seen.query.get("prefix", ""), seen.query.get("continuation-token", "")
        found = sorted(
            (path.partition("/")[2] for path in self.objects if path.startswith(f"{bucket}/{prefix}")),
            key=str.encode,
        )
        left = [key for key in found if key.encode() > after.encode()]
        shown = left[: self.page_size]
        content = "".join(
            f"<Contents><Key>{quote_plus(key)}</Key><ETag>{escape(self._etag(held))}</ETag>"
            f"<Size>{len(held.body)}</Size></Contents>"
            for key in shown
            for held in [self.objects[f"{bucket}/{key}"]]
        )
        content += f"<IsTruncated>{str(len(left) > len(shown)).lower()}</IsTruncated><EncodingType>url</EncodingType>"
        if len(left) > len(shown):
            content += f"<NextContinuationToken>{escape(shown[-1])}</NextContinuationToken>"
        return page("ListBucketResult", content)

    def _delete(self, seen: Seen) -> bytes:
        self.objects.pop(seen.path, None)
        return reply(204)

    def _create(self, seen: Seen) -> bytes:
        upload_id = f"upload/{next(self._ids)}+="
        self.uploads[upload_id] = (seen.path, seen.headers, {})
        return page("InitiateMultipartUploadResult", f"<UploadId>{upload_id}</UploadId>")

    def _part(self, seen: Seen) -> bytes:
        held = Held(seen.body)
        if self._is_bad(seen, held):
            return error(400, "BadDigest")
        self.uploads[seen.query["uploadId"]][2][int(seen.query["partNumber"])] = held
        return reply(200, self._marks(held))

    def _list_parts(self, seen: Seen) -> bytes:
        parts = sorted(self.uploads[seen.query["uploadId"]][2].items())
        left = [
            (number, held)
            for number, held in parts
            if number > int(seen.query.get("part-number-marker", "0"))
        ]
        shown = left[: self.page_size]
        content = "".join(
            f"<Part><PartNumber>{number}</PartNumber><ETag>{escape(self._etag(held))}</ETag>"
            f"<Size>{len(held.body)}</Size>{self._checksum_element(held.crc)}</Part>"
            for number, held in shown
        )
        more = len(left) > len(shown)
        content += f"<IsTruncated>{str(more).lower()}</IsTruncated>"
        content += f"<NextPartNumberMarker>{shown[-1][0] if shown else 0}</NextPartNumberMarker>"
        return page("ListPartsResult", content)

    def _complete(self, seen: Seen) -> bytes:
        upload_id = seen.query["uploadId"]
        path, headers, parts = self.uploads[upload_id]
        chosen, crc = [], 0
        for part in ET.fromstring(seen.body).findall("{*}Part"):
            held = parts.get(int(part.findtext("{*}PartNumber")))
            if held is None or part.findtext("{*}ETag") != self._etag(held):
                return error(400, "InvalidPart")
            chosen.append(held)
            crc = combine_crc64nvme(crc, held.crc, len(held.body)) if len(chosen) > 1 else held.crc
        if self.has_checksums and seen.headers.get(CRC, text_of(crc)) != text_of(crc):
            return error(400, "BadDigest")
        if seen.headers.get("if-none-match") == "*" and path in self.objects:
            return error(412, "PreconditionFailed")
        del self.uploads[upload_id]
        pieces = [held.body for held in chosen]
        whole = self.objects[path] = Held(b"".join(pieces), headers, pieces)
        said = f"<ETag>{escape(self._etag(whole))}</ETag>{self._checksum_element(crc)}"
        return page("CompleteMultipartUploadResult", said + "<ChecksumType>FULL_OBJECT</ChecksumType>")

    def _abort(self, seen: Seen) -> bytes:
        del self.uploads[seen.query["uploadId"]]
        return reply(204)

    def _list_uploads(self, seen: Seen) -> bytes:
        bucket = seen.path.partition("/")[0]
        after = (seen.query.get("key-marker", ""), seen.query.get("upload-id-marker", ""))
        encode = quote_plus if seen.query.get("encoding-type") == "url" else escape
        left = sorted(
            (path.partition("/")[2], upload_id)
            for upload_id, (path, _, _) in self.uploads.items()
            if path.startswith(f"{bucket}/" + seen.query.get("prefix", ""))
        )
        left = [one for one in left if one > after]
        shown = left[: self.page_size]
        content = "".join(
            f"<Upload><Key>{encode(key)}</Key><UploadId>{upload_id}</UploadId>"
            "<Initiated>2026-11-20T00:00:00.000Z</Initiated></Upload>"
            for key, upload_id in shown
        )
        content += f"<IsTruncated>{str(len(left) > len(shown)).lower()}</IsTruncated>"
        if encode is quote_plus:
            content += "<EncodingType>url</EncodingType>"
        if shown:
            content += f"<NextKeyMarker>{encode(shown[-1][0])}</NextKeyMarker>"
            content += f"<NextUploadIdMarker>{shown[-1][1]}</NextUploadIdMarker>"
        return page("ListMultipartUploadsResult", content)


def fill(endpoint: socket.socket, buffer: bytearray, most: int = 65_536) -> bool:
    data = endpoint.recv(most)
    buffer += data
    return bool(data)


def end(endpoint: socket.socket, *, reset: bool) -> None:
    """End a connection from whatever thread; the one that serves it closes it."""
    with contextlib.suppress(OSError):
        if reset:
            endpoint.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            endpoint.shutdown(socket.SHUT_RD)
        else:
            endpoint.shutdown(socket.SHUT_RDWR)
