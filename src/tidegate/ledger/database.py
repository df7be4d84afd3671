"""One SQLite file: opening it, one transaction at a time, and what its failures mean.

The only module that imports sqlite3. It knows nothing about promises, but where their schema is.
"""

from __future__ import annotations

import sqlite3
import threading
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tidegate.errors import LedgerLost, Unavailable

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

SCHEMA = Path(__file__).with_name("schema.sql")
VERSION = 3
"""Number of the schema. A file with another one is set aside: everything in it can be rebuilt from disk."""

BUSY_SECONDS = 10.0

MOST_AT_ONCE = 500
"""SQLite takes at least 999 values in one statement."""

_DAMAGED = ("malformed", "not a database", "unsupported file format")
_NO_ROOM = ("full", "disk I/O error", "readonly", "unable to open", "out of memory")


class Database:
    """A connection that any thread may use; every use is one transaction, and they come one at a time.

    A transaction that was committed is on the disk (WAL, synchronous=FULL). Raises `LedgerLost` when the
    file is damaged or cannot be written any more, `Unavailable` when another process keeps it busy.
    """

    def __init__(self, path: Path | None, *, read_only: bool = False, schema: str | None = None) -> None:
        """Open or create the file; None keeps everything in memory only.

        `schema` are the statements that make an empty one; without them it becomes a ledger.
        """
        self._schema = schema
        self._lock = threading.RLock()
        if path is None:
            location = ":memory:"
        else:
            location = f"{path.absolute().as_uri()}?mode={'ro' if read_only else 'rwc'}"
        with _translated():
            self._connection = sqlite3.connect(
                location,
                uri=path is not None,
                timeout=BUSY_SECONDS,
                isolation_level=None,
                check_same_thread=False,
            )
        try:
            self._prepare(read_only=read_only)
        except BaseException:
            self._connection.close()
            raise

    def _prepare(self, *, read_only: bool) -> None:
        with _translated():
            (version,) = self._connection.execute("PRAGMA user_version").fetchone()
            if version not in ((VERSION,) if read_only else (0, VERSION)):
                numbers = f"its schema is number {version}, not {VERSION}"
                raise LedgerLost(f"it is that of another version of tidegate: {numbers}", damaged=True)
            if read_only:
                return
            self._connection.execute("PRAGMA journal_mode = WAL")
            self._connection.execute("PRAGMA synchronous = FULL")
            self._connection.execute("PRAGMA journal_size_limit = 16777216")
            if version == 0:
                schema = self._schema
                if schema is None:
                    schema = SCHEMA.read_text("utf-8")
                self._connection.executescript(f"BEGIN; {schema} PRAGMA user_version = {VERSION}; COMMIT;")

    def close(self) -> None:
        """Close the file. What was committed stays."""
        with self._lock:
            self._connection.close()

    @contextmanager
    def transaction(self) -> Iterator[Cursor]:
        """All of the block is written, or none of it."""
        with self._lock, _translated():
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield Cursor(self._connection)
                self._connection.execute("COMMIT")
            except BaseException:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise

    def rows(self, sql: str, values: Iterable[object] = ()) -> list[Any]:
        """Read, outside any transaction."""
        with self._lock, _translated():
            return self._connection.execute(sql, tuple(values)).fetchall()


class Cursor:
    """What may be done within one transaction."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def run(self, sql: str, values: Iterable[object] = ()) -> int:
        """Write. Returns the number of rows changed."""
        return self._connection.execute(sql, tuple(values)).rowcount

    def run_many(self, sql: str, values: Iterable[tuple[object, ...]]) -> int:
        """Write once for each of `values`. Returns the number of rows changed."""
        return self._connection.executemany(sql, values).rowcount

    def run_in(self, sql: str, values: Sequence[object], ids: Sequence[object]) -> int:
        """Write where `{ids}` stands for any of these ids, few statements for all of them.

        Each statement lets other threads go first: with one for each id this thread would starve.
        """
        changed = 0
        for start in range(0, len(ids), MOST_AT_ONCE):
            some = ids[start : start + MOST_AT_ONCE]
            changed += self.run(sql.format(ids=",".join("?" * len(some))), (*values, *some))
        return changed

    def rows(self, sql: str, values: Iterable[object] = ()) -> list[Any]:
        """Read, seeing what this transaction has written."""
        return self._connection.execute(sql, tuple(values)).fetchall()


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except sqlite3.DatabaseError as err:
        text = str(err)
        if any(words in text for words in _DAMAGED):
            raise LedgerLost(text, damaged=True) from err
        if any(words in text for words in _NO_ROOM):
            raise LedgerLost(text, damaged=False) from err
        if "locked" in text:
            raise Unavailable(f"another process keeps the ledger busy: {text}") from err
        raise  # a bug of ours
