"""A running agent with its routes, and a carrier that stores in memory, can be held up and can refuse."""

from __future__ import annotations

import json
import threading
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.helpers import eventually
from tidegate.agent import Agent
from tidegate.carry import Answer, News
from tidegate.clock import Clock
from tidegate.config import parse
from tidegate.disk.writers import ignore_lease_signals
from tidegate.health import Health
from tidegate.ledger import Books, Ledger
from tidegate.model import Outcome, Transfer, Verdict
from tidegate.routes import REPLY_BYTES, Reply, Routes, Site, posted_sources

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence


class Memory:
    """Stores what it is given; not while it is `held`. Keys in `refused` are refused."""

    name = "direct"
    depth = 1000

    def __init__(self) -> None:
        self.objects: dict[tuple[str, str], bytes] = {}
        self.given: list[Transfer] = []
        self.stored = 0
        self.refused: set[str] = set()
        self._free = threading.Event()
        self._free.set()
        self._lock = threading.Lock()
        self._news = threading.Event()
        self._taken: list[Transfer] = []

    def hold(self) -> None:
        self._free.clear()

    def let_go(self) -> None:
        self._free.set()
        self._news.set()

    def lanes(self, source: str) -> Sequence[str]:  # noqa: ARG002 - one for all
        return ("",)

    def start(self, tasks: Sequence[tuple[Transfer, str]]) -> Sequence[Answer]:
        with self._lock:
            self._taken += [transfer for transfer, _ in tasks]
            self.given += [transfer for transfer, _ in tasks]
        self._news.set()
        return [None] * len(tasks)

    def news(self, position: int) -> News:  # noqa: ARG002 - it keeps no count
        self._news.wait(0.05)
        self._news.clear()
        if not self._free.is_set():
            return News([], None)
        with self._lock:
            taken, self._taken = self._taken, []
        return News([self._store(transfer) for transfer in taken], None)

    def _store(self, transfer: Transfer) -> Outcome:
        target = transfer.target
        if target.key in self.refused:
            return Outcome(verdict=Verdict.REFUSED, promise=transfer.id, note="never that")
        self.objects[target.bucket, target.key] = Path(transfer.body.path).read_bytes()
        self.stored += 1
        return Outcome(verdict=Verdict.STORED, promise=transfer.id, etag=f"etag-{self.stored}")

    def audit(self) -> Iterator[Sequence[Outcome]]:
        yield ()

    def wake(self) -> None:
        self._news.set()

    def close(self) -> None:
        pass

    def away(self, _: str) -> str:
        return ""

    def troubles(self) -> dict[str, str]:
        return {}

    def finished(self, transfer: Transfer) -> None:
        pass


class Rig:
    """An agent that can be ended and started anew in the same work directory."""

    def __init__(self, folder: Path, raw: Mapping[str, Any]) -> None:
        ignore_lease_signals()
        self.work = folder / "work"
        self.work.mkdir(exist_ok=True)
        self.raw = dict(raw)
        self.clock = Clock()
        self.carrier = Memory()
        self.routes = Routes(self.clock)
        self.agent: Agent
        self.ledger: Ledger
        self._running = False
        self.mended = False

    def start(self) -> None:
        config = parse(self.raw)
        self.ledger = Ledger(self.work / "ledger.db", jitter=lambda: 0.5)
        self.health = Health(self.clock.wall)
        posted = posted_sources(config, self.work)
        never = frozenset([str(self.work)])
        self.agent = Agent(
            config,
            self.ledger,
            {"direct": self.carrier},
            choose=lambda _: "direct",
            thing="press-7",
            never=never,
            lists=self.work / "evicted",
            archives=self.work / "archives",
            clock=self.clock,
            health=self.health,
            posted=posted,
        )
        self._books = Books(self.work / "ledger.db")
        self.site = site = Site(
            agent=self.agent,
            config=config,
            raw=self.raw,
            ledger=self.ledger,
            books=self._books,
            posted=posted,
            choose=lambda _: ("direct", "it is the only one"),
            thing="press-7",
            never=never,
            folder=self.work,
            archives=self.work / "archives",
            clock=self.clock,
        )
        self.routes.attach(site, mended=self.mended)
        self.agent.start()
        self._running = True

    def stop(self) -> None:
        if self._running:
            self._running = False
            self.routes.detach()
            assert self.agent.stop(5)
            self._books.close()
            self.ledger.close()

    def restart(self) -> None:
        """End the agent and the routes, as a new process would find it."""
        self.close()
        self.routes = Routes(self.clock)
        self.carrier = Memory()
        self.start()

    def close(self) -> None:
        self.routes.give_up()
        self.stop()
        self.routes.close()

    def send(self, route: str, body: Mapping[str, Any] | bytes = b"") -> Answered:
        """Hand in a request."""
        answered = Answered()
        payload = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.routes.handle(route, payload, answered)
        return answered

    def ask(self, route: str, body: Mapping[str, Any] | bytes = b"", seconds: float = 10) -> Reply:
        """Hand in a request, and wait for its answer."""
        return self.send(route, body).reply(seconds)

    def source(self, name: str) -> dict[str, Any]:
        """Return what statistics/get tells of a source."""
        reply = self.ask("statistics/get")
        return next((one for one in reply.body["sources"] if one["name"] == name), {})

    def events(self, kind: str) -> list[dict[str, Any]]:
        found = self.ledger.events.pending(1000)
        return [dict(event.body) for event in found if event.kind == kind]

    def spooled(self) -> list[str]:
        folder = self.work / "spool" / "objects"
        return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


class Answered:
    """Takes the answer to one request: there must be one, and one only, and it must be small."""

    def __init__(self) -> None:
        self.replies: list[Reply] = []
        self._came = threading.Event()

    def __call__(self, reply: Reply) -> None:
        self.replies.append(reply)
        self._came.set()

    def reply(self, seconds: float = 10) -> Reply:
        assert self._came.wait(seconds), f"no answer within {seconds} seconds"
        (reply,) = self.replies
        assert len(reply.json()) <= REPLY_BYTES
        assert reply.body["status"] == reply.status
        assert ("code" in reply.body) == (not reply.accepted) == ("message" in reply.body)
        return reply


@contextmanager
def rig(folder: Path, **keys: Any) -> Iterator[Rig]:
    """Make a rig that watches `folder/data`, and end it."""
    (folder / "data").mkdir(exist_ok=True)
    raw = {
        "PathName": f"{folder}/data/*.csv",
        "BucketName": "bucket",
        "HoldBack": "None",
        "QuietSeconds": 0,
        "Interval": 0.1,
        **keys,
    }
    made = Rig(folder, {name: value for name, value in raw.items() if value is not None})
    made.start()
    try:
        yield made
    finally:
        made.close()


__all__ = ["Answered", "Memory", "Rig", "eventually", "rig"]
