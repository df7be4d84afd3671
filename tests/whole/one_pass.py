"""One whole pass of the agent, step after step in one thread, in a forked child that may be killed.

    python -m tests.whole.one_pass

does what orders say: see tests.mortal.
"""

from __future__ import annotations

import logging
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.mortal import obey_orders
from tests.whole.bomb import Bomb
from tests.whole.plant import KEYS
from tests.whole.shelf import eventually
from tidegate import app, workdir
from tidegate.carry import News
from tidegate.carry.direct import Direct, Throttle, connect
from tidegate.carry.streams import Streams
from tidegate.carry.streams.client import Client
from tidegate.config import CarrierChoice, parse
from tidegate.disk.walk import is_current
from tidegate.disk.writers import ignore_lease_signals
from tidegate.flows.collect import collect
from tidegate.flows.dispatch import dispatch
from tidegate.flows.release import release_stored, return_leftovers
from tidegate.flows.scan import Scanner
from tidegate.model import Moment

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tidegate.carry import Answer, Carrier
    from tidegate.config import Config, Source
    from tidegate.ledger import Ledger
    from tidegate.model import Outcome, Transfer
    from tidegate.store.s3 import S3

ROUNDS = 8
ROUND_SECONDS = 100.0
CHANGED = "changed"
"""The file that says that the changes of the world were made."""


class Mined:
    """A carrier whose every exchange is a step of the bomb's."""

    def __init__(self, carrier: Carrier, bomb: Bomb) -> None:
        self._carrier = carrier
        self._bomb = bomb
        self.name = carrier.name
        self.depth = carrier.depth
        self.lanes = carrier.lanes
        self.audit = carrier.audit
        self.troubles = carrier.troubles
        self.finished = carrier.finished
        self.close = carrier.close

    def collect(self, ledger: Ledger, sources: Sequence[Source], now: float) -> None:
        """Write down what became of everything that was handed over."""
        raise NotImplementedError


class MinedStreams(Mined):
    """Stream Manager, as a process of its own, goes on whatever becomes of us."""

    def __init__(self, config: Config, ledger: Ledger, folder: Path, started: float, bomb: Bomb) -> None:
        streams = Streams(
            config.stream_manager,
            ledger,
            links=folder / "links",
            steady=time.monotonic,
            wall=lambda: started,
        )
        super().__init__(streams, bomb)
        self._client = Client(config.stream_manager, time.monotonic)

    def start(self, tasks: Sequence[tuple[Transfer, str]]) -> Sequence[Answer]:
        answers: list[Answer] = []
        for task in tasks:
            self._bomb.step("before append")
            answers += self._carrier.start([task])
            self._bomb.step("after append")
        return answers

    def news(self, position: int) -> News:
        self._bomb.step("before reading statuses")
        news = self._carrier.news(position)
        self._bomb.step("after reading statuses")
        return news

    def collect(self, ledger: Ledger, sources: Sequence[Source], now: float) -> None:
        for source in sources:
            for lane in self.lanes(source.name):
                eventually(lambda lane=lane: self._is_idle(lane), pause=0.002)
        while self._newest("io.tidegate.S3Agent.status") >= ledger.position(self.name):
            collect(self, ledger, now=now)

    def _is_idle(self, lane: str) -> bool:
        description = self._client.describe(lane)
        return description.exported == description.newest

    def _newest(self, stream: str) -> int:
        return self._client.describe(stream).newest


class MinedDirect(Mined):
    """Uploads one file at a time, so that the steps come in the same order each time."""

    def __init__(self, config: Config, ledger: Ledger, folder: Path, bomb: Bomb) -> None:
        direct = Direct(
            config.sources,
            ledger,
            connect=lambda settings: MinedS3(connect(settings, KEYS, thing="thing"), bomb),
            thing="thing",
            spool=folder / "spool",
            throttle=MinedThrottle(bomb),
            limit=1,
            steady=time.monotonic,
            jitter=lambda: 0.5,
            poll_seconds=0.05,
        )
        super().__init__(direct, bomb)
        self._outcomes: list[Outcome] = []

    def start(self, tasks: Sequence[tuple[Transfer, str]]) -> Sequence[Answer]:
        answers: list[Answer] = []
        for task in tasks:
            answers += self._carrier.start([task])
            assert answers[-1] is None, answers[-1]
            self._outcomes += eventually(lambda: self._carrier.news(0).outcomes)
        return answers

    def news(self, position: int) -> News:  # noqa: ARG002 - there is none
        outcomes, self._outcomes = self._outcomes, []
        return News(outcomes, None)

    def collect(self, ledger: Ledger, sources: Sequence[Source], now: float) -> None:  # noqa: ARG002
        while collect(self, ledger, now=now):
            pass
        list(self.audit())
        eventually(lambda: not ledger.uploads.stale(), pause=0.002)


class MinedS3:
    """A client of S3 whose requests are steps."""

    def __init__(self, s3: S3, bomb: Bomb) -> None:
        self._s3 = s3
        self._bomb = bomb

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._s3, name)

        def request(*arguments: Any, **named: Any) -> Any:
            self._bomb.step(f"before {name}")
            try:
                return method(*arguments, **named)
            finally:
                self._bomb.step(f"after {name}")

        return request


class MinedThrottle(Throttle):
    """Is asked in the middle of each body."""

    def __init__(self, bomb: Bomb) -> None:
        super().__init__(lambda: None, time.monotonic)
        self._bomb = bomb

    def take(self, count: int, priority: int, check: Callable[[], None]) -> int:
        self._bomb.step("within sending")
        return super().take(min(count, 2**21), priority, check)


class Pass:
    """The agent's parts, as `App` and `Agent` put them together, without their threads and pauses."""

    def __init__(self, order: dict[str, Any], bomb: Bomb) -> None:
        self._bomb = bomb
        self._order = order
        self._folder = Path(order["work"])
        self._started = time.time() + order["ahead"]
        self._config: Config = parse(order["raw"])

    def run(self) -> None:
        bomb, config = self._bomb, self._config
        bomb.phase = "start"
        ignore_lease_signals()
        lock = workdir.Lock(self._folder)
        workdir.keep_configuration(self._folder, self._order["raw"])
        ledger = workdir.open_ledger(self._folder, jitter=lambda: 0.5, in_memory=False)
        self._ledger = ledger
        self._carrier: Mined
        if config.sources[0].carrier is CarrierChoice.DIRECT:
            self._carrier = MinedDirect(config, ledger, self._folder, bomb)
        else:
            self._carrier = MinedStreams(config, ledger, self._folder, self._started, bomb)
        ledger.recover(now=self._started)
        never = app.own_folders(config, self._folder)
        scanners = [
            Scanner(source, ledger, carrier=self._carrier.name, thing="thing", never=never)
            for source in config.sources
        ]
        for number in range(ROUNDS):
            if not self._round(scanners, self._started + number * ROUND_SECONDS):
                break
        else:
            raise AssertionError(f"not settled after {ROUNDS} rounds")
        bomb.phase = "end"
        self._carrier.close()
        bomb.step("close")
        ledger.close()
        lock.release()
        bomb.step("exit")

    def _round(self, scanners: Sequence[Scanner], now: float) -> bool:
        """Do everything once. Tells whether there is more to do."""
        bomb, ledger, sources = self._bomb, self._ledger, self._config.sources
        bomb.phase = "scan"
        scans = [scanner.scan(Moment(now, time.monotonic(), float("inf"))) for scanner in scanners]
        bomb.phase = "dispatch"
        for source in sources:
            while dispatch(source.name, self._carrier, ledger, now=now):
                pass
        bomb.phase = "release too early"
        release_stored(sources[0], ledger, now=now)  # nothing may go before its news is written down
        bomb.phase = "collect"
        self._carrier.collect(ledger, sources, now)
        self._let_the_world_change()
        bomb.phase = "release"
        for source in sources:
            while release_stored(source, ledger, now=now):
                pass
        leftovers = {folder for scan in scans for folder in scan.leftovers}
        bomb.phase = "return"
        return_leftovers(leftovers)
        bomb.phase = "prune"
        ledger.prune(keep=is_current, limit=100, now=now)
        return bool(leftovers) or any(
            scan.promised or ledger.unfinished(source.name, retention_seconds=0, now=now + 3600)
            for source, scan in zip(sources, scans, strict=True)
        )

    def _let_the_world_change(self) -> None:
        """Write what the order says, as other programs do: in place, or by renaming a new file over it."""
        marker = self._folder / CHANGED
        if not self._order["changes"] or marker.exists():
            return
        with self._bomb.silence():
            for path, how, text in self._order["changes"]:
                if how == "append":
                    with Path(path).open("a") as file:
                        file.write(text)
                else:
                    draft = Path(f"{path}.new")
                    draft.write_text(text)
                    draft.replace(path)
            marker.touch()


def carry_out(order: dict[str, Any], report: int) -> None:
    """Make the pass."""
    bomb = Bomb(order["roots"], fuse=order["fuse"], report=report)
    bomb.arm()
    Pass(order, bomb).run()
    bomb.tell()


def main() -> None:
    logging.getLogger("tidegate").addHandler(logging.NullHandler())
    obey_orders(carry_out)


if __name__ == "__main__":
    main()
