"""Finding files: everything that is meant, nothing that is not, and nothing in the folder can stop it."""

from __future__ import annotations

import os
import socket
import threading
from typing import TYPE_CHECKING

import pytest

from tests.helpers import the_source, write
from tidegate.disk.walk import PRIVATE_FOLDER, Walk, inside, is_current, relative
from tidegate.model import Candidate, Fingerprint

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def found_in(
    root: Path,
    pattern: str = "**/*.csv",
    *,
    never: frozenset[str] = frozenset(),
    on_folder: Callable[[str], None] = lambda _: None,
    **keys: object,
) -> tuple[set[str], dict[str, str], list[str]]:
    walk = Walk(the_source(root, pattern, **keys), never, on_folder)
    names = {relative(found.path, str(root)) for found in walk}
    return names, {relative(path, str(root)): what for path, what in walk.problems.items()}, walk.leftovers


def test_files_are_found_at_any_depth_with_their_folder_and_status(root: Path) -> None:
    paths = [write(root / name) for name in ("a.csv", "x/b.csv", "x/y/c.csv")]
    write(root / "x" / "other.txt")
    found = {one.path: one for one in Walk(the_source(root, "**/*.csv"), frozenset(), lambda _: None)}
    assert set(found) == {str(path) for path in paths}
    for path in paths:
        one = found[str(path)]
        assert Fingerprint.of(one.stat) == Fingerprint.of(path.stat())
        assert one.folder == str(path.parent)


def test_only_folders_that_can_hold_a_match_are_looked_into(root: Path) -> None:
    for name in ("a.csv", "day-1/a.csv", "day-1/deep/a.csv", "other/a.csv"):
        write(root / name)
    looked: list[str] = []
    names, _, _ = found_in(root, "day-*/*.csv", on_folder=looked.append)
    assert names == {"day-1/a.csv"}
    assert looked == [str(root), str(root / "day-1")]


def test_hidden_files_and_folders_are_found_only_when_asked_for(root: Path) -> None:
    for name in ("a.csv", ".hidden.csv", ".folder/a.csv"):
        write(root / name)
    assert found_in(root)[0] == {"a.csv"}
    assert found_in(root, IncludeHidden=True)[0] == {"a.csv", ".hidden.csv", ".folder/a.csv"}
    assert found_in(root, ".folder/*.csv")[0] == {".folder/a.csv"}  # written out is meant


def test_excluded_files_are_left_out_and_excluded_folders_not_even_opened(root: Path) -> None:
    for name in ("a.csv", "a.tmp.csv", "old/a.csv", "x/old/a.csv", "x/keep/a.csv"):
        write(root / name)
    looked: list[str] = []
    names, _, _ = found_in(root, Exclude=["*.tmp.csv", "old/"], on_folder=looked.append)
    assert names == {"a.csv", "x/keep/a.csv"}
    assert not [folder for folder in looked if folder.endswith("/old")]


def test_what_is_no_regular_file_is_passed_over_with_one_problem_each(root: Path) -> None:
    os.mkfifo(root / "fifo.csv")
    with socket.socket(socket.AF_UNIX) as unix:
        unix.bind(str(root / "socket.csv"))
    (root / "folder.csv").mkdir()
    (root / "dangling.csv").symlink_to("nowhere")
    (root / "loop.csv").symlink_to("loop.csv")
    write(root / "good.csv")
    names, problems, _ = found_in(root)
    assert names == {"good.csv"}
    link = "is a symbolic link, and FollowSymlinks is false"
    assert problems == {
        "fifo.csv": "is not a regular file",
        "socket.csv": "is not a regular file",
        "dangling.csv": link,
        "loop.csv": link,
    }


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may make a device")
def test_a_device_is_passed_over(root: Path) -> None:
    try:
        os.mknod(root / "device.csv", 0o600 | 0o020000, os.makedev(1, 3))
    except PermissionError:
        pytest.skip("this system lets nobody make a device")
    assert found_in(root)[:2] == (set(), {"device.csv": "is not a regular file"})


def test_links_lead_nowhere_unless_asked_for_and_never_outside(root: Path, tmp_path: Path) -> None:
    secret = write(tmp_path / "outside" / "secret.csv")
    write(root / "real" / "a.csv")
    (root / "inside.csv").symlink_to(root / "real" / "a.csv")
    (root / "outside.csv").symlink_to(secret)
    (root / "relative.csv").symlink_to("../outside/secret.csv")
    (root / "up").symlink_to("..")
    (root / "self").symlink_to(".")
    (root / "dangling.csv").symlink_to("nowhere")
    (root / "loop.csv").symlink_to("loop.csv")
    assert found_in(root)[0] == {"real/a.csv"}
    names, problems, _ = found_in(root, FollowSymlinks=True)
    assert names == {"real/a.csv", "inside.csv"}
    assert set(problems) == {"outside.csv", "relative.csv", "up", "self", "dangling.csv", "loop.csv"}
    assert set(problems.values()) == {"is a symbolic link that leads outside the source's folder, or nowhere"}


def test_a_chain_of_links_is_judged_by_where_it_ends(root: Path, tmp_path: Path) -> None:
    write(tmp_path / "outside.csv")
    (tmp_path / "hop").symlink_to(root / "deep")
    write(root / "deep" / "a.csv")
    (root / "back.csv").symlink_to(tmp_path / "hop" / "a.csv")  # leaves the root and comes back
    (root / "first.csv").symlink_to("second.csv")
    (root / "second.csv").symlink_to(tmp_path / "outside.csv")
    assert found_in(root, FollowSymlinks=True)[0] == {"deep/a.csv", "back.csv"}


def test_links_to_folders_in_a_circle_are_walked_once(root: Path) -> None:
    write(root / "a" / "x.csv")
    (root / "a" / "to-b").symlink_to(root / "b")
    write(root / "b" / "y.csv")
    (root / "b" / "to-a").symlink_to(root / "a")
    names, _, _ = found_in(root, FollowSymlinks=True)
    assert {name.rpartition("/")[2] for name in names} == {"x.csv", "y.csv"}
    assert len(names) == 2


def test_a_root_that_is_a_link_is_walked_under_the_name_it_was_given(root: Path, tmp_path: Path) -> None:
    write(root / "a.csv")
    alias = tmp_path / "alias"
    alias.symlink_to(root)
    assert found_in(alias)[0] == {"a.csv"}
    (root / "link.csv").symlink_to("a.csv")
    assert found_in(alias, FollowSymlinks=True)[0] == {"a.csv", "link.csv"}


def test_a_missing_root_is_a_problem_and_no_error(root: Path) -> None:
    names, problems, _ = found_in(root / "missing")
    assert (names, problems) == (set(), {"": "cannot list the folder: No such file or directory"})


def test_a_root_that_is_a_file_is_a_problem_and_no_error(root: Path) -> None:
    write(root / "file")
    assert found_in(root / "file")[1] == {"": "cannot list the folder: Not a directory"}


def test_folders_of_our_own_are_never_looked_into(root: Path) -> None:
    for name in ("a.csv", "state/ledger.csv", "sent/a.csv", "x/sent/a.csv"):
        write(root / name)
    never = frozenset([str(root / "state"), str(root / "sent")])
    assert found_in(root, never=never)[0] == {"a.csv", "x/sent/a.csv"}


def test_folders_of_our_own_are_known_by_any_name_that_leads_to_them(root: Path, tmp_path: Path) -> None:
    write(root / "a.csv")
    write(root / "sent" / "a.csv")
    alias = tmp_path / "alias"
    alias.symlink_to(root)
    (root / "other").symlink_to("sent")
    assert found_in(alias, never=frozenset([str(root / "sent")]))[0] == {"a.csv"}
    assert found_in(root, never=frozenset([str(alias / "sent")]))[0] == {"a.csv"}
    assert found_in(root, never=frozenset([str(root / "sent")]), FollowSymlinks=True)[0] == {"a.csv"}


@pytest.mark.parametrize("below", ["", "state"])
def test_a_root_within_a_folder_of_our_own_is_not_walked_and_the_reason_is_told(
    root: Path, below: str
) -> None:
    write(root / below / "ledger.csv")
    names, problems, _ = found_in(root / below, never=frozenset([str(root)]))
    assert names == set()  # it would upload and delete the ledger
    assert list(problems.values()) == ["lies in a folder of the agent's own, which is never scanned"]


@pytest.mark.parametrize("pattern", ["*.csv", "**/*.csv", "x/*.csv"])
def test_what_a_dead_process_left_aside_is_noticed_wherever_the_pattern_leads(
    root: Path, pattern: str
) -> None:
    write(root / "x" / PRIVATE_FOLDER / "a.csv")
    write(root / PRIVATE_FOLDER / "a.csv")
    names, _, leftovers = found_in(root, pattern, IncludeHidden=True)
    assert names == set()
    expected = {root / PRIVATE_FOLDER} if pattern == "*.csv" else {root / "x" / PRIVATE_FOLDER}
    assert {str(folder) for folder in expected} <= set(leftovers)


def test_a_link_by_the_name_of_our_private_folder_is_not_taken_for_it(root: Path, tmp_path: Path) -> None:
    write(tmp_path / "theirs" / "a.csv")
    (root / PRIVATE_FOLDER).symlink_to(tmp_path / "theirs")
    for follow in (False, True):  # what it leads to would be carried off into the watched folder
        assert found_in(root, FollowSymlinks=follow)[2] == []


def test_files_that_come_and_go_during_the_walk_stop_nothing(root: Path) -> None:
    steady = {write(root / f"{number % 10}" / f"steady-{number}.csv") for number in range(300)}
    stop = threading.Event()

    def stir() -> None:
        number = 0
        while not stop.is_set():
            number += 1
            path = write(root / f"{number % 10}" / f"fleeting-{number % 50}.csv")
            path.unlink()
            folder = root / f"folder-{number % 5}"
            folder.mkdir()
            folder.rmdir()

    thread = threading.Thread(target=stir)
    thread.start()
    try:
        for _ in range(20):
            names, _, _ = found_in(root, FollowSymlinks=True)
            assert {relative(str(path), str(root)) for path in steady} <= names
    finally:
        stop.set()
        thread.join()


def test_names_of_any_bytes_are_found(root: Path) -> None:
    names = [
        b"line\nbreak.csv",
        b"\xff\xfe.csv",
        "ü.csv".encode(),
        "ü.csv".encode(),
        b"-rf.csv",
        b"a b;$(x).csv",
    ]
    for name in names:
        write(root / os.fsdecode(name))
    assert found_in(root)[0] == {os.fsdecode(name) for name in names}


def test_a_path_is_inside_only_when_it_exists_there(root: Path, tmp_path: Path) -> None:
    write(root / "a.csv")
    write(tmp_path / "data-2" / "a.csv")  # its name begins like the root's
    assert inside(str(root / "a.csv"), str(root))
    assert not inside(str(tmp_path / "data-2" / "a.csv"), str(root))
    assert not inside(str(root / "missing.csv"), str(root))
    assert not inside(str(root), str(root))
    assert inside(str(root / "a.csv"), "/")


def test_a_version_is_current_until_anything_about_it_changes(root: Path) -> None:
    path = write(root / "sub" / "a.csv")
    candidate = Candidate(str(path), Fingerprint.of(path.stat()))
    assert is_current(candidate)
    path.chmod(0o600)
    assert not is_current(candidate)
    path.unlink()
    assert not is_current(candidate)
    path.parent.rmdir()
    write(path.parent)  # a file where the folder was
    assert not is_current(candidate)
