"""What archives hold, read by others; and lists of members that are too long for the memory."""

from __future__ import annotations

import io
import os
import random
import shutil
import subprocess
import sys
import tarfile
import zipfile
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from tests.helpers import environment, version_of
from tidegate.archive.members import Sorter, line_of, read, without
from tidegate.archive.pack import Halted, MemberChanged, is_odd, pack, room_for
from tidegate.archive.zip import Zip
from tidegate.config import Archive
from tidegate.model import Candidate, Fingerprint

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

MOMENT = datetime(2026, 3, 29, 1, 30, 14, tzinfo=timezone.utc)


def fill(root: Path) -> dict[str, bytes]:
    """Write files of all sorts, and return what is in them."""
    noise = random.Random(1).randbytes(700_000)
    content = {
        "A/plain.csv": b"1,2,3\n" * 1000,
        "A/empty": b"",
        "A/sub/noise.bin": noise,
        "A/sub/ein Name mit Ümläuten €.csv": b"x",
        "A/" + "l" * 200 + "/" + "m" * 200: b"long",
        "A/back\\slash": b"b",
        "A/year=20/a": b"looks escaped, and stays as it is",
    }
    for name, body in content.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(body)
        os.utime(path, (MOMENT.timestamp(), MOMENT.timestamp()))
    return content


def members(root: Path) -> list[Candidate]:
    return [version_of(path) for path in sorted(root.rglob("*")) if path.is_file()]


def packed(
    how: Archive, listed: Iterable[Candidate], root: Path, *, halted: Callable[[], bool] = lambda: False
) -> bytes:
    listed = list(listed)
    file = io.BytesIO()
    odd = any(is_odd(member.path) for member in listed)
    pack(how, listed, file, root=str(root), odd_names=odd, folder=root.parent, halted=halted)
    assert file.tell() == len(file.getvalue())
    assert file.tell() <= room_for(len(listed), sum(member.fingerprint.size for member in listed))
    return file.getvalue()


def unzipped(body: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(body)) as archive:
        assert archive.testzip() is None
        return {name: archive.read(name) for name in archive.namelist()}


def untarred(body: bytes) -> dict[str, bytes]:
    with tarfile.open(fileobj=io.BytesIO(zstandard.ZstdDecompressor().stream_reader(body).read())) as archive:
        return {entry.name: archive.extractfile(entry).read() for entry in archive}  # type: ignore[union-attr]


READERS = {Archive.ZIP: unzipped, Archive.TAR_ZSTD: untarred}


@pytest.mark.parametrize("how", READERS)
def test_others_read_what_was_packed(root: Path, how: Archive) -> None:
    content = fill(root)
    assert READERS[how](packed(how, members(root), root)) == content


@pytest.mark.parametrize("how", READERS)
def test_the_same_members_make_the_same_bytes_wherever_they_come_from(
    root: Path, tmp_path: Path, how: Archive
) -> None:
    fill(root)
    copy = tmp_path / "copy"
    shutil.copytree(root, copy)
    copy.chmod(0o700)
    for path in copy.rglob("*"):
        if path.is_file():
            path.chmod(0o600)
    assert packed(how, members(root), root) == packed(how, members(copy), copy)


def test_times_and_modes_in_an_archive_are_those_that_tools_show(root: Path) -> None:
    fill(root)
    with zipfile.ZipFile(io.BytesIO(packed(Archive.ZIP, members(root), root))) as archive:
        assert {entry.date_time for entry in archive.infolist()} == {(2026, 3, 29, 1, 30, 14)}
        assert {entry.external_attr >> 16 for entry in archive.infolist()} == {0o100644}
    (root / "A" / "plain.csv").touch()
    raw = zstandard.ZstdDecompressor().stream_reader(packed(Archive.TAR_ZSTD, members(root), root)).read()
    with tarfile.open(fileobj=io.BytesIO(raw)) as archive:
        assert archive.getmember("A/empty").mtime == MOMENT.timestamp()
        assert {(entry.uid, entry.gid, entry.mode) for entry in archive} == {(0, 0, 0o644)}


@pytest.mark.parametrize("seconds", [-(10**9), 0, 10**9, 2**31, 10**10, 2**40])
def test_any_time_of_a_file_can_be_packed(tmp_path: Path, seconds: int) -> None:
    file = io.BytesIO()
    with Zip(file, tmp_path) as archive:
        archive.add(b"a", 1, seconds * 10**9 + 999_999_999, iter([b"a"]))
        archive.close()
    assert unzipped(file.getvalue()) == {"a": b"a"}


def test_unzip_finds_nothing_wrong(root: Path, tmp_path: Path) -> None:
    unzip = shutil.which("unzip")
    test = [unzip, "-t"] if unzip else [sys.executable, "-m", "zipfile", "-t"]
    fill(root)
    for number, large in enumerate((2**32, 1000, 0)):
        path = tmp_path / f"{number}.zip"
        with path.open("w+b") as file, Zip(file, tmp_path, large=large) as archive:
            for member in members(root):
                body = Path(member.path).read_bytes()
                archive.add(os.fsencode(member.path), len(body), member.fingerprint.mtime_ns, iter([body]))
            archive.close()
        run = subprocess.run([*test, path], capture_output=True, text=True, check=False)
        assert run.returncode == 0, run.stdout + run.stderr


@pytest.mark.parametrize("large", [0, 1, 100, 3000])
def test_large_members_are_written_as_zip64_has_them(tmp_path: Path, large: int) -> None:
    content = {f"{size}": random.Random(size).randbytes(size) for size in (0, 1, 2, 101, 2999, 3001, 10_000)}
    file = io.BytesIO()
    with Zip(file, tmp_path, large=large) as archive:
        for name, body in content.items():
            archive.add(name.encode(), len(body), 0, iter([body]))
        archive.close()
    assert unzipped(file.getvalue()) == content
    with zipfile.ZipFile(file) as archive:
        assert {entry.filename for entry in archive.infolist() if entry.extract_version == 45} >= {
            name for name in content if int(name) > large
        }


def test_more_members_than_old_readers_count_are_read(tmp_path: Path) -> None:
    path = tmp_path / "many.zip"
    with path.open("w+b") as file, Zip(file, tmp_path) as archive:
        for number in range(70_000):
            archive.add(b"%d" % number, 0, 0, iter([]))
        archive.close()
    with zipfile.ZipFile(path) as archive:
        assert len(archive.namelist()) == 70_000


def test_names_that_are_not_utf_8_are_escaped_so_that_all_stay_apart(root: Path) -> None:
    for name in (b"a\xff", b"a=FF", b"plain"):
        Path(os.fsdecode(os.fsencode(root) + b"/" + name)).write_bytes(name)
    assert unzipped(packed(Archive.ZIP, members(root), root)) == {
        "a=FF": b"a\xff",
        "a=3DFF": b"a=FF",
        "plain": b"plain",
    }


@pytest.mark.parametrize("change", ["append", "cut", "same size", "replace", "delete", "touch"])
@pytest.mark.parametrize("when", ["before", "under way"])
def test_a_member_that_changes_while_it_is_packed_is_noticed(root: Path, change: str, when: str) -> None:
    path = root / "A" / "big.bin"
    path.parent.mkdir()
    path.write_bytes(bytes(3_000_000))
    listed = members(root)
    asked = 0

    def do() -> bool:
        nonlocal asked
        asked += 1
        if asked == 3:
            alter(path, change)
        return False

    if when == "before":
        alter(path, change)
    with pytest.raises(MemberChanged) as caught:
        packed(Archive.ZIP, listed, root, halted=do)
    assert caught.value.path == str(path)


def alter(path: Path, how: str) -> None:
    if how == "append":
        with path.open("ab") as file:
            file.write(b"more")
    elif how == "cut":
        os.truncate(path, 100)
    elif how == "same size":
        with path.open("r+b") as file:
            file.write(b"other")
    elif how == "replace":
        draft = path.with_name("draft")
        draft.write_bytes(path.read_bytes())
        draft.replace(path)
    elif how == "delete":
        path.unlink()
    else:
        path.touch()


def test_packing_stops_soon_when_told_to(root: Path) -> None:
    (root / "big.bin").write_bytes(bytes(10_000_000))
    asked = []
    with pytest.raises(Halted):
        packed(Archive.ZIP, members(root), root, halted=lambda: len(asked) == 3 or bool(asked.append(1)))


# Lists


def candidate(path: str, version: int = 1) -> Candidate:
    return Candidate(path, Fingerprint(1, version, 3, 4, 5))


PATHS = st.lists(st.tuples(st.text(st.characters(codec="utf-8"), max_size=3), st.integers(0, 2)), unique=True)


@given(PATHS)
def test_a_list_gives_back_what_was_written_in_order(
    tmp_path_factory: pytest.TempPathFactory, paths: list[tuple[str, int]]
) -> None:
    folder = tmp_path_factory.getbasetemp()
    given_in = [candidate(path, version) for path, version in paths]
    with Sorter(folder) as sorter:
        for member in given_in:
            sorter.add(member)
        (folder / "list").write_bytes(b"".join(map(line_of, sorter)))
        assert (folder / "list").stat().st_size <= sorter.room
    found = list(read(folder / "list"))
    assert sorted(found, key=repr) == sorted(given_in, key=repr)
    assert [os.fsencode(member.path) for member in found] == sorted(os.fsencode(it.path) for it in given_in)


@given(PATHS, PATHS, PATHS)
def test_what_other_lists_hold_is_left_out_in_that_version_only(
    first: list[tuple[str, int]], second: list[tuple[str, int]], third: list[tuple[str, int]]
) -> None:
    lists = [
        sorted((candidate(*one) for one in paths), key=lambda it: (os.fsencode(it.path), str(it.fingerprint)))
        for paths in (first, second, third)
    ]
    left = list(without(lists[0], lists[1:]))
    assert left == [one for one in lists[0] if one not in lists[1] and one not in lists[2]]


def test_a_list_that_is_longer_than_what_is_held_at_a_time_is_sorted(tmp_path: Path) -> None:
    numbers = list(range(12_345))
    random.Random(3).shuffle(numbers)
    with Sorter(tmp_path) as sorter:
        for number in numbers:
            sorter.add(candidate(f"/data/{number:06d}\n\udcff"))
        assert [member.path for member in sorter] == [
            f"/data/{number:06d}\n\udcff" for number in range(12_345)
        ]
    assert list(tmp_path.iterdir()) == []


MEMORY = """
import sys, threading
from pathlib import Path
from tests.helpers import the_source, later
from tidegate.flows.cycle import Cycles
from tidegate.flows.release import release_stored
from tidegate.ledger import Ledger
from tidegate.model import Outcome, Verdict
from tidegate.spool import Spool
folder, count = Path(sys.argv[1]), int(sys.argv[2])
for number in range(count):
    if number % 1000 == 0:
        (folder / "data" / "A" / f"folder-{number // 1000:03d}").mkdir(parents=True)
    (folder / "data" / "A" / f"folder-{number // 1000:03d}" / f"measurement-{number:07d}.csv").write_text("1,2,3")
source = the_source(folder / "data", "**", Mode="Cycle", Interval=60, Archive=sys.argv[3])
ledger = Ledger(folder / "ledger.db", jitter=lambda: 0.5)
cycles = Cycles(source, ledger, Spool(folder / "archives"), zone=None, thing="thing", never=frozenset(),
                stopping=threading.Event())
moment = later(60)
cycles.step(moment)
(transfer,) = ledger.claim("default", "", limit=9, now=moment.wall)
assert transfer.metadata == {"tidegate-members": str(count)}
ledger.settle("direct", [Outcome(verdict=Verdict.STORED, promise=transfer.id)], position=None, now=moment.wall)
release_stored(source, ledger, now=moment.wall)
assert not [path for path in (folder / "data").rglob("*") if path.is_file()]
print(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")))
"""


@pytest.mark.slow
@pytest.mark.parametrize(("how", "many"), [("Zip", 100_000), ("TarZstd", 20_000)])
def test_very_many_members_take_no_more_memory_than_a_thousand(folder: Path, how: str, many: int) -> None:
    def peak(count: int) -> int:
        run = subprocess.run(
            [sys.executable, "-c", MEMORY, str(folder / str(count)), str(count), how],
            capture_output=True,
            text=True,
            check=False,
            env=environment(),
        )
        assert run.returncode == 0, run.stderr
        return int(run.stdout)

    small, large = peak(1000), peak(many)
    assert large < small + 10_000  # KiB
