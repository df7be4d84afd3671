"""Looking into a ledger from outside: what `status` and `explain` show. Changes nothing."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tidegate.ledger.database import Database
from tidegate.ledger.orders import EVERYTHING
from tidegate.model import State

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One promise, for people to read. Times are wall-clock seconds."""

    source: str
    path: str
    fingerprint: str
    size: int
    bucket: str
    key: str
    carrier: str
    state: State
    due: float
    attempts: int
    lane: str | None
    receipt: int | None
    changed_at: float
    note: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Pause:
    """A bucket that refuses everything for the time being. Times are wall-clock seconds."""

    bucket: str
    since: float
    due: float
    failures: int
    note: str


_ENTRY = (
    "source, path, fingerprint, size, bucket, key, carrier, state, due, attempts, lane, receipt,"
    " changed_at, note"
)


class Books:
    """A ledger opened for reading only, also while its agent runs; or one that is open already."""

    def __init__(self, where: Path | Database) -> None:
        self._database = where if isinstance(where, Database) else Database(where, read_only=True)

    def close(self) -> None:
        """Close the file."""
        self._database.close()

    def promises(self, path: str) -> list[Entry]:
        """List what was promised about one file, the newest first."""
        rows = self._database.rows(
            f"SELECT {_ENTRY} FROM promise WHERE path = ? ORDER BY seq DESC", (os.fsencode(path),)
        )
        return [_entry(row) for row in rows]

    def promise(self, id_: bytes) -> list[Entry]:
        """Return what is known of one promise, if anything."""
        rows = self._database.rows(f"SELECT {_ENTRY} FROM promise WHERE id = ?", (id_,))
        return [_entry(row) for row in rows]

    def in_state(self, state: State, *, limit: int) -> list[Entry]:
        """List some promises that stand there."""
        rows = self._database.rows(f"SELECT {_ENTRY} FROM promise WHERE state = {state:d} LIMIT ?", (limit,))
        return [_entry(row) for row in rows]

    def tally(self) -> dict[str, dict[State, tuple[int, int]]]:
        """Count promises by source and state: (files, bytes)."""
        table: dict[str, dict[State, tuple[int, int]]] = {}
        for source, state, files, size in self._database.rows(
            "SELECT source, state, files, bytes FROM tally"
        ):
            table.setdefault(source, {})[State(state)] = (files, size)
        return table

    def counters(self) -> dict[str, dict[str, int]]:
        """Return what happened in all, by source; '' for what belongs to none."""
        table: dict[str, dict[str, int]] = {}
        for source, name, value in self._database.rows("SELECT source, name, value FROM counter"):
            table.setdefault(source, {})[name] = value
        return table

    def oldest(self, source: str) -> float | None:
        """Return when the oldest file that waits or is under way was changed, in wall-clock seconds.

        Steps through an index, and what is under way is bounded: it costs the same however many wait.
        """
        ages = [
            self._database.rows("SELECT min(modified) FROM promise WHERE source = ? AND state = 1", (source,))
        ]
        carrier = ""
        while (carrier := self._following("carrier", carrier, "source = ?", (source,))) is not None:
            bucket = ""
            where = "source = ? AND carrier = ?"
            while (bucket := self._following("bucket", bucket, where, (source, carrier))) is not None:
                ages.append(
                    self._database.rows(
                        f"SELECT min(modified) FROM promise WHERE {where} AND bucket = ? AND state = 0",
                        (source, carrier, bucket),
                    )
                )
        found = [age for ((age,),) in ages if age is not None]
        return min(found) / 1e9 if found else None

    def _following(self, column: str, value: str, where: str, values: tuple[str, ...]) -> Any:
        """Return the next value of a column among what waits; None: there is none."""
        rows = self._database.rows(
            f"SELECT min({column}) FROM promise WHERE {where} AND {column} > ? AND state = 0",
            (*values, value),
        )
        return rows[0][0]

    def events_waiting(self) -> int:
        """Count the events that nobody has taken yet."""
        return int(self._database.rows("SELECT count(*) FROM event")[0][0])

    def is_paused(self, source: str) -> bool:
        """Whether nothing of the source is sent because somebody said so."""
        rows = self._database.rows("SELECT 1 FROM paused WHERE source IN (?, ?)", (source, EVERYTHING))
        return bool(rows)

    def pauses(self) -> list[Pause]:
        """List the buckets that refuse everything."""
        rows = self._database.rows(
            "SELECT bucket, since, due, failures, note FROM destination ORDER BY bucket"
        )
        return [
            Pause(bucket=bucket, since=since, due=due, failures=failures, note=note)
            for bucket, since, due, failures, note in rows
        ]


def _entry(row: tuple[Any, ...]) -> Entry:
    values = dict(zip(_ENTRY.replace(",", "").split(), row, strict=True))
    values["path"] = os.fsdecode(values["path"])
    values["state"] = State(values["state"])
    return Entry(**values)
