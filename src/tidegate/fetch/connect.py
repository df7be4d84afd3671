"""From the configuration and the environment to all downloads, and on from one configuration to the next."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from tidegate.carry.direct.connect import way_to
from tidegate.fetch.download import Downloader
from tidegate.fetch.running import Running
from tidegate.store.calls import Caller
from tidegate.store.library import Library

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from tidegate.carry.direct.throttle import Throttle
    from tidegate.clock import Clock
    from tidegate.config import Config, Download
    from tidegate.ledger import Ledger

END_SECONDS = 1.5
"""For the rounds that are to end. Nothing is lost by leaving them."""


class Downloads:
    """All that run. Together they bring at most MaxConcurrent objects at a time."""

    def __init__(
        self,
        ledger: Ledger,
        throttle: Throttle,
        environment: Mapping[str, str],
        *,
        thing: str,
        clock: Clock,
        jitter: Callable[[], float],
        tell: Callable[[str, Exception | None], None],
    ) -> None:
        """`tell` hears of troubles, by the parts that have them, and None when there are none."""
        self._ledger = ledger
        self._throttle = throttle
        self._environment = environment
        self._thing = thing
        self._clock = clock
        self._jitter = jitter
        self._tell = tell
        self._running: dict[str, Running] = {}
        self._limit = 0
        self._slots = threading.BoundedSemaphore()

    def follow(self, config: Config) -> Sequence[Running]:
        """Return those of this configuration. Those that are as before run on, and the others end."""
        wanted = {it.name: it for it in config.downloads}
        if config.max_concurrent != self._limit:
            over, self._running = list(self._running.values()), {}
            self._limit = config.max_concurrent
            self._slots = threading.BoundedSemaphore(self._limit)
        else:
            over = [it for it in self._running.values() if wanted.get(it.name) != it.settings]
        self._end(over)
        before = {name: it for name, it in self._running.items() if it not in over}
        self._running = {name: before.get(name) or self._make(it) for name, it in wanted.items()}
        return list(self._running.values())

    def close(self) -> None:
        """End all of them."""
        self._end(self._running.values())
        self._running = {}

    def _end(self, over: Iterable[Running]) -> None:
        end = self._clock.steady() + END_SECONDS
        for it in over:
            it.stop()
        for it in over:
            it.join(end - self._clock.steady())

    def _make(self, settings: Download) -> Running:
        endpoint, keyring, manner = way_to(settings.s3, self._environment, thing=self._thing)
        downloader = Downloader(
            settings,
            self._ledger,
            library=Library(Caller(endpoint, keyring, manner=manner, clock=self._clock.wall)),
            throttle=self._throttle,
            slots=self._slots,
            hands=self._limit,
            clock=self._clock,
            jitter=self._jitter,
        )
        return Running(downloader, self._tell)
