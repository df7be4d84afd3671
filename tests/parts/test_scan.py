"""From files to promises: what may go is promised once, and what may still be written is held back."""

from __future__ import annotations

import os
import socket
import time
from typing import TYPE_CHECKING

import pytest

from tests.helpers import later, the_source, unprivileged, version_of, write, writing
from tidegate.config import parse
from tidegate.disk.release import delete, release
from tidegate.flows.release import release_stored, return_leftovers
from tidegate.flows.scan import Scan, Scanner
from tidegate.model import Moment, Outcome, State, Transfer, Verdict
from tidegate.policy import Hold

if TYPE_CHECKING:
    from pathlib import Path

    from tidegate.config import Source
    from tidegate.ledger import Ledger


def scanner_of(source: Source, ledger: Ledger, *, never: frozenset[str] = frozenset()) -> Scanner:
    return Scanner(source, ledger, carrier="streams", thing="thing", never=never)


def promised(ledger: Ledger, source: str = "default") -> list[str]:
    """Name the files that have been promised since the last call."""
    claimed = ledger.claim(source, "streams", limit=100_000, now=time.time() + 1e6)
    return sorted(transfer.body.path.rpartition("/")[2] for transfer in claimed)


def why(scan: Scan) -> dict[str, Hold]:
    return {held.path.rpartition("/")[2]: held.why for held in scan.held}


def store(ledger: Ledger, *transfers: Transfer) -> None:
    outcomes = [
        Outcome(lane="lane", receipt=0, verdict=Verdict.STORED, promise=transfer.id) for transfer in transfers
    ]
    ledger.settle("streams", outcomes, position=None, now=time.time())


# What goes


def test_closed_files_are_promised_once_and_the_newest_is_held(root: Path, ledger: Ledger) -> None:
    for age, name in enumerate(["newest.csv", "b.csv", "a.csv"]):
        write(root / name, age=100 * age)
    scanner = scanner_of(the_source(root), ledger)
    first, second = scanner.scan(later()), scanner.scan(later(70))
    assert (first.found, first.promised, why(first)) == (3, 2, {"newest.csv": Hold.NEWEST})
    assert (second.found, second.promised, why(second)) == (3, 0, {"newest.csv": Hold.NEWEST})
    assert promised(ledger) == ["a.csv", "b.csv"]


def test_a_scanner_that_knows_nothing_promises_nothing_twice(root: Path, ledger: Ledger) -> None:
    write(root / "a.csv")
    source = the_source(root, HoldBack="None")
    assert scanner_of(source, ledger).scan(later()).promised == 1
    assert scanner_of(source, ledger).scan(later()).promised == 0


def test_the_promise_says_where_the_file_goes_and_which_version_of_it(root: Path, ledger: Ledger) -> None:
    path = write(root / "sub" / "a b.csv")
    source = the_source(root, "**/*.csv", HoldBack="None", ObjectKeyPrefix="site")
    scanner_of(source, ledger).scan(later())
    ((transfer,),) = [ledger.claim("default", "streams", limit=9, now=time.time())]
    assert (str(transfer.target), transfer.body) == ("s3://bucket/site/sub/a=20b.csv", version_of(path))


def test_a_new_version_of_a_promised_file_is_promised_too(root: Path, ledger: Ledger) -> None:
    scanner = scanner_of(the_source(root, HoldBack="None"), ledger)
    path = write(root / "a.csv", "one")
    assert scanner.scan(later()).promised == 1
    path.unlink()
    write(path, "two")  # re-created under its name, perhaps with the same inode
    assert scanner.scan(later()).promised == 1
    stored_time = path.stat().st_mtime_ns
    write(path, "six")
    os.utime(path, ns=(stored_time, stored_time))  # the same size and time
    assert scanner.scan(later()).promised == 1


def test_two_sources_promise_one_file_each_for_itself(root: Path, ledger: Ledger) -> None:
    write(root / "a.csv")
    shared = {"PathName": f"{root}/*.csv", "HoldBack": "None"}
    named = {name: {"BucketName": f"bucket-{name}", **shared} for name in ("one", "two")}
    for source in parse({"Sources": named}).sources:
        scanner_of(source, ledger).scan(later())
    assert (promised(ledger, "one"), promised(ledger, "two")) == (["a.csv"], ["a.csv"])


def test_fifty_thousand_files_are_all_found_and_recognised(folder: Path, ledger: Ledger) -> None:
    for part in range(50):
        (folder / str(part)).mkdir()
        for number in range(1000):
            os.close(os.open(folder / str(part) / f"{number}.csv", os.O_CREAT | os.O_WRONLY))
    scanner = scanner_of(the_source(folder, "**/*.csv", HoldBack="None"), ledger)
    # They are empty and nobody holds them: what counts here is that not one is missed.
    assert scanner.scan(later()).promised == 50_000
    assert scanner.scan(later()).promised == 0
    assert ledger.in_state("default", State.READY) == 50_000


def test_a_key_that_cannot_be_is_told_once_and_the_file_stays(
    root: Path, ledger: Ledger, caplog: pytest.LogCaptureFixture
) -> None:
    path = write(root / ("n" * 250 + ".csv"))
    source = the_source(root, HoldBack="None", ObjectKey="x" * 900 + "/{path}")
    scanner = scanner_of(source, ledger)
    for _ in range(3):
        scanner.scan(later())
    assert [record.levelname for record in caplog.records] == ["ERROR"]
    assert "key_too_long" in caplog.text
    assert path.exists()
    assert ledger.in_state("default", State.FAILED) == 1


# What is held back, and for how long


def test_a_file_changed_a_moment_ago_is_held_for_the_rest_of_its_quiet_time(
    root: Path, ledger: Ledger
) -> None:
    write(root / "a.csv")
    scanner = scanner_of(the_source(root, HoldBack="None", QuietSeconds=30), ledger)
    scan = scanner.scan(later(10))
    assert why(scan) == {"a.csv": Hold.QUIET}
    assert scan.next_seconds == pytest.approx(20, abs=1)
    assert promised(ledger) == []
    scanner.scan(later(31))
    assert promised(ledger) == ["a.csv"]


def test_without_a_quiet_time_a_file_still_outlives_the_tick_of_its_time_stamps(
    root: Path, ledger: Ledger
) -> None:
    path = write(root / "a.csv")
    scanner = scanner_of(the_source(root, HoldBack="None", QuietSeconds=0), ledger)
    changed = path.stat().st_ctime
    assert scanner.scan(Moment(changed + 0.01, 0, float("inf"))).promised == 0
    assert scanner.scan(Moment(changed + 0.06, 0, float("inf"))).promised == 1


def test_a_file_moved_in_with_an_old_date_is_quiet_only_after_its_move(root: Path, ledger: Ledger) -> None:
    write(root / "a.csv", age=100_000)
    scanner = scanner_of(the_source(root, HoldBack="None", QuietSeconds=30), ledger)
    assert scanner.scan(later(10)).promised == 0
    assert scanner.scan(later(31)).promised == 1


@pytest.mark.parametrize("how", ["open", "append", "map"])
def test_a_file_that_somebody_writes_is_held_however_old_it_is(root: Path, ledger: Ledger, how: str) -> None:
    old = write(root / "old.csv", age=500_000)
    write(root / "newest.csv", age=100)
    scanner = scanner_of(the_source(root), ledger)
    with writing(old, how):
        for seconds in (60, 3000, 500_000):
            assert why(scanner.scan(later(seconds)))["old.csv"] is Hold.OPEN
    assert promised(ledger) == ["newest.csv"]  # it has been left alone for the longest hold
    scanner.scan(later(500_001))
    assert promised(ledger) == ["old.csv"]


def test_of_several_writers_the_last_one_counts(root: Path, ledger: Ledger) -> None:
    path = write(root / "a.csv")
    scanner = scanner_of(the_source(root, HoldBack="None"), ledger)
    with writing(path):
        with writing(path, "append"):
            assert why(scanner.scan(later())) == {"a.csv": Hold.OPEN}
        assert why(scanner.scan(later())) == {"a.csv": Hold.OPEN}
    assert scanner.scan(later()).promised == 1


def test_the_only_file_goes_when_it_was_left_alone_for_the_longest_hold(root: Path, ledger: Ledger) -> None:
    path = write(root / "only.csv")
    scanner = scanner_of(the_source(root, MaxHoldSeconds=600), ledger)
    scan = scanner.scan(later(60))
    assert why(scan) == {"only.csv": Hold.NEWEST}
    assert scan.held[0].seconds == pytest.approx(540, abs=1)
    with writing(path):  # but not while somebody writes it
        assert why(scanner.scan(later(601))) == {"only.csv": Hold.OPEN}
    assert scanner.scan(later(601)).promised == 1


def test_a_longest_hold_of_zero_is_for_ever(root: Path, ledger: Ledger) -> None:
    write(root / "only.csv")
    scanner = scanner_of(the_source(root, MaxHoldSeconds=0), ledger)
    scan = scanner.scan(later(1e8))
    assert (why(scan), scan.held[0].seconds) == ({"only.csv": Hold.NEWEST}, None)


def test_a_quiet_time_longer_than_the_longest_hold_is_kept_all_the_same(root: Path, ledger: Ledger) -> None:
    write(root / "only.csv")
    scanner = scanner_of(the_source(root, MaxHoldSeconds=10, QuietSeconds=100), ledger)
    assert why(scanner.scan(later(50))) == {"only.csv": Hold.QUIET}
    assert scanner.scan(later(101)).promised == 1


@pytest.mark.parametrize(
    ("rule", "held"),
    [
        ("Newest", {"y/new.csv"}),
        ("NewestPerDirectory", {"x/new.csv", "y/new.csv"}),
        ("None", set()),
    ],
)
def test_the_newest_is_held_of_the_source_or_of_each_folder_or_not_at_all(
    root: Path, ledger: Ledger, rule: str, held: set[str]
) -> None:
    for name, age in {"x/old.csv": 400, "x/new.csv": 300, "y/old.csv": 200, "y/new.csv": 100}.items():
        write(root / name, age=age)
    scan = scanner_of(the_source(root, "**/*.csv", HoldBack=rule), ledger).scan(later())
    assert {str(path)[len(str(root)) + 1 :] for path in (one.path for one in scan.held)} == held


def test_the_held_file_changes_when_a_newer_one_appears(root: Path, ledger: Ledger) -> None:
    scanner = scanner_of(the_source(root), ledger)
    write(root / "a.csv", age=100)
    scanner.scan(later())
    assert promised(ledger) == []
    write(root / "b.csv", age=50)
    assert why(scanner.scan(later())) == {"b.csv": Hold.NEWEST}
    assert promised(ledger) == ["a.csv"]


# Clocks that lie


def test_a_file_from_the_future_goes_once_and_the_active_one_is_held(root: Path, ledger: Ledger) -> None:
    write(root / "future.csv", age=-50 * 365 * 86_400)
    write(root / "active.csv")
    scanner = scanner_of(the_source(root), ledger)
    assert why(scanner.scan(later())) == {"active.csv": Hold.NEWEST}
    assert promised(ledger) == ["future.csv"]
    for _ in range(3):
        assert why(scanner.scan(later())) == {"active.csv": Hold.NEWEST}
    assert promised(ledger) == []


def test_a_clock_that_steps_back_neither_frees_the_active_file_nor_holds_the_others_for_ever(
    root: Path, ledger: Ledger
) -> None:
    write(root / "closed.csv", age=20)
    write(root / "active.csv")
    scanner = scanner_of(the_source(root, QuietSeconds=5), ledger)
    back = -10_000_000.0
    now = time.time() + back
    assert why(scanner.scan(Moment(now, 100, 0))) == {"active.csv": Hold.QUIET, "closed.csv": Hold.QUIET}
    assert why(scanner.scan(Moment(now + 4, 104, 4)))["closed.csv"] is Hold.QUIET
    assert why(scanner.scan(Moment(now + 6, 106, 6))) == {"active.csv": Hold.NEWEST}
    assert promised(ledger) == ["closed.csv"]


def test_a_clock_that_leaps_ahead_does_not_make_a_fresh_file_old(root: Path, ledger: Ledger) -> None:
    write(root / "fresh.csv")
    scanner = scanner_of(the_source(root, HoldBack="None", QuietSeconds=30), ledger)
    leap = 100_000_000.0
    now = time.time() + leap
    assert why(scanner.scan(Moment(now, 100, 0))) == {"fresh.csv": Hold.QUIET}
    assert why(scanner.scan(Moment(now + 29, 129, 29))) == {"fresh.csv": Hold.QUIET}
    assert scanner.scan(Moment(now + 30, 130, 30)).promised == 1


def test_the_longest_hold_is_not_cut_short_by_a_clock_that_leaps_ahead(root: Path, ledger: Ledger) -> None:
    write(root / "active.csv")
    scanner = scanner_of(the_source(root, MaxHoldSeconds=3600), ledger)
    now = time.time() + 100_000_000
    assert why(scanner.scan(Moment(now, 1000, 500))) == {"active.csv": Hold.NEWEST}
    assert why(scanner.scan(Moment(now + 3000, 4000, 3500))) == {"active.csv": Hold.NEWEST}
    assert scanner.scan(Moment(now + 3600, 4600, 4100)).promised == 1


def test_a_file_that_changes_while_the_clock_is_in_doubt_begins_its_quiet_time_anew(
    root: Path, ledger: Ledger
) -> None:
    path = write(root / "a.csv")
    scanner = scanner_of(the_source(root, HoldBack="None", QuietSeconds=30), ledger)
    now = time.time() - 1_000_000
    scanner.scan(Moment(now, 0, 0))
    write(path, "more and more")
    assert scanner.scan(Moment(now + 31, 31, 31)).promised == 0
    assert scanner.scan(Moment(now + 62, 62, 62)).promised == 1


# What is in the way


def test_bad_entries_are_told_once_each_and_the_good_files_go(
    root: Path, ledger: Ledger, caplog: pytest.LogCaptureFixture
) -> None:
    os.mkfifo(root / "fifo.csv")
    (root / "dangling.csv").symlink_to("nowhere")
    (root / "loop.csv").symlink_to("loop.csv")
    (root / "folder.csv").mkdir()
    (root / "secret.csv").symlink_to("/etc/shadow")
    write(root / "good.csv")
    with socket.socket(socket.AF_UNIX) as unix:
        unix.bind(str(root / "socket.csv"))
    scanner = scanner_of(the_source(root, HoldBack="None"), ledger)
    for seconds in range(60, 70):
        scanner.scan(later(seconds))
    assert promised(ledger) == ["good.csv"]
    told = [record.getMessage() for record in caplog.records]
    assert len(told) == len(set(told)) == 5
    (root / "fifo.csv").unlink()
    scanner.scan(later())
    os.mkfifo(root / "fifo.csv")
    scanner.scan(later())
    assert len(caplog.records) == 6  # it was gone, and is there again


def test_a_file_that_may_not_be_read_is_told_once_and_stops_no_other(open_root: Path) -> None:
    write(open_root / "good.csv")
    write(open_root / "secret.csv").chmod(0)
    write(open_root / "closed" / "a.csv")
    (open_root / "closed").chmod(0)
    write(open_root / "sub" / "also-good.csv")
    try:
        found = unprivileged("scan", open_root)
    finally:
        (open_root / "closed").chmod(0o755)
    assert found["promised"] == [str(open_root / "good.csv"), str(open_root / "sub" / "also-good.csv")]
    assert found["problems"] == {
        str(open_root / "secret.csv"): "cannot be read: Permission denied",
        str(open_root / "closed"): "cannot list the folder: Permission denied",
    }
    assert found["again"] == found["problems"]


def test_thousands_of_bad_entries_do_not_fill_the_memory(folder: Path, ledger: Ledger) -> None:
    for number in range(3000):
        (folder / f"{number}.csv").symlink_to("nowhere")
    scan = scanner_of(the_source(folder), ledger).scan(later())
    assert 0 < len(scan.problems) <= 1000


def test_a_dropped_promise_is_promised_anew_when_its_file_is_found(root: Path, ledger: Ledger) -> None:
    write(root / "a.csv")
    scanner = scanner_of(the_source(root, HoldBack="None"), ledger)
    scanner.scan(later())
    (transfer,) = ledger.claim("default", "streams", limit=9, now=time.time())
    ledger.drop([(transfer, "files_dropped", "its disk was away for a moment")], now=time.time())
    assert scanner.scan(later()).promised == 1
    assert promised(ledger) == ["a.csv"]


# Our own folders


def test_files_moved_within_the_root_are_not_sent_again(root: Path, ledger: Ledger) -> None:
    sent = root / "sent"
    source = the_source(root, "**/*.csv", HoldBack="None", After="Move", MoveTo=str(sent))
    scanner = scanner_of(source, ledger, never=frozenset([str(sent)]))
    write(root / "sub" / "a.csv")
    scanner.scan(later())
    store(ledger, *ledger.claim("default", "streams", limit=9, now=time.time()))
    assert release_stored(source, ledger, now=time.time()) == 1
    assert (sent / "sub" / "a.csv").exists()
    for _ in range(3):
        assert scanner.scan(later()).found == 0


def test_a_file_that_stands_aside_while_it_is_released_is_not_found(root: Path, ledger: Ledger) -> None:
    path = write(root / "a.csv")
    scanner = scanner_of(the_source(root, "**", HoldBack="None", IncludeHidden=True), ledger)
    scans = []

    def look_then_delete(private: str, original: str) -> None:
        scans.append(scanner.scan(later()))
        delete(private, original)

    release([version_of(path)], look_then_delete)
    assert [scan.found for scan in scans] == [0]


# Releasing what is stored


def deal_with(source: Source, ledger: Ledger) -> int:
    return release_stored(source, ledger, now=time.time())


def counters(ledger: Ledger) -> dict[str, int]:
    return dict(ledger._database.rows("SELECT name, value FROM counter WHERE source = 'default'"))


def scan_and_store(source: Source, ledger: Ledger) -> None:
    scanner_of(source, ledger).scan(later())
    store(ledger, *ledger.claim("default", "streams", limit=100, now=time.time()))


def test_a_stored_file_is_deleted_and_counted(root: Path, ledger: Ledger) -> None:
    source = the_source(root, HoldBack="None")
    path = write(root / "a.csv")
    scan_and_store(source, ledger)
    assert deal_with(source, ledger) == 1
    assert not path.exists()
    assert counters(ledger)["files_deleted"] == 1
    assert deal_with(source, ledger) == 0


def test_a_file_that_changed_after_it_was_stored_is_kept_and_promised_again(
    root: Path, ledger: Ledger
) -> None:
    source = the_source(root, HoldBack="None")
    path = write(root / "a.csv")
    scan_and_store(source, ledger)
    write(path, "one more line")
    deal_with(source, ledger)
    assert path.read_text() == "one more line"
    assert counters(ledger)["files_changed"] == 1
    assert scanner_of(source, ledger).scan(later()).promised == 1


def test_a_file_that_is_written_after_it_was_stored_is_let_go_of_later(root: Path, ledger: Ledger) -> None:
    source = the_source(root, HoldBack="None")
    path = write(root / "a.csv")
    scan_and_store(source, ledger)
    with writing(path):
        deal_with(source, ledger)
    assert path.exists()
    assert release_stored(source, ledger, now=time.time() + 100) == 1
    assert not path.exists()


def test_files_are_kept_when_asked_and_deleted_when_that_changes(root: Path, ledger: Ledger) -> None:
    path = write(root / "a.csv")
    keep = the_source(root, HoldBack="None", After="Keep")
    scan_and_store(keep, ledger)
    assert deal_with(keep, ledger) == 1
    assert scanner_of(keep, ledger).scan(later()).promised == 0
    assert deal_with(keep, ledger) == 0
    assert path.exists()
    gone = the_source(root, HoldBack="None")
    assert scanner_of(gone, ledger).scan(later()).promised == 0  # it is stored already: not sent twice
    assert deal_with(gone, ledger) == 1
    assert not path.exists()


def test_a_stored_file_stays_for_its_retention_time(root: Path, ledger: Ledger) -> None:
    source = the_source(root, HoldBack="None", DeleteAfterMinutes=10)
    path = write(root / "a.csv")
    scan_and_store(source, ledger)
    assert release_stored(source, ledger, now=time.time() + 590) == 0
    assert path.exists()
    assert release_stored(source, ledger, now=time.time() + 610) == 1
    assert not path.exists()


def test_emptied_folders_go_only_when_asked_and_never_the_root(root: Path, ledger: Ledger) -> None:
    write(root / "x" / "y" / "a.csv")
    write(root / "z" / "a.csv")
    write(root / "z" / "other.txt")
    keeping = the_source(root, "**/*.csv", HoldBack="None")
    scan_and_store(keeping, ledger)
    deal_with(keeping, ledger)
    assert (root / "x" / "y").is_dir()
    write(root / "x" / "y" / "a.csv")
    pruning = the_source(root, "**/*.csv", HoldBack="None", PruneEmptyDirectories=True)
    scan_and_store(pruning, ledger)
    deal_with(pruning, ledger)
    assert sorted(path.name for path in root.iterdir()) == ["z"]
    (root / "z" / "other.txt").unlink()
    write(root / "a.csv")
    scan_and_store(pruning, ledger)
    deal_with(pruning, ledger)
    assert root.is_dir()


def test_a_file_that_vanished_after_it_was_stored_stops_no_other(root: Path, ledger: Ledger) -> None:
    source = the_source(root, HoldBack="None")
    paths = [write(root / f"{number}.csv") for number in range(3)]
    scan_and_store(source, ledger)
    paths[0].unlink()
    assert deal_with(source, ledger) == 3
    assert not any(path.exists() for path in paths)
    assert counters(ledger)["files_gone"] == 1


def test_what_was_left_aside_comes_back_through_a_scan_and_is_sent_again(
    root: Path, ledger: Ledger, caplog: pytest.LogCaptureFixture
) -> None:
    write(root / ".tidegate-release" / "a.csv")
    scanner = scanner_of(the_source(root, HoldBack="None"), ledger)
    scan = scanner.scan(later())
    assert scan.leftovers == [str(root / ".tidegate-release")]
    assert return_leftovers(scan.leftovers) == 1
    assert return_leftovers(scan.leftovers) == 0  # seen twice, returned once
    assert "back in its place" in caplog.text
    assert scanner.scan(later()).promised == 1


def test_moving_is_told_from_deleting_in_the_counters(root: Path, ledger: Ledger, tmp_path: Path) -> None:
    source = the_source(root, HoldBack="None", After="Move", MoveTo=str(tmp_path / "sent"))
    write(root / "a.csv")
    scan_and_store(source, ledger)
    deal_with(source, ledger)
    assert counters(ledger)["files_moved"] == 1


def two_sources(root: Path, **keys: object) -> tuple[Source, Source]:
    named = {
        "one": {"PathName": f"{root}/**/*.csv", "BucketName": "bucket-one"},
        "two": {"PathName": f"{root}/sub/*", "BucketName": "bucket-two", **keys},
    }
    one, two = parse({"Sources": named, "HoldBack": "None"}).sources
    return one, two


def promise_to(source: Source, ledger: Ledger) -> list[Transfer]:
    scanner_of(source, ledger).scan(later())
    return ledger.claim(source.name, "streams", limit=100, now=time.time())


def test_a_file_that_another_source_is_yet_to_store_stays_until_it_has(root: Path, ledger: Ledger) -> None:
    path = write(root / "sub" / "a.csv")
    one, two = two_sources(root)
    for_one, for_two = promise_to(one, ledger), promise_to(two, ledger)
    store(ledger, *for_one)
    now = time.time()
    release_stored(one, ledger, others=[two], now=now)
    assert path.exists()
    assert ledger.unfinished("one", retention_seconds=0, now=now) == 1  # a single pass waits for it
    store(ledger, *for_two)
    assert release_stored(one, ledger, others=[two], now=now + 3) == 1
    assert not path.exists()
    assert release_stored(two, ledger, others=[one], now=now) == 1
    assert ledger.in_state("two", State.DONE) == 1


@pytest.mark.parametrize("keys", [{"Exclude": ["a.csv"]}, {"PathName": "/elsewhere/*"}])
def test_a_file_that_no_other_source_means_goes_at_once(
    root: Path, ledger: Ledger, keys: dict[str, object]
) -> None:
    path = write(root / "sub" / "a.csv")
    one, two = two_sources(root, **keys)
    store(ledger, *promise_to(one, ledger))
    release_stored(one, ledger, others=[two], now=time.time())
    assert not path.exists()


def test_a_file_that_another_source_has_not_found_yet_stays(root: Path, ledger: Ledger) -> None:
    path = write(root / "sub" / "a.csv")
    one, two = two_sources(root)
    store(ledger, *promise_to(one, ledger))
    release_stored(one, ledger, others=[two], now=time.time())
    assert path.exists()
    path.unlink()  # nobody can store it any more, and nobody waits for it
    assert release_stored(one, ledger, others=[two], now=time.time() + 100) == 1
    assert ledger.in_state("one", State.DONE) == 1
