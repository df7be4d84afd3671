"""What has come from a socket and is in no object yet: on the disk, in files of one batch each.

A batch has a number, and its first line says what its object is called; that is decided when it begins.
The file after the last one is made before that goes, so that numbers are never used twice.
"""

from __future__ import annotations

import json
import logging
import os
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO

from tidegate.disk.space import excess, usage_of
from tidegate.disk.walk import fsync_folder
from tidegate.errors import Unavailable
from tidegate.spool.spool import RESERVE

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

_ENDING = ".batch"
_COPY_BYTES = 2**20

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Batch:
    """One that nothing is added to any more. `head` is what was said when it began."""

    path: Path
    head: dict[str, str]
    start: int
    size: int

    def copy_to(self, file: BinaryIO) -> None:
        """Write its bytes."""
        with self.path.open("rb") as batch:
            batch.seek(self.start)
            while data := batch.read(_COPY_BYTES):
                file.write(data)


class Journal:
    """The batches of one socket. For one thread.

    `begin` says what the object of the batch with this number is called. Raises Unavailable when there is no
    room: then nothing was added.
    """

    def __init__(self, folder: Path, begin: Callable[[int], dict[str, str]], *, in_lines: bool) -> None:
        self._folder = folder
        self._begin = begin
        self._in_lines = in_lines
        self._number = 0
        self._descriptor = -1
        self._size = 0
        self._is_synced = True

    @property
    def size(self) -> int:
        """How many bytes the open batch has, with its first line."""
        return self._size

    def open(self) -> list[Batch]:
        """Begin after what is there. Returns the batches that somebody left, the oldest first."""
        self._folder.mkdir(parents=True, exist_ok=True)
        numbers = sorted(
            int(path.stem)
            for path in self._folder.iterdir()
            if path.name.endswith(_ENDING) and path.stem.isdigit()
        )
        left = []
        for number in numbers:
            batch = self._mended(self._path(number))
            if batch:
                left.append(batch)
        number = numbers[-1] if numbers else 0
        if not numbers or (left and left[-1].path == self._path(number)):
            number += 1
        self._start(number)
        needed = {self._path(number), *(batch.path for batch in left)}
        for path in {self._path(one) for one in numbers} - needed:
            path.unlink()
        return left

    def add(self, data: bytes) -> None:
        """Add to the open batch. It outlives the process, and after `sync` a power cut, too."""
        whole = data
        if not self._size:
            whole = json.dumps(self._begin(self._number)).encode() + b"\n" + data
        usage = usage_of(str(self._folder))
        if (usage.used or usage.free) and (len(whole) > usage.free or excess(RESERVE, usage)):
            raise Unavailable(f"no room in {self._folder}: what comes has to wait")
        try:
            written = os.write(self._descriptor, whole)
        except OSError as error:
            raise Unavailable(f"{self._folder} cannot be written: {error.strerror}") from error
        if written != len(whole):
            os.ftruncate(self._descriptor, self._size)
            raise Unavailable(f"no room in {self._folder}: what comes has to wait")
        self._size += written
        self._is_synced = False

    def sync(self) -> bool:
        """Make durable what was added. Tells whether there was anything."""
        if self._is_synced:
            return False
        os.fdatasync(self._descriptor)
        self._is_synced = True
        return True

    def close_batch(self) -> Batch | None:
        """End the open batch, durably, and begin the next; None: there is nothing in it."""
        if not self._size:
            return None
        self.sync()
        path, before = self._path(self._number), self._descriptor
        self._start(self._number + 1)
        os.close(before)
        return _read(path)

    def done(self, batch: Batch) -> None:
        """An object holds it: it is not needed any more."""
        batch.path.unlink(missing_ok=True)

    def close(self) -> None:
        """Let go of the file. What is in it stays for the next time; never fails."""
        if self._descriptor < 0:
            return
        try:
            self.sync()
        except OSError as error:
            log.warning("%s may be lost in a power cut: %s", self._path(self._number), error)
        os.close(self._descriptor)
        self._descriptor = -1
        self._is_synced = True

    def _start(self, number: int) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        try:
            descriptor = os.open(self._path(number), flags, 0o600)
            fsync_folder(str(self._folder))
        except OSError as error:
            raise Unavailable(f"{self._folder} cannot be written: {error.strerror}") from error
        self._descriptor, self._number = descriptor, number
        self._size = os.fstat(descriptor).st_size

    def _path(self, number: int) -> Path:
        return self._folder / f"{number}{_ENDING}"

    def _mended(self, path: Path) -> Batch | None:
        """Read what was left by whoever died; what a power cut has torn ends before the tear."""
        with path.open("r+b") as file:
            data = file.read()
            end = data.rfind(b"\n") + 1 if self._in_lines or b"\n" not in data else len(data)
            if end != len(data):
                file.truncate(end)
                os.fsync(file.fileno())
        with suppress(ValueError):
            return _read(path)
        with path.open("r+b") as file:
            file.truncate(0)
        return None


def _read(path: Path) -> Batch | None:
    """Read how a batch begins; None: nothing follows. Raises ValueError for what is none."""
    with path.open("rb") as file:
        first = file.readline()
        start = file.tell()
        size = os.fstat(file.fileno()).st_size - start
    if not size:
        return None
    head = json.loads(first)
    if not isinstance(head, dict) or not first.endswith(b"\n"):
        raise ValueError("it does not begin with what it is")
    return Batch(path, head, start, size)
