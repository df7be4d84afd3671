"""Promises that no carrier has: those that wait for one, and those in quarantine."""

from __future__ import annotations

import heapq
from collections import Counter
from typing import TYPE_CHECKING

from tidegate.ledger.rows import MAX_INTEGER, TRANSFER, add_counts, as_transfer
from tidegate.ledger.settling import Settled
from tidegate.model import State

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from tidegate.ledger.database import Database
    from tidegate.ledger.posts import Posts
    from tidegate.model import Transfer

PAGE = 200


class Idle:
    """A part of the ledger, with its guarantees."""

    def __init__(self, database: Database, posts: Posts) -> None:
        self._database = database
        self._posts = posts

    def unsent(self, source: str) -> Iterator[Transfer]:
        """Yield what nobody has taken yet, the oldest file first. Reads it page by page."""
        queues = [
            self._queue(source, carrier, bucket)
            for carrier, bucket in self._database.rows(
                "SELECT DISTINCT carrier, bucket FROM promise WHERE source = ? AND state = 0", (source,)
            )
        ]
        return heapq.merge(*queues, key=lambda transfer: transfer.body.fingerprint.mtime_ns)

    def _queue(self, source: str, carrier: str, bucket: str) -> Iterator[Transfer]:
        after = -MAX_INTEGER, 0
        while rows := self._database.rows(
            f"SELECT {TRANSFER}, modified, seq FROM promise"
            " WHERE source = ? AND carrier = ? AND bucket = ? AND state = 0 AND (modified, seq) > (?, ?)"
            " ORDER BY modified, seq LIMIT ?",
            (source, carrier, bucket, *after, PAGE),
        ):
            yield from map(as_transfer, rows)
            after = rows[-1][-2:]

    def quarantined(self, source: str) -> Iterator[Transfer]:
        """Yield what is in quarantine, that promised first first. Reads it page by page."""
        after = 0
        while rows := self._database.rows(
            f"SELECT {TRANSFER}, seq FROM promise WHERE source = ? AND state = 5 AND seq > ?"
            " ORDER BY seq LIMIT ?",
            (source, after, PAGE),
        ):
            yield from map(as_transfer, rows)
            after = rows[-1][-1]

    def drop(self, transfers: Iterable[Transfer], note: str, *, now: float) -> list[Transfer]:
        """Never store these: their files have changed or gone. Returns those that still were nobody's."""
        counts: Counter[tuple[str, str]] = Counter()
        with self._database.transaction() as cursor:
            dropped = [
                transfer
                for transfer in transfers
                if cursor.run(
                    f"UPDATE promise SET state = {State.DROPPED:d}, due = ?, changed_at = ?, note = ?"
                    f" WHERE id = ? AND state IN ({State.READY:d}, {State.FAILED:d})",
                    (now, now, note, transfer.id),
                )
            ]
            for transfer in dropped:
                counts[transfer.source, "files_dropped"] += 1
            add_counts(cursor, counts)
            self._posts.dropped(cursor, [(transfer, note) for transfer in dropped], now)
        self._posts.settled(Settled(changed=[(transfer, note) for transfer in dropped]))
        return dropped
