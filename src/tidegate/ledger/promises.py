"""Where each promise stands. Every method is one transaction and may be repeated without harm."""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from typing import TYPE_CHECKING

from tidegate.ledger.cycles import Cycles
from tidegate.ledger.database import Cursor, Database
from tidegate.ledger.downloads import Downloads
from tidegate.ledger.events import Events
from tidegate.ledger.evictions import Evictions
from tidegate.ledger.idle import Idle
from tidegate.ledger.orders import Orders
from tidegate.ledger.posts import Posts
from tidegate.ledger.queries import Books
from tidegate.ledger.rows import (
    MAX_INTEGER,
    TRANSFER,
    add_counts,
    as_candidate,
    as_row,
    as_transfer,
    day_span,
    insert,
    stored_before,
    wait_span,
)
from tidegate.ledger.settling import FREE_PROBE, SUSPECT_SECONDS, Settled, refused, settle_all
from tidegate.ledger.uploads import Uploads
from tidegate.model import State, Transfer, Trouble
from tidegate.policy import MAX_ATTEMPTS, pause_seconds, retry_seconds

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
    from pathlib import Path

    from tidegate.model import Candidate, Outcome

HISTORY = 10_000
"""Finished promises that are remembered, so that `explain` can tell what became of a file."""

_TO_RELEASE = (
    "WHERE source = ? AND state = 2 AND changed_at <= ? AND (due <= ? OR due > ?) ORDER BY changed_at LIMIT ?"
)


class Ledger:
    """The durable memory of one agent. Safe to use from any thread.

    `jitter` yields numbers in [0, 1) that spread retries. Raises `LedgerLost` (see Database).
    """

    def __init__(self, path: Path | None, *, jitter: Callable[[], float]) -> None:
        self._database = Database(path)
        self._jitter = jitter
        self.uploads = Uploads(self._database)
        self.evictions = Evictions(self._database)
        self.downloads = Downloads(self._database)
        self.orders = Orders(self._database)
        self.events = Events(self._database)
        self.cycles = Cycles(self._database, self.events, durable=path is not None)
        self.posts = Posts(self._database, self.events)
        self.idle = Idle(self._database, self.posts)
        self.books = Books(self._database)
        self.drops = 0
        """How often this process dropped promises: what was known may have to be promised anew."""

    def close(self) -> None:
        """Close the file. What was committed stays."""
        self._database.close()

    # Making promises

    def known(self, ids: Sequence[bytes]) -> dict[bytes, State]:
        """Tell which of these versions have been promised before, and where they stand."""
        marks = ",".join("?" * len(ids))
        rows = self._database.rows(f"SELECT id, state FROM promise WHERE id IN ({marks})", ids)
        return {id_: State(state) for id_, state in rows}

    def offer(self, transfers: Iterable[tuple[Transfer, str]], *, now: float) -> int:
        """Promise each transfer; one that is known already changes nothing, unless it was dropped.

        Returns how many were new.

        The text beside a transfer, if any, is why it can never be kept: it goes straight to quarantine.
        """
        rows = [as_row(transfer, refusal, now) for transfer, refusal in transfers]
        with self._database.transaction() as cursor:
            return insert(cursor, rows)

    def reopen(self, ids: Iterable[bytes], *, now: float, anew: bool = False) -> None:
        """Deal once more with files that were stored and finished; or have them promised `anew`."""
        state = State.DROPPED if anew else State.STORED
        with self._database.transaction() as cursor:
            cursor.run_many(
                f"UPDATE promise SET state = {state:d}, due = 0, changed_at = ?"
                f" WHERE id = ? AND state = {State.DONE:d}",
                [(now, id_) for id_ in ids],
            )

    # Keeping them

    def claim(
        self, source: str, carrier: str, *, limit: int, now: float, newest_first: bool = False
    ) -> list[Transfer]:
        """Take up to `limit` of a carrier's promises that may be sent now, by the age of the file.

        Of several promises for one target only the earliest is given out, and only when none is under way.
        From a bucket that refuses everything one is given out, when its pause is over.
        """
        with self._database.transaction() as cursor:
            transfers: list[Transfer] = []
            order = "DESC" if newest_first else "ASC"
            for bucket, most in self._open_buckets(cursor, source, carrier, now):
                rows = cursor.rows(
                    f"SELECT {TRANSFER} FROM promise p WHERE source = ? AND carrier = ? AND bucket = ?"
                    " AND state = 0 AND (due <= ? OR due > ?) AND NOT EXISTS (SELECT 1 FROM promise o"
                    "   WHERE o.target = p.target AND o.state < 2 AND (o.state = 1 OR o.seq < p.seq))"
                    f" ORDER BY modified {order} LIMIT ?",
                    (source, carrier, bucket, *wait_span(now), min(most, limit - len(transfers))),
                )
                transfers += map(as_transfer, rows)
                if rows and most == 1:
                    self._probe(cursor, bucket, rows[0][0], now)
            cursor.run_in(
                f"UPDATE promise SET state = {State.SENT:d}, lane = NULL, receipt = NULL, changed_at = ?"
                " WHERE id IN ({ids})",
                (now,),
                [transfer.id for transfer in transfers],
            )
        return transfers

    def _open_buckets(self, cursor: Cursor, source: str, carrier: str, now: float) -> list[tuple[str, int]]:
        """List the buckets that something waits for and that are not paused, and how much each may get.

        One step of the index a bucket, however many promises wait.
        """
        pauses = dict(cursor.rows("SELECT bucket, due FROM destination"))
        buckets: list[tuple[str, int]] = []
        bucket = ""
        while True:
            ((following,),) = cursor.rows(
                "SELECT min(bucket) FROM promise"
                " WHERE source = ? AND carrier = ? AND bucket > ? AND state = 0",
                (source, carrier, bucket),
            )
            if following is None:
                return buckets
            bucket = following
            due = pauses.get(bucket)
            if due is None:
                buckets.append((bucket, MAX_INTEGER))
            elif due <= now or due > wait_span(now)[1]:
                buckets.append((bucket, 1))

    def _probe(self, cursor: Cursor, bucket: str, id_: bytes, now: float) -> None:
        """One file is about to try a bucket that refused everything; the next time another one does."""
        ((failures,),) = cursor.rows("SELECT failures FROM destination WHERE bucket = ?", (bucket,))
        due = now + pause_seconds(failures + 1, self._jitter())
        cursor.run("UPDATE destination SET due = ?, failures = failures + 1 WHERE bucket = ?", (due, bucket))
        cursor.run("UPDATE promise SET due = ? WHERE id = ?", (due + SUSPECT_SECONDS, id_))

    def sent(self, receipts: Iterable[tuple[bytes, str, int]]) -> None:
        """Note where the carrier queued each promise: (id, lane, receipt). News may have been faster."""
        with self._database.transaction() as cursor:
            cursor.run_many(
                "UPDATE promise SET lane = ?, receipt = ? WHERE id = ? AND receipt IS NULL",
                [(lane, receipt, id_) for id_, lane, receipt in receipts],
            )

    def give_back(self, notes: Iterable[tuple[bytes, str]], *, now: float) -> None:
        """These could not be sent, through no fault of theirs: (id, why)."""
        with self._database.transaction() as cursor:
            cursor.run_many(
                f"UPDATE promise SET state = {State.READY:d}, due = 0, changed_at = ?, note = ?"
                f" WHERE id = ? AND state = {State.SENT:d}",
                [(now, note, id_) for id_, note in notes],
            )

    def refuse(self, notes: Iterable[tuple[bytes, str]], *, now: float) -> list[tuple[Transfer, State, str]]:
        """These were refused before they were queued: (id, why). Returns what became of each."""
        broken = []
        counts: Counter[tuple[str, str]] = Counter()
        with self._database.transaction() as cursor:
            for id_, note in notes:
                rows = cursor.rows(
                    f"SELECT {TRANSFER}, attempts FROM promise WHERE id = ? AND state = {State.SENT:d}",
                    (id_,),
                )
                broken += [refused(cursor, row, note, counts, self._jitter, now) for row in rows]
            add_counts(cursor, counts)
            self.posts.broken(cursor, broken, now)
        self.posts.settled(Settled(broken=broken))
        return broken

    def recover(self, *, now: float, busy: str | None = None) -> int:
        """Take back what was given out and never acknowledged. Only for the one owner, at its start.

        What the `busy` carrier was given stays with it: it is still at work.
        A start is also when somebody may have changed a bucket or the configuration: paused buckets are
        tried at once, and for files that had no possible key one is looked for anew.
        """
        with self._database.transaction() as cursor:
            cursor.run("UPDATE destination SET due = 0")
            cursor.run(
                "UPDATE promise SET due = 0"
                " WHERE state = 0 AND due > 0 AND bucket IN (SELECT bucket FROM destination)"
            )
            cursor.run(
                f"UPDATE promise SET state = {State.DROPPED:d}, due = ?, changed_at = ?"
                f" WHERE state = {State.FAILED:d} AND key = ''",
                (now, now),
            )
            return cursor.run(
                f"UPDATE promise SET state = {State.READY:d}, due = 0, changed_at = ?"
                f" WHERE state = {State.SENT:d} AND receipt IS NULL AND carrier IS NOT ?",
                (now, busy),
            )

    def settle(
        self, carrier: str, outcomes: Collection[Outcome], *, position: int | None, now: float
    ) -> Settled:
        """Write down news, and in the same transaction that it was read up to `position`."""
        settled = Settled()
        with self._database.transaction() as cursor:
            settle_all(cursor, outcomes, settled, self._jitter, now)
            add_counts(cursor, settled.counts)
            self.posts.news(cursor, settled, outcomes, now)
            self.drops += bool(settled.changed)
            if position is not None:
                cursor.run("INSERT OR REPLACE INTO position VALUES (?, ?)", (carrier, position))
        self.posts.settled(settled)
        return settled

    # Releasing the files

    def stored(self, source: str, *, retention_seconds: float, limit: int, now: float) -> list[Transfer]:
        """List up to `limit` promises whose files may be released now, those stored first first."""
        with self._database.transaction() as cursor:
            if retention_seconds:  # stored in the future means the clock was set back: count anew
                cursor.run(
                    "UPDATE promise SET changed_at = ? WHERE source = ? AND state = 2 AND changed_at > ?",
                    (now, source, now + 60),
                )
            rows = cursor.rows(
                f"SELECT {TRANSFER} FROM promise {_TO_RELEASE}",
                (source, stored_before(retention_seconds, now), *wait_span(now), limit),
            )
        return [as_transfer(row) for row in rows]

    def kept(self, source: str, *, limit: int, now: float) -> int:
        """Nothing is to be done with the files of up to `limit` stored promises. Returns how many."""
        with self._database.transaction() as cursor:
            changed = cursor.run(
                f"UPDATE promise SET state = {State.DONE:d}, due = ?, changed_at = ?, note = NULL"
                f" WHERE seq IN (SELECT seq FROM promise {_TO_RELEASE})",
                (now, now, source, stored_before(0, now), *wait_span(now), limit),
            )
            add_counts(cursor, {(source, "files_kept"): changed})
        return changed

    def done(self, notes: Iterable[tuple[Transfer, str, str]], *, now: float) -> None:
        """Stored and dealt with: (transfer, name of the counter it adds to, note)."""
        self._finish(State.DONE, notes, now)

    def drop(self, notes: Iterable[tuple[Transfer, str, str]], *, now: float) -> None:
        """Gone or changed before they could be stored: (transfer, name of the counter it adds to, note)."""
        self._finish(State.DROPPED, notes, now)
        self.drops += 1

    def _finish(self, state: State, notes: Iterable[tuple[Transfer, str, str]], now: float) -> None:
        counts: Counter[tuple[str, str]] = Counter()
        with self._database.transaction() as cursor:
            ids: defaultdict[str, list[bytes]] = defaultdict(list)
            notes = list(notes)
            dropped = [(transfer, note) for transfer, _, note in notes] if state is State.DROPPED else []
            self.posts.dropped(cursor, dropped, now)
            for transfer, counter, note in notes:
                ids[note].append(transfer.id)
                counts[transfer.source, counter] += 1
                if state is State.DROPPED:
                    cursor.run(FREE_PROBE, (now, transfer.id))
            for note, some in ids.items():
                cursor.run_in(
                    "UPDATE promise SET state = ?, due = ?, changed_at = ?, note = ? WHERE id IN ({ids})",
                    (int(state), now, now, note or None),
                    some,
                )
            add_counts(cursor, counts)
        self.posts.settled(Settled(changed=dropped))

    def not_released(self, notes: Iterable[tuple[bytes, str]], *, now: float, soon: bool = False) -> None:
        """The files of these could not be dealt with; look again later, or in some seconds: (id, why)."""
        due = now + retry_seconds(1 if soon else MAX_ATTEMPTS, self._jitter())
        with self._database.transaction() as cursor:
            cursor.run_many(
                "UPDATE promise SET due = ?, note = ? WHERE id = ? AND state = 2",
                [(due, note, id_) for id_, note in notes],
            )

    def retry(self, path: str | None, *, now: float) -> int:
        """Take one file (or all) out of quarantine, and end the wait of those that wait. Returns how many.

        A file that has no possible key stays where it is: trying again would not give it one.
        """
        where, values = ("AND path = ?", (os.fsencode(path),)) if path is not None else ("", ())
        with self._database.transaction() as cursor:
            cursor.run("UPDATE destination SET due = 0")
            waiting = cursor.run(
                f"UPDATE promise SET due = 0 WHERE state IN (0, 2) AND due > ? {where}",
                (now, *values),
            )
            failed = cursor.run(
                "UPDATE promise SET state = 0, due = 0, attempts = 0, pauses = 0, changed_at = ?"
                f" WHERE state = 5 AND key <> '' {where}",
                (now, *values),
            )
        return waiting + failed

    def prune(self, *, keep: Callable[[Candidate], bool], limit: int, now: float) -> int:
        """Forget finished promises beyond the newest `HISTORY`, at most `limit` at a time. Returns how many.

        Those that `keep` says to keep, because their file is still there, are looked at again a day later.
        """
        ((finished,),) = self._database.rows(
            "SELECT count(*) FROM promise WHERE state IN (3, 4) AND (due <= ? OR due > ?)", day_span(now)
        )
        rows = self._database.rows(
            "SELECT id, path, fingerprint FROM promise WHERE state IN (3, 4) AND (due <= ? OR due > ?)"
            " ORDER BY due LIMIT ?",
            (*day_span(now), max(0, min(limit, finished - HISTORY))),
        )
        kept = {id_ for id_, path, mark in rows if keep(as_candidate(path, mark))}
        with self._database.transaction() as cursor:
            cursor.run_many(
                "DELETE FROM promise WHERE id = ? AND state IN (3, 4)",
                [(row[0],) for row in rows if row[0] not in kept],
            )
            cursor.run_many(
                "UPDATE promise SET due = ? WHERE id = ? AND state IN (3, 4)",
                [(day_span(now)[1], id_) for id_ in kept],
            )
        return len(rows) - len(kept)

    # What carriers need to remember

    def position(self, carrier: str) -> int:
        """Return the number of the carrier's first message that has not been read."""
        rows = self._database.rows("SELECT next FROM position WHERE carrier = ?", (carrier,))
        return int(rows[0][0]) if rows else 0

    def rewind(self, carrier: str) -> None:
        """Read the carrier's news from its beginning: it has started numbering anew."""
        with self._database.transaction() as cursor:
            cursor.run("DELETE FROM position WHERE carrier = ?", (carrier,))

    def unfinished(self, source: str, *, retention_seconds: float, now: float) -> int:
        """Count the promises that are yet to be stored, or whose files are due to be let go in seconds.

        What waits because its source is paused does not count.
        """
        states = (State.SENT,) if self.orders.is_paused(source) else (State.READY, State.SENT)
        ready_or_sent = sum(self.in_state(source, state) for state in states)
        ((due,),) = self._database.rows(
            "SELECT count(*) FROM promise WHERE source = ? AND state = 2 AND changed_at <= ?"
            " AND (due <= ? OR due > ?)",
            (source, stored_before(retention_seconds, now), *wait_span(now + retry_seconds(1, 1))),
        )
        return ready_or_sent + int(due)

    def in_state(self, source: str, state: State) -> int:
        """Count the promises that stand there."""
        rows = self._database.rows(
            "SELECT files FROM tally WHERE source = ? AND state = ?", (source, int(state))
        )
        return int(rows[0][0]) if rows else 0

    def pauses(self) -> dict[str, Trouble]:
        """Return the buckets that refuse everything, and what they say."""
        rows = self._database.rows("SELECT bucket, since, note FROM destination")
        return {f"bucket {bucket}": Trouble(since, note) for bucket, since, note in rows}

    def in_flight(self, source: str) -> dict[str, tuple[int, int]]:
        """Return how many promises and bytes wait in each lane."""
        rows = self._database.rows(
            "SELECT lane, count(*), sum(size) FROM promise WHERE state = 1 AND source = ? GROUP BY lane",
            (source,),
        )
        return {lane or "": (files, size) for lane, files, size in rows}

    def busy_lanes(self) -> list[tuple[str, str]]:
        """List the lanes in which promises wait: (source, lane)."""
        rows = self._database.rows(
            "SELECT DISTINCT source, lane FROM promise WHERE state = 1 AND lane IS NOT NULL ORDER BY lane"
        )
        return [(source, lane) for source, lane in rows]

    def waiting_in(self, lane: str) -> list[tuple[int, Transfer, float]]:
        """List what waits in a lane, in its order: (receipt, transfer, since when)."""
        rows = self._database.rows(
            f"SELECT {TRANSFER}, receipt, changed_at FROM promise WHERE lane = ? AND state = 1"
            " ORDER BY receipt",
            (lane,),
        )
        return [(row[-2], as_transfer(row), row[-1]) for row in rows]

    def reassign(self, source: str, carrier: str, *, now: float) -> int:
        """Give what waits, and what nobody has taken yet, to another carrier. Returns how many promises."""
        with self._database.transaction() as cursor:
            return cursor.run(
                f"UPDATE promise SET carrier = ?, changed_at = ? WHERE source = ? AND carrier <> ?"
                f" AND state = {State.READY:d}",
                (carrier, now, source, carrier),
            )

    def given_out(self, carrier: str) -> set[bytes]:
        """Tell which promises a carrier has and has not acknowledged."""
        rows = self._database.rows(
            "SELECT id FROM promise WHERE state = 1 AND lane IS NULL AND carrier = ?", (carrier,)
        )
        return {id_ for (id_,) in rows}

    def lanes(self, source: str) -> dict[int, int]:
        """Return the generation in use of each slot."""
        rows = self._database.rows("SELECT slot, generation FROM lane WHERE source = ?", (source,))
        return dict(rows)

    def use_lane(self, source: str, slot: int, generation: int) -> None:
        """From now on this is the generation of the slot."""
        with self._database.transaction() as cursor:
            cursor.run("INSERT OR REPLACE INTO lane VALUES (?, ?, ?)", (source, slot, generation))

    def abandon_lane(self, lane: str, note: str, *, now: float) -> int:
        """Take back all that waits in a lane that is no more. Returns how many promises that were."""
        with self._database.transaction() as cursor:
            return cursor.run(
                "UPDATE promise SET state = 0, due = 0, changed_at = ?, note = ?"
                " WHERE lane = ? AND state = 1",
                (now, note, lane),
            )

    def add(self, counts: Mapping[str, int], *, source: str = "") -> None:
        """Add to the counters."""
        with self._database.transaction() as cursor:
            add_counts(cursor, {(source, name): value for name, value in counts.items()})
