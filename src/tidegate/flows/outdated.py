"""Promises whose file has changed or gone while they were nobody's are let go of.

A carrier would find that out. But while a bucket is away it is given nothing, and one file that is written
again and again would fill the ledger with versions that nobody can ever send.
"""

from __future__ import annotations

import os
from itertools import islice
from typing import TYPE_CHECKING

from tidegate.disk.walk import is_version
from tidegate.model import State

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tidegate.ledger import Ledger
    from tidegate.model import Candidate, Transfer

LOOKS = 500
"""How many are looked at in one scan: some milliseconds."""

MOST_TIMES = 20
"""So many times that at most, where more wait than there are files."""


class Outdated:
    """Looks at some after each scan of a source, in rounds, so that each has its turn."""

    def __init__(self, source: str, ledger: Ledger, *, looks: int = LOOKS) -> None:
        self._source = source
        self._ledger = ledger
        self._looks = looks
        self._waiting: Iterator[Transfer] = iter(())
        self._quarantined: Iterator[Transfer] = iter(())

    def let_go(self, found: int, *, now: float) -> list[Transfer]:
        """Drop those of the next ones that are outdated, and return them; `found` files are there."""
        excess = self._ledger.in_state(self._source, State.READY) - found
        most = min(self._looks + max(0, excess), MOST_TIMES * self._looks)
        some = list(islice(self._waiting, most))
        if not some:
            self._waiting = self._ledger.idle.unsent(self._source)
            some = list(islice(self._waiting, most))
        dropped = self._drop(some, "changed or gone before it was sent", now)
        some = list(islice(self._quarantined, self._looks))
        if not some:
            self._quarantined = self._ledger.idle.quarantined(self._source)
            some = list(islice(self._quarantined, self._looks))
        return dropped + self._drop(some, "changed or gone while in quarantine", now)

    def _drop(self, some: list[Transfer], note: str, now: float) -> list[Transfer]:
        outdated = [transfer for transfer in some if _is_outdated(transfer.body)]
        return self._ledger.idle.drop(outdated, note, now=now) if outdated else []


def _is_outdated(candidate: Candidate) -> bool:
    """Whether this version is no more for certain; not if only its disk or a folder above it is away."""
    path, mark = candidate
    try:
        return not is_version(os.stat(path), mark)
    except FileNotFoundError:
        try:
            return os.stat(os.path.dirname(path)).st_dev == mark.device
        except OSError:
            return False
    except OSError:
        return False
