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

from tidegate import interpreter, outfit, workdir
from tidegate.agent import Agent
from tidegate.carry.choice import Choice
from tidegate.clock import Clock
from tidegate.config import parse
from tidegate.customize.connect import namers
from tidegate.disk.writers import ignore_lease_signals
from tidegate.doors import House
from tidegate.errors import ConfigFaults, LedgerLost, Locked, NucleusGone
from tidegate.ground import Ground
from tidegate.health import Health
from tidegate.inward import Inward, socket_ways
from tidegate.logs import set_up
from tidegate.loop import obey
from tidegate.routes import Routes, Site, posted_sources
from tidegate.view.snapshot import write

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tidegate.config import Config, Source
    from tidegate.customize import Namers
    from tidegate.home import Home
    from tidegate.ipc import Nucleus

GRACE_SECONDS = 3.0
"""For the steps under way when a stop is asked; Greengrass kills after 5."""

SNAPSHOT_SECONDS = 1.0
MEMORY_SECONDS = 60.0
ROOM_BYTES = 16 * 2**20
"""Free space at which a ledger in memory goes back to the disk."""

PATIENCE_SECONDS = 15.0
"""Between two attempts to use a work directory that is taken, or cannot be used."""

UNAVAILABLE_SECONDS = 15.0
"""How long a single pass waits for a carrier that is away, before it gives up."""

_NUCLEUS = "AWS_GG_NUCLEUS_DOMAIN_SOCKET_FILEPATH_FOR_COMPONENT"

log = logging.getLogger(__name__)


def thing_name(config: Config) -> str:
    """Return the name of this device: configured, else Greengrass's, else the host's."""
    return config.thing or os.environ.get("AWS_IOT_THING_NAME") or socket.gethostname()


def environment() -> Mapping[str, str]:
    """Return what the environment says of AWS, proxies and credentials."""
    return os.environ


def in_greengrass() -> bool:
    """Whether a nucleus has started us."""
    return _NUCLEUS in os.environ


def choice(config: Config, clock: Clock) -> Choice:
    """Make what decides how files go."""
    return Choice(outfit.with_port(config, os.environ), in_greengrass=in_greengrass(), steady=clock.steady)


def lookers(config: Config, folder: Path, clock: Clock) -> Namers:
    """Make what says what files are called, without a change to the work directory."""
    return namers(folder, os.environ, thing=thing_name(config), wall=clock.wall, only_look=True)


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
        return workdir.as_folder(folder)
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

    def __init__(  # noqa: PLR0913 - all that it stands on
        self,
        config: Config,
        folder: Path,
        *,
        raw: Mapping[str, object],
        watched: Watched | None = None,
        nucleus: Nucleus | None = None,
        home: Home | None = None,
        faults: Sequence[str] = (),
        once: bool = False,
        timeout: float | None = None,
    ) -> None:
        """`raw` is what `config` was parsed from; what is `watched` for changes brings the next ones.

        `faults` are those of a newer one that cannot be used. With a `nucleus` there are topics to ask on.
        """
        self._watched = watched
        self._nucleus = nucleus
        self._home = home
        self._faults = faults
        self._raw = raw
        self._config = outfit.with_port(config, os.environ)
        self._folder = folder
        self._once = once
        self._timeout = timeout
        self._clock = Clock()
        self._health = Health(self._clock.wall)
        self._inward = Inward(self._clock, self._health, random.random, self._bandwidth)
        self._routes = Routes(self._clock)
        self._mended = False
        self._ground: Ground | None = None
        self._goes_on = False
        self._is_changed = False
        self._stopping = threading.Event()
        self._agent: Agent | None = None
        self._doors: House | None = None
        self._site_now: Site | None = None
        if nucleus:
            nucleus.busy = lambda: self._agent is not None and self._agent.is_releasing

    def run_patiently(self) -> int:
        """Run as a component: wait for a work directory that is taken or cannot be used, and say so.

        A nucleus gives up a component that ends three times in an hour. Raises `NucleusGone`.
        """
        said = ""
        while not self._stopping.is_set():
            try:
                return self.run()
            except (Locked, OSError) as err:
                if said != (said := str(err)):
                    log.error("waiting for the work directory: %s", err)  # noqa: TRY400
            if self._nucleus and (reason := self._nucleus.lost):
                raise NucleusGone(reason)
            self._stopping.wait(PATIENCE_SECONDS)
        return 0

    def run(self) -> int:
        """Run until told to stop (or, with `once`, until all is settled). Raises `Locked`."""
        interpreter.take_short_turns()
        obey({signal.SIGTERM: self.stop, signal.SIGINT: self.stop, signal.SIGHUP: self._look})
        lock = workdir.Lock(self._folder)
        try:
            self._keep_configuration()
            ignore_lease_signals()
            self._doors = House(self._routes, self._folder, self._nucleus, self._clock, self._home)
            in_memory = False
            while True:
                try:
                    code = self._run_agent(in_memory=in_memory)
                except LedgerLost as err:
                    in_memory = self._mend(err)
                    self._mended = True
                    continue
                if code is not None:
                    return code
                in_memory = False
        finally:
            self._routes.give_up()
            if self._doors:
                self._doors.close()
                self._doors = None
            lock.release()

    def stop(self) -> None:
        """Ask it to end. Nothing is lost by it."""
        self._stopping.set()
        if self._agent:
            self._agent.woken.set()

    def _look(self) -> None:
        if self._agent:
            self._agent.scan_now()

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
        ground = self._ground or Ground(self._folder, jitter=random.random, in_memory=in_memory)
        self._ground, self._goes_on = ground, False
        try:
            return self._run_on(ground)
        finally:
            if not self._goes_on:
                ground.close()
                self._ground = None

    def _run_on(self, ground: Ground) -> int | None:
        self._tell_of_change()  # now that the agent of the one before has ended
        ledger = ground.ledger
        chooser = choice(self._config, self._clock)
        kept = ground.direct
        carriers = ground.carriers = outfit.carriers(
            self._config,
            self._posted,
            ledger,
            chooser,
            self._environ,
            thing=thing_name(self._config),
            folder=self._folder,
            clock=self._clock,
            jitter=random.random,
            throttle=self._inward.throttle,
            kept=kept,
        )
        agent = self._agent = Agent(
            self._config,
            ledger,
            carriers,
            choose=lambda source: chooser.of(source)[0],
            thing=thing_name(self._config),
            never=own_folders(self._config, self._folder),
            lists=self._folder / "evicted",
            posted=self._posted,
            downloads=self._inward.downloads(self._config, ledger, thing_name(self._config), self._environ),
            archives=workdir.archives_path(self._folder),
            namers=namers(self._folder, self._environ, thing=thing_name(self._config), wall=self._clock.wall),
            clock=self._clock,
            health=self._health,
            once=self._once,
        )
        try:
            self._open_doors(self._site(agent, ground, chooser))
            agent.start(busy=kept.name if kept else None)
            if not self._once and self._site_now:
                self._inward.open(self._site_now)
            interpreter.spare_the_collector()
            code = self._watch_over(agent, in_memory=ground.in_memory)
        finally:
            self._goes_on = self._goes_on and not agent.lost
            self._routes.detach()
            if self._doors:
                self._doors.serve(None)
            self._inward.close(goes_on=self._goes_on)
            if not agent.stop(GRACE_SECONDS):
                log.warning("some steps did not end in time; the next start takes up what they left")
            self._write_snapshot(agent, in_memory=ground.in_memory)
            if self._goes_on:
                ground.rest()
        if agent.lost and code is None:
            raise agent.lost
        return code

    @property
    def _environ(self) -> Mapping[str, str]:
        if self._config.home is None:
            return os.environ
        from tidegate.home import with_credentials  # noqa: PLC0415 - few want it

        return with_credentials(self._config.home, self._folder, os.environ)

    @property
    def _posted(self) -> tuple[Source, ...]:
        """The ways of objects that are posted."""
        return (*posted_sources(self._config, self._folder), *socket_ways(self._config, self._folder))

    def _site(self, agent: Agent, ground: Ground, chooser: Choice) -> Site:
        """Put together what the routes work on."""
        return Site(
            agent=agent,
            config=self._config,
            raw=self._raw,
            ledger=ground.ledger,
            books=ground.books,
            posted=self._posted,
            choose=chooser.of,
            thing=thing_name(self._config),
            never=own_folders(self._config, self._folder),
            folder=self._folder,
            archives=workdir.archives_path(self._folder),
            clock=self._clock,
            in_memory=ground.in_memory,
            restoring=outfit.restoring(self._config, self._folder, self._environ, self._clock),
        )

    def _open_doors(self, site: Site) -> None:
        """Have requests answered and events told, with faults that are known before there was an agent."""
        self._site_now = site
        self._routes.attach(site, mended=self._mended)
        if not self._nucleus:  # nobody would ever take them
            site.ledger.events.kinds = frozenset()
        if self._doors:
            self._doors.serve(site)
            self._doors.open(self._config, site.thing)
        if self._faults:
            self._reject(self._faults)

    def _reject(self, faults: Sequence[str]) -> None:
        """Go on with the last good configuration, and say so everywhere."""
        self._faults = ()
        self._routes.faults(faults)
        for sentence in faults:
            log.error("the changed configuration is not used, the last good one is: %s", sentence)
        if self._site_now:
            body = {"faults": list(faults), "count": len(faults)}
            self._site_now.ledger.events.record("configuration-rejected", body, now=self._clock.wall())

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
                self._routes.step()
                written = self._clock.steady()
            if agent.lost or agent.is_over:
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
            config = None if raw is None else outfit.with_port(parse(raw), os.environ)
        except ConfigFaults as err:
            self._reject(err.faults)
            return False
        if raw is None or config is None:
            return False
        self._routes.faults(())
        if self._doors:
            self._doors.wake()
        if config == self._config:
            return False
        before, self._raw, self._config = self._config, raw, config
        self._keep_configuration()
        set_up(config.log_level, config.log_format)
        if self._doors:
            self._doors.open(config, thing_name(config))
        self._is_changed = True
        if not outfit.is_followed(before, config):
            self._goes_on = outfit.goes_on(before, config)
            return True
        if self._site_now:
            self._site_now = dataclasses.replace(self._site_now, config=config, raw=raw)
            self._routes.renew(self._site_now)
            if self._doors:
                self._doors.serve(self._site_now)
        self._tell_of_change()
        return False

    def _tell_of_change(self) -> None:
        if self._is_changed:
            log.warning("the configuration has changed, and is used from now on")
        self._is_changed = False

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
        ledger = "memory" if in_memory else "disk"
        home = self._home.note if self._home else ""
        faults = self._routes.known_faults
        snapshot = dataclasses.replace(agent.snapshot(), ledger=ledger, faults=faults, home=home)
        with contextlib.suppress(OSError):  # a full disk must not stop delivery
            write(snapshot, self._folder)
