"""The nucleus stand-in, driven by the unmodified awsiotsdk."""

from __future__ import annotations

import concurrent.futures
import contextlib
import datetime as dt
import json
import os
import queue
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
import zlib
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest
from awscrt.exceptions import AwsCrtError
from awsiot.eventstreamrpc import (
    AccessDeniedError,
    ConnectionClosedError,
    LifecycleHandler,
    StreamClosedError,
)
from awsiot.greengrasscoreipc import connect as connect_v1
from awsiot.greengrasscoreipc import model
from awsiot.greengrasscoreipc.clientv2 import GreengrassCoreIPCClientV2
from awsiot.greengrasscoreipc.model import (
    QOS,
    BinaryMessage,
    ConfigurationValidityReport,
    ConfigurationValidityStatus,
    FailedUpdateConditionCheckError,
    InvalidArgumentsError,
    JsonMessage,
    Metric,
    PublishMessage,
    ReceiveMode,
    ResourceNotFoundError,
    ServiceError,
    UnauthorizedError,
)

from tests.helpers import eventually
from tests.standins.nucleus import CLASSIC, COMPONENT, LITE, OPERATOR, IpcError, NucleusStandIn

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

SECONDS = 10.0
SHORT = 0.2  # how long nothing must happen
CONFIGURATION = {
    "interval": 5,
    "name": "a",
    "rules": {"one": {"path": "/data", "on": True}},
    "list": [1, "x"],
}
LOST = (StreamClosedError, ConnectionClosedError, AwsCrtError)


class Watcher(LifecycleHandler):
    """Remembers that a connection ended."""

    def __init__(self) -> None:
        self.lost = threading.Event()

    def on_disconnect(self, reason: Exception | None) -> None:  # noqa: ARG002
        self.lost.set()


class Client:
    """The SDK's client of one component, with a limit for each call and a queue for each subscription."""

    def __init__(self, socket_path: Path, token: str, *, ordered: bool) -> None:
        self.watcher = Watcher()
        self.core = connect_v1(
            ipc_socket=str(socket_path), authtoken=token, lifecycle_handler=self.watcher, timeout=SECONDS
        )
        executor = ThreadPoolExecutor(1) if ordered else None
        self.v2 = GreengrassCoreIPCClientV2(client=self.core, executor=executor)

    def close(self) -> None:
        concurrent.futures.wait([self.v2.close()], SECONDS)

    def call(self, operation: str, **arguments: Any) -> Any:
        return getattr(self.v2, f"{operation}_async")(**arguments).result(SECONDS)

    def listen(self, operation: str, **arguments: Any) -> tuple[queue.Queue[Any], Any]:
        """Subscribe; return the queue of the events, with None for the end of the stream, and the stream."""
        events: queue.Queue[Any] = queue.Queue()
        done, stream = getattr(self.v2, f"subscribe_to_{operation}_async")(
            on_stream_event=events.put, on_stream_closed=lambda: events.put(None), **arguments
        )
        done.result(SECONDS)
        return events, stream

    def get(self, *path: str, component: str | None = None) -> Any:
        return self.call("get_configuration", key_path=list(path), component_name=component).value

    def update(self, path: list[str], value: dict[str, Any], *, at: float | None = None) -> None:
        stamp = dt.datetime.fromtimestamp(time.time() if at is None else at, dt.timezone.utc)
        self.call("update_configuration", key_path=path, value_to_merge=value, timestamp=stamp)

    def publish(self, topic: str, payload: bytes | dict[str, Any]) -> None:
        message = (
            PublishMessage(binary_message=BinaryMessage(message=payload))
            if isinstance(payload, bytes)
            else PublishMessage(json_message=JsonMessage(message=payload))
        )
        self.call("publish_to_topic", topic=topic, publish_message=message)

    def publish_cloud(self, topic: str, payload: bytes, qos: str = QOS.AT_LEAST_ONCE, **extra: Any) -> None:
        self.call("publish_to_iot_core", topic_name=topic, qos=qos, payload=payload, **extra)

    def topic(self, topic: str, **arguments: Any) -> queue.Queue[Any]:
        return self.listen("topic", topic=topic, **arguments)[0]

    def cloud(self, topic: str) -> queue.Queue[Any]:
        return self.listen("iot_core", topic_name=topic, qos=QOS.AT_LEAST_ONCE)[0]


class Raw:
    """A client that says what it likes."""

    def __init__(self, nucleus: NucleusStandIn, *, greeting: bool = True) -> None:
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(SECONDS)
        self.socket.connect(str(nucleus.socket))
        if greeting:
            self.socket.sendall(raw_connect(nucleus.environment()["SVCUID"]))
            assert self.read(), "not welcome"

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def read(self) -> bytes:
        """Return what comes next, b"" for the end."""
        with contextlib.suppress(ConnectionResetError):
            return self.socket.recv(1 << 16)
        return b""


def raw(kind: int, flags: int, stream: int, payload: bytes = b"", **headers: str) -> bytes:
    """Make a frame without the stand-in's codec."""
    data = b""
    for name, number in ((":message-type", kind), (":message-flags", flags), (":stream-id", stream)):
        data += bytes([len(name)]) + name.encode() + struct.pack(">Bi", 4, number)
    for key, value in headers.items():
        name = key.replace("_", "-") if key != "version" else ":version"
        data += bytes([len(name)]) + name.encode() + struct.pack(">BH", 7, len(value)) + value.encode()
    prelude = struct.pack(">II", 16 + len(data) + len(payload), len(data))
    frame = prelude + struct.pack(">I", zlib.crc32(prelude)) + data + payload
    return frame + struct.pack(">I", zlib.crc32(frame))


def raw_connect(token: str) -> bytes:
    return raw(4, 0, 0, json.dumps({"authToken": token}).encode(), version="0.1.0")


def raw_publish(stream: int, total: int) -> bytes:
    """Make a PublishToTopic of exactly so many bytes."""
    start, end = b'{"topic":"t","publishMessage":{"binaryMessage":{"message":"', b'"}}}'
    operation = "aws.greengrass#PublishToTopic"
    empty = len(raw(0, 0, stream, start + end, operation=operation))
    assert total >= empty
    # A base64 text has a multiple of four characters; blanks after the object make up for the rest.
    text, blanks = divmod(total - empty, 4)
    return raw(0, 0, stream, start + b"AAAA" * text + end + b" " * blanks, operation=operation)


def with_wrong_prelude(frame: bytes) -> bytes:
    """Spoil the checksum of the prelude and mend the one of the whole frame."""
    frame = frame[:8] + bytes(4) + frame[12:-4]
    return frame + struct.pack(">I", zlib.crc32(frame))


@pytest.fixture(params=[LITE, CLASSIC])
def mode(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def open_nucleus(tmp_path: Path) -> Iterator[Callable[..., NucleusStandIn]]:
    """Make stand-ins on one and the same socket; the test need not close them."""
    with contextlib.ExitStack() as stack:

        def open_one(**arguments: Any) -> NucleusStandIn:
            arguments = {"socket": tmp_path / "ipc", "configuration": CONFIGURATION} | arguments
            return stack.enter_context(NucleusStandIn(**arguments))

        yield open_one


@pytest.fixture
def nucleus(open_nucleus: Callable[..., NucleusStandIn], mode: str) -> NucleusStandIn:
    return open_nucleus(mode=mode)


@pytest.fixture
def lite(open_nucleus: Callable[..., NucleusStandIn]) -> NucleusStandIn:
    return open_nucleus(mode=LITE)


@pytest.fixture
def classic(open_nucleus: Callable[..., NucleusStandIn]) -> NucleusStandIn:
    return open_nucleus(mode=CLASSIC)


@pytest.fixture
def connect() -> Iterator[Callable[..., Client]]:
    """Make SDK clients that are closed with the test."""
    with contextlib.ExitStack() as stack:

        def connect_one(
            nucleus: NucleusStandIn, component: str | None = None, *, token: str = "", ordered: bool = False
        ) -> Client:
            client = Client(
                nucleus.socket, token or nucleus.environment(component)["SVCUID"], ordered=ordered
            )
            stack.callback(client.close)
            return client

        yield connect_one


@pytest.fixture
def raw_client() -> Iterator[Callable[..., Raw]]:
    with contextlib.ExitStack() as stack:

        def open_one(nucleus: NucleusStandIn, **arguments: Any) -> Raw:
            client = Raw(nucleus, **arguments)
            stack.enter_context(client.socket)
            return client

        yield open_one


def said(event: Any) -> tuple[str, Any]:
    """Return topic and payload of an event, local or from IoT Core."""
    if isinstance(event, model.IoTCoreMessage):
        return event.message.topic_name, event.message.payload
    message = event.json_message or event.binary_message
    return message.context.topic, message.message


def nothing_more(events: queue.Queue[Any]) -> bool:
    try:
        events.get(timeout=SHORT)
    except queue.Empty:
        return True
    return False


# Connections


def test_the_sdk_connects_with_what_the_environment_says(
    nucleus: NucleusStandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in nucleus.environment().items():
        monkeypatch.setenv(name, value)
    client = GreengrassCoreIPCClientV2()
    assert client.get_configuration(key_path=["interval"]).component_name == COMPONENT
    client.close().result(SECONDS)


def test_the_first_version_of_the_client_works_too(nucleus: NucleusStandIn) -> None:
    core = connect_v1(ipc_socket=str(nucleus.socket), authtoken=nucleus.environment()["SVCUID"])
    operation = core.new_get_configuration()
    operation.activate(model.GetConfigurationRequest(key_path=["name"])).result(SECONDS)
    assert operation.get_response().result(SECONDS).value == {"name": "a"}
    core.close().result(SECONDS)


def test_a_token_has_sixteen_characters_and_belongs_to_one_component(nucleus: NucleusStandIn) -> None:
    first, again, other = (nucleus.environment(name)["SVCUID"] for name in (None, COMPONENT, "other"))
    assert len(first) == 16
    assert first == again != other
    assert nucleus.environment()["AWS_CONTAINER_AUTHORIZATION_TOKEN"] == first


def test_a_wrong_token_is_refused_by_closing_on_lite(
    lite: NucleusStandIn, connect: Any, raw_client: Any
) -> None:
    with pytest.raises(AwsCrtError, match="SOCKET_CLOSED"):
        connect(lite, token="x" * 16)
    client = raw_client(lite, greeting=False)
    client.send(raw_connect("x" * 16))
    assert client.read() == b""


def test_a_wrong_token_is_refused_with_an_answer_on_classic(classic: NucleusStandIn, connect: Any) -> None:
    with pytest.raises(AccessDeniedError):
        connect(classic, token="x" * 16)


def test_refuse_turns_everybody_away(nucleus: NucleusStandIn, connect: Any) -> None:
    nucleus.refuse = True
    with pytest.raises((AccessDeniedError, AwsCrtError)):
        connect(nucleus)


def test_a_connection_may_be_accepted_and_never_answered(nucleus: NucleusStandIn, raw_client: Any) -> None:
    nucleus.silent_connect = True
    client = raw_client(nucleus, greeting=False)
    client.send(raw_connect(OPERATOR))
    client.socket.settimeout(SHORT)
    with pytest.raises(TimeoutError):
        client.read()


@pytest.mark.parametrize(
    "message",
    [
        raw(0, 0, 0, b"{}", operation="aws.greengrass#GetConfiguration"),
        raw_connect(OPERATOR),
        raw(2, 0, 0),
        raw_publish(1, 300)[:-1] + b"\x00",
        with_wrong_prelude(raw_publish(1, 300)),
        b"\x00" * 12,
    ],
    ids=["stream 0", "a second connect", "ping", "wrong checksum", "wrong prelude", "no frame"],
)
def test_lite_closes_the_connection_on_what_it_does_not_know(
    lite: NucleusStandIn, raw_client: Any, message: bytes
) -> None:
    client = raw_client(lite)
    client.send(message)
    assert client.read() == b""


@pytest.mark.parametrize(
    "greeting",
    [
        raw(0, 0, 0, b'{"authToken":"standin-operator"}', version="0.1.0"),
        raw(4, 0, 0, b'{"authToken":"standin-operator"}', version="9"),
    ],
    ids=["no connect", "another version"],
)
def test_a_wrong_greeting_is_not_answered(lite: NucleusStandIn, raw_client: Any, greeting: bytes) -> None:
    client = raw_client(lite, greeting=False)
    client.send(greeting)
    assert client.read() == b""


def test_classic_answers_a_ping(classic: NucleusStandIn, raw_client: Any) -> None:
    client = raw_client(classic)
    client.send(raw(2, 0, 0))
    assert client.read() == raw(3, 0, 0)


def test_a_response_has_the_frame_that_was_measured(lite: NucleusStandIn, raw_client: Any) -> None:
    client = raw_client(lite)
    client.send(raw(0, 0, 7, b'{"state":"RUNNING"}', operation="aws.greengrass#UpdateState"))
    answer = client.read()
    assert answer[-6:-4] == b"{}"
    assert b"\x0a:stream-id\x04\x00\x00\x00\x07" in answer
    assert b"\x0e:message-flags\x04\x00\x00\x00\x00" in answer
    assert b"\x12service-model-type\x07\x00\x22aws.greengrass#UpdateStateResponse" in answer


def test_one_shot_responses_end_their_stream_on_classic(classic: NucleusStandIn, raw_client: Any) -> None:
    client = raw_client(classic)
    client.send(raw(0, 0, 1, b'{"state":"RUNNING"}', operation="aws.greengrass#UpdateState"))
    assert b"\x0e:message-flags\x04\x00\x00\x00\x02" in client.read()


# Configuration


def test_a_map_comes_as_it_is_and_a_leaf_wrapped(nucleus: NucleusStandIn, connect: Any) -> None:
    client = connect(nucleus)
    assert client.get() == CONFIGURATION
    assert client.get("rules", "one") == {"path": "/data", "on": True}
    assert client.get("rules", "one", "on") == {"on": True}
    assert client.get("list") == {"list": [1, "x"]}


def test_null_is_a_value(open_nucleus: Any, connect: Any, mode: str) -> None:
    client = connect(open_nucleus(mode=mode, configuration={"nothing": None}))
    assert client.get("nothing") == {"nothing": None}


def test_a_missing_key_or_component_is_not_found(nucleus: NucleusStandIn, connect: Any) -> None:
    client = connect(nucleus)
    for path, component in ((["rules", "two"], None), (["interval", "x"], None), ([], "nobody")):
        with pytest.raises(ResourceNotFoundError):
            client.get(*path, component=component)
    with pytest.raises(ResourceNotFoundError):
        client.listen("configuration_update", key_path=["rules", "two"])


def test_errors_have_a_message_on_classic_only(open_nucleus: Any, connect: Any, mode: str) -> None:
    client = connect(open_nucleus(mode=mode))
    with pytest.raises(ResourceNotFoundError) as caught:
        client.get("missing")
    assert caught.value.message == (None if mode == LITE else "Key not found")


def test_whole_numbers_may_come_as_floats_on_classic(classic: NucleusStandIn, connect: Any) -> None:
    client = connect(classic)
    assert repr(client.get("interval")) == "{'interval': 5.0}"
    classic.floats = False
    assert repr(client.get("interval")) == "{'interval': 5}"


def test_numbers_come_as_they_are_on_lite(lite: NucleusStandIn, connect: Any) -> None:
    assert repr(connect(lite).get("interval")) == "{'interval': 5}"


def test_a_local_yaml_recipe_turns_scalars_into_text(lite: NucleusStandIn, connect: Any) -> None:
    lite.configure({"interval": 7, "flags": {"on": True, "none": None}}, as_strings=True)
    assert connect(lite).get() == CONFIGURATION | {
        "interval": "7",
        "flags": {"on": "true", "none": "null"},
    }


def test_keys_are_the_same_in_either_case_on_classic(classic: NucleusStandIn, connect: Any) -> None:
    client = connect(classic)
    assert client.get("INTERVAL") == {"INTERVAL": 5}
    client.update(["Rules"], {"ONE": {"Path": "/other"}})
    assert client.get("rules") == {"one": {"path": "/other", "on": True}}


def test_keys_differ_in_case_on_lite(lite: NucleusStandIn, connect: Any) -> None:
    with pytest.raises(ResourceNotFoundError):
        connect(lite).get("INTERVAL")


def test_the_configuration_of_another_component_can_be_read(nucleus: NucleusStandIn, connect: Any) -> None:
    nucleus.configure({"port": "8088"}, component="aws.greengrass.StreamManager")
    assert connect(nucleus).get("port", component="aws.greengrass.StreamManager") == {"port": "8088"}
    assert nucleus.configuration() == CONFIGURATION


def test_an_update_merges_maps_and_replaces_the_rest(nucleus: NucleusStandIn, connect: Any) -> None:
    client = connect(nucleus)
    client.update([], {"rules": {"two": {"path": "/b"}}, "list": []})
    client.update(["cursor", "of"], {"stream": 12})
    rules = CONFIGURATION["rules"] | {"two": {"path": "/b"}}
    assert client.get() == CONFIGURATION | {"rules": rules, "list": [], "cursor": {"of": {"stream": 12}}}


def test_access_control_cannot_be_updated(nucleus: NucleusStandIn, connect: Any) -> None:
    client = connect(nucleus)
    for path, value in (([], {"accessControl": {}}), (["accessControl", "x"], {"a": 1})):
        with pytest.raises(InvalidArgumentsError):
            client.update(path, value)


def test_an_old_update_is_ignored_on_lite(lite: NucleusStandIn, connect: Any) -> None:
    client = connect(lite)
    client.update([], {"name": "new"})
    client.update([], {"name": "old"}, at=1.0)
    assert client.get("name") == {"name": "new"}


def test_an_old_update_fails_on_classic(classic: NucleusStandIn, connect: Any) -> None:
    client = connect(classic)
    client.update([], {"name": "new"})
    with pytest.raises(FailedUpdateConditionCheckError):
        client.update([], {"name": "old"}, at=1.0)
    assert client.get("name") == {"name": "new"}


def test_a_map_does_not_go_where_a_scalar_is_on_lite_and_what_was_done_stays(
    lite: NucleusStandIn, connect: Any
) -> None:
    client = connect(lite)
    for value in ({"interval": {"seconds": 5}}, {"rules": "none"}, {"interval": {}}):
        with pytest.raises(ServiceError):
            client.update([], {"name": "half", **value})
    assert client.get() == CONFIGURATION | {"name": "half"}


def test_a_type_may_change_on_classic_but_not_below_a_leaf(classic: NucleusStandIn, connect: Any) -> None:
    client = connect(classic)
    client.update([], {"interval": {"seconds": 5}})
    assert client.get("interval") == {"seconds": 5}
    with pytest.raises(InvalidArgumentsError):
        client.update(["name"], {"first": "a"})


def test_each_changed_leaf_below_what_is_watched_makes_an_event(
    nucleus: NucleusStandIn, connect: Any
) -> None:
    client = connect(nucleus)
    everything, _ = client.listen("configuration_update", key_path=[])
    rules, _ = client.listen("configuration_update", key_path=["rules"])
    nucleus.configure({"interval": 6, "name": "a", "rules": {"one": {"on": False}, "two": {"x": 1}}})
    client.update(["rules", "one"], {"path": "/own"})

    def paths(events: queue.Queue[Any], count: int) -> list[list[str]]:
        found = [events.get(timeout=SECONDS).configuration_update_event for _ in range(count)]
        assert {one.component_name for one in found} == {COMPONENT}
        return [one.key_path for one in found]

    below = [["rules", "one", "on"], ["rules", "two", "x"], ["rules", "one", "path"]]
    assert paths(everything, 4) == [["interval"], *below]
    assert paths(rules, 3) == below
    assert nothing_more(everything)


def test_a_reset_removes_and_a_merge_follows(nucleus: NucleusStandIn, connect: Any) -> None:
    nucleus.configure({"name": "b"}, reset=["/rules/one", "/interval"])
    assert connect(nucleus).get() == {"name": "b", "rules": {}, "list": [1, "x"]}
    nucleus.configure({"only": 1}, reset=[""])
    assert nucleus.configuration() == {"only": 1}


def test_a_reset_silently_ends_the_subscriptions_below_it_on_lite(lite: NucleusStandIn, connect: Any) -> None:
    events, _ = connect(lite).listen("configuration_update", key_path=["rules", "one"])
    lite.configure({"rules": {"one": {"path": "/new"}}}, reset=["/rules"])
    assert nothing_more(events)
    assert lite.subscriptions == []


def test_a_reset_is_told_on_classic(classic: NucleusStandIn, connect: Any) -> None:
    events, _ = connect(classic).listen("configuration_update", key_path=[])
    classic.configure(reset=["/rules/one"])
    assert events.get(timeout=SECONDS).configuration_update_event.key_path == ["rules", "one"]


# Validation and updates of components


@pytest.mark.parametrize(
    "status", [ConfigurationValidityStatus.ACCEPTED, ConfigurationValidityStatus.REJECTED]
)
def test_a_deployment_asks_who_wants_to_validate_it(
    classic: NucleusStandIn, connect: Any, status: str
) -> None:
    client = connect(classic, ordered=True)
    seen = []

    def answer(event: Any) -> None:
        proposed = event.validate_configuration_update_event
        seen.append(proposed.configuration)
        report = ConfigurationValidityReport(
            status=status, deployment_id=proposed.deployment_id, message="because"
        )
        client.call("send_configuration_validity_report", configuration_validity_report=report)

    done, _ = client.v2.subscribe_to_validate_configuration_updates_async(on_stream_event=answer)
    done.result(SECONDS)
    assert classic.deploy({"name": "b"}, reset=["/rules/one"], seconds=SECONDS) == (status, "because")
    proposed = CONFIGURATION | {"name": "b", "rules": {}}
    assert seen == [proposed]
    assert classic.configuration() == (proposed if status == "ACCEPTED" else CONFIGURATION)


def test_a_deployment_that_is_not_answered_fails_on_classic(classic: NucleusStandIn, connect: Any) -> None:
    client = connect(classic)
    events, _ = client.listen("validate_configuration_updates")
    assert classic.deploy({"name": "b"}, seconds=SHORT) == ("TIMEOUT", "")
    assert classic.configuration() == CONFIGURATION
    late = events.get(timeout=SECONDS).validate_configuration_update_event.deployment_id
    for deployment in (late, None):
        report = ConfigurationValidityReport(status="ACCEPTED", deployment_id=deployment)
        with pytest.raises(InvalidArgumentsError):
            client.call("send_configuration_validity_report", configuration_validity_report=report)


def test_a_deployment_asks_nobody_who_did_not_subscribe(nucleus: NucleusStandIn, connect: Any) -> None:
    events, _ = connect(nucleus).listen("configuration_update", key_path=[])
    assert nucleus.deploy({"name": "b"}) == ("UNASKED", "")
    assert events.get(timeout=SECONDS).configuration_update_event.key_path == ["name"]


def test_a_component_may_defer_its_update_on_classic(classic: NucleusStandIn, connect: Any) -> None:
    client = connect(classic, ordered=True)
    after: queue.Queue[Any] = queue.Queue()

    def answer(event: Any) -> None:
        if event.pre_update_event is None:
            after.put(event.post_update_event.deployment_id)
            return
        assert event.pre_update_event.is_ggc_restarting is True
        client.call(
            "defer_component_update",
            deployment_id=event.pre_update_event.deployment_id,
            message="busy",
            recheck_after_ms=500,
        )

    done, _ = client.v2.subscribe_to_component_updates_async(on_stream_event=answer)
    done.result(SECONDS)
    deferred = classic.ask_to_update(restarting=True, seconds=SECONDS)
    assert (deferred["recheckAfterMs"], deferred["message"]) == (500, "busy")
    classic.finish_update(deferred["deploymentId"])
    assert after.get(timeout=SECONDS) == deferred["deploymentId"]


def test_deferring_needs_a_subscription_and_a_question(classic: NucleusStandIn, connect: Any) -> None:
    client = connect(classic)
    assert classic.ask_to_update() is None
    with pytest.raises(InvalidArgumentsError):
        client.call("defer_component_update", deployment_id="d", recheck_after_ms=0)
    client.listen("component_updates")
    with pytest.raises(ServiceError):
        client.call("defer_component_update", deployment_id="d", recheck_after_ms=0)
    with pytest.raises(TimeoutError):
        classic.ask_to_update(seconds=SHORT)


def test_states_are_kept(nucleus: NucleusStandIn, connect: Any) -> None:
    connect(nucleus).call("update_state", state="RUNNING")
    connect(nucleus, "other").call("update_state", state="ERRORED")
    assert nucleus.states == [(COMPONENT, "RUNNING"), ("other", "ERRORED")]


def test_metrics_are_for_components_of_aws_on_classic(classic: NucleusStandIn, connect: Any) -> None:
    metrics = [Metric(name="files", unit="COUNT", value=1.0)]
    with pytest.raises(UnauthorizedError):
        connect(classic).call("put_component_metric", metrics=metrics)
    connect(classic, "aws.example").call("put_component_metric", metrics=metrics)
    assert classic.metrics == [("aws.example", {"name": "files", "unit": "COUNT", "value": 1.0})]


LACKING = [
    ("defer_component_update", {"deployment_id": "d", "recheck_after_ms": 0}),
    ("send_configuration_validity_report", {"configuration_validity_report": ConfigurationValidityReport()}),
    ("subscribe_to_component_updates", {}),
    ("subscribe_to_validate_configuration_updates", {}),
    ("put_component_metric", {"metrics": []}),
    ("get_secret_value", {"secret_id": "s"}),
    ("list_components", {}),
    ("get_thing_shadow", {"thing_name": "t"}),
    ("subscribe_to_iot_core_connection_status", {}),
]


@pytest.mark.parametrize(("operation", "arguments"), LACKING, ids=[name for name, _ in LACKING])
def test_lite_answers_what_it_lacks_with_a_service_error_that_says_nothing(
    lite: NucleusStandIn, connect: Any, operation: str, arguments: dict[str, Any]
) -> None:
    client = connect(lite)
    done = getattr(client.v2, f"{operation}_async")(**arguments)
    with pytest.raises(ServiceError) as caught:
        (done[0] if isinstance(done, tuple) else done).result(SECONDS)
    assert caught.value.message is None
    assert client.get("interval") == {"interval": 5}


def test_classic_says_that_it_does_not_support_an_operation(classic: NucleusStandIn, connect: Any) -> None:
    with pytest.raises(ServiceError) as caught:
        connect(classic).call("get_secret_value", secret_id="s")
    assert caught.value.message == "Operation aws.greengrass#GetSecretValue is not supported by Greengrass"


# Local publish and subscribe


def test_binary_and_json_messages_arrive_in_order(nucleus: NucleusStandIn, connect: Any) -> None:
    events = connect(nucleus, "listener", ordered=True).topic("a/b")
    client = connect(nucleus)
    client.publish("a/b", b"\x00\xff")
    client.publish("a/b", {"n": [1, {"x": None}]})
    client.publish("a/c", b"elsewhere")
    nucleus.publish("a/b", b"from a test")
    expected = [b"\x00\xff", {"n": [1, {"x": None}]}, b"from a test"]
    assert [said(events.get(timeout=SECONDS)) for _ in expected] == [("a/b", one) for one in expected]
    assert nothing_more(events)
    assert [(one.source, one.topic) for one in nucleus.published] == [
        (COMPONENT, "a/b"),
        (COMPONENT, "a/b"),
        (COMPONENT, "a/c"),
        (OPERATOR, "a/b"),
    ]


@pytest.mark.parametrize(
    ("pattern", "topic", "where"),
    [
        ("a/+/c", "a/b/c", {LITE, CLASSIC}),
        ("a/+", "a/b/c", set()),
        ("a/#", "a/b/c", {LITE, CLASSIC}),
        ("a/#", "a", {LITE}),
        ("#", "a/b", {LITE, CLASSIC}),
        ("+/b", "a/b", {LITE, CLASSIC}),
        ("a/b", "a/B", set()),
        ("a*", "abc", set()),
    ],
)
def test_subscriptions_know_mqtt_wildcards(
    open_nucleus: Any, connect: Any, mode: str, pattern: str, topic: str, where: set[str]
) -> None:
    nucleus = open_nucleus(mode=mode)
    events = connect(nucleus).topic(pattern)
    nucleus.publish(topic, b"x")
    if mode in where:
        assert said(events.get(timeout=SECONDS)) == (topic, b"x")
    else:
        assert nothing_more(events)


def test_receive_modes_count_on_classic(classic: NucleusStandIn, connect: Any) -> None:
    client = connect(classic)
    exact, wild = client.topic("t"), client.topic("+")
    others = client.topic("t", receive_mode=ReceiveMode.RECEIVE_MESSAGES_FROM_OTHERS)
    every = client.topic("#", receive_mode=ReceiveMode.RECEIVE_ALL_MESSAGES)
    client.publish("t", b"own")
    classic.publish("t", b"other")
    assert [said(one.get(timeout=SECONDS))[1] for one in (exact, wild, others, every)] == [
        b"own",
        b"other",
        b"other",
        b"own",
    ]


def test_receive_modes_are_ignored_on_lite(lite: NucleusStandIn, connect: Any) -> None:
    client = connect(lite)
    others = client.topic("t", receive_mode=ReceiveMode.RECEIVE_MESSAGES_FROM_OTHERS)
    client.publish("t", b"own")
    assert said(others.get(timeout=SECONDS)) == ("t", b"own")


def test_a_topic_to_publish_to_has_no_wildcards_on_classic(classic: NucleusStandIn, connect: Any) -> None:
    for topic in ("a/+", "a/#", "a*"):
        with pytest.raises(InvalidArgumentsError):
            connect(classic).publish(topic, b"x")


def test_a_closed_subscription_gets_nothing(nucleus: NucleusStandIn, connect: Any) -> None:
    events, stream = connect(nucleus).listen("topic", topic="t")
    assert nucleus.subscriptions == [(COMPONENT, "SubscribeToTopic", "t")]
    stream.close().result(SECONDS)
    assert events.get(timeout=SECONDS) is None
    eventually(lambda: not nucleus.subscriptions)
    nucleus.publish("t", b"x")
    assert nothing_more(events)


def test_the_subscriptions_of_a_lost_client_are_forgotten(nucleus: NucleusStandIn, connect: Any) -> None:
    client = connect(nucleus)
    client.topic("t")
    client.close()
    eventually(lambda: not nucleus.subscriptions)


@pytest.mark.parametrize("publish_message", [PublishMessage(), None])
def test_a_message_that_is_none_is_refused(
    open_nucleus: Any, connect: Any, mode: str, publish_message: Any
) -> None:
    with pytest.raises(ServiceError if mode == LITE else InvalidArgumentsError):
        connect(open_nucleus(mode=mode)).call("publish_to_topic", topic="t", publish_message=publish_message)


# IoT Core


def test_messages_go_to_the_cloud_and_come_from_it(nucleus: NucleusStandIn, connect: Any) -> None:
    client = connect(nucleus)
    events = client.cloud("to/+/device")
    client.publish_cloud("from/device", b"\x00up")
    nucleus.publish_iot_core("to/the/device", b"\xffdown")
    nucleus.publish_iot_core("to/the/cloud", b"elsewhere")
    assert said(events.get(timeout=SECONDS)) == ("to/the/device", b"\xffdown")
    assert nothing_more(events)
    (arrived,) = nucleus.iot_core_received
    assert (arrived.source, arrived.topic, arrived.payload, arrived.qos) == (
        COMPONENT,
        "from/device",
        b"\x00up",
        1,
    )


def test_what_a_component_publishes_comes_back_to_it_without_properties(
    nucleus: NucleusStandIn, connect: Any
) -> None:
    client = connect(nucleus)
    events = client.cloud("t")
    client.publish_cloud("t", b"x", retain=True, response_topic="r", correlation_data=b"c")
    event = events.get(timeout=SECONDS)
    assert said(event) == ("t", b"x")
    assert (event.message.retain, event.message.response_topic, event.message.correlation_data) == (None,) * 3


def test_overlapping_filters_bring_a_message_once_for_each_pair_on_lite(
    lite: NucleusStandIn, connect: Any
) -> None:
    client = connect(lite)
    first, second = client.cloud("a/+"), client.cloud("a/#")
    lite.publish_iot_core("a/b", b"x")
    for events in (first, first, second, second):
        assert said(events.get(timeout=SECONDS)) == ("a/b", b"x")
    assert nothing_more(first)
    assert nothing_more(second)


def test_overlapping_filters_bring_a_message_once_each_on_classic(
    classic: NucleusStandIn, connect: Any
) -> None:
    client = connect(classic)
    first, second = client.cloud("a/+"), client.cloud("a/#")
    classic.publish_iot_core("a/b", b"x")
    assert said(first.get(timeout=SECONDS)) == said(second.get(timeout=SECONDS)) == ("a/b", b"x")
    assert nothing_more(first)


@pytest.mark.parametrize("qos", [QOS.AT_MOST_ONCE, QOS.AT_LEAST_ONCE])
def test_lite_keeps_nothing_while_it_is_offline(lite: NucleusStandIn, connect: Any, qos: str) -> None:
    client = connect(lite)
    events = client.cloud("down")
    lite.go_offline()
    with pytest.raises(ServiceError):
        client.publish_cloud("up", b"x", qos)
    with pytest.raises(ServiceError):
        client.cloud("other")
    lite.publish_iot_core("down", b"lost")
    lite.go_online()
    lite.publish_iot_core("down", b"back")
    assert said(events.get(timeout=SECONDS)) == ("down", b"back")
    assert lite.iot_core_received == []


def test_classic_spools_what_has_quality_of_service(classic: NucleusStandIn, connect: Any) -> None:
    client = connect(classic)
    classic.go_offline()
    client.publish_cloud("up", b"1")
    client.publish_cloud("up", b"2")
    with pytest.raises(ServiceError) as caught:
        client.publish_cloud("up", b"3", QOS.AT_MOST_ONCE)
    assert "QoS 0" in caught.value.message
    assert classic.iot_core_received == []
    classic.go_online()
    assert [one.payload for one in classic.iot_core_received] == [b"1", b"2"]


def test_the_spool_of_classic_gets_full(classic: NucleusStandIn, connect: Any) -> None:
    client = connect(classic)
    classic.go_offline()
    for _ in range(20):
        client.publish_cloud("up", bytes(128 * 1024))
    with pytest.raises(ServiceError) as caught:
        client.publish_cloud("up", b"x")
    assert "full" in caught.value.message


def test_classic_has_limits_for_what_goes_to_the_cloud(classic: NucleusStandIn, connect: Any) -> None:
    client = connect(classic)
    client.publish_cloud("1/2/3/4/5/6/7/8", bytes(128 * 1024))
    for topic, payload in (
        ("1/2/3/4/5/6/7/8/9", b"x"),
        ("t" * 257, b"x"),
        ("t", bytes(128 * 1024 + 1)),
    ):
        with pytest.raises(ServiceError):
            client.publish_cloud(topic, payload)
    with pytest.raises(ServiceError):
        client.cloud("1/2/3/4/5/6/7/8/9")


def test_a_wrong_quality_of_service_is_refused(open_nucleus: Any, connect: Any, mode: str) -> None:
    error = ServiceError if mode == LITE else InvalidArgumentsError
    with pytest.raises(error):
        connect(open_nucleus(mode=mode)).publish_cloud("t", b"x", "3")


# Access control

POLICIES = {
    "accessControl": {
        "aws.greengrass.ipc.pubsub": {
            "c:pubsub:1": {
                "operations": ["aws.greengrass#PublishToTopic"],
                "resources": ["out/*", "literal/+/x", "cash/${*}"],
            },
            "c:pubsub:2": {"operations": ["*"], "resources": ["both/{iot:thingName}"]},
        },
        "aws.greengrass.ipc.mqttproxy": {
            "c:mqttproxy:1": {
                "operations": ["aws.greengrass#SubscribeToIoTCore", "aws.greengrass#PublishToIoTCore"],
                "resources": ["things/+/cmd/#", "one/+"],
            }
        },
    }
}


def test_policies_are_kept_to(open_nucleus: Any, connect: Any) -> None:
    lite = open_nucleus(mode=LITE, configuration=POLICIES, thing_name="mill")
    client = connect(lite)
    for topic in ("out/a/b", "literal/+/x", "both/mill", "cash/*"):
        client.publish(topic, b"x")
    client.topic("both/mill")
    client.cloud("things/a/cmd/b")
    client.cloud("things/+/cmd/#")
    client.publish_cloud("things/a/cmd", b"x")
    for topic in ("in/a", "literal/a/x", "both/other", "cash/x"):
        with pytest.raises(UnauthorizedError):
            client.publish(topic, b"x")
    with pytest.raises(UnauthorizedError):
        client.topic("out/a")
    client.cloud("one/+")
    for topic in ("things/a/b/cmd/c", "#", "things/#", "one/#"):
        with pytest.raises(UnauthorizedError):
            client.cloud(topic)
    connect(lite, "nobody in particular").publish("in/a", b"x")


def test_classic_does_not_interpolate_policies(open_nucleus: Any, connect: Any) -> None:
    client = connect(open_nucleus(mode=CLASSIC, configuration=POLICIES, thing_name="mill"))
    client.publish("out/a", b"x")
    with pytest.raises(UnauthorizedError):
        client.publish("both/mill", b"x")


def test_a_service_without_a_policy_is_closed(open_nucleus: Any, connect: Any, mode: str) -> None:
    client = connect(open_nucleus(mode=mode, configuration={"accessControl": {"x": {}}}))
    with pytest.raises(UnauthorizedError):
        client.publish("t", b"x")
    with pytest.raises(UnauthorizedError):
        client.publish_cloud("t", b"x")


def test_lite_does_not_read_long_policies(open_nucleus: Any, connect: Any) -> None:
    policies = {
        f"c:pubsub:{number}": {"policyDescription": "x" * 900, "operations": ["*"], "resources": ["*"]}
        for number in range(5)
    }
    of = {"configuration": {"accessControl": {"aws.greengrass.ipc.pubsub": policies}}, "mode": LITE}
    with pytest.raises(UnauthorizedError):
        connect(open_nucleus(**of)).publish("t", b"x")
    connect(open_nucleus(**of, size_guards=False)).publish("t", b"x")


# What nucleus lite does not carry


def test_one_byte_more_than_lite_carries_closes_the_whole_connection(
    lite: NucleusStandIn, raw_client: Any
) -> None:
    client = raw_client(lite)
    client.send(raw_publish(1, 10_012))
    assert b"PublishToTopicResponse" in client.read()
    client.send(raw_publish(2, 10_013))
    assert client.read() == b""
    assert len(lite.published) == 1


@pytest.mark.parametrize(
    ("publish", "good", "fatal"), [("publish", 7_250, 7_300), ("publish_cloud", 7_300, 7_350)]
)
def test_the_sizes_that_were_measured_work_and_are_fatal(
    lite: NucleusStandIn, connect: Any, publish: str, good: int, fatal: int
) -> None:
    client = connect(lite)
    getattr(client, publish)("test/topic", bytes(good))
    with pytest.raises(LOST):
        getattr(client, publish)("test/topic", bytes(fatal))
    assert client.watcher.lost.wait(SECONDS)


def test_a_local_message_that_is_just_not_fatal_arrives(lite: NucleusStandIn, connect: Any) -> None:
    client = connect(lite)
    events = client.topic("test/topic")
    client.publish("test/topic", bytes(7_250))
    assert said(events.get(timeout=SECONDS)) == ("test/topic", bytes(7_250))


def test_classic_and_lite_without_guards_carry_more(open_nucleus: Any, connect: Any) -> None:
    for arguments in ({"mode": CLASSIC}, {"mode": LITE, "size_guards": False}):
        client = connect(open_nucleus(**arguments))
        events = client.topic("t")
        client.publish("t", bytes(100_000))
        assert said(events.get(timeout=SECONDS)) == ("t", bytes(100_000))


def test_a_json_message_of_many_items_silently_kills_the_subscription(
    lite: NucleusStandIn, connect: Any
) -> None:
    client = connect(lite)
    first, second, other = client.topic("t"), client.topic("#"), client.topic("other")
    client.publish("t", {"items": list(range(42))})
    assert len(said(first.get(timeout=SECONDS))[1]["items"]) == 42
    assert second.get(timeout=SECONDS)
    client.publish("t", {"items": list(range(43))})
    client.publish("t", b"nobody hears this")
    client.publish("other", b"but this")
    assert said(other.get(timeout=SECONDS)) == ("other", b"but this")
    assert nothing_more(first)
    assert nothing_more(second)
    assert not client.watcher.lost.is_set()
    again = client.topic("t")
    client.publish("t", b"x")
    assert said(again.get(timeout=SECONDS)) == ("t", b"x")


def test_a_json_message_of_many_objects_is_refused(lite: NucleusStandIn, connect: Any) -> None:
    client = connect(lite)
    client.publish("t", {"items": list(range(192))})
    for count in (193, 300):
        with pytest.raises(ServiceError):
            client.publish("t", {"items": list(range(count))})


def test_a_value_of_the_configuration_has_1020_bytes(lite: NucleusStandIn, connect: Any) -> None:
    client = connect(lite)
    client.update([], {"long": "x" * 1_018})
    client.update([], {"numbers": [10_000] * 169})
    with pytest.raises(ServiceError):
        client.update([], {"long": "y" * 1_019})
    with pytest.raises(ServiceError):
        client.update([], {"list": ["x" * 100] * 10})
    assert client.get("long") == {"long": "x" * 1_018}
    with pytest.raises(IpcError):
        lite.configure({"long": "y" * 1_019})


def test_a_write_has_200_objects(lite: NucleusStandIn, connect: Any) -> None:
    def rules(count: int) -> dict[str, Any]:
        return {"rules": {f"r{rule}": {f"k{key}": "v" for key in range(5)} for rule in range(count)}}

    lite.configure(rules(14))
    with pytest.raises(IpcError):
        lite.configure(rules(18))
    with pytest.raises(ServiceError):
        connect(lite).update([], rules(18))


def test_a_configuration_that_became_too_large_cannot_be_read_whole(
    lite: NucleusStandIn, connect: Any
) -> None:
    client = connect(lite)
    for number in range(12):
        lite.configure({"large": {f"k{number}": "x" * 900}})
    with pytest.raises(ServiceError):
        client.get("large")
    assert len(client.get("large", "k3")["k3"]) == 900
    for number in range(3):
        lite.configure({"many": {f"k{number}{key}": 0 for key in range(50)}})
    with pytest.raises(ServiceError):
        client.get("many")


def test_a_request_has_255_objects(lite: NucleusStandIn, raw_client: Any) -> None:
    client = raw_client(lite)
    for stream, count in enumerate((251, 252), start=1):
        body = json.dumps({"state": str(count), "unknown": [0] * count}).encode()
        client.send(raw(0, 0, stream, body, operation="aws.greengrass#UpdateState"))
        assert (b"ServiceError" in client.read()) == (count == 252)
    assert lite.states == [(COMPONENT, "251")]


def test_a_request_has_15_levels(lite: NucleusStandIn, connect: Any) -> None:
    value: Any = "x"
    for _ in range(11):
        value = {"a": value}
    client = connect(lite)
    client.publish("t", {"a": value})
    with pytest.raises(ServiceError):
        client.publish("t", {"a": {"a": value}})


def test_large_messages_from_the_cloud_are_dropped_without_a_word(lite: NucleusStandIn, connect: Any) -> None:
    events = connect(lite).cloud("#")
    lite.publish_iot_core("test/topic", bytes(5_100))
    lite.publish_iot_core("test/topic", bytes(4_960))
    assert said(events.get(timeout=SECONDS)) == ("test/topic", bytes(4_960))
    assert nothing_more(events)


def test_an_event_that_is_too_large_is_lost_and_its_subscription_lives(
    lite: NucleusStandIn, connect: Any
) -> None:
    events = connect(lite).topic("t")
    lite.publish("t", bytes(7_500))
    lite.publish("t", b"small")
    assert said(events.get(timeout=SECONDS)) == ("t", b"small")


# Faults


def test_dropped_connections_are_noticed_and_can_be_made_again(nucleus: NucleusStandIn, connect: Any) -> None:
    client, other = connect(nucleus), connect(nucleus, "other")
    events = client.topic("t")
    nucleus.drop_connections(COMPONENT)
    assert client.watcher.lost.wait(SECONDS)
    assert events.get(timeout=SECONDS) is None
    with pytest.raises(LOST):
        client.get()
    assert not other.watcher.lost.is_set()
    assert connect(nucleus).get("interval") == {"interval": 5}


def test_a_request_can_be_done_and_its_answer_lost(nucleus: NucleusStandIn, connect: Any) -> None:
    client = connect(nucleus)
    nucleus.drop_on = "PublishToTopic"
    assert client.get("interval")
    with pytest.raises(LOST):
        client.publish("t", b"once")
    connect(nucleus).publish("t", b"twice")
    assert [one.payload for one in nucleus.published] == [b"once", b"twice"]


def test_an_operation_can_go_silent(nucleus: NucleusStandIn, connect: Any) -> None:
    client = connect(nucleus)
    nucleus.silent_on.add("GetConfiguration")
    silent = client.v2.get_configuration_async(key_path=[])
    client.publish("t", b"x")
    nucleus.silent_on.add("*")
    mute = client.v2.update_state_async(state="RUNNING")
    assert concurrent.futures.wait([silent, mute], SHORT).done == set()
    assert nucleus.states == []
    nucleus.silent_on.clear()
    assert client.get("interval")
    eventually(lambda: nucleus.requests["UpdateState"] == 1)
    assert nucleus.requests == {"GetConfiguration": 2, "PublishToTopic": 1, "UpdateState": 1}


def test_an_operation_can_be_answered_with_any_error(nucleus: NucleusStandIn, connect: Any) -> None:
    client = connect(nucleus)
    nucleus.errors["PublishToTopic"] = IpcError("ConflictError", "not now")
    with pytest.raises(model.ConflictError):
        client.publish("t", b"x")
    nucleus.errors.clear()
    client.publish("t", b"x")
    assert len(nucleus.published) == 1


def test_an_operation_can_be_slow_without_holding_up_others(nucleus: NucleusStandIn, connect: Any) -> None:
    client = connect(nucleus)
    nucleus.delays["GetConfiguration"] = SHORT
    started = time.monotonic()
    assert client.get("interval") == {"interval": 5}
    assert time.monotonic() - started >= SHORT
    nucleus.delays["GetConfiguration"] = 60.0
    slow = client.v2.get_configuration_async(key_path=["interval"])
    client.publish("t", b"x")
    assert not slow.done()


def test_subscriptions_can_be_killed_without_a_word(nucleus: NucleusStandIn, connect: Any) -> None:
    client = connect(nucleus)
    killed, other = client.topic("t"), client.topic("other")
    watched, _ = client.listen("configuration_update", key_path=[])
    assert nucleus.kill_subscriptions("t") == 1
    nucleus.publish("t", b"x")
    nucleus.publish("other", b"x")
    assert said(other.get(timeout=SECONDS)) == ("other", b"x")
    assert nothing_more(killed)
    assert nucleus.kill_subscriptions((COMPONENT,)) == 1
    nucleus.configure({"name": "b"})
    assert nothing_more(watched)
    again = client.topic("t")
    nucleus.publish("t", b"y")
    assert said(again.get(timeout=SECONDS)) == ("t", b"y")


def test_subscriptions_can_be_ended_in_good_order(nucleus: NucleusStandIn, connect: Any) -> None:
    client = connect(nucleus)
    events = client.topic("t")
    assert nucleus.end_subscriptions() == 1
    assert events.get(timeout=SECONDS) is None
    assert nucleus.subscriptions == []
    assert client.get("interval")


def test_after_a_restart_the_old_token_is_void_and_the_configuration_kept(
    nucleus: NucleusStandIn, connect: Any
) -> None:
    client = connect(nucleus)
    client.update([], {"cursor": 12})
    old = nucleus.environment()["SVCUID"]
    nucleus.restart()
    assert client.watcher.lost.wait(SECONDS)
    with pytest.raises((AccessDeniedError, AwsCrtError)):
        connect(nucleus, token=old)
    assert connect(nucleus).get("cursor") == {"cursor": 12}


def test_another_nucleus_can_take_the_place_of_one_that_ended(open_nucleus: Any, connect: Any) -> None:
    first = open_nucleus()
    client = connect(first)
    first.close()
    assert client.watcher.lost.wait(SECONDS)
    with pytest.raises((AwsCrtError, RuntimeError)):  # refused at once is a RuntimeError of awscrt
        connect(first, token=OPERATOR)
    assert connect(open_nucleus(configuration={"second": True})).get() == {"second": True}


def test_a_nucleus_ends_although_it_is_waited_for(open_nucleus: Any, connect: Any) -> None:
    nucleus = open_nucleus(mode=CLASSIC)
    client = connect(nucleus)
    nucleus.delays["GetConfiguration"] = 60.0
    waiting = client.v2.get_configuration_async(key_path=[])
    eventually(lambda: nucleus.requests["GetConfiguration"])
    nucleus.close()
    nucleus.close()
    with pytest.raises(LOST):
        waiting.result(SECONDS)


def test_there_are_two_modes(open_nucleus: Any) -> None:
    with pytest.raises(ValueError, match="no nucleus heavy"):
        open_nucleus(mode="heavy")


# Requests of tests, and the command line


def answering(client: Client, verdict: str) -> None:
    """Answer requests at x/get as a component does."""

    def answer(event: Any) -> None:
        _, payload = said(event)
        reply = {"clientToken": json.loads(payload)["clientToken"], "status": 200}
        (client.publish_cloud if isinstance(event, model.IoTCoreMessage) else client.publish)(
            f"x/get/{verdict}", json.dumps(reply).encode()
        )

    for operation, name in (("topic", "topic"), ("iot_core", "topic_name")):
        extra = {"qos": QOS.AT_LEAST_ONCE} if operation == "iot_core" else {}
        done, _ = getattr(client.v2, f"subscribe_to_{operation}_async")(
            **{name: "x/get"}, on_stream_event=answer, **extra
        )
        done.result(SECONDS)


@pytest.mark.parametrize("way", [{}, {"iot_core": True}], ids=["local", "IoT Core"])
def test_a_test_can_ask_and_wait_for_the_reply(
    nucleus: NucleusStandIn, connect: Any, way: dict[str, bool]
) -> None:
    answering(connect(nucleus, ordered=True), "accepted")
    verdict, reply = nucleus.request("x/get", {}, **way)
    assert (verdict, reply["status"]) == ("accepted", 200)
    assert nucleus.request("x/get", {"clientToken": "mine"}, **way)[1]["clientToken"] == "mine"
    with pytest.raises(TimeoutError):
        nucleus.request("y/get", {}, **way, seconds=SHORT)


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "tests.standins.nucleus", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize("iot_core", [[], ["--iot-core"]], ids=["local", "IoT Core"])
def test_the_command_line_asks_a_component(
    nucleus: NucleusStandIn, connect: Any, iot_core: list[str]
) -> None:
    client = connect(nucleus, ordered=True)
    answering(client, "rejected")
    result = run("request", "x/get", "{}", "--socket", str(nucleus.socket), *iot_core)
    assert (result.returncode, json.loads(result.stdout)["status"]) == (1, 200)


def test_the_command_line_serves_publishes_and_subscribes(tmp_path: Path, connect: Any) -> None:
    config, path = tmp_path / "config.yaml", tmp_path / "ipc"
    config.write_text("interval: 5\n", encoding="utf-8")
    command = [sys.executable, "-m", "tests.standins.nucleus"]
    serve = [*command, "--mode", "lite", "--config", str(config), "--as-strings", "--socket", str(path)]
    with contextlib.ExitStack() as stack:

        def start(arguments: list[str], **options: Any) -> subprocess.Popen[str]:
            process = stack.enter_context(subprocess.Popen(arguments, text=True, **options))
            stack.callback(process.kill)
            return process

        server = start(serve, stdout=subprocess.PIPE)
        lines = [server.stdout.readline().strip() for _ in range(6)]
        environment = dict(line.removeprefix("export ").split("=", 1) for line in lines)
        client = Client(path, environment["SVCUID"], ordered=False)
        stack.callback(client.close)
        assert client.get() == {"interval": "5"}
        listener = start(
            [*command, "subscribe", "a/#"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=os.environ | environment,
        )
        assert listener.stderr.readline() == "subscribed to a/#\n"
        client.publish("a/json", {"n": 1})
        assert run("publish", "a/b", '{"x": 1}', "--socket", str(path)).returncode == 0
        assert listener.stdout.readline() == 'a/json {"n": 1}\n'
        assert listener.stdout.readline() == 'a/b {"x": 1}\n'
        result = run("request", "nobody", "{}", "--socket", str(path), "--seconds", "0.2")
        assert (result.returncode, result.stdout) == (2, "")
        for process in (listener, server):
            process.send_signal(signal.SIGTERM)
            assert process.wait(SECONDS) == 0
