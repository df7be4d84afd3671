"""Bodies of our own: whole and durable or not there, and never more than the disk can bear."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tidegate.config import DiskLimit
from tidegate.disk.space import Usage
from tidegate.errors import Unavailable
from tidegate.model import Fingerprint
from tidegate.spool import RESERVE, Spool

MIB = 2**20
GIB = 2**30

KILLED = """
import os, signal, sys
from pathlib import Path
from tidegate.spool import Spool
spool = Spool(Path(sys.argv[1]))
with spool.body("whole", size=5) as file:
    file.write(b"whole")
with spool.body("half", size=5) as file:
    file.write(b"half")
    file.flush()
    os.kill(os.getpid(), signal.SIGKILL)
"""


def disk(folder: Path, *, free: int) -> Usage:
    return Usage(device=folder.stat().st_dev, used=100 * GIB - free, free=free, block=4096)


def test_a_body_appears_when_it_is_whole_and_not_before(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool")
    with spool.body("one", size=3) as file:
        file.write(b"one")
        assert not spool.path("one").exists()
    assert spool.path("one").read_bytes() == b"one"
    assert spool.names() == ["one"]


def test_a_block_that_raises_leaves_nothing(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool")
    with pytest.raises(ZeroDivisionError), spool.body("one", size=3) as file:
        file.write(b"%d" % (1 // 0))
    assert spool.names() == []


def test_a_body_is_never_replaced(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool")
    with spool.body("one", size=3) as file:
        file.write(b"one")
    with pytest.raises(FileExistsError), spool.body("one", size=3):
        pass
    assert spool.path("one").read_bytes() == b"one"


def test_a_body_is_named_by_the_version_that_it_is(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool")
    with spool.body("one", size=3) as file:
        file.write(b"one")
    body = spool.candidate("one")
    assert body.path == str(spool.path("one"))
    assert body.fingerprint == Fingerprint.of(spool.path("one").stat())
    spool.remove("one")
    spool.remove("one")
    with pytest.raises(FileNotFoundError):
        spool.candidate("one")


def test_the_sweep_deletes_what_nobody_knows_and_what_a_kill_left_unfinished(tmp_path: Path) -> None:
    folder = tmp_path / "spool"
    process = subprocess.run(
        [sys.executable, "-c", KILLED, str(folder)],
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2] / "src")},
        check=False,
    )
    assert process.returncode < 0
    spool = Spool(folder)
    with spool.body("unknown", size=1) as file:
        file.write(b"u")
    assert spool.names() == ["half.part", "unknown", "whole"]
    assert spool.sweep({"whole", "half.part"}.__contains__) == ["half.part", "unknown"]
    assert spool.names() == ["whole"]
    assert spool.path("whole").read_bytes() == b"whole"


def test_a_sweep_of_a_new_folder_finds_nothing(tmp_path: Path) -> None:
    assert Spool(tmp_path / "spool").sweep(lambda _: True) == []


def test_what_others_need_stays_free(tmp_path: Path) -> None:
    reserve = RESERVE.free_bytes or 0
    spool = Spool(tmp_path, usage=lambda _: disk(tmp_path, free=reserve + MIB))
    with spool.body("fits", size=MIB) as file:
        file.write(b"x")
    told = r"no room in .* for 1048577 bytes more: 4096 bytes too few"
    with pytest.raises(Unavailable, match=told), spool.body("too large", size=MIB + 1):
        pass
    assert spool.names() == ["fits"]


def test_bodies_that_are_being_written_count(tmp_path: Path) -> None:
    reserve = RESERVE.free_bytes or 0
    spool = Spool(tmp_path, usage=lambda _: disk(tmp_path, free=reserve + MIB))
    with spool.body("first", size=MIB - 4096):
        with spool.body("small", size=4096):
            pass
        with pytest.raises(Unavailable), spool.body("second", size=4097):
            pass
    with spool.body("second", size=4097):
        pass


def test_a_limit_of_a_watched_folder_counts_where_it_shares_the_disk(tmp_path: Path) -> None:
    limits = {
        str(tmp_path): DiskLimit(percent_used=90.0),
        str(tmp_path / "not mounted"): DiskLimit.parse("1%"),
    }
    spool = Spool(tmp_path, limits=limits, usage=lambda _: disk(tmp_path, free=10 * GIB + MIB))
    with spool.body("fits", size=MIB):
        pass
    with pytest.raises(Unavailable), spool.body("too large", size=2 * MIB):
        pass


def test_a_limit_of_another_disk_does_not_count(tmp_path: Path) -> None:
    limits = {"/dev/shm": DiskLimit(percent_used=90.0)}
    spool = Spool(tmp_path, limits=limits, usage=lambda _: disk(tmp_path, free=5 * GIB))
    with spool.body("fits", size=MIB):
        pass


def test_a_disk_that_does_not_tell_is_used(tmp_path: Path) -> None:
    spool = Spool(tmp_path, usage=lambda _: Usage(device=1, used=0, free=0, block=4096))
    with spool.body("fits", size=MIB):
        pass


def test_a_disk_that_is_full_all_the_same_is_waited_for(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    with pytest.raises(Unavailable, match="is full"), spool.body("one", size=1):
        Path("/dev/full").write_bytes(b"x")
    assert spool.names() == []
