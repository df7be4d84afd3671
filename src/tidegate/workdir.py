"""The agent's own folder: one owner at a time, the ledger, and a copy of the configuration."""

from __future__ import annotations

import fcntl
import itertools
import json
import logging
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tidegate.errors import LedgerLost, Locked
from tidegate.ledger import Ledger

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

log = logging.getLogger(__name__)


def as_folder(written: str) -> Path:
    """Return the folder that is meant from here, without `..`: paths in configurations have none, either."""
    return Path(os.path.abspath(written))  # noqa: PTH100 - without following links


def ledger_path(folder: Path) -> Path:
    """Where the ledger is."""
    return folder / "ledger.db"


def archives_path(folder: Path) -> Path:
    """Where the bodies of archives are, and the lists of their members."""
    return folder / "archives"


class Lock:
    """Ownership of a work directory, for as long as the process lives."""

    def __init__(self, folder: Path) -> None:
        """Raise `Locked` when another process owns it."""
        folder.mkdir(parents=True, exist_ok=True)
        self._descriptor = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as err:
            owner = os.read(self._descriptor, 20).decode("ascii", "replace").strip()
            os.close(self._descriptor)
            raise Locked(
                f"{folder} belongs to an agent that runs (process {owner or 'unknown'});"
                " stop that one, or give this one another --work-dir"
            ) from err
        os.ftruncate(self._descriptor, 0)
        os.write(self._descriptor, str(os.getpid()).encode())

    def release(self) -> None:
        """Give it up."""
        os.close(self._descriptor)


def open_ledger(folder: Path, *, jitter: Callable[[], float], in_memory: bool) -> Ledger:
    """Open the ledger. A damaged one is set aside and a new one begun: the files on disk fill it again."""
    if in_memory:
        return Ledger(None, jitter=jitter)
    path = ledger_path(folder)
    try:
        return Ledger(path, jitter=jitter)
    except LedgerLost as err:
        if not err.damaged:
            raise
        set_aside(folder, str(err))
    return Ledger(path, jitter=jitter)


def set_aside(folder: Path, reason: str) -> None:
    """Rename a ledger that cannot be used, and what belongs to it, so that it can be looked into later."""
    path = ledger_path(folder)
    stem = f"ledger.damaged-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}"
    names = (path.with_name(f"{stem}{'-' * bool(count)}{count or ''}.db") for count in itertools.count())
    aside = next(name for name in names if not name.exists())
    for suffix in ("", "-wal", "-shm"):
        if os.path.exists(f"{path}{suffix}"):  # noqa: PTH110 - a suffix, not a child
            os.replace(f"{path}{suffix}", f"{aside}{suffix}")  # noqa: PTH105
    log.error(
        "the ledger cannot be used (%s); it is kept as %s, and a new one is filled from the files on disk",
        reason,
        aside,
    )


def keep_configuration(folder: Path, raw: Mapping[str, object]) -> None:
    """Keep a copy, so that `explain` knows what the agent was told."""
    part = folder / "config.json.part"
    part.write_text(json.dumps(raw, default=str), encoding="utf-8")
    part.chmod(0o600)
    part.replace(folder / "config.json")


def kept_configuration(folder: Path) -> dict[str, Any] | None:
    """Read the copy; None when there is none."""
    try:
        found = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None
