"""The throttle of all uploads: it keeps the limit, lets urgent ones go first, and never holds anybody for good."""

from __future__ import annotations

import functools
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.depot import HandClock
from tests.helpers import PATIENCE, eventually
from tidegate.carry.direct.throttle import ASK_SECONDS, Bucket, Throttle
from tidegate.errors import Unavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

K = 1024
CHUNK = 256 * K
PACKET = 1460


def spend(
    throttle: Throttle, count: int, urgency: int = 5, check: Callable[[], object] | None = None
) -> None:
    """Send as a body does: slice by slice, and looking at the file before each."""
    while count:
        if check is not None:
            check()
        count -= throttle.take(count, urgency, check)


class FileChanged(Exception):  # noqa: N818 - it is news, not a mishap
    pass


class Limit:
    """What is asked for the limit; counts how often."""

    def __init__(self, rate: float | None) -> None:
        self.rate = rate
        self.asked = 0

    def __call__(self) -> float | None:
        self.asked += 1
        return self.rate


class Senders:
    """Threads that send through one throttle, and what came of it."""

    def __init__(self, rate: float | None, steady: Callable[[], float] = time.monotonic) -> None:
        self.limit = Limit(rate)
        self.throttle = Throttle(self.limit, self._read)
        self._steady = steady
        self._last = threading.local()
        self.done: list[str] = []
        self.sent: list[tuple[float, int, str]] = []  # when it was granted, how much, to whom
        self.errors: list[Exception] = []
        self._threads: list[threading.Thread] = []

    def _read(self) -> float:
        self._last.read = self._steady()
        return self._last.read

    def start(self, name: str, work: Callable[[], object]) -> threading.Thread:
        """Do this in a thread, and note that it is done, or what was raised."""

        def run() -> None:
            try:
                work()
                self.done.append(name)
            except (Unavailable, FileChanged) as error:
                self.errors.append(error)

        thread = threading.Thread(target=run, name=name)
        self._threads.append(thread)
        thread.start()
        return thread

    def spend(self, name: str, count: int, urgency: int = 5) -> threading.Thread:
        return self.start(name, lambda: spend(self.throttle, count, urgency))

    def take(self, name: str, count: int, urgency: int = 5) -> threading.Thread:
        """Send so much slice by slice, and note each slice."""

        def work() -> None:
            left = count
            while left:
                granted = self.throttle.take(left, urgency)
                self.sent.append((self._last.read, granted, name))
                left -= granted

        return self.start(name, work)

    def wait_in_line(self, count: int) -> None:
        eventually(lambda: len(self.throttle._line) == count)

    def stop(self) -> None:
        self.throttle.close()
        for thread in self._threads:
            thread.join(PATIENCE)
            assert not thread.is_alive(), f"{thread.name} was never let go"


@contextmanager
def senders(rate: float | None, steady: Callable[[], float] = time.monotonic) -> Iterator[Senders]:
    started = Senders(rate, steady)
    try:
        yield started
    finally:
        started.stop()


def most_within(seconds: float, sent: list[tuple[float, int, str]]) -> int:
    """Add up the bytes of the fullest window of this length."""
    return max(
        sum(count for at, count, _ in sent[first:] if at - begin <= seconds)
        for first, (begin, _, _) in enumerate(sent)
    )


# The bucket, by a clock that is told


@given(
    st.floats(5 * PACKET, 1e7),
    st.lists(st.tuples(st.floats(0, 3), st.integers(1, CHUNK)), min_size=1, max_size=20),
)
def test_from_two_seconds_on_no_window_holds_more_than_110_percent(
    rate: float, steps: list[tuple[float, int]]
) -> None:
    bucket = Bucket()
    bucket.set(rate, now := 0.0)
    granted: list[tuple[float, int]] = []
    for pause, count in steps:
        now += pause
        granted += [(now, bucket.grant(count, now)) for _ in range(20)]
    for first, (begin, _) in enumerate(granted):
        total = 0
        for at, count in granted[first:]:
            total += count
            assert total <= rate * (at - begin) + 0.1 * rate * 2.0 + 1e-3


@given(st.floats(1024, 1e9), st.integers(1, CHUNK))
def test_after_the_seconds_it_says_there_is_enough_and_the_whole_limit_is_used(
    rate: float, count: int
) -> None:
    bucket = Bucket()
    bucket.set(rate, now := 0.0)
    total = 0
    for _ in range(20):
        assert not bucket.grant(count, now)
        now += bucket.wait_seconds(count) * (1 + 1e-9) + 1e-9
        total += bucket.grant(count, now)
        while piece := bucket.grant(count, now):
            total += piece
    assert total >= 0.99 * (rate * now - count)


def test_what_came_in_at_the_old_rate_counts_at_the_old_rate() -> None:
    bucket = Bucket()
    bucket.set(None, 0.0)
    assert bucket.grant(CHUNK, 50.0) == CHUNK
    bucket.set(20_000, 100.0)
    assert not bucket.grant(2000, 100.0)  # nothing was saved up while there was no limit
    bucket.set(1_000_000, 100.0625)
    assert bucket.grant(1250, 100.0625) == 1250
    assert not bucket.grant(1250, 100.0625)


# Threads, by the real clock


def test_four_threads_together_keep_the_limit_and_use_it() -> None:
    rate = 1024 * K
    with senders(rate) as uploads:
        began = time.monotonic()
        for number in range(4):
            uploads.take(f"upload {number}", 10 * CHUNK)
        eventually(lambda: uploads.sent and uploads.sent[-1][0] - began > 2.5)
        sent = list(uploads.sent)
    assert most_within(2.0, sent) <= 1.1 * 2.0 * rate
    assert sum(count for _, count, _ in sent) >= 0.8 * rate * (sent[-1][0] - began)


def test_large_chunks_at_a_tiny_limit_keep_it_and_starve_nobody() -> None:
    rate = 64 * K
    with senders(rate) as uploads:
        began = time.monotonic()
        large = [uploads.spend(f"large {number}", 64 * K) for number in range(2)]
        uploads.wait_in_line(2)
        uploads.spend("small", 8 * K).join(PATIENCE)
        assert uploads.done == ["small"]
        for thread in large:
            thread.join(PATIENCE)
        assert len(uploads.done) == 3
        assert time.monotonic() - began >= 136 * K / (1.1 * rate)


def test_uploads_of_one_urgency_take_turns() -> None:
    with senders(64 * K) as uploads:
        for name in ("a", "b", "c"):
            uploads.take(name, CHUNK)
        eventually(lambda: len(uploads.sent) >= 9)
        names = [name for _, _, name in uploads.sent[3:9]]
    assert names[:3] == names[3:]
    assert sorted(names[:3]) == ["a", "b", "c"]


@pytest.mark.parametrize(("rate", "uploads"), [(None, 3), (100 * K * K, 1)])
def test_a_higher_limit_sets_those_free_that_have_waited_for_long(rate: float | None, uploads: int) -> None:
    with senders(100) as started:  # one packet takes 15 seconds
        waiting = [started.spend(f"upload {number}", CHUNK) for number in range(uploads)]
        started.wait_in_line(uploads)
        started.limit.rate = rate
        changed = time.monotonic()
        for thread in waiting:
            thread.join(PATIENCE)
        assert len(started.done) == uploads
        assert time.monotonic() - changed < 5


def test_a_check_is_made_each_second_and_what_it_raises_ends_the_waiting() -> None:
    checked: list[float] = []

    def check() -> None:
        checked.append(time.monotonic())
        if len(checked) == 2:
            raise FileChanged

    with senders(PACKET / 4) as uploads:
        uploads.throttle.take(CHUNK)  # the next slice comes after four seconds
        began = time.monotonic()
        uploads.start("changed", lambda: uploads.throttle.take(CHUNK, check=check))
        eventually(lambda: uploads.errors)
        assert [type(error) for error in uploads.errors] == [FileChanged]
        assert 0.9 < checked[0] - began < 2
        assert 0.9 < checked[1] - checked[0] < 2
        uploads.spend("next", 100).join(PATIENCE)
        assert uploads.done == ["next"]


def test_a_check_that_hangs_holds_up_nobody_else() -> None:
    entered, let_go = threading.Event(), threading.Event()

    def check() -> None:
        entered.set()
        assert let_go.wait(PATIENCE)

    with senders(64 * K) as uploads:
        hanging = uploads.start("hanging", lambda: spend(uploads.throttle, CHUNK, urgency=1, check=check))
        assert entered.wait(PATIENCE)
        uploads.spend("other", 8 * K).join(PATIENCE)
        assert uploads.done == ["other"]
        let_go.set()
        uploads.limit.rate = None
        hanging.join(PATIENCE)
        assert uploads.done == ["other", "hanging"]


# Threads, by a clock that is told


def test_without_a_limit_it_is_asked_once_a_second_and_nobody_waits() -> None:
    clock = HandClock()
    with senders(None, clock.steady) as uploads:
        for _ in range(1000):
            spend(uploads.throttle, CHUNK)
            assert uploads.throttle.take(CHUNK) == CHUNK
        assert uploads.limit.asked == 1
        clock.advance(ASK_SECONDS)
        spend(uploads.throttle, CHUNK)
        assert uploads.limit.asked == 2


def test_a_limit_that_comes_up_holds_a_second_later() -> None:
    clock = HandClock()
    with senders(None, clock.steady) as uploads:
        spend(uploads.throttle, CHUNK)
        uploads.limit.rate = 64 * K
        clock.advance(ASK_SECONDS)
        upload = uploads.spend("upload", CHUNK)
        uploads.wait_in_line(1)
        assert upload.is_alive()


def test_one_that_is_more_urgent_never_waits_behind_others() -> None:
    clock = HandClock()
    with senders(64 * K, clock.steady) as uploads:
        for number in range(3):
            uploads.take(f"large {number}", CHUNK)
        uploads.wait_in_line(3)
        clock.advance(0.15)  # for one of them and a half
        eventually(lambda: len(uploads.sent) == 1)
        urgent = uploads.take("urgent", 16 * K, urgency=1)
        uploads.wait_in_line(4)
        while urgent.is_alive():
            before = len(uploads.sent)
            clock.advance(0.1)
            eventually(lambda before=before: len(uploads.sent) > before)
            eventually(lambda: len(uploads.throttle._line) == 4 or not urgent.is_alive())
        names = [name for _, _, name in uploads.sent]
    assert names[1:4] == ["urgent"] * 3


def test_closing_ends_all_waiting_at_once_and_nobody_sends_after_it() -> None:
    readings = threading.local()

    def steady() -> float:
        """Go back by a quarter of an hour once a thread is about to wait: of itself it would wait for so long."""
        readings.count = getattr(readings, "count", 0) + 1
        is_early = readings.count > 2 and threading.current_thread() is not threading.main_thread()
        return 0.0 if is_early else 1000.0

    with senders(K, steady) as uploads:
        assert not uploads.throttle.is_open()  # so it has asked for the limit, and will not for as long
        for number in range(4):
            uploads.spend(f"upload {number}", CHUNK, urgency=number)
        uploads.wait_in_line(4)
        uploads.throttle.close()
        eventually(lambda: len(uploads.errors) == 4)
        assert {str(error) for error in uploads.errors} == {"the direct carrier is closing"}


def test_closing_ends_it_also_where_there_is_no_limit() -> None:
    throttle = Throttle(Limit(None), HandClock().steady)
    spend(throttle, CHUNK)
    throttle.close()
    for send in (functools.partial(spend, throttle), throttle.take):
        with pytest.raises(Unavailable, match="is closing"):
            send(CHUNK)


def test_nothing_to_send_waits_for_nothing() -> None:
    with senders(K, HandClock().steady) as uploads:
        uploads.spend("spend", 0).join(PATIENCE)
        uploads.start("take", lambda: uploads.throttle.take(0)).join(PATIENCE)
        assert uploads.done == ["spend", "take"]
