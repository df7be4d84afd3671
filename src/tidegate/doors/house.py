"""All doors of one process: opened as the configuration says, for whichever agent runs just now."""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING, Protocol

from tidegate.doors.core import Core
from tidegate.doors.desk import Desk
from tidegate.doors.line import Cloud, Local
from tidegate.doors.metrics import MetricsDoor
from tidegate.doors.outbox import EventsDoor
from tidegate.doors.topics import CLOUD_PACE, DEEP_ROUTES, LOCAL_PACE, ROUTES, TopicDoor
from tidegate.doors.unix import SocketDoor
from tidegate.routes.board import look

if TYPE_CHECKING:
    from pathlib import Path

    from tidegate.clock import Clock
    from tidegate.config import Config, HomeSettings
    from tidegate.doors.desk import Handler
    from tidegate.doors.door import Door
    from tidegate.doors.line import Line
    from tidegate.doors.outbox import Outbox
    from tidegate.ipc import Nucleus
    from tidegate.routes import Site
    from tidegate.routes.board import Picture

CLOSE_SECONDS = 0.5
"""For each door to end. A nucleus that is silent may hold one up; nothing is lost by leaving it."""


log = logging.getLogger(__name__)


class Calls(Protocol):
    """Calls a mothership: see `tidegate.home.Home`."""

    def follow(self, settings: HomeSettings) -> None:
        """Go by these; the first time, begin."""

    def serve(self, site: Site | None) -> None:
        """Tell of this agent."""

    def close(self, seconds: float) -> None:
        """End, within so many seconds."""


class House:
    """The doors. Without a nucleus there is only the socket."""

    def __init__(
        self,
        handler: Handler,
        folder: Path | None,
        nucleus: Nucleus | None,
        clock: Clock,
        home: Calls | None = None,
    ) -> None:
        """Open the socket in the work directory, `folder`, if it is ours alone. `home` calls a mothership."""
        self._home = home
        self._nucleus = nucleus
        self._clock = clock
        self._site: Site | None = None
        self._outbox: Outbox | None = None
        self._lock = threading.Lock()  # while it is held, nobody closes what is looked at
        self._desk = Desk(handler)
        self._bases: dict[str, str] = {}
        self._topics: list[TopicDoor] = []
        self._events: EventsDoor | None = None
        self._metrics: tuple[tuple[str, float], MetricsDoor] | None = None
        self._socket: SocketDoor | None = None
        self._core = nucleus and Core(Cloud(nucleus), self._desk, self._look, clock.steady)
        try:
            self._socket = SocketDoor(folder, self._desk) if folder else None
        except OSError as err:  # some file systems have none; everything else works
            log.warning("commands cannot reach this agent: %s has no socket: %s", folder, err)

    def open(self, config: Config, thing: str) -> None:
        """Have those doors open that are configured; those that stay as they are notice nothing."""
        if self._home and config.home:
            self._home.follow(config.home)
        if self._nucleus is None:
            return
        if self._core:
            self._core.open(config, thing, CLOSE_SECONDS)
        lines: tuple[tuple[Line, str | None], ...] = (
            (Local(self._nucleus), config.local_topics),
            (Cloud(self._nucleus), config.cloud_topics),
        )
        wanted = [(line, base.replace("{thing}", thing)) for line, base in lines if base]
        if self._bases != {line.name: base for line, base in wanted}:
            self._close_topics()
            self._open_topics(wanted)
        figures = (config.metrics_namespace, config.metrics_seconds) if config.metrics else None
        if figures != (self._metrics and self._metrics[0]):
            self._close_metrics()
            if figures:
                door = MetricsDoor(
                    self._nucleus.publish_json, self._look, namespace=figures[0], seconds=figures[1]
                )
                door.start()
                self._metrics = figures, door

    def serve(self, site: Site | None) -> None:
        """Tell the events of this agent. With None, what belonged to the one before is not used any more."""
        with self._lock:
            self._site = site
        if self._home:
            self._home.serve(site)
        self.tell(site.ledger.events if site else None)

    def tell(self, outbox: Outbox | None) -> None:
        """Tell the events that are there. With None, what was told of before may be closed afterwards."""
        self._outbox = outbox
        if self._events:
            self._events.serve(outbox)

    def wake(self) -> None:
        """Try again soon what was refused: a deployment may have given us the right to it."""
        for door in self._topics:
            door.wake()
        if self._events:
            self._events.wake()
        if self._core:
            self._core.wake()

    def close(self) -> None:
        """Close all of them."""
        if self._home:
            self._home.close(CLOSE_SECONDS)
        if self._socket:
            self._socket.close()
        if self._core:
            self._core.close(CLOSE_SECONDS)
        self._close_metrics()
        self._close_topics()
        self._desk.close()

    def _open_topics(self, wanted: list[tuple[Line, str]]) -> None:
        self._events = EventsDoor(wanted, steady=self._clock.steady)
        self._events.serve(self._outbox)
        self._events.start()
        for line, base in wanted:
            pace = LOCAL_PACE if isinstance(line, Local) else CLOUD_PACE
            self._bases[line.name] = base
            self._topics += [
                TopicDoor(line, base, self._desk, pace=pace, steady=self._clock.steady, routes=routes)
                for routes in (ROUTES, DEEP_ROUTES)
            ]
        for door in self._topics:
            door.start()

    def _close_topics(self) -> None:
        doors: list[Door] = [*self._topics]
        if self._events:
            self._events.serve(None)
            doors.append(self._events)
        for door in doors:
            door.stop()
        for door in doors:
            door.join(CLOSE_SECONDS)
        self._topics.clear()
        self._bases.clear()
        self._events = None

    def _close_metrics(self) -> None:
        if self._metrics:
            self._metrics[1].stop()
            self._metrics[1].join(CLOSE_SECONDS)
        self._metrics = None

    def _look(self) -> Picture | None:
        with self._lock:
            return look(self._site, ()) if self._site else None
