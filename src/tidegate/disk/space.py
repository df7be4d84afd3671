"""How full a file system is, and when it will be full. Asks the kernel; changes nothing."""

from __future__ import annotations

import math
import os
import threading
from collections import deque
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tidegate.errors import NoRoom

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tidegate.config import DiskLimit

WINDOW_SECONDS = 600.0
"""Rates are those of so many seconds."""

SPAN_SECONDS = 30.0
"""Over less time than this no rate is believed."""


@dataclass(frozen=True, slots=True)
class Usage:
    """The room of one file system, in bytes. `free` is what programs without privileges may still use."""

    device: int
    used: int
    free: int
    block: int

    @property
    def percent(self) -> float:
        """How much of it is used, as `df` tells it."""
        return 100 * self.used / (self.used + self.free) if self.used + self.free else 0.0

    def taken_by(self, size: int) -> int:
        """Return what a file of this size takes: whole blocks."""
        return -(-size // self.block) * self.block


def usage_of(folder: str) -> Usage:
    """Measure the file system that holds the folder. Raises OSError when there is no such folder."""
    status = os.statvfs(folder)
    block = status.f_frsize
    return Usage(
        device=os.stat(folder).st_dev,
        used=(status.f_blocks - status.f_bfree) * block,
        free=status.f_bavail * block,
        block=block,
    )


class Room:
    """Keeps room on the disk of a folder for files that are being written. Safe to use from any thread."""

    def __init__(self, folder: str, *, reserve: int) -> None:
        """`reserve` bytes stay free."""
        self._folder = folder
        self._reserve = reserve
        self._lock = threading.Lock()
        self._kept = 0

    @contextmanager
    def kept(self, size: int) -> Iterator[None]:
        """Keep so many bytes for the block. Raises NoRoom where there are less, and OSError."""
        with self._lock:
            usage = usage_of(self._folder)
            free = usage.free - self._kept - self._reserve
            if (usage.used or usage.free) and size > free:  # some file systems know nothing of their room
                raise NoRoom(f"there is no room in {self._folder} for {size} bytes more")
            self._kept += size
        try:
            yield
        finally:
            with self._lock:
                self._kept -= size


def excess(limit: DiskLimit, usage: Usage) -> int:
    """Return how many bytes must go until the limit is kept; 0: it is kept."""
    if limit.percent_used is not None:
        most = math.floor((usage.used + usage.free) * limit.percent_used / 100)
        return max(0, usage.used - most)
    return max(0, (limit.free_bytes or 0) - usage.free)


@dataclass(frozen=True, slots=True)
class Sample:
    """One reading. `at` is on the steady clock; `stored` is all the bytes ever stored, and only grows."""

    at: float
    free: int
    backlog: int
    stored: int


class Forecast:
    """Tells from the last minutes what the next hours will bring, if all goes on like that."""

    def __init__(self) -> None:
        self._samples: deque[Sample] = deque()

    def add(self, sample: Sample) -> None:
        """Take in a reading."""
        self._samples.append(sample)
        while self._samples[0].at < sample.at - WINDOW_SECONDS:
            self._samples.popleft()

    def full_seconds(self) -> float | None:
        """Return after how many seconds nothing is free any more; None: not to be seen."""
        return self._seconds(self._last().free, self._first().free - self._last().free)

    def sent_seconds(self) -> float | None:
        """Return after how many seconds the backlog is stored; None: not to be seen."""
        return self._seconds(self._last().backlog, self._last().stored - self._first().stored)

    def text(self) -> str:
        """Say both for people; "" as long as too little was seen to say anything."""
        if self._span() < SPAN_SECONDS:
            return ""
        full, sent = self.full_seconds(), self.sent_seconds()
        disk = "the disk is not filling up" if full is None else f"disk full in {_roughly(full)}"
        backlog = "backlog is not being sent" if sent is None else f"backlog sent in {_roughly(sent)}"
        return f"{disk}, {backlog if self._last().backlog else 'no backlog'}"

    def _seconds(self, left: int, done: int) -> float | None:
        """How long `left` bytes take when `done` bytes took as long as we have looked."""
        if not left:
            return 0.0
        return left / done * self._span() if done > 0 and self._span() >= SPAN_SECONDS else None

    def _span(self) -> float:
        return self._last().at - self._first().at

    def _first(self) -> Sample:
        return self._samples[0] if self._samples else _NOTHING

    def _last(self) -> Sample:
        return self._samples[-1] if self._samples else _NOTHING


_NOTHING = Sample(at=0.0, free=1, backlog=1, stored=0)
_UNITS = (("days", 86400.0, 2.0), ("h", 3600.0, 1.5), ("min", 60.0, 1.5))


def _roughly(seconds: float) -> str:
    """Write a duration in the largest unit of which there are some."""
    for name, length, least in _UNITS:
        if seconds >= least * length:
            return f"about {seconds / length:.0f} {name}"
    return "about a minute"
