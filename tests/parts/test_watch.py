"""The watch nudges soon after something happened, and where it cannot, nothing is missed but the haste."""

from __future__ import annotations

import errno
import os
import resource
import subprocess
import sys
import threading
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from tests.helpers import environment, eventually, write
from tidegate.disk.walk import PRIVATE_FOLDER
from tidegate.disk.watch import Watch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

HASTE = 1.0


class Nudged:
    """Counts nudges, and lets a test wait for the next."""

    def __init__(self) -> None:
        self._event = threading.Event()

    def __call__(self) -> None:
        self._event.set()

    def within(self, seconds: float) -> bool:
        came = self._event.wait(seconds)
        self._event.clear()
        return came


@pytest.fixture
def watch() -> Iterator[Watch]:
    with closing(Watch()) as one:
        yield one


def append_and_close(root: Path) -> None:
    with (root / "there.csv").open("a") as file:
        file.write("more")


def move_in(root: Path) -> None:
    write(root.parent / "outside.csv").rename(root / "inside.csv")


def move_folder_in(root: Path) -> None:
    write(root.parent / "folder" / "a.csv")
    (root.parent / "folder").rename(root / "folder")


@pytest.mark.parametrize(
    "happen",
    [
        lambda root: write(root / "new.csv"),
        append_and_close,
        move_in,
        move_folder_in,
        lambda root: (root / "folder").mkdir(),
    ],
    ids=["created", "appended", "moved in", "folder moved in", "folder made"],
)
def test_what_may_bring_a_closed_file_nudges_within_a_second(
    root: Path, watch: Watch, happen: Callable[[Path], object]
) -> None:
    write(root / "there.csv")
    nudged = Nudged()
    watch.add(str(root), nudged)
    happen(root)
    assert nudged.within(HASTE)


def test_reading_and_deleting_nudges_nobody(root: Path, watch: Watch) -> None:
    path = write(root / "a.csv")
    nudged, other = Nudged(), Nudged()
    watch.add(str(root), nudged)
    path.read_text()
    path.unlink()
    (root / PRIVATE_FOLDER).mkdir()  # our own doing
    (root / PRIVATE_FOLDER).rmdir()
    # Events come in order: one of another folder tells that all before it were looked at.
    watch.add(str(root.parent), other)
    write(root.parent / "end.csv")
    assert other.within(HASTE)
    assert not nudged.within(0)


def test_everybody_who_asked_for_a_folder_is_nudged(root: Path, watch: Watch) -> None:
    one, two = Nudged(), Nudged()
    watch.add(str(root), one)
    watch.add(str(root), two)
    write(root / "a.csv")
    assert one.within(HASTE)
    assert two.within(HASTE)


def test_adding_a_folder_at_each_scan_nudges_once_for_each_event(root: Path, watch: Watch) -> None:
    nudged = Nudged()
    for _ in range(1000):
        watch.add(str(root), nudged)
    assert len(watch._nudges) == 1
    assert len(next(iter(watch._nudges.values()))) == 1


def test_a_folder_that_was_deleted_and_made_again_is_watched_again(root: Path, watch: Watch) -> None:
    folder = root / "sub"
    folder.mkdir()
    nudged = Nudged()
    watch.add(str(folder), nudged)
    folder.rmdir()
    eventually(lambda: not watch._numbers)
    folder.mkdir()
    watch.add(str(folder), nudged)
    write(folder / "a.csv")
    assert nudged.within(HASTE)


def test_a_folder_that_was_moved_away_does_not_stand_in_the_way_of_its_successor(
    root: Path, watch: Watch
) -> None:
    folder = root / "day"
    folder.mkdir()
    nudged = Nudged()
    watch.add(str(folder), nudged)
    folder.rename(root / "day-1")
    folder.mkdir()
    assert not nudged.within(0.2)  # a folder that moves away brings nothing

    def nudged_by_the_new_one() -> bool:
        watch.add(str(folder), nudged)  # as each scan does
        write(folder / "a.csv")
        return nudged.within(0.05)

    eventually(nudged_by_the_new_one, 3)


def test_an_overflow_of_events_nudges_everybody(root: Path, watch: Watch) -> None:
    folders = [root / name for name in ("one", "two")]
    nudges = [Nudged(), Nudged()]
    for folder, nudged in zip(folders, nudges, strict=True):
        folder.mkdir()
        watch.add(str(folder), nudged)
    overflow = (-1, 0x4000, 0, "")  # what the kernel says when its queue was full
    for nudge in watch._told([overflow]):
        nudge()
    assert all(nudged.within(0) for nudged in nudges)


def test_fifty_thousand_events_at_once_are_too_many_to_tell_and_still_nudge(
    folder: Path, watch: Watch
) -> None:
    nudged = Nudged()
    watch.add(str(folder), nudged)
    for number in range(50_000):
        os.close(os.open(folder / f"{number % 500}.csv", os.O_CREAT | os.O_WRONLY))
    assert nudged.within(HASTE)
    eventually(lambda: not nudged.within(0.2))  # and there is an end to it
    write(folder / "last.csv")
    assert nudged.within(HASTE)


def test_a_folder_that_cannot_be_watched_is_no_error(root: Path, watch: Watch) -> None:
    watch.add(str(root / "missing"), Nudged())
    watch.add(str(write(root / "file")), Nudged())


def test_after_the_end_nothing_is_watched_and_nothing_fails(root: Path) -> None:
    one = Watch()
    nudged = Nudged()
    one.add(str(root), nudged)
    one.close()
    one.close()
    one.add(str(root / "sub"), nudged)


def test_a_limit_of_watches_is_told_once_and_ends_the_asking(
    root: Path, watch: Watch, caplog: pytest.LogCaptureFixture
) -> None:
    """The limit itself cannot be set for a test alone: this is what follows from it."""
    nudged, late = Nudged(), Nudged()
    watch.add(str(root), nudged)
    watch._note(OSError(errno.EACCES, "Permission denied"))
    assert caplog.records == []
    watch._note(OSError(errno.ENOSPC, "No space left on device"))
    watch.add(str(root.parent), late)
    assert len(caplog.records) == 1
    assert "no more than 1 watches (fs.inotify.max_user_watches)" in caplog.text
    write(root / "a.csv")
    assert nudged.within(HASTE)  # those that were granted still work
    assert list(watch._numbers) == [str(root)]


def test_a_kernel_that_grants_no_watch_is_told_once_and_does_no_harm(root: Path) -> None:
    code = (
        "import os, resource, sys, logging; from tidegate.disk.watch import Watch;"
        "logging.basicConfig(stream=sys.stdout, format='%(message)s');"
        "Watch().close(); free = os.open('/', os.O_RDONLY); os.close(free);"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (free, free));"  # not one descriptor more
        "watch = Watch(); watch.add(sys.argv[1], print); watch.add(sys.argv[1], print); watch.close();"
        "sys.stdout.flush(); os._exit(0)"  # an orderly end would need descriptors for its threads
    )
    run = subprocess.run(
        [sys.executable, "-c", code, str(root)], capture_output=True, text=True, check=True, env=environment()
    )
    (line,) = run.stdout.splitlines()
    assert line.startswith(
        "files are found by scanning only: the kernel grants no watch (Too many open files)"
    )
    assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] > 100  # only the child was limited
