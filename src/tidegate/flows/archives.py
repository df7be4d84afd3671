"""Letting go of the members of an archive that is stored: each only if it is still the packed version."""

from __future__ import annotations

import itertools
import logging
import os
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from tidegate.archive.members import SUFFIX, read
from tidegate.config import After
from tidegate.disk.release import Fate, delete, move_to, release
from tidegate.logs import about

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from tidegate.config import Source
    from tidegate.disk.release import Released
    from tidegate.ledger import Ledger
    from tidegate.model import Candidate, Transfer

MARK = "tidegate-members"
"""Metadata by which the promise of an archive is known, also in the bucket: how many members it has."""

BATCH = 512

log = logging.getLogger(__name__)


def let_go_archives(
    source: Source, stored: Sequence[Transfer], ledger: Ledger, *, now: float
) -> list[Transfer]:
    """Deal with the archives among what is stored. Returns the others.

    May be cut off anywhere and done again: the list of members goes last, and then the promise is done.
    """
    for transfer in stored:
        if MARK in transfer.metadata:
            _let_go(source, transfer, ledger, now)
    return [transfer for transfer in stored if MARK not in transfer.metadata]


def _let_go(source: Source, transfer: Transfer, ledger: Ledger, now: float) -> None:
    listed = Path(f"{transfer.body.path}{SUFFIX}")
    counts: Counter[Fate] = Counter()
    waits: Released | None = None
    if source.after is not After.KEEP and listed.exists():  # else somebody died just before the last step
        for one in _release(source, read(listed)):
            counts[one.fate] += 1
            if one.fate in (Fate.FAILED, Fate.OPEN):
                waits = waits or one
            elif one.fate is Fate.CHANGED:
                text = "%s has changed since it was packed and goes again %s"
                extra = about("changed", transfer, reason=one.note)
                log.info(text, one.candidate.path, one.note, extra=extra)
    gone = "files_moved" if source.after is After.MOVE else "files_deleted"
    ledger.add({gone: counts[Fate.RELEASED], "files_changed": counts[Fate.CHANGED]}, source=source.name)
    if waits:
        reason = f"the first is {waits.candidate.path}: {waits.note or waits.fate.value}"
        count = counts[Fate.FAILED] + counts[Fate.OPEN]
        note = f"{count} of its members cannot be let go yet, {reason}"
        extra = about("not_released", transfer, reason=note)
        log.warning("%s is stored, but %s", transfer.target, note, extra=extra)
        ledger.not_released([(transfer.id, note)], now=now)
        return
    Path(transfer.body.path).unlink(missing_ok=True)
    listed.unlink(missing_ok=True)
    ledger.done([(transfer, "archives_finished", "")], now=now)
    extra = about("released", transfer)
    log.info("%d members of %s were let go", counts[Fate.RELEASED], transfer.target, extra=extra)


def _release(source: Source, members: Iterable[Candidate]) -> Iterable[Released]:
    """Let go of one after the other, and of the folders that it empties, if asked."""
    dispose = move_to(source.move_to, source.glob.root) if source.move_to else delete
    left = iter(members)
    while some := list(itertools.islice(left, BATCH)):
        yield from release(some, dispose)
        if source.prune_empty_directories:
            prune({os.path.dirname(one.path) for one in some}, source.glob.root)


def prune(folders: Iterable[str], root: str) -> None:
    """Delete the folders that have become empty, and those above them, but never the root."""
    for folder in folders:
        with suppress(OSError):
            while folder != root and folder.startswith(root):
                os.rmdir(folder)
                folder = os.path.dirname(folder)  # noqa: PLW2901 - climbs until one is not empty
