"""Stop a cycle before and after every step that leaves a trace, and look at what is left.

As in tests/whole/test_crash.py: one small world is made again and again; each time the process dies one
step later, and another process goes on in what the dead one left.
"""

from __future__ import annotations

import io
import shutil
import sqlite3
import zipfile
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from tests.mortal import Mother
from tests.whole.one_pass import CHANGED
from tests.whole.stores import BUCKET, ByDirect, ByStreams
from tidegate.config.naming import cycle_name
from tidegate.disk.walk import PRIVATE_FOLDER
from tidegate.model import State

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.slow

RUNNERS = 2
STORES = {"streams": ByStreams, "direct": ByDirect}
FILES = ("A/one.csv", "A/sub/zwölf.csv", "A/appended.csv", "B/one.csv", "root.csv")
CHANGES = (("A/appended.csv", "append", " and more"),)


class World:
    """One source, and a store for it."""

    def __init__(self, folder: Path, store: ByStreams | ByDirect) -> None:
        self.store = store
        self._data = folder / "data"
        self._work = folder / "work"
        self._content = {}
        self._may_come_again: set[str] = set()
        for name in FILES:
            self._content[name] = f"{name} first version".encode()
            path = self._data / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(self._content[name])
        self._work.mkdir()

    def order(self, fuse: int, *, number: int = 0) -> dict[str, Any]:
        """Ask for a pass that dies at step `fuse`, 0 being never. Passes are numbered, and hours apart."""
        return {
            "roots": [str(self._data.parent)],
            "work": str(self._work),
            "fuse": fuse,
            "ahead": 10 + 4000 * number,
            "changes": [[str(self._data / name), how, text] for name, how, text in CHANGES]
            if not number
            else [],
            "raw": {
                "PathName": f"{self._data}/**/*.csv",
                "BucketName": BUCKET,
                "QuietSeconds": 0,
                "Mode": "Cycle",
                "Interval": 50,
                "Archive": "Zip",
                "Layout": "ThingAndTime",
                **self.store.settings(),
            },
        }

    def expected(self) -> set[tuple[str, bytes]]:
        """All versions that were ever closed."""
        versions = set(self._content.items())
        if (self._work / CHANGED).exists():
            versions |= {(name, self._content[name] + text.encode()) for name, _, text in CHANGES}
        return versions

    def stored(self) -> Counter[tuple[str, bytes]]:
        """Count what is in the bucket, in archives or not: names and bytes."""
        found: Counter[tuple[str, bytes]] = Counter()
        for key, body in self.store.objects().items():
            thing, _, name = key.split("/", 2)
            assert thing == "thing"
            if not name.endswith(".zip"):
                found[name, body] += 1
                continue
            with zipfile.ZipFile(io.BytesIO(body)) as archive:
                assert archive.testzip() is None
                found.update((member, archive.read(member)) for member in archive.namelist())
        return found

    def nothing_is_lost(self) -> None:
        """Each last version is in its place, or where the next start finds it, or in the bucket."""
        stored = self.stored()
        for name, content in self.expected():
            path = self._data / name
            places = [path, path.parent / PRIVATE_FOLDER / path.name]
            on_disk = any(it.exists() and it.read_bytes().startswith(content) for it in places)
            assert on_disk or stored[name, content], f"{name} is lost"

    def has_died(self) -> None:
        """Take note of what the next start will find."""
        aside = {name for name in FILES if self._is_aside(name)}
        self._may_come_again |= aside
        self.store.agent_has_died(set())

    def is_finished(self) -> None:
        """All that was written is stored once, and gone from here; and no trace of it is left."""
        stored = self.stored()
        assert stored.keys() == self.expected()
        twice = {name for (name, _), count in stored.items() if count > 1}
        assert twice <= self._may_come_again, f"{twice} came twice"
        assert [str(it) for it in self._data.rglob("*") if it.is_file() or it.name == PRIVATE_FOLDER] == []
        assert list((self._work / "archives").iterdir()) == []
        with self._ledger() as connection:
            assert connection.execute("SELECT count(*) FROM cycle_object").fetchone() == (0,)
            cycles = connection.execute(
                "SELECT uploaded, failed FROM cycle WHERE finished IS NOT NULL"
            ).fetchall()
        assert sum(uploaded for uploaded, _ in cycles) == len(self.store.objects())
        assert {failed for _, failed in cycles} == {0}

    def cycles(self, *, finished: bool) -> set[str]:
        """What the cycles are called that are over, or are not."""
        rows = self._read("SELECT started, finished IS NOT NULL FROM cycle")
        return {cycle_name(started) for started, is_over in rows if is_over == finished}

    def books(self) -> dict[bytes, State]:
        return {id_: State(state) for id_, state in self._read("SELECT id, state FROM promise")}

    def names(self) -> set[str]:
        """The cycles that something in the bucket is called after."""
        return {key.split("/")[1] for key in self.store.objects()}

    def _read(self, sql: str) -> list[Any]:
        if not (self._work / "ledger.db").exists():
            return []
        with self._ledger() as connection:
            try:
                return connection.execute(sql).fetchall()
            except sqlite3.OperationalError:  # killed before the schema was there
                return []

    @contextmanager
    def _ledger(self) -> Iterator[sqlite3.Connection]:
        with closing(sqlite3.connect(f"file:{self._work / 'ledger.db'}?mode=ro", uri=True)) as connection:
            yield connection

    def _is_aside(self, name: str) -> bool:
        path = self._data / name
        return (path.parent / PRIVATE_FOLDER / path.name).exists()


@contextmanager
def world(folder: Path, store: str) -> Iterator[World]:
    """Make a world and the store for it; leave nothing of it."""
    with STORES[store](folder / "streams") as opened:
        yield World(folder / "world", opened)
    shutil.rmtree(folder)


def die_and_go_on(runner: Mother, folder: Path, store: str, fuse: int) -> tuple[str, str]:
    """Kill one pass at a step, then make a whole one. Returns the step, and what is wrong."""
    step = ""
    with world(folder, store) as made:
        try:
            code, steps = runner.run(made.order(fuse))
            step = steps[-1]
            assert code == -9, step
            made.has_died()
            made.nothing_is_lost()
            under_way, over, before = made.cycles(finished=False), made.cycles(finished=True), made.books()
            code, rest = runner.run(made.order(0, number=1))
            assert code == 0, rest[-1]
            made.nothing_is_lost()
            made.is_finished()
            assert under_way <= made.cycles(finished=True)
            assert over or under_way <= made.names(), "the first one went on under another name"
            assert set(made.books().values()) <= {State.DONE, State.DROPPED}
            assert made.store.wrongs(before) == []
        except AssertionError as err:
            return step, f"died at step {fuse}, before {step}: {err}"
    return step, ""


@pytest.fixture
def runners() -> Iterator[list[Mother]]:
    with ExitStack() as stack:
        made = []
        for _ in range(RUNNERS):
            made.append(Mother("tests.cycles.one_cycle"))
            stack.callback(made[-1].close)
        yield made


@pytest.mark.parametrize("store", STORES)
def test_whenever_the_agent_dies_a_cycle_loses_nothing_and_goes_on_under_its_own_name(
    folder: Path, runners: list[Mother], store: str
) -> None:
    with world(folder / "whole", store) as made:
        code, steps = runners[0].run(made.order(10**9))
        assert code == 0, steps[-1]
        made.is_finished()
        assert len(made.names()) == 2  # the second one for what was appended

    def every_other(first: int) -> list[tuple[str, str]]:
        found = []
        for fuse in range(first + 1, len(steps) + 1, RUNNERS):
            found.append(die_and_go_on(runners[first], folder / str(fuse), store, fuse))
            if sum(1 for _, problem in found if problem) == 3:  # that will do
                break
        return found

    with ThreadPoolExecutor(RUNNERS) as pool:
        died = [one for part in pool.map(every_other, range(RUNNERS)) for one in part]
    print(f"{len(died)} crash points")
    problems = [problem for _, problem in died if problem]
    assert not problems, "\n".join(problems)
    assert 60 <= len(died) <= 400
    phases = {step.partition(":")[0] for step, _ in died}
    assert phases >= {"start", "cycle", "dispatch", "collect", "finish", "release", "end"}
