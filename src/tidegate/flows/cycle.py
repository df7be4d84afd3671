"""Sync cycles of one source: at its times, all that is there is promised under one name, and then awaited.

What the ledger knows is all that counts: which cycle is under way, what it has promised, and up to when
cycles were dealt with. So one that was cut off is taken up under its own name, and what fell due while
nobody was there runs once. A cycle begins only after the one before it is over.
"""

from __future__ import annotations

import dataclasses
import logging
import threading
from collections import deque
from typing import TYPE_CHECKING

from tidegate.archive.pack import Halted
from tidegate.config import Archive
from tidegate.config.naming import cycle_name
from tidegate.disk.walk import Walk
from tidegate.errors import Refused, Unavailable
from tidegate.flows.pack import Packer
from tidegate.flows.scan import Scan, Scanner
from tidegate.model import State

if TYPE_CHECKING:
    from collections.abc import Callable

    from tidegate.config import Source
    from tidegate.customize import Namer
    from tidegate.disk.walk import Folder
    from tidegate.ledger import Cycle, Ledger
    from tidegate.model import Moment
    from tidegate.spool import Spool

LOOK_SECONDS = 30.0
"""The clock is looked at so often, for somebody may set it."""

WAIT_SECONDS = 0.5
ROOM_SECONDS = 2.0

log = logging.getLogger(__name__)


class Cycles:
    """For one thread; only `ask` may come from any, and `next_at` may be read by any.

    `carrier` is who gets what is promised from now on. `scan` is what the last listing came to; `next_at`
    when the next cycle begins, in wall-clock seconds.
    """

    def __init__(  # noqa: PLR0913 - all that it stands on
        self,
        source: Source,
        ledger: Ledger,
        spool: Spool,
        *,
        zone: str | None,
        thing: str,
        never: frozenset[str],
        stopping: threading.Event,
        promised: Callable[[], None] = lambda: None,
        namer: Namer | None = None,
    ) -> None:
        """`zone` is whose clocks the schedule means; `promised` is called when there is something to send.

        `namer` says what files are called.
        """
        self._source = source
        self._ledger = ledger
        self._zone = zone
        self._never = never
        self._stopping = stopping
        self._promised = promised
        packs = source.archive is not Archive.NONE
        self._scanner = Scanner(
            source, ledger, carrier="", thing=thing, never=never, shallow=packs, namer=namer
        )
        self._packer = (
            Packer(source, ledger, spool, thing=thing, never=never, halted=stopping.is_set) if packs else None
        )
        self._folders: deque[Folder] | None = None  # those that the cycle under way has yet to pack
        self._failed = 0
        self._asked = threading.Event()
        self.carrier = ""
        self.scan: Scan | None = None
        self.next_at: float | None = None

    def ask(self) -> None:
        """Begin a cycle now; one that has not yet listed what is there will do."""
        self._asked.set()

    def is_idle(self) -> bool:
        """Whether nothing is to be done before the next cycle is due."""
        return not self._asked.is_set() and self._ledger.cycles.current(self._source.name) is None

    def seen(self) -> Scan:
        """Hand out what the last listing has come to until now. Leftovers are told once."""
        scan = self.scan or Scan()
        leftovers, scan.leftovers = scan.leftovers, []
        return dataclasses.replace(
            scan,
            holds=scan.holds.copy(),
            held=scan.held.copy(),
            problems=scan.problems.copy(),
            leftovers=leftovers,
        )

    def step(self, moment: Moment) -> float:
        """Bring the cycles on. Returns in how many seconds it is worth calling again."""
        if self.scan is None and self._look_around():
            return WAIT_SECONDS  # for them to be put back
        cycle = self._ledger.cycles.current(self._source.name)
        if cycle is None:
            due = self._due(moment.wall)
            if moment.wall < due and not self._asked.is_set():
                return min(due - moment.wall, LOOK_SECONDS)
            cycle = self._ledger.cycles.begin(self._source.name, self._rhythm, now=moment.wall)
            self._due(moment.wall)
            log.info("cycle %s of %s begins", cycle_name(cycle.started), self._source.name)
        if not cycle.listed:
            self._asked.clear()
            if not self._promise(cycle, moment):
                return 0 if self._stopping.is_set() else ROOM_SECONDS
        return self._finish(cycle, moment.wall)

    @property
    def _rhythm(self) -> str:
        """What the time up to which cycles were dealt with holds for."""
        schedule = self._source.schedule
        return f"{schedule.text} {self._zone or ''}" if schedule else "interval"

    def _due(self, now: float) -> float:
        """Return when the next cycle begins, or should have begun."""
        schedule = self._source.schedule
        first = now if schedule else 0.0  # by interval the first one begins at once
        since = self._ledger.cycles.since(self._source.name, self._rhythm, first=first, now=now)
        due = schedule.after(since, self._zone) if schedule else since + self._source.interval_seconds
        self.next_at = max(due, now)
        return due

    def _look_around(self) -> bool:
        """See whether a process that died has left something in private folders."""
        self.scan = Scan()
        walk = Walk(self._source, self._never, lambda _: None)
        for _ in walk:
            self.scan.found += 1
        self.scan.leftovers = walk.leftovers
        return bool(walk.leftovers)

    # Listing

    def _promise(self, cycle: Cycle, moment: Moment) -> bool:
        """Promise all that is there and may go. Tells whether that is done; if not, it goes on later."""
        if self._folders is None or self.scan is None:
            self._scanner.carrier, self._scanner.cycle = self.carrier, cycle
            self.scan = self._scanner.scan(moment)
            self._failed = 0
            self._folders = deque()
            if self._packer:
                self._packer.tidy()
                self._folders += self._packer.folders()
            self._promised()
        while self._folders and self._packer:
            if self._stopping.is_set():
                return False
            self._packer.carrier = self.carrier
            try:
                self._pack(self._packer, self._folders[0], cycle, moment)
            except Halted:
                return False
            except Unavailable as err:
                if self._packer.tidy() or self._under_way():  # what is stored makes room
                    return False
                self._fail(self._folders[0][0], f"waits for the next cycle: {err}")
            self._folders.popleft()
            self._promised()
        self._folders = None
        held = self.scan.holds.total()
        self._ledger.cycles.listed(cycle, held=held, failed=self._failed)
        return True

    def _pack(self, packer: Packer, folder: Folder, cycle: Cycle, moment: Moment) -> None:
        """Pack one folder; what is wrong with it stops no other."""
        assert self.scan is not None
        try:
            packer.pack(folder, cycle, self.scan, moment)
        except (OSError, Refused) as err:
            self._fail(folder[0], f"cannot be packed: {err}")

    def _fail(self, folder: str, reason: str) -> None:
        assert self.scan is not None
        log.warning("%s: %s %s", self._source.name, folder, reason)
        self.scan.found += 1
        self.scan.problems[folder] = reason
        self._failed += 1

    # Waiting

    def _under_way(self) -> int:
        """Count what is yet to be stored."""
        return sum(self._ledger.in_state(self._source.name, state) for state in (State.READY, State.SENT))

    def _finish(self, cycle: Cycle, now: float) -> float:
        """End the cycle if all of it is stored, failed or dropped."""
        if self._under_way():
            return WAIT_SECONDS
        ended = self._ledger.cycles.finish(cycle, now=now)
        if ended is None:
            return WAIT_SECONDS
        log.info(
            "cycle %s of %s is over: %d found, %d uploaded (%d bytes), %d failed, %d left for the next one",
            cycle_name(ended.started),
            self._source.name,
            ended.found,
            ended.uploaded,
            ended.bytes,
            ended.failed,
            ended.held,
        )
        return 0 if self._asked.is_set() else max(0.0, min(self._due(now) - now, LOOK_SECONDS))
