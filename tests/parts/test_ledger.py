"""The ledger keeps what its docstrings promise, on a real SQLite file."""

from __future__ import annotations

import re
import sqlite3
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.helpers import environment, transfer
from tidegate.errors import LedgerLost, Unavailable
from tidegate.ledger import Books, Ledger
from tidegate.ledger.promises import HISTORY
from tidegate.ledger.settling import SUSPECT_SECONDS
from tidegate.model import Candidate, Effect, Outcome, State, Transfer, Verdict
from tidegate.policy import LONGEST_WAIT_SECONDS, MAX_ATTEMPTS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

NOW = 1_800_000_000.0
LANE = "lane.1"


def offer(ledger: Ledger, *transfers: Transfer, now: float = NOW) -> int:
    return ledger.offer([(one, "") for one in transfers], now=now)


def claim(ledger: Ledger, *, source: str = "default", limit: int = 100, now: float = NOW) -> list[Transfer]:
    return ledger.claim(source, "streams", limit=limit, now=now)


def send(ledger: Ledger, *transfers: Transfer, lane: str = LANE, first: int = 0) -> None:
    """Offer, claim and hand over, with receipts that count up."""
    offer(ledger, *transfers)
    assert {one.id for one in claim(ledger)} == {one.id for one in transfers}
    ledger.sent([(one.id, lane, number) for number, one in enumerate(transfers, first)])


def news(
    verdict: Verdict, receipt: int = 0, *, promise: bytes | None = None, lane: str = LANE, note: str = "why"
) -> Outcome:
    return Outcome(lane=lane, receipt=receipt, verdict=verdict, note=note, promise=promise)


def settle(ledger: Ledger, *outcomes: Outcome, now: float = NOW, position: int | None = None) -> None:
    ledger.settle("streams", outcomes, position=position, now=now)


def stored(ledger: Ledger, *, retention: float = 0, now: float = NOW, limit: int = 100) -> list[Transfer]:
    return ledger.stored("default", retention_seconds=retention, limit=limit, now=now)


def state_of(ledger: Ledger, one: Transfer) -> State | None:
    return ledger.known([one.id]).get(one.id)


def finish(ledger: Ledger, *transfers: Transfer, now: float = NOW) -> None:
    ledger.done([(one, "files_deleted", "") for one in transfers], now=now)


def unkept(_: Candidate) -> bool:
    return False


@contextmanager
def statements(ledger: Ledger) -> Iterator[list[str]]:
    """Collect the statements that SQLite runs, with their values."""
    found: list[str] = []
    ledger._database._connection.set_trace_callback(found.append)
    try:
        yield found
    finally:
        ledger._database._connection.set_trace_callback(None)


def recounted(ledger: Ledger) -> dict[tuple[str, int], tuple[int, int]]:
    rows = ledger._database.rows("SELECT source, state, count(*), sum(size) FROM promise GROUP BY 1, 2")
    return {(source, state): (files, size) for source, state, files, size in rows}


def tallied(ledger: Ledger) -> dict[tuple[str, int], tuple[int, int]]:
    rows = ledger._database.rows(
        "SELECT source, state, files, bytes FROM tally WHERE files <> 0 OR bytes <> 0"
    )
    return {(source, state): (files, size) for source, state, files, size in rows}


# Offering


def test_a_second_offer_of_the_same_version_changes_nothing(ledger: Ledger) -> None:
    one = transfer()
    assert offer(ledger, one) == 1
    claim(ledger)
    assert offer(ledger, one, now=NOW + 5) == 0
    assert state_of(ledger, one) is State.SENT


def test_two_of_the_same_in_one_offer_are_one_promise(ledger: Ledger) -> None:
    assert offer(ledger, transfer(), transfer()) == 1


def test_a_new_version_of_a_name_is_a_new_promise(ledger: Ledger) -> None:
    assert offer(ledger, transfer(version=1), transfer(version=2)) == 2


def test_the_same_file_is_promised_to_two_sources_separately(ledger: Ledger) -> None:
    assert offer(ledger, transfer(source="one"), transfer(source="two")) == 2
    assert [one.source for one in claim(ledger, source="one")] == ["one"]


def test_ten_thousand_promises_cost_one_transaction(ledger: Ledger) -> None:
    many = [transfer(f"{number}.csv") for number in range(10_000)]
    with statements(ledger) as seen:
        assert offer(ledger, *many) == 10_000
    assert seen.count("COMMIT") == 1


def test_a_promise_comes_back_as_it_was_made(tmp_path: Path) -> None:
    odd = "/data/line\nbreak \udcff\udcfe ü.csv"
    body = Candidate(odd, transfer(size=2**40, version=2**62).body.fingerprint)
    one = Transfer(
        id=body.identity("default"),
        source="default",
        carrier="streams",
        body=body,
        target=transfer(key="prefix/ü.csv").target,
        metadata={"original-name": "line%0Abreak"},
    )
    first = Ledger(tmp_path / "ledger.db", jitter=lambda: 0)
    offer(first, one)
    first.close()
    again = Ledger(tmp_path / "ledger.db", jitter=lambda: 0)
    assert claim(again) == [one]
    again.close()


@pytest.mark.parametrize("mtime_ns", [-(2**62), 0, 2**63 - 1, 2**70])
def test_any_modification_time_can_be_written_down(ledger: Ledger, mtime_ns: int) -> None:
    offer(ledger, transfer(mtime_ns=mtime_ns))
    assert claim(ledger)[0].body.fingerprint.mtime_ns == mtime_ns


def test_what_can_never_be_kept_goes_straight_to_quarantine_with_its_reason(ledger: Ledger) -> None:
    one = transfer(key="")
    ledger.offer([(one, "key_too_long: 1100 bytes")], now=NOW)
    assert state_of(ledger, one) is State.FAILED
    assert claim(ledger) == []
    assert list(ledger.idle.quarantined("default")) == [one]


def test_a_dropped_promise_is_made_anew_when_the_version_is_found_again(ledger: Ledger) -> None:
    one = transfer()
    offer(ledger, one)
    claim(ledger)
    drops = ledger.drops
    ledger.drop([(one, "files_dropped", "gone")], now=NOW)
    assert ledger.drops == drops + 1  # what a scanner remembers is no longer good
    assert state_of(ledger, one) is State.DROPPED
    assert offer(ledger, one) == 1
    assert claim(ledger) == [one]


def test_a_dropped_promise_that_is_made_anew_has_its_attempts_back(ledger: Ledger) -> None:
    one = transfer()
    offer(ledger, one)
    now = NOW
    for _ in range(MAX_ATTEMPTS - 1):
        claim(ledger, now=now)
        ledger.refuse([(one.id, "no")], now=now)
        now += 1000
    ledger.drop([(one, "files_dropped", "gone")], now=now)
    offer(ledger, one, now=now)
    claim(ledger, now=now)
    ((_, state, _),) = ledger.refuse([(one.id, "no")], now=now)
    assert state is State.READY


# Claiming


def test_the_oldest_file_is_claimed_first(ledger: Ledger) -> None:
    middle, newest, oldest = (transfer(f"{age}.csv", mtime_ns=age) for age in (5, 9, 1))
    offer(ledger, middle, newest, oldest)
    assert claim(ledger, limit=2) == [oldest, middle]
    assert claim(ledger) == [newest]


def test_what_was_claimed_is_not_claimed_again(ledger: Ledger) -> None:
    offer(ledger, transfer())
    assert len(claim(ledger)) == 1
    assert claim(ledger) == []


def test_one_target_has_one_transfer_at_a_time_in_the_order_of_the_promises(ledger: Ledger) -> None:
    # The second version is dated earlier (copied with its old time stamp): it still comes second.
    first, second = transfer(version=1, mtime_ns=9), transfer(version=2, mtime_ns=1)
    offer(ledger, first, second)
    assert claim(ledger) == [first]
    assert claim(ledger) == []
    ledger.sent([(first.id, LANE, 0)])
    settle(ledger, news(Verdict.STORED))
    assert claim(ledger) == [second]


def test_an_earlier_promise_that_waits_to_be_tried_again_keeps_its_turn(ledger: Ledger) -> None:
    first, second = transfer(version=1), transfer(version=2)
    offer(ledger, first, second)
    claim(ledger)
    ledger.refuse([(first.id, "no")], now=NOW)
    assert claim(ledger) == []
    assert claim(ledger, now=NOW + 2) == [first]


def test_an_earlier_promise_in_quarantine_does_not_hold_up_a_later_one(ledger: Ledger) -> None:
    first, second = transfer(version=1), transfer(version=2)
    ledger.offer([(first, "impossible")], now=NOW)
    offer(ledger, second)
    assert claim(ledger) == [second]


def test_two_files_of_different_sources_do_not_meet_at_one_target(ledger: Ledger) -> None:
    one, two = transfer("a.csv", source="one", key="same"), transfer("b.csv", source="two", key="same")
    offer(ledger, one, two)
    assert claim(ledger, source="two") == []
    assert claim(ledger, source="one") == [one]


def test_a_paused_bucket_holds_up_no_other(ledger: Ledger) -> None:
    bad, good = transfer("a.csv", bucket="bad"), transfer("b.csv", bucket="good")
    send(ledger, bad)
    settle(ledger, news(Verdict.BLOCKED))
    offer(ledger, good)
    assert claim(ledger) == [good]


def test_a_paused_bucket_is_tried_with_one_file_when_its_pause_is_over(ledger: Ledger) -> None:
    many = [transfer(f"{number}.csv") for number in range(5)]
    send(ledger, *many)
    settle(ledger, *(news(Verdict.BLOCKED, number, note="denied") for number in range(5)))
    assert list(ledger.pauses()) == ["bucket bucket"]
    assert ledger.pauses()["bucket bucket"].reason == "denied"
    assert claim(ledger, now=NOW + 4.9) == []
    assert len(claim(ledger, now=NOW + 5)) == 1
    assert claim(ledger, now=NOW + 14.9) == []  # the next pause is twice as long
    assert len(claim(ledger, now=NOW + 15)) == 1


def test_the_pauses_of_a_bucket_stop_growing_at_about_a_minute(ledger: Ledger) -> None:
    send(ledger, transfer())
    settle(ledger, news(Verdict.BLOCKED))
    now = NOW
    for number in range(50):
        now += 60 + SUSPECT_SECONDS + 1  # the only file lets others try first, in vain
        (one,) = claim(ledger, now=now)
        ledger.sent([(one.id, LANE, number + 1)])
        settle(ledger, news(Verdict.BLOCKED, number + 1), now=now)


def test_a_bucket_that_takes_one_file_is_open_again(ledger: Ledger) -> None:
    many = [transfer(f"{number}.csv") for number in range(5)]
    send(ledger, *many)
    settle(ledger, *(news(Verdict.BLOCKED, number) for number in range(5)))
    (probe,) = claim(ledger, now=NOW + 5)
    result = ledger.settle("streams", [news(Verdict.STORED, promise=probe.id)], position=None, now=NOW + 6)
    assert result.resumed == ["bucket"]
    assert ledger.pauses() == {}
    assert len(claim(ledger, now=NOW + 6)) == 3  # all but the one that had it paused, which goes last
    assert len(claim(ledger, now=NOW + 21)) == 1


def test_a_file_that_may_not_go_where_others_may_ends_in_quarantine_and_holds_up_nobody(
    ledger: Ledger,
) -> None:
    forbidden = transfer("a.csv")
    offer(ledger, forbidden)
    stored = 0
    for second in range(200):
        offer(ledger, transfer(f"b{second}.csv", mtime_ns=second))
        for one in ledger.claim("default", "streams", limit=4, now=NOW + second):
            verdict = Verdict.BLOCKED if one == forbidden else Verdict.STORED
            settle(ledger, news(verdict, promise=one.id), now=NOW + second)
            stored += verdict is Verdict.STORED
    assert state_of(ledger, forbidden) is State.FAILED
    assert stored == 200
    assert ledger.pauses() == {}


def test_while_a_bucket_is_paused_its_files_take_turns_in_trying_it(ledger: Ledger) -> None:
    many = [transfer(f"{number}.csv") for number in range(5)]
    send(ledger, *many)
    settle(ledger, *(news(Verdict.BLOCKED, number) for number in range(5)))
    tried = []
    for second in range(60):
        for probe in claim(ledger, now=NOW + second):
            tried.append(probe)
            settle(ledger, news(Verdict.BLOCKED, promise=probe.id), now=NOW + second)
    assert len(tried) == 3
    assert len(set(map(str, tried))) == 3
    assert many[0] not in tried[:2]  # which had it paused, and may be what is wrong


def test_a_refusal_by_a_whole_bucket_sends_no_file_to_quarantine_and_is_told_once(ledger: Ledger) -> None:
    one = transfer()
    offer(ledger, one)
    now, told = NOW, 0
    for number in range(20):
        claim(ledger, now=now)
        ledger.sent([(one.id, LANE, number)])
        result = ledger.settle("streams", [news(Verdict.BLOCKED, number)], position=None, now=now)
        told += len(result.blocked)
        now += 100
    assert state_of(ledger, one) is State.READY
    assert told == 1


def test_what_is_given_back_is_claimed_again_at_once_and_costs_no_attempt(ledger: Ledger) -> None:
    one = transfer()
    offer(ledger, one)
    for _ in range(MAX_ATTEMPTS + 1):
        assert claim(ledger) == [one]
        ledger.give_back([(one.id, "away")], now=NOW)
    assert state_of(ledger, one) is State.READY


def test_a_start_takes_back_what_has_no_receipt_and_nothing_else(ledger: Ledger) -> None:
    lost, kept = transfer("lost.csv"), transfer("kept.csv")
    offer(ledger, lost, kept)
    claim(ledger)
    ledger.sent([(kept.id, LANE, 0)])
    assert ledger.recover(now=NOW) == 1
    assert claim(ledger) == [lost]


def test_what_a_carrier_is_busy_with_stays_with_it_when_another_agent_starts(ledger: Ledger) -> None:
    one = transfer()
    offer(ledger, one)
    claim(ledger)
    assert ledger.recover(now=NOW, busy="streams") == 0
    assert claim(ledger) == []
    assert ledger.recover(now=NOW, busy="direct") == 1
    assert claim(ledger) == [one]


def test_a_start_tries_a_paused_bucket_at_once(ledger: Ledger) -> None:
    send(ledger, transfer("a.csv"), transfer("b.csv"))
    settle(ledger, news(Verdict.BLOCKED, 0), news(Verdict.BLOCKED, 1))
    ledger.recover(now=NOW)  # somebody may have mended it meanwhile
    assert len(claim(ledger)) == 1
    assert claim(ledger) == []  # but with one file, as always


def test_a_start_looks_for_a_key_anew_where_none_was_possible(ledger: Ledger) -> None:
    one = transfer()
    ledger.offer([(transfer(key=""), "key_too_long")], now=NOW)
    ledger.recover(now=NOW)
    assert offer(ledger, one) == 1  # another configuration may have given it one
    assert claim(ledger) == [one]


# Settling


def test_news_and_how_far_it_was_read_are_one_transaction(tmp_path: Path) -> None:
    first = Ledger(tmp_path / "ledger.db", jitter=lambda: 0)
    one, two = transfer("a.csv"), transfer("b.csv")
    send(first, one, two)
    settle(first, position=7)

    def torn() -> Iterator[Outcome]:
        yield news(Verdict.STORED, 0)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        first.settle("streams", torn(), position=9, now=NOW)
    first.close()
    again = Ledger(tmp_path / "ledger.db", jitter=lambda: 0)
    assert again.position("streams") == 7
    assert stored(again) == []
    settle(again, news(Verdict.STORED, 0), news(Verdict.STORED, 1), position=9)
    assert again.position("streams") == 9
    assert set(map(state_of, [again] * 2, [one, two])) == {State.STORED}
    again.close()


def test_news_that_is_repeated_counts_once(ledger: Ledger) -> None:
    send(ledger, transfer(size=10))
    for _ in range(3):
        settle(ledger, news(Verdict.STORED))
    counters = dict(ledger._database.rows("SELECT name, value FROM counter"))
    assert (counters["files_stored"], counters["bytes_stored"]) == (1, 10)
    assert counters["statuses_foreign"] == 2


def test_much_good_news_at_once_counts_each_file_once_and_costs_few_statements(ledger: Ledger) -> None:
    many = [transfer(f"{number}.csv", size=10) for number in range(1200)]
    offer(ledger, *many)
    with statements(ledger) as seen:
        assert len(claim(ledger, limit=2000)) == 1200
        good = [news(Verdict.STORED, promise=one.id) for one in many]
        found = ledger.settle("streams", [*good, good[0], good[-1]], position=None, now=NOW)
        finish(ledger, *stored(ledger, limit=2000))
    assert len(set(seen)) < 30  # a trigger shows the statement that it belongs to, once more for each row
    assert sorted(one.id for one in found.stored) == sorted(one.id for one in many)
    counters = dict(ledger._database.rows("SELECT name, value FROM counter"))
    assert (counters["files_stored"], counters["bytes_stored"]) == (1200, 12_000)
    assert (counters["statuses_foreign"], counters["files_deleted"]) == (2, 1200)
    assert tallied(ledger) == recounted(ledger) == {("default", State.DONE): (1200, 12_000)}


def test_how_long_an_upload_took_is_counted_but_not_of_late_news(ledger: Ledger) -> None:
    one, other, late = transfer("a.csv"), transfer("b.csv"), transfer("c.csv", version=2)
    ledger.offer([(one, ""), (other, ""), (late, "")], now=NOW)
    ledger.claim("default", "streams", limit=2, now=NOW)
    ledger.settle("streams", [news(Verdict.STORED, promise=one.id)], position=None, now=NOW + 1.5)
    updated = replace(news(Verdict.STORED, promise=other.id), effect=Effect.UPDATED)
    ledger.settle("streams", [updated, news(Verdict.STORED, promise=late.id)], position=None, now=NOW + 2)
    counters = dict(ledger._database.rows("SELECT name, value FROM counter"))
    assert (counters["uploads_timed"], counters["upload_milliseconds"]) == (2, 3500)


def test_news_of_every_kind_is_settled_in_its_order(ledger: Ledger) -> None:
    one, two = transfer("a.csv"), transfer("b.csv")
    send(ledger, one, two)
    settle(
        ledger,
        news(Verdict.AGAIN, 0, promise=one.id),
        news(Verdict.STORED, 0, promise=one.id),
        news(Verdict.STORED, 1, promise=two.id),
        news(Verdict.REFUSED, 1, promise=two.id),
    )
    assert (state_of(ledger, one), state_of(ledger, two)) == (State.STORED, State.STORED)


def test_news_about_what_was_never_sent_is_counted_and_passed_over(ledger: Ledger) -> None:
    one = transfer()
    send(ledger, one)
    foreign = [
        news(Verdict.STORED, 99),
        news(Verdict.STORED, 0, lane="another"),
        news(Verdict.REFUSED, 0, promise=b"nobody"),
        news(Verdict.STORED, 0, promise=b""),
    ]
    settle(ledger, *foreign, position=4)
    assert state_of(ledger, one) is State.SENT
    assert ledger.position("streams") == 4
    assert ledger._database.rows("SELECT value FROM counter WHERE name = 'statuses_foreign'") == [(4,)]


def test_good_news_of_an_attempt_whose_answer_was_lost_counts(ledger: Ledger) -> None:
    one = transfer()
    offer(ledger, one)
    claim(ledger)
    ledger.recover(now=NOW)  # the process died before it wrote down the receipt
    settle(ledger, news(Verdict.STORED, 17, promise=one.id))
    assert stored(ledger) == [one]
    assert claim(ledger) == []


def test_good_news_takes_a_file_out_of_quarantine(ledger: Ledger) -> None:
    one = transfer()
    offer(ledger, one)
    for attempt in range(MAX_ATTEMPTS):
        claim(ledger, now=NOW + 1000 * attempt)
        ledger.refuse([(one.id, "no")], now=NOW + 1000 * attempt)
    assert state_of(ledger, one) is State.FAILED
    settle(ledger, news(Verdict.STORED, 3, promise=one.id))
    assert state_of(ledger, one) is State.STORED


def test_good_news_that_is_faster_than_its_receipt_stays_good(ledger: Ledger) -> None:
    one = transfer()
    offer(ledger, one)
    claim(ledger)
    settle(ledger, news(Verdict.STORED, 0, promise=one.id))
    ledger.sent([(one.id, LANE, 0)])
    assert state_of(ledger, one) is State.STORED


@pytest.mark.parametrize("verdict", [Verdict.REFUSED, Verdict.AGAIN, Verdict.BLOCKED])
def test_bad_news_of_an_earlier_attempt_is_passed_over(ledger: Ledger, verdict: Verdict) -> None:
    one = transfer()
    send(ledger, one, first=0)
    settle(ledger, news(Verdict.AGAIN, 0))
    claim(ledger)
    ledger.sent([(one.id, LANE, 1)])
    settle(ledger, news(verdict, 0, promise=one.id), news(verdict, 0))
    assert state_of(ledger, one) is State.SENT
    assert ledger.pauses() == {}


def test_good_news_about_a_finished_promise_does_not_begin_it_again(ledger: Ledger) -> None:
    one = transfer()
    send(ledger, one)
    settle(ledger, news(Verdict.STORED))
    finish(ledger, one)
    settle(ledger, news(Verdict.STORED, promise=one.id))
    assert state_of(ledger, one) is State.DONE


def test_refusals_are_tried_again_after_growing_waits_and_then_quarantined(ledger: Ledger) -> None:
    one = transfer()
    offer(ledger, one)
    now = NOW
    states = []
    for wait in (2, 10, None):
        assert claim(ledger, now=now) == [one]
        ledger.sent([(one.id, LANE, len(states))])
        result = ledger.settle("streams", [news(Verdict.REFUSED, len(states))], position=None, now=now)
        ((broken, state, note),) = result.broken
        states.append(state)
        assert (broken, note) == (one, "why")
        if wait is not None:
            assert claim(ledger, now=now + wait - 0.1) == []
            now += wait
    assert states == [State.READY, State.READY, State.FAILED]
    assert claim(ledger, now=now + 10_000) == []


def test_one_refused_file_delays_no_other(ledger: Ledger) -> None:
    poison = transfer("poison.csv", mtime_ns=1)
    others = [transfer(f"{number}.csv", mtime_ns=2) for number in range(10)]
    offer(ledger, poison, *others)
    assert claim(ledger, limit=1) == [poison]
    ledger.refuse([(poison.id, "no")], now=NOW)
    assert len(claim(ledger)) == 10


# Releasing


def test_files_are_released_in_the_order_in_which_they_were_stored(ledger: Ledger) -> None:
    one, two = transfer("a.csv", mtime_ns=1), transfer("b.csv", mtime_ns=2)
    send(ledger, one, two)
    settle(ledger, news(Verdict.STORED, 1), now=NOW)
    settle(ledger, news(Verdict.STORED, 0), now=NOW + 1)
    assert stored(ledger, now=NOW + 2) == [two, one]
    assert stored(ledger, now=NOW + 2, limit=1) == [two]


def test_files_that_are_to_stay_are_finished_the_first_stored_first(ledger: Ledger) -> None:
    one, two, other = transfer("a.csv"), transfer("b.csv"), transfer("c.csv", source="other")
    send(ledger, one, two)
    offer(ledger, other)
    settle(ledger, news(Verdict.STORED, 1), now=NOW)
    settle(ledger, news(Verdict.STORED, 0), news(Verdict.STORED, promise=other.id), now=NOW + 1)
    assert ledger.kept("default", limit=1, now=NOW + 2) == 1
    assert [state_of(ledger, it) for it in (one, two)] == [State.STORED, State.DONE]
    assert ledger.kept("default", limit=9, now=NOW + 2) == 1
    assert ledger.kept("default", limit=9, now=NOW + 2) == 0
    assert [state_of(ledger, it) for it in (one, other)] == [State.DONE, State.STORED]
    assert ledger._database.rows("SELECT value FROM counter WHERE name = 'files_kept'") == [(2,)]


def test_a_stored_file_stays_until_its_retention_is_over(ledger: Ledger) -> None:
    one = transfer()
    send(ledger, one)
    settle(ledger, news(Verdict.STORED))
    assert stored(ledger, retention=600, now=NOW + 599) == []
    assert stored(ledger, retention=600, now=NOW + 600) == [one]


def test_retention_is_counted_anew_when_the_clock_is_set_back(ledger: Ledger) -> None:
    one = transfer()
    send(ledger, one)
    settle(ledger, news(Verdict.STORED))
    back = NOW - 10_000_000
    assert stored(ledger, retention=600, now=back) == []
    assert stored(ledger, retention=600, now=back + 600) == [one]


def test_a_file_that_could_not_be_released_is_looked_at_again_later(ledger: Ledger) -> None:
    one = transfer()
    send(ledger, one)
    settle(ledger, news(Verdict.STORED))
    ledger.not_released([(one.id, "open")], now=NOW)
    assert stored(ledger) == []
    assert stored(ledger, now=NOW + 50) == [one]


def test_a_finished_file_that_is_still_there_can_be_dealt_with_once_more(ledger: Ledger) -> None:
    one = transfer()
    send(ledger, one)
    settle(ledger, news(Verdict.STORED))
    finish(ledger, one)
    ledger.reopen([one.id], now=NOW)
    assert stored(ledger) == [one]


def test_only_what_is_finished_is_reopened(ledger: Ledger) -> None:
    one = transfer()
    offer(ledger, one)
    ledger.reopen([one.id], now=NOW)  # it would be deleted without ever having been stored
    assert stored(ledger) == []
    assert claim(ledger) == [one]


# The clock


def test_a_clock_set_back_freezes_no_wait_of_ours(ledger: Ledger) -> None:
    refused, blocked, unreleased = (
        transfer(name, bucket=name) for name in ("refused", "blocked", "unreleased")
    )
    send(ledger, refused, blocked, unreleased)
    settle(ledger, news(Verdict.REFUSED, 0), news(Verdict.BLOCKED, 1), news(Verdict.STORED, 2), now=NOW)
    ledger.not_released([(unreleased.id, "open")], now=NOW)
    back = NOW - LONGEST_WAIT_SECONDS - 1000
    assert {one.id for one in claim(ledger, now=back)} == {refused.id, blocked.id}
    assert stored(ledger, now=back) == [unreleased]


def test_what_is_unfinished_is_also_known_when_the_clock_was_set_back(ledger: Ledger) -> None:
    send(ledger, transfer())
    settle(ledger, news(Verdict.STORED), now=NOW)
    assert ledger.unfinished("default", retention_seconds=0, now=NOW - 1_000_000) == 1


# Quarantine


def test_retry_brings_one_file_back_with_all_its_attempts(ledger: Ledger) -> None:
    one, two = transfer("a.csv"), transfer("b.csv")
    offer(ledger, one, two)
    for attempt in range(MAX_ATTEMPTS):
        claim(ledger, now=NOW + 1000 * attempt)
        ledger.refuse([(one.id, "no"), (two.id, "no")], now=NOW + 1000 * attempt)
    assert ledger.retry("/data/a.csv", now=NOW) == 1
    assert claim(ledger) == [one]
    ((_, state, _),) = ledger.refuse([(one.id, "no")], now=NOW)
    assert state is State.READY
    assert list(ledger.idle.quarantined("default")) == [two]
    assert ledger.retry(None, now=NOW) == 2  # one waits, two is in quarantine
    assert {it.id for it in claim(ledger)} == {one.id, two.id}


def test_retry_leaves_alone_what_has_no_possible_key(ledger: Ledger) -> None:
    ledger.offer([(transfer(key=""), "key_too_long")], now=NOW)
    assert ledger.retry(None, now=NOW) == 0
    assert claim(ledger) == []  # it would be sent under no name at all


def test_retry_ends_the_pause_of_every_bucket(ledger: Ledger) -> None:
    send(ledger, transfer())
    settle(ledger, news(Verdict.BLOCKED))
    assert claim(ledger) == []
    ledger.retry(None, now=NOW)
    assert len(claim(ledger)) == 1


def test_retry_of_what_nobody_waits_for_does_nothing(ledger: Ledger) -> None:
    one = transfer()
    send(ledger, one)
    assert ledger.retry("/data/a.csv", now=NOW) == 0
    assert ledger.retry("/data/other.csv", now=NOW) == 0
    assert state_of(ledger, one) is State.SENT


# Forgetting


def finished(ledger: Ledger, count: int, *, first: int = 0) -> list[Transfer]:
    many = [transfer(f"{number}.csv") for number in range(first, first + count)]
    offer(ledger, *many)
    for number, one in enumerate(many):
        finish(ledger, one, now=NOW + number / count) if count < 100 else None
    if count >= 100:
        finish(ledger, *many)
    return many


def count_of(ledger: Ledger) -> int:
    ((count,),) = ledger._database.rows("SELECT count(*) FROM promise")
    return int(count)


def test_finished_promises_are_remembered_up_to_a_number_and_the_oldest_are_forgotten(ledger: Ledger) -> None:
    old = finished(ledger, 5)
    ledger._database.rows("SELECT 1")
    offer(ledger, *(young := [transfer(f"young {number}") for number in range(HISTORY)]))
    finish(ledger, *young, now=NOW + 10)
    assert ledger.prune(keep=unkept, limit=3, now=NOW + 20) == 3
    assert ledger.prune(keep=unkept, limit=100, now=NOW + 20) == 2
    assert ledger.prune(keep=unkept, limit=100, now=NOW + 20) == 0
    assert ledger.known([one.id for one in old]) == {}
    assert count_of(ledger) == HISTORY


def test_promises_whose_file_is_still_there_are_kept_and_asked_about_once_a_day(ledger: Ledger) -> None:
    finished(ledger, HISTORY + 3)
    asked: list[Candidate] = []

    def keep(candidate: Candidate) -> bool:
        asked.append(candidate)
        return True

    assert ledger.prune(keep=keep, limit=100, now=NOW + 1) == 0
    assert len(asked) == 3
    assert ledger.prune(keep=keep, limit=100, now=NOW + 2) == 0
    assert len(asked) == 3
    assert count_of(ledger) == HISTORY + 3
    ledger.prune(keep=unkept, limit=100, now=NOW + 100_000)
    assert count_of(ledger) == HISTORY


def test_a_clock_set_back_does_not_stop_the_forgetting(ledger: Ledger) -> None:
    finished(ledger, HISTORY + 3)
    assert ledger.prune(keep=unkept, limit=100, now=NOW - 10_000_000) == 3


@pytest.mark.parametrize("state", [State.READY, State.SENT, State.STORED, State.FAILED])
def test_what_is_not_finished_is_never_forgotten(ledger: Ledger, state: State) -> None:
    finished(ledger, HISTORY)
    one = transfer("one.csv")
    ledger.offer([(one, "no" if state is State.FAILED else "")], now=NOW)
    if state in {State.SENT, State.STORED}:
        claim(ledger)
    if state is State.STORED:
        settle(ledger, news(Verdict.STORED, promise=one.id))
    ledger.prune(keep=unkept, limit=HISTORY, now=NOW + 1_000_000)
    assert state_of(ledger, one) is state


# Counting


OPERATIONS: dict[str, Callable[[Ledger, Transfer, float], object]] = {
    "offer": lambda ledger, one, now: ledger.offer([(one, "")], now=now),
    "offer refused": lambda ledger, one, now: ledger.offer([(one, "never")], now=now),
    "claim": lambda ledger, one, now: ledger.claim(one.source, "streams", limit=2, now=now),
    "sent": lambda ledger, one, _: ledger.sent([(one.id, LANE, one.body.fingerprint.ctime_ns)]),
    "give back": lambda ledger, one, now: ledger.give_back([(one.id, "away")], now=now),
    "refuse": lambda ledger, one, now: ledger.refuse([(one.id, "no")], now=now),
    "recover": lambda ledger, _, now: ledger.recover(now=now),
    "done": lambda ledger, _, now: finish(ledger, *stored(ledger, now=now), now=now),
    "drop": lambda ledger, one, now: ledger.drop([(one, "files_dropped", "")], now=now),
    "reopen": lambda ledger, one, now: ledger.reopen([one.id], now=now),
    "retry": lambda ledger, one, now: ledger.retry(one.body.path, now=now),
    "retry all": lambda ledger, _, now: ledger.retry(None, now=now),
    "abandon": lambda ledger, _, now: ledger.abandon_lane(LANE, "lost", now=now),
    "forget": lambda ledger, one, _: ledger._database._connection.execute(
        "DELETE FROM promise WHERE id = ? AND state IN (3, 4)", (one.id,)
    ),
    **{
        verdict.value: lambda ledger, one, now, verdict=verdict: settle(
            ledger, news(verdict, promise=one.id), now=now
        )
        for verdict in Verdict
    },
}
TRANSFERS = [
    transfer(name, version=version, source=source, key="same", size=10 * version)
    for name in ("a.csv", "b.csv")
    for version in (1, 2)
    for source in ("default", "other")
]
STEPS = st.lists(
    st.tuples(
        st.sampled_from(sorted(OPERATIONS)),
        st.sampled_from(TRANSFERS),
        st.sampled_from([0.0, 3.0, 400.0, -9000.0]),
    ),
    max_size=40,
)


@settings(max_examples=60, deadline=None)
@given(STEPS)
def test_whatever_happens_the_tally_equals_a_recount_and_no_target_has_two_transfers(
    steps: list[tuple[str, Transfer, float]],
) -> None:
    ledger = Ledger(None, jitter=lambda: 0.5)
    now = NOW
    proven: set[bytes] = set()
    for operation, one, passed in steps:
        now += passed
        before = state_of(ledger, one)
        OPERATIONS[operation](ledger, one, now)
        if operation == Verdict.STORED.value and before is not None:
            proven.add(one.id)
        assert tallied(ledger) == recounted(ledger)
        sent = ledger._database.rows("SELECT count(*) FROM promise WHERE state = 1 GROUP BY target")
        assert all(count == 1 for (count,) in sent)
        # What may be deleted is what was proven, and nothing else.
        assert {
            id_ for (id_,) in ledger._database.rows("SELECT id FROM promise WHERE state IN (2, 3)")
        } <= proven
    ledger.close()


def test_counts_are_told_by_source_and_lane(ledger: Ledger) -> None:
    one, two, three = transfer("a.csv", size=1), transfer("b.csv", size=2), transfer("c.csv", size=4)
    send(ledger, one, two)
    offer(ledger, three, transfer("d.csv", source="other"))
    assert ledger.in_flight("default") == {LANE: (2, 3)}
    assert ledger.busy_lanes() == [("default", LANE)]
    assert [receipt for receipt, _, _ in ledger.waiting_in(LANE)] == [0, 1]
    assert ledger.in_state("default", State.READY) == 1
    assert ledger.in_state("nobody", State.READY) == 0
    assert ledger.unfinished("default", retention_seconds=0, now=NOW) == 3
    ledger.abandon_lane(LANE, "lost", now=NOW)
    assert len(claim(ledger)) == 3


def test_the_books_show_what_the_ledger_holds_while_it_is_open(tmp_path: Path, ledger: Ledger) -> None:
    one, two = transfer("a.csv", version=1), transfer("a.csv", version=2)
    send(ledger, one)
    offer(ledger, two)
    ledger.add({"statuses_garbled": 3})
    books = Books(tmp_path / "ledger.db")
    newest, oldest = books.promises("/data/a.csv")
    assert (newest.state, oldest.state) == (State.READY, State.SENT)
    assert (oldest.lane, oldest.receipt) == (LANE, 0)
    assert books.tally() == {"default": {State.READY: (1, 10), State.SENT: (1, 10)}}
    assert books.counters() == {"": {"statuses_garbled": 3}}
    assert [entry.path for entry in books.in_state(State.READY, limit=5)] == ["/data/a.csv"]
    with pytest.raises(LedgerLost, match="readonly"), books._database.transaction() as cursor:
        cursor.run("DELETE FROM promise")
    books.close()


# The file


def test_what_was_written_is_there_after_the_process_was_killed(tmp_path: Path) -> None:
    code = (
        "import os, sys; from pathlib import Path; from tidegate.ledger import Ledger;"
        "from tests.helpers import environment, transfer;"
        "ledger = Ledger(Path(sys.argv[1]), jitter=float);"
        "ledger.offer([(transfer(), '')], now=1.0); os.kill(os.getpid(), 9)"
    )
    path = tmp_path / "ledger.db"
    assert (
        subprocess.run([sys.executable, "-c", code, str(path)], env=environment(), check=False).returncode
        == -9
    )
    again = Ledger(path, jitter=lambda: 0)
    assert claim(again) == [transfer()]
    again.close()


@pytest.mark.parametrize(
    "content",
    [b"this is no database, but long enough to look like one" * 50, b"SQLite format 3\0" + b"\xff" * 5000],
)
def test_a_file_that_is_no_ledger_is_damaged(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "ledger.db"
    path.write_bytes(content)
    with pytest.raises(LedgerLost) as caught:
        Ledger(path, jitter=lambda: 0)
    assert caught.value.damaged


def test_a_ledger_damaged_in_the_middle_is_noticed_when_it_is_used(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    first = Ledger(path, jitter=lambda: 0)
    offer(first, *(transfer(f"{number}.csv") for number in range(1000)))
    first.close()
    with path.open("r+b") as file:
        half = path.stat().st_size // 2  # the schema lies in the first half, and is still readable
        file.seek(half)
        file.write(b"\xa5" * half)
    again = Ledger(path, jitter=lambda: 0)
    with pytest.raises(LedgerLost) as caught:
        claim(again)
    assert caught.value.damaged
    again.close()


def test_a_ledger_of_another_schema_is_not_touched(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    before = path.read_bytes()
    with pytest.raises(LedgerLost, match="schema is number 99") as caught:
        Ledger(path, jitter=lambda: 0)
    assert caught.value.damaged
    assert path.read_bytes() == before


def test_a_folder_that_cannot_be_written_is_no_damage(tmp_path: Path) -> None:
    with pytest.raises(LedgerLost) as caught:
        Ledger(tmp_path / "missing" / "ledger.db", jitter=lambda: 0)
    assert not caught.value.damaged


def test_a_full_disk_is_no_damage_and_what_was_there_stays(ledger: Ledger) -> None:
    offer(ledger, transfer())
    ((pages,),) = ledger._database.rows("PRAGMA page_count")
    ledger._database.rows(f"PRAGMA max_page_count = {pages}")  # SQLite then says what it says of a full disk
    with pytest.raises(LedgerLost, match="full") as caught:
        offer(ledger, *(transfer(f"{number}.csv") for number in range(5000)))
    assert not caught.value.damaged
    assert count_of(ledger) == 1
    assert claim(ledger) == [transfer()]


def test_a_ledger_that_another_process_keeps_busy_is_unavailable_and_not_lost(
    tmp_path: Path, ledger: Ledger
) -> None:
    other = sqlite3.connect(tmp_path / "ledger.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    ledger._database._connection.execute("PRAGMA busy_timeout = 50")  # ten seconds, otherwise
    with pytest.raises(Unavailable, match="busy"):
        offer(ledger, transfer())
    other.execute("ROLLBACK")
    other.close()
    assert offer(ledger, transfer()) == 1


def test_every_transaction_is_on_the_disk_when_it_is_over(ledger: Ledger) -> None:
    assert ledger._database.rows("PRAGMA synchronous") == [(2,)]
    assert ledger._database.rows("PRAGMA journal_mode") == [("wal",)]


# Speed


def everything_hot(ledger: Ledger) -> None:
    """Every statement that runs for each file, each batch or each scan."""
    one, two, three = transfer("a.csv"), transfer("b.csv"), transfer("c.csv")
    offer(ledger, one, two, three)
    claim(ledger)
    ledger.sent([(one.id, LANE, 0), (two.id, LANE, 1)])
    ledger.give_back([(three.id, "away")], now=NOW)
    claim(ledger)
    ledger.refuse([(three.id, "no")], now=NOW)
    settle(ledger, news(Verdict.BLOCKED, 1), news(Verdict.STORED, 0), news(Verdict.STORED, promise=two.id))
    stored(ledger)
    stored(ledger, retention=60)
    ledger.not_released([(two.id, "open")], now=NOW)
    ledger.done([(one, "files_deleted", "")], now=NOW)
    ledger.reopen([one.id], now=NOW)
    ledger.drop([(one, "files_dropped", "")], now=NOW)
    list(ledger.idle.quarantined("default"))
    list(ledger.idle.unsent("default"))
    ledger.prune(keep=unkept, limit=10, now=NOW)
    ledger.recover(now=NOW)
    ledger.unfinished("default", retention_seconds=0, now=NOW)
    ledger.in_flight("default")
    ledger.busy_lanes()
    ledger.waiting_in(LANE)
    ledger.abandon_lane(LANE, "lost", now=NOW)


def test_no_statement_of_every_day_looks_at_all_promises(ledger: Ledger) -> None:
    with statements(ledger) as seen:
        everything_hot(ledger)
    looked = {sql for sql in seen if re.match("SELECT|UPDATE|DELETE", sql) and "promise" in sql}
    assert len(looked) > 15
    for sql in looked:
        plan = [row[-1] for row in ledger._database.rows(f"EXPLAIN QUERY PLAN {sql}")]
        assert not [step for step in plan if step.startswith("SCAN") and "USING" not in step], (sql, plan)


def test_a_claim_walks_the_promises_in_the_order_of_their_index(ledger: Ledger) -> None:
    with statements(ledger) as seen:
        everything_hot(ledger)
    (sql, *_) = [sql for sql in seen if "NOT EXISTS" in sql]
    plan = " / ".join(row[-1] for row in ledger._database.rows(f"EXPLAIN QUERY PLAN {sql}"))
    assert "INDEX ready (source=? AND carrier=? AND bucket=?)" in plan
    assert "INDEX unfinished (target=?)" in plan
    assert "TEMP B-TREE" not in plan  # a million rows would be sorted for each claim
