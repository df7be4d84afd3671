"""Decisions: what is newest, how long a file was left alone, when to try again, where a file goes."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.helpers import the_source
from tidegate.config.naming import MAX_KEY_BYTES, unescape
from tidegate.model import Candidate, Fingerprint, Moment
from tidegate.policy import (
    CLOCK_SLACK_SECONDS,
    LONGEST_WAIT_SECONDS,
    NAME_METADATA,
    pause_seconds,
    plan,
    rank,
    retry_seconds,
    unchanged_seconds,
)

NOW = 1_800_000_000.0
FOREVER = float("inf")
JITTER = st.floats(0, 1, exclude_max=True)
AGES = st.floats(-1e9, 1e9)


def mark(age: float = 0, *, changed: float | None = None, inode: int = 1, size: int = 1) -> Fingerprint:
    """Make the version that was modified `age` seconds before NOW, and whose ctime is as old or `changed`."""
    mtime_ns = int((NOW - age) * 1e9)
    return Fingerprint(1, inode, size, mtime_ns, mtime_ns if changed is None else int((NOW - changed) * 1e9))


def moment(*, steady: float = 0.0, trusted_for: float = FOREVER) -> Moment:
    return Moment(NOW, steady, trusted_for)


# The newest


def test_the_file_modified_last_is_the_newest() -> None:
    assert rank(mark(1), moment()) > rank(mark(2), moment())


def test_a_file_dated_in_the_future_is_never_the_newest() -> None:
    assert rank(mark(-1_600_000_000), moment()) < rank(mark(1_000_000), moment())


def test_a_time_stamp_a_little_ahead_of_the_clock_counts_as_now() -> None:
    assert rank(mark(-CLOCK_SLACK_SECONDS / 2), moment()) > rank(mark(0), moment())


def test_files_modified_at_the_same_time_are_told_apart() -> None:
    same = [mark(5), mark(5, changed=1), mark(5, changed=1, inode=2)]
    ranks = [rank(one, moment()) for one in same]
    assert ranks == sorted(ranks)
    assert len(set(ranks)) == 3


@given(st.lists(st.tuples(AGES, AGES, st.integers(1, 9)), min_size=1, max_size=8, unique=True))
def test_the_newest_is_the_same_in_whatever_order_files_are_found(
    ages: list[tuple[float, float, int]],
) -> None:
    marks = [mark(age, changed=changed, inode=inode) for age, changed, inode in ages]
    newest = {max(order, key=lambda one: rank(one, moment())) for order in itertools.permutations(marks[:4])}
    assert len(newest) == 1


# How long it was left alone


def test_a_file_was_left_alone_since_the_later_of_its_two_time_stamps() -> None:
    assert unchanged_seconds(mark(100, changed=7), moment(), None) == pytest.approx(7)
    assert unchanged_seconds(mark(7, changed=100), moment(), None) == pytest.approx(7)


def test_a_date_in_the_future_is_not_believed_and_the_kernel_s_own_stamp_is() -> None:
    assert unchanged_seconds(mark(-1_600_000_000, changed=60), moment(), None) == pytest.approx(60)


def test_when_both_stamps_lie_in_the_future_only_what_was_seen_counts() -> None:
    future = mark(-1000)
    assert unchanged_seconds(future, moment(steady=50), None) == 0
    assert unchanged_seconds(future, moment(steady=50), 20.0) == 30


def test_after_the_clock_jumped_no_age_is_greater_than_the_time_since_or_the_time_seen() -> None:
    old = mark(100_000)  # written a second ago, by a clock that was a day slow
    assert unchanged_seconds(old, moment(trusted_for=1), None) == 1
    assert unchanged_seconds(old, moment(steady=90, trusted_for=1), 85.0) == 5
    assert unchanged_seconds(old, moment(trusted_for=FOREVER), None) == pytest.approx(100_000)


@given(AGES, AGES, st.floats(0, 1e6), st.floats(0, 1e6), st.none() | st.floats(0, 1e6))
def test_an_age_is_never_negative_and_never_beyond_what_can_be_known(
    age: float, changed: float, steady: float, trusted_for: float, first_seen: float | None
) -> None:
    found = unchanged_seconds(
        mark(age, changed=changed), moment(steady=steady, trusted_for=trusted_for), first_seen
    )
    seen = max(0.0, steady - first_seen) if first_seen is not None else 0.0
    assert max(0.0, seen) <= found <= max(trusted_for, seen)


@given(AGES, AGES, st.floats(0, 1e6), st.floats(1, 1e5))
def test_a_file_that_is_watched_long_enough_always_becomes_quiet(
    age: float, changed: float, first_seen: float, wanted: float
) -> None:
    """Whatever its stamps and the clock say: nothing is held for ever because a clock is wrong."""
    later = moment(steady=first_seen + wanted, trusted_for=0)
    assert unchanged_seconds(mark(age, changed=changed), later, first_seen) >= wanted * 0.999


# Trying again


def test_waits_after_refusals_grow_and_then_stay() -> None:
    assert [retry_seconds(attempts, 0.5) for attempts in range(1, 7)] == [2, 10, 50, 250, 300, 300]
    assert [pause_seconds(failures, 0.5) for failures in range(1, 7)] == [5, 10, 20, 40, 60, 60]


@given(st.integers(1, 10_000), JITTER)
def test_no_wait_is_zero_or_longer_than_what_a_clock_set_back_is_recognised_by(
    number: int, jitter: float
) -> None:
    for wait in (retry_seconds(min(number, 100), jitter), pause_seconds(number, jitter)):
        assert 0 < wait < LONGEST_WAIT_SECONDS


def test_chance_spreads_waits_by_a_quarter_to_both_sides() -> None:
    assert (retry_seconds(1, 0.0), retry_seconds(1, 1.0)) == (1.5, 2.5)
    assert (pause_seconds(1, 0.0), pause_seconds(1, 1.0)) == (3.75, 6.25)


# Planning


def candidate(name: str, *, root: str = "/data", **stamps: float) -> Candidate:
    return Candidate(f"{root}/{name}", mark(**stamps))


def test_a_file_goes_to_its_path_below_the_root_and_keeps_its_sub_folders() -> None:
    source = the_source("/data", "**/*.csv", ObjectKeyPrefix="site")
    keys = [
        plan(source, candidate(name), carrier="streams", thing="t", now=NOW)[0].target.key
        for name in ("x.csv", "a/x.csv", "b/x.csv")
    ]
    assert keys == ["site/x.csv", "site/a/x.csv", "site/b/x.csv"]


def test_a_file_below_the_root_of_the_file_system_is_named_like_any_other() -> None:
    source = the_source("", "*/*.csv")
    found, _ = plan(source, Candidate("/a/x.csv", mark()), carrier="streams", thing="t", now=NOW)
    assert (source.glob.root, found.target.key) == ("/", "a/x.csv")


def test_a_plain_name_needs_no_metadata_and_an_odd_one_travels_in_it() -> None:
    source = the_source("/data", "**")
    plain, _ = plan(source, candidate("a.csv"), carrier="streams", thing="t", now=NOW)
    odd, refusal = plan(source, candidate("a b\n.csv"), carrier="streams", thing="t", now=NOW)
    assert plain.metadata == {}
    assert (odd.target.key, odd.metadata, refusal) == ("a=20b=0A.csv", {NAME_METADATA: "a%20b%0A.csv"}, "")


def test_a_key_that_is_too_long_is_refused_with_its_reason_and_names_no_object() -> None:
    source = the_source("/data", "**")
    longest = "/".join(["d" * 200] * 5) + "/" + "f" * (MAX_KEY_BYTES - 5 * 201)
    fits, refusal = plan(source, candidate(longest), carrier="streams", thing="t", now=NOW)
    assert (fits.target.key, refusal) == (longest, "")
    too_long, refusal = plan(source, candidate(longest + "f"), carrier="streams", thing="t", now=NOW)
    assert too_long.target.key == ""
    assert refusal.startswith("key_too_long: 1025 bytes")


def test_a_name_of_255_bytes_is_no_trouble() -> None:
    found, refusal = plan(
        the_source("/data", "**"), candidate("n" * 255), carrier="streams", thing="t", now=NOW
    )
    assert (found.target.key, refusal) == ("n" * 255, "")


@pytest.mark.parametrize("year", [1735516800.0, 1798761600.0])  # 30 December 2024, 1 January 2027
def test_dates_in_keys_are_of_calendar_years_in_utc(year: float) -> None:
    source = the_source("/data", "*", ObjectKey="{now:%Y-%m-%d}/{path}")
    found, _ = plan(source, candidate("a"), carrier="streams", thing="t", now=year)
    assert found.target.key in {"2024-12-30/a", "2027-01-01/a"}


def test_the_same_version_is_the_same_promise_and_any_other_is_not() -> None:
    source = the_source("/data", "*")

    def id_of(one: Candidate, now: float = NOW) -> bytes:
        return plan(source, one, carrier="streams", thing="t", now=now)[0].id

    one = candidate("a")
    others = [
        candidate("b"),
        candidate("a", age=1),
        candidate("a", changed=1),
        Candidate("/data/a", mark(size=2)),
        Candidate("/data/a", mark(inode=2)),
    ]
    assert id_of(one) == id_of(one, NOW + 1e6)
    assert len({id_of(one), *map(id_of, others)}) == 6


NAMES = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="/\0"), min_size=1, max_size=20
).filter(lambda name: name not in {".", ".."})


@given(NAMES, NAMES)
def test_different_names_have_different_keys_and_each_can_be_read_back(one: str, two: str) -> None:
    source = the_source("/data", "**", IncludeHidden=True)
    keys = [
        plan(source, candidate(name), carrier="streams", thing="t", now=NOW)[0].target.key
        for name in (one, two)
    ]
    assert (keys[0] == keys[1]) == (one == two)
    assert [unescape(key) for key in keys] == [one, two]
