"""How full a file system is, and what the next hours will bring."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

from tidegate.config import DiskLimit
from tidegate.disk.space import WINDOW_SECONDS, Forecast, Room, Sample, Usage, excess, usage_of
from tidegate.errors import NoRoom

if TYPE_CHECKING:
    from pathlib import Path

GIB = 2**30


def usage(used: int, free: int) -> Usage:
    return Usage(device=1, used=used, free=free, block=4096)


def seen(*samples: tuple[float, int, int, int]) -> Forecast:
    forecast = Forecast()
    for sample in samples:
        forecast.add(Sample(*sample))
    return forecast


@pytest.mark.parametrize(
    ("limit", "used", "free", "too_much"),
    [
        ("90%", 90, 10, 0),
        ("90%", 91, 9, 1),
        ("90%", 100, 0, 10),
        ("33%", 34, 66, 1),
        ("33%", 4, 6, 1),
        ("2G", 5, 2 * GIB, 0),
        ("2G", 5, 2 * GIB - 1, 1),
        ("2G", 5, 0, 2 * GIB),
        ("90%", 0, 0, 0),  # a file system that does not tell
    ],
)
def test_what_must_go_is_what_lies_beyond_the_limit(limit: str, used: int, free: int, too_much: int) -> None:
    assert excess(DiskLimit.parse(limit), usage(used, free)) == too_much


def test_a_real_file_system_is_measured_as_df_does(root: Path) -> None:
    measured, expected = usage_of(str(root)), shutil.disk_usage(root)
    assert measured.used + measured.free == expected.used + expected.free
    assert measured.device == root.stat().st_dev
    assert measured.percent == pytest.approx(100 * expected.used / (expected.used + expected.free), abs=2)


def test_a_folder_that_is_not_there_has_no_usage(root: Path) -> None:
    with pytest.raises(FileNotFoundError):
        usage_of(str(root / "gone"))


def test_a_file_takes_whole_blocks() -> None:
    assert [usage(0, 0).taken_by(size) for size in (0, 1, 4096, 4097)] == [0, 4096, 4096, 8192]


def test_both_durations_follow_from_the_rates_seen() -> None:
    forecast = seen((0, 1300, 500, 0), (50, 1200, 480, 40), (100, 1000, 450, 100))
    assert forecast.full_seconds() == pytest.approx(1000 / 3)
    assert forecast.sent_seconds() == pytest.approx(450)


def test_what_is_not_going_on_has_no_duration() -> None:
    forecast = seen((0, 1000, 500, 0), (100, 1000, 500, 0))
    assert forecast.full_seconds() is None
    assert forecast.sent_seconds() is None
    assert forecast.text() == "the disk is not filling up, backlog is not being sent"


def test_nothing_is_said_before_something_was_seen() -> None:
    for forecast in (seen(), seen((0, 10, 10, 0)), seen((0, 10, 10, 0), (5, 5, 10, 5))):
        assert forecast.full_seconds() is None
        assert forecast.sent_seconds() is None
        assert forecast.text() == ""


def test_only_the_last_minutes_count() -> None:
    forecast = seen((0, 10_000, 9000, 0), (500, 1000, 900, 8000))
    for number in range(1, 4):
        forecast.add(Sample(500 + number * WINDOW_SECONDS, 1000, 900, 8000))
    assert forecast.full_seconds() is None
    assert forecast.sent_seconds() is None


@pytest.mark.parametrize(
    ("used_per_second", "stored_per_second", "text"),
    [
        (1, 1, "disk full in about 3 h, backlog sent in about 9 h"),
        (100, 1000, "disk full in about 2 min, backlog sent in about a minute"),
        (0.05, 0.1, "disk full in about 2 days, backlog sent in about 4 days"),
    ],
)
def test_the_text_names_both_in_fitting_units(
    used_per_second: float, stored_per_second: float, text: str
) -> None:
    free, backlog = 10_800, 32_400
    begin = (0, free + int(100 * used_per_second), backlog, 0)
    assert seen(begin, (100, free, backlog, int(100 * stored_per_second))).text() == text


def test_a_full_disk_and_an_empty_backlog_are_called_so() -> None:
    assert seen((0, 1000, 10, 0), (100, 0, 0, 10)).text() == "disk full in about a minute, no backlog"


def test_room_is_given_once_and_is_free_again_when_it_is_not_needed_any_more(tmp_path: Path) -> None:
    most = int(usage_of(str(tmp_path)).free * 0.6)
    room = Room(str(tmp_path), reserve=0)
    with room.kept(most):
        with pytest.raises(NoRoom, match=f"no room in {tmp_path} for {most} bytes"), room.kept(most):
            pass
        with room.kept(1):
            pass
    with room.kept(most):
        pass


def test_a_reserve_is_left_alone(tmp_path: Path) -> None:
    room = Room(str(tmp_path), reserve=2 * usage_of(str(tmp_path)).free)
    with pytest.raises(NoRoom), room.kept(1):
        pass
