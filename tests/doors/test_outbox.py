"""Events leave the house in order, at least once, and wait in a real ledger for a line that is away."""

from __future__ import annotations

import json
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from tests.helpers import eventually
from tests.standins.nucleus import COMPONENT, IpcError, NucleusStandIn
from tidegate.doors.line import Cloud, Local
from tidegate.doors.outbox import EventsDoor, told
from tidegate.ledger import Ledger
from tidegate.ledger.events import Event

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

CLOUD, LOCAL = "tidegate/thing/events/failed", "tidegate/events/failed"


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    one = Ledger(tmp_path / "ledger.db", jitter=float)
    yield one
    one.close()


@pytest.fixture
def deliver(standin: NucleusStandIn, connect: Any, ledger: Ledger) -> Iterator[Callable[[], EventsDoor]]:
    doors = []

    def open_one() -> EventsDoor:
        nucleus = connect(standin)
        ways = [(Local(nucleus), "tidegate"), (Cloud(nucleus), "tidegate/thing")]
        one = EventsDoor(ways, steady=time.monotonic)
        doors.append(one)
        one.serve(ledger.events)
        one.start()
        return one

    yield open_one
    for one in doors:
        one.serve(None)
        one.stop()
        one.join(5)


def record(ledger: Ledger, *numbers: int) -> None:
    bodies = [{"id": "of the file", "number": number} for number in numbers]
    ledger.events.record_all("failed", bodies, now=time.time())


def numbers(messages: Any, topic: str) -> list[int]:
    return [one.json()["number"] for one in messages if one.topic == topic and one.source == COMPONENT]


def waiting(ledger: Ledger) -> int:
    return len(ledger.events.pending(10_000))


def test_a_right_that_a_deployment_gives_is_used_as_soon_as_it_is_told(standin, ledger, deliver) -> None:
    standin.configure({"accessControl": {"aws.greengrass.ipc.mqttproxy": {}}})
    record(ledger, 7)
    door = deliver()
    eventually(lambda: standin.requests["PublishToIoTCore"] == 1)  # the next look is five seconds away
    rights = {"operations": ["*"], "resources": ["*"]}
    standin.configure({"accessControl": {"aws.greengrass.ipc.mqttproxy": {"c:1": rights}}})
    door.wake()
    eventually(lambda: numbers(standin.iot_core_received, CLOUD) == [7], 2)


def test_an_event_is_told_on_both_lines_and_then_forgotten(standin, ledger, deliver) -> None:
    record(ledger, 7)
    deliver()
    eventually(lambda: numbers(standin.iot_core_received, CLOUD) == [7])
    eventually(lambda: waiting(ledger) == 0)
    assert numbers(standin.published, LOCAL) == [7]
    (event,) = [one.json() for one in standin.published if one.topic == LOCAL]
    assert event["event"] == "failed"
    assert (event["id"], event["eventId"]) == ("of the file", 1)
    assert event["at"].endswith("Z")


def test_what_happens_offline_is_told_locally_at_once_and_to_the_cloud_later_in_order(
    standin, ledger, deliver, caplog
) -> None:
    standin.go_offline()
    deliver()
    for number in range(30):
        record(ledger, number)
    eventually(lambda: numbers(standin.published, LOCAL) == list(range(30)))
    if standin.lite:  # which has no spooler
        assert waiting(ledger) == 30
        eventually(lambda: caplog.text.count("events wait (IoT Core)") == 1)
    standin.go_online()
    eventually(lambda: numbers(standin.iot_core_received, CLOUD) == list(range(30)))
    eventually(lambda: waiting(ledger) == 0)
    assert numbers(standin.published, LOCAL) == list(range(30))


def test_a_line_that_we_may_not_use_keeps_nothing_back(standin, ledger, deliver, caplog) -> None:
    standin.errors["PublishToIoTCore"] = IpcError("UnauthorizedError")
    record(ledger, 1, 2, 3)
    deliver()
    eventually(lambda: numbers(standin.published, LOCAL) == [1, 2, 3])
    eventually(lambda: waiting(ledger) == 0)
    assert caplog.text.count("events are not told (IoT Core)") == 1


def test_events_that_nobody_may_take_wait(standin, ledger, deliver) -> None:
    for operation in ("PublishToIoTCore", "PublishToTopic"):
        standin.errors[operation] = IpcError("UnauthorizedError")
    record(ledger, 1)
    deliver()
    eventually(lambda: standin.requests["PublishToTopic"] > 1)
    assert waiting(ledger) == 1


def test_a_line_that_fails_holds_its_own_events_only(standin, ledger, deliver) -> None:
    standin.errors["PublishToTopic"] = IpcError("ServiceError")
    record(ledger, 1, 2)
    deliver()
    eventually(lambda: numbers(standin.iot_core_received, CLOUD) == [1, 2])
    assert waiting(ledger) == 2
    standin.errors.clear()
    eventually(lambda: numbers(standin.published, LOCAL) == [1, 2])
    eventually(lambda: waiting(ledger) == 0)
    assert numbers(standin.iot_core_received, CLOUD) == [1, 2]


def test_another_agent_takes_up_what_the_one_before_left(standin, ledger, deliver) -> None:
    standin.go_offline()
    standin.errors["PublishToIoTCore"] = IpcError("ServiceError")  # so that classic spools nothing
    first = deliver()
    record(ledger, 1)
    eventually(lambda: numbers(standin.published, LOCAL) == [1])
    first.serve(None)
    first.stop()
    first.join(5)
    standin.errors.clear()
    standin.go_online()
    deliver()
    eventually(lambda: numbers(standin.iot_core_received, CLOUD) == [1])
    assert numbers(standin.published, LOCAL) == [1, 1]  # at least once, and the same id


def test_a_flood_of_events_is_told_at_a_bounded_rate(standin, ledger, deliver) -> None:
    record(ledger, *range(120))
    deliver()
    began = time.monotonic()
    eventually(lambda: len(numbers(standin.published, LOCAL)) == 120)
    assert time.monotonic() - began > 3.0  # two pauses after 50 each
    assert numbers(standin.published, LOCAL) == list(range(120))


def test_an_event_larger_than_a_nucleus_takes_is_cut(standin, connect) -> None:
    event = Event(id=1, kind="failed", at=0.0, body={str(n): "\N{SNOWMAN}" * 600 for n in range(9)})
    payload = told(event)
    assert len(payload) <= 6_000
    assert b'"event":"failed"' in payload
    nucleus = connect(standin)
    nucleus.publish_cloud(CLOUD, payload)
    assert nucleus.lost is None


class Held:
    """A line on which an event is on its way until somebody lets it arrive."""

    name = "held"

    def __init__(self) -> None:
        self.coming, self.free = threading.Event(), threading.Event()
        self.told: list[int] = []

    def publish(self, _: str, payload: bytes) -> None:
        self.coming.set()
        assert self.free.wait(10)
        self.told.append(json.loads(payload)["number"])


def test_what_is_told_while_another_ledger_takes_over_is_not_taken_for_an_event_of_that_one(tmp_path) -> None:
    ledgers = [Ledger(tmp_path / f"{number}.db", jitter=float) for number in range(2)]
    record(ledgers[0], 1, 2, 3)
    line = Held()
    door = EventsDoor([(line, "tidegate")], steady=time.monotonic)
    door.serve(ledgers[0].events)
    door.start()
    assert line.coming.wait(10)
    record(ledgers[1], 11, 12, 13)  # the numbers of its events begin anew
    door.serve(ledgers[1].events)
    line.free.set()
    eventually(lambda: waiting(ledgers[1]) == 0)
    assert line.told[-3:] == [11, 12, 13]
    door.stop()
    door.join(5)
    for one in ledgers:
        one.close()
