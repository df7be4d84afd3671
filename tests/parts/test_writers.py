"""Who has a file open for writing: asked of the kernel, with real processes that do."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from tests.helpers import eventually, unprivileged, write, writing
from tidegate.disk.writers import (
    has_writer,
    lease_holds,
    opened,
    processes_writing,
    take_lease,
)

if TYPE_CHECKING:
    from pathlib import Path


def inode(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_dev, status.st_ino


def test_a_file_that_nobody_writes_is_free_also_while_it_is_read(root: Path) -> None:
    path = write(root / "a.csv")
    with path.open("rb"):
        assert has_writer(str(path)) is False


@pytest.mark.parametrize("how", ["open", "append", "map"])
def test_a_writer_in_another_process_is_seen_until_it_is_done(root: Path, how: str) -> None:
    path = write(root / "a.csv")
    with writing(path, how):
        assert has_writer(str(path)) is True
    assert has_writer(str(path)) is False


def test_a_writer_through_another_name_is_seen(root: Path) -> None:
    path = write(root / "a.csv")
    os.link(path, root / "other")
    with writing(root / "other"):
        assert has_writer(str(path)) is True


def test_of_two_writers_the_second_keeps_it_when_the_first_is_done(root: Path) -> None:
    path = write(root / "a.csv")
    with writing(path) as second:
        with writing(path, "append") as first:
            assert processes_writing(*inode(path)) == sorted([first.pid, second.pid])
        assert has_writer(str(path)) is True
        assert processes_writing(*inode(path)) == [second.pid]


def test_readers_are_not_taken_for_writers(root: Path) -> None:
    path = write(root / "a.csv")
    with path.open("rb"):
        assert processes_writing(*inode(path)) == []
    with path.open("ab"):
        assert processes_writing(*inode(path)) == [os.getpid()]


def test_asking_leaves_no_lease_behind(root: Path) -> None:
    path = write(root / "a.csv")
    has_writer(str(path))
    os.close(os.open(path, os.O_WRONLY | os.O_NONBLOCK))  # is turned away while there is a lease


def test_a_lease_no_longer_holds_once_a_writer_waits_for_it(root: Path) -> None:
    path = write(root / "a.csv")
    with opened(str(path)) as descriptor:
        assert take_lease(descriptor) is True
        assert lease_holds(descriptor)
        with pytest.raises(BlockingIOError):
            os.open(path, os.O_WRONLY | os.O_NONBLOCK)
        assert not lease_holds(descriptor)
    os.close(os.open(path, os.O_WRONLY | os.O_NONBLOCK))


def test_a_fifo_does_not_block_the_question(root: Path) -> None:
    os.mkfifo(root / "fifo.csv")
    assert has_writer(str(root / "fifo.csv")) in {None, False}


def test_a_file_that_is_gone_is_an_error_of_the_system(root: Path) -> None:
    with pytest.raises(FileNotFoundError):
        has_writer(str(root / "gone.csv"))


def test_without_rights_no_lease_is_had_and_nobody_knows(open_root: Path) -> None:
    path = write(open_root / "a.csv")
    path.chmod(0o644)
    if path.stat().st_uid == os.geteuid() != 0:
        pytest.skip("only root can make a file that the child does not own")
    assert unprivileged("has-writer", path) == {"lease": None, "writer": None}


def test_without_a_lease_the_open_files_of_our_own_processes_are_searched(root: Path) -> None:
    path = write(root / "a.csv")
    with writing(path) as process:
        assert eventually(lambda: processes_writing(*inode(path))) == [process.pid]
    assert processes_writing(*inode(path)) == []
