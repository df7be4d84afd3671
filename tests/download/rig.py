"""One download on an S3 that misbehaves on request, without threads of an agent and without waiting."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from tests.direct_rig import Purse
from tests.standins.faulty_s3 import FaultyS3, Held
from tidegate.carry.direct import Throttle
from tidegate.config import parse
from tidegate.fetch.download import Downloader
from tidegate.fetch.names import PARTIAL
from tidegate.ledger import Ledger
from tidegate.model import Moment
from tidegate.store.calls import Caller
from tidegate.store.endpoints import Endpoint
from tidegate.store.library import Library
from tidegate.store.wire import Manner

if TYPE_CHECKING:
    from pathlib import Path

    from tidegate.fetch.download import Round

BUCKET = "bucket"


class Hands:
    """A clock that goes on when it is told to."""

    def __init__(self) -> None:
        self.at = 1000.0

    def now(self) -> Moment:
        return Moment(self.at, self.at, float("inf"))

    def wall(self) -> float:
        return self.at

    steady = wall


def settings(folder: Path, **keys: Any) -> Any:
    """Parse a download; without keys it is of all below `up`."""
    if "ObjectKeys" not in keys:
        keys = {"ObjectsBelow": "up"} | keys
    raw = {"Direction": "Download", "BucketName": BUCKET, "TargetFolder": str(folder), **keys}
    (download,) = parse({"Sources": {"in": raw}}).downloads
    return download


class Desk:
    """A folder, a ledger and a bucket."""

    def __init__(self, folder: Path, s3: FaultyS3, *, hands: int = 4, **keys: Any) -> None:
        self.folder = folder / "in"
        self.s3 = s3
        self.clock = Hands()
        self.limit: float | None = None
        self._work = folder
        self._hands = hands
        self._keys = keys
        self.start()

    def start(self, **keys: Any) -> None:
        """Begin as a new process does, perhaps with another configuration."""
        self._keys |= keys
        self.ledger = Ledger(self._work / "ledger.db", jitter=lambda: 0.5)
        manner = Manner(connect_seconds=2.0, read_seconds=5.0)
        caller = Caller(
            Endpoint(region="us-east-1", url=self.s3.url),
            Purse(),
            manner=lambda _: manner,
            clock=self.clock.wall,
        )
        self.download = Downloader(
            settings(self.folder, **self._keys),
            self.ledger,
            library=Library(caller),
            throttle=Throttle(lambda: self.limit, self.clock.steady),
            slots=threading.BoundedSemaphore(4),
            hands=self._hands,
            clock=self.clock,  # type: ignore[arg-type]
            jitter=lambda: 0.5,
        )

    def stop(self) -> None:
        self.download.stop()
        self.ledger.close()

    def restart(self, **keys: Any) -> None:
        self.stop()
        self.start(**keys)

    def put(self, key: str, body: bytes) -> None:
        self.s3.objects[f"{BUCKET}/{key}"] = Held(body)

    def drop(self, key: str) -> None:
        del self.s3.objects[f"{BUCKET}/{key}"]

    def round(self, seconds: float = 400) -> Round:
        """Make a round, so much later than the one before."""
        self.clock.at += seconds
        self.download.step()
        assert self.download.last
        return self.download.last

    def files(self) -> dict[str, bytes]:
        """What is in the folder, beside what is not whole."""
        return {
            str(path.relative_to(self.folder)): path.read_bytes()
            for path in self.folder.rglob("*")
            if path.is_file() and path.relative_to(self.folder).parts[0] != PARTIAL
        }

    def parts(self) -> list[Path]:
        return list((self.folder / PARTIAL).iterdir())

    def asked(self, *kinds: str) -> int:
        return sum(seen.kind in kinds for seen in self.s3.seen)

    @property
    def counters(self) -> dict[str, int]:
        return self.ledger.books.counters().get("in", {})


def figures(made: Round) -> tuple[int, int, int]:
    return made.added, made.unchanged, made.deleted
