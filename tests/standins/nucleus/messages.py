"""Local publish/subscribe, and the MQTT proxy with a double of AWS IoT Core behind it."""

from __future__ import annotations

import base64
import json
import threading
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tests.standins.nucleus.limits import (
    LARGEST_MQTT_PACKET,
    LONGEST_TOPIC,
    MOST_OBJECTS_IN_EVENT,
    MOST_OBJECTS_ON_BUS,
    mqtt_packet,
    objects,
    with_floats,
)
from tests.standins.nucleus.switches import INVALID_ARGUMENTS, IpcError
from tests.standins.nucleus.topics import matches

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.standins.nucleus.connection import Subscriptions
    from tests.standins.nucleus.switches import Switches

LARGEST_MQTT_MESSAGE = 128 * 1024  # of classic, unless configured otherwise
SPOOL_BYTES = 2_621_440  # of classic, in memory
MOST_SLASHES = 7


@dataclass(frozen=True, slots=True)
class Message:
    """What was published by whom: local messages are bytes or JSON values, IoT Core's are bytes."""

    source: str
    topic: str
    payload: Any
    qos: int = 0

    def json(self) -> Any:
        """Return the payload as a JSON value, however it travelled."""
        return json.loads(self.payload) if isinstance(self.payload, bytes) else self.payload


class Log:
    """Messages in the order of their arrival, for threads that wait for one."""

    def __init__(self) -> None:
        self._messages: list[Message] = []
        self._changed = threading.Condition()

    def append(self, message: Message) -> None:
        with self._changed:
            self._messages.append(message)
            self._changed.notify_all()

    def all(self) -> list[Message]:
        with self._changed:
            return list(self._messages)

    def wait(self, accept: Callable[[Message], bool], *, start: int, seconds: float) -> Message | None:
        """Return the first acceptable message from number `start` on, None if there is none in time."""

        def find() -> Message | None:
            return next((one for one in self._messages[start:] if accept(one)), None)

        with self._changed:
            return self._changed.wait_for(find, timeout=seconds)


class LocalBus:
    """Carries messages between components. Nothing is kept for those who are not there."""

    def __init__(self, switches: Switches, subscriptions: Subscriptions) -> None:
        self.log = Log()
        self._switches = switches
        self._subscriptions = subscriptions

    def publish(self, message: Message) -> None:
        is_json = not isinstance(message.payload, bytes)
        parsed = 6 + objects(message.payload)  # with topic, type and message around it
        self._check(message.topic, parsed)
        self.log.append(message)
        if is_json and self._switches.with_floats:
            payload = with_floats(message.payload)
        else:
            payload = message.payload if is_json else base64.b64encode(message.payload).decode()
        kind = "jsonMessage" if is_json else "binaryMessage"
        event = {kind: {"message": payload, "context": {"topic": message.topic}}}
        for one in self._subscriptions.of("SubscribeToTopic"):
            if not matches(str(one.subject), message.topic, parent=self._switches.lite):
                continue
            if one.others_only and one.component == message.source:
                continue
            if self._switches.guarded and parsed > MOST_OBJECTS_IN_EVENT:
                self._subscriptions.remove(one)
                continue
            one.send("SubscriptionResponseMessage", event)

    def _check(self, topic: str, parsed: int) -> None:
        if not self._switches.lite and any(character in topic for character in "+#*"):
            raise IpcError(INVALID_ARGUMENTS, "Publish topic must not contain a wildcard.")
        if self._switches.guarded and (parsed > MOST_OBJECTS_ON_BUS or len(topic.encode()) > LONGEST_TOPIC):
            raise IpcError(message="Failed to publish the message.")


class IotCore:
    """The cloud's side of MQTT: what arrived there, and what it sends to the device."""

    def __init__(self, switches: Switches, subscriptions: Subscriptions) -> None:
        self.log = Log()
        self.online = True
        self._switches = switches
        self._subscriptions = subscriptions
        self._spool: deque[Message] = deque()

    def publish(self, message: Message) -> None:
        """Take a message of a component. Offline, lite refuses it; classic keeps what has QoS 1."""
        topic = message.topic
        if not self._switches.lite:
            self._check_topic(topic)
            if len(message.payload) > LARGEST_MQTT_MESSAGE:
                raise IpcError(
                    message=f"Publish to topic {topic} failed: {len(message.payload)} bytes are too many"
                )
        if self.online:
            self._arrive(message)
        elif self._switches.lite:
            raise IpcError(message="Failed to publish the message.")
        elif not message.qos:
            raise IpcError(
                message=f"Publish to topic {topic} failed: Device is offline. Dropping QoS 0 message."
            )
        else:
            self._keep(message)

    def check_subscription(self, topic: str) -> None:
        """Raise if a subscription cannot be made now."""
        if not self._switches.lite:
            self._check_topic(topic)
        if not self.online:
            raise IpcError(message="Failed to bind the subscription.")

    def go_online(self) -> None:
        """Reach the cloud again; what was spooled arrives there."""
        self.online = True
        while self._spool:
            self._arrive(self._spool.popleft())

    def deliver(self, topic: str, payload: bytes) -> None:
        """Send a message to all who subscribed; what is sent to an offline device is gone."""
        if not self.online:
            return
        if self._switches.guarded and mqtt_packet(topic, payload) > LARGEST_MQTT_PACKET:
            return
        receivers = [
            one for one in self._subscriptions.of("SubscribeToIoTCore") if matches(str(one.subject), topic)
        ]
        copies = len({one.subject for one in receivers}) if self._switches.lite else 1
        event = {"message": {"topicName": topic, "payload": base64.b64encode(payload).decode()}}
        for one in receivers:
            for _ in range(copies):
                one.send("IoTCoreMessage", event)

    def _arrive(self, message: Message) -> None:
        self.log.append(message)
        self.deliver(message.topic, message.payload)

    def _keep(self, message: Message) -> None:
        used = sum(len(one.payload) for one in self._spool)
        if used + len(message.payload) > SPOOL_BYTES:
            raise IpcError(message=f"Publish to topic {message.topic} failed: the spool is full")
        self._spool.append(message)

    def _check_topic(self, topic: str) -> None:
        if len(topic.encode()) > LONGEST_TOPIC or topic.count("/") > MOST_SLASHES:
            raise IpcError(message=f"the topic {topic} is too long or has too many levels")
