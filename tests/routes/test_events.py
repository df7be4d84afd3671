"""Events are kept until they are delivered, in the transaction of their cause, and never without bound."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.helpers import eventually, transfer, write
from tests.routes.rig import rig
from tidegate.config import parse
from tidegate.ledger import Ledger
from tidegate.ledger.events import KINDS, LIMIT
from tidegate.model import Outcome, Verdict
from tidegate.routes.notices import Notices
from tidegate.routes.wire import REPLY_BYTES, packed

if TYPE_CHECKING:
    from pathlib import Path

    from tests.routes.rig import Rig

NOW = 1_800_000_000.0


def opened(path: Path) -> Ledger:
    return Ledger(path / "ledger.db", jitter=lambda: 0.5)


def settings(**keys: object) -> object:
    return parse({"PathName": "/data/*", "BucketName": "bucket", "Events": keys}).events


def test_events_are_kept_until_they_are_delivered_and_outlive_a_restart(tmp_path: Path) -> None:
    ledger = opened(tmp_path)
    for number in range(3):
        ledger.events.record("failed", {"number": number}, now=NOW)
    first, *_ = ledger.events.pending(10)
    ledger.events.delivered([first.id])
    ledger.close()
    ledger = opened(tmp_path)
    assert [event.body["number"] for event in ledger.events.pending(10)] == [1, 2]
    ledger.close()


def test_the_oldest_are_dropped_and_counted_beyond_the_limit(tmp_path: Path) -> None:
    ledger = opened(tmp_path)
    ledger.events.record_all("failed", [{"number": number} for number in range(LIMIT + 5)], now=NOW)
    ledger.events.record("failed", {"number": "last"}, now=NOW)
    left = ledger.events.pending(LIMIT * 2)
    assert len(left) == LIMIT
    assert (left[0].body["number"], left[-1].body["number"]) == (6, "last")
    assert ledger.books.counters()[""]["events_dropped"] == 6
    ledger.close()


def test_each_kind_can_be_switched_off(tmp_path: Path) -> None:
    ledger = opened(tmp_path)
    off = {
        "Stored": "false",
        "Failed": "false",
        "Quarantined": "false",
        "HeldTooLong": "false",
        "ConfigurationRejected": "false",
        "CycleFinished": "false",
        "Carriers": "false",
        "Restores": "false",
    }
    ledger.events.switch(settings(**off))  # type: ignore[arg-type]
    for kind in KINDS:
        ledger.events.record(kind, {}, now=NOW)
    assert ledger.events.pending(100) == []
    ledger.events.switch(settings())  # type: ignore[arg-type]
    for kind in KINDS:
        ledger.events.record(kind, {}, now=NOW)
    assert [event.kind for event in ledger.events.pending(100)] == list(KINDS)
    ledger.close()


def test_an_event_stays_small_whatever_it_tells(tmp_path: Path) -> None:
    ledger = opened(tmp_path)
    ledger.events.record(
        "configuration-rejected", {"faults": ["x" * 5000] * 50, "reason": "y" * 9000}, now=NOW
    )
    (event,) = ledger.events.pending(1)
    assert len(packed(event.body)) < REPLY_BYTES
    assert len(event.body["faults"]) == 5
    ledger.close()


def test_every_stored_file_is_told_only_where_that_is_asked_for(tmp_path: Path) -> None:
    ledger = opened(tmp_path)
    for stored in ("Posted", "true"):
        ledger.events.switch(settings(Stored=stored))  # type: ignore[arg-type]
        one = transfer(f"{stored}.csv")
        ledger.offer([(one, "")], now=NOW)
        ledger.settle("streams", [Outcome(verdict=Verdict.STORED, promise=one.id)], position=None, now=NOW)
    assert [event.body["path"] for event in ledger.events.pending(9)] == ["/data/true.csv"]
    ledger.close()


def test_a_refusal_and_a_quarantine_are_told_with_their_reason(one: Rig, tmp_path: Path) -> None:
    one.carrier.refused.add("a.csv")
    write(tmp_path / "data" / "a.csv")
    (event,) = eventually(lambda: one.events("quarantined") or one.ask("retry/post") is None, seconds=20)
    assert (event["key"], event["reason"]) == ("a.csv", "never that")
    assert {failed["reason"] for failed in one.events("failed")} == {"never that"}


def test_a_file_that_is_held_for_long_is_told_once(tmp_path: Path) -> None:
    with rig(tmp_path, HoldBack="Newest", MaxHoldSeconds=0, Events={"HeldSeconds": 1}) as one:
        path = write(tmp_path / "data" / "a.csv")
        eventually(lambda: one.routes.step() or one.events("held-too-long"))
        for _ in range(3):
            one.routes.step()
        (event,) = one.events("held-too-long")
        assert (event["path"], event["why"]) == (str(path), "newest of its group")


def test_a_way_that_does_not_work_is_told_and_when_it_does_again(one: Rig) -> None:
    one.routes.step()
    one.health.tell("collect direct", ConnectionError("nobody there"))
    one.routes.step()
    one.routes.step()
    assert one.events("carrier-down") == [{"part": "collect direct", "reason": "nobody there"}]
    eventually(lambda: one.routes.step() or one.events("carrier-up"))
    assert one.events("carrier-down")[1:] == []


def test_nothing_is_told_of_an_agent_that_has_nothing_to_tell(one: Rig) -> None:
    notices = Notices()
    assert list(notices.step(one.agent.snapshot(), 3600, one.clock.now())) == []
