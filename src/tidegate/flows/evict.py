"""Keeps file systems below their limits: what is stored goes first, then what may be lost, and no more.

The limit is one of the file system: the strictest of its sources counts. Of what is not stored only
files that nobody sends, writes, changed, links elsewhere or means for another source are given up, and
only after a list of them is durable.
"""

from __future__ import annotations

import dataclasses
import functools
import heapq
import logging
import os
import stat
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING

from tidegate.config import Evict
from tidegate.customize import Namers
from tidegate.disk.release import Fate, delete, release
from tidegate.disk.space import Forecast, Sample, Usage, excess, usage_of
from tidegate.disk.walk import relative
from tidegate.disk.writers import has_writer
from tidegate.errors import Refused
from tidegate.flows.archives import MARK as ARCHIVE
from tidegate.flows.manifest import MARK as LIST
from tidegate.flows.manifest import Manifests
from tidegate.flows.release import release_stored
from tidegate.logs import about
from tidegate.model import Fingerprint, Moment, State

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from tidegate.config import Source
    from tidegate.ledger import Ledger
    from tidegate.model import Transfer

STEP_SECONDS = 5.0
REST_SECONDS = 10.0
"""After an eviction: some file systems take a while until what was deleted is free."""

RELIEF_SECONDS = 60.0
"""For so long a limit must have been kept until that is told."""

MOST = 4000
"""So many files are given up at a time, and ten times as many are looked at for that."""

BATCH = 64
_OURS = {ARCHIVE, LIST}
"""What is made by us is not given up: it stands for files that are gone, or that go with it."""

log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Disk:
    """A file system. `full_at` is when it was last too full, on the steady clock."""

    folder: str
    sources: list[Source]
    forecast: Forecast
    usage: Usage
    full_at: float | None = None


class Space:
    """Looks after the file systems of the sources. For one thread; any may read the report."""

    def __init__(
        self,
        sources: Sequence[Source],
        ledger: Ledger,
        folder: Path,
        thing: str,
        choose: Callable[[Source], str],
        *,
        namers: Namers | None = None,
        usage: Callable[[str], Usage] = usage_of,
    ) -> None:
        """`folder` is one of ours for lists; `choose` names the carrier of a source.

        `namers` know which files a source ignores; without them none is ignored.
        """
        self._sources = sources
        self._namers = namers or Namers(thing)
        self._ledger = ledger
        self._manifests = Manifests(ledger, folder, thing, choose)
        self._usage = usage
        self._adopted = False
        self._due = float("-inf")
        self._disks: dict[int, _Disk] = {}
        self._report: dict[str, str] = {}
        self._rooms: dict[str, tuple[int, float | None]] = {}

    def step(self, moment: Moment) -> float:
        """Make room where it is needed. Returns in how many seconds it is worth calling again."""
        if moment.steady < self._due:
            return self._due - moment.steady
        self._due = moment.steady + STEP_SECONDS
        if not self._adopted:
            self._manifests.adopt(self._sources, now=moment.wall)
            self._adopted = True
        report: dict[str, str] = {}
        self._measure()
        for disk in self._disks.values():
            self._look_after(disk, moment)
            report |= _describe(disk)
        self._report = report
        self._rooms = {
            source.name: (disk.usage.free, disk.forecast.full_seconds())
            for disk in self._disks.values()
            for source in disk.sources
        }
        return self._due - moment.steady

    def report(self) -> dict[str, str]:
        """Tell of each source that has a limit how full its file system is, and what is to be expected."""
        return self._report

    def room(self, source: str) -> tuple[int | None, float | None]:
        """Tell how many bytes are free where a source is, and in how many seconds none is.

        None: not measured yet, or not to be seen.
        """
        return self._rooms.get(source, (None, None))

    def _measure(self) -> None:
        """Find which sources share a file system: that may change while we run."""
        found: dict[int, _Disk] = {}
        for source in self._sources:
            root = source.glob.root
            try:
                usage = self._usage(root)
            except OSError:  # not there yet, or not mounted
                continue
            disk = found.get(usage.device)
            if disk is None:
                old = self._disks.get(usage.device)
                forecast, full_at = (old.forecast, old.full_at) if old else (Forecast(), None)
                disk = found[usage.device] = _Disk(root, [], forecast, usage, full_at)
            disk.sources.append(source)
        self._disks = found

    def _look_after(self, disk: _Disk, moment: Moment) -> None:
        full = _excess(disk.sources, disk.usage) > 0
        if full:
            self._release(disk, moment)
            full = _excess(disk.sources, disk.usage) > 0
        names = [source.name for source in disk.sources]
        evictions = self._ledger.evictions
        sample = Sample(
            moment.steady, disk.usage.free, evictions.backlog(names), evictions.stored_bytes(names)
        )
        disk.forecast.add(sample)
        if full:
            if disk.full_at is None:
                log.warning("the disk of %s is too full: %s", disk.folder, _outlook(disk))
            disk.full_at = moment.steady
            self._evict(disk, moment)
        elif disk.full_at is not None and moment.steady - disk.full_at >= RELIEF_SECONDS:
            disk.full_at = None
            log.warning("the disk of %s has room again: %s", disk.folder, _outlook(disk))

    def _release(self, disk: _Disk, moment: Moment) -> None:
        """Let go of stored files before their time, the least urgent first, until there is room."""
        ignores = functools.partial(self._namers.ignore, moment=moment)
        for source in sorted(disk.sources, key=lambda source: -source.priority):
            if not self._frees(source, disk):
                continue
            at_once = dataclasses.replace(source, delete_after_seconds=0)
            others = [other for other in self._sources if other is not source]
            while _excess(disk.sources, disk.usage) and release_stored(
                at_once, self._ledger, others=others, ignores=ignores, now=moment.wall
            ):
                disk.usage = self._usage(disk.folder)

    def _frees(self, source: Source, disk: _Disk) -> bool:
        """Whether letting go of its files makes room: not if they only move within the file system."""
        if source.move_to is None:
            return True
        target = Path(source.move_to)  # it is made with the first file that is moved
        there = next(folder for folder in (target, *target.parents) if folder.is_dir())
        return there.stat().st_dev != disk.usage.device

    # Giving up what is not stored

    def _evict(self, disk: _Disk, moment: Moment) -> None:
        allowing = [source for source in disk.sources if source.evict is not Evict.NEVER]
        needed = _excess(allowing, disk.usage)
        if not needed:
            return
        self._due = moment.steady + REST_SECONDS
        victims: dict[str, list[Transfer]] = {}
        for transfer in islice(self._waiting(allowing), 10 * MOST):
            if not self._may_go(transfer, disk.usage.device, moment):
                continue
            victims.setdefault(transfer.source, []).append(transfer)
            needed -= disk.usage.taken_by(transfer.body.fingerprint.size)
            if needed <= 0 or sum(map(len, victims.values())) >= MOST:
                break
        reason = f"evicted: the disk of {disk.folder} was {disk.usage.percent:.1f}% full"
        for source in allowing:
            if source.name in victims:
                self._give_up(source, victims[source.name], reason, moment.wall)

    def _waiting(self, allowing: Sequence[Source]) -> Iterator[Transfer]:
        """Yield what may be lost, the first to go first. Where sources differ about that, priority counts."""
        ranks = {0}
        by_priority = any(source.evict is Evict.LOWEST_PRIORITY_FIRST for source in allowing)
        if by_priority:
            ranks = {source.priority for source in allowing}
        return chain.from_iterable(
            heapq.merge(
                *(
                    self._ledger.idle.unsent(source.name)
                    for source in allowing
                    if not by_priority or source.priority == rank
                ),
                key=lambda transfer: transfer.body.fingerprint.mtime_ns,
            )
            for rank in sorted(ranks, reverse=True)
        )

    def _may_go(self, transfer: Transfer, device: int, moment: Moment) -> bool:
        """Whether its deletion frees something, and loses only what may be lost."""
        mark = transfer.body.fingerprint
        if _OURS & transfer.metadata.keys() or mark.device != device or not mark.size:
            return False
        try:
            status = os.lstat(transfer.body.path)
            return (
                stat.S_ISREG(status.st_mode)
                and status.st_nlink == 1
                and Fingerprint.of(status) == mark
                and not has_writer(transfer.body.path)
                and not self._needed_elsewhere(transfer, moment)
            )
        except OSError:
            return False

    def _needed_elsewhere(self, transfer: Transfer, moment: Moment) -> bool:
        """Whether another source is yet to store the same file, and does not ignore it."""
        body = transfer.body
        ids = {
            body.identity(other.name): other
            for other in self._sources
            if other.name != transfer.source and _means(other, body.path)
        }
        states = self._ledger.known(list(ids)) if ids else {}
        return any(
            states.get(id_) not in (State.STORED, State.DONE)
            and (id_ in states or not self._namers.ignore(other, body, moment=moment))
            for id_, other in ids.items()
        )

    def _give_up(self, source: Source, victims: Sequence[Transfer], reason: str, now: float) -> None:
        """Delete the files of one source, once it is written down which."""
        victims = self._ledger.evictions.claim(victims, now=now)
        if not victims:
            return
        try:
            manifest = self._manifests.write(source, victims, reason, now=now)
        except (OSError, Refused) as err:
            self._ledger.give_back([(transfer.id, "") for transfer in victims], now=now)
            log.warning("nothing of %s is given up, because no list of it can be made: %s", source.name, err)
            return
        evicted = list(
            chain.from_iterable(
                self._delete(victims[start : start + BATCH], reason, now)
                for start in range(0, len(victims), BATCH)
            )
        )
        log.warning(
            "%d files of %s (%d bytes) were deleted unsent; they are listed in %s",
            len(evicted),
            source.name,
            sum(transfer.body.fingerprint.size for transfer in evicted),
            manifest.target,
        )

    def _delete(self, victims: Sequence[Transfer], reason: str, now: float) -> list[Transfer]:
        """Delete those that still are what they were, and write down what became of each."""
        transfers = {transfer.body: transfer for transfer in victims}
        evicted, spared, other = [], [], []
        for one in release(transfers, delete):
            transfer = transfers[one.candidate]
            if one.fate is Fate.RELEASED:
                evicted.append(transfer)
            elif one.fate in (Fate.OPEN, Fate.FAILED):
                spared.append((transfer.id, one.note or one.fate.value))
            else:
                other.append((transfer, "files_dropped", "changed or gone before it was sent"))
        if evicted:
            self._ledger.evictions.evicted(evicted, reason, now=now)
        if spared:
            self._ledger.give_back(spared, now=now)
        if other:
            self._ledger.drop(other, now=now)
        for transfer in evicted:
            extra = about("evicted", transfer, reason=reason)
            log.info("%s was deleted unsent: %s", transfer.body.path, reason, extra=extra)
        return evicted


def _excess(sources: Iterable[Source], usage: Usage) -> int:
    """How many bytes must go until all of these sources' limits are kept."""
    return max((excess(source.disk_limit, usage) for source in sources if source.disk_limit), default=0)


def _means(source: Source, path: str) -> bool:
    root = source.glob.root.rstrip("/") + "/"
    return (
        path.startswith(root)
        and source.glob.match_path(path)
        and not source.exclude.which_on_the_way(relative(path, root))
    )


def _outlook(disk: _Disk) -> str:
    return ": ".join(filter(None, [f"{disk.usage.percent:.1f}% used", disk.forecast.text()]))


def _describe(disk: _Disk) -> dict[str, str]:
    """Say it for each source that has a limit."""
    texts = {}
    for source in disk.sources:
        if limit := source.disk_limit:
            bound = (
                f"{limit.percent_used:g}% used" if limit.percent_used else f"{limit.free_bytes} bytes free"
            )
            over = ", reached" if excess(limit, disk.usage) else ""
            texts[source.name] = f"{_outlook(disk)} (limit {bound}{over})"
    return texts
