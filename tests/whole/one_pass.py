"""One whole pass of the agent, step after step in one thread, in a forked child that may be killed.

    python -m tests.whole.one_pass

reads orders from standard input, one JSON object a line, and answers each with the steps that were taken
and how the child ended. It forks and does nothing else, so each child starts from the same clean state.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import time
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.whole.bomb import Bomb
from tests.whole.shelf import eventually
from tidegate import app, workdir
from tidegate.carry.streams import Streams
from tidegate.carry.streams.client import Client
from tidegate.config import parse
from tidegate.disk.walk import is_current
from tidegate.disk.writers import ignore_lease_signals
from tidegate.flows.collect import collect
from tidegate.flows.dispatch import dispatch
from tidegate.flows.release import release_stored, return_leftovers
from tidegate.flows.scan import Scanner
from tidegate.model import Moment

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tidegate.carry import Answer, Carrier, News
    from tidegate.config import Config
    from tidegate.model import Outcome, Transfer

ROUNDS = 8
ROUND_SECONDS = 100.0
CHANGED = "changed"
"""The file that says that the changes of the world were made."""


class Mined:
    """A carrier whose every exchange with Stream Manager is a step of the bomb's."""

    def __init__(self, carrier: Carrier, bomb: Bomb) -> None:
        self._carrier = carrier
        self._bomb = bomb
        self.name = carrier.name

    def lanes(self, source: str) -> Sequence[str]:
        return self._carrier.lanes(source)

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

    def audit(self) -> Iterator[Sequence[Outcome]]:
        return self._carrier.audit()

    def troubles(self) -> dict[str, str]:
        return self._carrier.troubles()

    def finished(self, transfer: Transfer) -> None:
        self._carrier.finished(transfer)


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
        streams = Streams(
            config.stream_manager,
            ledger,
            links=self._folder / "links",
            steady=time.monotonic,
            wall=lambda: self._started,
        )
        self._ledger, self._carrier = ledger, Mined(streams, bomb)
        self._client = Client(config.stream_manager, time.monotonic)
        ledger.recover(now=self._started)
        never = app.own_folders(config, self._folder)
        scanners = [
            Scanner(source, ledger, carrier=streams.name, thing="thing", never=never)
            for source in config.sources
        ]
        for number in range(ROUNDS):
            if not self._round(scanners, self._started + number * ROUND_SECONDS):
                break
        else:
            raise AssertionError(f"not settled after {ROUNDS} rounds")
        bomb.phase = "end"
        streams.close()
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
        self._wait_for_exports()
        while self._newest("io.tidegate.S3Agent.status") >= ledger.position(self._carrier.name):
            collect(self._carrier, ledger, now=now)
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

    def _wait_for_exports(self) -> None:
        for source in self._config.sources:
            for lane in self._carrier.lanes(source.name):
                eventually(lambda lane=lane: self._is_idle(lane), pause=0.002)

    def _is_idle(self, lane: str) -> bool:
        description = self._client.describe(lane)
        return description.exported == description.newest

    def _newest(self, stream: str) -> int:
        return self._client.describe(stream).newest

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


def child(order: dict[str, Any], report: int) -> None:
    """Make the pass; the process ends here."""
    code = 1
    try:
        bomb = Bomb(order["roots"], fuse=order["fuse"], report=report)
        bomb.arm()
        Pass(order, bomb).run()
        bomb.tell()
        code = 0
    except BaseException:  # noqa: BLE001 - it is told, whatever it is
        os.write(report, json.dumps([traceback.format_exc()]).encode())
    finally:
        os._exit(code)


def obey(order: dict[str, Any]) -> dict[str, Any]:
    """Fork a child for one pass; tell how it ended."""
    reader, writer = os.pipe()
    process = os.fork()
    if process == 0:
        os.close(reader)
        child(order, writer)
    os.close(writer)
    with os.fdopen(reader, encoding="utf-8") as pipe:
        steps = json.loads(pipe.read() or "[]")
    _, status = os.waitpid(process, 0)
    return {"code": os.waitstatus_to_exitcode(status), "steps": steps}


def main() -> None:
    logging.getLogger("tidegate").addHandler(logging.NullHandler())
    for line in sys.stdin:
        print(json.dumps(obey(json.loads(line))), flush=True)


if __name__ == "__main__":
    main()
