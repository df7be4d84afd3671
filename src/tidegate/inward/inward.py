"""All that comes to this device, around one agent after the other."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tidegate.inward.plug import Plug

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from tidegate.carry.direct.throttle import Throttle
    from tidegate.clock import Clock
    from tidegate.config import Config
    from tidegate.fetch.connect import Downloads
    from tidegate.fetch.running import Running
    from tidegate.health import Health
    from tidegate.ledger import Ledger
    from tidegate.restoring import Restoring
    from tidegate.routes import Site

CLOSE_SECONDS = 1.5
"""For the step of a restore that is under way; nothing is lost by leaving it."""


class Inward:
    """Makes downloads, reads sockets, and keeps the one limit of bandwidth. Imports what is needed only."""

    def __init__(
        self,
        clock: Clock,
        health: Health,
        jitter: Callable[[], float],
        rate: Callable[[], float | None],
    ) -> None:
        """`rate` tells how many bytes a second may go now, both ways together; None: as many as can."""
        self._clock = clock
        self._health = health
        self._jitter = jitter
        self._rate = rate
        self._throttle: Throttle | None = None
        self._downloads: Downloads | None = None
        self._plugs: list[Plug] = []
        self._restoring: Restoring | None = None

    def throttle(self) -> Throttle:
        """Return what all of an agent's transfers share."""
        if self._throttle is None:
            from tidegate.carry.direct import Throttle  # noqa: PLC0415 - needs a client of S3

            self._throttle = Throttle(self._rate, self._clock.steady)
        return self._throttle

    def downloads(
        self, config: Config, ledger: Ledger, thing: str, environment: Mapping[str, str]
    ) -> Sequence[Running]:
        """Return the downloads of the next agent. Those that go on have the ledger and the name they had."""
        if not self._downloads:
            if not config.downloads:
                return ()
            from tidegate.fetch.connect import Downloads  # noqa: PLC0415 - needs a client of S3

            self._downloads = Downloads(
                ledger,
                self.throttle(),
                environment,
                thing=thing,
                clock=self._clock,
                jitter=self._jitter,
                tell=self._health.tell,
            )
        return self._downloads.follow(config)

    def open(self, site: Site) -> None:
        """Read the sockets from now on, for this agent, whose routes were told of it; and restore."""
        self._plugs = [
            Plug(settings, site, tell=self._health.tell, jitter=self._jitter)
            for settings in site.config.sockets
        ]
        site.agent.reporters |= {plug.name: plug.report for plug in self._plugs}
        for plug in self._plugs:
            plug.start()
        self._restoring = site.restoring
        if self._restoring:
            self._restoring.start(site.ledger.events)

    def close(self, *, goes_on: bool = False) -> None:
        """The agent ends. What was read is on the disk. Where another one `goes_on`, so do downloads."""
        if self._downloads and not goes_on:
            self._downloads.close()
            self._downloads = None
        if self._restoring:
            self._restoring.close(CLOSE_SECONDS)
            self._restoring = None
        for plug in self._plugs:
            plug.stop()
        for plug in self._plugs:
            plug.join()
        self._plugs = []
        if self._throttle and not goes_on:
            self._throttle.close()
            self._throttle = None
