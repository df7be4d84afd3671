"""From files to promises: find what matches, hold back what may still be written, promise the rest.

A scan looks at everything each time, so nothing that was missed is missed for long. Files are judged as
they are found; nothing is kept of them but what may be forgotten at any time.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tidegate.config import After, HoldBack
from tidegate.disk.walk import Found, Walk
from tidegate.disk.writers import has_writer
from tidegate.flows.outdated import Outdated
from tidegate.logs import about
from tidegate.model import Candidate, Fingerprint, State
from tidegate.policy import SETTLE_TICK_SECONDS, Held, Hold, plan, rank, unchanged_seconds

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from tidegate.config import Source
    from tidegate.customize import Namer
    from tidegate.ledger import Cycle, Ledger
    from tidegate.model import Moment, Transfer

BATCH = 500
FIRST_BATCH = 50  # so that uploading begins soon
REMEMBERED = 200_000
"""Files known to be promised that are recognised without asking the ledger: some 14 MB."""

SAMPLES = 20
NAMED = 1000
"""Files without a key that are named in the log."""

COUNT_SECONDS = 300.0

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Scan:
    """What one scan came to. `held` names some of the files held back; `holds` counts all of them."""

    found: int = 0
    promised: int = 0
    ignored: int = 0
    unchanged: int = 0
    holds: Counter[Hold] = field(default_factory=Counter)
    held: list[Held] = field(default_factory=list)
    problems: dict[str, str] = field(default_factory=dict)
    leftovers: list[str] = field(default_factory=list)
    next_seconds: float | None = None  # when the first of the held files may go; None: nobody knows
    cpu_seconds: float = 0.0

    def hold(self, path: str, why: Hold, seconds: float | None) -> None:
        """Note that a file is held back."""
        self.holds[why] += 1
        if len(self.held) < SAMPLES:
            self.held.append(Held(path, why, seconds))
        if seconds is not None:
            self.next_seconds = seconds if self.next_seconds is None else min(self.next_seconds, seconds)

    def hold_briefly(self, path: str, why: Hold, seconds: float) -> None:
        """The same where there may be a hundred thousand: only the first to go counts."""
        if len(self.held) < SAMPLES or self.next_seconds is None or seconds < self.next_seconds:
            self.hold(path, why, seconds)
        else:
            self.holds[why] += 1


class Scanner:
    """Scans one source. What it remembers between scans is only a shortcut.

    `carrier` is who gets what is promised from now on, and `cycle` the one that it goes in, if any.
    """

    def __init__(  # noqa: PLR0913 - all that it stands on
        self,
        source: Source,
        ledger: Ledger,
        *,
        carrier: str,
        thing: str,
        never: frozenset[str],
        on_folder: Callable[[str], None] = lambda _: None,
        on_promise: Callable[[], object] = tuple,
        shallow: bool = False,
        namer: Namer | None = None,
    ) -> None:
        """`shallow`: only the files at the root itself are looked at. `namer` says what files are called."""
        self._source = source
        self._ledger = ledger
        self.carrier = carrier
        self.cycle: Cycle | None = None
        self._shallow = shallow
        self._thing = thing
        self._never = never
        self._on_folder = on_folder
        self._on_promise = on_promise
        self._namer = namer
        self._known: set[int] = set()
        self._ignored: set[int] = set()
        self._delay = max(source.quiet_seconds, source.delay_seconds)
        self._counts: Counter[str] = Counter()
        self._last_counts = dict.fromkeys(("ignored", "unchanged", "delayed"), 0)
        self._counted_at = 0.0
        self._first_seen: dict[str, tuple[Fingerprint, float]] = {}
        self._reported: dict[str, str] = {}
        self._drops = 0
        self._outdated = Outdated(source.name, ledger)

    def scan(self, moment: Moment) -> Scan:
        """Look at everything once, and promise what may go."""
        scan = Scan()
        started = time.thread_time()
        if self.cycle or self._drops != self._ledger.drops:  # what was left by a cycle is for the next
            self._drops = self._ledger.drops
            self._known.clear()
            self._ignored.clear()
        walk = Walk(self._source, self._never, self._on_folder, shallow=self._shallow)
        newest: dict[str, _Newest] = {}
        doubtful: dict[str, tuple[Fingerprint, float]] = {}
        batch: list[Found] = []
        per_folder = self._source.hold_back is HoldBack.NEWEST_PER_DIRECTORY
        hold_back = self._source.hold_back is not HoldBack.NONE
        known = self._known
        ignored = self._ignored
        delay, recognised = self._delay, -self._under_way()
        for one in walk:
            scan.found += 1
            found = one
            if hold_back:
                older = _keep_newest(newest, one.folder if per_folder else "", one, moment)
                if older is None:
                    continue
                found = older
            if known and (mark := _mark(found)) in known:
                is_ignored = mark in ignored
                scan.ignored += is_ignored
                recognised += not is_ignored
                continue
            left = self._seconds_left(found, delay, moment, doubtful)
            if left > 0:
                is_young = left <= delay - self._source.quiet_seconds
                scan.hold_briefly(found.path, Hold.YOUNG if is_young else Hold.QUIET, left)
                continue
            batch.append(found)
            if len(batch) == (BATCH if scan.promised else FIRST_BATCH):
                self._promise(batch, moment, scan)
                batch.clear()
        batch += self._overdue((best for _, best in newest.values()), moment, doubtful, scan)
        self._promise(batch, moment, scan)
        self._first_seen = doubtful
        scan.unchanged += max(0, recognised if self._source.after is After.KEEP else 0)
        self._finish(scan, walk, moment)
        scan.cpu_seconds = time.thread_time() - started
        return scan

    def _seconds_left(
        self, found: Found, wanted: float, moment: Moment, doubtful: dict[str, tuple[Fingerprint, float]]
    ) -> float:
        """How much longer this file must be left alone until it counts as quiet; 0 or less: it is."""
        wanted = max(wanted, SETTLE_TICK_SECONDS)
        changed = max(found.stat.st_mtime, found.stat.st_ctime)
        if changed <= moment.wall and moment.trusted_for >= wanted:
            return wanted - (moment.wall - changed)
        mark = Fingerprint.of(found.stat)
        before, first_seen = self._first_seen.get(found.path, (None, moment.steady))
        if before != mark:
            first_seen = moment.steady
        doubtful[found.path] = mark, first_seen
        return wanted - unchanged_seconds(mark, moment, first_seen)

    def _overdue(
        self,
        newest: Iterable[Found],
        moment: Moment,
        doubtful: dict[str, tuple[Fingerprint, float]],
        scan: Scan,
    ) -> list[Found]:
        """Of the files held back as newest, those that have been left alone long enough."""
        overdue = []
        for found in newest:
            if _mark(found) in self._known:
                continue
            quiet = self._seconds_left(found, self._delay, moment, doubtful)
            limit = self._source.max_hold_seconds
            left = self._seconds_left(found, limit, moment, doubtful) if limit else None
            if left is not None and max(quiet, left) <= 0:
                overdue.append(found)
            elif quiet > 0:
                scan.hold(found.path, Hold.QUIET, quiet)
            else:
                scan.hold(found.path, Hold.NEWEST, left)
        return overdue

    def _promise(self, batch: list[Found], moment: Moment, scan: Scan) -> None:
        """Promise those that are new and that nobody writes; one transaction for all of them."""
        if not batch:
            return
        candidates = [Candidate(found.path, Fingerprint.of(found.stat)) for found in batch]
        ids = [candidate.identity(self._source.name) for candidate in candidates]
        states = self._ledger.known(ids)
        finished = [id_ for id_, state in states.items() if state is State.DONE]
        if finished and self._source.force:
            self._ledger.reopen(finished, now=moment.wall, anew=True)
            states = {id_: state for id_, state in states.items() if state is not State.DONE}
        new: list[tuple[Found, Candidate]] = []
        settled: list[Found] = []
        for found, candidate, id_ in zip(batch, candidates, ids, strict=True):
            if states.get(id_, State.DROPPED) is not State.DROPPED:
                settled.append(found)
            elif self._is_free(candidate.path, scan):
                new.append((found, candidate))
        offers = self._plan(new, settled, moment, scan)
        self._offer(offers, moment, scan)
        if self._source.after is After.KEEP:
            scan.unchanged += 0 if self._source.force else len(finished)
        elif finished:
            self._ledger.reopen(finished, now=moment.wall)
        if len(self._known) < REMEMBERED and not self._source.force:
            self._known.update(map(_mark, settled))

    def _plan(
        self, new: Sequence[tuple[Found, Candidate]], settled: list[Found], moment: Moment, scan: Scan
    ) -> list[tuple[Transfer, str]]:
        """Decide where files go; those of which that is decided are added to `settled`."""
        cycle = self.cycle.started if self.cycle else None
        candidates = [candidate for _, candidate in new]
        names = self._namer.names(candidates, moment=moment, cycle=cycle) if self._namer and new else None
        offers = []
        for number, (found, candidate) in enumerate(new):
            key = ""
            if names:
                if names[number].problem:
                    scan.hold(candidate.path, Hold.UNNAMED, None)
                    if len(scan.problems) < NAMED:
                        scan.problems[candidate.path] = names[number].problem
                    continue
                if names[number].ignored:
                    scan.ignored += 1
                    if len(self._ignored) < REMEMBERED:
                        self._ignored.add(_mark(found))
                        self._known.add(_mark(found))
                    continue
                key = names[number].key
            offers.append(
                plan(
                    self._source,
                    candidate,
                    carrier=self.carrier,
                    thing=self._thing,
                    now=moment.wall,
                    cycle=cycle,
                    key=key,
                )
            )
            settled.append(found)
        return offers

    def _offer(self, offers: list[tuple[Transfer, str]], moment: Moment, scan: Scan) -> None:
        if offers and self.cycle:
            promised, left = self._ledger.cycles.offer(self.cycle, offers, now=moment.wall)
            scan.promised += promised
            for transfer in left:
                scan.hold(transfer.body.path, Hold.TAKEN, None)
        elif offers:
            scan.promised += self._ledger.offer(offers, now=moment.wall)
        if scan.promised:
            self._on_promise()
        for transfer, refusal in offers:
            if refusal:
                extra = about("quarantined", transfer, reason=refusal)
                log.error("%s can never be sent and stays: %s", transfer.body.path, refusal, extra=extra)

    def _is_free(self, path: str, scan: Scan) -> bool:
        try:
            if not has_writer(path):
                return True
        except FileNotFoundError:
            return False
        except OSError as err:
            scan.problems[path] = f"cannot be read: {err.strerror}"
            return False
        scan.hold(path, Hold.OPEN, None)
        return False

    def _under_way(self) -> int:
        """Count the files that are kept and have been promised, but are not done."""
        if self._source.after is not After.KEEP:
            return 0
        states = (State.READY, State.SENT, State.STORED, State.FAILED)
        return sum(self._ledger.in_state(self._source.name, state) for state in states)

    def _count(self, scan: Scan, moment: Moment) -> None:
        """Add to the counters of the ledger: what is news at once, else now and then, to spare the disk."""
        counts = {
            "ignored": scan.ignored,
            "unchanged": scan.unchanged,
            "delayed": scan.holds[Hold.YOUNG],
        }
        self._counts.update(counts)
        if counts != self._last_counts or moment.steady - self._counted_at > COUNT_SECONDS:
            self._ledger.add(self._counts, source=self._source.name)
            self._counts.clear()
            self._counted_at = moment.steady
        self._last_counts = counts

    def _finish(self, scan: Scan, walk: Walk, moment: Moment) -> None:
        """Report what is wrong, once; let go of promises whose file has changed or gone."""
        self._count(scan, moment)
        if self._namer:
            self._namer.rest(moment.steady)
            if self._namer.trouble:
                scan.problems["the customizer"] = f"is not the one that is asked for: {self._namer.trouble}"
        scan.problems.update(walk.problems)
        scan.leftovers = walk.leftovers
        for path, what in scan.problems.items():
            if self._reported.get(path) != what:
                log.warning("%s: %s %s", self._source.name, path, what)
        self._reported = scan.problems
        for transfer in self._outdated.let_go(scan.found, now=moment.wall):
            path, mark = transfer.body
            self._known.discard(hash((path, *mark)))  # as _mark has it


def _mark(found: Found) -> int:
    status = found.stat
    return hash(
        (found.path, status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
    )


_Newest = tuple[tuple[bool, int, int, int], Found]


def _keep_newest(newest: dict[str, _Newest], group: str, found: Found, moment: Moment) -> Found | None:
    """Keep the newest file of the group back; return the one that it is not, if any."""
    best = newest.get(group)
    if best and best[0][0] and found.stat.st_mtime_ns < best[0][1]:
        return found  # the commonest case: older than one with a believable date
    mine = rank(Fingerprint.of(found.stat), moment)
    if best and mine <= best[0]:
        return found
    newest[group] = mine, found
    return best[1] if best else None
