"""What news from a carrier does to a promise, within the transaction that the ledger has begun."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tidegate.ledger.rows import TRANSFER, as_transfer, move
from tidegate.model import State, Transfer, Verdict
from tidegate.policy import MAX_ATTEMPTS, pause_seconds, retry_seconds

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tidegate.ledger.database import Cursor
    from tidegate.model import Outcome

SUSPECT_SECONDS = 15.0
"""For so long after the next try of a paused bucket is due, a file that tried it last lets others try."""

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


def settle_one(
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
        settled.counts[transfer.source, "files_stored"] += 1
        settled.counts[transfer.source, "bytes_stored"] += transfer.body.fingerprint.size
        if cursor.run("DELETE FROM destination WHERE bucket = ?", (transfer.target.bucket,)):
            settled.resumed.append(transfer.target.bucket)
        settled.stored.append(transfer)
    elif outcome.verdict is Verdict.REFUSED:
        settled.broken.append(refused(cursor, rows[0], outcome.note, settled.counts, jitter, now))
    elif outcome.verdict is Verdict.BLOCKED:
        _blocked(cursor, rows[0], outcome.note, settled, jitter, now)
    elif outcome.verdict is Verdict.CHANGED:
        move(cursor, transfer.id, State.DROPPED, now, note=outcome.note, due=now)
        settled.counts[transfer.source, "files_dropped"] += 1
        settled.changed.append((transfer, outcome.note))
    else:
        move(cursor, transfer.id, State.READY, now, note=outcome.note, due=now + outcome.wait)
        settled.counts[transfer.source, "retries"] += 1


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
    select = f"SELECT {TRANSFER}, pauses, attempts FROM promise"
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
