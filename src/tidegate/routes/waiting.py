"""Who waits for promises to be kept, and until when. No thread waits with them."""

from __future__ import annotations

import heapq
import itertools
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from tidegate.ledger import Settled

MOST = 10_000
"""Requests that wait at a time. Beyond it nobody waits: the answer is that it is under way."""

COMING_SECONDS = 1.0
"""For so long the end of a wait is put off whose news is being written down."""


@dataclass(slots=True, eq=False)
class Wait:
    """One request that is to be answered when all is stored, when one failed, or when its time is over.

    `missing` are the promises that it still waits for, and `coming` those whose news is being written down.
    `over` is called once, in any thread, with why it is over: "stored", "failed", "late", or "ended" where
    nobody can be asked any more.
    """

    missing: set[bytes]
    over: Callable[[str], None]
    coming: set[bytes] = field(default_factory=set)


class Waiting:
    """All who wait. Safe to use from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._by_promise: dict[bytes, list[Wait]] = {}
        self._ends: list[tuple[float, int, Wait]] = []
        self._numbers = itertools.count()
        self._count = 0  # of those who wait

    def add(self, ids: Collection[bytes], until: float, over: Callable[[str], None]) -> Wait | None:
        """Wait until all of these are stored, or until then (steady seconds). None: too many wait already."""
        wait = Wait(set(ids), over)
        with self._lock:
            if len(self._ends) >= 2 * MOST:  # of most of them nobody waits for the end any more
                self._ends = [one for one in self._ends if one[2].missing]
                heapq.heapify(self._ends)
            if self._count >= MOST:
                return None
            self._count += bool(wait.missing)
            for id_ in wait.missing:
                self._by_promise.setdefault(id_, []).append(wait)
            heapq.heappush(self._ends, (until, next(self._numbers), wait))
        return wait

    def drop(self, wait: Wait) -> None:
        """Do not wait, and do not tell."""
        with self._lock:
            self._forget(wait)

    def claims(self, id_: bytes) -> bool:
        """Whether somebody waits for this promise. Who does is from now on sure to be told by `settled`."""
        with self._lock:
            waits = self._by_promise.get(id_, ())
            for wait in waits:
                wait.coming.add(id_)
            return bool(waits)

    def settled(self, settled: Settled) -> None:
        """Hear what became of promises."""
        if not self._by_promise:
            return
        for transfer in settled.stored:
            self._one(transfer.id, failed=False)
        for transfer, _ in settled.changed:
            self._one(transfer.id, failed=True)
        self.failed([transfer.id for transfer, state, _ in settled.broken if state.name == "FAILED"])

    def failed(self, ids: Collection[bytes]) -> None:
        """These will not be stored."""
        for id_ in ids:
            self._one(id_, failed=True)

    def expire(self, now: float) -> float | None:
        """Answer those whose time is over. Returns the seconds to the next one; None: nobody waits."""
        late: list[Wait] = []
        with self._lock:
            while self._ends and (self._ends[0][0] <= now or not self._ends[0][2].missing):
                wait = heapq.heappop(self._ends)[2]
                if wait.coming & wait.missing:
                    heapq.heappush(self._ends, (now + COMING_SECONDS, next(self._numbers), wait))
                elif wait.missing:
                    self._forget(wait)
                    late.append(wait)
            following = self._ends[0][0] - now if self._ends else None
        for wait in late:
            wait.over("late")
        return following

    def give_up(self) -> None:
        """Answer everybody: nobody will tell us any more."""
        with self._lock:
            waits = [wait for _, _, wait in self._ends if wait.missing]
            self._ends.clear()
            self._by_promise.clear()
            self._count = 0
            for wait in waits:
                wait.missing = set()
        for wait in waits:
            wait.over("ended")

    def _one(self, id_: bytes, *, failed: bool) -> None:
        with self._lock:
            waits = self._by_promise.pop(id_, [])
            over = []
            for wait in waits:
                if failed or wait.missing == {id_}:
                    self._forget(wait)
                    over.append(wait)
                else:
                    wait.missing.discard(id_)
        for wait in over:
            wait.over("failed" if failed else "stored")

    def _forget(self, wait: Wait) -> None:
        self._count -= bool(wait.missing)
        for id_ in wait.missing:
            others = self._by_promise.get(id_, [])
            if wait in others:
                others.remove(wait)
            if not others:
                self._by_promise.pop(id_, None)
        wait.missing = set()
