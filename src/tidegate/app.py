"""Puts an agent together and keeps it going: the only place that reads the environment.

What no loop can mend is mended here by starting them anew around another ledger: a damaged ledger is
set aside, and while the disk of the ledger is full the agent goes on with one in memory. Delivery is
what frees a disk, so it must not wait for room.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import os
import random
import shutil
import signal
import socket
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from tidegate import workdir
from tidegate.agent import Agent
from tidegate.carry.choice import DIRECT, STREAMS, Choice
from tidegate.clock import Clock
from tidegate.config import CarrierChoice, parse
from tidegate.disk.writers import ignore_lease_signals
from tidegate.errors import ConfigFaults, LedgerLost
from tidegate.health import Health
from tidegate.logs import set_up
from tidegate.view.snapshot import write

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tidegate.carry import Carrier
    from tidegate.config import Config
    from tidegate.ledger import Ledger

GRACE_SECONDS = 3.0
"""For the steps under way when a stop is asked; Greengrass kills after 5."""

SNAPSHOT_SECONDS = 1.0
MEMORY_SECONDS = 60.0
ROOM_BYTES = 16 * 2**20
"""Free space at which a ledger in memory goes back to the disk."""

UNAVAILABLE_SECONDS = 15.0
"""How long a single pass waits for a carrier that is away, before it gives up."""

_NUCLEUS = "AWS_GG_NUCLEUS_DOMAIN_SOCKET_FILEPATH_FOR_COMPONENT"

_LIVE = ("bandwidth", "time_zone", "log_level", "log_format")
"""Settings that a running agent follows; for the others a new one takes its place, around the same ledger."""

log = logging.getLogger(__name__)


def thing_name(config: Config) -> str:
    """Return the name of this device: configured, else Greengrass's, else the host's."""
    return config.thing or os.environ.get("AWS_IOT_THING_NAME") or socket.gethostname()


def in_greengrass() -> bool:
    """Whether a nucleus has started us."""
    return _NUCLEUS in os.environ


def choice(config: Config, clock: Clock) -> Choice:
    """Make what decides how files go."""
    return Choice(_with_port(config), in_greengrass=in_greengrass(), steady=clock.steady)


def own_folders(config: Config, folder: Path) -> frozenset[str]:
    """Return the folders that are never scanned: the work directory and where stored files are moved."""
    moved = [source.move_to for source in config.sources if source.move_to]
    return frozenset([os.path.abspath(folder), *moved])  # noqa: PTH100 - names, not links


def nucleus_access() -> tuple[str, str] | None:
    """Return the path of the nucleus' socket and our token for it; None where no nucleus has started us."""
    path, token = os.environ.get(_NUCLEUS), os.environ.get("SVCUID")
    return (path, token) if path and token else None


def default_work_dir() -> Path:
    """Return $TIDEGATE_WORK_DIR, in Greengrass the component's own folder, else one in the user's home."""
    if folder := os.environ.get("TIDEGATE_WORK_DIR"):
        return Path(folder)
    if in_greengrass():
        return Path.cwd()
    return Path.home() / ".local" / "state" / "tidegate"


class Watched(Protocol):
    """Where the configuration comes from."""

    def changed(self) -> Mapping[str, object] | None:
        """Return it if it has changed since it was last looked at; else None. Soon.

        Raises ConfigFaults, which leaves the last good one in use. Anything else ends the agent in good
        order, and comes out of `App.run`.
        """


class App:
    """An agent for one work directory. `run` returns its exit code."""

    def __init__(
        self,
        config: Config,
        folder: Path,
        *,
        raw: Mapping[str, object],
        watched: Watched | None = None,
        once: bool = False,
        timeout: float | None = None,
    ) -> None:
        """`raw` is what `config` was parsed from; what is `watched` for changes brings the next ones."""
        self._watched = watched
        self._raw = raw
        self._config = _with_port(config)
        self._folder = folder
        self._once = once
        self._timeout = timeout
        self._clock = Clock()
        self._health = Health(self._clock.wall)
        self._stopping = threading.Event()
        self._agent: Agent | None = None

    def run(self) -> int:
        """Run until told to stop (or, with `once`, until all is settled). Raises `Locked`."""
        lock = workdir.Lock(self._folder)
        self._keep_configuration()
        ignore_lease_signals()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: self.stop())
        signal.signal(signal.SIGHUP, lambda *_: self._agent.scan_now() if self._agent else None)
        try:
            in_memory = False
            while True:
                try:
                    code = self._run_agent(in_memory=in_memory)
                except LedgerLost as err:
                    in_memory = self._mend(err)
                    continue
                if code is not None:
                    return code
                in_memory = False
        finally:
            lock.release()

    def stop(self) -> None:
        """Ask it to end. Nothing is lost by it."""
        self._stopping.set()
        if self._agent:
            self._agent.woken.set()

    def _mend(self, error: LedgerLost) -> bool:
        """Make room for a new ledger. Tells whether it has to be in memory."""
        if error.damaged:
            workdir.set_aside(self._folder, str(error))
            return False
        log.error(
            "the ledger cannot be written (%s): going on without it for %.0f seconds at a time;"
            " what is under way may be sent twice, nothing is lost",
            error,
            MEMORY_SECONDS,
        )
        return True

    def _run_agent(self, *, in_memory: bool) -> int | None:
        """Run one agent. Returns the exit code, or None to go on with another. Raises `LedgerLost`."""
        ledger = workdir.open_ledger(self._folder, jitter=random.random, in_memory=in_memory)
        chooser = choice(self._config, self._clock)
        carriers = self._carriers(chooser, ledger)
        agent = self._agent = Agent(
            self._config,
            ledger,
            carriers,
            choose=lambda source: chooser.of(source)[0],
            thing=thing_name(self._config),
            never=own_folders(self._config, self._folder),
            lists=self._folder / "evicted",
            clock=self._clock,
            health=self._health,
            once=self._once,
        )
        try:
            agent.start()
            code = self._watch_over(agent, in_memory=in_memory)
        finally:
            if not agent.stop(GRACE_SECONDS):
                log.warning("some steps did not end in time; the next start takes up what they left")
            for carrier in carriers.values():
                carrier.close()
            self._write_snapshot(agent, in_memory=in_memory)
            ledger.close()
        if agent.lost and code is None:
            raise agent.lost
        return code

    def _carriers(self, chooser: Choice, ledger: Ledger) -> dict[str, Carrier]:
        """Make those that are needed: what is not imported takes no memory."""
        carriers: dict[str, Carrier] = {}
        may_be_streams = [chooser.may_be_streams(source) for source in self._config.sources]
        if any(may_be_streams) or ledger.busy_lanes():
            from tidegate.carry.streams import Streams  # noqa: PLC0415 - brings the SDK along

            carriers[STREAMS] = Streams(
                self._config.stream_manager,
                ledger,
                links=self._folder / "links",
                steady=self._clock.steady,
                wall=self._clock.wall,
            )
        if any(source.carrier is not CarrierChoice.STREAM_MANAGER for source in self._config.sources):
            from tidegate.carry.direct import Direct, Throttle, connect  # noqa: PLC0415 - needs a client of S3

            thing = thing_name(self._config)
            carriers[DIRECT] = Direct(
                self._config.sources,
                ledger,
                connect=lambda settings: connect(settings, os.environ, thing=thing),
                thing=thing,
                spool=self._folder / "spool",
                throttle=Throttle(self._bandwidth, self._clock.steady),
                workers=self._config.max_concurrent,
                steady=self._clock.steady,
                jitter=random.random,
            )
        return carriers

    def _bandwidth(self) -> float | None:
        """How many bytes per second may be sent now; None: as many as go."""
        limit = self._config.bandwidth
        return limit.at(self._clock.wall(), self._config.time_zone) if limit else None

    def _watch_over(self, agent: Agent, *, in_memory: bool) -> int | None:
        began = self._clock.steady()
        written = float("-inf")
        while True:
            agent.woken.wait(SNAPSHOT_SECONDS)
            agent.woken.clear()
            if self._clock.steady() - written >= SNAPSHOT_SECONDS:
                self._write_snapshot(agent, in_memory=in_memory)
                written = self._clock.steady()
            if agent.lost:
                return None
            if self._stopping.is_set():
                return 0
            if self._is_reconfigured():
                return None
            if self._once and (code := self._verdict(agent, began)) is not None:
                return code
            if in_memory and self._clock.steady() - began > MEMORY_SECONDS:
                if shutil.disk_usage(self._folder).free > ROOM_BYTES:
                    log.warning("there is room again: going back to the ledger on disk")
                    return None
                began = self._clock.steady()

    def _is_reconfigured(self) -> bool:
        """Take over what was changed in the configuration. Tells whether that needs another agent."""
        try:
            raw = self._watched.changed() if self._watched else None
            config = None if raw is None else _with_port(parse(raw))
        except ConfigFaults as err:
            for sentence in err.faults:
                log.error("the changed configuration is not used, the last good one is: %s", sentence)  # noqa: TRY400
            return False
        if raw is None or config is None or config == self._config:
            return False
        before, self._raw, self._config = self._config, raw, config
        self._keep_configuration()
        set_up(config.log_level, config.log_format)
        log.warning("the configuration has changed, and is used from now on")
        return dataclasses.replace(config, **{key: getattr(before, key) for key in _LIVE}) != before

    def _keep_configuration(self) -> None:
        with contextlib.suppress(OSError):  # a full disk must not stop delivery
            workdir.keep_configuration(self._folder, self._raw)

    def _verdict(self, agent: Agent, began: float) -> int | None:
        """The exit code of a single pass; None while it is not over."""
        if agent.is_settled():
            return 1 if agent.failed() else 4 if agent.held() else 0
        if self._timeout is not None and self._clock.steady() - began > self._timeout:
            log.error("not everything was settled within %.0f seconds", self._timeout)
            return 5
        now, passed = self._clock.wall(), self._clock.steady() - began
        for trouble in agent.troubles().values():
            if min(now - trouble.since, passed) > UNAVAILABLE_SECONDS:  # an old one may have been mended
                log.error("given up: %s", trouble.reason)
                return 5
        return None

    def _write_snapshot(self, agent: Agent, *, in_memory: bool) -> None:
        snapshot = dataclasses.replace(agent.snapshot(), ledger="memory" if in_memory else "disk")
        with contextlib.suppress(OSError):  # a full disk must not stop delivery
            write(snapshot, self._folder)


def _with_port(config: Config) -> Config:
    port = config.stream_manager.port or int(os.environ.get("STREAM_MANAGER_SERVER_PORT", "8088"))
    return dataclasses.replace(config, stream_manager=dataclasses.replace(config.stream_manager, port=port))
