"""Why a file has not gone, asked of the file as it is now: the answers agree with what a scan does."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from tests.helpers import later, write, writing
from tidegate.carry.choice import Choice
from tidegate.config import Config, parse
from tidegate.flows.scan import Scanner
from tidegate.view.explain import Finding, explain

if TYPE_CHECKING:
    from pathlib import Path

    from tidegate.ledger import Ledger


CHOOSE = Choice(
    parse({"PathName": "/x/*", "BucketName": "bucket"}), in_greengrass=False, steady=lambda: 0.0
).of


def config_of(root: Path, **keys: object) -> Config:
    return parse({"PathName": f"{root}/**/*.csv", "BucketName": "bucket", **keys})


def ask(path: Path, config: Config, *, seconds: float = 60, never: frozenset[str] = frozenset()) -> Finding:
    (finding,) = explain(str(path), config, choose=CHOOSE, thing="thing", never=never, moment=later(seconds))
    return finding


def test_a_file_that_may_go_is_told_where(root: Path) -> None:
    path = write(root / "sub" / "a.csv")
    found = ask(path, config_of(root, HoldBack="None", ObjectKeyPrefix="site"))
    assert (found.matches, found.held, found.target) == (True, None, "s3://bucket/site/sub/a.csv")


def test_it_is_told_who_would_carry_it_and_why(root: Path) -> None:
    path = write(root / "a.csv")
    found = ask(path, config_of(root))
    assert (found.carrier, found.chosen) == ("direct", "this is not a Greengrass component")
    found = ask(path, config_of(root, Carrier="StreamManager"))
    assert (found.carrier, found.chosen) == ("streams", "Carrier is StreamManager")


def test_every_source_is_asked(root: Path) -> None:
    path = write(root / "a.csv")
    config = parse(
        {
            "BucketName": "bucket",
            "Sources": {"csv": {"PathName": f"{root}/*.csv"}, "txt": {"PathName": f"{root}/*.txt"}},
        }
    )
    found = explain(str(path), config, choose=CHOOSE, thing="thing", never=frozenset(), moment=later())
    assert [(one.source, one.matches) for one in found] == [("csv", True), ("txt", False)]


def test_the_newest_of_its_folder_is_held_and_the_newest_of_another_is_not_its_business(root: Path) -> None:
    config = config_of(root, HoldBack="NewestPerDirectory")
    old = write(root / "x" / "old.csv", age=500)
    new = write(root / "x" / "new.csv", age=400)
    write(root / "y" / "newer.csv", age=100)
    assert ask(old, config).held is None
    assert ask(new, config).held == "it is the newest file (HoldBack NewestPerDirectory)"
    assert ask(new, config_of(root)).held is None


def test_a_hold_without_end_is_told_without_a_time(root: Path) -> None:
    found = ask(write(root / "a.csv"), config_of(root, MaxHoldSeconds=0))
    assert found.held is not None
    assert "MaxHoldSeconds is 0" in found.held
    assert found.seconds is None


def test_the_rest_of_a_hold_is_told_in_seconds(root: Path) -> None:
    path = write(root / "a.csv")
    config = config_of(root, MaxHoldSeconds=600, QuietSeconds=30)
    quiet, newest, free = (ask(path, config, seconds=seconds) for seconds in (10, 100, 601))
    assert quiet.seconds == pytest.approx(20, abs=1)
    assert newest.seconds == pytest.approx(500, abs=1)
    assert free.held is None


@pytest.mark.parametrize("how", ["open", "map"])
def test_a_writer_is_told_with_its_number_where_that_can_be_known(root: Path, how: str) -> None:
    path = write(root / "a.csv")
    with writing(path, how) as process:
        held = ask(path, config_of(root)).held
    assert (
        held
        == {
            "open": f"process {process.pid} has it open for writing",
            "map": "a process has it open for writing",  # no open file shows who
        }[how]
    )


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("other.txt", "does not match"),
        (".other.txt", "does not match"),
        (".hidden.csv", "it is hidden, and IncludeHidden is false"),
        (".folder/a.csv", "it is hidden, and IncludeHidden is false"),
        ("old/deep/a.csv", "Exclude old/ leaves it out"),
        ("sent/a.csv", "a folder of the agent's own"),
    ],
)
def test_a_file_that_is_not_meant_is_told_why(root: Path, name: str, words: str) -> None:
    path = write(root / name)
    found = ask(path, config_of(root, Exclude=["old/"]), never=frozenset([str(root / "sent")]))
    assert not found.matches
    assert words in found.because


def test_links_are_explained_as_they_are_walked(root: Path, tmp_path: Path) -> None:
    write(tmp_path / "outside.csv")
    write(root / "target.bin")
    for name, target in {"in.csv": "target.bin", "out.csv": "../outside.csv", "gone.csv": "nowhere"}.items():
        (root / name).symlink_to(target)
    follow = config_of(root, FollowSymlinks=True, HoldBack="None")
    assert ask(root / "in.csv", follow).matches
    for name in ("out.csv", "gone.csv"):
        assert "leads outside the source's folder, or nowhere" in ask(root / name, follow).because
        assert "FollowSymlinks is false" in ask(root / name, config_of(root)).because


def test_a_fifo_is_explained_without_waiting_for_a_writer(root: Path) -> None:
    os.mkfifo(root / "fifo.csv")
    assert ask(root / "fifo.csv", config_of(root)).because == "it is not a regular file"


def test_a_key_that_cannot_be_is_told(root: Path) -> None:
    found = ask(write(root / "a.csv"), config_of(root, ObjectKey="x" * 1023 + "/{path}"))
    assert found.target is None
    assert found.refused is not None
    assert found.refused.startswith("key_too_long")


@pytest.mark.parametrize("rule", ["Newest", "NewestPerDirectory", "None"])
@pytest.mark.parametrize("seconds", [1, 60, 5000])
def test_explain_and_a_scan_agree_on_every_file(
    root: Path, ledger: Ledger, rule: str, seconds: float
) -> None:
    paths = [
        write(root / name, age=age)
        for name, age in {"a.csv": 9, "x/b.csv": 7, "x/c.csv": 5, "y/d.csv": -9e8, "y/e.csv": 3}.items()
    ]
    config = config_of(root, HoldBack=rule)
    scanner = Scanner(config.sources[0], ledger, carrier="streams", thing="thing", never=frozenset())
    scan = scanner.scan(later(seconds))
    held = {one.path for one in scan.held}
    assert {str(path) for path in paths if ask(path, config, seconds=seconds).held} == held
