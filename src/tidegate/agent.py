"""One running agent: loops around one open ledger. Builds nothing that outlives it but the ledger's rows."""

from __future__ import annotations

import functools
import logging
import os
import threading
from dataclasses import fields
from typing import TYPE_CHECKING, Any

from tidegate import __version__
from tidegate.config import Mode, UploadOrder
from tidegate.customize import Namers
from tidegate.disk.walk import is_current
from tidegate.disk.watch import Watch
from tidegate.errors import Unavailable
from tidegate.flows.collect import audit, collect
from tidegate.flows.cycle import Cycles
from tidegate.flows.dispatch import dispatch
from tidegate.flows.evict import Space
from tidegate.flows.pack import sweep
from tidegate.flows.release import release_stored, return_leftovers
from tidegate.flows.scan import Scan, Scanner
from tidegate.loop import Loop
from tidegate.model import State
from tidegate.spool import Spool
from tidegate.view.rounds import Rounds, download_report
from tidegate.view.snapshot import CycleReport, HeldFile, Snapshot, SourceReport

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from tidegate.carry import Carrier
    from tidegate.clock import Clock
    from tidegate.config import Config, Source
    from tidegate.errors import LedgerLost
    from tidegate.fetch.running import Running
    from tidegate.health import Health
    from tidegate.ledger import Ledger, Settled
    from tidegate.model import Trouble

AUDIT_SECONDS = 5.0
PRUNE_SECONDS = 10.0
PRUNE_LIMIT = 20_000
IDLE_SECONDS = 1.0

LAZINESS = 9
"""A scan is followed by a pause of at least this many times what it cost: at most a tenth of a processor.

Nudges do not shorten it, or a file that is written all the time would have its folder scanned all the time.
"""

log = logging.getLogger(__name__)


class Agent:
    """Runs until stopped, or until `lost` is set because the ledger was."""

    def __init__(  # noqa: PLR0913 - all that it stands on
        self,
        config: Config,
        ledger: Ledger,
        carriers: Mapping[str, Carrier],
        *,
        choose: Callable[[Source], str],
        thing: str,
        never: frozenset[str],
        lists: Path,
        archives: Path,
        namers: Namers | None = None,
        posted: Sequence[Source] = (),
        downloads: Sequence[Running] = (),
        clock: Clock,
        health: Health,
        once: bool = False,
    ) -> None:
        """`posted` are sources whose files are bodies of ours: they are sent and let go, and never scanned.

        `lists` and `archives` are folders of ours for lists of what was given up, and for bodies of archives.
        It begins `downloads`, or hears of them if they run; whoever made them ends them.
        """
        self._config = config
        self._posted = tuple(posted)
        self._ledger = ledger
        self._carriers = carriers
        self._choose = choose
        self._chosen: dict[str, str] = {}
        self._clock = clock
        self._health = health
        self._once = once
        self._started_at = clock.wall()
        self._watch = Watch()
        self.namers = namers or Namers(thing)
        self._space = Space(config.sources, ledger, lists, thing, choose, namers=self.namers)
        self._spool = _spool(archives, config)
        self._stopping = threading.Event()
        self._cycles: dict[str, Cycles] = {}
        self._leftovers: set[str] = set()
        self._scans: dict[str, tuple[float, Scan]] = {}
        self._rests: dict[str, float] = {}
        self._rounds = Rounds()
        self._audited = dict.fromkeys(carriers, clock.steady())
        self._pruned = clock.steady()
        self._released = False
        self._drops = ledger.drops
        self.is_releasing = False
        """Whether files are being let go just now."""
        self.is_over = False
        """Whether another agent is to take the place of this one."""
        self.lost: LedgerLost | None = None
        self.woken = threading.Event()
        self.reporters: dict[str, Callable[[], SourceReport]] = {}
        """Who tells of sources that are not the agent's, by their names."""
        self._downloads = tuple(downloads)
        self._make_loops(thing, never)

    def _make_loops(self, thing: str, never: frozenset[str]) -> None:
        self._dispatching = self._loop("dispatch", self._dispatch)
        self._collecting = [
            self._loop(f"collect {name}", functools.partial(self._collect, carrier))
            for name, carrier in self._carriers.items()
        ]
        self._releasing = self._loop("release", self._release_all)
        self._scanning = {one.name: self._scan_loop(one, thing, never) for one in self._config.sources}

    # Life

    def start(self, *, busy: str | None = None) -> None:
        """Take back what was left half done, and begin. What the `busy` carrier has is still under way."""
        self._ledger.recover(now=self._clock.wall(), busy=busy)
        sweep(self._spool, self._ledger)
        self._health.keep_to(self._parts())
        if paused := sorted(self._ledger.orders.paused):
            whom = ", ".join(paused) if all(paused) else "everything"
            log.warning("paused: %s; `tidegate resume` has it sent again", whom)
        for loop in self._loops():
            loop.start()
        for download in self._downloads:
            download.begin(self._lose)

    def stop(self, seconds: float) -> bool:
        """End all loops. Tells whether they ended in time; the ledger is consistent either way."""
        self._stopping.set()
        for loop in self._loops():
            loop.stop()
        for carrier in self._carriers.values():
            carrier.wake()
        self._watch.close()
        end = self._clock.steady() + seconds
        self.namers.close()
        ended = [loop.join(end - self._clock.steady()) for loop in self._loops()]
        return all(ended)

    def scan_now(self, source: str | None = None) -> None:
        """Bring the next scan or cycle of one source forward, or of every one. Names are tried again."""
        self.namers.again(source)
        for name, cycles in self._cycles.items():
            if source in (None, name):
                cycles.ask()
        self._look_again(source)

    def _look_again(self, source: str | None = None) -> None:
        """Bring the next scan forward; cycles keep their times."""
        nudges = {name: loop.nudge for name, loop in self._scanning.items()}
        for name, nudge in (nudges | {one.name: one.nudge for one in self._downloads}).items():
            if source in (None, name):
                nudge()

    def send_now(self) -> None:
        """Something was promised, or may be sent again."""
        self._dispatching.nudge()

    def count(self, settled: Settled) -> None:
        """Hear what news came to, for the report of the round."""
        self._rounds.count(settled.counts)

    # What can be asked

    def snapshot(self) -> Snapshot:
        """Describe this moment."""
        return Snapshot(
            version=__version__,
            pid=os.getpid(),
            at=self._clock.wall(),
            started_at=self._started_at,
            ledger="",
            sources={source.name: self._source_report(source.name) for source in self._config.sources}
            | {one.name: download_report(one) for one in self._downloads}
            | {name: report() for name, report in self.reporters.items()},
            troubles={
                part: {"since": trouble.since, "reason": trouble.reason}
                for part, trouble in self.troubles().items()
            },
            lanes={
                lane: reason
                for carrier in self._carriers.values()
                for lane, reason in carrier.troubles().items()
            },
        )

    def is_settled(self) -> bool:
        """Every source has been scanned and nothing is left to be done for what was promised.

        What somebody has paused is not waited for.
        """
        now, is_paused = self._clock.wall(), self._ledger.orders.is_paused
        return (
            len(self._scans) == len(self._config.sources)
            and not self._leftovers
            and all(download.is_done or is_paused(download.name) for download in self._downloads)
            and not any(
                self._ledger.unfinished(source.name, retention_seconds=source.delete_after_seconds, now=now)
                for source in (*self._config.sources, *self._posted)
            )
        )

    def failed(self) -> int:
        """Count the files in quarantine, and the objects that could not be brought."""
        sources = (*self._config.sources, *self._posted)
        missing = sum(len(one.last.problems) for one in self._downloads if one.last)
        return missing + sum(self._ledger.in_state(source.name, State.FAILED) for source in sources)

    def held(self) -> int:
        """Count the files that are held back or paused, or stored but not yet let go."""
        waiting = sum(
            self._ledger.in_state(source.name, State.STORED)
            for source in self._config.sources
            if not source.delete_after_seconds
        )
        waiting += sum(
            self._ledger.in_state(source.name, State.READY)
            for source in (*self._config.sources, *self._posted)
            if self._ledger.orders.is_paused(source.name)
        )
        return waiting + sum(scan.holds.total() for _, scan in list(self._scans.values()))

    def troubles(self) -> dict[str, Trouble]:
        """What does not work now: a carrier that is away, a bucket that refuses everything."""
        return self._health.troubles() | self._ledger.pauses()

    # Steps

    def _scan(self, source: Source, scanner: Scanner) -> float:
        if self._once and source.name in self._scans:
            return source.interval_seconds
        moment = self._clock.now()
        if moment.steady < self._rests.get(source.name, 0):  # nudged too soon
            return self._rests[source.name] - moment.steady
        scanner.carrier = self._choose(source)
        self._rounds.begin(source.name, moment.wall)
        scan = scanner.scan(moment)
        self._rounds.scanned(source.name, found=scan.found, held=scan.holds.total())
        self._rests[source.name] = self._clock.steady() + LAZINESS * scan.cpu_seconds
        if scan.leftovers:
            self._leftovers.update(scan.leftovers)
            self._releasing.nudge()
        self._scans[source.name] = moment.wall, scan
        self._wake()
        soon = source.interval_seconds
        if scan.next_seconds is not None:
            soon = min(soon, max(scan.next_seconds, 10 * LAZINESS * scan.cpu_seconds))
        return max(soon, LAZINESS * scan.cpu_seconds, 0.02)

    def _cycle(self, source: Source, cycles: Cycles) -> float:
        if self._once and source.name in self._scans:
            return IDLE_SECONDS
        cycles.carrier = self._choose(source)
        moment = self._clock.now()
        if not self._once:  # packing may take long, and nobody has to wait for that
            self._scans.setdefault(source.name, (moment.wall, Scan()))
        seconds = cycles.step(moment)
        scan = cycles.seen()
        if scan.leftovers:
            self._leftovers.update(scan.leftovers)
            self._releasing.nudge()
        if not self._once or cycles.is_idle():
            self._scans[source.name] = moment.wall, scan
            self._wake()
        return seconds

    def _dispatch(self) -> float:
        now = self._clock.wall()
        sent = 0
        for source in sorted((*self._config.sources, *self._posted), key=lambda source: source.priority):
            if self._ledger.orders.is_paused(source.name) or self._has_nothing(source):
                continue
            name = self._choose(source)
            if self._chosen.get(source.name) != name:
                self._ledger.reassign(source.name, name, now=now)
                self._chosen[source.name] = name
            newest_first = source.order is UploadOrder.NEWEST_FIRST
            try:
                sent += dispatch(
                    source.name, self._carriers[name], self._ledger, now=now, newest_first=newest_first
                )
                reason = self._carriers[name].away(source.name)
            except Unavailable as err:  # the other sources go on
                reason = str(err)
            self._health.tell(f"dispatch {source.name}", Unavailable(reason) if reason else None)
        return 0 if sent else IDLE_SECONDS

    def _has_nothing(self, source: Source) -> bool:
        """Whether nothing was posted that goes this way: then the carrier need not prepare for it."""
        return source in self._posted and not self._ledger.in_state(source.name, State.READY)

    def _collect(self, carrier: Carrier) -> float:
        found = collect(carrier, self._ledger, now=self._clock.wall())
        steady = self._clock.steady()
        if steady - self._audited[carrier.name] > AUDIT_SECONDS:
            self._audited[carrier.name] = steady
            found += audit(carrier, self._ledger, now=self._clock.wall())
        if found:
            self._releasing.nudge()
            self._dispatching.nudge()
        if self._ledger.drops != self._drops:  # the new versions are to be found soon
            self._drops = self._ledger.drops
            self._look_again()
        return 0 if found else 0.2

    def _release_all(self) -> float:
        self.is_releasing = True
        try:
            return self._release()
        finally:
            self.is_releasing = False

    def _release(self) -> float:
        now, sources, dealt = self._clock.wall(), self._config.sources, 0
        ignores = functools.partial(self.namers.ignore, moment=self._clock.now())
        if len(self._scans) == len(sources):  # before, a source may not yet know that it needs a file, too
            dealt = sum(
                release_stored(source, self._ledger, others=set(sources) - {source}, ignores=ignores, now=now)
                for source in sources
            )
            self._space.step(self._clock.now())
        dealt += sum(release_stored(source, self._ledger, now=now) for source in self._posted)
        if leftovers := set(self._leftovers):
            if return_leftovers(leftovers):
                self._scans.clear()
                (self.scan_now if self._once else self._look_again)()
            self._leftovers -= leftovers  # not before: a single pass must not end in between
        steady = self._clock.steady()
        if steady - self._pruned > PRUNE_SECONDS:
            self._pruned = steady
            self._ledger.prune(keep=is_current, limit=PRUNE_LIMIT, now=now)
        if self._released and not dealt:
            self._wake()
        self._released = bool(dealt)
        return 0 if dealt else IDLE_SECONDS

    # Parts

    def _cycle_loop(self, source: Source, thing: str, never: frozenset[str]) -> Loop:
        cycles = self._cycles[source.name] = Cycles(
            source,
            self._ledger,
            self._spool,
            zone=self._config.time_zone,
            thing=thing,
            never=never,
            stopping=self._stopping,
            promised=self.send_now,
            namer=self.namers.of(source),
        )
        if self._once:
            cycles.ask()
        return self._loop(f"cycle {source.name}", lambda: self._cycle(source, cycles))

    def _scan_loop(self, source: Source, thing: str, never: frozenset[str]) -> Loop:
        if source.mode is Mode.CYCLE:
            return self._cycle_loop(source, thing, never)
        scanner = Scanner(
            source,
            self._ledger,
            carrier="",
            thing=thing,
            never=never,
            on_folder=lambda folder: self._watch.add(folder, self._scanning[source.name].nudge),
            on_promise=self._dispatching.nudge,
            namer=self.namers.of(source),
        )
        return self._loop(f"scan {source.name}", lambda: self._scan(source, scanner))

    def _loop(self, name: str, step: Callable[[], float]) -> Loop:
        return Loop(name, step, trouble=self._health.tell, lost=self._lose)

    def _loops(self) -> list[Loop]:
        return [*self._scanning.values(), self._dispatching, *self._collecting, self._releasing]

    def _parts(self) -> set[str]:
        """Name all that may have troubles."""
        config = self._config
        return {
            *(loop.name for loop in self._loops()),
            *(one.part for one in self._downloads),
            *(f"dispatch {source.name}" for source in (*config.sources, *self._posted)),
            *(f"socket {one.way.name}" for one in config.sockets),
        }

    def _lose(self, error: LedgerLost) -> None:
        self.lost = error
        self._wake()

    def _wake(self) -> None:
        self.woken.set()

    def _interval(self, name: str) -> float:
        return next(source.interval_seconds for source in self._config.sources if source.name == name)

    def _round_report(self, name: str, at: float) -> dict[str, Any]:
        return {"last": self._rounds.last(name), "next_at": at + self._interval(name)}

    def _cycle_report(self, name: str) -> dict[str, Any]:
        last, running = self._ledger.cycles.last(name), self._ledger.cycles.current(name)
        figures = [one.name for one in fields(CycleReport)]
        return {
            "last": last and CycleReport(**{figure: getattr(last, figure) for figure in figures}),
            "next_at": self._cycles[name].next_at,
            "cycles": True,
            "running": running and float(running.started),
        }

    def _source_report(self, name: str) -> SourceReport:
        free, full = self._space.room(name)
        text = self._space.report().get(name, "")
        space: dict[str, Any] = {"space": text, "free_bytes": free, "full_seconds": full}
        if name not in self._scans:
            return SourceReport(**space)
        at, scan = self._scans[name]
        return SourceReport(
            **(self._cycle_report(name) if name in self._cycles else self._round_report(name, at)),
            scanned_at=at,
            found=scan.found,
            holds={why.value: count for why, count in scan.holds.items()},
            held=[HeldFile(path=held.path, why=held.why.value, seconds=held.seconds) for held in scan.held],
            problems=dict(list(scan.problems.items())[:20]),
            **space,
        )


def _spool(folder: Path, config: Config) -> Spool:
    """Make the folder for bodies of archives, which leaves the room that sources ask for."""
    limits = {one.glob.root: one.disk_limit for one in config.sources if one.disk_limit}
    return Spool(folder, limits=limits)
