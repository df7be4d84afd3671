"""One socket that is read: what comes is on the disk before anything else is done with it.

Nothing is lost when the process dies but what the system had not handed over yet; after a power cut nothing
that was replied to. A batch that is full or old enough becomes a body in the spool and a promise.
"""

from __future__ import annotations

import logging
import socket
import threading
from collections import Counter
from dataclasses import replace
from datetime import datetime, timezone
from typing import TYPE_CHECKING, TypeVar

from tidegate.config import Framing, HoldBack
from tidegate.config.pattern import Glob
from tidegate.errors import LedgerLost, TidegateError, Unavailable
from tidegate.inward.framing import PAUSE_SECONDS, Cutter
from tidegate.inward.journal import Journal
from tidegate.model import ObjectRef
from tidegate.policy import outage_seconds
from tidegate.routes.bodies import Bodies, Body, as_promised, folder_of
from tidegate.view.snapshot import SourceReport

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tidegate.config import Config, Socket, SocketAddress, Source
    from tidegate.inward.journal import Batch
    from tidegate.model import Transfer
    from tidegate.routes import Site

SYNC_SECONDS = 0.2
"""How long what has come may be on the disk only as far as this process knows."""

TICK_SECONDS = 0.1
ROOM_SECONDS = 1.0
CONNECT_SECONDS = 10.0
RECEIVE_BYTES = 2**16

Result = TypeVar("Result")

log = logging.getLogger(__name__)


def socket_ways(config: Config, work: Path) -> tuple[Source, ...]:
    """Make the ways that objects of sockets take: as those that are posted."""
    glob = Glob.parse(f"{folder_of(work)}/*")
    return tuple(
        replace(one.way, glob=glob, hold_back=HoldBack.NONE, move_to=None, prune_empty_directories=False)
        for one in config.sockets
    )


class Plug:
    """Reads one socket from a thread of its own, until it is stopped."""

    def __init__(
        self,
        settings: Socket,
        site: Site,
        *,
        tell: Callable[[str, Exception | None], None],
        jitter: Callable[[], float],
    ) -> None:
        """`tell` hears of troubles, and None when there are none. The site's agent has the way of it."""
        self._settings = settings
        self._site = site
        self._tell = tell
        self._jitter = jitter
        self.name = settings.way.name
        self._way = next(way for way in site.posted if way.name == self.name)
        self._steady = site.clock.steady
        self._bodies = Bodies(site.folder, site.config)
        in_lines = settings.framing is Framing.LINES
        self._journal = Journal(site.folder / "sockets" / self.name, self._begin, in_lines=in_lines)
        self._stopping = threading.Event()
        self._counts: Counter[str] = Counter(added=0, skipped=0, errors=0)
        self._uncounted: Counter[str] = Counter()
        self._state = "not connected yet"
        self._filled = 0
        self._due = float("inf")
        self._thread = threading.Thread(target=self._run, name=f"socket {self.name}", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """Ask it to end. What has come stays for the next one."""
        self._stopping.set()

    def join(self) -> None:
        """Wait for its end, two seconds at most."""
        self._thread.join(2.0)

    def report(self) -> SourceReport:
        """Tell what came since the start."""
        return SourceReport(kind="socket", state=self._state, figures=dict(self._counts))

    # Connections

    def _run(self) -> None:
        while not self._stopping.is_set():
            self._filled, self._due = 0, float("inf")
            try:
                for batch in self._journal.open():
                    self._ship(batch)
                self._connect_again_and_again()
            except _Stopped:
                pass
            except (OSError, TidegateError) as error:
                self._tell(f"socket {self.name}", error)
            except Exception:
                log.exception("reading the socket %s failed, and begins anew", self.name)
            finally:
                self._journal.close()
            self._stopping.wait(ROOM_SECONDS)
        self._tell(f"socket {self.name}", None)

    def _connect_again_and_again(self) -> None:
        rounds = 0
        while not self._stopping.is_set():
            taken = 0
            try:
                with connected(self._settings.address) as endpoint:
                    self._state = "connected"
                    self._tell(f"socket {self.name}", None)
                    cutter = Cutter(
                        self._settings.framing,
                        self._settings.batch_bytes,
                        skip_repeats=self._settings.skip_repeats,
                    )
                    try:
                        self._read(endpoint, cutter)
                    finally:
                        self._take(cutter.pause(), cutter)  # a block that has come; half a line is none
                        taken = cutter.taken
            except OSError as error:
                why = f"{self._settings.address}: {error.strerror or error}"
                self._count(errors=1)
                self._state = f"not connected: {why}"
                self._tell(f"socket {self.name}", Unavailable(why))
            rounds = 0 if taken else rounds + 1
            self._wait(outage_seconds(rounds, self._jitter()) if rounds else 1.0)

    def _read(self, endpoint: socket.socket, cutter: Cutter) -> None:
        """Take what comes until the other end hangs up, which is an OSError like any other."""
        heard = synced = self._steady()
        told = 0
        while True:
            self._check()
            data = self._receive(endpoint)
            now = self._steady()
            if data:
                heard = now
                self._take(cutter.put(data), cutter)
            elif data == b"":
                self._take(cutter.end(), cutter)
                self._journal.sync()
                raise ConnectionError("the other end has hung up")
            elif cutter.has_rest and now - heard >= PAUSE_SECONDS:
                self._take(cutter.pause(), cutter)
            if now >= self._due:
                self._end_batch()
            if now - synced >= SYNC_SECONDS:
                self._journal.sync()
                synced = now
                if self._settings.replies and told != cutter.taken:
                    told = cutter.taken
                    endpoint.sendall(b"%d\n" % told)
            if self._settings.silence_seconds and now - heard >= self._settings.silence_seconds:
                raise ConnectionError(f"nothing has come for {self._settings.silence_seconds:g} seconds")

    def _receive(self, endpoint: socket.socket) -> bytes | None:
        """Wait a moment for some bytes; none at the end of the stream, None: nothing has come."""
        try:
            return endpoint.recv(RECEIVE_BYTES)
        except TimeoutError:
            return None

    # Batches

    def _take(self, whole: list[bytes], cutter: Cutter) -> None:
        """Put lines or blocks on the disk, in batches."""
        skipped, cutter.skipped = cutter.skipped, 0
        in_lines = self._settings.framing is Framing.LINES
        some: list[bytes] = []
        size = 0
        for one in whole:
            if (self._filled or some) and (
                not in_lines or self._filled + size + len(one) > self._settings.batch_bytes
            ):
                self._add(some)
                self._end_batch()
                some, size = [], 0
            some.append(one)
            size += len(one)
        self._add(some)
        if self._filled and (not in_lines or self._filled >= self._settings.batch_bytes):
            self._end_batch()
        self._count(added=len(whole), skipped=skipped)

    def _add(self, some: list[bytes]) -> None:
        """Put these on the disk. Where there is no room, nothing more is read until there is."""
        data = b"".join(some)
        if not data:
            return
        self._insist(lambda: self._journal.add(data))
        if not self._filled:
            self._due = self._steady() + self._settings.batch_seconds
        self._filled += len(data)

    def _end_batch(self) -> None:
        batch = self._insist(self._journal.close_batch)
        self._filled = 0
        self._due = float("inf")
        if batch:
            self._ship(batch)

    def _begin(self, number: int) -> dict[str, str]:
        """Say what the object of a batch is called. Raises Refused if it cannot be."""
        now = self._site.clock.wall()
        moment = datetime.fromtimestamp(now, timezone.utc).strftime("%Y%m%dT%H%M%S.%fZ")
        key = self._way.key.render(
            prefix=self._way.prefix,
            thing=self._site.thing,
            source=self.name,
            path=f"{self.name}-{moment}-{number:07}{self._settings.suffix}",
            mtime_ns=int(now * 1e9),
            now=now,
        )
        return {"bucket": self._way.bucket, "key": key}

    def _ship(self, batch: Batch) -> None:
        """Make a body and a promise of it. Done twice it is the same object, with the same bytes."""
        target = ObjectRef(batch.head["bucket"], batch.head["key"])
        body = Body(source=self._way, target=target, size=batch.size, write=batch.copy_to, metadata={})
        (kept,) = self._insist(lambda: self._bodies.keep([body]))
        try:
            self._insist(lambda: self._promise(as_promised(kept, body, self._site.choose(self._way)[0])))
        except LedgerLost:
            log.warning("%s is promised when there is a ledger again", target)
        self._journal.done(batch)
        self._site.agent.send_now()

    def _promise(self, transfer: Transfer) -> None:
        ledger = self._site.ledger
        ledger.offer([(transfer, "")], now=self._site.clock.wall())
        ledger.add({f"socket_{what}": count for what, count in self._uncounted.items()}, source=self.name)
        self._uncounted.clear()

    # What happens

    def _insist(self, do: Callable[[], Result]) -> Result:
        """Do it, be it after some time: nothing more is read until it could be done."""
        waited = False
        while True:
            try:
                result = do()
            except LedgerLost:
                raise
            except (TidegateError, OSError) as error:
                self._tell(f"socket {self.name}", error)
                waited = True
                self._wait(ROOM_SECONDS)
            else:
                if waited:
                    self._tell(f"socket {self.name}", None)
                return result

    def _count(self, **counts: int) -> None:
        self._counts.update(counts)
        self._uncounted.update(counts)

    def _wait(self, seconds: float) -> None:
        self._stopping.wait(seconds)
        self._check()

    def _check(self) -> None:
        if self._stopping.is_set():
            raise _Stopped


def connected(address: SocketAddress) -> socket.socket:
    """Connect. The socket waits only for moments. Raises OSError."""
    if address.path:
        endpoint = socket.socket(socket.AF_UNIX)
        endpoint.settimeout(CONNECT_SECONDS)
        try:
            endpoint.connect(address.path)
        except OSError:
            endpoint.close()
            raise
    else:
        endpoint = socket.create_connection((address.host, address.port), CONNECT_SECONDS)
        endpoint.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for option, value in ((socket.TCP_KEEPIDLE, 30), (socket.TCP_KEEPINTVL, 10), (socket.TCP_KEEPCNT, 3)):
            endpoint.setsockopt(socket.IPPROTO_TCP, option, value)
    endpoint.settimeout(TICK_SECONDS)
    return endpoint


class _Stopped(Exception):  # noqa: N818 - it is a wish
    """It is to end."""
