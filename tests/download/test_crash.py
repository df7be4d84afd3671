"""A download that dies at any step, and whatever happens to folder and bucket in any order."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule

from tests.download.rig import Desk, figures
from tests.helpers import MEMORY
from tests.mortal import Mother
from tests.standins.faulty_s3 import Fault, FaultyS3, Held, error
from tidegate.errors import Unavailable
from tidegate.fetch.bring import SMALL_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.standins.faulty_s3 import Seen

OLD, NEW = os.urandom(SMALL_BYTES + 50_000), os.urandom(SMALL_BYTES + 70_000)


@pytest.fixture(scope="module")
def mother() -> Iterator[Mother]:
    one = Mother("tests.download.one_round")
    yield one
    one.close()


@pytest.mark.parametrize("is_emptied", [False, True])
def test_whenever_it_dies_a_file_is_the_old_or_the_new_one_and_the_next_round_finishes(
    mother: Mother, s3: FaultyS3, *, is_emptied: bool
) -> None:
    keys = {"DeleteUnlisted": True}

    def make(name: str, body: bytes) -> None:
        s3.objects[f"bucket/up/{name}"] = Held(body)

    with tempfile.TemporaryDirectory(prefix="tidegate-", dir=MEMORY) as name:
        origin = Path(name) / "origin"
        origin.mkdir()
        for one, body in (("large", OLD), ("x/small", b"old"), ("gone", b"gone")):
            make(one, body)
        desk = Desk(origin, s3, **keys)
        desk.round()
        desk.stop()
        (desk.folder / "mine").write_bytes(b"mine")
        make("large", NEW)
        make("x/small", b"new")
        make("x/more", b"more")
        del s3.objects["bucket/up/gone"]
        wanted = {"large": NEW, "x/small": b"new", "x/more": b"more", "mine": b"mine"}
        steps, fuse, killed = 1, 0, 0
        while fuse < steps:
            fuse += 1
            work = Path(name) / str(fuse)
            shutil.copytree(origin, work, copy_function=os.link)  # as the inodes are what files are known by
            for ledger in work.glob("ledger*"):
                ledger.unlink()
            for ledger in origin.glob("ledger*"):
                shutil.copy(ledger, work)
            code, made_steps = mother.run({"work": str(work), "url": s3.url, "fuse": fuse, "keys": keys})
            assert code in (0, -signal.SIGKILL), made_steps
            killed += code != 0
            steps = max(steps, len(made_steps) + (code != 0))
            desk = Desk(work, s3, **keys)
            there = desk.files()
            assert there["large"] in (OLD, NEW)
            assert there["x/small"] in (b"old", b"new")
            assert there["mine"] == b"mine"
            kept = dict(s3.objects)
            if is_emptied:  # what was brought is known to be ours also then
                s3.objects.clear()
                wanted = {"mine": b"mine"}
            made = desk.round()
            assert made.problems == {}
            assert desk.files() == wanted, made_steps[-1:]
            assert desk.parts() == []
            assert figures(desk.round()) == (0, len(wanted) - 1, 0)
            s3.objects |= kept
            desk.stop()
        assert killed > 15


class Anything(RuleBasedStateMachine):
    """Objects come, change and go, files are changed and deleted, requests fail, processes die."""

    names = st.sampled_from(["a", "b", "x/c", "x/d", "é"])

    def __init__(self) -> None:
        super().__init__()
        self.temporary = tempfile.TemporaryDirectory(prefix="tidegate-")
        self.s3 = FaultyS3().__enter__()
        self.s3.page_size = 2
        self.desk = Desk(Path(self.temporary.name), self.s3, DeleteUnlisted=True)
        self.foreign: dict[str, bytes] = {}
        self.count = 0

    @rule(name=names)
    def put(self, name: str) -> None:
        self.count += 1
        self.desk.put(f"up/{name}", b"%d" % self.count)

    @rule(name=names)
    def drop(self, name: str) -> None:
        self.s3.objects.pop(f"bucket/up/{name}", None)

    @rule(name=names)
    def spoil(self, name: str) -> None:
        """Somebody writes a file of his own, or over one of ours."""
        path = self.desk.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        self.count += 1
        path.write_bytes(b"mine %d" % self.count)
        self.foreign[name] = path.read_bytes()

    @rule(name=names)
    def delete(self, name: str) -> None:
        (self.desk.folder / name).unlink(missing_ok=True)
        self.foreign.pop(name, None)

    @rule(fails=st.sampled_from(["list", "get"]), every=st.integers(1, 3), loses_ledger=st.booleans())
    def fail(self, fails: str, every: int, *, loses_ledger: bool) -> None:
        def script(seen: Seen) -> Fault | None:
            return Fault(error(503, "SlowDown")) if seen.kind == fails and seen.number % every == 0 else None

        self.s3.script = script
        try:
            self.desk.round()
        except Unavailable:
            pass
        finally:
            self.s3.script = lambda _: None
        self.look()
        self.desk.stop()
        if loses_ledger:
            for file in Path(self.temporary.name).glob("ledger.db*"):
                file.unlink()
            # What was brought before and is not listed any more is nobody's now.
            self.foreign |= {
                name: body for name, body in self.desk.files().items() if name not in self.bucket()
            }
        self.desk.start()
        if loses_ledger:  # the next round finds out what it holds
            self.round()

    @rule()
    def round(self) -> None:
        made = self.desk.round(100)
        self.look()
        assert made.problems == {}
        wanted = self.bucket()
        assert self.desk.files() == self.foreign | wanted

    def look(self) -> None:
        """What was replaced by an object is not foreign any more."""
        files = self.desk.files() if self.desk.folder.exists() else {}
        for name, body in list(self.foreign.items()):
            if files.get(name) != body:
                assert name in files, f"{name} was deleted, and not brought by us"
                assert name in self.bucket()
                del self.foreign[name]
            elif self.bucket().get(name) == body:
                del self.foreign[name]

    def bucket(self) -> dict[str, bytes]:
        return {path.removeprefix("bucket/up/"): held.body for path, held in self.s3.objects.items()}

    def teardown(self) -> None:
        try:
            self.round()
        finally:
            self.desk.stop()
            self.s3.__exit__()
            self.temporary.cleanup()


TestAnything = Anything.TestCase
TestAnything.settings = settings(max_examples=25, stateful_step_count=15, deadline=None)
