"""What each operation does. Those that lite does not have are the same as unknown there."""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tests.standins.nucleus.connection import Subscription
from tests.standins.nucleus.messages import Message
from tests.standins.nucleus.switches import INVALID_ARGUMENTS, UNAUTHORIZED, IpcError
from tests.standins.nucleus.topics import MQTT_PROXY, PUBSUB, is_wildcard

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Mapping

    from tests.standins.nucleus.configuration import Configuration
    from tests.standins.nucleus.connection import Connection, Subscriptions
    from tests.standins.nucleus.messages import IotCore, LocalBus
    from tests.standins.nucleus.switches import Switches
    from tests.standins.nucleus.topics import AccessControl

FROM_OTHERS = "RECEIVE_MESSAGES_FROM_OTHERS"
ON_LITE = {
    "GetConfiguration",
    "UpdateConfiguration",
    "SubscribeToConfigurationUpdate",
    "PublishToTopic",
    "SubscribeToTopic",
    "PublishToIoTCore",
    "SubscribeToIoTCore",
    "UpdateState",
}


@dataclass(frozen=True, slots=True)
class Call:
    """One request of a component."""

    operation: str
    body: Mapping[str, Any]
    connection: Connection
    stream: int

    @property
    def component(self) -> str:
        return self.connection.component

    def need(self, key: str, kind: type | tuple[type, ...], code: str) -> Any:
        value = self.body.get(key)
        if not isinstance(value, kind):
            raise IpcError(code, "Received invalid parameters.")
        return value

    def subscription(self, subject: str | tuple[str, ...] = "", *, others_only: bool = False) -> Subscription:
        return Subscription(self.operation, self.connection, self.stream, subject, others_only)


class Operations:
    """Carries out requests; runs in the stand-in's loop. An answer is a body, or a stream that stays open."""

    def __init__(
        self,
        switches: Switches,
        subscriptions: Subscriptions,
        configuration: Configuration,
        local: LocalBus,
        iot_core: IotCore,
        access: AccessControl,
    ) -> None:
        self.states: list[tuple[str, str]] = []
        self.metrics: list[tuple[str, Mapping[str, Any]]] = []
        self.awaited: dict[tuple[str, str, str], asyncio.Future[Mapping[str, Any]]] = {}
        self._switches = switches
        self._subscriptions = subscriptions
        self._configuration = configuration
        self._local = local
        self._iot_core = iot_core
        self._access = access
        self._handlers: dict[str, Callable[[Call], dict[str, Any] | Subscription]] = {
            "GetConfiguration": self._get_configuration,
            "UpdateConfiguration": self._update_configuration,
            "SubscribeToConfigurationUpdate": self._watch_configuration,
            "SubscribeToValidateConfigurationUpdates": self._validate_configuration,
            "SendConfigurationValidityReport": self._report_validity,
            "PublishToTopic": self._publish,
            "SubscribeToTopic": self._subscribe,
            "PublishToIoTCore": self._publish_to_cloud,
            "SubscribeToIoTCore": self._subscribe_to_cloud,
            "UpdateState": self._update_state,
            "SubscribeToComponentUpdates": self._watch_updates,
            "DeferComponentUpdate": self._defer,
            "PutComponentMetric": self._put_metric,
        }

    def carry_out(self, call: Call) -> dict[str, Any] | Subscription:
        """Do what is asked for and return the answer; raise IpcError if that is one."""
        handler = self._handlers.get(call.operation)
        if handler is None or (self._switches.lite and call.operation not in ON_LITE):
            raise IpcError(
                message=""
                if self._switches.lite
                else f"Operation aws.greengrass#{call.operation} is not supported by Greengrass"
            )
        return handler(call)

    def notify(self, component: str, path: tuple[str, ...]) -> None:
        """Tell those who watch a changed leaf or something above it."""
        for one in self._subscriptions.of("SubscribeToConfigurationUpdate"):
            if (component, *path)[: len(one.subject)] == one.subject:
                event = {"componentName": component, "keyPath": list(path)}
                one.send("ConfigurationUpdateEvents", {"configurationUpdateEvent": event})

    def _get_configuration(self, call: Call) -> dict[str, Any]:
        component, path = self._place(call)
        return {"componentName": component, "value": self._configuration.get(component, path)}

    def _update_configuration(self, call: Call) -> dict[str, Any]:
        stamp = call.need("timestamp", (int, float), INVALID_ARGUMENTS)
        if "valueToMerge" not in call.body:
            raise IpcError(INVALID_ARGUMENTS, "ValueToMerge is required")
        value, path = call.body["valueToMerge"], call.body.get("keyPath") or []
        if not isinstance(value, dict) and not path:
            raise IpcError(INVALID_ARGUMENTS, "Received invalid parameters.")
        self._configuration.update(call.component, path, value, stamp)
        return {}

    def _watch_configuration(self, call: Call) -> Subscription:
        component, path = self._place(call)
        self._configuration.find(component, path)
        return call.subscription((component, *path))

    def _place(self, call: Call) -> tuple[str, list[str]]:
        return call.body.get("componentName") or call.component, call.body.get("keyPath") or []

    def _validate_configuration(self, call: Call) -> Subscription:
        return call.subscription()

    def _report_validity(self, call: Call) -> dict[str, Any]:
        report = call.need("configurationValidityReport", dict, INVALID_ARGUMENTS)
        if not self._settle("validity", call.component, report.get("deploymentId"), report):
            raise IpcError(INVALID_ARGUMENTS, "Validation request either timed out or was never made")
        return {}

    def _publish(self, call: Call) -> dict[str, Any]:
        topic = call.need("topic", str, self._malformed)
        content = call.need("publishMessage", dict, self._malformed)
        if len(content.keys() & {"jsonMessage", "binaryMessage"}) != 1:
            raise IpcError(self._malformed, "Received invalid parameters.")
        self._check_access(call, PUBSUB, topic)
        if "jsonMessage" in content:
            payload = content["jsonMessage"].get("message")
        else:
            payload = self._decode(content["binaryMessage"].get("message"))
        self._local.publish(Message(call.component, topic, payload))
        return {}

    def _subscribe(self, call: Call) -> Subscription:
        topic = call.need("topic", str, self._malformed)
        if not topic:
            raise IpcError(self._malformed, "Subscribe topic must not be empty")
        self._check_access(call, PUBSUB, topic)
        if self._switches.lite:
            return call.subscription(topic)
        mode = call.body.get("receiveMode")
        return call.subscription(topic, others_only=mode == FROM_OTHERS if mode else is_wildcard(topic))

    def _publish_to_cloud(self, call: Call) -> dict[str, Any]:
        topic = call.need("topicName", str, self._malformed)
        qos = self._qos(call)
        if "payload" not in call.body and not self._switches.lite:
            raise IpcError(INVALID_ARGUMENTS, "Payload cannot be null")
        payload = self._decode(call.body.get("payload", ""))
        self._check_access(call, MQTT_PROXY, topic)
        self._iot_core.publish(Message(call.component, topic, payload, qos))
        return {}

    def _subscribe_to_cloud(self, call: Call) -> Subscription:
        topic = call.need("topicName", str, self._malformed)
        self._qos(call)
        self._check_access(call, MQTT_PROXY, topic)
        self._iot_core.check_subscription(topic)
        return call.subscription(topic)

    def _update_state(self, call: Call) -> dict[str, Any]:
        self.states.append((call.component, call.need("state", str, self._malformed)))
        return {}

    def _watch_updates(self, call: Call) -> Subscription:
        return call.subscription()

    def _defer(self, call: Call) -> dict[str, Any]:
        if not self._subscriptions.of("SubscribeToComponentUpdates", call.component):
            raise IpcError(INVALID_ARGUMENTS, "Component is not subscribed to component update events")
        deployment = call.need("deploymentId", str, INVALID_ARGUMENTS)
        if not self._settle("update", call.component, deployment, call.body):
            raise IpcError(message="Time limit to respond to PreComponentUpdateEvent exceeded")
        return {}

    def _put_metric(self, call: Call) -> dict[str, Any]:
        if not call.component.startswith("aws."):
            raise IpcError(UNAUTHORIZED, f"{call.component} may not publish metrics")
        self.metrics.extend(
            (call.component, metric) for metric in call.need("metrics", list, INVALID_ARGUMENTS)
        )
        return {}

    @property
    def _malformed(self) -> str:
        return "ServiceError" if self._switches.lite else INVALID_ARGUMENTS

    def _settle(self, what: str, component: str, deployment: Any, answer: Mapping[str, Any]) -> bool:
        """Give an answer to who waits for it, if anybody still does."""
        waiting = self.awaited.pop((what, component, deployment), None)
        if waiting is None or waiting.done():
            return False
        waiting.set_result(answer)
        return True

    def _check_access(self, call: Call, service: str, resource: str) -> None:
        policies = self._configuration.policies(call.component)
        self._access.check(policies, service, call.operation, resource)

    def _qos(self, call: Call) -> int:
        """Read the quality of service: text on the wire; lite also takes a number, 2, or nothing."""
        qos = call.body.get("qos")
        allowed = (None, 0, 1, 2, "0", "1", "2") if self._switches.lite else ("0", "1")
        if qos not in allowed:
            raise IpcError(self._malformed, "'qos' not a valid value.")
        return int(qos or 0)

    def _decode(self, text: Any) -> bytes:
        try:
            return base64.b64decode(text, validate=True)
        except (TypeError, binascii.Error) as error:
            raise IpcError(self._malformed, "not valid base64.") from error
