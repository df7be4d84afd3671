"""One stream of the Stream Manager stand-in: in memory for reading, in plain log files for restarts.

On disk a stream is a directory: `definition.json`; one `<first sequence number>.seg` for each segment,
which is records of (length, ingest time in ms, payload); one `<executor>.done` for the progress of each
export. Every append is one write(2) before it returns, so what was acknowledged survives kill -9, but
not a power cut. Only the server's thread may touch anything in here.
"""

from __future__ import annotations

import asyncio
import bisect
import errno
import hashlib
import json
import os
import shutil
import struct
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

if TYPE_CHECKING:
    from pathlib import Path

RECORD = struct.Struct(">Iq")
PROGRESS = struct.Struct(">qqqq")
REJECT_NEW_DATA = 0
FILE = 0


class Refusal(Exception):  # noqa: N818 - an answer, not a defect
    """A request that is answered with an error status."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


@dataclass(slots=True)
class Progress:
    """How far one export of one stream has come."""

    last: int = -1
    attempted_ms: int = 0
    exported_bytes: int = 0
    exported_count: int = 0
    error: str = ""


@dataclass(slots=True)
class Segment:
    """The messages from `first` on, as (ingest time, payload). `fd` is -1 unless it is being written."""

    first: int
    path: Path | None
    fd: int = -1
    size: int = 0
    messages: list[tuple[int, bytes]] = field(default_factory=list)


class Stream:
    """One stream. Payload bytes alone count as its size."""

    def __init__(self, definition: dict[str, Any], directory: Path) -> None:
        self.definition = definition
        self.name: str = definition["name"]
        self.directory = directory
        self.deleted = False
        self.total_bytes = 0
        self.progress: dict[str, Progress] = {}
        self._segments: list[Segment] = []
        self._waiting: set[asyncio.Future[None]] = set()
        if self.is_file:
            self._load()
        if not self._segments:
            self._roll(0)
        self.define(definition)

    @property
    def is_file(self) -> bool:
        return self.definition["persistence"] == FILE

    @property
    def executors(self) -> dict[str, dict[str, Any]]:
        return executors_of(self.definition)

    @property
    def oldest(self) -> int:
        return self._segments[0].first

    @property
    def newest(self) -> int:
        return self._segments[-1].first + len(self._segments[-1].messages) - 1

    def define(self, definition: dict[str, Any]) -> None:
        """Write the definition down and keep the progress of the executors that are still in it."""
        self.definition = definition
        self.directory.mkdir(parents=True, exist_ok=True)
        draft = self.directory / "definition.new"
        draft.write_text(json.dumps(definition))
        draft.replace(self.directory / "definition.json")
        gone = self.progress.keys() - self.executors.keys()
        for identifier in gone:
            del self.progress[identifier]
            self._progress_file(identifier).unlink(missing_ok=True)
        for identifier in self.executors:
            self.progress.setdefault(identifier, self._load_progress(identifier))

    def append(self, payload: bytes, *, full_status: int = 3, free_exported: bool = False) -> int:
        """Store one message; it is in the kernel's hands when its sequence number is returned."""
        size = len(payload)
        if self.total_bytes + size > self.definition["maxSize"]:
            self._make_room(size, full_status, free_exported=free_exported)
        segment = self._segments[-1]
        if segment.messages and segment.size + size > self.definition["streamSegmentSize"]:
            segment = self._roll(self.newest + 1)
        now = time.time_ns() // 1_000_000
        if segment.fd >= 0:
            _write_record(segment, RECORD.pack(size, now) + payload)
        segment.messages.append((now, payload))
        segment.size += size
        self.total_bytes += size
        if self._waiting:
            self._wake()
        return segment.first + len(segment.messages) - 1

    def read(self, start: int, maximum: int) -> list[tuple[int, int, bytes]]:
        """Return up to `maximum` messages from `start` on, as (sequence number, ingest time, payload)."""
        found: list[tuple[int, int, bytes]] = []
        at = bisect.bisect_right(self._segments, start, key=lambda segment: segment.first) - 1
        for segment in self._segments[max(at, 0) :]:
            skip = max(0, start - segment.first)
            part = segment.messages[skip : skip + maximum - len(found)]
            found += [(i, when, payload) for i, (when, payload) in enumerate(part, segment.first + skip)]
            if len(found) == maximum:
                break
        return found

    def changed(self) -> asyncio.Future[None]:
        """Return a future that is done at the next append, or when the stream is deleted."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.add(future)
        future.add_done_callback(self._waiting.discard)
        return future

    def advance(self, identifier: str, sequence: int, exported_bytes: int) -> None:
        """Note that the export is through with this message, with or without success."""
        progress = self.progress[identifier]
        progress.last = sequence
        progress.exported_bytes += exported_bytes
        progress.exported_count += 1
        if self.is_file:
            numbers = (sequence, progress.attempted_ms, progress.exported_bytes, progress.exported_count)
            fd = os.open(self._progress_file(identifier), os.O_WRONLY | os.O_CREAT, 0o644)
            os.write(fd, PROGRESS.pack(*numbers))
            os.close(fd)

    def close(self) -> None:
        last = self._segments[-1]
        if last.fd >= 0:
            os.close(last.fd)
            last.fd = -1

    def delete(self) -> None:
        """Forget everything, the definition first, so that a crash in between leaves only litter."""
        self.deleted = True
        self.close()
        (self.directory / "definition.json").unlink()
        shutil.rmtree(self.directory)
        self._wake()

    def _wake(self) -> None:
        for future in tuple(self._waiting):
            if not future.done():
                future.set_result(None)

    def _make_room(self, size: int, full_status: int, *, free_exported: bool) -> None:
        limit = self.definition["maxSize"]
        if size > limit:
            raise Refusal(4, f"the message is larger than the stream {self.name} may be")
        keeps = self.definition["strategyOnFull"] == REJECT_NEW_DATA
        while self.total_bytes + size > limit:
            if keeps and not (free_exported and self._oldest_segment_is_exported()):
                raise Refusal(full_status, f"the stream {self.name} is full and rejects new data")
            self._drop_oldest()

    def _oldest_segment_is_exported(self) -> bool:
        done = min((progress.last for progress in self.progress.values()), default=-1)
        return done >= self.oldest + len(self._segments[0].messages) - 1

    def _drop_oldest(self) -> None:
        if len(self._segments) == 1:
            self._roll(self.newest + 1)
        oldest = self._segments.pop(0)
        self.total_bytes -= oldest.size
        if oldest.path is not None:
            oldest.path.unlink()

    def _roll(self, first: int) -> Segment:
        if self._segments:
            self.close()
        path = self.directory / f"{first:020}.seg" if self.is_file else None
        segment = Segment(first, path)
        if path is not None:
            self.directory.mkdir(parents=True, exist_ok=True)
            segment.fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        self._segments.append(segment)
        return segment

    def _load(self) -> None:
        for path in sorted(self.directory.glob("*.seg")):
            segment = _read_segment(path)
            self._segments.append(segment)
            self.total_bytes += segment.size
        if self._segments:
            self._segments[-1].fd = os.open(path, os.O_WRONLY | os.O_APPEND)

    def _progress_file(self, identifier: str) -> Path:
        return self.directory / f"{file_name(identifier)}.done"

    def _load_progress(self, identifier: str) -> Progress:
        path = self._progress_file(identifier)
        if self.is_file and path.exists():
            return Progress(*PROGRESS.unpack(path.read_bytes()))
        return Progress()


def _write_record(segment: Segment, record: bytes) -> None:
    """Write all of the record or none of it: half a record would end the readable part of the file."""
    if os.write(segment.fd, record) != len(record):
        os.ftruncate(segment.fd, segment.size + RECORD.size * len(segment.messages))
        raise OSError(errno.ENOSPC, "the stream store is full")


def _read_segment(path: Path) -> Segment:
    """Read what was written whole; cut off a record that kill -9 left half written."""
    segment = Segment(int(path.stem), path)
    data = path.read_bytes()
    at = 0
    while at + RECORD.size <= len(data):
        size, when = RECORD.unpack_from(data, at)
        end = at + RECORD.size + size
        if end > len(data):
            break
        segment.messages.append((when, data[at + RECORD.size : end]))
        segment.size += size
        at = end
    os.truncate(path, at)
    return segment


def executors_of(definition: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the S3 executors in a definition, by identifier. No other export is pretended."""
    exports = definition.get("exportDefinition") or {}
    return {executor["identifier"]: executor for executor in exports.get("s3TaskExecutor") or ()}


def file_name(text: str) -> str:
    """Make a file name of any stream or executor name; the hash keeps long ones apart."""
    return f"{quote(text, safe=' ')[:80]}-{hashlib.blake2b(text.encode(), digest_size=6).hexdigest()}"
