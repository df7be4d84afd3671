"""What a component answers that has no good configuration yet, from its first faults until it has one."""

from __future__ import annotations

import contextlib
import json
import threading
from typing import TYPE_CHECKING, Any

import pytest

from tests.helpers import eventually
from tests.standins.nucleus import IpcError
from tidegate import __version__, workdir
from tidegate.config import Config, parse
from tidegate.doors import Porch
from tidegate.doors.asking import NoAgent, ask
from tidegate.ipc import Configuration
from tidegate.ledger import Ledger
from tidegate.routes import REPLY_BYTES, Routes

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from tests.standins.nucleus import NucleusStandIn

FAULTS = ("PathName: is missing; write a path", 'Interval: "often" is not a number; write one')
GOOD = {"PathName": "/data/*.csv", "BucketName": "bucket"}
DEFAULTS = parse(GOOD)
KIND = "configuration-rejected"


@pytest.fixture
def porch(standin: NucleusStandIn, connect: Any, tmp_path: Path) -> Iterator[Porch]:
    one = Porch(connect(standin), tmp_path, lambda config: config.thing or "press-7")
    with contextlib.closing(one):
        yield one


def is_open(standin: NucleusStandIn, *bases: str) -> bool:
    return {it[2] for it in standin.subscriptions} == {
        f"{base}/{routes}" for base in bases for routes in ("+/+", "+/+/post")
    }


def asked(standin: NucleusStandIn, route: str, base: str = "tidegate") -> tuple[str, dict[str, Any]]:
    eventually(lambda: is_open(standin, "tidegate", "tidegate/press-7"))
    return standin.request(f"{base}/{route}", {}, iot_core=base != "tidegate")


def told(standin: NucleusStandIn) -> list[list[str]]:
    return [one.json()["faults"] for one in standin.published if one.topic == f"tidegate/events/{KIND}"]


@pytest.mark.parametrize("base", ["tidegate", "tidegate/press-7"])
def test_every_route_is_answered_and_says_what_is_wrong(standin, porch, base) -> None:
    porch.tell(DEFAULTS, FAULTS)
    verdict, body = asked(standin, "statistics/get", base)
    assert (verdict, body["version"], body["thing"]) == ("accepted", __version__, "press-7")
    assert (body["sources"], body["backlog"]["files"], body["carriers"]["working"]) == ([], 0, False)
    assert body["configuration"] == {"faults": list(FAULTS), "count": 2}
    verdict, body = asked(standin, "configuration/get", base)
    assert (verdict, body["sources"], body["configuration"]["count"]) == ("accepted", [], 2)
    for route in set(Routes.verbs) - {"statistics/get", "configuration/get"}:
        verdict, body = asked(standin, route, base)
        assert (verdict, body["status"], body["code"]) == ("rejected", 503, "NotConfigured")
        assert "deploy" in body["message"]
        assert all(fault in body["message"] for fault in FAULTS)
    assert asked(standin, "nonsense/get", base)[1]["status"] == 404


def test_many_long_faults_fit_into_a_message(standin, porch) -> None:
    porch.tell(DEFAULTS, ['"\\\N{GREEK SMALL LETTER ALPHA}' * 300] * 50)
    for route in Routes.verbs:
        body = asked(standin, route)[1]
        assert len(json.dumps(body)) < REPLY_BYTES
        assert "50" in str(body.get("configuration")) or "and 47 more" in body["message"]


def test_commands_on_the_device_are_answered_too(porch, tmp_path) -> None:
    porch.tell(DEFAULTS, FAULTS)
    assert ask(tmp_path, "statistics/get", {}, seconds=10)["configuration"]["count"] == 2
    assert ask(tmp_path, "pause/post", {}, seconds=10)["code"] == "NotConfigured"


def test_other_faults_take_the_place_of_the_first_and_are_an_event_of_their_own(standin, porch) -> None:
    porch.tell(DEFAULTS, FAULTS)
    eventually(lambda: told(standin) == [list(FAULTS)])
    porch.tell(DEFAULTS, FAULTS[1:])
    eventually(lambda: told(standin) == [list(FAULTS), list(FAULTS[1:])])
    assert asked(standin, "statistics/get")[1]["configuration"]["count"] == 1


def test_an_event_that_nobody_took_is_left_to_the_agent(standin, porch, tmp_path) -> None:
    standin.errors["PublishToIoTCore"] = IpcError()
    porch.tell(DEFAULTS, FAULTS)
    eventually(lambda: told(standin))
    porch.close()
    ledger = Ledger(workdir.ledger_path(tmp_path), jitter=float)
    with contextlib.closing(ledger):
        assert [event.kind for event in ledger.events.pending(10)] == [KIND]


def test_when_it_is_closed_all_that_the_agent_needs_is_free(standin, porch, tmp_path) -> None:
    porch.tell(DEFAULTS, FAULTS)
    eventually(lambda: is_open(standin, "tidegate", "tidegate/press-7"))
    porch.close()
    workdir.Lock(tmp_path).release()
    eventually(lambda: is_open(standin))
    with pytest.raises(NoAgent):
        ask(tmp_path, "statistics/get", {}, seconds=10)


def test_a_work_directory_of_somebody_else_is_not_touched(standin, porch, tmp_path) -> None:
    lock = workdir.Lock(tmp_path)
    (tmp_path / "socket").touch()
    porch.tell(DEFAULTS, FAULTS)
    assert asked(standin, "statistics/get")[0] == "accepted"
    assert (tmp_path / "socket").is_file()
    assert not workdir.ledger_path(tmp_path).exists()
    lock.release()


def test_what_is_good_of_a_bad_configuration_says_where_the_doors_are(standin, connect) -> None:
    given = {"ThingName": "saw", "CloudTopicBase": "a//b", "LocalTopicBase": "line/7", "Interval": "often"}
    standin.configure({**given, "events": {"ConfigurationRejected": "false"}})
    configuration = Configuration(connect(standin))
    heard: list[tuple[Config, Sequence[str]]] = []

    def hear(config: Config, faults: Sequence[str]) -> None:
        heard.append((config, faults))

    waiting = threading.Thread(target=configuration.first_good, args=(None, hear), daemon=True)
    waiting.start()
    eventually(lambda: heard)
    standin.configure({**GOOD, "Interval": 5, "CloudTopicBase": "a"})
    waiting.join(10)
    ((config, faults),) = heard
    configuration.close()
    assert (config.thing, config.local_topics, config.cloud_topics) == ("saw", "line/7", "tidegate/{thing}")
    assert not config.events.configuration_rejected
    assert any(fault.startswith("CloudTopicBase: ") for fault in faults)
