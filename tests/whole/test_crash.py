"""Stop the agent before and after every step that leaves a trace, and look at what is left.

One pass over a small world is made again and again; each time the process dies one step later, and
another process makes the pass anew in what the dead one left.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from tests.mortal import Mother
from tests.whole.one_pass import CHANGED
from tests.whole.stores import BUCKET, ByDirect, ByStreams
from tidegate.disk.walk import PRIVATE_FOLDER
from tidegate.model import State

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.slow

ODD = "ein Name #1?.csv"
ODD_KEY = "delete/ein=20Name=20=231=3F.csv"
NEWEST = "zz-newest.csv"
RUNNERS = 2

# Files that are closed when the pass begins, by source, and what becomes of some of them after they were stored.
CLOSED = {
    "delete": ("plain.csv", "sub/folder/plain.csv", ODD, "appended.csv", "replaced.csv", "refused.csv"),
    "move": ("plain.csv", "sub/other.csv"),
    "far": ("plain.csv",),
    "keep": ("plain.csv",),
}
STORES = {"streams": ByStreams, "direct": ByDirect}
CHANGES = (("appended.csv", "append", " and more"), ("replaced.csv", "replace", "something else altogether"))


class World:
    """Folders and a store of their own for one crash."""

    def __init__(self, folder: Path, far: Path, store: ByStreams | ByDirect) -> None:
        """`far` is a folder on another file system, where there is one."""
        self.store = store
        self._data = folder / "data"
        self._far = far
        self._work = folder / "work"
        self._content: dict[tuple[str, str], bytes] = {}
        for source, names in CLOSED.items():
            for name in (*names, NEWEST):
                path = self._data / source / name
                path.parent.mkdir(parents=True, exist_ok=True)
                self._content[source, name] = f"{source} {name} first version".encode()
                path.write_bytes(self._content[source, name])
        for name, content in store.more.items():
            self._content["delete", name] = content
            (self._data / "delete" / name).write_bytes(content)
        self._work.mkdir()
        for path in self._data.glob("*/zz-newest.csv"):
            later = path.stat().st_mtime_ns + 5_000_000_000  # the passes believe it is later still
            os.utime(path, ns=(later, later))

    def order(self, fuse: int, *, number: int = 0) -> dict[str, Any]:
        """Ask for a pass that dies at step `fuse`, 0 being never. Passes are numbered, and hours apart."""
        return {
            "roots": [str(self._data.parent), str(self._far)],
            "work": str(self._work),
            "fuse": fuse,
            "ahead": 10 + 4000 * number,
            "changes": [[str(self._data / "delete" / name), how, text] for name, how, text in CHANGES]
            if number == 0
            else [],
            "raw": {
                "BucketName": BUCKET,
                "QuietSeconds": 0,
                "MaxHoldSeconds": 0,
                "ObjectKey": "{source}/{path}",
                **self.store.settings(),
                "Sources": {
                    "delete": {"PathName": f"{self._data}/delete/**/*.csv"},
                    "move": {
                        "PathName": f"{self._data}/move/**/*.csv",
                        "After": "Move",
                        "MoveTo": f"{self._data}/moved",
                    },
                    "far": {
                        "PathName": f"{self._data}/far/*.csv",
                        "After": "Move",
                        "MoveTo": str(self._far),
                        "DeleteAfterMinutes": 1,
                    },
                    "keep": {"PathName": f"{self._data}/keep/*.csv", "After": "Keep"},
                },
            },
        }

    def expected(self) -> dict[tuple[str, str], bytes]:
        """What was written last, by source and name."""
        content = dict(self._content)
        if (self._work / CHANGED).exists():
            for name, how, text in CHANGES:
                before = content["delete", name] if how == "append" else b""
                content["delete", name] = before + text.encode()
        return content

    def nothing_is_lost(self) -> None:
        """What was written last is at its place, or where the next start finds it, or in the bucket."""
        for (source, name), content in self.expected().items():
            path = self._data / source / name
            places = [path, path.parent / PRIVATE_FOLDER / path.name]
            on_disk = [it for it in places if it.exists() and it.read_bytes() == content]
            assert on_disk or self.store.objects().get(_key(source, name)) == content, f"{path} is lost"
            if source in ("move", "far") and not on_disk:
                assert self._moved(source, name).read_bytes() == content
            if source == "keep" or name == NEWEST:
                assert on_disk, f"{path} was to stay"

    def is_finished(self) -> None:
        """Every closed file is stored and dealt with, once, and only the newest of each source is left."""
        expected = self.expected()
        stored = {
            _key(source, name): content for (source, name), content in expected.items() if name != NEWEST
        }
        assert self.store.objects() == stored
        stay = {"keep/plain.csv", *(f"{source}/{NEWEST}" for source in CLOSED)}
        moved = {str(self._moved(source, name)) for source in ("move", "far") for name in CLOSED[source]}
        near = {str(it) for it in self._far.rglob("*") if it.is_file()}
        near |= {str(self._data / "moved" / it) for it in _files(self._data / "moved")}
        assert near == moved
        for source in ("move", "far"):
            for name in CLOSED[source]:
                assert self._moved(source, name).read_bytes() == expected[source, name]
        assert _files(self._data) == stay | {f"moved/{name}" for name in CLOSED["move"]}
        assert not list(self._data.rglob(PRIVATE_FOLDER))

    def aside(self) -> set[str]:
        """Keys of files that stand in a private folder."""
        return {
            _key(source, name)
            for source, name in self._content
            for path in [self._data / source / name]
            if (path.parent / PRIVATE_FOLDER / path.name).exists()
        }

    def books(self) -> dict[bytes, State]:
        """Read where each promise stands; none before there is a ledger."""
        path = self._work / "ledger.db"
        if not path.exists():
            return {}
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
            try:
                rows = connection.execute("SELECT id, state FROM promise").fetchall()
            except sqlite3.OperationalError:  # killed before the schema was there
                return {}
        return {id_: State(state) for id_, state in rows}

    def _moved(self, source: str, name: str) -> Path:
        return (self._data / "moved" if source == "move" else self._far) / name


def _key(source: str, name: str) -> str:
    return ODD_KEY if name == ODD else f"{source}/{name}"


def _files(folder: Path) -> set[str]:
    return {str(it.relative_to(folder)) for it in folder.rglob("*") if it.is_file()}


@contextmanager
def world(folder: Path, far: Path, store: str) -> Iterator[World]:
    """Make a world and the store for it; leave nothing of it."""
    with STORES[store](folder / "streams") as opened:
        yield World(folder / "world", far / "world", opened)
    shutil.rmtree(folder)
    shutil.rmtree(far, ignore_errors=True)


def die_and_go_on(runner: Mother, folder: Path, far: Path, store: str, *fuses: int) -> tuple[str, str]:
    """Kill one pass at each of the steps, then make a whole one. Returns the last step, and what is wrong."""
    step = ""
    with world(folder, far, store) as made:
        try:
            for number, fuse in enumerate(fuses):
                code, steps = runner.run(made.order(fuse, number=number))
                step = steps[-1]
                assert code == -9, step
                made.store.agent_has_died(made.aside())
                made.nothing_is_lost()
            before = made.books()
            code, rest = runner.run(made.order(0, number=len(fuses)))
            assert code == 0, rest[-1]
            made.nothing_is_lost()
            made.is_finished()
            after = made.books()
            assert before.keys() <= after.keys(), "a promise was forgotten"
            assert set(after.values()) <= {State.DONE, State.DROPPED}
            assert made.store.wrongs(before) == []
        except AssertionError as err:
            return step, f"died at step {fuses}, before {step}: {err}"
    return step, ""


@pytest.fixture
def runners() -> Iterator[list[Mother]]:
    with ExitStack() as stack:
        made = []
        for _ in range(RUNNERS):
            made.append(Mother("tests.whole.one_pass"))
            stack.callback(made[-1].close)
        yield made


def die_at_every_step(
    folder: Path, tmp_path: Path, runners: list[Mother], store: str
) -> tuple[list[str], list[str]]:
    """Return the steps before which a pass was killed, and what went wrong."""
    with world(folder / "whole", tmp_path / "whole", store) as made:
        code, steps = runners[0].run(made.order(10**9))
        assert code == 0, steps[-1]
        made.is_finished()

    def every_other(first: int) -> list[tuple[str, str]]:
        found = []
        for fuse in range(first + 1, len(steps) + 1, RUNNERS):
            found.append(die_and_go_on(runners[first], folder / str(fuse), tmp_path / str(fuse), store, fuse))
            if sum(1 for _, problem in found if problem) == 3:  # that will do
                break
        return found

    with ThreadPoolExecutor(RUNNERS) as pool:
        died = [step for part in pool.map(every_other, range(RUNNERS)) for step in part]
    print(f"{len(died)} crash points")
    return [step for step, _ in died], [problem for _, problem in died if problem]


def test_whenever_the_agent_dies_nothing_is_lost_and_the_next_one_finishes_its_work(
    folder: Path, tmp_path: Path, runners: list[Mother]
) -> None:
    died, problems = die_at_every_step(folder, tmp_path, runners, "streams")
    assert not problems, "\n".join(problems)
    assert 60 <= len(died) <= 400
    kinds = {step.split()[1] for step in died}
    assert kinds >= {"BEGIN", "COMMIT", "before", "after", "os.rename", "os.remove", "os.link", "os.symlink"}


def test_whenever_an_agent_that_uploads_dies_nothing_is_lost_sent_twice_or_left_open(
    folder: Path, tmp_path: Path, runners: list[Mother]
) -> None:
    died, problems = die_at_every_step(folder, tmp_path, runners, "direct")
    assert not problems, "\n".join(problems)
    assert 60 <= len(died) <= 400
    kinds = {step.partition(": ")[2] for step in died}
    requests = ("put", "create_upload", "upload_part", "complete_upload")
    assert kinds >= {f"{when} {request}" for request in requests for when in ("before", "after")}
    assert kinds >= {"BEGIN IMMEDIATE", "COMMIT", "within sending"}


def test_dying_once_more_while_files_are_put_back_loses_nothing_either(
    folder: Path, tmp_path: Path, runners: list[Mother]
) -> None:
    with world(folder / "whole", tmp_path / "whole", "streams") as made:
        _, steps = runners[0].run(made.order(10**9))
        first = next(n for n, it in enumerate(steps, 1) if "os.remove" in it and PRIVATE_FOLDER in it)
    with world(folder / "second", tmp_path / "second", "streams") as made:
        runners[0].run(made.order(first))
        _, steps = runners[0].run(made.order(10**9, number=1))
    seconds = [number for number, step in enumerate(steps, 1) if step.startswith("return: ")]
    assert len(seconds) >= 7, steps
    died = [
        die_and_go_on(runners[0], folder / str(it), tmp_path / str(it), "streams", first, it)
        for it in seconds
    ]
    problems = [problem for _, problem in died if problem]
    assert not problems, "\n".join(problems)
