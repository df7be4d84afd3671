"""Promises that nobody can keep any more are let go of while they wait, and no others."""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.helpers import later, the_source, write
from tidegate.flows.outdated import Outdated
from tidegate.flows.scan import Scanner
from tidegate.model import State

if TYPE_CHECKING:
    from tidegate.ledger import Ledger
    from tidegate.model import Transfer


def scanner_of(root: Path, ledger: Ledger, pattern: str = "*.csv", **keys: object) -> Scanner:
    source = the_source(root, pattern, HoldBack="None", **keys)
    return Scanner(source, ledger, carrier="streams", thing="thing", never=frozenset())


def claimed(ledger: Ledger) -> list[Transfer]:
    return ledger.claim("default", "streams", limit=100_000, now=time.time() + 1e6)


def waiting(ledger: Ledger) -> int:
    return ledger.in_state("default", State.READY)


def quarantine(ledger: Ledger) -> None:
    """Have all that waits refused until it is not tried any more."""
    now = time.time()
    for attempt in range(3):
        again = now + 1000 * attempt
        taken = ledger.claim("default", "streams", limit=100_000, now=again)
        ledger.refuse([(transfer.id, "no") for transfer in taken], now=again)


def test_a_file_that_is_overwritten_while_its_bucket_is_away_waits_once(root: Path, ledger: Ledger) -> None:
    scanner = scanner_of(root, ledger)
    for number in range(50):
        write(root / "state.csv", f"version {number}")
        write(root / f"{number}.csv")
        assert scanner.scan(later()).promised == 2
        assert waiting(ledger) == number + 2  # one of each number, and the newest state
    assert sum(transfer.body.path.endswith("state.csv") for transfer in claimed(ledger)) == 1
    assert ledger.in_state("default", State.DROPPED) == 49


def test_more_than_are_looked_at_at_once_are_let_go_of_all_the_same(root: Path, ledger: Ledger) -> None:
    rounds = Outdated("default", ledger, looks=2)
    paths = [write(root / f"{number}.csv") for number in range(100)]
    scanner_of(root, ledger).scan(later())
    assert rounds.let_go(100, now=time.time()) == []
    for path in paths[5:]:
        path.unlink()
    assert 2 < len(rounds.let_go(5, now=time.time())) <= 40  # more wait than there are
    for _ in range(5):
        rounds.let_go(5, now=time.time())
    assert waiting(ledger) == 5


def test_a_file_that_was_deleted_is_not_waited_for(root: Path, ledger: Ledger) -> None:
    scanner = scanner_of(root, ledger)
    for name in ("a.csv", "b.csv"):
        write(root / name)
    scanner.scan(later())
    (root / "a.csv").unlink()
    scanner.scan(later())
    assert [transfer.target.key for transfer in claimed(ledger)] == ["b.csv"]


def test_a_folder_that_is_away_says_nothing_of_its_files(root: Path, tmp_path: Path, ledger: Ledger) -> None:
    scanner = scanner_of(root, ledger, "**/*.csv")
    write(root / "sub" / "a.csv")
    scanner.scan(later())
    (root / "sub").rename(tmp_path / "away")
    scanner.scan(later())
    assert waiting(ledger) == 1
    (tmp_path / "away").rename(root / "sub")
    assert scanner.scan(later()).promised == 0
    assert waiting(ledger) == 1


def test_another_disk_in_the_place_of_theirs_says_nothing_of_its_files(
    root: Path, tmp_path: Path, ledger: Ledger
) -> None:
    with tempfile.TemporaryDirectory(dir="/dev/shm") as other:
        if Path(other).stat().st_dev == tmp_path.stat().st_dev:
            pytest.skip("/dev/shm and the folder of the tests are on one file system")
        scanner = scanner_of(root, ledger, "**/*.csv")
        write(root / "disk" / "a.csv")
        scanner.scan(later())
        (root / "disk").rename(tmp_path / "away")
        (root / "disk").symlink_to(other)
        scanner.scan(later())
        assert waiting(ledger) == 1


def test_what_was_let_go_of_is_promised_anew_should_the_same_version_be_there_again(
    root: Path, tmp_path: Path, ledger: Ledger
) -> None:
    scanner = scanner_of(root, ledger, "**/*.csv")
    write(root / "sub" / "a.csv")
    scanner.scan(later())
    scanner.scan(later())  # and now it is known
    (root / "sub").rename(tmp_path / "away")
    (root / "sub").mkdir()
    scanner.scan(later())
    assert waiting(ledger) == 0
    (root / "sub").rmdir()
    (tmp_path / "away").rename(root / "sub")
    assert scanner.scan(later()).promised == 1
    assert waiting(ledger) == 1


def test_what_a_carrier_has_is_the_carriers(root: Path, ledger: Ledger) -> None:
    scanner = scanner_of(root, ledger)
    write(root / "a.csv")
    scanner.scan(later())
    (transfer,) = claimed(ledger)
    write(root / "a.csv", "another")
    scanner.scan(later())
    assert ledger.idle.drop([transfer], "gone", now=time.time()) == []
    assert ledger.known([transfer.id]) == {transfer.id: State.SENT}


def test_a_quarantined_file_is_let_go_of_when_it_changes_and_its_new_version_is_promised(
    root: Path, ledger: Ledger
) -> None:
    scanner = scanner_of(root, ledger)
    write(root / "a.csv")
    scanner.scan(later())
    quarantine(ledger)
    scanner.scan(later())
    assert ledger.in_state("default", State.FAILED) == 1
    write(root / "a.csv", "mended")
    scanner.scan(later())
    assert ledger.in_state("default", State.FAILED) == 0
    assert [os.path.basename(transfer.body.path) for transfer in claimed(ledger)] == ["a.csv"]  # noqa: PTH119


def test_also_the_last_of_many_in_quarantine_has_its_turn(root: Path, ledger: Ledger) -> None:
    rounds = Outdated("default", ledger, looks=2)
    for number in range(9):
        write(root / f"{number}.csv")
    scanner_of(root, ledger).scan(later())
    quarantine(ledger)
    (root / "8.csv").unlink()
    dropped = [transfer for _ in range(6) for transfer in rounds.let_go(8, now=time.time())]
    assert [transfer.target.key for transfer in dropped] == ["8.csv"]
