"""An agent without threads and without time: a test says what happens, and when.

It promises files without a scan and deletes none, so that a test sees the way of a promise through ledger,
flows and carrier alone.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from tidegate.config import parse
from tidegate.errors import Unavailable
from tidegate.flows.collect import audit, collect
from tidegate.flows.dispatch import dispatch
from tidegate.ledger import Books, Ledger
from tidegate.model import Candidate, Fingerprint, State
from tidegate.policy import plan

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tidegate.carry import Carrier
    from tidegate.config import Source
    from tidegate.ledger import Entry
    from tidegate.model import Transfer

PATIENCE = 15.0
TICK_SECONDS = 0.5
AUDIT_SECONDS = 5.0


class ClosableCarrier(Protocol):
    """A carrier that a test can put away."""

    def close(self) -> None: ...


class Rig(Protocol):
    """What the tests of a carrier must bring along: the carrier, and a hand on all that is behind it."""

    s3: Any

    def carrier(
        self,
        ledger: Ledger,
        *,
        sources: Sequence[Source],
        links: Path,
        steady: Callable[[], float],
        wall: Callable[[], float],
    ) -> Any:
        """Make a carrier, as at the start of an agent."""

    def go_away(self) -> None:
        """Nothing can be reached any more, and what was under way is broken off."""

    def come_back(self) -> None:
        """Everything is as it was before `go_away`."""

    def hold(self) -> None:
        """Finish no upload until `let_go`."""

    def let_go(self) -> None: ...

    def refuse(self, reason: Callable[[str], str | None] | None) -> None:
        """From now on what is to be said against an object with this key, if anything."""


class HandClock:
    """Two clocks that move when they are told to."""

    def __init__(self) -> None:
        self.now = 0.0

    def wall(self) -> float:
        return 1_700_000_000.0 + self.now

    def steady(self) -> float:
        return 100.0 + self.now

    def advance(self, seconds: float) -> None:
        self.now += seconds


class Depot:
    """A ledger, a carrier and a folder of files, and what makes the one move the other."""

    def __init__(self, rig: Rig, root: Path, bucket: str, **keys: Any) -> None:
        """`keys` are those of the configuration, beside those that every source must have."""
        self.rig = rig
        self.root = root
        self.files = root / "files"
        self.files.mkdir()
        self.bucket = bucket
        self.clock = HandClock()
        self.unavailable: list[str] = []
        self._audited = 0.0
        sources = {"default": {"PathName": f"{self.files}/**", "BucketName": bucket}} | keys.pop(
            "Sources", {}
        )
        self.config = parse({"Sources": sources} | keys)
        self.sources = {source.name: source for source in self.config.sources}
        self.ledger = Ledger(root / "ledger.db", jitter=lambda: 0.5)
        self.carrier: Carrier = self._make_carrier()

    def close(self) -> None:
        self.carrier.close()
        self.ledger.close()

    def restart(self) -> None:
        """Be an agent that was killed and started again: only the ledger and the folder are the same."""
        self.close()
        self.ledger = Ledger(self.root / "ledger.db", jitter=lambda: 0.5)
        self.carrier = self._make_carrier()
        self.ledger.recover(now=self.clock.wall())

    def _make_carrier(self) -> Carrier:
        return self.rig.carrier(
            self.ledger,
            sources=self.config.sources,
            links=self.root / "links",
            steady=self.clock.steady,
            wall=self.clock.wall,
        )

    # Files and promises

    def write(self, name: str, content: bytes = b"content", *, modified: float | None = None) -> str:
        """Write a file; `modified` orders files, which otherwise may be of the same tick."""
        path = f"{self.files}/{name}"
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).write_bytes(content)
        if modified is not None:
            os.utime(path, (modified, modified))
        return path

    def promise(self, *paths: str, source: str = "default") -> list[Transfer]:
        offers = [
            plan(
                self.sources[source],
                Candidate(path, Fingerprint.of(os.stat(path))),  # noqa: PTH116
                carrier=self.carrier.name,
                thing="thing",
                now=self.clock.wall(),
            )
            for path in paths
        ]
        self.ledger.offer(offers, now=self.clock.wall())
        return [transfer for transfer, _ in offers]

    def send(self, name: str, content: bytes = b"content", *, modified: float | None = None) -> Transfer:
        """Write a file and promise it."""
        return self.promise(self.write(name, content, modified=modified))[0]

    def send_many(self, count: int, stem: str = "file") -> list[Transfer]:
        return self.promise(*(self.write(f"{stem}{n:03}", b"content %d" % n) for n in range(count)))

    # Rounds

    def hand_over(self) -> int:
        """Dispatch once for each source. An unavailable carrier is noted, as a loop would."""
        moved = 0
        for source in self.sources:
            try:
                moved += dispatch(source, self.carrier, self.ledger, now=self.clock.wall())
            except Unavailable as error:
                self.unavailable.append(str(error))
        return moved

    def collect(self) -> int:
        try:
            return collect(self.carrier, self.ledger, now=self.clock.wall())
        except Unavailable as error:
            self.unavailable.append(str(error))
            return 0

    def audit(self) -> int:
        self._audited = self.clock.now
        try:
            return audit(self.carrier, self.ledger, now=self.clock.wall())
        except Unavailable as error:
            self.unavailable.append(str(error))
            return 0

    def round(self, tick: float = TICK_SECONDS) -> None:
        """One turn of each loop; then `tick` seconds are over, whatever it took."""
        self.hand_over()
        self.collect()
        if self.clock.now - self._audited >= AUDIT_SECONDS:
            self.audit()
        self.clock.advance(tick)

    def run_until(self, condition: Callable[[], Any], tick: float = TICK_SECONDS) -> None:
        """Go round until the condition holds; fail when that takes too long in real time."""
        deadline = time.monotonic() + PATIENCE
        while not condition():
            assert time.monotonic() < deadline, f"not settled: {self.tally()}, {self.unavailable[-1:]}"
            self.round(tick)

    def settle(self, tick: float = TICK_SECONDS) -> None:
        """Go round until nothing waits any more."""
        self.run_until(self.is_settled, tick)

    def run_for(self, seconds: float, tick: float = TICK_SECONDS) -> None:
        end = self.clock.now + seconds
        self.run_until(lambda: self.clock.now >= end, tick)

    # What has become of it

    def tally(self) -> dict[State, int]:
        """Count the promises of all sources that stand somewhere."""
        return {
            state: count
            for state in State
            if (count := sum(self.ledger.in_state(source, state) for source in self.sources))
        }

    def is_settled(self) -> bool:
        return not self.tally().keys() & {State.READY, State.SENT}

    def entry(self, transfer: Transfer) -> Entry:
        """Return the newest promise about the file."""
        books = Books(self.root / "ledger.db")
        try:
            return books.promises(transfer.body.path)[0]
        finally:
            books.close()

    def counters(self) -> dict[str, int]:
        books = Books(self.root / "ledger.db")
        try:
            total: dict[str, int] = {}
            for counts in books.counters().values():
                for name, value in counts.items():
                    total[name] = total.get(name, 0) + value
            return total
        finally:
            books.close()

    def content(self, transfer: Transfer) -> bytes:
        target = transfer.target
        return self.rig.s3.get_object(Bucket=target.bucket, Key=target.key)["Body"].read()

    def keys(self, bucket: str | None = None) -> list[str]:
        pages = self.rig.s3.get_paginator("list_objects_v2").paginate(Bucket=bucket or self.bucket)
        return [item["Key"] for page in pages for item in page.get("Contents", ())]

    def uploads(self, bucket: str | None = None) -> dict[str, int]:
        """Count how often each object was written."""
        counts: dict[str, int] = {}
        pages = self.rig.s3.get_paginator("list_object_versions").paginate(Bucket=bucket or self.bucket)
        for page in pages:
            for version in page.get("Versions", ()):
                counts[version["Key"]] = counts.get(version["Key"], 0) + 1
        return counts


def all_arrived(depot: Depot, count: int) -> None:
    """Every file is stored and in the bucket, none more than twice."""
    assert depot.tally() == {State.STORED: count}
    uploads = depot.uploads()
    assert len(uploads) == count
    assert max(uploads.values()) <= 2
