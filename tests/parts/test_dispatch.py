"""From promises to a carrier, and back: whatever the carrier does, no promise is stranded."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.helpers import transfer, version_of, write
from tidegate.carry import Answer, News
from tidegate.errors import Refused, Unavailable
from tidegate.flows.collect import collect
from tidegate.flows.dispatch import BATCH, dispatch
from tidegate.model import Outcome, State, Transfer, Verdict

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from tidegate.ledger import Ledger

NOW = 1_800_000_000.0


class Cart:
    """A carrier that takes what it is given, unless the name of the file says otherwise."""

    name = "streams"
    depth = 128

    def __init__(self, lanes: int = 2) -> None:
        self._lanes = [f"lane.{number}" for number in range(lanes)]
        self.taken: list[tuple[str, str]] = []
        self.told: list[Outcome] = []

    def lanes(self, source: str) -> Sequence[str]:  # noqa: ARG002 - the same for all
        return self._lanes

    def start(self, tasks: Sequence[tuple[Transfer, str]]) -> Sequence[Answer]:
        return [self._start(transfer, lane) for transfer, lane in tasks]

    def _start(self, transfer: Transfer, lane: str) -> Answer:
        name = transfer.body.path.rpartition("/")[2]
        if name.startswith("refused"):
            return Refused("never that")
        if name.startswith("away"):
            return Unavailable("not now")
        if name.startswith("bug"):
            raise ZeroDivisionError("a bug of the carrier")
        self.taken.append((name, lane))
        return len(self.taken)

    def news(self, position: int) -> News:
        return News(self.told, position + len(self.told))

    def audit(self) -> Iterator[Sequence[Outcome]]:
        yield []

    def wake(self) -> None:
        pass

    def close(self) -> None:
        pass

    def away(self, _: str) -> str:
        return ""

    def troubles(self) -> dict[str, str]:
        return {}

    def finished(self, transfer: Transfer) -> None:
        pass


def promise(ledger: Ledger, root: Path, *names: str) -> dict[str, Transfer]:
    made = {}
    for name in names:
        body = version_of(write(root / name))
        made[name] = Transfer(
            id=body.identity("default"),
            source="default",
            carrier="streams",
            body=body,
            target=transfer(key=name).target,
        )
    ledger.offer([(one, "") for one in made.values()], now=NOW)
    return made


def states(ledger: Ledger, made: dict[str, Transfer]) -> dict[str, State]:
    known = ledger.known([one.id for one in made.values()])
    return {name: known[one.id] for name, one in made.items()}


def test_promises_are_handed_over_and_stand_in_their_lanes(root: Path, ledger: Ledger) -> None:
    made = promise(ledger, root, *(f"{number}.csv" for number in range(20)))
    cart = Cart()
    assert dispatch("default", cart, ledger, now=NOW) == 20
    assert set(states(ledger, made).values()) == {State.SENT}
    assert {lane: files for lane, (files, _) in ledger.in_flight("default").items()} == {
        "lane.0": 10,
        "lane.1": 10,
    }
    assert dispatch("default", cart, ledger, now=NOW) == 0


def test_no_lane_gets_more_than_it_can_hold(root: Path, ledger: Ledger) -> None:
    promise(ledger, root, *(f"{number}.csv" for number in range(BATCH + 100)))
    cart = Cart(lanes=1)
    while dispatch("default", cart, ledger, now=NOW):
        pass
    assert len(cart.taken) == cart.depth


def test_small_files_pass_a_large_one(root: Path, ledger: Ledger) -> None:
    large = write(root / "large.csv", "x" * 1_000_000)
    made = promise(ledger, root, *(f"{number}.csv" for number in range(10)))
    body = version_of(large)
    huge = Transfer(
        id=b"huge", source="default", carrier="streams", body=body, target=transfer(key="huge").target
    )
    ledger.offer([(huge, "")], now=NOW)
    cart = Cart()
    dispatch("default", cart, ledger, now=NOW)
    lanes = dict(cart.taken)
    assert [name for name in made if lanes[name] == lanes["large.csv"]] in ([], *([name] for name in made))


def test_a_file_that_changed_or_vanished_before_it_was_sent_is_not_sent(root: Path, ledger: Ledger) -> None:
    made = promise(ledger, root, "changed.csv", "gone.csv", "good.csv")
    write(root / "changed.csv", "again")
    (root / "gone.csv").unlink()
    cart = Cart()
    dispatch("default", cart, ledger, now=NOW)
    assert [name for name, _ in cart.taken] == ["good.csv"]
    assert states(ledger, made) == {
        "changed.csv": State.DROPPED,
        "gone.csv": State.DROPPED,
        "good.csv": State.SENT,
    }


def test_a_refused_file_is_tried_again_later_and_stops_no_other(
    root: Path, ledger: Ledger, caplog: pytest.LogCaptureFixture
) -> None:
    made = promise(ledger, root, "refused.csv", "good.csv")
    dispatch("default", Cart(), ledger, now=NOW)
    assert states(ledger, made) == {"refused.csv": State.READY, "good.csv": State.SENT}
    for seconds in (100, 200):
        dispatch("default", Cart(), ledger, now=NOW + seconds)
    assert states(ledger, made)["refused.csv"] is State.FAILED
    assert caplog.text.count("is tried again: never that") == 2
    assert caplog.text.count("goes to quarantine: never that") == 1


def test_a_carrier_that_is_away_is_told_and_costs_nobody_an_attempt(root: Path, ledger: Ledger) -> None:
    made = promise(ledger, root, *(f"away-{number}.csv" for number in range(20)))
    for _ in range(5):
        with pytest.raises(Unavailable, match="not now"):
            dispatch("default", Cart(), ledger, now=NOW)
    assert set(states(ledger, made).values()) == {State.READY}


def test_a_bug_of_the_carrier_strands_no_promise(
    root: Path, ledger: Ledger, caplog: pytest.LogCaptureFixture
) -> None:
    made = promise(ledger, root, *(f"bug-{number}.csv" for number in range(10)), "good.csv")
    cart = Cart()
    dispatch("default", cart, ledger, now=NOW)
    assert [name for name, _ in cart.taken] == ["good.csv"]
    assert states(ledger, made)["good.csv"] is State.SENT
    assert ledger.in_flight("default") == {cart.taken[0][1]: (1, 6)}  # nothing is sent without a receipt
    assert "ZeroDivisionError" in caplog.text


def test_news_is_written_down_with_how_far_it_was_read(root: Path, ledger: Ledger) -> None:
    made = promise(ledger, root, "a.csv")
    cart = Cart()
    dispatch("default", cart, ledger, now=NOW)
    ((_, lane),) = cart.taken
    cart.told = [Outcome(lane=lane, receipt=1, verdict=Verdict.STORED)]
    assert collect(cart, ledger, now=NOW) == 1
    assert states(ledger, made) == {"a.csv": State.STORED}
    assert ledger.position("streams") == 1
