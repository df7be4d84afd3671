"""Rates and timetables, and what they say through a week and through the nights when clocks are changed."""

from __future__ import annotations

import time
from datetime import datetime, timedelta, timezone
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidegate.config.bandwidth import Bandwidth, zone_name

K = 1024
M = 1024 * K
DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
MONDAY = datetime(2024, 1, 1)  # noqa: DTZ001 - what the clock on the wall shows
MINUTES = st.integers(0, 7 * 24 * 60 - 1)
BERLIN = "Europe/Berlin"


def on(day: str, clock: str) -> datetime:
    hour, minute = clock.split(":")
    return MONDAY + timedelta(days=DAYS.index(day), hours=int(hour), minutes=int(minute))


def wall(utc: str) -> float:
    return datetime.fromisoformat(utc).replace(tzinfo=timezone.utc).timestamp()


# One rate


@pytest.mark.parametrize(
    ("text", "rate"),
    [
        ("512k", 512 * K),
        ("512K", 512 * K),
        ("10M", 10 * M),
        ("1.5M", 1.5 * M),
        ("2g", 2 * K * M),
        ("1000000", 1_000_000),
        (" 1k ", 1 * K),
        ("off", None),
        ("OFF", None),
    ],
)
def test_a_rate_is_bytes_per_second_and_its_letter_a_power_of_1024(text: str, rate: float | None) -> None:
    assert Bandwidth.parse(text).rate(MONDAY) == rate


@given(st.integers(1, 1024), st.sampled_from("kMG"), MINUTES)
def test_one_rate_holds_at_any_time(number: int, unit: str, minute: int) -> None:
    rate = number * {"k": K, "M": M, "G": K * M}[unit]
    assert Bandwidth.parse(f"{number}{unit}").rate(MONDAY + timedelta(minutes=minute)) == rate


# Timetables


def test_an_entry_without_a_day_holds_each_day_until_the_next() -> None:
    table = Bandwidth.parse("08:00,512k 19:00,10M")
    for day in DAYS:
        assert table.rate(on(day, "07:59")) == 10 * M
        assert table.rate(on(day, "08:00")) == 512 * K
        assert table.rate(on(day, "18:59")) == 512 * K
        assert table.rate(on(day, "19:00")) == 10 * M
        assert table.rate(on(day, "00:00")) == 10 * M


def test_an_entry_with_a_day_holds_through_the_days_until_the_next_also_into_the_next_week() -> None:
    table = Bandwidth.parse("Mon-08:00,512k Sat-00:00,off")
    assert table.rate(on("Mon", "07:59")) is None
    assert table.rate(on("Mon", "08:00")) == 512 * K
    assert table.rate(on("Fri", "23:59")) == 512 * K
    assert table.rate(on("Sat", "00:00")) is None
    assert table.rate(on("Sun", "23:59")) is None


def test_on_its_day_an_entry_with_a_day_takes_the_place_of_one_without() -> None:
    table = Bandwidth.parse("Saturday-08:00,off 8:00,512k 19:00,10M")
    assert table.rate(on("Fri", "08:00")) == 512 * K
    assert table.rate(on("Sat", "08:00")) is None
    assert table.rate(on("Sat", "19:00")) == 10 * M
    assert table.rate(on("Sun", "08:00")) == 512 * K


@given(
    st.dictionaries(MINUTES, st.one_of(st.none(), st.integers(1024, M)), min_size=1, max_size=9),
    MINUTES,
    st.randoms(use_true_random=False),
)
def test_what_holds_is_what_was_said_last_however_the_entries_are_ordered(
    steps: dict[int, int | None], minute: int, order: object
) -> None:
    entries = [
        f"{DAYS[at // 1440]}-{at // 60 % 24:02}:{at % 60:02},{rate or 'off'}" for at, rate in steps.items()
    ]
    order.shuffle(entries)  # type: ignore[attr-defined]
    said_last = next(at for back in range(10080) if (at := (minute - back) % 10080) in steps)
    assert Bandwidth.parse(" ".join(entries)).rate(MONDAY + timedelta(minutes=minute)) == steps[said_last]


# What is refused


REMEDY = "write for example 512k, 10M or off"
TIMETABLE = "write for example 08:00,512k 19:00,10M or Mon-08:00,512k Sat-00:00,off"


@pytest.mark.parametrize(
    ("text", "fault", "remedy"),
    [
        ("soon", "is not a number of bytes per second", REMEDY),
        ("", "is not a number of bytes per second", REMEDY),
        ("-1M", "is not a number of bytes per second", REMEDY),
        ("10M:1M", "is not a number of bytes per second", REMEDY),
        ("0", "is less than 1k bytes per second", REMEDY),
        ("512", "is less than 1k bytes per second", REMEDY),
        ("9" * 400, "is more than 1024G bytes per second", REMEDY),
        ("8:00,1M 9:00,fast", 'is not a number of bytes per second, by its entry "9:00,fast"', REMEDY),
        ("8:00,1M, 9:00,2M", 'is not a number of bytes per second, by its entry "8:00,1M,"', REMEDY),
        ("8:00,512", 'is less than 1k bytes per second, by its entry "8:00,512"', REMEDY),
        *(
            (entry, f'is not a timetable, by its entry "{entry}"', TIMETABLE)
            for entry in (",", "8,1M", "24:00,1M", "08:60,1M", "Mon,1M", "08:00-Mon,1M")
        ),
        (
            "Foo-8:00,1M",
            'names no day of the week in "Foo-8:00,1M"',
            "write Mon, Tue, Wed, Thu, Fri, Sat or Sun",
        ),
        ("08:00,1M 8:00,2M", 'says twice what holds from "8:00"', "keep one of the two"),
        ("Mon-8:00,1M monday-8:00,2M", 'says twice what holds from "monday-8:00"', "keep one of the two"),
    ],
)
def test_what_is_wrong_is_told_by_a_sentence_that_follows_the_value(
    text: str, fault: str, remedy: str
) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - the whole sentence is compared
        Bandwidth.parse(text)
    assert str(caught.value) == f"{fault}; {remedy}"


@given(st.one_of(st.text(), st.text("0123456789.:,-kMGofmnau ", max_size=20)))
def test_whatever_is_written_it_has_a_rate_at_all_times_or_is_refused_with_a_remedy(text: str) -> None:
    try:
        table = Bandwidth.parse(text)
    except ValueError as error:
        assert "; write " in str(error) or "; keep " in str(error)  # noqa: PT017 - either is fine
    else:
        rates = [table.rate(MONDAY + timedelta(hours=hour)) for hour in range(168)]
        assert all(rate is None or 1024 <= rate <= 1024**4 for rate in rates)


# Time zones


def test_the_time_is_that_of_the_zone() -> None:
    table = Bandwidth.parse("08:00,512k 19:00,10M")
    noon = wall("2024-06-03T12:00")
    assert table.at(noon, "UTC") == 512 * K
    assert table.at(noon, "Asia/Tokyo") == 10 * M
    assert table.at(noon, "America/Los_Angeles") == 10 * M
    assert Bandwidth.parse("Mon-00:00,1M Tue-00:00,2M").at(wall("2024-06-03T23:00"), BERLIN) == 2 * M


def test_without_a_zone_it_is_that_of_the_system(monkeypatch: pytest.MonkeyPatch) -> None:
    table = Bandwidth.parse("08:00,512k 19:00,10M")
    noon = wall("2024-06-03T12:00")
    with monkeypatch.context() as context:
        for zone, rate in (("UTC0", 512 * K), ("JST-9", 10 * M)):
            context.setenv("TZ", zone)
            time.tzset()
            assert table.at(noon, None) == rate
    time.tzset()


def test_an_entry_in_the_hour_that_is_skipped_holds_from_its_end() -> None:
    table = Bandwidth.parse("02:30,512k 19:00,10M")  # Berlin goes from 02:00 to 03:00 at 01:00 UTC
    assert table.at(wall("2024-03-31T00:59:59"), BERLIN) == 10 * M
    assert table.at(wall("2024-03-31T01:00:00"), BERLIN) == 512 * K
    assert table.at(wall("2024-03-31T16:59:59"), BERLIN) == 512 * K
    assert table.at(wall("2024-03-31T17:00:00"), BERLIN) == 10 * M


def test_an_entry_in_the_hour_that_is_shown_twice_begins_twice() -> None:
    table = Bandwidth.parse("02:30,512k 19:00,10M")  # Berlin goes from 03:00 back to 02:00 at 01:00 UTC
    assert table.at(wall("2024-10-27T00:29:59"), BERLIN) == 10 * M
    assert table.at(wall("2024-10-27T00:30:00"), BERLIN) == 512 * K
    assert table.at(wall("2024-10-27T01:00:00"), BERLIN) == 10 * M
    assert table.at(wall("2024-10-27T01:30:00"), BERLIN) == 512 * K
    assert table.at(wall("2024-10-27T18:00:00"), BERLIN) == 10 * M


@given(st.integers(0, 366 * 24 * 60), st.sampled_from([BERLIN, "Australia/Lord_Howe", "Asia/Kathmandu"]))
def test_through_a_whole_year_the_rate_is_that_of_what_clocks_show(minutes: int, zone: str) -> None:
    table = Bandwidth.parse("02:30,512k Sun-02:00,1M Sun-03:00,2M 19:00,off")
    moment = wall("2024-01-01T00:00") + minutes * 60
    shown = datetime.fromtimestamp(moment, ZoneInfo(zone))
    assert table.at(moment, zone) == table.rate(shown.replace(tzinfo=None))


def test_a_zone_that_the_system_does_not_know_is_refused() -> None:
    assert zone_name(BERLIN) == BERLIN
    for wrong in ("Europe/Atlantis", "Europe", "", "/etc/passwd", "../etc", "a\0b"):
        with pytest.raises(ValueError, match="is not a time zone of this system; write for example Europe"):
            zone_name(wrong)
