"""Which doors are open for which configuration, and that they follow it."""

from __future__ import annotations

import contextlib
import threading
from typing import TYPE_CHECKING, Any

import pytest

from tests.helpers import eventually
from tidegate.clock import Clock
from tidegate.config import Config, parse
from tidegate.doors import House
from tidegate.doors.asking import ask
from tidegate.errors import ConfigFaults

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


def config(**keys: object) -> Config:
    return parse({"PathName": "/data/*.csv", "BucketName": "bucket", **keys})


@pytest.fixture
def house(standin: Any, connect: Any, routes: Any, tmp_path: Path) -> Iterator[Callable[..., House]]:
    with contextlib.ExitStack() as stack:

        def build(*, nucleus: bool = True) -> House:
            one = House(routes, tmp_path, connect(standin) if nucleus else None, Clock())
            stack.callback(one.close)
            return one

        yield build


def topics(standin: Any) -> set[str]:
    return {it[2] for it in standin.subscriptions}


def below(*bases: str) -> set[str]:
    return {f"{base}/{routes}" for base in bases for routes in ("+/+", "+/+/post")}


def test_both_lines_are_open_without_being_asked_for(standin, house) -> None:
    house().open(config(), "press-7")
    eventually(lambda: topics(standin) == below("tidegate", "tidegate/press-7"))


def test_a_line_is_closed_by_none_and_opened_elsewhere_by_its_base(standin, house) -> None:
    one = house()
    one.open(config(LocalTopicBase="None", CloudTopicBase="plant/{thing}"), "press-7")
    eventually(lambda: topics(standin) == below("plant/press-7"))
    one.open(config(LocalTopicBase="x", CloudTopicBase="none"), "press-7")
    eventually(lambda: topics(standin) == below("x"))


def test_what_stays_as_it_is_is_not_opened_anew(standin, house) -> None:
    one = house()
    one.open(config(), "press-7")
    eventually(lambda: len(topics(standin)) == 4)
    one.open(config(Interval=7), "press-7")
    assert standin.requests["SubscribeToTopic"] == 2
    assert standin.requests["SubscribeToIoTCore"] == 2


def test_without_a_nucleus_the_socket_is_open_all_the_same(house, tmp_path) -> None:
    house(nucleus=False).open(config(), "press-7")
    assert ask(tmp_path, "a/b", {}, seconds=10)["status"] == 200


def test_where_there_can_be_no_socket_the_others_are_open(standin, house, tmp_path, caplog) -> None:
    (tmp_path / "socket").mkdir()
    house().open(config(), "press-7")
    eventually(lambda: len(topics(standin)) == 4)
    assert "commands cannot reach this agent" in caplog.text


@pytest.mark.parametrize("cloud", [False, True], ids=["local", "cloud"])
def test_a_route_of_three_levels_is_heard_and_answered_once_and_no_answer_is_taken_for_a_request(
    standin, house, routes, cloud
) -> None:
    house().open(config(), "press-7")
    eventually(lambda: len(topics(standin)) == 4)
    base = "tidegate/press-7" if cloud else "tidegate"
    for route in ("restore/cancel/post", "restore/post"):
        verdict, body = standin.request(f"{base}/{route}", {"clientToken": route}, iot_core=cloud)
        assert (verdict, body["route"]) == ("accepted", route)
    assert [route for route, _ in routes.heard] == ["restore/cancel/post", "restore/post"]


def test_a_right_that_a_deployment_gives_is_used_at_once_also_for_jobs(standin, house) -> None:
    standin.configure({"accessControl": {"aws.greengrass.ipc.mqttproxy": {}}})
    one = house()
    one.open(config(IotJobs="true", LocalTopicBase="None", CloudTopicBase="None"), "press-7")
    eventually(lambda: standin.requests["SubscribeToIoTCore"] == 2)  # and the third is two seconds away
    rights = {"operations": ["*"], "resources": ["*"]}
    standin.configure({"accessControl": {"aws.greengrass.ipc.mqttproxy": {"c:1": rights}}})
    one.wake()
    base = "$aws/things/press-7/jobs"
    wanted = {f"{base}/notify", f"{base}/get/accepted", f"{base}/+/get/accepted"}
    eventually(lambda: topics(standin) == wanted, 1.5)


def ours() -> set[threading.Thread]:
    """The threads there are, but for those that the SDK made without asking Python."""
    return {it for it in threading.enumerate() if not it.name.startswith("Dummy")}


def test_closing_leaves_no_thread_and_no_subscription(standin, connect, routes, tmp_path) -> None:
    before = ours()
    nucleus = connect(standin)
    between = ours()
    one = House(routes, tmp_path, nucleus, Clock())
    one.open(config(CloudWatchMetrics="true"), "press-7")
    eventually(lambda: len(topics(standin)) == 4)
    assert ours() > between >= before
    one.close()
    eventually(lambda: not topics(standin))
    assert {it for it in threading.enumerate() if it not in between and not it.daemon} == set()
    eventually(lambda: {it.name for it in ours()} <= {it.name for it in between})


@pytest.mark.parametrize(
    "base",
    ["", "/a", "a/", "a//b", "a/+", "a/#", "$aws/a", "a b", "a/b/c/d/e", "x" * 65, "{other}", "a{thing"],
)
def test_a_base_that_makes_no_topics_is_a_fault(base: str) -> None:
    for key in ("LocalTopicBase", "CloudTopicBase"):
        if base:
            with pytest.raises(ConfigFaults, match=key):
                config(**{key: base})
        else:
            assert config(**{key: base}).local_topics == "tidegate"  # not given


@pytest.mark.parametrize("namespace", ["AWS/S3", ":a", "a b", "x" * 256])
def test_a_namespace_that_cloudwatch_refuses_is_a_fault(namespace: str) -> None:
    with pytest.raises(ConfigFaults, match="MetricsNamespace"):
        config(MetricsNamespace=namespace)
