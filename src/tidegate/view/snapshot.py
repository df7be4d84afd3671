"""The state of a running agent as one value, and the file through which others may see it.

The file is a view: nothing is ever read back from it to decide anything.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

FILE = "status.json"
STALE_SECONDS = 10.0
"""The file of a running agent is never older."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldFile:
    """A file that is held back, why, and for how many more seconds; None: until something changes."""

    path: str
    why: str
    seconds: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class CycleReport:
    """One round of a source: a cycle, or from one scan to the next. Times are wall-clock seconds.

    `finished` is None as long as it lasts. `uploaded`, `failed` and `bytes` are of what was stored, or put
    into quarantine, meanwhile.
    """

    started: float
    finished: float | None = None
    found: int = 0
    uploaded: int = 0
    failed: int = 0
    held: int = 0
    bytes: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceReport:
    """What the last scan of one source saw. `scanned_at` is in wall-clock seconds; None: not yet.

    `space` is what there is to tell about room on its disk, if anything; `free_bytes` are free there, and in
    `full_seconds` none are if all goes on as it does (None: not to be seen). `last` is the last round that
    is over, or the first one while it lasts; `next_at` when the next one begins. `cycles`: rounds are
    cycles, and `running` is when the one began that is not over.

    A source of the `kind` "download" tells in `figures` what its last round brought, one of the kind "socket"
    what came since the start, and in `state` whether it is connected.
    """

    scanned_at: float | None = None
    found: int = 0
    holds: dict[str, int] = field(default_factory=dict)
    held: list[HeldFile] = field(default_factory=list)
    problems: dict[str, str] = field(default_factory=dict)
    space: str = ""
    free_bytes: int | None = None
    full_seconds: float | None = None
    last: CycleReport | None = None
    next_at: float | None = None
    cycles: bool = False
    running: float | None = None
    kind: str = "folder"
    state: str = ""
    figures: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """One agent at one moment. `troubles` and `lanes` are what does not work, and why.

    `faults` are those of a configuration that is not used because of them, `home` is what is wrong with the
    mothership.
    """

    version: str
    pid: int
    at: float
    started_at: float
    ledger: str
    sources: dict[str, SourceReport]
    troubles: dict[str, dict[str, Any]]
    lanes: dict[str, str]
    faults: tuple[str, ...] = ()
    home: str = ""


def write(snapshot: Snapshot, folder: Path) -> None:
    """Replace the file in one step, so that a reader sees one moment. Not durable; it need not be."""
    part = folder / f"{FILE}.part"
    text = json.dumps(asdict(snapshot), ensure_ascii=True)  # odd file names become escapes
    part.write_text(text, encoding="ascii")
    os.replace(part, folder / FILE)  # noqa: PTH105 - one system call, by design


def read(folder: Path) -> dict[str, Any] | None:
    """Read what the agent last wrote; None when there is nothing to read."""
    try:
        found = json.loads((folder / FILE).read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None
