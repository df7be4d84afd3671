"""A process that is killed in the middle of its plan, or of its downloads, is gone on with by the next one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.helpers import eventually
from tidegate.clock import Clock
from tidegate.restore.fetch import PARTIAL
from tidegate.restore.jobs import Jobs
from tidegate.restore.nouns import Phase

if TYPE_CHECKING:
    from pathlib import Path

    from tests.restore.shell import Shell
    from tidegate.restore.nouns import Counts

pytestmark = pytest.mark.slow

MIB = 2**20
ALL, ARCHIVED = 24_000, 300


def standing(shell: Shell) -> tuple[Phase, Counts]:
    with Jobs(shell.folder / "work", environment={}, clock=Clock()).journal("one") as journal:
        return journal.phase(), journal.counts()


@pytest.mark.parametrize("selection", ["prefix", "keys"])
def test_a_kill_in_the_middle_of_the_plan_has_it_made_anew_and_counts_each_object_once(
    shell: Shell, selection: str
) -> None:
    classes = ["GLACIER", *["STANDARD"] * (ALL // ARCHIVED - 1)]
    shell.glacier.populate("bucket", ALL, storage_class=classes)
    shell.glacier.faults.add("hang", "ListObjectsV2", skip=22)  # the plan writes 20 pages at a time
    names, given = ["s3://bucket/"], ""
    if selection == "keys":
        names = ["--keys=bucket"]
        given = "".join(f"{number:05}\n" for number in (*range(ALL), 5, 6))
    order = ("create", *names, "--id=one", "--rate=5000", "--tier=Expedited", "--poll=0.1s")
    with shell.start(*order) as runs:
        assert runs.stdin is not None
        runs.stdin.write(given)
        runs.stdin.close()
        eventually(lambda: shell.glacier.counters["fault hang"], 20)
        runs.kill()
    phase, counts = standing(shell)
    assert (phase, counts.total, shell.glacier.begun) == (Phase.PLANNING, 20_000, 0)
    shell.s3.delete_object(Bucket="bucket", Key="00001")  # what was planned already is looked at again
    code, out, _ = shell.run("resume", "one")
    phase, counts = standing(shell)
    gone = int(selection == "keys")
    assert (code, phase) == (gone, Phase.ENDED)
    assert (counts.total, counts.failed) == (ALL - 1 + gone, gone)
    assert (counts.ready, counts.open) == (ARCHIVED, ALL - ARCHIVED - 1)
    assert shell.glacier.begun == shell.glacier.counters["RestoreObject"] == ARCHIVED
    assert [out.count(f'"{status}"') for status in ("Complete", "Failed", "Cancelled", "Timeout")] == [
        *(1, 0, 0, 0)
    ]


def test_a_kill_in_the_middle_of_downloads_leaves_each_file_whole_and_there_and_nothing_else(
    shell: Shell,
) -> None:
    small = [f"small-{number}" for number in range(8)]
    for key in small:
        shell.glacier.put("bucket", key, size=10_000)
    for key in ("big", "deep/big"):
        shell.glacier.put("bucket", key, size=9 * MIB)
    keys = ("big", "deep/big", *small)
    stuck = [*small[4:], "big", "deep/big"]
    faults = shell.glacier.faults
    faults.add("hang", "GetObject", skip=1, matches=lambda key: key == "big")  # after its first piece
    faults.add("hang", "GetObject", skip=2, matches=lambda key: key == "deep/big")
    faults.add("hang", "GetObject", times=None, matches=lambda key: key in stuck[:4])
    home = shell.folder / "home"
    order = ("create", "s3://bucket/", "--id=one", "--tier=Expedited", "--poll=0.1s", f"--fetch={home}")
    with shell.start(*order) as runs:
        eventually(lambda: shell.glacier.counters["fault hang"] == 4, 20)
        runs.kill()
    assert standing(shell)[1].fetched < len(keys)
    assert sorted(it.stat().st_size for it in (home / PARTIAL).iterdir())[-2:] == [4 * MIB, 8 * MIB]
    assert {it.name for it in home.iterdir()} == {PARTIAL, *small[:4]}
    assert [it for it in small[:4] if not whole(shell, home, it)] == []
    faults.clear()
    asked = shell.glacier.counters["GetObject"]
    assert shell.run("resume", "one")[0] == 0
    phase, counts = standing(shell)
    assert (phase, counts.fetched, counts.total) == (Phase.ENDED, len(keys), len(keys))
    assert [key for key in keys if not whole(shell, home, key)] == []
    there = {str(it.relative_to(home)) for it in home.rglob("*") if it.is_file()}
    assert there == set(keys)  # and no file that was only begun
    assert (
        3 + 4 <= shell.glacier.counters["GetObject"] - asked <= 3 + len(small)
    )  # big ones were gone on with
    assert shell.glacier.begun == len(keys)


def whole(shell: Shell, home: Path, key: str) -> bool:
    return (home / key).read_bytes() == shell.glacier.content("bucket", key)
