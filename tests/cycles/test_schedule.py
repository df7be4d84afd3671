"""Schedules and the keys of the configuration that are about cycles."""

from __future__ import annotations

import time
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidegate.config import Archive, HoldBack, Mode, Schedule, parse
from tidegate.config.naming import cycle_name
from tidegate.errors import ConfigFaults

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tidegate.config import Source

SOURCE = {"PathName": "/data/**", "BucketName": "my-bucket"}
CYCLE = SOURCE | {"Mode": "Cycle", "Interval": 60}


def times(text: str, zone: str | None, since: str, count: int) -> list[str]:
    """The next points in time, in UTC."""
    wall, found = datetime.fromisoformat(since).timestamp(), []
    for _ in range(count):
        wall = Schedule.parse(text).after(wall, zone)
        found.append(datetime.fromtimestamp(wall, timezone.utc).strftime("%m-%dT%H:%M"))
    return found


@pytest.fixture(params=["by name", "of the system"])
def berlin(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str | None]:
    """The zone of Berlin, by its name or because the machine is there."""
    if request.param == "by name":
        yield "Europe/Berlin"
        return
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    yield None
    monkeypatch.undo()
    time.tzset()


def test_a_schedule_goes_by_the_clocks_of_its_zone(berlin: str | None) -> None:
    assert times("30 2 * * *", berlin, "2026-01-01T00:00+00:00", 2) == ["01-01T01:30", "01-02T01:30"]
    assert times("30 2 * * *", berlin, "2026-07-01T00:00+00:00", 2) == ["07-01T00:30", "07-02T00:30"]
    assert times("30 2 * * *", "UTC", "2026-07-01T00:00+00:00", 2) == ["07-01T02:30", "07-02T02:30"]


def test_what_falls_into_an_hour_that_is_left_out_comes_at_its_end(berlin: str | None) -> None:
    found = times("30 2 * * *", berlin, "2026-03-27T12:00+01:00", 3)
    assert found == ["03-28T01:30", "03-29T01:00", "03-30T00:30"]


def test_what_falls_into_an_hour_that_is_shown_twice_comes_once(berlin: str | None) -> None:
    found = times("30 2 * * *", berlin, "2026-10-24T12:00+02:00", 2)
    assert found == ["10-25T00:30", "10-26T01:30"]


def test_what_comes_each_hour_goes_by_the_time_that_passes(berlin: str | None) -> None:
    assert times("0 * * * *", berlin, "2026-10-25T01:30+02:00", 3) == [
        "10-25T00:00",
        "10-25T01:00",
        "10-25T02:00",
    ]
    assert times("0 * * * *", berlin, "2026-03-29T00:30+01:00", 3) == [
        "03-29T00:00",
        "03-29T01:00",
        "03-29T02:00",
    ]


@given(
    st.sampled_from(["30 2 * * *", "*/7 * * * *", "0 0 1 * *", "15 1-4 * * SUN", "0 0 29 2 *"]),
    st.floats(0, 4e9),
    st.sampled_from(["Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "UTC", None]),
)
def test_the_next_time_is_always_later(text: str, wall: float, zone: str | None) -> None:
    assert Schedule.parse(text).after(wall, zone) > wall


@pytest.mark.parametrize(
    "text",
    [
        "",
        "daily",
        "@daily",
        "* * * *",
        "* * * * * *",
        "61 * * * *",
        "0 0 30 2 *",
        "0 0 * * FUNDAY",
        "a b c d e",
    ],
)
def test_what_is_no_schedule_is_told(text: str) -> None:
    with pytest.raises(ConfigFaults) as caught:
        parse(SOURCE | {"Mode": "Cycle", "Schedule": text})
    (fault,) = caught.value.faults
    assert fault.startswith("Schedule: ")
    assert "write" in fault


# Keys


def only(raw: dict[str, Any]) -> Source:
    (source,) = parse(raw).sources
    return source


def faults(raw: dict[str, Any]) -> list[str]:
    with pytest.raises(ConfigFaults) as caught:
        parse(raw)
    return list(caught.value.faults)


def test_without_a_word_of_cycles_there_are_none() -> None:
    source = only(SOURCE)
    assert (source.mode, source.schedule, source.archive) == (Mode.CONTINUOUS, None, Archive.NONE)


def test_the_keys_of_cycles_are_taken() -> None:
    source = only(
        SOURCE | {"Mode": "cycle", "Schedule": " 0  2 * * * ", "Archive": "zip", "Layout": "thingandtime"}
    )
    assert (source.mode, source.archive) == (Mode.CYCLE, Archive.ZIP)
    assert source.schedule == Schedule("0 2 * * *")
    key = source.key.render(
        prefix="", thing="press-7", source="default", path="a/b.zip", mtime_ns=0, now=0, cycle=1528876035
    )
    assert key == "press-7/2018-06-13T07:47:15+00:00/a/b.zip"


def test_a_cycle_is_called_after_its_second_in_utc() -> None:
    assert cycle_name(1528876035.9) == "2018-06-13T07:47:15+00:00"


def test_what_a_cycle_finds_is_meant_to_go_unless_something_else_is_said() -> None:
    assert only(CYCLE).hold_back is HoldBack.NONE
    assert only(CYCLE | {"HoldBack": "Newest"}).hold_back is HoldBack.NEWEST
    assert only(SOURCE).hold_back is HoldBack.NEWEST


@pytest.mark.parametrize(
    ("raw", "fault"),
    [
        (SOURCE | {"Mode": "Cycle"}, "Schedule: is missing"),
        (SOURCE | {"Schedule": "0 2 * * *"}, 'Schedule: "0 2 * * *" has no use'),
        (SOURCE | {"Archive": "Zip"}, 'Archive: "Zip" has no use'),
        (SOURCE | {"Layout": "ThingAndTime"}, 'Layout: "ThingAndTime" has no use'),
        (SOURCE | {"ObjectKey": "{cycle}/{path}"}, 'ObjectKey: "{cycle}/{path}" has {cycle}'),
        (CYCLE | {"Archive": "Zip", "After": "Keep"}, 'Archive: "Zip" cannot go with After: Keep'),
        (CYCLE | {"Layout": "ThingAndTime", "ObjectKey": "{path}"}, 'Layout: "ThingAndTime" says'),
        (
            CYCLE | {"Archive": "Zip", "Sources": {"b": {"PathName": "/data/b/*"}}},
            'Archive: "Zip" packs files of /data, and b sends them, too',
        ),
    ],
)
def test_what_does_not_go_together_is_told_once(raw: dict[str, Any], fault: str) -> None:
    found = [one for one in faults(raw) if one.startswith(fault)]
    assert len(found) == 1
    assert "; write" in found[0]


def test_a_source_that_works_on_its_own_sets_aside_what_the_top_says_of_cycles() -> None:
    cycle, live = parse(
        {
            "BucketName": "my-bucket",
            "Mode": "Cycle",
            "Schedule": "0 2 * * *",
            "Archive": "Zip",
            "Layout": "ThingAndTime",
            "Sources": {
                "cycle": {"PathName": "/data/a/**"},
                "live": {"PathName": "/data/b/*", "Mode": "Continuous"},
            },
        }
    ).sources
    assert (cycle.archive, cycle.key.text) == (Archive.ZIP, "{prefix}/{thing}/{cycle}/{path}")
    assert (live.schedule, live.archive, live.key.text) == (None, Archive.NONE, "{prefix}/{path}")


def test_a_key_of_ones_own_sets_aside_the_layout_of_the_top() -> None:
    (source,) = parse(
        CYCLE
        | {"PathName": None, "Layout": "ThingAndTime"}
        | {"Sources": {"a": {"PathName": "/data/*", "ObjectKey": "{cycle}/{name}"}}}
    ).sources
    assert source.key.text == "{cycle}/{name}"
