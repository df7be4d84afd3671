"""The agent's own folder has one owner, and a ledger that is replaced when it is damaged and never deleted."""

from __future__ import annotations

import os
import sqlite3
from typing import TYPE_CHECKING

import pytest

from tests.helpers import python, transfer
from tidegate import workdir
from tidegate.errors import LedgerLost, Locked
from tidegate.ledger.database import VERSION
from tidegate.view import snapshot as report
from tidegate.view.snapshot import Snapshot, SourceReport

if TYPE_CHECKING:
    from pathlib import Path


def opened(folder: Path, *, in_memory: bool = False) -> workdir.Ledger:
    return workdir.open_ledger(folder, jitter=lambda: 0.5, in_memory=in_memory)


def test_a_work_directory_has_one_owner_who_is_named_to_the_second(tmp_path: Path) -> None:
    first = workdir.Lock(tmp_path / "work")
    with pytest.raises(Locked, match=f"process {os.getpid()}"):
        workdir.Lock(tmp_path / "work")
    first.release()
    workdir.Lock(tmp_path / "work").release()


def test_the_owner_s_death_frees_the_work_directory(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from tidegate.workdir import Lock;"
        "lock = Lock(Path(sys.argv[1])); print('ready', flush=True); sys.stdin.read()"
    )
    with python(["-c", code, str(tmp_path)]) as owner:
        assert owner.stdout is not None
        assert owner.stdout.readline() == "ready\n"
        with pytest.raises(Locked, match=f"process {owner.pid}"):
            workdir.Lock(tmp_path)
    workdir.Lock(tmp_path).release()


@pytest.mark.parametrize("content", [b"garbage" * 1000, b""])
def test_a_damaged_ledger_is_kept_aside_and_a_new_one_begun(
    tmp_path: Path, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    workdir.ledger_path(tmp_path).write_bytes(content)
    ledger = opened(tmp_path)
    ledger.offer([(transfer(), "")], now=0)
    ledger.close()
    aside = list(tmp_path.glob("ledger.damaged-*.db"))
    if content:  # an empty file is no damage: it is a ledger that was just begun
        assert [path.read_bytes() for path in aside] == [content]
        assert len(caplog.records) == 1
        assert str(aside[0]) in caplog.text
    else:
        assert aside == []


def test_a_ledger_of_another_version_is_kept_aside_and_that_is_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    opened(tmp_path).close()
    with sqlite3.connect(workdir.ledger_path(tmp_path)) as older:
        older.execute(f"PRAGMA user_version = {VERSION - 1}")
    older.close()
    ledger = opened(tmp_path)
    ledger.offer([(transfer(), "")], now=0)
    ledger.close()
    (aside,) = tmp_path.glob("ledger.damaged-*.db")
    (record,) = caplog.records
    numbers = f"its schema is number {VERSION - 1}, not {VERSION}"
    assert record.getMessage() == (
        f"the ledger cannot be used (it is that of another version of tidegate: {numbers});"
        f" it is kept as {aside}, and a new one is filled from the files on disk"
    )


def test_a_second_damaged_ledger_does_not_replace_the_first(tmp_path: Path) -> None:
    for content in (b"one" * 1000, b"two" * 1000):
        workdir.ledger_path(tmp_path).write_bytes(content)
        opened(tmp_path).close()
    assert len(list(tmp_path.glob("ledger.damaged-*.db"))) == 2


def test_a_ledger_that_cannot_be_opened_for_want_of_room_is_not_set_aside(tmp_path: Path) -> None:
    with pytest.raises(LedgerLost) as caught:
        opened(tmp_path / "missing")
    assert not caught.value.damaged


def test_a_ledger_in_memory_leaves_nothing_on_the_disk(tmp_path: Path) -> None:
    ledger = opened(tmp_path, in_memory=True)
    ledger.offer([(transfer(), "")], now=0)
    ledger.close()
    assert list(tmp_path.iterdir()) == []


def test_the_configuration_is_kept_for_its_owner_s_eyes_and_read_back(tmp_path: Path) -> None:
    raw = {"PathName": "/data/*.csv", "Interval": 5, "Exclude": ["ü\n"]}
    assert workdir.kept_configuration(tmp_path) is None
    workdir.keep_configuration(tmp_path, raw)
    assert workdir.kept_configuration(tmp_path) == raw
    assert (tmp_path / "config.json").stat().st_mode & 0o777 == 0o600
    (tmp_path / "config.json").write_text("half a fi")
    assert workdir.kept_configuration(tmp_path) is None


def snapshot(**sources: SourceReport) -> Snapshot:
    return Snapshot(
        version="1", pid=1, at=2.0, started_at=1.0, ledger="disk", sources=sources, troubles={}, lanes={}
    )


def test_the_state_of_the_agent_is_read_as_it_was_written_odd_names_included(tmp_path: Path) -> None:
    odd = "/data/\udcff\n.csv"
    report.write(snapshot(default=SourceReport(found=3, problems={odd: "is not a regular file"})), tmp_path)
    found = report.read(tmp_path)
    assert found is not None
    assert found["sources"]["default"]["problems"] == {odd: "is not a regular file"}


@pytest.mark.parametrize("content", ["", "[1, 2]", "{", "\x00"])
def test_a_state_that_makes_no_sense_is_no_state(tmp_path: Path, content: str) -> None:
    (tmp_path / report.FILE).write_text(content)
    assert report.read(tmp_path) is None
