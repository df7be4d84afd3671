"""The nucleus stand-in by hand, and a client to talk to the components that use it.

    python -m tests.standins.nucleus --mode lite --config config.yaml --socket PATH
    python -m tests.standins.nucleus publish TOPIC JSON [--socket PATH]
    python -m tests.standins.nucleus subscribe TOPIC [--socket PATH]
    python -m tests.standins.nucleus request TOPIC JSON [--socket PATH]

The first prints the environment for a component and serves until SIGINT or SIGTERM. The others are components
of their own, with the unmodified SDK; without --socket they take it from the environment. `request` exits with
0 if the reply came on TOPIC/accepted, with 1 if on TOPIC/rejected, with 2 if there was none.
"""

from __future__ import annotations

import argparse
import json
import os
import queue
import shlex
import sys
import uuid
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from awsiot.greengrasscoreipc import connect
from awsiot.greengrasscoreipc.clientv2 import GreengrassCoreIPCClientV2
from awsiot.greengrasscoreipc.model import QOS, BinaryMessage, PublishMessage

from tests.standins.nucleus import CLASSIC, COMPONENT, LITE, OPERATOR, SOCKET_VARIABLE, NucleusStandIn
from tests.standins.nucleus.limits import with_strings
from tests.standins.process import wait_for_signal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

CLIENT_SECONDS = 10.0


class Client:
    """Publishes and subscribes, locally or through IoT Core."""

    def __init__(self, client: GreengrassCoreIPCClientV2, *, iot_core: bool) -> None:
        self._client = client
        self._iot_core = iot_core

    def publish(self, topic: str, payload: bytes) -> None:
        if self._iot_core:
            sent = self._client.publish_to_iot_core_async(
                topic_name=topic, qos=QOS.AT_LEAST_ONCE, payload=payload
            )
        else:
            message = PublishMessage(binary_message=BinaryMessage(message=payload))
            sent = self._client.publish_to_topic_async(topic=topic, publish_message=message)
        sent.result(CLIENT_SECONDS)

    def subscribe(self, topic: str, receive: Callable[[str, bytes], None]) -> None:
        def on_iot_core(event: Any) -> None:
            receive(event.message.topic_name, event.message.payload or b"")

        def on_local(event: Any) -> None:
            if event.json_message is not None:
                receive(event.json_message.context.topic, json.dumps(event.json_message.message).encode())
            else:
                receive(event.binary_message.context.topic, event.binary_message.message or b"")

        if self._iot_core:
            done, _ = self._client.subscribe_to_iot_core_async(
                topic_name=topic, qos=QOS.AT_LEAST_ONCE, on_stream_event=on_iot_core
            )
        else:
            done, _ = self._client.subscribe_to_topic_async(topic=topic, on_stream_event=on_local)
        done.result(CLIENT_SECONDS)


@contextmanager
def connected(socket: str, *, iot_core: bool) -> Iterator[Client]:
    core = connect(ipc_socket=socket, authtoken=OPERATOR)
    client = GreengrassCoreIPCClientV2(client=core, executor=None)
    try:
        yield Client(client, iot_core=iot_core)
    finally:
        client.close().result(CLIENT_SECONDS)


def publish(options: argparse.Namespace) -> int:
    with connected(options.socket, iot_core=options.iot_core) as client:
        client.publish(options.topic, options.json.encode())
    return 0


def subscribe(options: argparse.Namespace) -> int:
    def show(topic: str, payload: bytes) -> None:
        print(topic, payload.decode(errors="backslashreplace"), flush=True)

    with connected(options.socket, iot_core=options.iot_core) as client:
        client.subscribe(options.topic, show)
        print(f"subscribed to {options.topic}", file=sys.stderr, flush=True)
        wait_for_signal()
    return 0


def request(options: argparse.Namespace) -> int:
    body = {"clientToken": str(uuid.uuid4()), **json.loads(options.json)}
    replies: queue.Queue[tuple[int, dict[str, Any]]] = queue.Queue()

    def keep(topic: str, payload: bytes) -> None:
        replies.put((int(topic.endswith("/rejected")), json.loads(payload)))

    with connected(options.socket, iot_core=options.iot_core) as client:
        for verdict in ("accepted", "rejected"):
            client.subscribe(f"{options.topic}/{verdict}", keep)
        client.publish(options.topic, json.dumps(body).encode())
        while True:
            try:
                code, reply = replies.get(timeout=options.seconds)
            except queue.Empty:
                print(f"no reply in {options.seconds} seconds", file=sys.stderr)
                return 2
            if reply.get("clientToken") == body["clientToken"]:
                print(json.dumps(reply, indent=2))
                return code


def serve(options: argparse.Namespace) -> int:
    configuration = yaml.safe_load(options.config.read_text(encoding="utf-8")) if options.config else {}
    with NucleusStandIn(
        socket=options.socket,
        mode=options.mode,
        component=options.component,
        thing_name=options.thing_name,
        configuration=with_strings(configuration) if options.as_strings else configuration,
    ) as nucleus:
        for name, value in nucleus.environment().items():
            print(f"export {name}={shlex.quote(value)}")
        sys.stdout.flush()
        wait_for_signal()
    return 0


def server_arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description="Pretend to be a Greengrass nucleus. Also: publish, subscribe, request."
    )
    parser.add_argument("--mode", choices=(LITE, CLASSIC), default=LITE)
    parser.add_argument("--socket", metavar="PATH", required=True)
    parser.add_argument("--config", metavar="FILE", type=Path, help="the component's configuration, YAML")
    parser.add_argument("--component", metavar="NAME", default=COMPONENT)
    parser.add_argument("--thing-name", metavar="NAME", default="thing")
    parser.add_argument(
        "--as-strings", action="store_true", help="scalars are text, as after a local deployment on lite"
    )
    parser.set_defaults(run=serve)
    return parser


def client_arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Talk to the components of a nucleus stand-in.")
    commands = parser.add_subparsers(required=True)
    for run in (publish, subscribe, request):
        command = commands.add_parser(run.__name__)
        command.add_argument("topic")
        if run is not subscribe:
            command.add_argument("json")
        command.add_argument("--socket", metavar="PATH", default=os.environ.get(SOCKET_VARIABLE))
        command.add_argument("--iot-core", action="store_true", help="through AWS IoT Core, not locally")
        command.add_argument("--seconds", type=float, default=CLIENT_SECONDS, help="to wait for a reply")
        command.set_defaults(run=run)
    return parser


def main() -> int:
    is_client = sys.argv[1:2] and sys.argv[1] in ("publish", "subscribe", "request")
    options = (client_arguments() if is_client else server_arguments()).parse_args()
    return int(options.run(options))


if __name__ == "__main__":
    sys.exit(main())
