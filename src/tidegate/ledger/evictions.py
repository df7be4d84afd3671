"""What may be given up while it is unsent, who takes it for that, and what is known of the backlog."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from tidegate.ledger.rows import add_counts, move
from tidegate.model import State

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from tidegate.ledger.database import Database
    from tidegate.model import Transfer


class Evictions:
    """A part of the ledger, with its guarantees."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def claim(self, transfers: Iterable[Transfer], *, now: float) -> list[Transfer]:
        """Take those that nobody has taken meanwhile, so that nobody sends them. A restart takes them back.

        Each is to be `evicted` or `replaced`, or given back or dropped as any other that could not be sent.
        """
        with self._database.transaction() as cursor:
            return [
                transfer
                for transfer in transfers
                if cursor.run(
                    f"UPDATE promise SET state = {State.SENT:d}, lane = NULL, receipt = NULL, changed_at = ?"
                    f" WHERE id = ? AND state = {State.READY:d}",
                    (now, transfer.id),
                )
            ]

    def evicted(self, transfers: Iterable[Transfer], note: str, *, now: float) -> None:
        """The files of these were deleted and will never be stored."""
        counts: Counter[tuple[str, str]] = Counter()
        with self._database.transaction() as cursor:
            for transfer in transfers:
                move(cursor, transfer.id, State.DROPPED, now, note=note, due=now)
                counts[transfer.source, "files_evicted"] += 1
                counts[transfer.source, "bytes_evicted"] += transfer.body.fingerprint.size
            add_counts(cursor, counts)

    def replaced(self, transfer: Transfer, note: str, *, now: float) -> None:
        """A file of ours need not be stored any more: another one holds all that it held."""
        with self._database.transaction() as cursor:
            move(cursor, transfer.id, State.DROPPED, now, note=note, due=now)

    def backlog(self, sources: Sequence[str]) -> int:
        """Return how many bytes of these sources are yet to be stored."""
        rows = self._database.rows(
            "SELECT ifnull(sum(bytes), 0) FROM tally"
            f" WHERE state IN (0, 1) AND source IN ({_marks(sources)})",
            sources,
        )
        return int(rows[0][0])

    def stored_bytes(self, sources: Sequence[str]) -> int:
        """Return how many bytes of these sources were stored since the ledger began."""
        rows = self._database.rows(
            "SELECT ifnull(sum(value), 0) FROM counter"
            f" WHERE name = 'bytes_stored' AND source IN ({_marks(sources)})",
            sources,
        )
        return int(rows[0][0])


def _marks(values: Sequence[str]) -> str:
    return ",".join("?" * len(values))
