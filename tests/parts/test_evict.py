"""A disk that is too full: what is stored goes first, then what may be lost, and never anything else."""

from __future__ import annotations

import json
import logging
import os
import shutil
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.helpers import later, the_source, version_of, write, writing
from tidegate.config import parse
from tidegate.disk.space import Usage
from tidegate.flows.archives import MARK as ARCHIVE
from tidegate.flows.evict import RELIEF_SECONDS, REST_SECONDS, STEP_SECONDS, Space
from tidegate.flows.manifest import GROWING_BYTES, let_go
from tidegate.flows.release import BATCH
from tidegate.flows.scan import Scanner
from tidegate.ledger import Books, Ledger
from tidegate.model import Candidate, Fingerprint, Moment, ObjectRef, Outcome, State, Transfer, Verdict
from tidegate.policy import plan

if TYPE_CHECKING:
    from collections.abc import Callable

    from tidegate.config import Source

BLOCK = 4096
NOW = 1_800_000_000.0


@pytest.fixture
def lists(tmp_path: Path) -> Path:
    """The folder of the agent's own lists."""
    return tmp_path / "work" / "evicted"


class Disk:
    """A small file system: so many blocks, of which the files below the folder take some."""

    def __init__(self, folder: Path, blocks: int = 100) -> None:
        self.folder = folder
        self.blocks = blocks

    def __call__(self, root: str) -> Usage:
        device = Path(root).stat().st_dev
        marks = {(it.stat().st_ino, it.stat().st_size) for it in self.folder.rglob("*") if it.is_file()}
        used = sum(-(-size // BLOCK) for _, size in marks)
        return Usage(device, used * BLOCK, (self.blocks - used) * BLOCK, BLOCK)


class Device:
    """Sources on a small disk, their ledger, and what looks after the space."""

    def __init__(self, root: Path, ledger: Ledger, lists: Path, sources: tuple[Source, ...]) -> None:
        self.root = root
        self.ledger = ledger
        self.lists = lists
        self.sources = sources
        self.disk = Disk(root)
        self.steady = 0.0
        self.space = self.agent(ledger)

    def agent(self, ledger: Ledger) -> Space:
        return Space(self.sources, ledger, self.lists, "thing", lambda _: "direct", usage=self.disk)

    def file(self, name: str, blocks: int = 10, *, age: float = 0.0, links: int = 0) -> Path:
        path = write(self.root / name, "x" * (blocks * BLOCK), age=1000 + age)
        for number in range(links):
            os.link(path, self.root / f"{path.stem}.link{number}")
        return path

    def promised(self, name: str, blocks: int = 10, *, age: float = 0.0, links: int = 0) -> Path:
        """A file that every source which means it has promised."""
        path = self.file(name, blocks, age=age, links=links)
        for source in self.sources:
            if source.glob.match_path(str(path)):
                self.ledger.offer([self.plan(source, path)], now=NOW)
        return path

    def promised_to_first(self, name: str, blocks: int = 10, *, age: float = 0.0) -> Path:
        """A file that only the first source has promised."""
        path = self.file(name, blocks, age=age)
        self.ledger.offer([self.plan(self.sources[0], path)], now=NOW)
        return path

    def stored(self, name: str, blocks: int = 10, *, age: float = 0.0) -> Path:
        path = self.promised(name, blocks, age=age)
        for source in self.sources:
            id_ = version_of(path).identity(source.name)
            self.ledger.settle(
                "direct", [Outcome(verdict=Verdict.STORED, promise=id_)], position=None, now=NOW
            )
        return path

    def plan(self, source: Source, path: Path) -> tuple[Transfer, str]:
        return plan(source, version_of(path), carrier="direct", thing="thing", now=NOW)

    def step(self, seconds: float = REST_SECONDS) -> float:
        self.steady += seconds
        return self.space.step(Moment(NOW + self.steady, self.steady, self.steady))

    def left(self) -> list[str]:
        return sorted(it.name for it in self.root.rglob("*") if it.is_file())

    def promises(self) -> dict[str, State]:
        books = Books(self.lists.parent.parent / "ledger.db")
        try:
            rows = books._database.rows("SELECT path, state FROM promise")
        finally:
            books.close()
        return {Path(os.fsdecode(path)).name: State(state) for path, state in rows}

    def counters(self) -> dict[tuple[str, str], int]:
        books = Books(self.lists.parent.parent / "ledger.db")
        try:
            return {(row[0], row[1]): row[2] for row in books._database.rows("SELECT * FROM counter")}
        finally:
            books.close()

    def lines(self) -> list[dict[str, Any]]:
        return [
            json.loads(line)
            for path in sorted(self.lists.iterdir())
            for line in path.read_text().splitlines()
        ]


@pytest.fixture
def device(root: Path, ledger: Ledger, lists: Path) -> Callable[..., Device]:
    def make(*sources: dict[str, object], **keys: object) -> Device:
        shared: dict[str, object] = {"BucketName": "bucket", "DiskLimit": "50%", **keys}
        raw = [{"Name": "default", "PathName": f"{root}/*.csv"}] if not sources else list(sources)
        named = {source["Name"]: {key: source[key] for key in source if key != "Name"} for source in raw}
        config = parse({**shared, "Sources": named})
        return Device(root, ledger, lists, config.sources)

    return make


def of(root: Path, name: str, **keys: object) -> dict[str, object]:
    return {"Name": name, "PathName": f"{root}/{name}/*.csv", **keys}


def one_ignores_all(root: Path, **keys: object) -> list[dict[str, object]]:
    """Two sources for the same files, of which the second one wants none."""
    shared = {"PathName": f"{root}/*.csv", "Evict": "OldestFirst"}
    return [
        {"Name": "a", **shared, **keys},
        {"Name": "b", **shared, "Rules": [{"Match": "*", "Ignore": True}]},
    ]


# What is stored


def test_files_that_are_stored_go_first_before_their_time_and_only_as_long_as_needed(
    device: Callable[..., Device],
) -> None:
    it = device(DeleteAfterMinutes=600, Evict="OldestFirst")
    it.promised("unsent.csv", 30, age=500)
    it.stored("stored.csv", 30)
    it.step()
    assert it.left() == ["unsent.csv"]
    assert it.promises() == {"unsent.csv": State.READY, "stored.csv": State.DONE}
    it.stored("next.csv", 20)
    it.step()
    assert it.left() == ["next.csv", "unsent.csv"]  # 50 of 100 blocks: the limit is kept


def test_of_many_stored_files_those_stored_first_go_batch_by_batch(device: Callable[..., Device]) -> None:
    it = device(DeleteAfterMinutes=600)
    it.disk.blocks = BATCH + 200
    for number in range(BATCH + 100):
        it.stored(f"{number:03}.csv", 1)
    it.step()
    assert it.left() == [f"{number:03}.csv" for number in range(BATCH, BATCH + 100)]


def test_stored_files_of_every_source_on_the_file_system_make_room(
    root: Path, device: Callable[..., Device]
) -> None:
    it = device(of(root, "a", Evict="OldestFirst"), of(root, "b", DeleteAfterMinutes=600))
    it.promised("a/unsent.csv", 40)
    it.stored("b/stored.csv", 30)
    it.step()
    assert it.left() == ["unsent.csv"]


def test_files_that_are_kept_on_the_users_word_are_never_deleted(device: Callable[..., Device]) -> None:
    it = device(After="Keep", Evict="OldestFirst")
    it.stored("kept.csv", 80)
    it.step()
    assert it.left() == ["kept.csv"]


def test_stored_files_do_not_move_early_where_that_frees_nothing(
    root: Path, device: Callable[..., Device], tmp_path: Path
) -> None:
    it = device(After="Move", MoveTo=str(tmp_path / "sent"), DeleteAfterMinutes=600)
    it.stored("stored.csv", 80)
    it.step()
    assert it.left() == ["stored.csv"]


def test_a_stored_file_that_another_source_needs_stays(root: Path, device: Callable[..., Device]) -> None:
    both = [{"Name": name, "PathName": f"{root}/*.csv", "DeleteAfterMinutes": 600} for name in ("a", "b")]
    it = device(*both)
    path = it.promised("a.csv", 80)
    stored = Outcome(verdict=Verdict.STORED, promise=version_of(path).identity("a"))
    it.ledger.settle("direct", [stored], position=None, now=NOW)
    it.step()
    assert it.left() == ["a.csv"]


def test_a_stored_file_that_another_source_ignores_makes_room_before_anything_is_lost(
    root: Path, device: Callable[..., Device]
) -> None:
    it = device(*one_ignores_all(root, DeleteAfterMinutes=600))
    it.promised_to_first("unsent.csv", 30, age=500)
    stored = it.promised_to_first("stored.csv", 30)
    outcome = Outcome(verdict=Verdict.STORED, promise=version_of(stored).identity("a"))
    it.ledger.settle("direct", [outcome], position=None, now=NOW)
    it.step()
    assert it.left() == ["unsent.csv"]


def test_what_another_source_ignores_may_be_lost_as_if_that_were_not_there(
    root: Path, device: Callable[..., Device]
) -> None:
    it = device(*one_ignores_all(root))
    it.promised_to_first("older.csv", 30, age=500)
    it.promised_to_first("newer.csv", 30)
    it.step()
    assert it.left() == ["newer.csv"]


# What may be lost


def test_of_what_is_unsent_the_least_urgent_goes_first_and_the_oldest_of_it_and_only_what_is_needed(
    root: Path, device: Callable[..., Device]
) -> None:
    evict = {"Evict": "LowestPriorityFirst"}
    it = device(
        of(root, "urgent", Priority=1, **evict),
        of(root, "usual", **evict),
        of(root, "least", Priority=9, **evict),
        of(root, "never", Priority=9),
    )
    it.promised("never/n.csv", age=900)
    it.promised("urgent/u.csv", age=800)
    for number in range(3):
        it.promised(f"usual/usual{number}.csv", age=700 - number)
        it.promised(f"least/least{number}.csv", age=100 - number)
    it.step()  # 80 of 100 blocks: 30 must go
    assert it.left() == ["n.csv", "u.csv", "usual0.csv", "usual1.csv", "usual2.csv"]
    it.promised("never/m.csv", 15)
    it.step()
    assert it.left() == ["m.csv", "n.csv", "u.csv", "usual2.csv"]
    it.step()
    assert it.left() == ["m.csv", "n.csv", "u.csv", "usual2.csv"]


def test_with_oldest_first_the_age_counts_across_sources(root: Path, device: Callable[..., Device]) -> None:
    evict = {"Evict": "OldestFirst"}
    it = device(of(root, "a", Priority=1, **evict), of(root, "b", Priority=9, **evict))
    for number in range(4):
        it.promised(f"a/a{number}.csv", age=100 - 2 * number)
        it.promised(f"b/b{number}.csv", age=99 - 2 * number)
    it.step()
    assert it.left() == ["a2.csv", "a3.csv", "b1.csv", "b2.csv", "b3.csv"]


def test_where_nothing_may_be_lost_nothing_is_and_what_will_be_is_told(
    device: Callable[..., Device], caplog: pytest.LogCaptureFixture
) -> None:
    it = device()
    it.promised("a.csv", 30)
    it.step()
    assert it.space.report() == {"default": "30.0% used (limit 50% used)"}
    it.stored("warm.csv", 1)
    it.promised("b.csv", 30)
    it.step(60)
    it.promised("c.csv", 10)
    it.step(60)
    assert it.left() == ["a.csv", "b.csv", "c.csv"]
    assert [it.promises()[name] for name in it.left()] == [State.READY] * 3
    text = "disk full in about 2 min, backlog sent in about 2 h"
    assert it.space.report() == {"default": f"70.0% used: {text} (limit 50% used, reached)"}
    assert (
        len(
            [record for record in caplog.records if "is too full: 60.0% used: disk full in" in record.message]
        )
        == 1
    )
    assert not it.lists.exists()


@pytest.mark.parametrize("why", ["open", "sent", "changed", "gone", "linked", "empty", "elsewhere"])
def test_a_file_is_spared_that(root: Path, device: Callable[..., Device], why: str) -> None:
    evict = {"Evict": "OldestFirst"}
    everything = [{"Name": "all", "PathName": f"{root}/**/*.csv"}] if why == "elsewhere" else []
    it = device(of(root, "a", **evict), of(root, "b", **evict), *everything)
    first = it.promised("a/first.csv", 0 if why == "empty" else 10, age=500, links=why == "linked")
    if why == "sent":
        assert len(it.ledger.claim("a", "direct", limit=9, now=NOW)) == 1
    it.file("other", 60)
    if why == "changed":
        os.utime(first)
    if why == "gone":
        first.rename(first.with_suffix(".tmp"))
    with writing(first) if why == "open" else nullcontext():
        it.step()
        it.step()
    assert it.left()[0].startswith("first")
    assert not it.lists.exists()
    assert it.promises()["first.csv"] is (State.SENT if why == "sent" else State.READY)


def test_another_file_goes_instead_of_one_that_is_spared(device: Callable[..., Device]) -> None:
    it = device(Evict="OldestFirst")
    first = it.promised("first.csv", 30, age=500)
    it.promised("second.csv", 30)
    with writing(first):
        it.step()
    assert it.left() == ["first.csv"]


# What is told of it


def test_each_eviction_is_logged_counted_noted_and_listed_in_a_file_that_goes_to_the_bucket(
    device: Callable[..., Device], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    it = device(Evict="OldestFirst", ObjectKeyPrefix="plant")
    gone = [it.promised(name, 30, age=age) for name, age in (("a b%.csv", 20), ("b.csv", 10))]
    it.promised("c.csv", 20)
    versions = [version_of(path) for path in gone]
    it.step()
    assert it.left() == ["b.csv", "c.csv"]
    events = [record.fields for record in caplog.records if hasattr(record, "fields")]
    assert [(event["event"], event["path"]) for event in events] == [("evicted", str(gone[0]))]
    assert it.counters()["default", "files_evicted"] == 1
    assert it.counters()["default", "bytes_evicted"] == 30 * BLOCK
    assert it.promises()["a b%.csv"] is State.DROPPED
    reason = f"evicted: the disk of {it.root} was 80.0% full"
    assert it.lines() == [
        {
            "path": str(gone[0]),
            "size": 30 * BLOCK,
            "mtime": versions[0].fingerprint.mtime_ns / 1e9,
            "source": "default",
            "bucket": "bucket",
            "key": "plant/a=20b=25.csv",
            "reason": reason,
            "time": NOW + it.steady,
        }
    ]
    (path,) = it.lists.iterdir()
    sent = {
        transfer.target.key: transfer for transfer in it.ledger.claim("default", "direct", limit=9, now=NOW)
    }
    assert list(sent) == ["plant/b.csv", "plant/c.csv", f"plant/tidegate-evicted/thing/{path.name}"]
    assert sent[f"plant/tidegate-evicted/thing/{path.name}"].body == version_of(path)
    assert any(f"plant/tidegate-evicted/thing/{path.name}" in record.message for record in caplog.records)


def test_without_room_for_the_list_nothing_is_given_up(
    device: Callable[..., Device], caplog: pytest.LogCaptureFixture
) -> None:
    it = device(Evict="OldestFirst")
    it.promised("a.csv", 80)
    write(it.lists.parent, "in the way of the folder")
    it.step()
    assert it.left() == ["a.csv"]
    assert it.promises() == {"a.csv": State.READY}
    assert "no list of it can be made" in caplog.text
    it.lists.parent.unlink()
    it.step()
    assert it.left() == []


def test_a_list_that_waits_takes_up_what_is_given_up_next(device: Callable[..., Device]) -> None:
    it = device(Evict="OldestFirst")
    for number in range(3):
        it.promised(f"{number}.csv", 60)
        it.step()
    assert len(list(it.lists.iterdir())) == 1
    assert [Path(line["path"]).name for line in it.lines()] == ["0.csv", "1.csv", "2.csv"]
    (sent,) = it.ledger.claim("default", "direct", limit=9, now=NOW)
    before = Path(sent.body.path).read_text()
    it.promised("3.csv", 60)
    it.step()
    assert version_of(Path(sent.body.path)) == sent.body  # under way: not touched
    assert Path(sent.body.path).read_text() == before
    assert [Path(line["path"]).name for line in it.lines()] == ["0.csv", "1.csv", "2.csv", "3.csv"]


def test_a_list_does_not_grow_without_end(device: Callable[..., Device]) -> None:
    it = device(Evict="OldestFirst")
    for turn in range(3):
        for number in range(200):
            it.promised(f"{turn}-{number:03}-{'n' * 100}.csv", 1)
        it.disk.blocks = 100
        it.step()
        it.disk.blocks = 10_000
        assert it.ledger.evictions.backlog(["default"]) > 0
    assert max(path.stat().st_size for path in it.lists.iterdir()) < 2 * GROWING_BYTES
    assert len(list(it.lists.iterdir())) > 1


def test_a_list_is_never_given_up_itself(root: Path, ledger: Ledger) -> None:
    config = parse(
        {"PathName": f"{root}/*.csv", "BucketName": "bucket", "DiskLimit": "50%", "Evict": "OldestFirst"}
    )
    it = Device(root, ledger, root / "work" / "evicted", config.sources)
    it.disk.blocks = 4
    it.promised("a.csv", 3)
    it.step()
    it.disk.blocks = 1
    it.step()
    assert [Path(line["path"]).name for line in it.lines()] == ["a.csv"]


def test_an_archive_is_never_given_up(root: Path, device: Callable[..., Device]) -> None:
    it = device(Evict="OldestFirst")
    archive = Candidate(str(path := it.file("folder.zip", 60)), Fingerprint.of(path.stat()))
    promise = Transfer(
        id=archive.identity("default"),
        source="default",
        carrier="direct",
        body=archive,
        target=ObjectRef("bucket", "folder.zip"),
        metadata={ARCHIVE: "3"},
    )
    it.ledger.offer([(promise, "")], now=NOW)
    it.step()
    assert path.exists()
    assert it.ledger.known([promise.id])[promise.id] is State.READY


@pytest.mark.parametrize("after", [{"After": "Keep"}, {"DeleteAfterMinutes": 600}])
def test_a_list_is_deleted_when_it_is_stored_and_nothing_else_is(
    device: Callable[..., Device], after: dict[str, object]
) -> None:
    it = device(Evict="OldestFirst", **after)
    it.promised("a.csv", 60)
    it.step()
    it.promised("b.csv", 10)
    claimed = it.ledger.claim("default", "direct", limit=9, now=NOW)
    news = [Outcome(verdict=Verdict.STORED, promise=transfer.id) for transfer in claimed]
    it.ledger.settle("direct", news, position=None, now=NOW)
    stored = it.ledger.stored("default", retention_seconds=0, limit=9, now=NOW)
    assert [Path(transfer.body.path).name for transfer in let_go(stored, it.ledger, now=NOW)] == ["b.csv"]
    assert list(it.lists.iterdir()) == []
    assert it.left() == ["b.csv"]
    assert it.counters()["default", "manifests_deleted"] == 1


def test_lists_are_promised_again_by_a_ledger_that_does_not_know_them(
    device: Callable[..., Device], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    it = device(Evict="OldestFirst")
    it.promised("a.csv", 60)
    it.step()
    (path,) = it.lists.iterdir()
    write(it.lists / "evicted-half.part", '{"source": ')
    write(it.lists / "foreign.jsonl", "not ours")
    new = Ledger(tmp_path / "new.db", jitter=lambda: 0.5)
    it.agent(new).step(later())
    (sent,) = new.claim("default", "direct", limit=9, now=NOW)
    new.close()
    assert sent.body == version_of(path)
    assert sent.target.key == f"tidegate-evicted/thing/{path.name}"
    assert sorted(one.name for one in it.lists.iterdir()) == [path.name, "foreign.jsonl"]
    assert "foreign.jsonl is no list of ours" in caplog.text


# How it goes on


def test_a_process_that_dies_while_it_gives_files_up_loses_none_that_it_has_not_deleted(
    device: Callable[..., Device],
) -> None:
    it = device()
    it.promised("a.csv")
    taken = it.ledger.evictions.claim(list(it.ledger.idle.unsent("default")), now=NOW)
    assert len(taken) == 1
    assert it.ledger.evictions.claim(taken, now=NOW) == []
    assert it.ledger.claim("default", "direct", limit=9, now=NOW) == []  # nobody sends it meanwhile
    it.ledger.recover(now=NOW)
    assert it.promises() == {"a.csv": State.READY}


def test_what_was_evicted_and_comes_back_is_promised_anew(device: Callable[..., Device]) -> None:
    it = device(Evict="OldestFirst")
    path = it.promised("a.csv", 60)
    it.step()
    it.promised("a.csv", 10)
    it.step()
    assert path.exists()
    assert it.promises()["a.csv"] is State.READY


def test_unsent_files_are_read_in_their_order_however_many_there_are(ledger: Ledger, root: Path) -> None:
    it = Device(root, ledger, root / "lists", (the_source(root), the_source(root, BucketName="other")))
    for number in range(450):
        it.ledger.offer([it.plan(it.sources[number % 2], it.file(f"{number}.csv", 0, age=number))], now=NOW)
    found = [Path(transfer.body.path).stem for transfer in ledger.idle.unsent("default")]
    assert found == [str(number) for number in reversed(range(450))]


def test_a_limit_that_is_reached_or_kept_again_is_told_once(
    device: Callable[..., Device], caplog: pytest.LogCaptureFixture
) -> None:
    it = device()
    path = it.promised("a.csv", 60)
    for _ in range(5):
        it.step()
    assert [record.message for record in caplog.records] == [f"the disk of {it.root} is too full: 60.0% used"]
    path.unlink()
    it.step()
    assert len(caplog.records) == 1  # it may be too full again in a moment
    it.step(RELIEF_SECONDS)
    it.step(RELIEF_SECONDS)
    assert [record.message.split(":")[0] for record in caplog.records[1:]] == [
        f"the disk of {it.root} has room again"
    ]


def test_it_looks_every_few_seconds_only(device: Callable[..., Device]) -> None:
    it = device(Evict="OldestFirst")
    assert it.step() == STEP_SECONDS
    it.promised("a.csv", 60)
    assert it.step(1) == STEP_SECONDS - 1
    assert it.left() == ["a.csv"]
    assert it.step(STEP_SECONDS) == REST_SECONDS  # what was deleted may take a while to be free
    assert it.left() == []


def test_a_root_that_is_not_there_yet_is_no_trouble(root: Path, device: Callable[..., Device]) -> None:
    it = device(of(root, "a", Evict="OldestFirst"), of(root, "b", Evict="OldestFirst"))
    it.promised("a/a.csv", 60)
    it.step()
    assert it.left() == []
    assert list(it.space.report()) == ["a"]


def test_a_limit_of_the_real_file_system_counts(root: Path, ledger: Ledger, lists: Path) -> None:
    source = the_source(root, DiskLimit="900T", Evict="OldestFirst")
    write(root / "a.csv", "x")
    Scanner(source, ledger, carrier="direct", thing="thing", never=frozenset()).scan(later(9000))
    assert Space([source], ledger, lists, "thing", lambda _: "direct").step(later(9000)) == REST_SECONDS
    assert list(root.iterdir()) == []
    assert shutil.disk_usage(root).free < 900 * 2**40
