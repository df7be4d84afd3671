"""The configuration of this device, and over it what the mothership may say of it.

What it may is for the local configuration to say: which keys, and below which folders. A configuration that
goes beyond that, or that is faulty, is refused whole, and the last good one stays.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol

from tidegate.config import ALLOWABLE, parse
from tidegate.config.file import merged
from tidegate.config.schema import entries
from tidegate.errors import ConfigFaults
from tidegate.home.words import CONFIGURED

if TYPE_CHECKING:
    from tidegate.config import Config, HomeSettings
    from tidegate.home.memory import Memory

_POLICIES = ("sources", "pathname")
_IN_SOURCES = {name.lower() for name in ALLOWABLE}
_BY_NAME = {"customizer"}
"""In a source, too, only where they are allowed by name: they bring code along."""

log = logging.getLogger(__name__)


class Local(Protocol):
    """Where the configuration of this device stands."""

    def load(self) -> dict[str, object]:
        """Read it. Raises ConfigFaults."""

    def changed(self) -> dict[str, object] | None:
        """Read it if it has changed. Raises ConfigFaults."""


class Overlay:
    """What the agent is to do, all taken together. Safe to use from any thread."""

    def __init__(self, local: Local, memory: Memory) -> None:
        self._source = local
        self._memory = memory
        self._lock = threading.Lock()
        self._local: dict[str, object] = {}
        self._news = False

    def load(self) -> dict[str, object]:
        """Read it as it is now. Raises ConfigFaults if the local part is faulty."""
        with self._lock:
            self._local = self._source.load()
            return self._whole()

    def changed(self) -> dict[str, object] | None:
        """Return it if either part has changed since it was last asked for. Raises ConfigFaults."""
        with self._lock:
            local = self._source.changed()
            if local is not None:
                self._local = local
            if local is None and not self._news:
                return None
            self._news = False
            return self._whole()

    def offer(self, rev: int | str | None, config: Mapping[str, Any]) -> None:
        """Use this from now on. Raises ConfigFaults if it may not be, and OSError if it cannot be kept."""
        with self._lock:
            self._checked(config)
            self._memory.keep_config(rev, dict(config))
            self._news = True

    def touch(self) -> None:
        """What counts may have changed: whether policies may run."""
        with self._lock:
            self._news = True

    @property
    def is_news(self) -> bool:
        """Whether the agent has not yet taken what was offered."""
        return self._news

    def shown(self) -> dict[str, object]:
        """Return what holds, for a report: nothing of tokens, and of the mothership itself."""
        with self._lock:
            return {name: value for name, value in self._whole().items() if name.lower() != "home"}

    def _whole(self) -> dict[str, object]:
        """Put it together. Without `configured` there are no policies, wherever they stand."""
        found = self._local
        if self._memory.config is not None:
            try:
                found = self._checked(self._memory.config)
            except ConfigFaults as err:  # the local part has changed
                log.error("what the mothership configured is not used any more: %s", "; ".join(err.faults))  # noqa: TRY400
        if self._memory.state != CONFIGURED:
            found = {name: value for name, value in found.items() if name.lower() not in _POLICIES}
        return found

    def _checked(self, config: Mapping[str, Any]) -> dict[str, object]:
        """Return both together. Raises ConfigFaults."""
        before = parse(self._local)
        if before.home is None:
            raise ConfigFaults(["Home: is not given any more; a restart ends the calls"])
        if faults := forbidden(config, before.home):
            raise ConfigFaults(faults)
        whole = merged(self._local, {str(name): value for name, value in config.items()})
        if faults := outside(config, before, parse(whole)):
            raise ConfigFaults(faults)
        return whole


def forbidden(config: Mapping[str, Any], settings: HomeSettings) -> list[str]:
    """Say which keys a mothership may not set."""
    faults = [
        f"{name}: may not be set from afar; Home.Allow on the device does not name it"
        for name in map(str, config)  # also one that is only to be as if it were not there
        if name.lower() not in settings.allow
    ]
    for name, value in config.items():
        if name.lower() == "sources" and isinstance(value, Mapping):
            for source, keys in value.items():
                faults += [
                    f"Sources.{source}.{key}: may not be set from afar"
                    for key in (keys if isinstance(keys, Mapping) else ())
                    if str(key).lower() not in _IN_SOURCES
                    or (str(key).lower() in _BY_NAME and str(key).lower() not in settings.allow)
                ]
    return faults


def outside(config: Mapping[str, Any], before: Config, after: Config) -> list[str]:
    """Say which folders lie outside those that a mothership may send files of, or move them to.

    That holds for every source that it says anything of, and for all that its other keys have changed.
    """
    assert before.home
    roots = before.home.roots
    local = {source.name: source for source in before.sources}
    named = {name.lower(): value for name, value in entries(config, "", [])}.get("sources")
    touched = {str(name).lower() for name in named} if isinstance(named, Mapping) else set()
    faults = []
    for source in after.sources:
        mine = None if source.name.lower() in touched else local.get(source.name)
        root, move_to = source.glob.root, source.move_to
        if (mine is None or mine.glob.root != root) and not _is_in(root, roots):
            faults.append(f"Sources.{source.name}.PathName: {root} is in none of Home.Roots")
        if move_to and (mine is None or mine.move_to != move_to) and not _is_in(move_to, roots):
            faults.append(f"Sources.{source.name}.MoveTo: {move_to} is in none of Home.Roots")
    return faults


def _is_in(folder: str, roots: tuple[str, ...]) -> bool:
    """Whether a folder is below a root, also where links lead."""
    real = os.path.realpath(folder)
    return any(
        f"{folder}/".startswith(f"{root}/") and f"{real}/".startswith(f"{os.path.realpath(root)}/")
        for root in roots
    )
