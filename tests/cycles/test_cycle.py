"""Cycles with real files and a real ledger, step by step: when they begin, what goes in them, what is left."""

from __future__ import annotations

import random
import re
from datetime import datetime, timezone
from typing import TYPE_CHECKING

import pytest

from tests.cycles.rig import Shop
from tests.helpers import later, writing
from tidegate.config.naming import cycle_name
from tidegate.disk.space import Usage
from tidegate.flows.pack import sweep
from tidegate.ledger import Ledger
from tidegate.model import Moment
from tidegate.policy import Hold
from tidegate.spool import RESERVE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

MIB = 2**20


@pytest.fixture
def open_shop(tmp_path: Path) -> Iterator[Callable[..., Shop]]:
    made: list[Shop] = []

    def make(**keys: object) -> Shop:
        made.append(Shop(tmp_path, **keys))
        return made[-1]

    yield make
    for shop in made:
        shop.stop()


# What goes, and under which name


def test_all_that_is_there_goes_under_the_name_of_one_cycle_and_is_removed(
    open_shop: Callable[..., Shop],
) -> None:
    shop = open_shop(Archive="Zip")
    written = {
        name: shop.write(name, name).read_bytes() for name in ("A/1.csv", "A/b/2.csv", "B/3.csv", "4.csv")
    }
    last = shop.run(60)
    assert last
    assert shop.names() == ["4.csv", "A.zip", "B.zip"]
    assert dict(shop.stored()) == written
    assert {key.rpartition("/")[0] for key in shop.objects} == {f"thing/{cycle_name(last.started)}"}
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00", cycle_name(last.started))
    assert shop.files() == set()
    assert (last.found, last.uploaded, last.failed, last.held) == (3, 3, 0, 0)
    assert last.bytes == sum(map(len, shop.objects.values()))
    assert list((shop.root.parent / "archives").iterdir()) == []


def test_without_archives_every_file_goes_as_it_is(open_shop: Callable[..., Shop]) -> None:
    shop = open_shop()
    for name in ("A/1.csv", "A/b/2.csv", "4.csv"):
        shop.write(name)
    assert shop.run(60)
    assert shop.names() == ["4.csv", "A/1.csv", "A/b/2.csv"]
    assert shop.files() == set()


def test_a_prefix_and_a_template_of_ones_own_may_say_where_cycles_go(open_shop: Callable[..., Shop]) -> None:
    shop = open_shop(
        Layout=None, ObjectKey="{prefix}/{source}/{cycle}/{stem}", ObjectKeyPrefix="p", Archive="Zip"
    )
    shop.write("A/1.csv")
    last = shop.run(60)
    assert last
    assert list(shop.objects) == [f"p/default/{cycle_name(last.started)}/A"]


def test_excluded_and_hidden_files_are_not_packed(open_shop: Callable[..., Shop]) -> None:
    shop = open_shop(Archive="Zip", Exclude=["*.tmp", "cache/"])
    for name in ("A/1.csv", "A/2.tmp", "A/cache/3.csv", "A/.hidden", ".git/x", "cache/y"):
        shop.write(name)
    shop.run(60)
    assert [name for name, _ in shop.stored()] == ["A/1.csv"]
    assert shop.files() == {"A/2.tmp", "A/cache/3.csv", "A/.hidden", ".git/x", "cache/y"}


def test_members_are_moved_or_kept_for_a_while_as_single_files_are(
    open_shop: Callable[..., Shop], tmp_path: Path
) -> None:
    shop = open_shop(Archive="Zip", After="Move", MoveTo=str(tmp_path / "moved"), DeleteAfterMinutes=60)
    shop.write("A/b/1.csv", "one")
    shop.run(60)
    assert shop.files() == {"A/b/1.csv"}
    shop.run(1100)  # another cycle does not pack it again, and needs the body of the archive no more
    assert shop.names() == ["A.zip"]
    assert [path.suffix for path in (tmp_path / "archives").iterdir()] == [".members"]
    shop.release(4000)
    assert (tmp_path / "moved" / "A" / "b" / "1.csv").read_text() == "one"
    assert shop.files() == set()
    assert list((tmp_path / "archives").iterdir()) == []


def test_folders_that_are_emptied_go_only_when_asked(open_shop: Callable[..., Shop]) -> None:
    shop = open_shop(Archive="Zip", PruneEmptyDirectories=True)
    shop.write("A/b/c/1.csv")
    shop.write("A/open/2.csv")
    (shop.root / "A" / "open" / "kept").mkdir()
    shop.run(60)
    assert sorted(path.name for path in shop.root.rglob("*")) == ["A", "kept", "open"]


# What is left for the next one


def test_a_folder_with_a_file_that_is_being_written_waits_and_holds_up_no_other(
    open_shop: Callable[..., Shop],
) -> None:
    shop = open_shop(Archive="Zip")
    path = shop.write("A/1.csv")
    shop.write("A/2.csv")
    shop.write("B/3.csv")
    with writing(path):
        last = shop.run(60)
        assert last
        assert (last.found, last.uploaded, last.held) == (2, 1, 1)
        assert shop.cycles.scan
        assert [(held.path, held.why) for held in shop.cycles.scan.held] == [(str(path), Hold.OPEN)]
    shop.run(60)
    assert shop.names() == ["B.zip"]
    shop.run(2000)
    assert shop.names() == ["A.zip", "B.zip"]
    assert len({key.split("/")[1] for key in shop.objects}) == 2


def test_a_folder_with_a_file_that_has_just_changed_waits(open_shop: Callable[..., Shop]) -> None:
    shop = open_shop(Archive="Zip", QuietSeconds=100)
    shop.write("A/1.csv")
    last = shop.run(60)
    assert last
    assert (last.found, last.held, shop.names()) == (1, 1, [])
    shop.run(2000)
    assert shop.names() == ["A.zip"]


def test_a_clock_that_was_set_back_does_not_hold_a_folder_for_ever(open_shop: Callable[..., Shop]) -> None:
    shop = open_shop(Archive="Zip", QuietSeconds=100)
    for name in ("A/1.csv", "A/2.csv"):
        shop.write(name)
    long_ago = later(-(10**6))
    shop.cycles.step(Moment(long_ago.wall, 0.0, 5.0))
    shop.cycles.step(Moment(long_ago.wall, 0.0, 5.0))
    shop.cycles.step(Moment(long_ago.wall + 2000, 2000.0, 50.0))
    shop.deliver()
    assert shop.names() == ["A.zip"]


def test_what_is_added_later_goes_in_an_archive_of_the_next_cycle(open_shop: Callable[..., Shop]) -> None:
    shop = open_shop(Archive="Zip")
    shop.write("A/1.csv", "first")
    shop.step(60)
    shop.write("A/2.csv", "second")
    shop.write("A/1.csv", "changed after it was packed")
    shop.run(60)
    assert shop.files() == {"A/1.csv", "A/2.csv"}
    shop.run(2000)
    assert shop.files() == set()
    assert shop.stored() == [
        ("A/1.csv", b"changed after it was packed"),
        ("A/1.csv", b"first"),
        ("A/2.csv", b"second"),
    ]


def test_members_of_an_archive_in_quarantine_are_not_packed_again_until_it_is_retried(
    open_shop: Callable[..., Shop],
) -> None:
    shop = open_shop(Archive="Zip")
    shop.refused = {"A.zip"}
    shop.write("A/1.csv")
    shop.write("B/1.csv")
    last = shop.run(60)
    for _ in range(3):
        shop.ledger.retry(None, now=0)  # ends the waits between attempts
        last = shop.run(60)
    assert last
    assert (last.uploaded, last.failed, last.held) == (1, 1, 0)
    shop.write("A/2.csv")
    shop.refused = set()
    shop.run(2000)
    assert shop.stored() == [("A/2.csv", b"1,2,3\n"), ("B/1.csv", b"1,2,3\n")]
    assert shop.files() == {"A/1.csv"}
    assert shop.ledger.retry(None, now=0) == 1
    shop.run(2000)
    assert [name for name, _ in shop.stored()] == ["A/1.csv", "A/2.csv", "B/1.csv"]
    assert shop.files() == set()


def test_a_folder_that_cannot_be_read_stops_no_other(open_shop: Callable[..., Shop]) -> None:
    shop = open_shop(Archive="Zip", ObjectKey="{cycle}/{path}", Layout=None)
    long = "n" * 200
    shop.write(f"{'=' * 80}{long[:120]}/{long}/x")
    shop.write("B/1.csv")
    (shop.root / ("\udcff" * 255)).mkdir()
    shop.write("\udcff" * 255 + "/x")
    last = shop.run(60)
    assert last
    assert last.failed == 0  # 255 bytes are 765 when escaped: that fits
    shop.stop()
    shop.start(ObjectKeyPrefix="p" * 400, ObjectKey="{prefix}/{cycle}/{path}")
    shop.write("\udcff" * 255 + "/y")
    shop.write("C/1.csv")
    last = shop.run(2000)
    assert last
    assert (last.found, last.uploaded, last.failed) == (2, 1, 1)
    assert shop.cycles.scan
    (problem,) = shop.cycles.scan.problems.values()
    assert "key_too_long" in problem


def test_no_key_is_given_twice_in_one_cycle_also_after_a_restart(open_shop: Callable[..., Shop]) -> None:
    shop = open_shop(Archive="Zip")
    shop.write("A/1.csv", "first")
    shop.write("a.csv", "first")
    shop.step(60)
    shop.deliver()
    shop.release()
    with shop.ledger._database.transaction() as cursor:  # as if it had died before all was listed
        cursor.run("UPDATE cycle SET listed = 0")
    shop.write("A/1.csv", "second")
    shop.write("a.csv", "second")
    shop.stop()
    shop.start()
    shop.run(60)
    assert len(shop.objects) == 2
    assert shop.cycles.scan
    assert shop.cycles.scan.holds[Hold.TAKEN] == 2
    shop.run(2000)
    assert shop.stored() == [
        ("A/1.csv", b"first"),
        ("A/1.csv", b"second"),
        ("a.csv", b"first"),
        ("a.csv", b"second"),
    ]
    assert shop.files() == set()


# When


def test_by_interval_the_first_begins_at_once_and_the_next_after_it(open_shop: Callable[..., Shop]) -> None:
    shop = open_shop()
    shop.write("1.csv")
    first = shop.run(60)
    shop.write("2.csv")
    assert shop.run(1059) == first
    assert shop.cycles.next_at == pytest.approx(later(1060).wall, abs=5)
    second = shop.run(1062)
    assert first
    assert second
    assert (first.uploaded, second.uploaded) == (1, 1)
    assert second.started > first.started


def at(text: str) -> Moment:
    return Moment(datetime.fromisoformat(text).timestamp(), 0.0, float("inf"))


def begun(shop: Shop, moment: Moment) -> str | None:
    """Step, finish what began, and tell when it was, in UTC."""
    shop.cycles.step(moment)
    shop.cycles.step(moment)
    last = shop.ledger.cycles.last("default")
    return datetime.fromtimestamp(last.started, timezone.utc).strftime("%m-%dT%H:%M") if last else None


def test_by_schedule_it_begins_at_its_times_in_the_zone_also_when_clocks_change(
    open_shop: Callable[..., Shop],
) -> None:
    shop = open_shop(Schedule="30 2 * * *", zone="Europe/Berlin")
    assert begun(shop, at("2026-03-27T12:00:00+01:00")) is None
    assert begun(shop, at("2026-03-28T02:29:59+01:00")) is None
    assert begun(shop, at("2026-03-28T02:30:00+01:00")) == "03-28T01:30"
    assert begun(shop, at("2026-03-29T01:59:59+01:00")) == "03-28T01:30"
    assert begun(shop, at("2026-03-29T03:00:00+02:00")) == "03-29T01:00"  # there is no half past two
    assert begun(shop, at("2026-03-30T02:29:00+02:00")) == "03-29T01:00"
    assert begun(shop, at("2026-03-30T02:31:00+02:00")) == "03-30T00:31"
    assert begun(shop, at("2026-10-25T02:30:00+02:00")) == "10-25T00:30"
    assert begun(shop, at("2026-10-25T02:30:00+01:00")) == "10-25T00:30"  # half past two comes twice
    assert begun(shop, at("2026-10-26T02:30:00+01:00")) == "10-26T01:30"


def test_what_was_missed_runs_once_also_after_a_restart(open_shop: Callable[..., Shop]) -> None:
    shop = open_shop(Schedule="0 * * * *", zone="UTC")
    assert begun(shop, at("2026-01-01T00:30:00+00:00")) is None
    shop.stop()
    shop.start()
    assert begun(shop, at("2026-01-03T07:10:00+00:00")) == "01-03T07:10"
    assert begun(shop, at("2026-01-03T07:59:00+00:00")) == "01-03T07:10"
    assert begun(shop, at("2026-01-03T08:00:00+00:00")) == "01-03T08:00"


def test_another_schedule_counts_from_when_it_is_there(open_shop: Callable[..., Shop]) -> None:
    shop = open_shop(Schedule="0 0 * * *", zone="UTC")
    assert begun(shop, at("2026-01-01T00:30:00+00:00")) is None
    assert begun(shop, at("2026-01-02T00:00:00+00:00")) == "01-02T00:00"
    shop.stop()
    shop.start(Schedule="0 * * * *")
    assert begun(shop, at("2026-01-02T05:30:00+00:00")) == "01-02T00:00"  # five hours of it were never due
    assert begun(shop, at("2026-01-02T06:00:00+00:00")) == "01-02T06:00"


def test_a_clock_that_was_wrong_for_a_while_does_not_stop_the_cycles(open_shop: Callable[..., Shop]) -> None:
    shop = open_shop(Schedule="0 * * * *", zone="UTC")
    assert begun(shop, at("2026-01-01T00:30:00+00:00")) is None
    assert begun(shop, at("2038-01-01T00:30:00+00:00")) == "01-01T00:30"
    assert begun(shop, at("2026-01-01T01:10:00+00:00")) == "01-01T00:30"
    assert shop.cycles.next_at == at("2026-01-01T02:00:00+00:00").wall
    assert begun(shop, at("2026-01-01T02:00:01+00:00")) == "01-01T02:00"


def test_while_one_is_not_over_no_other_begins_and_what_fell_due_runs_once(
    open_shop: Callable[..., Shop],
) -> None:
    shop = open_shop(Archive="Zip")
    shop.write("A/1.csv")
    shop.step(60)
    shop.write("A/2.csv")
    for seconds in (2000, 4000, 6000):
        shop.step(seconds)
    assert len(shop.deliver()) == 1
    shop.run(7000)
    shop.run(7000)
    shop.run(7001)
    assert len(shop.objects) == 2
    assert shop.files() == set()


def test_asking_begins_one_now_and_asking_often_begins_no_more(open_shop: Callable[..., Shop]) -> None:
    shop = open_shop(Schedule="0 0 1 1 *", zone="UTC")
    shop.write("1.csv")
    assert shop.run(60) is None
    for _ in range(3):
        shop.cycles.ask()
    first = shop.run(60)
    assert first
    assert first.uploaded == 1
    shop.write("2.csv")
    assert shop.run(61) == first
    shop.cycles.ask()
    shop.step(62)
    shop.write("3.csv")
    shop.cycles.ask()  # what is asked for while one is under way comes after it
    shop.run(62)
    shop.run(63)
    assert shop.files() == set()
    assert len({key.split("/")[1] for key in shop.objects}) == 3


def test_a_clock_that_is_put_back_a_little_begins_no_other_cycle(open_shop: Callable[..., Shop]) -> None:
    shop = open_shop()
    shop.write("1.csv")
    first = shop.run(60)
    assert shop.run(59) == first
    assert shop.run(60) == first


def test_two_cycles_in_one_second_have_names_of_their_own(open_shop: Callable[..., Shop]) -> None:
    shop = open_shop()
    moment = later(60)
    for number in range(3):
        shop.write(f"{number}.csv")
        shop.cycles.ask()
        shop.cycles.step(moment)
        shop.deliver()
        shop.cycles.step(moment)
        shop.release()
    assert len({key.split("/")[1] for key in shop.objects}) == 3


# Room, ends and beginnings


def disk(folder: Path, free: int) -> Usage:
    return Usage(device=folder.stat().st_dev, used=10**12, free=free, block=4096)


def test_without_room_a_folder_waits_until_other_archives_are_stored(tmp_path: Path) -> None:
    archives, free = tmp_path / "archives", (RESERVE.free_bytes or 0) + MIB

    def usage(_folder: str) -> Usage:
        return disk(tmp_path, free - sum(path.stat().st_size for path in archives.iterdir()))

    shop = Shop(tmp_path, Archive="Zip", usage=usage)
    for name, size in (("A/1.bin", 600_000), ("B/1.bin", 600_000), ("C/1.bin", 2_000_000)):
        shop.write(name).write_bytes(random.Random(name).randbytes(size))
    shop.step(60)
    assert len(shop.deliver()) == 1
    shop.step(60)  # the body of the first goes, though its members are yet to be let go
    shop.step(62)
    assert len(shop.deliver()) == 1
    shop.step(64)
    last = shop.run(66)
    assert last
    assert (last.found, last.uploaded, last.failed) == (3, 2, 1)
    assert shop.files() == {"C/1.bin"}
    assert shop.cycles.scan
    assert "no room" in shop.cycles.scan.problems[str(shop.root / "C")]
    assert len({key.split("/")[1] for key in shop.objects}) == 1
    free += 4 * MIB
    shop.run(2000)
    assert shop.files() == set()
    shop.stop()


def test_a_stop_while_packing_leaves_nothing_and_the_cycle_goes_on_later(
    open_shop: Callable[..., Shop],
) -> None:
    shop = open_shop(Archive="Zip")
    shop.write("A/1.csv")
    shop.stopping.set()
    assert shop.step(60) == 0
    cycle = shop.ledger.cycles.current("default")
    assert cycle
    assert not cycle.listed
    assert shop.spool.names() == []
    shop.stop()
    shop.start()
    shop.run(90)
    assert list(shop.objects) == [f"thing/{cycle_name(cycle.started)}/A.zip"]


def test_a_ledger_in_memory_deletes_no_archive_and_packs_none(tmp_path: Path) -> None:
    shop = Shop(tmp_path, Archive="Zip")
    shop.write("A/1.csv")
    shop.step(60)
    assert len(shop.spool.names()) == 2
    on_disk, shop.ledger = shop.ledger, Ledger(None, jitter=lambda: 0.5)
    sweep(shop.spool, shop.ledger)
    assert len(shop.spool.names()) == 2
    shop.ledger.close()
    shop.ledger = on_disk
    shop.stop()


def test_archives_that_a_lost_ledger_does_not_know_are_deleted_and_their_members_go_again(
    tmp_path: Path,
) -> None:
    shop = Shop(tmp_path, Archive="Zip")
    shop.write("A/1.csv")
    shop.step(60)
    shop.stop()
    (tmp_path / "ledger.db").unlink()
    shop.start()
    assert shop.spool.names() == []
    shop.run(60)
    assert shop.stored() == [("A/1.csv", b"1,2,3\n")]
    shop.stop()


def test_a_member_that_is_opened_at_the_last_moment_is_let_go_later(open_shop: Callable[..., Shop]) -> None:
    shop = open_shop(Archive="Zip")
    path = shop.write("A/1.csv")
    shop.write("A/2.csv")
    shop.step(60)
    with writing(path):
        shop.run(60)
        assert shop.files() == {"A/1.csv"}
        (entry,) = shop.ledger.books.promises(str(shop.spool.path(shop.spool.names()[0])))
        assert entry.note
        assert "1 of its members cannot be let go yet" in entry.note
    shop.ledger.retry(None, now=0)
    shop.release()
    assert shop.files() == set()
    assert shop.spool.names() == []


def test_a_finished_cycle_is_told_as_an_event(open_shop: Callable[..., Shop]) -> None:
    shop = open_shop()
    shop.write("1.csv", "12345")
    last = shop.run(60)
    assert last
    (event,) = shop.ledger.events.pending(9)
    assert event.kind == "cycle-finished"
    assert event.body == {
        "source": "default",
        "started": last.started,
        "finished": last.finished,
        "found": 1,
        "uploaded": 1,
        "failed": 0,
        "held": 0,
        "bytes": 5,
    }


def test_only_the_last_cycles_are_remembered(open_shop: Callable[..., Shop]) -> None:
    shop = open_shop(Interval=1)
    for number in range(25):
        shop.write(f"{number}.csv")
        shop.run(60 + 10 * number)
    rows = shop.ledger._database.rows("SELECT count(*), min(uploaded), max(uploaded) FROM cycle")
    assert rows == [(20, 1, 1)]


def test_a_file_that_is_called_like_an_archive_goes_in_the_next_cycle(open_shop: Callable[..., Shop]) -> None:
    shop = open_shop(Archive="Zip")
    shop.write("A.zip", "no archive of ours")
    shop.write("A/1.csv")
    last = shop.run(60)
    assert last
    assert (last.uploaded, last.held) == (1, 1)
    assert shop.files() == {"A/1.csv"}
    shop.run(2000)
    assert shop.files() == set()
    assert shop.names() == ["A.zip", "A.zip"]
