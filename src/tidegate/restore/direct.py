"""Asks S3 for each object itself: evenly, with several threads, and with every answer written down.

An answer is in the journal within a second. What was asked for and not yet written down when the process
is killed is asked for again, and S3 answers that it is under way already: nothing is lost, or counted twice.
"""

from __future__ import annotations

import dataclasses
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from tidegate.errors import Refused, Unavailable
from tidegate.restore.crew import together
from tidegate.restore.decide import Answer, after_error, after_restore, tier_for
from tidegate.restore.nouns import Kind, State
from tidegate.store.archive_calls import Order
from tidegate.store.errors import S3Error

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tidegate.restore.journal import Journal, Sheet
    from tidegate.restore.pace import Pace

HANDS = 16
BLOCKED_IN_A_ROW = 20
"""So many refusals that hold for a whole bucket, with nothing else between, and the run is over."""

_ATTEMPTS = 10
_AWAY_IN_A_ROW = 2 * HANDS
_NO_CAPACITY = 10
_GLANCE_SECONDS = 0.2


class Restorer(Protocol):
    """What can be asked to restore; `tidegate.store.archive_calls.Archive` can."""

    def restore(self, bucket: str, key: str, version: str, order: Order) -> int:
        """Ask for one object; return the status."""


@dataclass(slots=True)
class Sent:
    """How a run has ended. `is_done`: nothing is WANTED any more.

    `trouble` says what is away, `blocked` holds what refuses everything, and `no_capacity` counts those
    that could not be had as Expedited now.
    """

    is_done: bool = False
    trouble: str = ""
    blocked: S3Error | None = None
    no_capacity: int = 0


@dataclass(slots=True, eq=False)
class _Item:
    sheet: Sheet
    position: int
    not_before: float = 0.0

    @property
    def name(self) -> tuple[int, int]:
        return self.sheet.number, self.position


class Sender:
    """Sends the requests of one job. `steady` is a clock that only grows."""

    def __init__(
        self,
        store: Restorer,
        journal: Journal,
        pace: Pace,
        *,
        steady: Callable[[], float],
        hands: int = HANDS,
    ) -> None:
        self._store = store
        self._journal = journal
        self._pace = pace
        self._steady = steady
        self._hands = hands
        self._lock = threading.Lock()
        self._attempts: dict[tuple[int, int], int] = {}  # of all runs, by sheet and position
        self._halt = threading.Event()

    def run(self, *, seconds: float, tier: str, days: int) -> Sent:
        """Send for so many seconds, or until there is no more to be sent. One call at a time."""
        self._halt.clear()
        self._orders = {
            kind: Order.of(tier_for(tier, kind), days if kind.takes_days else None) for kind in Kind
        }
        self._items = self._wanted()
        self._again: list[_Item] = []
        self._busy = 0
        self._dirty: dict[int, Sheet] = {}
        self._sent = Sent()
        self._blocked = self._away = 0
        self._until = self._steady() + seconds
        together(self._send, self._hands, "restore", halt=self._halt, save=self._save)
        return self._sent

    def _wanted(self) -> Iterator[_Item]:
        for sheet in self._journal.sheets(State.WANTED):
            for position in sheet.where(State.WANTED):
                yield _Item(sheet, position)

    def _send(self) -> None:
        while (item := self._next()) is not None:
            wait = self._pace.take(self._steady())
            if wait > 0 and self._halt.wait(wait):
                return  # it was not asked for, and is still wanted
            outcome, error = self._ask(item)
            with self._lock:
                self._busy -= 1
                self._settle(item, outcome, error)

    def _next(self) -> _Item | None:
        """Take the next object; None when there is none, or the time is over."""
        while not self._halt.is_set() and (now := self._steady()) < self._until:
            with self._lock:
                if self._again and self._again[0].not_before <= now:
                    item: _Item | None = self._again.pop(0)
                else:
                    item = next(self._items, None)
                if item is not None:
                    self._busy += 1
                    return item
                if not self._busy and not self._again:
                    self._sent.is_done = not self._sent.no_capacity
                    return None
            self._halt.wait(_GLANCE_SECONDS)
        return None

    def _ask(self, item: _Item) -> tuple[State | Answer, Exception | None]:
        sheet, at = item.sheet, item.position
        try:
            status = self._store.restore(
                sheet.bucket, sheet.keys[at], sheet.version(at), self._orders[sheet.kind(at)]
            )
        except S3Error as error:
            return after_error(error), error
        except Unavailable as error:
            return Answer.AGAIN, error
        except Refused as error:
            return State.FAILED, error
        return after_restore(status), None

    def _settle(self, item: _Item, outcome: State | Answer, error: Exception | None) -> None:
        """Take note of an answer. The lock is held."""
        is_away = isinstance(error, Unavailable)
        self._away = self._away + 1 if is_away else 0
        self._blocked = self._blocked + 1 if outcome is Answer.BLOCKED else 0
        if isinstance(outcome, State):
            self._set(item, outcome, error)
        elif outcome is Answer.LATER:
            self._sent.no_capacity += 1
            if self._sent.no_capacity >= _NO_CAPACITY:
                self._halt.set()
        elif outcome is Answer.BLOCKED:
            self._set(item, State.FAILED, error)
            if self._blocked >= BLOCKED_IN_A_ROW and isinstance(error, S3Error):
                self._sent.blocked = error
                self._halt.set()
        else:
            self._retry(item, outcome, error, is_away=is_away)
        if self._away >= _AWAY_IN_A_ROW:
            self._sent.trouble = str(error)
            self._halt.set()

    def _retry(self, item: _Item, outcome: Answer, error: Exception | None, *, is_away: bool) -> None:
        """Put one back. S3 being slow or away costs it no attempt."""
        now, attempts = self._steady(), self._attempts.get(item.name, 0)
        if outcome is Answer.SLOWER:
            self._pace.throttled(now)
        elif not is_away:
            attempts += 1
            if attempts >= _ATTEMPTS:
                self._set(item, State.FAILED, error)
                return
            self._attempts[item.name] = attempts
        item.not_before = now + 0.2 * 2 ** min(attempts, 5)
        self._again.append(item)

    def _set(self, item: _Item, state: State, error: Exception | None) -> None:
        code = error.code or f"Status{error.status}" if isinstance(error, S3Error) else "InvalidKey"
        message = error.message if isinstance(error, S3Error) else str(error)
        item.sheet.set(item.position, state, (code, message))
        self._attempts.pop(item.name, None)
        self._dirty[item.sheet.number] = item.sheet

    def _save(self) -> None:
        """Write down what was answered so far: copies, for the threads go on."""
        with self._lock:
            sheets = [
                dataclasses.replace(it, states=bytearray(it.states), failures=dict(it.failures))
                for it in self._dirty.values()
            ]
            for sheet in self._dirty.values():
                sheet.failures.clear()
            self._dirty.clear()
        if sheets:
            self._journal.save(sheets)
