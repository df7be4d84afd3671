"""What nucleus lite can carry: sizes in bytes of what travels, and counts of the objects it is parsed into."""

from __future__ import annotations

import json
from typing import Any

LARGEST_REQUEST = 10_012  # total frame; one byte more and the connection is closed
LARGEST_FRAME_OUT = 10_000  # a larger event is lost, a larger response becomes an error
LARGEST_FRAME_CLASSIC = 24 * 1024 * 1024
LARGEST_VALUE = 1_020  # JSON of one value in the configuration that is no map
LARGEST_POLICIES = 4_096  # JSON of what accessControl says of one service
LARGEST_MQTT_PACKET = 5_000  # from the cloud to the device; a larger one is dropped without a word
LONGEST_TOPIC = 256
MOST_OBJECTS = 255  # in a request or the answer to GetConfiguration
MOST_OBJECTS_ON_BUS = 200  # in one write of configuration or one local publication
MOST_OBJECTS_IN_EVENT = 50  # in a local message; more kill the subscription it is for
DEEPEST = 15


def dump(value: Any) -> bytes:
    """Make the shortest JSON."""
    return json.dumps(value, separators=(",", ":")).encode()


def objects(value: Any) -> int:
    """Count as lite does: two for each key of a map and one for each item of a list, all the way down."""
    if isinstance(value, dict):
        return 2 * len(value) + sum(objects(one) for one in value.values())
    if isinstance(value, list):
        return len(value) + sum(objects(one) for one in value)
    return 0


def depth(value: Any) -> int:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return 1 + max((depth(one) for one in inner), default=0) if isinstance(value, (dict, list)) else 0


def mqtt_packet(topic: str, payload: bytes) -> int:
    """Compute the bytes of an MQTT 5 PUBLISH with QoS 1 and no properties."""
    remaining = 2 + len(topic.encode()) + 2 + 1 + len(payload)
    return 1 + (1 if remaining < 128 else 2 if remaining < 16_384 else 3) + remaining


def with_floats(value: Any) -> Any:
    """Turn whole numbers into floats, as a nucleus that parses JSON into Java objects does."""
    if isinstance(value, dict):
        return {key: with_floats(one) for key, one in value.items()}
    if isinstance(value, list):
        return [with_floats(one) for one in value]
    return float(value) if isinstance(value, int) and not isinstance(value, bool) else value


def with_strings(value: Any) -> Any:
    """Turn scalars into text, as lite does with the YAML recipe of a local deployment."""
    if isinstance(value, dict):
        return {key: with_strings(one) for key, one in value.items()}
    if isinstance(value, list):
        return [with_strings(one) for one in value]
    return value if isinstance(value, str) else json.dumps(value)
