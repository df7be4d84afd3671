"""Letting go of files: what was proven stored goes, and nothing else does, whoever interferes."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.helpers import python, unprivileged, version_of, write, writing
from tidegate.disk.release import ASIDE, Fate, Released, delete, move_to, put_back, release
from tidegate.disk.walk import PRIVATE_FOLDER

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tidegate.model import Candidate

MEMORY = Path("/dev/shm")


@pytest.fixture
def elsewhere(tmp_path: Path) -> Iterator[Path]:
    """A folder on another file system."""
    if not MEMORY.is_dir() or MEMORY.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("there is no second file system here")
    with tempfile.TemporaryDirectory(prefix="tidegate-test-", dir=MEMORY) as name:
        yield Path(name)


def let_go(*candidates: Candidate, dispose: Callable[[str, str], None] = delete) -> list[Fate]:
    fates = {one.candidate: one.fate for one in release(candidates, dispose)}
    return [fates[candidate] for candidate in candidates]


def everything_below(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*") if path.is_file()}


# Deleting


def test_the_version_that_was_stored_is_deleted(root: Path) -> None:
    assert let_go(version_of(write(root / "a.csv"))) == [Fate.RELEASED]
    assert list(root.iterdir()) == []  # and no private folder is left


def test_few_files_stand_aside_or_are_open_at_the_same_time(root: Path) -> None:
    many = [version_of(write(root / f"{number}.csv")) for number in range(2 * ASIDE + 1)]
    most = 0

    def dispose(private: str, original: str) -> None:
        nonlocal most
        most = max(most, len(everything_below(root / PRIVATE_FOLDER)))
        delete(private, original)

    open_before = len(list(Path("/proc/self/fd").iterdir()))
    assert set(let_go(*many, dispose=dispose)) == {Fate.RELEASED}
    assert most == ASIDE
    assert len(list(Path("/proc/self/fd").iterdir())) == open_before
    assert list(root.iterdir()) == []


def test_a_file_that_is_gone_already_is_no_trouble(root: Path) -> None:
    gone, there = version_of(write(root / "gone.csv")), version_of(write(root / "there.csv"))
    (root / "gone.csv").unlink()
    assert let_go(gone, there) == [Fate.GONE, Fate.RELEASED]


@pytest.mark.parametrize(
    "change",
    [
        lambda path: path.write_text("9,9,9\n"),  # the same size
        lambda path: path.open("a").close() or os.truncate(path, 3),
        lambda path: path.with_suffix(".new").write_text("new") and path.with_suffix(".new").replace(path),
        lambda path: path.unlink() or path.write_text("born again"),
        lambda path: os.utime(path, (1, 1)),
    ],
    ids=["overwritten", "truncated", "replaced", "re-created", "touched"],
)
def test_any_other_version_stays_as_it_is(root: Path, change: Callable[[Path], object]) -> None:
    path = write(root / "a.csv")
    stored = version_of(path)
    change(path)
    before = version_of(path)
    assert let_go(stored) == [Fate.CHANGED]
    assert version_of(path) == before


def test_a_version_with_its_old_size_and_time_put_back_is_still_seen_as_new(root: Path) -> None:
    path = write(root / "a.csv", "old!")
    stored = version_of(path)
    path.write_text("new!")
    os.utime(path, ns=(stored.fingerprint.mtime_ns,) * 2)
    assert let_go(stored) == [Fate.CHANGED]
    assert path.read_text() == "new!"


@pytest.mark.parametrize("how", ["open", "append", "map"])
def test_a_file_that_somebody_has_open_for_writing_stays_until_it_is_closed(root: Path, how: str) -> None:
    path = write(root / "a.csv")
    stored = version_of(path)
    with writing(path, how):
        assert let_go(stored) == [Fate.OPEN]
        assert path.exists()
    assert let_go(stored) == [Fate.RELEASED]


def test_without_a_lease_a_file_is_released_on_the_word_of_the_open_files(open_root: Path) -> None:
    path = write(open_root / "a.csv")
    path.chmod(0o666)
    assert unprivileged("release", path) == {"fate": "RELEASED", "note": ""}
    assert not path.exists()


def test_a_file_in_a_folder_that_may_not_be_changed_stays_and_the_reason_is_told(open_root: Path) -> None:
    path = write(open_root / "sub" / "a.csv")
    path.parent.chmod(0o555)
    found = unprivileged("release", path)
    assert found["fate"] == "FAILED"
    assert "Permission denied" in found["note"]
    assert path.exists()


def test_a_hundred_files_of_many_folders_are_released_together(root: Path) -> None:
    paths = [write(root / str(number % 7) / f"{number}.csv") for number in range(100)]
    assert set(let_go(*map(version_of, paths))) == {Fate.RELEASED}
    assert everything_below(root) == {}
    assert not list(root.rglob(PRIVATE_FOLDER))


# Interference between the last check and the deletion


class Interfering:
    """Waits until the first file of a batch is about to be disposed of; then does something to the second.

    At that moment both stand in the private folder, checked once.
    """

    def __init__(self, interfere: Callable[[Path], object]) -> None:
        self._interfere = interfere
        self._first = True

    def __call__(self, private: str, original: str) -> None:
        if self._first:
            self._first = False
            self._interfere(Path(private).with_name("second.csv"))
        delete(private, original)


def release_second(root: Path, interfere: Callable[[Path], object]) -> Released:
    first, second = version_of(write(root / "first.csv")), version_of(write(root / "second.csv"))
    found = release([first, second], Interfering(interfere))
    (one,) = [one for one in found if one.candidate == second]
    return one


def test_a_file_that_is_written_after_it_was_taken_aside_goes_back(root: Path) -> None:
    def write_through_a_descriptor(private: Path) -> None:
        code = "import sys; open(sys.argv[1], 'a').write('more')"  # waits for the end of the lease
        writers.append(subprocess.Popen([sys.executable, "-c", code, str(private)]))
        with pytest.raises(BlockingIOError):  # from here on the kernel has been told of a writer
            os.open(private, os.O_WRONLY | os.O_NONBLOCK)

    writers: list[subprocess.Popen[bytes]] = []
    assert release_second(root, write_through_a_descriptor).fate is Fate.CHANGED
    (root / "second.csv").read_text()
    for writer in writers:
        writer.wait(10)
    assert everything_below(root) in ({"second.csv": "1,2,3\nmore"}, {"second.csv": "1,2,3\n"})


@pytest.mark.parametrize(
    "interfere",
    [
        lambda private: os.utime(private, (1, 1)),
        lambda private: private.chmod(0o600),
        lambda private: os.link(private, private.parent.parent / "another-name"),
    ],
    ids=["touched", "mode changed", "linked"],
)
def test_a_file_that_was_changed_in_any_way_after_it_was_taken_aside_goes_back(
    root: Path, interfere: Callable[[Path], object]
) -> None:
    assert release_second(root, interfere).fate is Fate.CHANGED
    assert (root / "second.csv").read_text() == "1,2,3\n"
    assert not (root / PRIVATE_FOLDER).exists()


def test_a_name_that_was_taken_meanwhile_is_never_replaced(root: Path) -> None:
    def take_the_name(private: Path) -> None:
        os.utime(private, (1, 1))
        write(root / "second.csv", "the next generation")
        write(root / "second.kept-1.csv", "somebody's own")

    released = release_second(root, take_the_name)
    assert released.fate is Fate.CHANGED
    assert released.note.endswith("second.kept-2.csv")
    assert everything_below(root) == {
        "second.csv": "the next generation",
        "second.kept-1.csv": "somebody's own",
        "second.kept-2.csv": "1,2,3\n",
    }


def test_a_file_written_under_the_same_name_while_the_old_one_goes_is_left_alone(root: Path) -> None:
    released = release_second(root, lambda _: write(root / "second.csv", "the next generation"))
    assert released.fate is Fate.RELEASED
    assert everything_below(root) == {"second.csv": "the next generation"}


def test_a_file_that_cannot_be_disposed_of_goes_back_and_the_reason_is_told(root: Path) -> None:
    def refuse(private: str, original: str) -> None:
        raise PermissionError(13, "Permission denied", private)

    (released,) = release([version_of(write(root / "a.csv"))], refuse)
    assert released.fate is Fate.FAILED
    assert "Permission denied" in released.note
    assert everything_below(root) == {"a.csv": "1,2,3\n"}


def test_a_writer_of_a_file_that_stays_does_not_wait_for_the_others_to_be_moved(root: Path) -> None:
    stays, goes = write(root / "stays.csv"), write(root / "goes.csv")
    old, other = version_of(stays), version_of(goes)
    write(stays, "its next version")
    opened: list[int] = []

    def slow(private: str, original: str) -> None:
        # A log that goes on being written: its writer must not hang while a large file is copied away.
        opened.append(os.open(stays, os.O_WRONLY | os.O_NONBLOCK))
        os.close(opened[0])
        delete(private, original)

    assert let_go(old, other, dispose=slow) == [Fate.CHANGED, Fate.RELEASED]
    assert opened


# After a crash


def crash_while_releasing(path: Path) -> None:
    code = (
        "import os, sys; from pathlib import Path; from tests.helpers import version_of;"
        "from tidegate.disk.release import release;"
        "release([version_of(Path(sys.argv[1]))], lambda *_: os.kill(os.getpid(), 9))"
    )
    with python(["-c", code, str(path)]) as process:
        assert process.wait(10) == -9


def test_what_a_dead_process_left_aside_goes_back_to_its_place(root: Path) -> None:
    path = write(root / "a.csv")
    crash_while_releasing(path)
    private = root / PRIVATE_FOLDER
    assert everything_below(root) == {f"{PRIVATE_FOLDER}/a.csv": "1,2,3\n"}
    assert put_back(str(private)) == [str(path)]
    assert everything_below(root) == {"a.csv": "1,2,3\n"}
    assert not private.exists()


def test_what_goes_back_after_a_crash_replaces_nothing(root: Path) -> None:
    path = write(root / "a.csv", "old")
    crash_while_releasing(path)
    write(path, "new")
    assert put_back(str(root / PRIVATE_FOLDER)) == [str(root / "a.kept-1.csv")]
    assert everything_below(root) == {"a.csv": "new", "a.kept-1.csv": "old"}


def test_a_file_left_aside_is_not_buried_by_the_next_of_its_name(root: Path) -> None:
    path = write(root / "a.csv", "old")
    crash_while_releasing(path)
    write(path, "new")
    assert let_go(version_of(path)) == [Fate.FAILED]
    assert everything_below(root) == {"a.csv": "new", f"{PRIVATE_FOLDER}/a.csv": "old"}


def test_one_file_that_cannot_go_back_does_not_keep_the_others(root: Path) -> None:
    private = root / PRIVATE_FOLDER
    longest = "n" * 251 + ".csv"  # 255 bytes: there is no room for .kept-1
    write(root / longest, "taken")
    for name in ("a.csv", longest, "z.csv"):
        write(private / name, "left")
    found = put_back(str(private))
    assert {str(root / "a.csv"), str(root / "z.csv")} <= set(found)
    left = everything_below(root)
    assert left.pop("a.csv") == left.pop("z.csv") == "left"
    assert sorted(left.values()) == ["left", "taken"]


# Moving


def test_a_file_is_moved_to_the_same_place_below_another_folder(root: Path, tmp_path: Path) -> None:
    path = write(root / "sub" / "a.csv")
    assert let_go(version_of(path), dispose=move_to(str(tmp_path / "sent"), str(root))) == [Fate.RELEASED]
    assert everything_below(tmp_path / "sent") == {"sub/a.csv": "1,2,3\n"}
    assert everything_below(root) == {}


def test_a_moved_file_replaces_no_other(root: Path, tmp_path: Path) -> None:
    sent = tmp_path / "sent"
    for content in ("one", "two", "three"):
        path = write(root / "a.csv", content)
        assert let_go(version_of(path), dispose=move_to(str(sent), str(root))) == [Fate.RELEASED]
    assert everything_below(sent) == {"a.csv": "one", "a.kept-1.csv": "two", "a.kept-2.csv": "three"}


def test_a_file_is_moved_to_another_file_system_whole_and_with_its_times(root: Path, elsewhere: Path) -> None:
    path = write(root / "sub" / "a.csv", "x" * 3_000_000, age=5000)
    stored = version_of(path)
    assert let_go(stored, dispose=move_to(str(elsewhere), str(root))) == [Fate.RELEASED]
    assert everything_below(elsewhere) == {"sub/a.csv": "x" * 3_000_000}
    moved = version_of(elsewhere / "sub" / "a.csv").fingerprint
    assert abs(moved.mtime_ns - stored.fingerprint.mtime_ns) < 1_000_000
    assert everything_below(root) == {}


def test_a_file_moved_to_another_file_system_replaces_no_other(root: Path, elsewhere: Path) -> None:
    write(elsewhere / "a.csv", "theirs")
    path = write(root / "a.csv", "ours")
    assert let_go(version_of(path), dispose=move_to(str(elsewhere), str(root))) == [Fate.RELEASED]
    assert everything_below(elsewhere) == {"a.csv": "theirs", "a.kept-1.csv": "ours"}


def test_a_file_that_cannot_be_moved_stays_and_leaves_no_half_copy(root: Path, elsewhere: Path) -> None:
    write(elsewhere / "sub", "a file where a folder should be")
    path = write(root / "sub" / "a.csv")
    assert let_go(version_of(path), dispose=move_to(str(elsewhere), str(root))) == [Fate.FAILED]
    assert everything_below(root) == {"sub/a.csv": "1,2,3\n"}
    assert [*everything_below(elsewhere)] == ["sub"]


# Links


def test_of_a_link_only_the_link_goes(root: Path) -> None:
    target = write(root / "target.bin")
    link = root / "a.csv"
    link.symlink_to("target.bin")
    assert let_go(version_of(link)) == [Fate.RELEASED]
    assert everything_below(root) == {"target.bin": "1,2,3\n"}
    assert target.exists()


def test_a_link_whose_target_has_changed_stays(root: Path) -> None:
    target = write(root / "target.bin")
    (root / "a.csv").symlink_to(target)
    stored = version_of(root / "a.csv")
    write(target, "new")
    assert let_go(stored) == [Fate.CHANGED]
    assert (root / "a.csv").is_symlink()


def test_a_file_that_was_replaced_by_a_link_to_itself_is_not_followed(root: Path) -> None:
    path = write(root / "a.csv")
    stored = version_of(path)
    path.rename(root / "moved.csv")
    path.symlink_to("moved.csv")
    assert let_go(stored) == [Fate.CHANGED]
    assert everything_below(root) == {"a.csv": "1,2,3\n", "moved.csv": "1,2,3\n"}
