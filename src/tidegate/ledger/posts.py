"""Promises that somebody asked for by a request: who waits for them, and who is told later."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tidegate.ledger.database import MOST_AT_ONCE
from tidegate.ledger.orders import note_answer
from tidegate.ledger.rows import TRANSFER, as_row, as_transfer, insert
from tidegate.model import State

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

    from tidegate.ledger.database import Cursor, Database
    from tidegate.ledger.events import Events
    from tidegate.ledger.settling import Settled
    from tidegate.model import Outcome, Transfer


STORED_AT = "last_stored_at"
"""The one counter that is a moment: the wall clock, in seconds, when a source had something stored last."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Post:
    """One request for promises, with what is to be told should one with such a token come again."""

    transfers: Sequence[Transfer]
    tokens: Sequence[str]
    digest: bytes
    answer: Mapping[str, Any]


class Posts:
    """A part of the ledger, with its guarantees."""

    def __init__(self, database: Database, events: Events) -> None:
        self._database = database
        self._events = events
        self._lock = threading.Lock()
        ((self._open,),) = database.rows("SELECT count(*) FROM posted")
        self.awaited: Callable[[bytes], bool] = _by_nobody
        """Asked whether somebody waits for a promise, and will be told by a listener: no event is due."""
        self._listeners: tuple[Callable[[Settled], None], ...] = ()

    def offer(self, posts: Iterable[Post], *, now: float) -> None:
        """Promise all of it, and remember the requests, in one transaction."""
        posts = list(posts)
        with self._database.transaction() as cursor:
            for post in posts:
                insert(cursor, [as_row(transfer, "", now) for transfer in post.transfers])
                name = post.tokens[0] if post.tokens else ""
                added = cursor.run_many(
                    "INSERT OR IGNORE INTO posted SELECT id, ? FROM promise WHERE id = ? AND state IN (0, 1)",
                    [(name, transfer.id) for transfer in post.transfers],
                )
                self._count(added)
                for token in post.tokens:
                    note_answer(cursor, token, post.digest, post.answer)

    def recover(self, *, now: float) -> None:
        """Tell what became of promises that ended while nobody looked. For the start."""
        with self._database.transaction() as cursor:
            rows = cursor.rows(
                f"SELECT {TRANSFER}, state, note, token FROM posted LEFT JOIN promise ON id = promise"
                " WHERE id IS NULL OR state IN (2, 3, 4)"
            )
            for *row, state, note, token in rows:
                if row[0] is not None:
                    body = describe(as_transfer(row)) | _tokened(token)
                    kind = "failed" if state == State.DROPPED else "stored"
                    self._events.record(
                        kind, body | ({"reason": note} if note else {}), now=now, cursor=cursor
                    )
            cursor.run(
                "DELETE FROM posted WHERE NOT EXISTS"
                " (SELECT 1 FROM promise WHERE id = posted.promise AND state IN (0, 1, 5))"
            )
            ((self._open,),) = cursor.rows("SELECT count(*) FROM posted")

    def stand(self, ids: Sequence[bytes]) -> dict[bytes, tuple[State, str]]:
        """Tell where these promises stand, and the last word about each."""
        found: dict[bytes, tuple[State, str]] = {}
        for start in range(0, len(ids), MOST_AT_ONCE):
            some = ids[start : start + MOST_AT_ONCE]
            marks = ",".join("?" * len(some))
            rows = self._database.rows(f"SELECT id, state, note FROM promise WHERE id IN ({marks})", some)
            found |= {id_: (State(state), note or "") for id_, state, note in rows}
        return found

    def listen(self, *listeners: Callable[[Settled], None]) -> None:
        """Tell these what news came to, after it was written down."""
        self._listeners = listeners

    def settled(self, settled: Settled) -> None:
        """It is written down."""
        for listener in self._listeners:
            listener(settled)

    def news(self, cursor: Cursor, settled: Settled, outcomes: Iterable[Outcome], now: float) -> None:
        """Note events about news, and when that was, in the transaction that writes it down."""
        cursor.run_many(
            "INSERT OR REPLACE INTO counter VALUES (?, ?, ?)",
            [(source, STORED_AT, int(now)) for source in {transfer.source for transfer in settled.stored}],
        )
        self._stored(cursor, settled, outcomes, now)
        self.broken(cursor, settled.broken, now)
        self.dropped(cursor, settled.changed, now)

    def broken(self, cursor: Cursor, broken: Iterable[tuple[Transfer, State, str]], now: float) -> None:
        """These were refused: (transfer, where it stands now, why)."""
        for transfer, state, note in broken:
            kind = "quarantined" if state is State.FAILED else "failed"
            self._events.record(kind, describe(transfer) | {"reason": note}, now=now, cursor=cursor)

    def dropped(self, cursor: Cursor, dropped: Collection[tuple[Transfer, str]], now: float) -> None:
        """These will not be stored, because the file changed or is gone: (transfer, why)."""
        notes = {transfer.id: (transfer, note) for transfer, note in dropped}
        for id_, token in self._take(cursor, list(notes)):
            if not self.awaited(id_):
                transfer, note = notes[id_]
                body = describe(transfer) | _tokened(token) | {"reason": note}
                self._events.record("failed", body, now=now, cursor=cursor)

    def _stored(self, cursor: Cursor, settled: Settled, outcomes: Iterable[Outcome], now: float) -> None:
        transfers = settled.stored
        posted = dict(self._take(cursor, [transfer.id for transfer in transfers]))
        if posted:
            told = {one.promise: one.etag for one in outcomes if one.promise in posted and one.etag}
            settled.etags |= {id_: etag for id_, etag in told.items() if id_}
        awaited = {id_ for id_ in posted if self.awaited(id_)}
        if "stored" not in self._events.kinds or (self._events.posted_only and len(awaited) == len(posted)):
            return
        self._events.record_all(
            "stored",
            [
                describe(transfer)
                | _tokened(posted.get(transfer.id, ""))
                | tagged(settled.etags.get(transfer.id))
                for transfer in transfers
                if transfer.id not in awaited and (transfer.id in posted or not self._events.posted_only)
            ],
            now=now,
            cursor=cursor,
        )

    def _take(self, cursor: Cursor, ids: Sequence[bytes]) -> list[tuple[bytes, str]]:
        """Forget those of these that were asked for, and return them. Costs nothing while there are none."""
        if not self._open or not ids:
            return []
        found: list[tuple[bytes, str]] = []
        for start in range(0, len(ids), MOST_AT_ONCE):
            some = ids[start : start + MOST_AT_ONCE]
            marks = ",".join("?" * len(some))
            found += cursor.rows(f"SELECT promise, token FROM posted WHERE promise IN ({marks})", some)
        cursor.run_in("DELETE FROM posted WHERE promise IN ({ids})", (), [id_ for id_, _ in found])
        self._count(-len(found))
        return found

    def _count(self, change: int) -> None:
        with self._lock:
            self._open += change


def describe(transfer: Transfer) -> dict[str, Any]:
    """Say of a promise what an event says."""
    return {
        "id": transfer.id.hex(),
        "source": transfer.source,
        "path": transfer.body.path,
        "size": transfer.body.fingerprint.size,
        "bucket": transfer.target.bucket,
        "key": transfer.target.key,
    }


def _tokened(token: str) -> dict[str, str]:
    return {"clientToken": token} if token else {}


def tagged(etag: str | None) -> dict[str, str]:
    """Say the ETag of an object, if it is known."""
    return {"ETag": etag} if etag else {}


def _by_nobody(_id: bytes) -> bool:
    return False
