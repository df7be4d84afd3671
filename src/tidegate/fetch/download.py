"""One source with Direction: Download. Each round makes the folder what the bucket says that it should be.

Nothing is replaced before all of what takes its place is here and proven. What is remembered of a file is in
the ledger; a round may be cut off anywhere, and the next one goes on.
"""

from __future__ import annotations

import logging
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tidegate.carry.direct.outage import Outage
from tidegate.carry.direct.verdict import verdict_of
from tidegate.disk.target import Target
from tidegate.errors import LedgerLost, Refused, TidegateError, Unavailable
from tidegate.fetch.bring import Bringer
from tidegate.fetch.names import PARTIAL, path_of
from tidegate.ledger import Brought
from tidegate.model import Verdict
from tidegate.policy import pause_seconds, retry_seconds
from tidegate.store.errors import S3Error
from tidegate.store.library import Listed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from tidegate.carry.direct.throttle import Throttle
    from tidegate.clock import Clock
    from tidegate.config import Download
    from tidegate.ledger import Ledger
    from tidegate.store.library import Library

PAGE = 200
"""Of the keys that are configured, so many are asked for before any is brought."""

BLOCKED_ENOUGH = 3
"""So many that may not be read, and none that may, mean that the bucket is closed to us."""

SOON_SECONDS = 30.0
COUNT_SECONDS = 60.0
PROBLEMS = 1000

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Round:
    """What one round came to. Times are wall-clock seconds; `finished` is None while it lasts.

    `problems` are keys that could not be brought, or files that could not be deleted, and why.
    """

    started: float
    finished: float | None = None
    listed: int = 0
    added: int = 0
    unchanged: int = 0
    deleted: int = 0
    bytes: int = 0
    problems: dict[str, str] = field(default_factory=dict)
    kept_parts: set[str] = field(default_factory=set)
    blocked: int = 0
    again: bool = False


class Downloader:
    """Brings the objects of one source. `step` is for one thread; the rest for any."""

    def __init__(
        self,
        settings: Download,
        ledger: Ledger,
        *,
        library: Library,
        throttle: Throttle,
        slots: threading.BoundedSemaphore,
        hands: int,
        clock: Clock,
        jitter: Callable[[], float],
    ) -> None:
        """`slots` are those of all downloads together, `hands` how many threads this one may use."""
        self.settings = settings
        self.name = settings.name
        self._ledger = ledger
        self._library = library
        self._slots = slots
        self._hands = hands
        self._clock = clock
        self._jitter = jitter
        self._target = Target(settings.folder, PARTIAL)
        self._bringer = Bringer(settings, library, self._target, throttle, steady=clock.steady)
        self._outage = Outage(clock.steady, jitter)
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._blocks = 0
        self._blocked_until = float("-inf")
        self._blocked_by = ""
        self._rests: dict[str, _Rest] = {}
        self._uncounted = 0
        self._counted_at = float("-inf")
        self.last: Round | None = None
        """The last round that is over, or the first one while it lasts."""

    def step(self) -> float:
        """Make a round. Returns the seconds until the next. Raises Unavailable while that cannot be done."""
        if self._stopping.is_set() or self._ledger.orders.is_paused(self.name):
            return 1.0
        if self._clock.steady() < self._blocked_until:
            raise Unavailable(self._blocked_by)
        if not self._outage.admits():
            raise Unavailable(self._outage.reason)
        now = Round(self._clock.wall())
        self.last = self.last or now
        try:
            self._target.prepare()
            self._make(now)
        except LedgerLost:
            raise
        except (TidegateError, OSError) as error:
            if self._stopping.is_set():
                return 0.0
            raise Unavailable(self._learn(error)) from error
        except BaseException:
            self._outage.undecided()  # or nobody would ever try again
            raise
        self._end(now)
        return self._pause(now)

    def _pause(self, now: Round) -> float:
        """How long after a round the next one is due, in seconds."""
        soonest = min((rest.until for rest in self._rests.values()), default=float("inf"))
        left = 0.0 if now.again else soonest - self._clock.steady()
        return min(self.settings.interval_seconds, max(SOON_SECONDS, left))

    @property
    def is_done(self) -> bool:
        """Whether there was a whole round."""
        return self.last is not None and self.last.finished is not None

    def stop(self) -> None:
        """Have a round end soon. Requests under way are broken off."""
        self._stopping.set()
        self._library.close()

    # A round

    def _make(self, now: Round) -> None:
        with ThreadPoolExecutor(self._hands, thread_name_prefix=f"bring {self.name}") as pool:
            paths = _Ordered()
            for page in self._pages():
                wanted = self._named(page, now)
                self._deal_with(wanted, now, pool)
                self._forget(paths.upto(list(wanted)), wanted, now)
            self._forget(paths.rest(), {}, now)
        if paths.is_mixed and self.settings.delete_unlisted:
            now.problems[self.settings.bucket] = "it does not list in order: nothing was deleted"
        self._target.tidy(now.kept_parts.__contains__)

    def _end(self, now: Round) -> None:
        """The round has come to its end, be it that some objects could not be brought."""
        if now.again:
            self._outage.undecided()
        else:
            self._outage.worked()
        self._count(now)
        self._blocks = 0
        self._rests = {key: rest for key, rest in self._rests.items() if key in now.problems}
        now.finished = self._clock.wall()
        self.last = now

    def _pages(self) -> Iterator[list[Listed]]:
        below = self.settings.below
        if below is not None:
            yield from self._library.pages(self.settings.bucket, f"{below}/" if below else "")
            return
        keys = sorted(self.settings.keys, key=lambda key: os.fsencode(key.rpartition("/")[2]))
        for start in range(0, len(keys), PAGE):
            yield [self._asked(key) for key in keys[start : start + PAGE]]

    def _asked(self, key: str) -> Listed:
        """Ask for one object; one without an ETag is not there."""
        self._check()
        try:
            stored = self._library.stored(self.settings.bucket, key)
        except S3Error as error:
            if error.status == 404:
                return Listed(key, "", 0)
            raise
        return Listed(key, stored.etag, stored.size or 0)

    def _named(self, page: Sequence[Listed], now: Round) -> dict[str, Listed]:
        """Say where each object goes."""
        wanted = {}
        for one in page:
            now.listed += 1
            try:
                path = path_of(self.settings, one.key)
            except Refused as error:
                self._note(now, one.key, str(error))
                continue
            if path:
                wanted[path] = one
            elif one.size:
                self._note(now, one.key, "it ends with a slash, which no name of a file does")
        return wanted

    def _deal_with(self, wanted: dict[str, Listed], now: Round, pool: ThreadPoolExecutor) -> None:
        """Bring what is not here as it is there."""
        known = self._ledger.downloads.known(self.name, list(wanted))
        jobs = []
        for path, one in wanted.items():
            if not one.etag:
                self._note(now, one.key, "there is no such object; what is here stays")
            elif self._is_current(path, one, known.get(path)):
                now.unchanged += 1
            elif not self._has_to_rest(one, now):
                jobs.append(pool.submit(self._work, path, one, known.get(path), now))
        try:
            for job in jobs:
                job.result()
        except BaseException:
            for job in jobs:
                job.cancel()
            raise

    def _is_current(self, path: str, one: Listed, known: Brought | None) -> bool:
        if known is None or (known.key, known.etag, known.bucket) != (
            one.key,
            one.etag,
            self.settings.bucket,
        ):
            return False
        try:
            return self._target.mark(path) == known.mark
        except OSError:
            return False

    def _work(self, path: str, one: Listed, known: Brought | None, now: Round) -> None:
        """Bring one object. Raises what the whole round cannot go on with."""
        with self._slots:
            try:
                self._check()
                self._bring(path, one, known, now)
            except LedgerLost:
                raise
            except (TidegateError, OSError) as error:
                self._check()
                self._failed(one, error, now)

    def _bring(self, path: str, one: Listed, known: Brought | None, now: Round) -> None:
        before = self._target.mark(path)
        if (
            known is None
            and before.split(":")[1:2] == [str(one.size)]
            and self._bringer.has(one, path, self._check)
        ):
            with self._lock:
                now.unchanged += 1
            self._ledger.downloads.note(self.name, [self._brought(path, one, one.etag, before, "")], {})
            return
        part, etag, mark = self._bringer.bring(one, self._check)
        was = before if known and known.is_ours(before) else ""
        counts = {"downloads_added": 1, "bytes_downloaded": one.size}
        self._ledger.downloads.note(self.name, [self._brought(path, one, etag, mark, was)], counts)
        self._target.place(part, path)
        with self._lock:
            now.added += 1
            now.bytes += one.size
        self._outage.worked()
        log.info(
            "brought s3://%s/%s to %s/%s (%d bytes)",
            self.settings.bucket,
            one.key,
            self.settings.folder,
            path,
            one.size,
            extra={"fields": {"event": "brought", "source": self.name, "path": path, "key": one.key}},
        )

    def _brought(self, path: str, one: Listed, etag: str, mark: str, before: str) -> Brought:
        return Brought(
            path=path, bucket=self.settings.bucket, key=one.key, etag=etag, mark=mark, before=before
        )

    def _forget(self, span: tuple[bytes, bytes | None] | None, wanted: dict[str, Listed], now: Round) -> None:
        """Delete what was brought and lies in this part of the order, but is not listed any more."""
        if span is None or not self.settings.delete_unlisted:
            return
        after, upto = span
        while rows := self._ledger.downloads.between(self.name, after, upto, limit=PAGE):
            after = os.fsencode(rows[-1].path)
            over, deleted = [], 0
            for row in rows:
                if row.path in wanted:
                    continue
                try:
                    deleted += self._target.remove(row.path, row.is_ours)
                except OSError as error:
                    self._note(now, row.path, f"it cannot be deleted: {error.strerror}")
                    continue
                over.append(row.path)
            if over:
                self._ledger.downloads.forget(self.name, over, {"downloads_deleted": deleted})
                now.deleted += deleted

    def _count(self, now: Round) -> None:
        """Add what was unchanged to the counters, but not each time: a disk wears."""
        self._uncounted += now.unchanged
        steady = self._clock.steady()
        if now.added or now.deleted or steady - self._counted_at > COUNT_SECONDS:
            self._ledger.add({"downloads_unchanged": self._uncounted}, source=self.name)
            self._uncounted, self._counted_at = 0, steady

    # What goes wrong

    def _failed(self, one: Listed, error: Exception, now: Round) -> None:
        """Note why an object was not brought. Raises the error if it is not the object's."""
        verdict, note, is_outage = verdict_of(error)
        if isinstance(error, OSError):
            note = f"it cannot be written: {error.strerror or error}"
        self._note(now, one.key, note)
        with self._lock:
            now.kept_parts.add(self._bringer.part_of(one))
            now.again = now.again or verdict is Verdict.AGAIN
            now.blocked += verdict is Verdict.BLOCKED
            if verdict is not Verdict.AGAIN:
                self._let_rest(one, note)
        if is_outage:
            self._outage.failed(note)
            if self._outage.lasts:
                raise _Away(note) from error
        if verdict is Verdict.BLOCKED and now.blocked >= BLOCKED_ENOUGH and not now.added:
            raise error

    def _let_rest(self, one: Listed, note: str) -> None:
        """Try this version of an object not in each round: it may be large, and wrong each time."""
        before = self._rests.get(one.key)
        times = before.times + 1 if before and before.etag == one.etag else 1
        until = self._clock.steady() + retry_seconds(times, self._jitter())
        self._rests[one.key] = _Rest(one.etag, times, until, note)

    def _has_to_rest(self, one: Listed, now: Round) -> bool:
        rest = self._rests.get(one.key)
        if rest is None or rest.etag != one.etag or self._clock.steady() >= rest.until:
            return False
        self._note(now, one.key, rest.note)
        with self._lock:
            now.kept_parts.add(self._bringer.part_of(one))
        return True

    def _learn(self, error: Exception) -> str:
        """Decide how long to wait after a round that came to no end. Returns why."""
        if isinstance(error, _Away):
            return str(error)
        verdict, note, is_outage = verdict_of(error)
        if is_outage:
            self._outage.failed(note)
            return note
        self._outage.worked()
        self._blocks += 1
        what = "lets nothing be read" if verdict is Verdict.BLOCKED else "cannot be brought here"
        self._blocked_by = f"{self.settings.bucket} {what}: {note}"
        self._blocked_until = self._clock.steady() + pause_seconds(self._blocks, self._jitter())
        return self._blocked_by

    def _note(self, now: Round, key: str, why: str) -> None:
        with self._lock:
            if len(now.problems) < PROBLEMS:
                now.problems[key] = why
        before = self.last.problems if self.last else {}
        if before.get(key) != why or self.last is now:
            log.warning("%s is not as in the bucket: %s", key, why)

    def _check(self) -> None:
        if self._stopping.is_set():
            raise _Stopped


class _Stopped(TidegateError):  # noqa: N818 - it is a wish
    """The round is to end."""


class _Away(TidegateError):  # noqa: N818 - it is a state
    """Nothing gets through; that was counted already."""


@dataclass(frozen=True, slots=True)
class _Rest:
    """Until when, on the steady clock, a version of an object is left alone, and why."""

    etag: str
    times: int
    until: float
    note: str


class _Ordered:
    """Follows a listing in the order of bytes, and tells which part of it each page covers."""

    def __init__(self) -> None:
        self._last = b""
        self.is_mixed = False

    def upto(self, paths: Sequence[str]) -> tuple[bytes, bytes | None] | None:
        """The part that ends with the last of these paths; None: there is no order."""
        begun = self._last
        for path in map(os.fsencode, paths):
            self.is_mixed = self.is_mixed or path <= self._last
            self._last = path
        return None if self.is_mixed or self._last == begun else (begun, self._last)

    def rest(self) -> tuple[bytes, bytes | None] | None:
        """What is behind all of it."""
        return None if self.is_mixed else (self._last, None)
