"""The Direct carrier on an S3 to test against, and a front before one that can be shut."""

from __future__ import annotations

import contextlib
import select
import socket
import threading
from dataclasses import replace
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit
from xml.sax.saxutils import escape

from tests.standins import s3
from tests.standins.faulty_s3 import HOST, end, fill, reply
from tidegate.carry.direct import Direct, Terms, Throttle
from tidegate.store.endpoints import Endpoint
from tidegate.store.s3 import S3
from tidegate.store.sigv4 import Credentials
from tidegate.store.wire import Manner

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from tidegate.config import S3Settings, Source
    from tidegate.ledger import Ledger

POLL_SECONDS = 0.02
READ_SECONDS = 10.0
MIB = 2**20


class Purse:
    """Always has the same credentials."""

    def current(self) -> Credentials:
        return Credentials(access_key="AKID", secret_key="SECRET")

    def spoiled(self, credentials: Credentials) -> None:
        """They are as good as they get."""


class DirectRig:
    """Makes Direct carriers that upload to `url`, with parts of any size: the configuration takes no small ones."""

    def __init__(
        self,
        url: str,
        *,
        workers: int = 4,
        threshold: int = 5 * MIB,
        part_size: int = 5 * MIB,
        read_seconds: float = READ_SECONDS,
        annex: Terms | None = None,
        limit: float | None = None,
    ) -> None:
        self.annex = annex
        self.limit = limit
        self.url = url
        self.workers = workers
        self.threshold = threshold
        self.part_size = part_size
        self.read_seconds = read_seconds
        self.s3: Any = None

    def carrier(
        self,
        ledger: Ledger,
        *,
        sources: Sequence[Source],
        links: Path,
        steady: Callable[[], float],
        wall: Callable[[], float],  # noqa: ARG002 - Direct needs no such clock
    ) -> Direct:
        sizes = {"multipart_threshold": self.threshold, "part_size": self.part_size}
        return Direct(
            [replace(source, s3=replace(source.s3, **sizes)) for source in sources],
            ledger,
            connect=self._connect,
            thing="thing",
            spool=links.parent / "spool",
            throttle=Throttle(lambda: self.limit, steady),
            limit=self.workers,
            steady=steady,
            jitter=lambda: 0.5,
            poll_seconds=POLL_SECONDS,
            annex=self.annex,
        )

    def _connect(self, settings: S3Settings) -> S3:  # noqa: ARG002 - where it is, is the rig's to say
        manner = Manner(connect_seconds=2.0, read_seconds=self.read_seconds)
        return S3(Endpoint(region="us-east-1", url=self.url), Purse(), manner=lambda _: manner)


class MotoRig(DirectRig):
    """On moto, behind a front."""

    def __init__(self, endpoint: str, *, annex: Terms | None = None) -> None:
        self.front = Front(endpoint)
        super().__init__(self.front.url, annex=annex)
        self.s3 = s3.client(endpoint)

    def close(self) -> None:
        self.front.go_away()
        self.front.let_go()
        self.front.join()
        self.s3.close()

    def go_away(self) -> None:
        self.front.go_away()

    def come_back(self) -> None:
        self.front.come_back()

    def hold(self) -> None:
        self.front.hold()

    def let_go(self) -> None:
        self.front.let_go()

    def refuse(self, reason: Callable[[str], str | None] | None) -> None:
        self.front.reason = reason


class Front:
    """Passes whole requests on to an S3: not while it is away, held up while it is told to, or refused.

    What is held up and hung up on meanwhile is never passed on.
    """

    def __init__(self, endpoint: str) -> None:
        parts = urlsplit(endpoint)
        self._behind = (parts.hostname or HOST, parts.port or 80)
        self.reason: Callable[[str], str | None] | None = None
        self._free = threading.Event()
        self._free.set()
        self._gate = threading.Lock()
        self._open: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []
        self._port = 0
        self.come_back()
        self.url = f"http://{HOST}:{self._port}"

    def come_back(self) -> None:
        self._listener = socket.create_server((HOST, self._port), backlog=128)
        self._port = self._listener.getsockname()[1]
        self._start(self._accept, self._listener)

    def go_away(self) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        with self._gate:
            for endpoint in self._open:
                end(endpoint, reset=False)

    def hold(self) -> None:
        self._free.clear()

    def let_go(self) -> None:
        self._free.set()

    def join(self) -> None:
        for thread in self._threads:
            thread.join()

    def _start(self, work: Callable[..., None], *arguments: object) -> None:
        thread = threading.Thread(target=work, args=arguments)
        self._threads.append(thread)
        thread.start()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                endpoint, _ = listener.accept()
            except OSError:
                return
            with self._gate:
                self._open.add(endpoint)
            self._start(self._converse, endpoint)
            if listener is not self._listener or listener.fileno() < 0:
                end(endpoint, reset=False)  # it came while the front went away

    def _converse(self, endpoint: socket.socket) -> None:
        try:
            while self._serve_one(endpoint):
                pass
        except OSError:
            pass  # the client is gone
        finally:
            with self._gate:
                self._open.discard(endpoint)
            endpoint.close()

    def _serve_one(self, endpoint: socket.socket) -> bool:
        buffer = bytearray()
        while b"\r\n\r\n" not in buffer:
            if not fill(endpoint, buffer):
                return False
        head, _, body = bytes(buffer).partition(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        rest = bytearray(body)
        while len(rest) < int(headers.get("content-length", "0")):
            if not fill(endpoint, rest):
                return False
        while not self._free.wait(0.01):
            if is_over(endpoint):
                return False
        if is_over(endpoint):
            return False
        method, target, _ = first.split(" ")
        key = unquote(target.partition("?")[0], errors="surrogateescape").lstrip("/").partition("/")[2]
        reason = self.reason(key) if self.reason else None
        answer = refusal(method, reason) if reason else self._pass_on(head, bytes(rest))
        endpoint.sendall(answer)
        return bool(reason)

    def _pass_on(self, head: bytes, body: bytes) -> bytes:
        with socket.create_connection(self._behind, 5) as behind:
            behind.sendall(head + b"\r\nConnection: close\r\n\r\n" + body)
            answer = bytearray()
            while fill(behind, answer):
                pass
            return bytes(answer)


def is_over(endpoint: socket.socket) -> bool:
    """Whether the client has hung up. It says nothing while it waits for an answer."""
    return bool(select.select([endpoint], [], [], 0)[0]) and not endpoint.recv(1, socket.MSG_PEEK)


def refusal(method: str, reason: str) -> bytes:
    """Say in S3's way what Stream Manager would report as `reason`."""
    status, code = (403, "AccessDenied") if "Status Code: 403" in reason else (400, "InvalidTag")
    if method == "HEAD":
        return reply(status, is_head=True)
    return reply(
        status, body=f"<Error><Code>{code}</Code><Message>{escape(reason)}</Message></Error>".encode()
    )
