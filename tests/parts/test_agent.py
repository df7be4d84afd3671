"""The agent around its loops: when it scans, and when a single pass is over."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from tests.helpers import write
from tests.parts.test_dispatch import Cart
from tidegate.agent import LAZINESS, Agent
from tidegate.clock import Clock
from tidegate.config import parse
from tidegate.flows.scan import Scan, Scanner
from tidegate.health import Health

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tidegate.ledger import Ledger
    from tidegate.model import Moment


class Laborious(Scanner):
    """Scans that cost a second of processor time each, or say so."""

    scans = 0

    def scan(self, moment: Moment) -> Scan:
        self.scans += 1
        scan = super().scan(moment)
        scan.cpu_seconds = 1.0
        return scan


@pytest.fixture
def agent(root: Path, ledger: Ledger) -> Iterator[Agent]:
    config = parse({"PathName": f"{root}/*.csv", "BucketName": "bucket", "HoldBack": "None"})
    clock = Clock()
    one = Agent(
        config,
        ledger,
        {"streams": Cart()},
        choose=lambda _: "streams",
        thing="thing",
        never=frozenset(),
        lists=root / "evicted",
        archives=root / "archives",
        clock=clock,
        health=Health(clock.wall),
    )
    with closing(one._watch):
        yield one


def test_nudges_do_not_shorten_the_rest_after_a_costly_scan(root: Path, agent: Agent, ledger: Ledger) -> None:
    (source,) = agent._config.sources
    scanner = Laborious(source, ledger, carrier="streams", thing="thing", never=frozenset())
    assert agent._scan(source, scanner) >= LAZINESS
    for _ in range(100):  # as often as a busy writer's events come
        assert agent._scan(source, scanner) == pytest.approx(LAZINESS, abs=1)
    assert scanner.scans == 1


def test_a_pass_is_not_over_while_anything_left_aside_is_yet_to_be_sent(root: Path, agent: Agent) -> None:
    write(root / ".tidegate-release" / "a.csv")
    (source,) = agent._config.sources
    scanner = Scanner(source, agent._ledger, carrier="streams", thing="thing", never=frozenset())
    assert not agent.is_settled()
    agent._scan(source, scanner)
    assert not agent.is_settled()
    agent._release()
    assert (root / "a.csv").exists()
    assert not agent.is_settled()  # what is back in its place is yet to be found


def test_an_agent_that_never_began_can_be_stopped(agent: Agent) -> None:
    assert agent.stop(0)
