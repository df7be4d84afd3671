"""A random life: programs that write, an operator, clocks and Stream Manager, all misbehaving.

After each step what was written last is on disk or in the bucket, and in the end, when all is well
again, every closed file is stored and dealt with.
"""

from __future__ import annotations

import logging
import os
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from tests.helpers import MEMORY
from tests.standins.exporter import local_path, parse_task
from tests.standins.streammanager import StreamManagerStandIn
from tests.standins.switches import Status
from tests.whole.shelf import Shelf, eventually
from tidegate.carry.streams import Streams
from tidegate.config import parse
from tidegate.disk.walk import PRIVATE_FOLDER, is_current
from tidegate.disk.writers import ignore_lease_signals
from tidegate.errors import Unavailable
from tidegate.flows.collect import audit, collect
from tidegate.flows.dispatch import dispatch
from tidegate.flows.release import release_stored, return_leftovers
from tidegate.flows.scan import Scanner
from tidegate.ledger import Ledger
from tidegate.model import Moment, State

if TYPE_CHECKING:
    from tests.standins.stream import Progress, Stream
    from tests.standins.switches import ExportTask

pytestmark = pytest.mark.slow

FOR_EVER = 10**9
NAMES = st.sampled_from(["a.csv", "b.csv", "sub/a.csv", "odd name.csv"])
HOW = st.sampled_from(["anew", "append", "in place", "replace", "dated"])
SPANS = st.sampled_from([0.5, 5.0, 70.0, 4000.0])
STATUS_STREAM = "io.tidegate.S3Agent.status"


class FakeClock:
    """Both clocks of a device, ahead of the real ones or behind.

    The kernel stamps files with the real time, so what a test sets here is where the device believes to be.
    """

    def __init__(self) -> None:
        self._offset = 0.0
        self._passed = 0.0
        self._jumped: float | None = None

    def advance(self, seconds: float) -> None:
        """Time passes."""
        self._offset += seconds
        self._passed += seconds

    def step(self, seconds: float) -> None:
        """Somebody sets the wall clock."""
        self._offset += seconds
        self._jumped = self.steady()

    def steady(self) -> float:
        return time.monotonic() + self._passed

    def wall(self) -> float:
        return time.time() + self._offset

    def now(self) -> Moment:
        steady = self.steady()
        return Moment(self.wall(), steady, float("inf") if self._jumped is None else steady - self._jumped)


class Life(RuleBasedStateMachine):
    """`written` is what each file held last; None: an operator deleted it, and wants nothing any more."""

    def __init__(self) -> None:
        super().__init__()
        self._folder = tempfile.TemporaryDirectory(prefix="tidegate-", dir=MEMORY)
        self._root = Path(self._folder.name)
        self._data = self._root / "data"
        self._data.mkdir()
        self._clock = FakeClock()
        self._shelf = Shelf()
        self._written: dict[str, bytes | None] = {}
        self._versions = 0
        self._losing = self._paused = False
        self._stream_manager = self._serve(0)

    @initialize(
        after=st.sampled_from(["Delete", "Delete", "Move", "Keep"]),
        hold_back=st.sampled_from(["Newest", "NewestPerDirectory", "None"]),
        retention=st.sampled_from([0, 1]),
    )
    def is_born(self, after: str, hold_back: str, retention: int) -> None:
        ignore_lease_signals()
        self._after, self._hold_back = after, hold_back
        raw: dict[str, object] = {
            "PathName": f"{self._data}/**/*.csv",
            "BucketName": "bucket",
            "After": after,
            "HoldBack": hold_back,
            "MaxHoldSeconds": 0,
            "QuietSeconds": 1,
            "StreamManager": {"Port": self._stream_manager.port, "Streams": 2},
        }
        if after == "Move":
            raw["MoveTo"] = str(self._root / "moved")
        if after != "Keep":
            raw["DeleteAfterMinutes"] = retention
        self._config = parse(raw)
        (self._source,) = self._config.sources
        self._start()

    # Programs that write, and an operator

    @rule(writes=st.lists(st.tuples(NAMES, HOW), min_size=1, max_size=4))
    def programs_write(self, writes: list[tuple[str, str]]) -> None:
        for name, how in writes:
            self._write(name, how)

    def _write(self, name: str, how: str) -> None:
        path = self._data / name
        path.parent.mkdir(exist_ok=True)
        self._versions += 1
        content = f"version {self._versions:04}\n".encode()
        if how == "anew" or not path.exists():
            path.write_bytes(content)
        elif how == "append":
            with path.open("ab") as file:
                file.write(content)
        elif how == "in place":  # neither size nor modification time shows it
            status = path.stat()
            with path.open("r+b") as file:
                file.write(content[-status.st_size :])
            os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
        else:
            draft = path.with_suffix(".part")
            draft.write_bytes(content)
            if how == "dated":
                stamp = self._clock.wall() + (1e9 if self._versions % 2 else -1e6)
                os.utime(draft, (stamp, stamp))
            draft.rename(path)
        self._written[name] = path.read_bytes()

    @rule(name=NAMES)
    def an_operator_deletes(self, name: str) -> None:
        path = self._data / name
        for place in (path, path.parent / PRIVATE_FOLDER / path.name):
            place.unlink(missing_ok=True)
        self._written[name] = None

    # The agent

    @rule(seconds=SPANS, rounds=st.integers(1, 3))
    def the_agent_works(self, seconds: float, rounds: int) -> None:
        self._clock.advance(seconds)
        for _ in range(rounds):
            self._round()

    @rule(seconds=SPANS, steps=st.integers(1, 3))
    def it_gets_no_further_than(self, seconds: float, steps: int) -> None:
        self._clock.advance(seconds)
        for step in (self._scan, self._dispatch, self._collect)[:steps]:
            step()

    @rule(during=st.sampled_from(["a pause", "sending", "releasing"]), rewritten=st.booleans())
    def power_fails(self, during: str, *, rewritten: bool) -> None:
        """It fails when promises were given out or files taken aside. Programs may go on before the agent."""
        now = self._clock.wall()
        aside = []
        if during == "sending":
            self._scan()
            self._ledger.claim("default", "streams", limit=10, now=now)
        elif during == "releasing" and self._after != "Keep":
            stored = self._ledger.stored("default", retention_seconds=0, limit=10, now=now)
            aside = [Path(it.body.path) for it in stored if is_current(it.body)]
        for path in aside:
            private = path.parent / PRIVATE_FOLDER / path.name
            private.parent.mkdir(exist_ok=True)
            if not private.exists():
                path.rename(private)
            if rewritten and str(path.relative_to(self._data)) in self._written:
                self._write(str(path.relative_to(self._data)), "anew")
        self._stop()
        self._start()

    @rule(seconds=st.sampled_from([-1e6, -4000.0, -10.0, 10.0, 4000.0, 1e6]))
    def the_clock_is_set(self, seconds: float) -> None:
        self._clock.step(seconds)

    # Stream Manager

    @rule(fault=st.sampled_from(["drop", "lose a reply", "restart", "wipe", "restart wiped"]))
    def stream_manager_fails(self, fault: str) -> None:
        if fault == "drop":
            self._stream_manager.drop_connections()
        elif fault == "lose a reply":
            self._stream_manager.drop_on = "append"
            self._stream_manager.drop_after = 1
        if "wipe" in fault:
            self._stream_manager.wipe()
        if "restart" in fault:
            port = self._stream_manager.port
            self._stream_manager.kill()
            self._stream_manager = self._serve(port)
            self._paused = False

    @rule(
        losing=st.booleans(),
        paused=st.booleans(),
        refused=st.lists(NAMES, max_size=2),
        policy=st.sampled_from(["failure", "retry"]),
    )
    def stream_manager_is_like_this(
        self, *, losing: bool, paused: bool, refused: list[str], policy: str
    ) -> None:
        """Statuses get lost or come twice, uploads are slow, keys are refused, errors are told or not."""
        self._losing, self._paused = losing, paused
        if paused:
            self._stream_manager.pause()
        else:
            self._stream_manager.resume()
        self._shelf.refusing.clear()
        self._shelf.refusing.update({_key(name): FOR_EVER for name in refused})
        self._stream_manager.duplicate_statuses = not losing
        self._stream_manager.on_error = policy

    # What must hold

    @invariant()
    def what_was_written_last_is_on_disk_or_in_the_bucket(self) -> None:
        for name, content in self._written.items():
            if content is not None:
                assert self._is_on_disk(name, content) or self._shelf.objects.get(_key(name)) == content, name

    def teardown(self) -> None:
        try:
            if hasattr(self, "_config"):
                self._ends_well()
        finally:
            if hasattr(self, "_ledger"):
                self._stop()
            self._stream_manager.kill()
            self._folder.cleanup()

    def _ends_well(self) -> None:
        """Nothing is wrong any more, and there is time enough: all closed files settle."""
        self.stream_manager_is_like_this(losing=False, paused=False, refused=[], policy="failure")
        self._stream_manager.drop_after = None
        for _ in range(40):
            self._clock.advance(100)
            self._ledger.retry(None, now=self._clock.wall())
            self._round()
            self.what_was_written_last_is_on_disk_or_in_the_bucket()
            if self._is_settled():
                break
        else:
            raise AssertionError("does not settle")
        held = {"None": 0, "Newest": 1, "NewestPerDirectory": 2}[self._hold_back]
        missing = [
            name
            for name, content in self._written.items()
            if content is not None and self._shelf.objects.get(_key(name)) != content
        ]
        assert len(missing) <= held
        if self._after != "Keep":
            assert len(self._files()) <= held
        exports = self._shelf.tries.total()
        for _ in range(2):
            self._clock.advance(100)
            self._round()
        assert self._shelf.tries.total() == exports, "files are sent again and again"

    def _is_settled(self) -> bool:
        waiting = self._ledger.unfinished("default", retention_seconds=0, now=self._clock.wall() + 3600)
        quiet = sum(count for why, count in self._last.holds.items() if why.name != "NEWEST")
        failed = self._ledger.in_state("default", State.FAILED)
        return not (waiting or quiet or failed or self._last.promised or self._last.leftovers)

    # Parts of the agent

    def _start(self) -> None:
        self._ledger = Ledger(self._root / "ledger.db", jitter=lambda: 0.5)
        self._carrier = Streams(
            self._config.stream_manager,
            self._ledger,
            links=self._root / "links",
            steady=self._clock.steady,
            wall=self._clock.wall,
        )
        self._ledger.recover(now=self._clock.wall())
        never = frozenset([str(self._root / "moved")])
        self._scanner = Scanner(
            self._source, self._ledger, carrier=self._carrier.name, thing="thing", never=never
        )

    def _stop(self) -> None:
        self._carrier.close()
        self._ledger.close()

    def _round(self) -> None:
        self._scan()
        self._dispatch()
        self._collect()
        while release_stored(self._source, self._ledger, now=self._clock.wall()):
            pass
        return_leftovers(self._last.leftovers)
        self._ledger.prune(keep=is_current, limit=100, now=self._clock.wall())

    def _scan(self) -> None:
        self._last = self._scanner.scan(self._clock.now())

    def _dispatch(self) -> None:
        with suppress(Unavailable):
            while dispatch("default", self._carrier, self._ledger, now=self._clock.wall()):
                pass

    def _collect(self) -> None:
        eventually(self._is_idle, pause=0.001)
        with suppress(Unavailable):
            while self._newest(STATUS_STREAM) >= self._ledger.position(self._carrier.name):
                collect(self._carrier, self._ledger, now=self._clock.wall())
        with suppress(Unavailable):
            audit(self._carrier, self._ledger, now=self._clock.wall())

    # Parts of the world

    def _serve(self, port: int) -> StreamManagerStandIn:
        return StreamManagerStandIn(
            data_dir=self._root / "streams",
            port=port,
            noop_exporter=True,
            on_export=self._shelf,
            retry_base=0.001,
            retry_cap=0.002,
            lose_statuses=self._loses,
        )

    def _loses(self, _: ExportTask, status: Status) -> bool:
        return self._losing and status is Status.SUCCESS

    def _is_idle(self) -> bool:
        """Every stream has come to its end, or to a task that it tries for ever."""
        streams = self._stream_manager._call(lambda: list(self._stream_manager._store.streams.values()))
        return self._paused or all(
            self._has_settled(stream, it) for stream in streams for it in stream.progress.values()
        )

    def _has_settled(self, stream: Stream, progress: Progress) -> bool:
        head = stream.read(progress.last + 1, 1)
        if not head or progress.error == "" or self._stream_manager.on_error == "failure":
            return not head
        task = parse_task(stream.name, "", *head[0][::2])
        path = local_path(task.input_url, percent_decode=False)
        return self._shelf.refusing[task.key] > 0 or not Path(path).exists()

    def _newest(self, name: str) -> int:
        streams = self._stream_manager._store.streams
        return self._stream_manager._call(lambda: streams[name].newest if name in streams else -1)

    def _is_on_disk(self, name: str, content: bytes) -> bool:
        path = self._data / name
        places = (path, path.parent / PRIVATE_FOLDER / path.name)
        return any(it.exists() and it.read_bytes() == content for it in places)

    def _files(self) -> set[str]:
        return {str(it.relative_to(self._data)) for it in self._data.rglob("*") if it.is_file()}


def _key(name: str) -> str:
    return name.replace(" ", "=20")


logging.getLogger("tidegate").addHandler(logging.NullHandler())

TestLife = Life.TestCase
TestLife.settings = settings(
    max_examples=200,
    stateful_step_count=40,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
