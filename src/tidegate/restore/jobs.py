"""The jobs in a work directory: making, finding, and putting together what runs one."""

from __future__ import annotations

import fcntl
import os
import re
from contextlib import closing, contextmanager, suppress
from typing import TYPE_CHECKING, Any

from tidegate.config.back import ENGINES, TIERS
from tidegate.errors import ConfigFaults, Locked, TidegateError
from tidegate.restore.batch import Batches
from tidegate.restore.connect import connect
from tidegate.restore.direct import Sender
from tidegate.restore.fetch import Fetcher
from tidegate.restore.journal import Journal, Listed
from tidegate.restore.look import Looker
from tidegate.restore.nouns import Phase, Spec
from tidegate.restore.pace import Pace
from tidegate.restore.run import Run, Tools
from tidegate.restore.selection import chunks
from tidegate.restore.sinks import make

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

    from tidegate.clock import Clock
    from tidegate.restore.connect import Ways
    from tidegate.restore.sinks import Sink

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,59}")
_ACCOUNT = re.compile(r"[0-9]{12}")
MOST_DAYS, MOST_RATE = 36_500, 5000.0


class NoSuchJob(TidegateError):  # noqa: N818 - it is an answer
    """There is no job of this name here."""


class NothingWritten(NoSuchJob):
    """Who began to write the job down was killed, or is still at it."""


class Jobs:
    """All jobs of one work directory, in its folder `restore`."""

    def __init__(self, folder: Path, *, environment: Mapping[str, str], clock: Clock) -> None:
        self._folder = folder / "restore"
        self._environment = environment
        self._clock = clock

    def create(self, spec: Spec, rows: Iterable[tuple[str, str, str]] | None = None) -> int:
        """Write a job down, with the bucket, key and version of each object unless it is for a prefix.

        Nothing is asked of AWS. Returns how many objects were named twice. Raises `ConfigFaults` for what
        cannot be ordered, and whatever `rows` raise: then there is no job.
        """
        check(spec)
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        try:
            self._path(spec.id).touch(0o600, exist_ok=False)  # two may try it at once
        except FileExistsError:
            raise ConfigFaults([f"there is a job {spec.id} already; write another --id"]) from None
        twice = 0
        try:
            with closing(Journal(self._path(spec.id))) as journal:
                journal.order(spec)
                if rows is not None:
                    twice = self._write_listed(spec.id, rows)
                journal.note({"twice": twice}, phase=Phase.PLANNING)
        except BaseException:
            self._remove(spec.id)
            raise
        return twice

    def names(self) -> list[str]:
        """All jobs here, the oldest first."""
        found = []
        for path in self._folder.glob("*.job") if self._folder.is_dir() else ():
            with suppress(FileNotFoundError):  # it has just been forgotten
                found.append((path.stat().st_ctime_ns, path.stem))
        return [name for _, name in sorted(found)]

    @contextmanager
    def journal(self, name: str, *, read_only: bool = True) -> Iterator[Journal]:
        """Open the journal of a job. Raises `NoSuchJob`, as `NothingWritten` if it is empty."""
        if not _ID.fullmatch(name) or not self._path(name).exists():
            raise NoSuchJob(f"there is no job {name} here; `tidegate restore list` names them")
        nothing = NothingWritten(f"the job {name} was not written down; create it anew")
        if self._path(name).stat().st_size == 0:
            raise nothing
        with closing(Journal(self._path(name), read_only=read_only)) as journal:
            if not journal.is_ordered():
                raise nothing
            yield journal

    @contextmanager
    def running(self, name: str, others: Mapping[str, Sink] | None = None, **tools: Any) -> Iterator[Run]:
        """Put together what runs a job; nobody else can until the end of this.

        `others` are sinks that the caller attaches, by kind; `tools` go into `Tools`. Raises `NoSuchJob`,
        and `Locked` while another process runs it.
        """
        with self.journal(name, read_only=False) as journal, self._locked(name):
            spec = journal.spec
            ways = connect(spec.settings, self._environment, wall=self._clock.wall)
            pace = Pace(spec.rate, self._clock.steady())
            by_batch = spec.engine == "batch"
            try:
                sinks = make(
                    spec.sinks,
                    messages=ways.messages,
                    manner=ways.manner,
                    wall=self._clock.wall,
                    others=others or {},
                )
                sender = Sender(ways.archive, journal, pace, steady=self._clock.steady)
                made = Tools(
                    wall=self._clock.wall,
                    looker=Looker(ways.archive),
                    sinks=sinks,
                    pace=None if by_batch else pace,
                    sender=None if by_batch else sender,
                    batches=self._batches(spec, journal, ways) if by_batch else None,
                    fetcher=self._fetcher(spec, journal, ways),
                    **tools,
                )
                yield Run(journal, made, (lambda: self._listed(name)) if spec.listed else None)
            finally:
                ways.close()

    def cancel(self, name: str) -> None:
        """Wish a job to end. Who runs it, or runs it next, ends it. Raises `NoSuchJob`."""
        with self.journal(name, read_only=False) as journal:
            journal.wish("cancel")

    def forget(self, name: str) -> None:
        """Remove a job with all its files. Nobody may be running it."""
        self._remove(name)

    def _batches(self, spec: Spec, journal: Journal, ways: Ways) -> Batches:
        assert ways.control is not None  # `check` saw to the account
        return Batches(spec, journal, ways.control, ways.s3, ways.archive, self._folder)

    def _fetcher(self, spec: Spec, journal: Journal, ways: Ways) -> Fetcher | None:
        return Fetcher(spec, journal, ways.archive, steady=self._clock.steady) if spec.fetch else None

    @contextmanager
    def _locked(self, name: str) -> Iterator[None]:
        descriptor = os.open(self._folder / f"{name}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise Locked(f"another process runs the job {name}") from None
            yield
        finally:
            os.close(descriptor)

    def _write_listed(self, name: str, rows: Iterable[tuple[str, str, str]]) -> int:
        listed = self._listed(name)
        try:
            twice = 0
            for chunk in chunks(rows):
                twice += len(chunk) - listed.add(chunk)
            return twice
        finally:
            listed.close()

    def _listed(self, name: str) -> Listed:
        return Listed(self._folder / f"{name}.keys")

    def _path(self, name: str) -> Path:
        return self._folder / f"{name}.job"

    def _remove(self, name: str) -> None:
        for path in self._folder.glob(f"{name}.*"):
            path.unlink()


def check(spec: Spec) -> None:
    """Raise `ConfigFaults` with all that is wrong with an order."""
    faults = []
    if not _ID.fullmatch(spec.id):
        faults.append(f"--id {spec.id}: write up to 60 letters, digits, - and _, first a letter or digit")
    if spec.tier not in TIERS:
        faults.append(f"there is no tier {spec.tier}; write {', '.join(TIERS)}")
    if not 1 <= spec.days <= MOST_DAYS:
        faults.append(f"--days {spec.days}: write a number of days from 1 to {MOST_DAYS}")
    if spec.engine not in ENGINES:
        faults.append(f"there is no engine {spec.engine}; write {' or '.join(ENGINES)}")
    if not 0 < spec.rate <= MOST_RATE:
        faults.append(f"--rate {spec.rate:g}: write a number of requests a second up to {MOST_RATE:g}")
    if not spec.listed and not spec.bucket:
        faults.append("it names no bucket")
    if spec.most is not None and spec.most < 0:
        faults.append(f"--most {spec.most}: write a number of objects, 0 or more")
    if spec.engine == "batch":
        faults += _batch_faults(spec)
    if faults:
        raise ConfigFaults(faults)


def _batch_faults(spec: Spec) -> list[str]:
    """Name what S3 Batch Operations would not take."""
    faults = [
        f"for the engine batch, --{it} is missing" for it in ("role", "report") if not spec.batch.get(it)
    ]
    account = str(spec.settings.get("account", ""))
    if not account:
        faults.append("for the engine batch, --account is missing: the 12 digits of the account")
    elif not _ACCOUNT.fullmatch(account):
        faults.append(f"--account {account}: write the 12 digits of the account")
    if spec.tier == "Expedited":
        faults.append("S3 Batch Operations know no Expedited; take Standard, or the engine direct")
    return faults
