"""A process that puts small files into S3 for another one, which gives it all it needs.

It does the common case only, and answers with ETags. Whatever is not at once proven stored is told without
one, and left to the other process, which finds out what is the matter. It ends when the other one does, or
hangs up. Messages are pickles with their length in front, on the socket that is standard input; nobody else
can write to it.
"""

from __future__ import annotations

import os
import pickle
import select
import socket
import struct
import time
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from tidegate.model import Candidate, Fingerprint
from tidegate.store.body import Body
from tidegate.store.endpoints import Endpoint
from tidegate.store.fence import Fence
from tidegate.store.hub import Hub, wait
from tidegate.store.s3 import S3

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from tidegate.store.calls import Briefing
    from tidegate.store.sigv4 import Credentials

ENOUGH_ANSWERS = 32
FLUSH_SECONDS = 0.02
LENGTH = struct.Struct("=I")
Lane = tuple[str, str]
"""A source and a bucket."""


class Errand(NamedTuple):
    """One file to be put: from where, to where, with which headers. `mark` is its fingerprint in numbers."""

    number: int
    path: str
    mark: tuple[int, int, int, int, int]
    lane: Lane
    key: str
    headers: Mapping[str, str]
    algorithm: str


@dataclass(frozen=True, slots=True)
class Batch:
    """What is to be done next, at most so many at a time, and what has changed about the lanes."""

    errands: list[Errand]
    limit: int
    briefings: dict[Lane, Briefing]


def send(endpoint: socket.socket, message: object) -> None:
    """Send one message. Raises OSError."""
    data = pickle.dumps(message, pickle.HIGHEST_PROTOCOL)
    endpoint.sendall(LENGTH.pack(len(data)) + data)


def receive(read: Callable[[int], bytes]) -> Any:
    """Receive one message. Raises EOFError at the end."""
    (size,) = LENGTH.unpack(_exactly(read, LENGTH.size))
    return pickle.loads(_exactly(read, size))  # noqa: S301 - from our own process


def _exactly(read: Callable[[int], bytes], size: int) -> bytes:
    data = read(size)
    while len(data) < size:
        piece = read(size - len(data))
        if not piece:
            raise EOFError
        data += piece
    return data


class _Told:
    """Is whom it was told to be."""

    def __init__(self, credentials: Credentials) -> None:
        self.credentials = credentials

    def current(self) -> Credentials:
        """See Identity."""
        return self.credentials

    def spoiled(self, credentials: Credentials) -> None:
        """Who tries again finds out."""


class Putter:
    """Does errands until nobody sends any more."""

    def __init__(self, endpoint: socket.socket) -> None:
        self._endpoint = endpoint
        self._hub = Hub(time.monotonic)
        self._limit = 1
        self._busy = 0
        self._errands: deque[Errand] = deque()
        self._clients: dict[Lane, tuple[S3, _Told]] = {}
        self._answers: list[tuple[int, str]] = []
        self._flush_at = 0.0
        self._is_reading = False

    def run(self) -> None:
        """Say that we are ready, and do errands; the process ends when the other side hung up."""
        send(self._endpoint, [])
        self._hub.run(self._next, self._flush_if_due)

    def _next(self) -> Callable[[], None] | None:
        if not self._is_reading:
            self._is_reading = True
            return self._read
        if not self._errands or self._busy >= self._limit:
            return None
        self._busy += 1
        errand = self._errands.popleft()
        return lambda: self._do(errand)

    def _read(self) -> None:
        try:
            while True:
                batch: Batch = receive(self._some)
                for lane, briefing in batch.briefings.items():
                    self._follow(lane, briefing)
                self._limit = batch.limit
                self._errands += batch.errands
        except (OSError, EOFError):
            os._exit(0)  # nobody waits for what is under way any more

    def _follow(self, lane: Lane, briefing: Briefing) -> None:
        if lane not in self._clients:
            told = _Told(briefing.credentials)
            endpoint = Endpoint(region=briefing.place.region)
            client = S3(endpoint, told, manner=lambda _: briefing.manner, sign_payload=briefing.sign_payload)
            self._clients[lane] = client, told
        client, told = self._clients[lane]
        told.credentials = briefing.credentials
        client.follow(briefing)

    def _some(self, count: int) -> bytes:
        while True:
            try:
                return self._endpoint.recv(count, socket.MSG_DONTWAIT)
            except BlockingIOError:
                wait(self._endpoint, select.POLLIN, 3600.0)

    def _do(self, errand: Errand) -> None:
        try:
            etag = self._put(errand)
        except Exception:  # noqa: BLE001 - whatever it is, who gave us the errand finds out
            etag = ""
        finally:
            self._busy -= 1
        self._answers.append((errand.number, etag))
        if len(self._answers) >= ENOUGH_ANSWERS:
            self._flush()

    def _put(self, errand: Errand) -> str:
        """Return the ETag of what is proven stored, else nothing."""
        with Fence(Candidate(errand.path, Fingerprint(*errand.mark))) as file:
            body = Body(file.descriptor, errand.mark[2], check=file.check)
            client, _ = self._clients[errand.lane]
            stored = client.put(
                errand.lane[1], errand.key, body, headers=errand.headers, algorithm=errand.algorithm
            )
            return stored.etag if stored.proves(body.digest) is True else ""

    def _flush_if_due(self) -> None:
        if self._answers and (not self._busy or time.monotonic() >= self._flush_at):
            self._flush()

    def _flush(self) -> None:
        self._flush_at = time.monotonic() + FLUSH_SECONDS
        answers, self._answers = self._answers, []
        try:
            send(self._endpoint, answers)
        except OSError:
            os._exit(0)


def main() -> None:
    """Do errands for the process at the other end of standard input."""
    with socket.socket(fileno=0) as endpoint:
        Putter(endpoint).run()


if __name__ == "__main__":
    main()
