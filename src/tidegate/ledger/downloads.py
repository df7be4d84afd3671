"""Which files were brought here: of which version of which object, and how each is known again."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tidegate.ledger.database import MOST_AT_ONCE
from tidegate.ledger.rows import add_counts

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from tidegate.ledger.database import Cursor, Database

_COLUMNS = "path, bucket, key, etag, mark, before"


@dataclass(frozen=True, slots=True, kw_only=True)
class Brought:
    """One file. `path` is relative to the folder of its source; bytes that are not UTF-8 are surrogates.

    `mark` is of the file that holds the object with this `etag`, or is about to; `before` is of the one that
    it takes the place of, or "": a process may die between the two.
    """

    path: str
    bucket: str
    key: str
    etag: str
    mark: str
    before: str = ""

    def is_ours(self, mark: str) -> bool:
        """Whether a file with this mark was brought by us."""
        return mark in (self.mark, self.before)


class Downloads:
    """A part of the ledger, with its guarantees. A file is written down before it gets its name."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def known(self, source: str, paths: Sequence[str]) -> dict[str, Brought]:
        """Tell what is known of these files."""
        found: dict[str, Brought] = {}
        for start in range(0, len(paths), MOST_AT_ONCE):
            some = [os.fsencode(path) for path in paths[start : start + MOST_AT_ONCE]]
            marks = ",".join("?" * len(some))
            for row in self._database.rows(
                f"SELECT {_COLUMNS} FROM download WHERE source = ? AND path IN ({marks})", (source, *some)
            ):
                one = _brought(row)
                found[one.path] = one
        return found

    def between(self, source: str, after: bytes, upto: bytes | None, *, limit: int) -> list[Brought]:
        """List files in the order of their bytes: behind `after`, and up to `upto` (None: to the end)."""
        end, values = ("AND path <= ?", (upto,)) if upto is not None else ("", ())
        rows = self._database.rows(
            f"SELECT {_COLUMNS} FROM download WHERE source = ? AND path > ? {end} ORDER BY path LIMIT ?",
            (source, after, *values, limit),
        )
        return list(map(_brought, rows))

    def note(self, source: str, files: Iterable[Brought], counts: Mapping[str, int]) -> None:
        """Write down files, each in place of what was known of it, and add to the counters."""
        with self._database.transaction() as cursor:
            cursor.run_many(
                f"INSERT OR REPLACE INTO download (source, {_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?)",
                [
                    (source, os.fsencode(one.path), one.bucket, one.key, one.etag, one.mark, one.before)
                    for one in files
                ],
            )
            _count(cursor, source, counts)

    def forget(self, source: str, paths: Iterable[str], counts: Mapping[str, int]) -> None:
        """These are not here any more, or not ours; and add to the counters."""
        with self._database.transaction() as cursor:
            cursor.run_many(
                "DELETE FROM download WHERE source = ? AND path = ?",
                [(source, os.fsencode(path)) for path in paths],
            )
            _count(cursor, source, counts)


def _count(cursor: Cursor, source: str, counts: Mapping[str, int]) -> None:
    add_counts(cursor, {(source, name): value for name, value in counts.items()})


def _brought(row: Sequence[object]) -> Brought:
    path, bucket, key, etag, mark, before = row
    return Brought(
        path=os.fsdecode(path),  # type: ignore[arg-type]
        bucket=str(bucket),
        key=str(key),
        etag=str(etag),
        mark=str(mark),
        before=str(before),
    )
