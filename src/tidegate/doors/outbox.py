"""Takes events out of the house: on `<base>/events/<kind>`, by every line, in order, until each is taken.

The ledger keeps an event until every line has taken it. A line that is away holds up no other, and gets its
events later; one that we have no right to use misses them. Where both lines and the process fail, an
event may be told twice: its `eventId` says so.
"""

from __future__ import annotations

import logging
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from tidegate.doors.door import Door
from tidegate.errors import LedgerLost, NotAllowed, TidegateError
from tidegate.routes.wire import REPLY_BYTES, cut, packed, stamp

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    from tidegate.doors.line import Line

BATCH = 50
MOST_WAITING = 2_000
"""More events never wait: see `tidegate.ledger.events`."""

MOST_A_SECOND = 20.0
LOOK_SECONDS = 1.0
"""Between two looks for events, when there were none."""

LOOK_SECONDS_BEHIND = 5.0
"""The same while a line is away: then all that waits is looked at."""

LONGEST_PAUSE = 60.0
REFUSED_PAUSE = 600.0

log = logging.getLogger(__name__)


class Event(Protocol):
    """See `tidegate.ledger.events`."""

    @property
    def id(self) -> int: ...  # noqa: D102
    @property
    def kind(self) -> str: ...  # noqa: D102
    @property
    def at(self) -> float: ...  # noqa: D102
    @property
    def body(self) -> Mapping[str, object]: ...  # noqa: D102


class Outbox(Protocol):
    """Where events wait. May raise LedgerLost."""

    def pending(self, limit: int) -> Sequence[Event]:
        """List the oldest."""

    def delivered(self, ids: Collection[int]) -> None:
        """Forget these."""


@dataclass
class _Way:
    """One line, and how far it is: every event up to `done` it has taken, or will never."""

    line: Line
    base: str
    done: int = 0
    pause: float = 1.0
    again_at: float = float("-inf")
    refused: bool = False
    said: str = ""


class EventsDoor(Door):
    """Delivers what is in the outbox, from `start` to `close`."""

    def __init__(
        self,
        ways: Sequence[tuple[Line, str]],
        *,
        steady: Callable[[], float],
    ) -> None:
        super().__init__("events")
        self._ways = [_Way(line, base) for line, base in ways]
        self._steady = steady
        self._outbox: Outbox | None = None
        self._woken = False
        self._lock = threading.Lock()

    def serve(self, outbox: Outbox | None) -> None:
        """Take events from there. With None, the outbox before may be closed when this returns."""
        with self._lock:
            if outbox is not self._outbox:
                for way in self._ways:
                    way.done = 0  # another ledger may count anew
            self._outbox = outbox

    def wake(self) -> None:
        """Try again soon where there was no right to: we may have got it."""
        self._woken = True
        super().wake()

    def _step(self) -> float:
        now = self._steady()
        if self._woken:
            self._woken = False  # first, or one that comes meanwhile would be lost
            for way in self._ways:
                if way.refused:
                    way.again_at, way.pause = float("-inf"), 1.0
        due = [way for way in self._ways if way.again_at <= now]
        # Where one is away, the oldest are those that it has not taken, and the others need newer ones.
        outbox = self._outbox
        limit = BATCH if len(due) == len(self._ways) else MOST_WAITING
        events = self._waiting(outbox, limit) if due else []
        sent = max((self._deliver(way, outbox, events, now) for way in due), default=0)
        self._forget(outbox, events)
        if sent:
            return sent / MOST_A_SECOND
        return LOOK_SECONDS if len(due) == len(self._ways) else LOOK_SECONDS_BEHIND

    def _deliver(self, way: _Way, outbox: Outbox | None, events: Sequence[Event], now: float) -> int:
        """Publish the next ones, in order, until one cannot be. Returns how many were."""
        fresh = [event for event in events if event.id > way.done][:BATCH]
        for number, event in enumerate(fresh):
            try:
                way.line.publish(f"{way.base}/events/{event.kind}", told(event))
            except TidegateError as err:
                way.refused = isinstance(err, NotAllowed)
                longest = REFUSED_PAUSE if way.refused else LONGEST_PAUSE
                way.again_at, way.pause = now + min(way.pause, longest), min(2 * way.pause, longest)
                self._say(way, err)
                return number
            with self._lock:
                if self._outbox is not outbox:  # another one took its place meanwhile, and may count anew
                    return number
                way.done, way.pause, way.refused, way.said = event.id, 1.0, False, ""
        return len(fresh)

    def _say(self, way: _Way, error: TidegateError) -> None:
        if way.said != str(error):
            way.said = str(error)
            fate = "are not told" if way.refused else "wait"
            log.warning("events %s (%s), and it is tried again: %s", fate, way.line.name, error)

    def _waiting(self, outbox: Outbox | None, limit: int) -> Sequence[Event]:
        with self._lock:
            if outbox is None or outbox is not self._outbox:
                return []
            try:
                return outbox.pending(limit)
            except LedgerLost:
                return []  # whoever mends it gives us another outbox

    def _forget(self, outbox: Outbox | None, events: Sequence[Event]) -> None:
        """Have those forgotten that everybody has taken who may."""
        taken = min((way.done for way in self._ways if not way.refused), default=0)
        done = [event.id for event in events if event.id <= taken]
        with self._lock:
            if done and outbox is not None and outbox is self._outbox:
                try:
                    outbox.delivered(done)
                except LedgerLost:
                    log.debug("the ledger is lost; these events may be told again")


def told(event: Event) -> bytes:
    """Write an event as it is published."""
    head = {"event": event.kind, "eventId": event.id, "at": stamp(event.at)}
    text = packed({**event.body, **head})
    if len(text) > REPLY_BYTES:
        words = cut(text.decode(), REPLY_BYTES // 2)
        text = packed({**head, "cut": words})
    return text
