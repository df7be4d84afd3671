"""The configurations of the components, as a deployment and as IPC read and change them."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

from tests.standins.nucleus.limits import (
    LARGEST_VALUE,
    MOST_OBJECTS,
    MOST_OBJECTS_ON_BUS,
    dump,
    objects,
    with_floats,
)
from tests.standins.nucleus.switches import INVALID_ARGUMENTS, NOT_FOUND, OUTDATED, IpcError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from tests.standins.nucleus.switches import Switches

Path = tuple[str, ...]

_FAILED = "Failed to update the configuration."


class Configuration:
    """A tree for each component, with the time at which each leaf was written.

    `notify` is called with the component and the path of each leaf that changes.
    """

    def __init__(self, switches: Switches, notify: Callable[[str, Path], None]) -> None:
        self._switches = switches
        self._notify = notify
        self._trees: dict[str, dict[str, Any]] = {}
        self._stamps: dict[tuple[str, Path], float] = {}

    def whole(self, component: str) -> dict[str, Any]:
        """Copy the tree of a component; {} if nobody has heard of it."""
        return copy.deepcopy(self._trees.get(component, {}))

    def policies(self, component: str) -> Mapping[str, Any] | None:
        return self._trees.get(component, {}).get("accessControl")

    def get(self, component: str, path: Sequence[str]) -> dict[str, Any]:
        """Answer GetConfiguration: a map as it is, anything else as the only value of a map."""
        value = self.find(component, path)
        if not isinstance(value, dict):
            value = {path[-1]: value}
        if self._switches.guarded and objects(value) > MOST_OBJECTS:
            raise IpcError
        return with_floats(value) if self._switches.with_floats else value

    def find(self, component: str, path: Sequence[str]) -> Any:
        """Return the live value; ResourceNotFoundError if there is none."""
        node: Any = self._trees.get(component)
        for key in path:
            node = node.get(self._spelling(node, key)) if isinstance(node, dict) else None
        if node is None and not self._is_null(component, path):
            raise IpcError(NOT_FOUND, "Key not found")
        return node

    def update(self, component: str, path: Sequence[str], value: Any, stamp: float) -> None:
        """Do UpdateConfiguration: merge, but never over what is newer than `stamp`, in seconds since 1970."""
        if "accessControl" in (path[:1] or value):
            raise IpcError(
                INVALID_ARGUMENTS, "Config update is not allowed for following field [accessControl]"
            )
        if self._switches.lite:
            self.merge(component, path, value, stamp)
            return
        try:
            here = self.find(component, path)
        except IpcError:
            here = {}
        if not isinstance(here, dict):
            raise IpcError(INVALID_ARGUMENTS, f"{list(path)} is not a container")
        self.merge(component, path, value, stamp)
        if stamp < self._newest(component, tuple(path)):
            raise IpcError(
                OUTDATED, "Proposed timestamp is older than the config's latest modified timestamp"
            )

    def merge(self, component: str, path: Sequence[str], value: Any, stamp: float) -> None:
        """Merge maps deeply and replace everything else. On lite, what was done before an error stays."""
        if self._switches.guarded and 9 + len(path) + objects(value) > MOST_OBJECTS_ON_BUS:
            raise IpcError(message=_FAILED)
        self._trees.setdefault(component, {})
        self._write(component, tuple(path), value, stamp)

    def reset(self, component: str, pointer: str) -> Path:
        """Remove what a JSON pointer names, the whole tree for "", and return its path.

        Lite tells nobody; classic tells those who watch it.
        """
        path = tuple(pointer.split("/")[1:])
        if path:
            parent = self.find(component, path[:-1])
            parent.pop(self._spelling(parent, path[-1]), None)
        else:
            self._trees[component] = {}
        for known in [key for key in self._stamps if key[0] == component and key[1][: len(path)] == path]:
            del self._stamps[known]
        if not self._switches.lite:
            self._notify(component, path)
        return path

    def _write(self, component: str, path: Path, value: Any, stamp: float) -> None:
        if isinstance(value, dict) and (value or not path):
            for key, one in value.items():
                self._write(component, (*path, key), one, stamp)
            return
        parent = self._parent(component, path)
        key = self._spelling(parent, path[-1])
        known, there = key in parent, parent.get(key)
        if self._switches.lite and known and isinstance(there, dict) != isinstance(value, dict):
            raise IpcError(message=_FAILED)
        if value == {}:
            if not isinstance(there, dict):
                parent[key] = {}
            return
        if self._switches.guarded and len(dump(value)) > LARGEST_VALUE:
            raise IpcError(message=_FAILED)
        if stamp < self._stamps.get((component, path), 0.0):
            return
        self._stamps[component, path] = stamp
        parent[key] = copy.deepcopy(value)
        if not known or dump(there) != dump(value):
            self._notify(component, path)

    def _parent(self, component: str, path: Path) -> dict[str, Any]:
        """Find the map that holds the last key of a path, and make what is missing on the way."""
        node = self._trees[component]
        for key in path[:-1]:
            spelling = self._spelling(node, key)
            if not isinstance(node.get(spelling), dict):
                if self._switches.lite and spelling in node:
                    raise IpcError(message=_FAILED)
                node[spelling] = {}
            node = node[spelling]
        return node

    def _spelling(self, node: Mapping[str, Any], key: str) -> str:
        """Find a key as it was written first: classic does not tell cases apart."""
        if self._switches.lite:
            return key
        return next((known for known in node if known.lower() == key.lower()), key)

    def _is_null(self, component: str, path: Sequence[str]) -> bool:
        return (component, tuple(path)) in self._stamps

    def _newest(self, component: str, path: Path) -> float:
        return max(
            (
                at
                for (name, leaf), at in self._stamps.items()
                if name == component and leaf[: len(path)] == path
            ),
            default=0.0,
        )
