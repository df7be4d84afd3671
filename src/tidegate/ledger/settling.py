"""What news from a carrier does to a promise, within the transaction that the ledger has begun."""

from __future__ import annotations

import itertools
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tidegate.ledger.database import MOST_AT_ONCE
from tidegate.ledger.rows import TRANSFER, as_transfer, move
from tidegate.model import Effect, State, Transfer, Verdict
from tidegate.policy import MAX_ATTEMPTS, pause_seconds, retry_seconds

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from tidegate.ledger.database import Cursor
    from tidegate.model import Outcome

SUSPECT_SECONDS = 15.0
"""For so long after the next try of a paused bucket is due, a file that tried it last lets others try."""

FREE_PROBE = (
    "UPDATE destination SET due = ?, failures = max(1, failures - 1)"
    " WHERE bucket = (SELECT bucket FROM promise WHERE id = ? AND state = 1)"
)
"""The file that was to try a paused bucket is not that version any more: another one may, at once."""

SENT_AT = "CASE state WHEN 1 THEN changed_at END"
"""When a carrier was given it, of what is under way: the column after those of the transfer."""

_SENT_AT = TRANSFER.count(",") + 1

Counts = Counter[tuple[str, str]]


@dataclass(slots=True)
class Settled:
    """What one batch of news came to, for the log."""

    stored: list[Transfer] = field(default_factory=list)
    broken: list[tuple[Transfer, State, str]] = field(default_factory=list)
    blocked: dict[str, str] = field(default_factory=dict)
    resumed: list[str] = field(default_factory=list)
    changed: list[tuple[Transfer, str]] = field(default_factory=list)
    counts: Counts = field(default_factory=Counter)
    etags: dict[bytes, str] = field(default_factory=dict)  # of what was posted, as far as they are known


def settle_all(
    cursor: Cursor, outcomes: Iterable[Outcome], settled: Settled, jitter: Callable[[], float], now: float
) -> None:
    """Write down news in its order, and that of files stored together, because there is so much of it."""
    for is_plain, group in itertools.groupby(outcomes, _is_plain):
        if not is_plain:
            for outcome in group:
                _settle_one(cursor, outcome, settled, jitter, now)
            continue
        while ids := [outcome.promise for outcome in itertools.islice(group, MOST_AT_ONCE)]:
            marks = ",".join("?" * len(ids))
            rows = cursor.rows(
                f"SELECT {TRANSFER}, {SENT_AT} FROM promise WHERE id IN ({marks}) AND state IN (0, 1, 5)", ids
            )
            _time(rows, settled.counts, now)
            _stored(cursor, [as_transfer(row) for row in rows], settled)
            cursor.run_in(
                f"UPDATE promise SET state = {State.STORED:d}, due = 0, changed_at = ?, note = NULL"
                " WHERE id IN ({ids}) AND state IN (0, 1, 5)",
                (now,),
                ids,
            )
            settled.counts["", "statuses_foreign"] += len(ids) - len(rows)


def _is_plain(outcome: Outcome) -> bool:
    added = outcome.verdict is Verdict.STORED and outcome.effect is Effect.ADDED
    return added and outcome.promise is not None


def _settle_one(
    cursor: Cursor, outcome: Outcome, settled: Settled, jitter: Callable[[], float], now: float
) -> None:
    """Write down one piece of news."""
    rows = _about(cursor, outcome)
    if not rows:
        settled.counts["", "statuses_foreign"] += 1
        return
    transfer = as_transfer(rows[0])
    if outcome.verdict is Verdict.STORED:
        move(cursor, transfer.id, State.STORED, now, note=None)
        _time(rows, settled.counts, now)
        _stored(cursor, [transfer], settled, outcome.effect)
    elif outcome.verdict is Verdict.REFUSED:
        settled.broken.append(refused(cursor, rows[0], outcome.note, settled.counts, jitter, now))
    elif outcome.verdict is Verdict.BLOCKED:
        _blocked(cursor, rows[0], outcome.note, settled, jitter, now)
    elif outcome.verdict is Verdict.CHANGED:
        cursor.run(FREE_PROBE, (now, transfer.id))
        move(cursor, transfer.id, State.DROPPED, now, note=outcome.note, due=now)
        settled.counts[transfer.source, "files_dropped"] += 1
        settled.changed.append((transfer, outcome.note))
    else:
        move(cursor, transfer.id, State.READY, now, note=outcome.note, due=now + outcome.wait)
        settled.counts[transfer.source, "retries"] += 1


def _time(rows: Sequence[Sequence[Any]], counts: Counts, now: float) -> None:
    """Count how long it took from the carrier to the bucket. Of late news nobody knows."""
    for row in rows:
        if (sent_at := row[_SENT_AT]) is not None:
            counts[row[1], "uploads_timed"] += 1
            counts[row[1], "upload_milliseconds"] += max(0, round(1000 * (now - sent_at)))


def _stored(
    cursor: Cursor, transfers: Sequence[Transfer], settled: Settled, effect: Effect = Effect.ADDED
) -> None:
    """Count what was stored; a bucket that takes something works. What was there already took no bytes."""
    for transfer in transfers:
        settled.counts[transfer.source, "files_stored"] += 1
        settled.counts[transfer.source, effect.value] += 1
        if effect is not Effect.SKIPPED:
            settled.counts[transfer.source, "bytes_stored"] += transfer.body.fingerprint.size
    for bucket in dict.fromkeys(transfer.target.bucket for transfer in transfers):
        if cursor.run("DELETE FROM destination WHERE bucket = ?", (bucket,)):
            settled.resumed.append(bucket)
    settled.stored += transfers


def refused(
    cursor: Cursor, row: Sequence[Any], note: str, counts: Counts, jitter: Callable[[], float], now: float
) -> tuple[Transfer, State, str]:
    """Charge a promise with an attempt. Returns what became of it."""
    transfer, attempts = as_transfer(row), row[-1] + 1
    state = State.FAILED if attempts >= MAX_ATTEMPTS else State.READY
    due = now + retry_seconds(attempts, jitter())
    move(cursor, transfer.id, state, now, note=note, due=due, attempts=attempts)
    counts[transfer.source, "refusals"] += 1
    counts[transfer.source, "files_quarantined"] += state is State.FAILED
    return transfer, state, note


def _blocked(
    cursor: Cursor, row: Sequence[Any], note: str, settled: Settled, jitter: Callable[[], float], now: float
) -> None:
    """Pause the bucket; that costs no attempt.

    But a bucket that works in between, and is paused by the same file time and again, has nothing wrong
    with it: then it is the file that may not go there.
    """
    bucket = as_transfer(row).target.bucket
    due = now + pause_seconds(1, jitter())
    if not cursor.run("INSERT OR IGNORE INTO destination VALUES (?, ?, ?, 1, ?)", (bucket, now, due, note)):
        cursor.run("UPDATE promise SET state = 0, changed_at = ?, note = ? WHERE id = ?", (now, note, row[0]))
        settled.counts[row[1], "retries"] += 1
        return
    transfer, pauses = as_transfer(row), row[-2] + 1
    state = State.FAILED if pauses >= MAX_ATTEMPTS else State.READY
    move(cursor, transfer.id, state, now, note=note, due=due + SUSPECT_SECONDS)
    cursor.run("UPDATE promise SET pauses = ? WHERE id = ?", (pauses, transfer.id))
    if state is State.FAILED:
        cursor.run("DELETE FROM destination WHERE bucket = ?", (bucket,))
        settled.counts[transfer.source, "files_quarantined"] += 1
        settled.broken.append((transfer, state, note))
    else:
        settled.counts[transfer.source, "retries"] += 1
        settled.blocked[bucket] = note


def _about(cursor: Cursor, outcome: Outcome) -> list[Any]:
    """Find the unfinished promise that the news is about.

    That this very version was stored is good news whichever attempt it comes from, even one whose answer
    was lost. Bad news counts only for the attempt under way; its receipt may not be written down yet.
    """
    select = f"SELECT {TRANSFER}, {SENT_AT}, pauses, attempts FROM promise"
    if outcome.promise is None:
        return cursor.rows(
            f"{select} WHERE lane = ? AND receipt = ? AND state = 1", (outcome.lane, outcome.receipt)
        )
    if outcome.verdict is Verdict.STORED:
        return cursor.rows(f"{select} WHERE id = ? AND state IN (0, 1, 5)", (outcome.promise,))
    return cursor.rows(
        f"{select} WHERE id = ? AND state = 1 AND (receipt IS NULL OR (lane = ? AND receipt = ?))",
        (outcome.promise, outcome.lane, outcome.receipt),
    )
