"""What the agent was told to do, so that a restart changes nothing about it: pauses, and answers given."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from tidegate.ledger.database import Cursor, Database

ANSWERS = 10_000
"""Answers that are remembered: for so many requests, one that comes twice is done once."""

EVERYTHING = ""
"""Stands in place of a source for all of them, also those to come."""


class Orders:
    """A part of the ledger, with its guarantees."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.paused = self._read()

    def pause(self, sources: Iterable[str]) -> None:
        """Send nothing of these from now on."""
        with self._database.transaction() as cursor:
            cursor.run_many("INSERT OR IGNORE INTO paused VALUES (?)", [(name,) for name in sources])
        self.paused = self._read()

    def resume(self, sources: Iterable[str] | None) -> None:
        """Send what there is of these, or (None) of all, again."""
        with self._database.transaction() as cursor:
            if sources is None:
                cursor.run("DELETE FROM paused")
            else:
                cursor.run_many("DELETE FROM paused WHERE source = ?", [(name,) for name in sources])
        self.paused = self._read()

    def is_paused(self, source: str) -> bool:
        """Whether nothing of the source is to be sent. Asks no disk."""
        return source in self.paused or EVERYTHING in self.paused

    def _read(self) -> frozenset[str]:
        return frozenset(name for (name,) in self._database.rows("SELECT source FROM paused"))

    # Requests that were answered

    def answered(self, token: str) -> tuple[bytes, dict[str, Any]] | None:
        """Return the digest of the request that had this token, and what was answered."""
        rows = self._database.rows("SELECT digest, answer FROM answered WHERE token = ?", (token,))
        return (rows[0][0], json.loads(rows[0][1])) if rows else None

    def remember(self, token: str, digest: bytes, answer: Mapping[str, Any]) -> None:
        """Keep an answer."""
        with self._database.transaction() as cursor:
            note_answer(cursor, token, digest, answer)


def note_answer(cursor: Cursor, token: str, digest: bytes, answer: Mapping[str, Any]) -> None:
    """Keep an answer with what else is written, and forget the oldest ones."""
    cursor.run(
        "INSERT OR REPLACE INTO answered (token, digest, answer) VALUES (?, ?, ?)",
        (token, digest, json.dumps(answer)),
    )
    cursor.run("DELETE FROM answered WHERE seq <= (SELECT max(seq) FROM answered) - ?", (ANSWERS,))
