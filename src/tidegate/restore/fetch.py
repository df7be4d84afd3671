"""Brings restored objects to this device: piece by piece, proven, and under their name only when whole.

A file that was begun is gone on with, also by the next process; when its job has ended, it is thrown away.
What else is below the folder belongs to whoever reads it: what was fetched is not looked after any more.
"""

from __future__ import annotations

import errno
import os
import threading
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tidegate.disk.space import Room
from tidegate.disk.target import Target
from tidegate.errors import NoRoom, Refused, Unavailable
from tidegate.restore.crew import together
from tidegate.restore.nouns import State
from tidegate.store.errors import Kind, S3Error
from tidegate.store.pieces import LEAST_PIECE, MOST_PIECE, bring_rest
from tidegate.store.proof import Proof

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from tidegate.restore.journal import Journal, Sheet
    from tidegate.restore.nouns import Spec
    from tidegate.store.archive_calls import Archive

PARTIAL = ".tidegate-restore"
HANDS = 4

_UNFIT = {"": "%", ".": "%2E", "..": "%2E%2E", PARTIAL: f"%2E{PARTIAL[1:]}"}
_TRIES = 3


class _Halt(Exception):  # noqa: N818 - it is a wish
    """The run is broken off; another one goes on with the file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchSpec:
    """Where to, and how much at most.

    `bandwidth` is in bytes a second, 0 for as many as go. `reserve` bytes of the disk stay free, and at most
    `room` bytes of fetched files are in the folder at a time; 0 is for any number.
    """

    folder: str
    bandwidth: float = 0.0
    reserve: int = 256 * 2**20
    room: int = 0

    @classmethod
    def of_json(cls, said: Mapping[str, Any]) -> FetchSpec:
        """Read it back."""
        return cls(**said)


class Fetcher:
    """Downloads the objects of one job. `trouble` says why the last run did not get everything."""

    def __init__(
        self,
        spec: Spec,
        journal: Journal,
        archive: Archive,
        *,
        steady: Callable[[], float],
        hands: int = HANDS,
    ) -> None:
        self._spec = FetchSpec.of_json(spec.fetch)
        # What a job has begun is its own: others may fetch the same object to the same folder.
        self._mark = sha256(f"{spec.id}\0{spec.created}".encode()).hexdigest()[:16]
        self._with_bucket = spec.listed
        self._journal = journal
        self._archive = archive
        self._steady = steady
        self._hands = hands
        self._folder = self._spec.folder
        self._target = Target(self._folder, PARTIAL)
        self._lock = threading.Lock()
        self._free_at = 0.0
        self._room = Room(self._folder, reserve=self._spec.reserve)
        self._used = 0
        self._halt = threading.Event()
        self.trouble = ""
        self.unproven = 0

    def run(self, *states: State, seconds: float, check: Callable[[], None]) -> bool:
        """Download what stands there; begin no more files after so many seconds.

        Tells whether nothing is left to be done. What is no longer readable becomes WANTED again, and FAILED
        what cannot be had or kept. `check` is called each second, and what it raises breaks off the files.
        """
        self._target.prepare()
        self._halt.clear()
        self.trouble = ""
        self._used = self._measure()
        self._until = self._steady() + seconds
        self._items = self._ready(states)
        self._dirty: dict[int, Sheet] = {}
        self._left = False

        def save() -> None:
            self._save()
            if not self._halt.is_set():
                check()

        together(self._bring, self._hands, "fetch", halt=self._halt, save=save)
        return not self._left

    def clear(self) -> None:
        """Throw away what was begun: the job has ended. Raises nothing; what cannot be removed stays."""
        with suppress(OSError):
            self._target.tidy(lambda name: not name.startswith(f"{self._mark}-"))

    def _ready(self, states: tuple[State, ...]) -> Iterator[tuple[Sheet, int]]:
        for sheet in self._journal.sheets(*states):
            for position in sheet.where(*states):
                yield sheet, position

    def _bring(self) -> None:
        while True:
            with self._lock:
                item = next(self._items, None)
            if item is None:
                return
            if self._halt.is_set() or self._steady() >= self._until:
                self._left = True
                return
            state, why = self._outcome(*item)
            with self._lock:
                if state is None:
                    self._left = True
                    self.trouble = why[1] or self.trouble
                else:
                    item[0].set(item[1], state, why)
                    self._dirty[item[0].number] = item[0]

    def _outcome(self, sheet: Sheet, at: int) -> tuple[State | None, tuple[str, str]]:
        """Fetch one; return where it stands then, None for where it stood, and why."""
        for number in range(_TRIES):
            try:
                if self._fetch(sheet, at):
                    return State.FETCHED, ("", "")
            except (_Halt, NoRoom, Unavailable) as error:
                return None, ("", str(error))
            except Refused as error:
                return State.FAILED, ("InvalidKey", str(error))
            except S3Error as error:
                if (verdict := _refused(error, is_last=number == _TRIES - 1)) is not None:
                    return verdict
            except OSError as error:
                if error.errno in (errno.ENOSPC, errno.EDQUOT):
                    return None, ("", f"there is no room in {self._folder}")
                return State.FAILED, ("LocalFile", str(error))
        return State.FAILED, ("ChecksumMismatch", "what came is not what S3 has, three times")

    def _fetch(self, sheet: Sheet, at: int) -> bool:
        """Bring one object here. Tells whether it is right; a wrong one is thrown away."""
        bucket, key, version = name = sheet.bucket, sheet.keys[at], sheet.version(at)
        stored = self._archive.stored(*name)
        proof = Proof.of(self._archive, *name, stored)
        part = self._part(*name, stored.etag)
        more = max(0, (stored.size or 0) - self._target.begun(part))
        limit = self._spec.bandwidth
        length = int(min(MOST_PIECE, max(LEAST_PIECE, limit / 4))) if limit else MOST_PIECE
        with self._room.kept(more), self._target.part(part, more=True) as file:
            self._count(more)
            bring_rest(
                file, self._archive, name, stored, proof, take=self._meter, check=self._check, length=length
            )
            os.fsync(file.fileno())
        verdict = proof.holds()
        if verdict is False:
            self._target.throw_away(part)
            return False
        if verdict is None:
            with self._lock:
                self.unproven += 1
        self._target.place(part, local_name(bucket if self._with_bucket else "", key, version))
        return True

    def _part(self, bucket: str, key: str, version: str, etag: str) -> str:
        name = sha256(f"{bucket}\0{key}\0{version}\0{etag}".encode()).hexdigest()
        return f"{self._mark}-{name}"

    def _check(self) -> None:
        if self._halt.is_set():
            raise _Halt

    def _meter(self, count: int) -> float:
        """Wait until so many bytes may come. Returns how long that was, in seconds."""
        if not self._spec.bandwidth:
            return 0.0
        with self._lock:
            now = self._steady()
            moment = max(self._free_at, now)
            self._free_at = moment + count / self._spec.bandwidth
        self._halt.wait(moment - now)
        self._check()
        return moment - now

    def _count(self, more: int) -> None:
        """Raise NoRoom if the folder may not have so many bytes more."""
        with self._lock:
            if self._spec.room and self._used + more > self._spec.room:
                raise NoRoom(f"{self._folder} holds as much as it may")
            self._used += more

    def _measure(self) -> int:
        """How many bytes are in the folder; 0 where nobody wants to know."""
        if not self._spec.room:
            return 0
        return sum(path.lstat().st_size for path in Path(self._folder).rglob("*") if path.is_file())

    def _save(self) -> None:
        with self._lock:
            sheets = list(self._dirty.values())
            self._dirty.clear()
            if sheets:
                self._journal.save(sheets)


def _refused(error: S3Error, *, is_last: bool) -> tuple[State | None, tuple[str, str]] | None:
    """What a no of S3 means for a file; None for another try."""
    if error.code == "InvalidObjectState":  # its copy is gone
        return State.WANTED, ("", "")
    if error.status != 412 and error.kind is not Kind.AGAIN:  # 412: another object took its place just now
        return State.FAILED, (error.code or f"Status{error.status}", error.message)
    return (None, ("", str(error))) if is_last else None


def local_name(bucket: str, key: str, version: str) -> str:
    """Return where an object goes below the folder; different objects go to different places.

    Only what no file name can be is written otherwise: `%` as %25, empty names as %, and dots.
    """
    names = [part.replace("%", "%25").replace("\0", "%00") for part in key.split("/")]
    bucket = bucket.replace("%", "%25").replace("/", "%2F")
    names = [_UNFIT.get(it, it) for it in names]
    if version:
        names[-1] += f"%40{version}"
    return "/".join([*([_UNFIT.get(bucket, bucket)] if bucket else []), *names])
