"""What is open before there is an agent: a component that cannot be configured is asked why, and says so."""

from __future__ import annotations

import contextlib
import logging
from typing import TYPE_CHECKING

from tidegate import workdir
from tidegate.clock import Clock
from tidegate.doors.house import House
from tidegate.errors import LedgerLost, Locked
from tidegate.routes import Routes, Unready

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from tidegate.config import Config
    from tidegate.ipc import Nucleus
    from tidegate.ledger import Ledger

log = logging.getLogger(__name__)


class Porch:
    """Opens at the first faults that it is told, not before: a good start needs none of it."""

    def __init__(self, nucleus: Nucleus, folder: Path, thing: Callable[[Config], str]) -> None:
        """`folder` is the work directory; `thing` says what this device is called."""
        self._nucleus = nucleus
        self._folder = folder
        self._thing = thing
        self._clock = Clock()
        self._since = self._clock.wall()
        self._routes: Routes | None = None
        self._house: House | None = None
        self._ledger: Ledger | None = None
        self._owned = contextlib.ExitStack()

    def tell(self, config: Config, faults: Sequence[str]) -> None:
        """Answer from now on that there are these faults, and tell an event, at the doors of `config`."""
        thing = self._thing(config)
        unready = Unready(thing=thing, since=self._since, faults=tuple(faults), clock=self._clock)
        if self._routes is None or self._house is None:
            self._routes = Routes(self._clock)
            self._routes.excuse(unready)
            self._house = House(self._routes, self._own(), self._nucleus, self._clock)
        self._routes.excuse(unready)
        if self._ledger:
            self._record(self._ledger, config, faults)
            self._house.tell(self._ledger.events)
        self._house.open(config, thing)
        self._house.wake()

    def close(self) -> None:
        """Leave all of it to the agent. Who asks before that has opened its doors hears nothing."""
        if self._house:
            self._house.close()
        if self._routes:
            self._routes.close()
        self._owned.close()

    def _own(self) -> Path | None:
        """Own the work directory, if nobody else does, and open its ledger: events are kept there."""
        try:
            self._owned.callback(workdir.Lock(self._folder).release)
        except (Locked, OSError) as err:
            log.warning("the work directory cannot be used yet: %s", err)
            return None
        with contextlib.suppress(LedgerLost, OSError):  # the agent says more of it, and can do without
            self._ledger = workdir.open_ledger(self._folder, jitter=float, in_memory=False)
            self._owned.callback(self._ledger.close)
        return self._folder

    def _record(self, ledger: Ledger, config: Config, faults: Sequence[str]) -> None:
        body = {"faults": list(faults), "count": len(faults)}
        ledger.events.switch(config.events)
        with contextlib.suppress(LedgerLost):  # whoever asks is told all the same
            ledger.events.record("configuration-rejected", body, now=self._clock.wall())
