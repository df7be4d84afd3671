"""The file of one job: what was ordered, where each object stands, and what is still to be told.

A million objects have to fit into a few megabytes, so there is no row for each: a sheet holds up to 1,000
keys, sorted and packed, and one byte for each that says where it stands. How many stand where is written
beside them, in the same transaction, so counts cannot differ from the objects they count.
"""

from __future__ import annotations

import json
import zlib
from bisect import bisect_left, bisect_right
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tidegate.errors import LedgerLost
from tidegate.ledger.database import Database
from tidegate.restore.nouns import Counts, Kind, Phase, Spec, State

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from tidegate.ledger.database import Cursor

SHEET = 1000
_STATE, _KIND = 0x0F, 4
_COLUMNS = ", ".join(state.name.lower() for state in State)
_SCHEMA = """
CREATE TABLE job (one INTEGER PRIMARY KEY CHECK (one = 1), spec TEXT NOT NULL, phase TEXT NOT NULL,
    notes TEXT NOT NULL, wish TEXT NOT NULL DEFAULT '');
CREATE TABLE sheets (number INTEGER PRIMARY KEY, bucket TEXT NOT NULL, first TEXT NOT NULL,
    wanted INTEGER NOT NULL, asked INTEGER NOT NULL, already INTEGER NOT NULL, ready INTEGER NOT NULL,
    open INTEGER NOT NULL, failed INTEGER NOT NULL, fetched INTEGER NOT NULL,
    states BLOB NOT NULL, keys BLOB NOT NULL);
CREATE TABLE failures (sheet INTEGER, position INTEGER, code TEXT NOT NULL, message TEXT NOT NULL,
    PRIMARY KEY (sheet, position)) WITHOUT ROWID;
CREATE TABLE sample (number INTEGER PRIMARY KEY, bucket TEXT NOT NULL, key TEXT NOT NULL,
    version TEXT NOT NULL, ready INTEGER NOT NULL DEFAULT 0);
CREATE TABLE outbox (number INTEGER PRIMARY KEY, event TEXT NOT NULL, missing TEXT NOT NULL);
"""
_LISTED_SCHEMA = """
CREATE TABLE listed (bucket TEXT, key TEXT, version TEXT, PRIMARY KEY (bucket, key, version)) WITHOUT ROWID;
"""


@dataclass(slots=True)
class Sheet:
    """Up to 1,000 objects of one bucket, in the order of listings.

    `versions` is empty where all are the latest. `failures` are those not yet written down, by position.
    """

    number: int
    bucket: str
    keys: list[str]
    versions: list[str]
    states: bytearray
    failures: dict[int, tuple[str, str]] = field(default_factory=dict)

    @classmethod
    def make(cls, number: int, bucket: str, rows: Sequence[tuple[str, str, State, Kind]]) -> Sheet:
        """Begin one."""
        versions = [row[1] for row in rows]
        states = bytearray(state | kind << _KIND for _, _, state, kind in rows)
        return cls(number, bucket, [row[0] for row in rows], versions if any(versions) else [], states)

    def version(self, position: int) -> str:
        """The version of one; empty for the latest."""
        return self.versions[position] if self.versions else ""

    def state(self, position: int) -> State:
        """Where it stands."""
        return State(self.states[position] & _STATE)

    def kind(self, position: int) -> Kind:
        """Where it is archived."""
        return Kind(self.states[position] >> _KIND)

    def set(self, position: int, state: State, why: tuple[str, str] = ("", "")) -> None:
        """Say where it stands now; `why` are code and message of a failure."""
        self.states[position] = self.states[position] & ~_STATE | state
        if state is State.FAILED:
            self.failures[position] = why

    def where(self, *states: State) -> list[int]:
        """The positions of those that stand there."""
        wanted = bytes(states)
        return [at for at, byte in enumerate(self.states) if byte & _STATE in wanted]

    def counts(self) -> list[int]:
        """How many stand where, in the order of the states."""
        plain = bytes(byte & _STATE for byte in self.states)
        return [plain.count(state) for state in State]

    def find(self, key: str, version: str) -> int | None:
        """The position of an object; one wanted without a version is found by any."""
        at = bisect_left(self.keys, key)
        while at < len(self.keys) and self.keys[at] == key:
            if not self.version(at) or self.version(at) == version:
                return at
            at += 1
        return None

    def packed(self) -> bytes:
        """The keys and versions, for the file."""
        return zlib.compress(json.dumps([self.keys, self.versions], separators=(",", ":")).encode(), 1)


class Journal:
    """One job. Every method is one transaction, and safe to use from several threads."""

    def __init__(self, path: Path | None, *, read_only: bool = False) -> None:
        """Open or create the file; None keeps it in memory. Raises `LedgerLost` and `Unavailable`."""
        self._path = path
        self._database = Database(path, read_only=read_only, schema=_SCHEMA)
        self._spec: Spec | None = None

    @property
    def spec(self) -> Spec:
        """What was ordered."""
        if self._spec is None:
            self._spec = Spec.of_json(json.loads(self._database.rows("SELECT spec FROM job")[0][0]))
        return self._spec

    def is_ordered(self) -> bool:
        """Whether there is a job in this file."""
        return bool(self._database.rows("SELECT 1 FROM job"))

    def order(self, spec: Spec) -> None:
        """Write down what is ordered, before anything else."""
        with self._database.transaction() as cursor:
            cursor.run(
                "INSERT INTO job (one, spec, phase, notes) VALUES (1, ?, ?, '{}')",
                (json.dumps(spec.as_json()), Phase.READING.value),
            )

    def phase(self) -> Phase:
        """What the job is at."""
        return Phase(self._database.rows("SELECT phase FROM job")[0][0])

    def notes(self) -> dict[str, Any]:
        """All that is known of the job beside its objects: see `run`."""
        notes: dict[str, Any] = json.loads(self._database.rows("SELECT notes FROM job")[0][0])
        return notes

    def note(
        self,
        notes: Mapping[str, Any],
        *,
        phase: Phase | None = None,
        event: Mapping[str, Any] | None = None,
        sinks: int = 0,
    ) -> None:
        """Change some notes, go on to a phase, and put an event into the outbox: all or nothing.

        Nothing of that happens to a job that has ended: there is one end, and one event that tells it.
        """
        with self._database.transaction() as cursor:
            before, ended = cursor.rows("SELECT notes, phase = 'ended' FROM job")[0]
            if ended:
                return
            cursor.run("UPDATE job SET notes = ?", (json.dumps(json.loads(before) | dict(notes)),))
            if phase is not None:
                cursor.run("UPDATE job SET phase = ?", (phase.value,))
            if event is not None:
                cursor.run(
                    "INSERT INTO outbox (event, missing) VALUES (?, ?)",
                    (json.dumps(event), json.dumps(list(range(sinks)))),
                )

    def wish(self, wish: str | None = None) -> str:
        """Leave a word for the process that runs the job ("cancel"), or read it."""
        if wish is not None:
            with self._database.transaction() as cursor:
                cursor.run("UPDATE job SET wish = ?", (wish,))
        return str(self._database.rows("SELECT wish FROM job")[0][0])

    def outbox(self) -> list[tuple[int, dict[str, Any], list[int]]]:
        """Events that some sinks (by number) do not have yet, oldest first."""
        rows = self._database.rows("SELECT number, event, missing FROM outbox WHERE missing != '[]'")
        return [(number, json.loads(event), json.loads(missing)) for number, event, missing in rows]

    def told(self, number: int, missing: Sequence[int]) -> None:
        """Say which sinks still do not have an event."""
        with self._database.transaction() as cursor:
            cursor.run("UPDATE outbox SET missing = ? WHERE number = ?", (json.dumps(list(missing)), number))

    def events(self, after: int = 0) -> list[tuple[int, dict[str, Any]]]:
        """All events with higher numbers, oldest first."""
        rows = self._database.rows("SELECT number, event FROM outbox WHERE number > ?", (after,))
        return [(number, json.loads(event)) for number, event in rows]

    def forget_plan(self) -> None:
        """Take away what a plan that was broken off has written."""
        with self._database.transaction() as cursor:
            for table in ("sheets", "failures", "sample"):
                cursor.run(f"DELETE FROM {table}")  # noqa: S608 - constants

    def add(self, sheets: Iterable[Sheet]) -> None:
        """Write new sheets down."""
        with self._database.transaction() as cursor:
            cursor.run_many(
                f"INSERT INTO sheets (number, bucket, first, {_COLUMNS}, states, keys)"  # noqa: S608
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                [
                    (it.number, it.bucket, it.keys[0], *it.counts(), bytes(it.states), it.packed())
                    for it in _failing(cursor, sheets)
                ],
            )

    def save(self, sheets: Iterable[Sheet]) -> None:
        """Write down where the objects of these sheets stand now."""
        columns = ", ".join(f"{state.name.lower()} = ?" for state in State)
        with self._database.transaction() as cursor:
            cursor.run_many(
                f"UPDATE sheets SET {columns}, states = ? WHERE number = ?",  # noqa: S608 - constants
                [(*it.counts(), bytes(it.states), it.number) for it in _failing(cursor, sheets)],
            )

    def sheets(self, *states: State) -> Iterator[Sheet]:
        """Read, one at a time, the sheets in which any object stands there; all without `states`."""
        last = -1
        some = " OR ".join(f"{state.name.lower()} > 0" for state in states) or "1"
        while True:
            rows = self._database.rows(
                "SELECT number, bucket, states, keys FROM sheets"  # noqa: S608 - constants
                f" WHERE number > ? AND ({some}) ORDER BY number LIMIT 1",
                (last,),
            )
            if not rows:
                return
            yield (sheet := _sheet(rows[0]))
            last = sheet.number

    def counts(self) -> Counts:
        """How many objects stand where."""
        sums = ", ".join(f"COALESCE(SUM({state.name.lower()}), 0)" for state in State)
        return Counts(*self._database.rows(f"SELECT {sums} FROM sheets")[0])  # noqa: S608 - constants

    def index(self) -> list[tuple[str, str, int]]:
        """Tell where each sheet begins: bucket, first key and number, in the order of listings."""
        return [
            tuple(row) for row in self._database.rows("SELECT bucket, first, number FROM sheets ORDER BY 3")
        ]

    @staticmethod
    def places(index: Sequence[tuple[str, str, int]], bucket: str, key: str) -> Iterator[int]:
        """Name the sheets that may hold a key: several, where its versions fill more than one."""
        at = bisect_right(index, (bucket, key), key=lambda row: row[:2]) - 1
        while at >= 0 and index[at][0] == bucket:
            yield index[at][2]
            if index[at][1] != key:
                return
            at -= 1

    def sheet(self, number: int) -> Sheet:
        """Read one sheet."""
        rows = self._database.rows(
            "SELECT number, bucket, states, keys FROM sheets WHERE number = ?", (number,)
        )
        return _sheet(rows[0])

    def failures(self, most: int = 1000) -> list[dict[str, str]]:
        """Name objects that failed, and why."""
        rows = self._database.rows(
            "SELECT sheet, position, code, message FROM failures ORDER BY sheet, position LIMIT ?", (most,)
        )
        found, sheet = [], None
        for number, position, code, message in rows:
            if sheet is None or sheet.number != number:
                sheet = self.sheet(number)
            row = {"bucket": sheet.bucket, "key": sheet.keys[position], "version": sheet.version(position)}
            found.append({**row, "code": code, "message": message})
        return found

    def failure_codes(self) -> dict[str, int]:
        """How many failed for which reason."""
        return dict(self._database.rows("SELECT code, COUNT(*) FROM failures GROUP BY code"))

    def draw(self, sample: Iterable[tuple[str, str, str]]) -> None:
        """Put another sample in place of the last: bucket, key and version of each."""
        with self._database.transaction() as cursor:
            cursor.run("DELETE FROM sample")
            cursor.run_many("INSERT INTO sample (bucket, key, version) VALUES (?, ?, ?)", sample)

    def sample(self) -> tuple[int, list[tuple[int, str, str, str]]]:
        """How many of the sample were seen ready, and number, bucket, key and version of the others."""
        ready = self._database.rows("SELECT COUNT(*) FROM sample WHERE ready")[0][0]
        return ready, self._database.rows("SELECT number, bucket, key, version FROM sample WHERE NOT ready")

    def sampled(self, numbers: Sequence[int]) -> None:
        """These of the sample were seen ready."""
        with self._database.transaction() as cursor:
            cursor.run_in("UPDATE sample SET ready = 1 WHERE number IN ({ids})", (), numbers)

    def close(self) -> None:
        """Close the file."""
        self._database.close()


class Listed:
    """A selection by key while it is sorted, in a file beside that of the job. Each object counts once."""

    def __init__(self, path: Path | None) -> None:
        self._database = Database(path, schema=_LISTED_SCHEMA)

    def add(self, rows: Iterable[tuple[str, str, str]]) -> int:
        """Add bucket, key and version of some; returns how many were not there already."""
        with self._database.transaction() as cursor:
            return cursor.run_many("INSERT OR IGNORE INTO listed VALUES (?, ?, ?)", rows)

    def pages(self, size: int = SHEET) -> Iterator[list[tuple[str, str, str]]]:
        """Read them back in the order of listings; each page is of one bucket."""
        last = ("", "", "")
        while True:
            rows = self._database.rows(
                "SELECT bucket, key, version FROM listed WHERE (bucket, key, version) > (?, ?, ?)"
                " ORDER BY bucket, key, version LIMIT ?",
                (*last, size),
            )
            if not rows:
                return
            page = [row for row in rows if row[0] == rows[0][0]]
            yield page
            last = page[-1]

    def close(self) -> None:
        """Close the file."""
        self._database.close()


def _failing(cursor: Cursor, sheets: Iterable[Sheet]) -> Iterator[Sheet]:
    """Write the failures of the sheets that go by."""
    for sheet in sheets:
        if sheet.failures:
            cursor.run_many(
                "INSERT OR REPLACE INTO failures VALUES (?, ?, ?, ?)",
                [(sheet.number, at, *why) for at, why in sheet.failures.items()],
            )
            sheet.failures.clear()
        yield sheet


def _sheet(row: Sequence[Any]) -> Sheet:
    number, bucket, states, keys = row
    try:
        names, versions = json.loads(zlib.decompress(keys))
    except (zlib.error, ValueError) as error:
        raise LedgerLost(f"the keys of a sheet cannot be read: {error}", damaged=True) from error
    return Sheet(number, bucket, names, versions, bytearray(states))
