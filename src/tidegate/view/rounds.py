"""What rounds came to: from one scan of a source to the next, and of a download."""

from __future__ import annotations

import threading
from dataclasses import replace
from typing import TYPE_CHECKING

from tidegate.view.snapshot import CycleReport, SourceReport

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tidegate.fetch.running import Running


class Rounds:
    """Counts what becomes of files while a round lasts. In memory only, and safe to use from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._now: dict[str, CycleReport] = {}
        self._last: dict[str, CycleReport] = {}

    def begin(self, source: str, at: float) -> None:
        """A round begins, and so the one before it is over."""
        with self._lock:
            if before := self._now.get(source):
                self._last[source] = replace(before, finished=at)
            self._now[source] = CycleReport(started=at)

    def scanned(self, source: str, *, found: int, held: int) -> None:
        """The scan of this round has seen so many files."""
        with self._lock:
            self._now[source] = replace(self._now[source], found=found, held=held)

    def count(self, counts: Mapping[tuple[str, str], int]) -> None:
        """Add counters of the ledger: (source, name) -> by how much."""
        with self._lock:
            for (source, name), value in counts.items():
                if (now := self._now.get(source)) is None:
                    continue
                if name == "files_stored":
                    self._now[source] = replace(now, uploaded=now.uploaded + value)
                elif name == "bytes_stored":
                    self._now[source] = replace(now, bytes=now.bytes + value)
                elif name == "files_quarantined":
                    self._now[source] = replace(now, failed=now.failed + value)

    def last(self, source: str) -> CycleReport | None:
        """Return the last round that is over, or the first one as long as it lasts."""
        with self._lock:
            return self._last.get(source) or self._now.get(source)


def download_report(download: Running) -> SourceReport:
    """Tell what the last round brought."""
    last = download.last
    if last is None:
        return SourceReport(kind="download")
    end = last.finished
    return SourceReport(
        kind="download",
        scanned_at=end,
        found=last.listed,
        problems=dict(list(last.problems.items())[:20]),
        next_at=None if end is None else end + download.settings.interval_seconds,
        figures={
            "added": last.added,
            "unchanged": last.unchanged,
            "deleted": last.deleted,
            "problems": len(last.problems),
        },
    )
