"""How values stand in the table of promises: written, read back, moved on, counted, and when they are due."""

from __future__ import annotations

import hashlib
import json
import os
from typing import TYPE_CHECKING, Any

from tidegate.model import Candidate, Fingerprint, ObjectRef, State, Transfer
from tidegate.policy import LONGEST_WAIT_SECONDS

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from tidegate.ledger.database import Cursor

MAX_INTEGER = 2**63 - 1
TRANSFER = "id, source, carrier, path, fingerprint, bucket, key, metadata"
"""The columns that `as_transfer` reads, first in a row."""


def as_row(transfer: Transfer, refusal: str, now: float) -> tuple[object, ...]:
    """Write a new promise, in the order of the columns that `insert` names."""
    mark, target = transfer.body.fingerprint, transfer.target
    return (
        transfer.id,
        transfer.source,
        os.fsencode(transfer.body.path),
        str(mark),
        mark.size,
        min(mark.mtime_ns, MAX_INTEGER),
        target.bucket,
        target.key,
        _target_hash(target),
        transfer.carrier,
        json.dumps(dict(transfer.metadata)) if transfer.metadata else None,
        int(State.FAILED if refusal else State.READY),
        now,
        refusal or None,
    )


def insert(cursor: Cursor, rows: Iterable[tuple[object, ...]]) -> int:
    """Write rows that `as_row` made; one that is known already changes nothing, unless it was dropped."""
    return cursor.run_many(
        "INSERT INTO promise (id, source, path, fingerprint, size, modified, bucket, key, target,"
        " carrier, metadata, state, changed_at, note) VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?)"
        " ON CONFLICT (id) DO UPDATE SET bucket = excluded.bucket, key = excluded.key,"
        " target = excluded.target, carrier = excluded.carrier, metadata = excluded.metadata,"
        " state = excluded.state, due = 0, attempts = 0, pauses = 0,"
        " changed_at = excluded.changed_at, note = excluded.note WHERE state = 4",
        rows,
    )


def as_candidate(path: bytes, mark: str) -> Candidate:
    """Read what was written of a version of a file."""
    return Candidate(os.fsdecode(path), Fingerprint.parse(mark))


def as_transfer(row: Sequence[Any]) -> Transfer:
    """Read the columns `TRANSFER` back; a row may have more."""
    id_, source, carrier, path, mark, bucket, key, metadata = row[:8]
    return Transfer(
        id=id_,
        source=source,
        carrier=carrier,
        body=as_candidate(path, mark),
        target=ObjectRef(bucket, key),
        metadata=json.loads(metadata) if metadata else {},
    )


def move(
    cursor: Cursor,
    id_: bytes,
    state: State,
    now: float,
    *,
    note: str | None,
    due: float = 0,
    attempts: int | None = None,
) -> None:
    """Note where a promise stands from now on. Its attempts stay as they are unless given."""
    cursor.run(
        "UPDATE promise SET state = ?, due = ?, changed_at = ?, note = ?, attempts = ifnull(?, attempts)"
        " WHERE id = ?",
        (int(state), due, now, note, attempts, id_),
    )


def add_counts(cursor: Cursor, counts: Mapping[tuple[str, str], int]) -> None:
    """Add to the counters: (source, name) -> by how much."""
    cursor.run_many(
        "INSERT INTO counter VALUES (?, ?, ?)"
        " ON CONFLICT (source, name) DO UPDATE SET value = value + excluded.value",
        [(source, name, value) for (source, name), value in counts.items() if value],
    )


def wait_span(now: float) -> tuple[float, float]:
    """Return what `due` is compared with; a due time beyond the second was set by a clock that was wrong."""
    return now, now + LONGEST_WAIT_SECONDS


def stored_before(retention_seconds: float, now: float) -> float:
    """Return when a file must have been stored to be due; without a retention, no matter when."""
    return now - retention_seconds if retention_seconds else MAX_INTEGER


def day_span(now: float) -> tuple[float, float]:
    """Return what the `due` of finished promises is compared with, as `wait_span` does for the others."""
    return now, now + 86400


def _target_hash(target: ObjectRef) -> int:
    digest = hashlib.blake2b(f"{target.bucket}/{target.key}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1
