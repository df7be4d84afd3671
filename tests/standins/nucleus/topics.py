"""Which topics a filter matches, and what accessControl allows."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from tests.standins.nucleus.limits import LARGEST_POLICIES, dump
from tests.standins.nucleus.switches import UNAUTHORIZED, IpcError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.standins.nucleus.switches import Switches

PUBSUB, MQTT_PROXY = "aws.greengrass.ipc.pubsub", "aws.greengrass.ipc.mqttproxy"

_ESCAPE = re.compile(r"\$\{([*?$])\}")


def matches(pattern: str, topic: str, *, parent: bool = True) -> bool:
    """Tell whether an MQTT filter matches a topic; `a/#` matches `a` only if `parent` says so."""
    wanted, given = pattern.split("/"), topic.split("/")
    if topic.startswith("$") and wanted[0] in ("+", "#"):
        return False
    for level, part in enumerate(wanted):
        if part == "#" and level == len(wanted) - 1:
            return len(given) > level or (parent and len(given) == level)
        if level >= len(given) or part not in ("+", given[level]):
            return False
    return len(wanted) == len(given)


def is_wildcard(pattern: str) -> bool:
    levels = pattern.split("/")
    return "+" in levels or levels[-1] == "#"


class AccessControl:
    """Checks requests against the policies in the caller's configuration. Without any, all is allowed."""

    def __init__(self, switches: Switches, thing_name: str) -> None:
        self._switches = switches
        self._thing_name = thing_name

    def check(self, policies: Mapping[str, Any] | None, service: str, operation: str, resource: str) -> None:
        """Raise UnauthorizedError unless one of the `policies` allows the operation on the resource."""
        if policies is None:
            return
        of_service = policies.get(service, {})
        if not self._is_readable(of_service) or not any(
            self._allows(policy, service, operation, resource) for policy in of_service.values()
        ):
            raise IpcError(UNAUTHORIZED, f"not authorized to perform {service}:{operation} on {resource}")

    def _is_readable(self, policies: Any) -> bool:
        return not self._switches.guarded or len(dump(policies)) <= LARGEST_POLICIES

    def _allows(self, policy: Mapping[str, Any], service: str, operation: str, resource: str) -> bool:
        if not {"*", f"aws.greengrass#{operation}"} & set(policy.get("operations", ())):
            return False
        return any(self._covers(one, resource, service) for one in policy.get("resources", ()))

    def _covers(self, allowed: str, resource: str, service: str) -> bool:
        if self._switches.lite:  # classic interpolates only where the nucleus is configured to
            allowed = allowed.replace("{iot:thingName}", self._thing_name)
        if re.fullmatch(_glob(allowed), resource):
            return True
        return service == MQTT_PROXY and _mqtt_covers(allowed, resource)


def _glob(allowed: str) -> str:
    """Make a regular expression of a resource: `*` is anything, `${*}` is the character."""
    parts = re.split(r"(\$\{[*?$]\}|\*)", allowed)
    return "".join(".*" if part == "*" else re.escape(_ESCAPE.sub(r"\1", part)) for part in parts)


def _mqtt_covers(allowed: str, resource: str) -> bool:
    """Tell whether a resource with MQTT wildcards covers a topic, or a filter that matches less."""
    wanted, given = allowed.split("/"), resource.split("/")
    for level, part in enumerate(wanted):
        if part == "#" and level == len(wanted) - 1:
            return True
        if level >= len(given) or (part != given[level] and (part != "+" or given[level] == "#")):
            return False
    return len(wanted) == len(given)
