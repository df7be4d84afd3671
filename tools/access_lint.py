"""Finds what is wrong with the `accessControl` of a recipe."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

PUBSUB, MQTT_PROXY = "aws.greengrass.ipc.pubsub", "aws.greengrass.ipc.mqttproxy"
OPERATIONS = {
    PUBSUB: {"aws.greengrass#PublishToTopic", "aws.greengrass#SubscribeToTopic"},
    MQTT_PROXY: {"aws.greengrass#PublishToIoTCore", "aws.greengrass#SubscribeToIoTCore"},
}
LARGEST_SERVICE = 4096
"""Bytes that nucleus lite reads of the policies of one service."""

LONGEST_TOPIC = 256
MOST_SLASHES = 7


def access_faults(access: Any, component: str) -> Iterator[str]:
    """Yield a sentence for each fault."""
    if not isinstance(access, dict):
        yield "accessControl: is no map"
        return
    seen: set[str] = set()
    for service, policies in access.items():
        if service not in OPERATIONS:
            yield f"accessControl: {service} is no service of ours; write {PUBSUB} or {MQTT_PROXY}"
        elif not isinstance(policies, dict):
            yield f"accessControl.{service}: is no map of policies"
        else:
            if len(json.dumps(policies)) > LARGEST_SERVICE:
                yield f"accessControl.{service}: nucleus lite reads only {LARGEST_SERVICE} bytes of it"
            for identity, policy in policies.items():
                if identity in seen:
                    yield f"accessControl: the policy id {identity} is there twice; it has to be unique"
                seen.add(identity)
                yield from _policy(service, identity, policy, component)


def _policy(service: str, identity: str, policy: Any, component: str) -> Iterator[str]:
    place = f"accessControl.{service}.{identity}"
    if not identity.startswith(f"{component}:"):
        yield f"{place}: begin the id with {component}: so that it is unique on a device"
    if not isinstance(policy, dict):
        yield f"{place}: is no map"
        return
    for key in policy.keys() - {"policyDescription", "operations", "resources"}:
        yield f"{place}.{key}: is no key of a policy"
    for key in ("operations", "resources"):
        values = policy.get(key)
        if not isinstance(values, list) or not values or not all(isinstance(one, str) for one in values):
            yield f"{place}.{key}: has to be a list of texts"
            continue
        for value in values:
            if key == "operations" and value not in OPERATIONS[service]:
                yield f"{place}: {value} is none of {', '.join(sorted(OPERATIONS[service]))}"
            elif key == "resources":
                yield from (f"{place}: {value}: {fault}" for fault in _resource(service, value))
                if set(value) & {"+", "#"} and "aws.greengrass#PublishToTopic" in policy["operations"]:
                    yield f"{place}: {value}: + and # are letters to local topics; write *"


def _resource(service: str, topic: str) -> Iterator[str]:
    bare = re.sub(r"\$\{[*?$]\}", "", topic)
    if topic in {"*", "#"}:
        yield "allows every topic; name those that are used"
    if "{" in bare:
        yield "the classic nucleus puts no variables into it; write *"
    if "?" in bare:
        yield "nucleus lite refuses a bare ?"
    if service == MQTT_PROXY and (len(topic) > LONGEST_TOPIC or topic.count("/") > MOST_SLASHES):
        yield f"a topic of IoT Core has up to {LONGEST_TOPIC} bytes and {MOST_SLASHES} slashes"
