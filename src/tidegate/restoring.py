"""Brings objects back for an agent: makes jobs, and runs them one step after the other, in one thread.

So requests of all jobs together keep to one rate. Jobs are files (see `tidegate.restore.jobs`), and nothing
is lost when this ends anywhere. Only jobs that were made here are run here: those that tell by `ipc`.
"""

from __future__ import annotations

import dataclasses
import io
import logging
import threading
import uuid
from collections import deque
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime, timezone
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

from tidegate.errors import Locked, NotAllowed, TidegateError, Unavailable
from tidegate.loop import Loop
from tidegate.restore.connect import SETTINGS, connect
from tidegate.restore.jobs import Jobs, NoSuchJob, NothingWritten, check
from tidegate.restore.nouns import Phase, Spec
from tidegate.restore.render import state
from tidegate.restore.selection import ObjectStream, manifest

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

    from tidegate.clock import Clock
    from tidegate.config import RestoreSettings
    from tidegate.ledger.events import Events
    from tidegate.restore.nouns import Filter
    from tidegate.restore.run import Run

KIND = "ipc"
MANIFEST_BYTES = 8 * 2**20
"""A manifest is read while somebody waits for the answer, so it may not be larger: some 100,000 objects."""

LOOK_SECONDS = 2.0
SLICE_SECONDS = 1.0
"""How long a step may send or download: an agent that ends does not wait much longer."""

KEPT_SECONDS = 30 * 86_400.0
"""How long after its order a job that is over can still be asked about."""

MOST_UNDER_WAY, MOST_OVER = 100, 1000
"""So many jobs go on at a time, and so many that are over can be asked about: whoever asks in a loop shall
neither fill the memory nor the disk."""

_AGAIN_SECONDS = 60.0
_WORDS = 300

log = logging.getLogger(__name__)


class Different(TidegateError):  # noqa: N818 - it is an answer
    """What has this token is another order."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What somebody asks for: all of a bucket with a `prefix`, or the `keys`, or what a `manifest` names.

    `days` are how long copies stay, and `tier` is empty for the usual one. With `fetch` what comes back is
    downloaded. The same `token` is the same order.
    """

    bucket: str
    prefix: str
    keys: tuple[str, ...]
    manifest: str
    filter: Filter
    tier: str
    days: int
    tag: str
    speed_up: bool
    fetch: bool
    token: str


@dataclass(slots=True)
class _Busy:
    stack: ExitStack
    run: Run
    due: float = float("-inf")


class Restoring:
    """The jobs of one agent, run from `start` to `close`. Asking it is safe from any thread."""

    def __init__(
        self,
        settings: RestoreSettings,
        folder: Path,
        environment: Mapping[str, str],
        clock: Clock,
        *,
        poll: float = 0.0,
        most: tuple[int, int] = (MOST_UNDER_WAY, MOST_OVER),
    ) -> None:
        """`folder` is the work directory. `poll` is the most seconds between two looks; 0: up to the tier.

        `most` jobs are under way, and known when they are over.
        """
        self._settings = settings
        self._environment = environment
        self._clock = clock
        self._poll = poll
        self._jobs = Jobs(folder, environment=environment, clock=clock)
        self._busy: dict[str, _Busy] = {}
        self._most_under_way, self._most_over = most
        self._over: set[str] = set()
        self._remembered: deque[str] = deque()  # those of them that were made here, the oldest first
        self._later: dict[str, float] = {}
        self._ordering = threading.Lock()
        self._when = threading.Lock()  # of what is due
        self._events: Events | None = None
        self._loop: Loop | None = None
        self._is_closing = False

    def start(self, events: Events) -> None:
        """Run what there is, and what comes. What happens is recorded in `events`."""
        self._events = events
        self._loop = Loop("restore", self._step)
        self._loop.start()

    def close(self, seconds: float) -> None:
        """End after the step under way. One that takes longer is left alone: the job is not harmed by it."""
        loop, self._loop = self._loop, None
        if loop is None:
            return
        self._is_closing = True
        loop.stop()
        if loop.join(seconds):
            self._let_go()

    # What can be asked

    def order(self, wanted: Wanted) -> str:
        """Write a job down and return its name.

        Raises `NotAllowed` for what the configuration does not allow, `ConfigFaults` for what cannot be
        ordered, `Different` for a token of another order, `Unavailable` while too many jobs are under way,
        and what reading a manifest raises.
        """
        spec = self._spec(wanted)
        check(spec)
        self._allow(spec.bucket, spec.tier)
        if wanted.fetch and not self._settings.folder:
            raise NotAllowed("fetch: nothing is downloaded here; Restore.Folder would have to name a folder")
        with self._ordering, ExitStack() as stack:
            if self._is_there(spec):
                return spec.id
            if sum(name not in self._over for name in self._jobs.names()) >= self._most_under_way:
                raise Unavailable(f"{self._most_under_way} jobs are under way already")
            self._jobs.create(spec, self._rows(wanted, spec, stack) if spec.listed else None)
        self._wake()
        return spec.id

    def _is_there(self, spec: Spec) -> bool:
        """Whether this very order was written down already. Raises `Different` if it was another one."""
        try:
            with self._jobs.journal(spec.id) as journal:
                before = journal.spec
                is_whole = journal.phase() is not Phase.READING
        except NothingWritten:
            is_whole = False
        except NoSuchJob:
            return False
        if not is_whole:  # who wrote it was killed
            self._jobs.forget(spec.id)
        elif dataclasses.replace(before, created=spec.created) != spec:
            raise Different("clientToken: it was that of another order; write a new one")
        return is_whole

    def show(self, name: str) -> dict[str, Any]:
        """Tell all about a job, with a few of its failures. Raises `NoSuchJob`."""
        with self._jobs.journal(name) as journal:
            return {**state(journal), "failed": journal.failures(5)}

    def names(self) -> list[str]:
        """All jobs, the oldest first."""
        return self._jobs.names()

    def cancel(self, name: str) -> str:
        """Have a job end, and return how it stands at this moment. Raises `NoSuchJob`."""
        with self._jobs.journal(name) as journal:
            if journal.phase() is Phase.ENDED:
                return str(journal.notes().get("status", ""))
        self._jobs.cancel(name)
        with self._when:
            if busy := self._busy.get(name):
                busy.due = float("-inf")
        self._wake()
        return "Restoring"

    # Its own thread

    def send(self, event: Mapping[str, Any]) -> None:
        """Take an event of a job: see `tidegate.restore.sinks.Sink`. Raises `LedgerLost`."""
        assert self._events is not None
        detail = {
            name: value[:_WORDS] if isinstance(value, str) else value
            for name, value in event["detail"].items()
        }
        self._events.record("restore", {**event, "detail": detail}, now=self._clock.wall())

    def _step(self) -> float:
        """Take up new jobs, and do one step of the one that is due first."""
        now = self._clock.steady()
        for name in self._jobs.names():
            if name not in self._busy and name not in self._over and self._later.get(name, now) <= now:
                with self._ordering:  # what is being written down cannot be read
                    self._take_up(name, now)
        name = min(self._busy, key=lambda it: self._busy[it].due, default="")
        if not name or self._busy[name].due > now:
            return min(LOOK_SECONDS, self._busy[name].due - now) if name else LOOK_SECONDS
        busy = self._busy[name]
        with self._when:
            busy.due = now + _AGAIN_SECONDS  # if it cannot be done; sooner if it is cancelled meanwhile
        try:
            wait = busy.run.step()
        finally:
            if self._is_closing:  # nobody may be waiting for us any more
                self._let_go()
        if self._is_closing:
            return 0.0
        if wait is None:
            self._busy.pop(name).stack.close()
            self._over.add(name)
            self._remember(name)
        else:
            with self._when:
                if busy.due > now:
                    busy.due = self._clock.steady() + wait
        return 0.0

    def _take_up(self, name: str, now: float) -> None:
        stack, again = ExitStack(), name in self._later
        self._later[name] = now + (_AGAIN_SECONDS if again else LOOK_SECONDS)
        try:
            with self._jobs.journal(name) as journal:
                phase = journal.phase()
                ours = phase is not Phase.READING and KIND in {it["kind"] for it in journal.spec.sinks}
                is_over = phase is Phase.ENDED and not any(journal.outbox())
                age = self._clock.wall() - journal.spec.created
            if phase is Phase.READING:
                return  # it is being written down
            if is_over or not ours:
                self._over.add(name)
                if is_over and ours and age > KEPT_SECONDS:
                    self._forget(name)
                elif is_over and ours:
                    self._remember(name)
                return
            run = stack.enter_context(self._jobs.running(name, {KIND: self}, slice_seconds=SLICE_SECONDS))
            self._busy[name] = _Busy(stack, run)
        except Locked:
            self._later.pop(name)  # somebody else runs it
        except (TidegateError, OSError) as error:
            if not again:
                return  # another process may be writing it down
            log.error("the job %s cannot be run: %s", name, error)  # noqa: TRY400

    def _remember(self, name: str) -> None:
        """Keep what is known of a job that is over; forget the first of too many."""
        self._remembered.append(name)
        if len(self._remembered) > self._most_over:
            self._forget(self._remembered.popleft())

    def _forget(self, name: str) -> None:
        self._jobs.forget(name)
        self._over.discard(name)
        self._later.pop(name, None)

    def _let_go(self) -> None:
        """Let others run the jobs."""
        while self._busy:
            self._busy.popitem()[1].stack.close()

    def _wake(self) -> None:
        if self._loop is not None:
            self._loop.nudge()

    # Orders

    def _spec(self, wanted: Wanted) -> Spec:
        now, settings = self._clock.wall(), self._settings
        stamp = datetime.fromtimestamp(now, timezone.utc).strftime("%Y%m%d-%H%M%S")
        mark = blake2b(wanted.token.encode(), digest_size=10).hexdigest()
        s3 = {name: getattr(settings.s3, name, None) for name in SETTINGS}
        listed = bool(wanted.keys or wanted.manifest)
        folder = settings.folder if listed else f"{settings.folder}/{wanted.bucket}"  # bucket and key, always
        return Spec(
            id=f"t-{mark}" if wanted.token else f"{stamp}-{uuid.uuid4().hex[:6]}",
            tier=wanted.tier or settings.tiers[0],
            days=wanted.days,
            created=now,
            bucket="" if listed else wanted.bucket,
            prefix=wanted.prefix,
            filter=wanted.filter,
            listed=listed,
            rate=settings.max_rate,
            tag=wanted.tag,
            poll=self._poll,
            speed_up=wanted.speed_up,
            fallback="Standard" if "Standard" in settings.tiers else "",
            settings={name: value for name, value in s3.items() if value},
            fetch={"folder": folder} if wanted.fetch else {},
            sinks=({"kind": KIND},),
        )

    def _rows(self, wanted: Wanted, spec: Spec, stack: ExitStack) -> Iterator[tuple[str, str, str]]:
        """Name the objects of a list, as far as they are allowed."""
        rows: Iterable[tuple[str, str, str]] = ((wanted.bucket, key, "") for key in wanted.keys)
        if wanted.manifest:
            bucket, _, key = wanted.manifest.removeprefix("s3://").partition("/")
            self._allow(bucket, spec.tier)
            ways = connect(spec.settings, self._environment, wall=self._clock.wall)
            stack.callback(ways.close)
            size = ways.archive.stored(bucket, key).size or 0
            if size > MANIFEST_BYTES:
                raise NotAllowed(
                    f"manifest: it has {size} bytes, and may have {MANIFEST_BYTES}; name a prefix instead,"
                    " or use `tidegate restore create`"
                )
            rows = manifest(io.BufferedReader(ObjectStream(ways.archive, bucket, key), 2**20))
        for row in rows:
            self._allow(row[0], spec.tier)
            yield row

    def _allow(self, bucket: str, tier: str) -> None:
        """Raise `NotAllowed` unless objects may come from there, so fast."""
        settings = self._settings
        if bucket and bucket not in settings.buckets:
            raise NotAllowed(f'bucket: "{bucket[:80]}" is not among those of Restore.Buckets')
        if tier not in settings.tiers:
            raise NotAllowed(f'tier: "{tier}" is not among those of Restore.Tiers; write {settings.tiers[0]}')
