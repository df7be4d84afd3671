"""A folder of bodies, each there whole and durable or not at all, and never so many that a disk is full."""

from __future__ import annotations

import dataclasses
import errno
import os
import threading
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from tidegate.config import DiskLimit
from tidegate.disk.space import excess, usage_of
from tidegate.disk.walk import fsync_folder
from tidegate.errors import Unavailable
from tidegate.model import Candidate, Fingerprint

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path
    from typing import BinaryIO

    from tidegate.disk.space import Usage

RESERVE = DiskLimit(free_bytes=64 * 2**20)
"""What the disk of the spool keeps free for others, whatever the user has set."""

_PART = ".part"
_NO_ROOM = {errno.ENOSPC, errno.EDQUOT}


class Spool:
    """Bodies by name in a folder that nobody else uses. Any thread may write; each name is used once.

    `limits` are those that the user has set, by a folder of the file system that each is about; they count
    where that is the one of the spool, and `reserve` always does.
    """

    def __init__(
        self,
        folder: Path,
        *,
        reserve: DiskLimit = RESERVE,
        limits: Mapping[str, DiskLimit] | None = None,
        usage: Callable[[str], Usage] = usage_of,
    ) -> None:
        self._folder = folder
        self._reserve = reserve
        self._limits = limits or {}
        self._usage = usage
        self._lock = threading.Lock()
        self._asked = 0  # bytes of the bodies that are being written

    @property
    def folder(self) -> Path:
        """Where all of them are; also a place for files without a name. It is made if it is not there."""
        self._folder.mkdir(parents=True, exist_ok=True)
        return self._folder

    def path(self, name: str) -> Path:
        """Where the body of this name is, or would be."""
        return self._folder / name

    @contextmanager
    def body(self, name: str, *, size: int) -> Iterator[BinaryIO]:
        """Write a body of at most `size` bytes in the block: it is there, and durable, when the block ends.

        If the block raises there is nothing. Raises Unavailable when there is no room, FileExistsError when
        there is a body of that name. A name is one of a file, and does not end with `.part`.
        """
        path = self.path(name)
        if path.exists():
            raise FileExistsError(errno.EEXIST, "a body of that name is there already", str(path))
        part = path.with_name(f"{name}{_PART}")
        with self._room(size), _out_of_room(self._folder):
            try:
                with part.open("w+b") as file:
                    yield file
                    file.flush()
                    os.fsync(file.fileno())
                part.rename(path)
            except BaseException:
                part.unlink(missing_ok=True)
                raise
            fsync_folder(str(self._folder))

    def candidate(self, name: str) -> Candidate:
        """Name the body as what a promise is about. Raises FileNotFoundError if there is none."""
        path = self.path(name)
        return Candidate(str(path), Fingerprint.of(path.stat()))

    def remove(self, name: str) -> None:
        """Delete a body; one that is gone already is no failure."""
        self.path(name).unlink(missing_ok=True)

    def names(self) -> list[str]:
        """List the bodies, also those that are being written."""
        with suppress(FileNotFoundError):
            return sorted(path.name for path in self._folder.iterdir() if path.is_file())
        return []

    def sweep(self, keep: Callable[[str], bool]) -> list[str]:
        """Delete the bodies that nobody needs, by their names, and all unfinished ones. Returns which.

        For the start, before anything is written.
        """
        gone = [name for name in self.names() if name.endswith(_PART) or not keep(name)]
        for name in gone:
            self.remove(name)
        return gone

    @contextmanager
    def _room(self, size: int) -> Iterator[None]:
        """Keep so much room for the block. Raises Unavailable where there is less."""
        with self._lock:
            usage = self._usage(str(self.folder))
            if missing := self._missing(usage, usage.taken_by(size) + self._asked):
                raise Unavailable(
                    f"no room in {self._folder} for {size} bytes more: {missing} bytes too few are free there"
                )
            self._asked += size
        try:
            yield
        finally:
            with self._lock:
                self._asked -= size

    def _missing(self, usage: Usage, size: int) -> int:
        """How many bytes would have to be freed before so many can be written."""
        if not usage.used + usage.free:  # a file system that does not tell
            return 0
        after = dataclasses.replace(usage, used=usage.used + size, free=usage.free - size)
        limits = [self._reserve]
        for folder, limit in self._limits.items():
            with suppress(OSError):  # not there, or not mounted: not the spool's disk then
                if os.stat(folder).st_dev == usage.device:  # noqa: PTH116 - any folder's name
                    limits.append(limit)
        return max(excess(limit, after) for limit in limits)


@contextmanager
def _out_of_room(folder: Path) -> Iterator[None]:
    """A disk may fill up all the same: others write, too."""
    try:
        yield
    except OSError as err:
        if err.errno not in _NO_ROOM:
            raise
        raise Unavailable(f"the disk of {folder} is full: {err.strerror}") from err
