"""What is to be told to the outside unasked: kept until a door has delivered it, and never without bound."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tidegate.ledger.rows import add_counts

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from tidegate.config import EventSettings
    from tidegate.ledger.database import Cursor, Database

KINDS = (
    *("stored", "failed", "quarantined", "held-too-long", "configuration-rejected", "cycle-finished"),
    *("carrier-down", "carrier-up", "restore"),
)
LIMIT = 2000
"""Events that wait at a time. Beyond it the oldest is dropped, and counted."""

TEXT_LENGTH = 600
"""Characters of one text in an event: paths and reasons may be long, and a message must stay small."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Something that happened, at a moment of the wall clock, in seconds."""

    id: int
    kind: str
    at: float
    body: Mapping[str, Any]


class Events:
    """A part of the ledger, with its guarantees. Each event is delivered at least once, unless dropped."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.kinds: Collection[str] = KINDS
        """Those to be recorded; the others are passed over."""
        self.posted_only = True
        """Whether only those files count as stored that somebody asked for by a request."""

    def switch(self, settings: EventSettings) -> None:
        """Record from now on what the user wants to be told."""
        on = {
            "stored": settings.stored != "None",
            "failed": settings.failed,
            "quarantined": settings.quarantined,
            "held-too-long": settings.held_too_long,
            "configuration-rejected": settings.configuration_rejected,
            "cycle-finished": settings.cycle_finished,
            "carrier-down": settings.carriers,
            "carrier-up": settings.carriers,
            "restore": settings.restores,
        }
        self.kinds = frozenset(kind for kind in KINDS if on[kind])
        self.posted_only = settings.stored != "All"

    def record(self, kind: str, body: Mapping[str, Any], *, now: float, cursor: Cursor | None = None) -> None:
        """Keep an event, with what else `cursor` writes if there is one. Texts in it are cut."""
        self.record_all(kind, [body], now=now, cursor=cursor)

    def record_all(
        self, kind: str, bodies: Iterable[Mapping[str, Any]], *, now: float, cursor: Cursor | None = None
    ) -> None:
        """Keep several events of one kind."""
        if kind not in self.kinds:
            return
        rows = [
            (kind, now, json.dumps({name: _cut(value) for name, value in body.items()})) for body in bodies
        ]
        if not rows:
            return
        if cursor is None:
            with self._database.transaction() as own:
                _insert(own, rows)
        else:
            _insert(cursor, rows)

    def pending(self, limit: int) -> list[Event]:
        """List up to `limit` events that are to be delivered, the oldest first."""
        rows = self._database.rows("SELECT id, kind, at, body FROM event ORDER BY id LIMIT ?", (limit,))
        return [Event(id=id_, kind=kind, at=at, body=json.loads(body)) for id_, kind, at, body in rows]

    def delivered(self, ids: Collection[int]) -> None:
        """These have been taken."""
        with self._database.transaction() as cursor:
            cursor.run_in("DELETE FROM event WHERE id IN ({ids})", (), list(ids))


def _insert(cursor: Cursor, rows: Iterable[tuple[object, ...]]) -> None:
    cursor.run_many("INSERT INTO event (kind, at, body) VALUES (?, ?, ?)", rows)
    dropped = cursor.run(
        "DELETE FROM event WHERE id IN (SELECT id FROM event ORDER BY id DESC LIMIT -1 OFFSET ?)", (LIMIT,)
    )
    add_counts(cursor, {("", "events_dropped"): dropped})


def _cut(value: object) -> object:
    """Shorten texts, also those in a list, and lists."""
    if isinstance(value, str):
        return value if len(value) <= TEXT_LENGTH else f"{value[:TEXT_LENGTH]}…"
    if isinstance(value, (list, tuple)):
        return [_cut(one) for one in value[:5]]
    return value
