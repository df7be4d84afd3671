"""How a scan decides with rules and customizers, and how it counts what it decides."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from tests.customize.helpers import STAR, sha256
from tests.helpers import later, the_source, write
from tidegate.config import parse
from tidegate.customize import Namers, Shelf
from tidegate.flows.release import release_stored
from tidegate.flows.scan import Scanner
from tidegate.model import Outcome, State, Verdict
from tidegate.policy import Hold

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import pytest

    from tidegate.config import Source
    from tidegate.customize import Namer
    from tidegate.ledger import Ledger


def scanner_of(source: Source, ledger: Ledger, namer: Namer | None = None) -> Scanner:
    return Scanner(source, ledger, carrier="streams", thing="thing", never=frozenset(), namer=namer)


def claimed(ledger: Ledger, source: str = "default") -> dict[str, str]:
    """Tell which files have been promised since the last call, with their keys."""
    found = ledger.claim(source, "streams", limit=100_000, now=time.time() + 1e6)
    outcomes = [Outcome(lane="", receipt=None, verdict=Verdict.STORED, promise=one.id) for one in found]
    ledger.settle("streams", outcomes, position=None, now=time.time())
    return {one.body.path.rpartition("/")[2]: one.target.key for one in found}


def counters(ledger: Ledger, source: str = "default") -> dict[str, int]:
    words = ("added", "updated", "skipped", "ignored", "unchanged", "delayed")
    return {name: value for name, value in ledger.books.counters().get(source, {}).items() if name in words}


def test_rules_decide_and_ignored_files_are_judged_once_for_each_version(root: Path, ledger: Ledger) -> None:
    source = the_source(
        root,
        "**",
        HoldBack="None",
        Rules=[{"Match": "*.tmp", "Ignore": True}, {"Match": "*.csv", "Key": "csv/{name}"}],
    )
    namer = Namers("thing").of(source)
    assert namer is not None
    judged: list[int] = []
    names = namer.names
    namer.names = lambda *all, **keys: (judged.append(len(all[0])), names(*all, **keys))[1]  # type: ignore[method-assign]
    for name in ("a.tmp", "b.csv", "c.log"):
        write(root / name)
    scanner = scanner_of(source, ledger, namer)
    assert [scanner.scan(later(60 * turn)).ignored for turn in (1, 2, 3)] == [1, 1, 1]
    assert claimed(ledger) == {"b.csv": "csv/b.csv", "c.log": "c.log"}
    assert sum(judged) == 3
    write(root / "a.tmp", "changed")
    assert scanner.scan(later(300)).ignored == 1
    assert sum(judged) == 4


def test_a_file_without_a_name_is_held_told_and_asked_for_again(
    root: Path, ledger: Ledger, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    code = f"{STAR}    return '../' + name if 'bad' in name else name\n"
    (tmp_path / "names.star").write_text(code, encoding="utf-8")
    customizer = {"File": f"{tmp_path}/names.star", "Sha256": sha256(code)}
    source = the_source(root, "**", HoldBack="None", Customizer=customizer)
    namers = Namers("thing", Shelf(tmp_path / "shelf", lambda *_: b""))
    bad = write(root / "bad.csv")
    write(root / "good.csv")
    scanner = scanner_of(source, ledger, namers.of(source))
    for turn in (1, 2, 3):
        scan = scanner.scan(later(40 * turn))
        assert scan.holds == {Hold.UNNAMED: 1}
        assert scan.problems[str(bad)].startswith("key_impossible")
    assert caplog.text.count("key_impossible") == 1
    assert claimed(ledger) == {"good.csv": "good.csv"}
    assert ledger.in_state("default", State.FAILED) == 0
    namers.close()


def test_a_file_is_delayed_until_it_is_old_enough_and_that_is_counted(root: Path, ledger: Ledger) -> None:
    source = the_source(root, HoldBack="None", DelayUploadSeconds=600)
    write(root / "a.csv")
    scanner = scanner_of(source, ledger)
    assert scanner.scan(later(1)).holds == {Hold.QUIET: 1}
    scan = scanner.scan(later(100))
    assert scan.holds == {Hold.YOUNG: 1}
    assert scan.next_seconds is not None
    assert 490 < scan.next_seconds < 502
    assert claimed(ledger) == {}
    assert scanner.scan(later(603)).promised == 1
    assert counters(ledger) == {"delayed": 1}


def test_the_newest_file_waits_for_its_age_too(root: Path, ledger: Ledger) -> None:
    source = the_source(root, DelayUploadSeconds=600, MaxHoldSeconds=10)
    write(root / "a.csv")
    scanner = scanner_of(source, ledger)
    assert scanner.scan(later(100)).promised == 0
    assert scanner.scan(later(603)).promised == 1


def keep(ledger: Ledger, source: Source) -> None:
    claimed(ledger, source.name)
    release_stored(source, ledger, now=time.time())


def test_what_is_kept_and_has_not_changed_counts_as_unchanged_at_each_scan(
    root: Path, ledger: Ledger
) -> None:
    source = the_source(root, HoldBack="None", After="Keep")
    for name in "ab":
        write(root / f"{name}.csv")
    scanner = scanner_of(source, ledger)
    assert scanner.scan(later()).unchanged == 0
    assert scanner.scan(later()).unchanged == 0  # under way
    keep(ledger, source)
    assert scanner.scan(later()).unchanged == 2
    assert scanner_of(source, ledger).scan(later()).unchanged == 2  # after a restart
    write(root / "a.csv", "other")
    scan = scanner.scan(later(120))
    assert (scan.promised, scan.unchanged) == (1, 1)


def test_counters_that_do_not_change_spare_the_disk(root: Path, ledger: Ledger) -> None:
    source = the_source(root, HoldBack="None", Rules=[{"Match": "*", "Ignore": True}])
    write(root / "a.csv")
    scanner = scanner_of(source, ledger, Namers("thing").of(source))
    for steady in range(0, 300, 10):
        scanner.scan(later(60, steady=steady))
    assert counters(ledger) == {"ignored": 1}
    scanner.scan(later(60, steady=400))
    assert counters(ledger) == {"ignored": 31}


def test_force_sends_what_is_kept_with_every_scan_but_never_twice_at_a_time(
    root: Path, ledger: Ledger
) -> None:
    source = the_source(root, HoldBack="None", After="Keep", Force=True, ObjectKey="{now:%H%M%S}/{path}")
    write(root / "a.csv")
    scanner = scanner_of(source, ledger)
    keys = set()
    for turn in range(3):
        assert scanner.scan(later(60 + turn)).promised == 1
        assert scanner.scan(later(60 + turn)).promised == 0
        keys |= set(claimed(ledger).values())
        release_stored(source, ledger, now=time.time())
    assert len(keys) == 3
    assert "unchanged" not in counters(ledger)


def two(root: Path, *rules: dict[str, Any]) -> tuple[Source, Source]:
    shared = {"PathName": f"{root}/*", "HoldBack": "None"}
    one, other = parse(
        {
            "Sources": {
                "a": {"BucketName": "one", **shared},
                "b": {"BucketName": "two", "Rules": list(rules), **shared},
            }
        }
    ).sources
    return one, other


def test_a_file_is_let_go_though_another_source_ignores_it(root: Path, ledger: Ledger) -> None:
    one, other = two(root, {"Match": "*.log", "Ignore": True})
    log, csv = write(root / "a.log"), write(root / "a.csv")
    namers = Namers("thing")
    for source in (one, other):
        scanner_of(source, ledger, namers.of(source)).scan(later())
    assert set(claimed(ledger, "a")) == {"a.log", "a.csv"}

    def ignores(source: Source, body: Any) -> bool:
        return namers.ignore(source, body, moment=later())

    release_stored(one, ledger, others=[other], ignores=ignores, now=time.time() + 10)
    assert (log.exists(), csv.exists()) == (False, True)
    assert set(claimed(ledger, "b")) == {"a.csv"}
    release_stored(one, ledger, others=[other], ignores=ignores, now=time.time() + 1000)
    assert not csv.exists()


def test_a_file_that_another_source_cannot_name_stays(
    root: Path, ledger: Ledger, ruled: Callable[..., Namer]
) -> None:
    one, other = two(root, {"Match": "re:(a+)+b", "Ignore": True})
    path = write(root / ("a" * 60))
    namers = Namers("thing")
    for source in (one, other):
        scanner_of(source, ledger, namers.of(source)).scan(later())
    claimed(ledger, "a")
    release_stored(
        one,
        ledger,
        others=[other],
        ignores=lambda source, body: namers.ignore(source, body, moment=later()),
        now=time.time() + 10,
    )
    assert path.exists()
    namers.close()
