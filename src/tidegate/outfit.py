"""The parts that an agent needs, and no others: what is not imported takes no memory."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING

from tidegate.carry.choice import DIRECT, STREAMS
from tidegate.config import CarrierChoice

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from tidegate.carry import Carrier
    from tidegate.carry.choice import Choice
    from tidegate.carry.direct import Direct, Throttle
    from tidegate.clock import Clock
    from tidegate.config import Config, Source
    from tidegate.ledger import Ledger
    from tidegate.restoring import Restoring


_FOLLOWED = {
    *("bandwidth", "time_zone", "log_level", "log_format", "file"),
    *("local_topics", "cloud_topics", "metrics", "metrics_namespace", "metrics_seconds"),
}


def is_followed(before: Config, after: Config) -> bool:
    """Whether an agent that runs follows the change; else a new one takes its place, on the same ledger."""
    own = _FOLLOWED
    if any(source.schedule for source in after.sources):  # cycles have to be told
        own = own - {"time_zone"}
    return replace(after, **{key: getattr(before, key) for key in own}) == before


def goes_on(before: Config, after: Config) -> bool:
    """Whether uploads under way may go on: under the same name, and with credentials from the same place."""
    return (before.thing, before.home) == (after.thing, after.home)


def with_port(config: Config, environment: Mapping[str, str]) -> Config:
    """Put in the port of Stream Manager that the environment names, where the configuration names none."""
    port = config.stream_manager.port or int(environment.get("STREAM_MANAGER_SERVER_PORT", "8088"))
    return replace(config, stream_manager=replace(config.stream_manager, port=port))


def carriers(  # noqa: PLR0913 - all that they stand on
    config: Config,
    posted: Sequence[Source],
    ledger: Ledger,
    chooser: Choice,
    environment: Mapping[str, str],
    *,
    thing: str,
    folder: Path,
    clock: Clock,
    jitter: Callable[[], float],
    throttle: Callable[[], Throttle],
    kept: Direct | None = None,
) -> dict[str, Carrier]:
    """Make them. `folder` is the work directory; `throttle` is asked for only where it is needed.

    What was `kept` from the agent before goes by the new configuration, and on with what it has.
    """
    made: dict[str, Carrier] = {}
    sources = (*config.sources, *posted)
    may_be_streams = [chooser.may_be_streams(source) for source in sources]
    if any(may_be_streams) or ledger.busy_lanes():
        from tidegate.carry.streams import Streams  # noqa: PLC0415 - brings the SDK along

        made[STREAMS] = Streams(
            config.stream_manager, ledger, links=folder / "links", steady=clock.steady, wall=clock.wall
        )
    if kept:
        kept.follow(sources, limit=config.max_concurrent)
        made[DIRECT] = kept
    elif any(source.carrier is not CarrierChoice.STREAM_MANAGER for source in sources):
        from tidegate.carry.direct import Direct, Terms, connect  # noqa: PLC0415 - needs a client of S3

        made[DIRECT] = Direct(
            sources,
            ledger,
            connect=lambda settings: connect(settings, environment, thing=thing),
            thing=thing,
            spool=folder / "spool",
            throttle=throttle(),
            limit=config.max_concurrent,
            annex=Terms() if len(os.sched_getaffinity(0)) > 1 else None,
            steady=clock.steady,
            jitter=jitter,
        )
    return made


def restoring(config: Config, folder: Path, environment: Mapping[str, str], clock: Clock) -> Restoring | None:
    """Make what brings objects back from archives, where the configuration allows it."""
    if config.restore is None:
        return None
    from tidegate.restoring import Restoring  # noqa: PLC0415 - few want it

    return Restoring(config.restore, folder, environment, clock)
