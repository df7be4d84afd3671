"""The doors on messages, with the unmodified SDK: requests, replies, and subscriptions that die."""

from __future__ import annotations

import dataclasses
import json
import logging
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from tests.doors.conftest import QUICK
from tests.helpers import eventually
from tests.standins.nucleus import CLASSIC, COMPONENT, NucleusStandIn
from tidegate.doors.line import Local
from tidegate.doors.topics import DEEP_ROUTES, Pace
from tidegate.routes import Reply

if TYPE_CHECKING:
    from collections.abc import Callable

    from tidegate.ipc import Nucleus

NEVER = Pace(pulse=3600.0, echo=3600.0)
KILLER = {"list": list(range(60))}
"""A local JSON message of so many parts kills the subscriptions that it is for, on lite."""


def is_open(standin: NucleusStandIn, base: str = "tidegate") -> Any:
    return [one for one in standin.subscriptions if one[2] in (f"{base}/+/+", f"{base}/+/post")]


@pytest.fixture(params=[False, True], ids=["local", "cloud"])
def cloud(request: pytest.FixtureRequest) -> bool:
    return request.param


@pytest.fixture
def opened(standin, door, cloud):
    door("tidegate/thing" if cloud else "tidegate", cloud=cloud)
    base = "tidegate/thing" if cloud else "tidegate"
    eventually(lambda: is_open(standin, base))
    return base


def test_a_request_is_answered_below_its_topic_with_its_token(standin, opened, cloud) -> None:
    verdict, reply = standin.request(f"{opened}/statistics/get", {"clientToken": "t"}, iot_core=cloud)
    assert verdict == "accepted"
    assert reply == {"status": 200, "clientToken": "t", "route": "statistics/get"}


def test_a_request_that_is_rejected_is_told_so(standin, opened, cloud) -> None:
    verdict, reply = standin.request(f"{opened}/objects/post", {"status": 409}, iot_core=cloud)
    assert (verdict, reply["status"]) == ("rejected", 409)


def test_a_json_message_is_a_request_like_any_other(standin, door) -> None:
    door()
    eventually(lambda: is_open(standin))
    standin.publish("tidegate/statistics/get", {"clientToken": "t", "page": 1})
    eventually(lambda: [one for one in standin.published if one.topic.endswith("/accepted")])


def test_replies_are_bytes_which_no_subscription_dies_of(standin, opened, cloud) -> None:
    standin.request(f"{opened}/statistics/get", {}, iot_core=cloud)
    messages = standin.iot_core_received if cloud else standin.published
    assert all(isinstance(one.payload, bytes) for one in messages if one.source == COMPONENT)


def test_requests_are_handed_over_in_order_by_one_thread(standin, door, routes) -> None:
    door(pace=NEVER)
    eventually(lambda: is_open(standin))
    for number in range(100):
        standin.publish("tidegate/objects/post", json.dumps({"number": number}).encode())
    eventually(lambda: len(routes.heard) == 100)
    assert [body["number"] for _, body in routes.heard] == list(range(100))
    assert len(routes.threads) == 1
    assert routes.threads != {threading.get_ident()}


@pytest.mark.parametrize(
    "topic",
    [
        "tidegate/objects/accepted",
        "tidegate/objects/rejected",
        "tidegate/events/stored",
        "tidegate/pulse/of-another",
        "tidegate/objects/post/accepted",
    ],
)
def test_what_may_be_an_answer_is_not_answered(standin, door, routes, topic) -> None:
    door()
    eventually(lambda: is_open(standin))
    standin.publish(topic, b'{"clientToken": "t"}')
    standin.request("tidegate/statistics/get", {})
    assert [route for route, _ in routes.heard] == ["statistics/get"]


def test_two_agents_with_bases_inside_each_other_do_not_talk_for_ever(standin, door, routes) -> None:
    door("tidegate")
    door("tidegate/objects")
    eventually(lambda: is_open(standin) and is_open(standin, "tidegate/objects"))
    standin.request("tidegate/objects/post", {})
    standin.request("tidegate/objects/statistics/get", {})
    assert len(routes.heard) == 2


def test_a_request_of_the_wrong_size_or_form_does_not_end_the_door(standin, door, routes, caplog) -> None:
    door()
    eventually(lambda: is_open(standin))
    if standin.mode == CLASSIC:  # lite would end the connection of whoever sends it
        standin.publish("tidegate/objects/post", b"x" * 300_000)
        rejected = eventually(lambda: [one for one in standin.published if one.topic.endswith("rejected")])
        assert rejected[0].json()["status"] == 413
    standin.publish("tidegate/objects/post", b"\xff\x00 no JSON")
    eventually(lambda: "a request to objects/post failed" in caplog.text)  # this handler cannot take it
    assert standin.request("tidegate/statistics/get", {})[0] == "accepted"


def test_a_message_that_kills_subscriptions_does_so_only_for_a_while(standin, door) -> None:
    door()
    eventually(lambda: is_open(standin))
    before = standin.requests["SubscribeToTopic"]
    standin.publish("tidegate/anything/post", KILLER)
    if standin.lite:
        eventually(lambda: standin.requests["SubscribeToTopic"] > before)
    eventually(lambda: is_open(standin))
    assert standin.request("tidegate/statistics/get", {})[0] == "accepted"


def test_a_subscription_that_died_in_silence_is_made_again(standin, opened, cloud, caplog) -> None:
    assert standin.kill_subscriptions(f"{opened}/+/+") == 1
    eventually(lambda: is_open(standin, opened))
    assert standin.request(f"{opened}/statistics/get", {}, iot_core=cloud)[0] == "accepted"
    eventually(lambda: "had died, and was made anew" in caplog.text)


def test_a_subscription_that_the_nucleus_ends_is_made_again_at_once(standin, door) -> None:
    door(pace=Pace(pulse=3600.0, echo=3600.0, rest=0.01))
    eventually(lambda: is_open(standin))
    assert standin.end_subscriptions("tidegate/+/+") == 1
    eventually(lambda: is_open(standin))
    assert standin.request("tidegate/statistics/get", {})[0] == "accepted"


class SlowToTell(Local):
    """A line whose first subscription has ended again before the door is told that it began."""

    def __init__(self, nucleus: Nucleus) -> None:
        super().__init__(nucleus)
        self.nucleus = nucleus
        self.subscribe = self.subscribe_late
        self.ends = threading.Event()

    def subscribe_late(
        self, topics: str, heard: Callable[[str, bytes], None], ended: Callable[[], None]
    ) -> Callable[[], None]:
        def end() -> None:
            ended()
            self.ends.set()

        hang_up = self.nucleus.subscribe_local(topics, heard, end)
        assert self.ends.wait(10)
        return hang_up


def test_a_subscription_that_ends_before_its_beginning_is_told_is_made_again(standin, door) -> None:
    door(pace=Pace(pulse=3600.0, echo=3600.0, rest=0.01), kind=SlowToTell)
    eventually(lambda: standin.end_subscriptions("tidegate/+/+"))
    eventually(lambda: is_open(standin))
    assert standin.request("tidegate/statistics/get", {})[0] == "accepted"


def test_a_subscription_that_lives_is_never_made_again(standin, opened, cloud) -> None:
    operation = "PublishToIoTCore" if cloud else "PublishToTopic"
    before = standin.requests[operation]
    eventually(lambda: standin.requests[operation] > before + 10)
    assert standin.requests["SubscribeToIoTCore" if cloud else "SubscribeToTopic"] == 1


def test_the_door_of_deep_routes_finds_out_that_its_subscription_died(standin, door) -> None:
    door(routes=DEEP_ROUTES)
    eventually(lambda: is_open(standin, "tidegate/+"))
    assert standin.kill_subscriptions("tidegate/+/+/post") == 1
    eventually(lambda: is_open(standin, "tidegate/+"))
    before = standin.requests["PublishToTopic"]
    eventually(lambda: standin.requests["PublishToTopic"] > before + 5)
    assert standin.requests["SubscribeToTopic"] == 2


def test_one_that_dies_again_and_again_is_made_ever_more_rarely(standin, door) -> None:
    door(pace=Pace(pulse=0.01, echo=0.01, rest=0.05))
    eventually(lambda: is_open(standin))
    started = threading.Event()
    counts = []
    for _ in range(2):
        before = standin.requests["SubscribeToTopic"]
        for _ in range(60):
            standin.kill_subscriptions("tidegate/+/+")
            started.wait(0.01)
        counts.append(standin.requests["SubscribeToTopic"] - before)
    assert counts[0] > counts[1]


def test_offline_nothing_is_made_anew_and_later_it_goes_on(standin, door, caplog) -> None:
    door("tidegate/thing", cloud=True)
    eventually(lambda: is_open(standin, "tidegate/thing"))
    standin.go_offline()
    before = standin.requests["PublishToIoTCore"]
    eventually(lambda: standin.requests["PublishToIoTCore"] > before + 5)
    assert standin.requests["SubscribeToIoTCore"] == 1
    assert caplog.text.count("may not get through") == 1
    caplog.set_level(logging.INFO)
    standin.go_online()
    assert standin.request("tidegate/thing/statistics/get", {}, iot_core=True)[0] == "accepted"
    eventually(lambda: "get through again (IoT Core)" in caplog.text)


def test_a_door_that_cannot_open_offline_opens_when_the_network_is_back(standin, door) -> None:
    standin.go_offline()
    door("tidegate/thing", cloud=True)
    eventually(lambda: standin.requests["SubscribeToIoTCore"] > 2)
    standin.go_online()
    eventually(lambda: is_open(standin, "tidegate/thing"))


def test_a_missing_right_is_said_once_and_tried_again_until_it_comes(standin, door, caplog) -> None:
    caplog.set_level(logging.INFO)
    standin.configure({"accessControl": {"aws.greengrass.ipc.pubsub": {}}})
    one = door()
    eventually(lambda: standin.requests["SubscribeToTopic"] > 3)
    assert caplog.text.count("for want of a right in accessControl") == 1
    policy = {
        "operations": ["aws.greengrass#SubscribeToTopic"],
        "resources": ["tidegate/+/+"],  # as a recipe writes it: a letter to local topics
    }
    answers = {
        "operations": ["aws.greengrass#PublishToTopic"],
        "resources": ["tidegate/*/accepted", "tidegate/*/rejected", "tidegate/pulse/*"],
    }
    standin.configure({"accessControl": {"aws.greengrass.ipc.pubsub": {"c:1": policy, "c:2": answers}}})
    one.wake()
    eventually(lambda: is_open(standin))
    assert standin.request("tidegate/statistics/get", {})[0] == "accepted"


def test_a_missing_right_is_asked_for_at_leisure(standin, door) -> None:
    standin.configure({"accessControl": {"aws.greengrass.ipc.pubsub": {}}})
    before = time.monotonic()
    door(pace=dataclasses.replace(QUICK, retry=0.3, longest_retry=10, longest_refusal=10))
    eventually(lambda: standin.requests["SubscribeToTopic"] >= 3)
    assert time.monotonic() - before > 0.8


def test_the_rights_of_a_recipe_are_enough_for_iot_core(standin, door) -> None:
    policy = {
        "operations": ["aws.greengrass#SubscribeToIoTCore"],
        "resources": ["tidegate/+/+/+"],
    }
    answers = {
        "operations": ["aws.greengrass#PublishToIoTCore"],
        "resources": ["tidegate/*/accepted", "tidegate/*/rejected", "tidegate/*/pulse/*"],
    }
    standin.configure({"accessControl": {"aws.greengrass.ipc.mqttproxy": {"c:1": policy, "c:2": answers}}})
    door("tidegate/thing", cloud=True)
    eventually(lambda: is_open(standin, "tidegate/thing"))
    assert standin.request("tidegate/thing/objects/post", {}, iot_core=True)[0] == "accepted"
    assert standin.kill_subscriptions("tidegate/thing/+/+") == 1
    eventually(lambda: is_open(standin, "tidegate/thing"))


def test_without_the_right_to_pulses_requests_are_answered_all_the_same(standin, door, caplog) -> None:
    policies = {
        "c:1": {"operations": ["*"], "resources": ["tidegate/+/+"]},
        "c:2": {"operations": ["*"], "resources": ["tidegate/*/accepted"]},
    }
    standin.configure({"accessControl": {"aws.greengrass.ipc.pubsub": policies}})
    door()
    eventually(lambda: is_open(standin))
    eventually(lambda: standin.requests["PublishToTopic"] > 5)
    assert standin.request("tidegate/statistics/get", {})[0] == "accepted"
    assert standin.requests["SubscribeToTopic"] == 1


def test_a_nucleus_that_answers_nothing_holds_nobody_up(standin, door, desk, routes) -> None:
    door(pace=NEVER)
    eventually(lambda: is_open(standin))
    standin.silent_on.add("PublishToTopic")
    for number in range(300):  # more than may be unanswered
        standin.publish("tidegate/statistics/get", json.dumps({"number": number}).encode())
    eventually(lambda: len(routes.heard) == 300)


def test_more_requests_than_can_wait_are_refused_with_their_token(desk, routes) -> None:
    holding, held = threading.Event(), threading.Event()

    class Slow:
        def handle(self, _route: str, _payload: bytes, answer: Any) -> None:
            held.set()
            holding.wait(10)
            answer(Reply(200, {}))

    desk._handler = Slow()
    replies: list[Reply] = []
    desk.put("a/b", b"{}", replies.append)
    assert held.wait(10)
    for _ in range(257):
        desk.put("a/b", b'{"clientToken": "mine"}', replies.append)
    holding.set()
    (refused,) = [one for one in replies if not one.accepted]
    assert refused.status == 503
    assert refused.body["clientToken"] == "mine"
    eventually(lambda: len(replies) == 258)


def test_a_door_that_is_closed_hears_nothing_more(standin, door, routes) -> None:
    one = door(pace=QUICK)
    eventually(lambda: is_open(standin))
    one.stop()
    one.join(5)
    eventually(lambda: not is_open(standin))
