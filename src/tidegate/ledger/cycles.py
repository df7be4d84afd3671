"""Sync cycles: when each began, what goes under its name, and what came of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tidegate.ledger.rows import as_row, insert
from tidegate.model import State

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tidegate.ledger.database import Cursor, Database
    from tidegate.ledger.events import Events
    from tidegate.model import Transfer

REMEMBERED = 20
"""Cycles of a source that are over and not yet forgotten."""

_COLUMNS = "source, started, listed, finished, found, uploaded, failed, held, bytes"


@dataclass(frozen=True, slots=True, kw_only=True)
class Cycle:
    """One cycle. Times are wall-clock seconds; `started` is what it is called, unique for its source.

    `listed`: all that goes in it has been promised. `finished` is None as long as any of that is under way.
    Figures count what becomes one object each: `found` all that was there and had not gone before, `held`
    what is left for the next cycle.
    """

    source: str
    started: int
    listed: bool = False
    finished: float | None = None
    found: int = 0
    uploaded: int = 0
    failed: int = 0
    held: int = 0
    bytes: int = 0


class Cycles:
    """A part of the ledger, with its guarantees. At most one cycle of a source is not finished.

    Under the name of one cycle no key is given to two promises: nothing that a cycle has stored is replaced
    by the same cycle, also not by one that goes on after a crash.
    """

    def __init__(self, database: Database, events: Events, *, durable: bool) -> None:
        self._database = database
        self._events = events
        self.durable = durable
        """Whether it outlives the process. If not, it cannot tell what is known of earlier ones."""

    # When

    def since(self, source: str, rhythm: str, *, first: float, now: float) -> float:
        """Return up to when the cycles of a rhythm have been dealt with; of a new one, up to `first`.

        A moment that lies ahead was noted by a clock that was wrong.
        """
        rows = self._database.rows("SELECT rhythm, since FROM rhythm WHERE source = ?", (source,))
        if rows and rows[0][0] == rhythm and rows[0][1] <= now:
            return float(rows[0][1])
        since = now if rows and rows[0][0] == rhythm else first
        with self._database.transaction() as cursor:
            _note(cursor, source, rhythm, since)
        return since

    def begin(self, source: str, rhythm: str, *, now: float) -> Cycle:
        """Begin a cycle, or return the one that is not finished. It deals with what was due until now."""
        with self._database.transaction() as cursor:
            _note(cursor, source, rhythm, now)
            if rows := cursor.rows(_OPEN, (source,)):
                return _cycle(rows[0])
            started = int(now)
            taken = {row[0] for row in cursor.rows("SELECT started FROM cycle WHERE source = ?", (source,))}
            while started in taken:
                started += 1
            cursor.run("INSERT INTO cycle (source, started) VALUES (?, ?)", (source, started))
        return Cycle(source=source, started=started)

    def current(self, source: str) -> Cycle | None:
        """Return the cycle that is not finished, if there is one."""
        rows = self._database.rows(_OPEN, (source,))
        return _cycle(rows[0]) if rows else None

    def last(self, source: str) -> Cycle | None:
        """Return the cycle that finished last, else the first one while it lasts, if any."""
        rows = self._database.rows(
            f"SELECT {_COLUMNS} FROM cycle WHERE source = ? ORDER BY finished IS NULL, seq DESC LIMIT 1",
            (source,),
        )
        return _cycle(rows[0]) if rows else None

    # What

    def has_given(self, cycle: Cycle, key: str) -> bool:
        """Whether the cycle has an object of that key already."""
        return bool(
            self._database.rows(
                "SELECT 1 FROM cycle_object WHERE source = ? AND started = ? AND key = ?",
                (cycle.source, cycle.started, key),
            )
        )

    def offer(
        self, cycle: Cycle, offers: Iterable[tuple[Transfer, str]], *, now: float, archive: str = ""
    ) -> tuple[int, list[Transfer]]:
        """Promise each under the name of the cycle, as `Ledger.offer` does, in one transaction.

        Returns how many are new, and those whose key the cycle has given to another one: these are left.
        `archive` is the name of the one body of ours that is promised.
        """
        new, left = 0, []
        with self._database.transaction() as cursor:
            for transfer, refusal in offers:
                values = (cycle.source, cycle.started, transfer.target.key or transfer.id.hex())
                size = transfer.body.fingerprint.size
                added = cursor.run(
                    "INSERT OR IGNORE INTO cycle_object VALUES (?, ?, ?, ?, ?)", (*values, transfer.id, size)
                )
                if not added and cursor.rows(_GIVEN, values) != [(transfer.id,)]:
                    left.append(transfer)
                    continue
                new += insert(cursor, [as_row(transfer, refusal, now)])
                if archive:
                    cursor.run("INSERT INTO archive VALUES (?, ?, ?)", (archive, cycle.source, transfer.id))
        return new, left

    def listed(self, cycle: Cycle, *, held: int, failed: int) -> None:
        """All that goes has been promised; so much is left for the next one, so much could not be read."""
        with self._database.transaction() as cursor:
            cursor.run(
                "UPDATE cycle SET listed = 1, held = ?, failed = ?, found = ? + (SELECT count(*)"
                " FROM cycle_object o WHERE o.source = cycle.source AND o.started = cycle.started)"
                " WHERE source = ? AND started = ?",
                (held, failed, held + failed, cycle.source, cycle.started),
            )

    def finish(self, cycle: Cycle, *, now: float) -> Cycle | None:
        """End a cycle whose objects are all stored, failed or dropped. Returns it; None: it goes on."""
        with self._database.transaction() as cursor:
            counts = {
                state: (objects, size)
                for state, objects, size in cursor.rows(
                    "SELECT p.state, count(*), sum(o.bytes) FROM cycle_object o"
                    " LEFT JOIN promise p ON p.id = o.promise"
                    " WHERE o.source = ? AND o.started = ? GROUP BY p.state",
                    (cycle.source, cycle.started),
                )
            }
            if counts.keys() & {State.READY, State.SENT}:
                return None
            # One that the ledger has forgotten was stored, and long since.
            stored = [counts.get(state, (0, 0)) for state in (State.STORED, State.DONE, None)]
            values = (
                max(now, cycle.started),
                sum(objects for objects, _ in stored),
                sum(size for _, size in stored),
                counts.get(State.FAILED, (0, 0))[0],
                counts.get(State.DROPPED, (0, 0))[0],
            )
            place = (cycle.source, cycle.started)
            cursor.run(
                "UPDATE cycle SET finished = ?, uploaded = ?, bytes = ?, failed = failed + ?, held = held + ?"
                " WHERE source = ? AND started = ?",
                (*values, *place),
            )
            cursor.run("DELETE FROM cycle_object WHERE source = ? AND started = ?", place)
            cursor.run(
                "DELETE FROM cycle WHERE source = ? AND seq NOT IN"
                " (SELECT seq FROM cycle WHERE source = ? ORDER BY seq DESC LIMIT ?)",
                (cycle.source, cycle.source, REMEMBERED),
            )
            (row,) = cursor.rows(f"SELECT {_COLUMNS} FROM cycle WHERE source = ? AND started = ?", place)
            ended = _cycle(row)
            self._events.record("cycle-finished", _told(ended), now=now, cursor=cursor)
        return ended

    # Archives

    def archives(self) -> dict[str, bool]:
        """Name the archives whose members are not to be packed again; True: their bodies are needed, too."""
        rows = self._database.rows(
            "SELECT a.name, p.state FROM archive a JOIN promise p ON p.id = a.promise"
            " WHERE p.state IN (0, 1, 2, 5)"
        )
        return {name: state != State.STORED for name, state in rows}

    def forget_archives(self) -> None:
        """Forget those that nothing is to be done for any more."""
        with self._database.transaction() as cursor:
            cursor.run(
                "DELETE FROM archive WHERE NOT EXISTS"
                " (SELECT 1 FROM promise p WHERE p.id = archive.promise AND p.state IN (0, 1, 2, 5))"
            )


_OPEN = f"SELECT {_COLUMNS} FROM cycle WHERE source = ? AND finished IS NULL"
_GIVEN = "SELECT promise FROM cycle_object WHERE source = ? AND started = ? AND key = ?"


def _note(cursor: Cursor, source: str, rhythm: str, now: float) -> None:
    cursor.run("INSERT OR REPLACE INTO rhythm VALUES (?, ?, ?)", (source, rhythm, now))


def _cycle(row: tuple[Any, ...]) -> Cycle:
    values = dict(zip(_COLUMNS.split(", "), row, strict=True))
    return Cycle(**values | {"listed": bool(values["listed"])})


def _told(cycle: Cycle) -> dict[str, Any]:
    """What others hear of a cycle that is over."""
    figures = ("source", "started", "finished", "found", "uploaded", "failed", "held", "bytes")
    return {name: getattr(cycle, name) for name in figures}
