"""From the configuration and the environment to all downloads of an agent."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from tidegate.carry.direct.connect import way_to
from tidegate.fetch.download import Downloader
from tidegate.store.calls import Caller
from tidegate.store.library import Library

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from tidegate.carry.direct.throttle import Throttle
    from tidegate.clock import Clock
    from tidegate.config import Config
    from tidegate.ledger import Ledger


def downloaders(
    config: Config,
    ledger: Ledger,
    environment: Mapping[str, str],
    *,
    thing: str,
    throttle: Throttle,
    clock: Clock,
    jitter: Callable[[], float],
) -> list[Downloader]:
    """Make them. Together they bring at most MaxConcurrent objects at a time."""
    slots = threading.BoundedSemaphore(config.max_concurrent)
    made = []
    for settings in config.downloads:
        endpoint, keyring, manner = way_to(settings.s3, environment, thing=thing)
        library = Library(Caller(endpoint, keyring, manner=manner, clock=clock.wall))
        made.append(
            Downloader(
                settings,
                ledger,
                library=library,
                throttle=throttle,
                slots=slots,
                hands=config.max_concurrent,
                clock=clock,
                jitter=jitter,
            )
        )
    return made
