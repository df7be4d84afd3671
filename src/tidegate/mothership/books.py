"""What a mothership knows, in one SQLite file. Every change is one step of a transaction.

Devices may call by the thousand in one second, and each wants to be told something that is on the disk. So
steps that wait together become one transaction, and share the one moment in which the disk is waited for.
"""

from __future__ import annotations

import json
import queue
import threading
from concurrent.futures import Future
from dataclasses import dataclass
from importlib import resources
from typing import TYPE_CHECKING, Any, TypeVar

from tidegate.errors import Unavailable
from tidegate.ledger.database import Database

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from tidegate.ledger.database import Cursor

MOST_TOGETHER = 256
MOST_WAITING = 20_000
KEPT_OF_HISTORY = 100
"""Lines of each device."""

KEPT_OF_ACTIONS = 50
"""Of each device, of those that have ended."""

EVERY = ""
"""Stands in place of a device for all of them that have no configuration of their own."""

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """One row of the list. Times are wall-clock seconds."""

    name: str
    state: str
    version: str
    enrolled: float
    seen: float | None
    cause: str
    rev: int | None
    wanted: int | None
    rejected: int | None
    files: int | None
    bytes: int | None
    error: str
    open: int
    """Actions that have not ended."""


class Books:
    """Safe to use from any thread. Raises what a Database raises."""

    def __init__(self, path: Path | None) -> None:
        schema = resources.files("tidegate.mothership").joinpath("schema.sql").read_text("utf-8")
        self._database = Database(path, schema=schema)
        self._queue: queue.Queue[tuple[Callable[[Cursor], Any], Future[Any]] | None] = queue.Queue(
            MOST_WAITING
        )
        self._thread = threading.Thread(target=self._work, name="books", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Do what waits, and end."""
        self._queue.put(None)
        self._thread.join()
        self._database.close()

    def step(self, does: Callable[[Cursor], Result]) -> Future[Result]:
        """Have it done soon; the result is there when it is on the disk."""
        future: Future[Result] = Future()
        try:
            self._queue.put_nowait((does, future))
        except queue.Full:
            future.set_exception(Unavailable("too many devices call at once"))
        return future

    def _work(self) -> None:
        ended = False
        while not ended:
            steps = []
            job = self._queue.get()
            while job is not None:
                if job[1].set_running_or_notify_cancel():  # else nobody waits for it any more
                    steps.append(job)
                if len(steps) >= MOST_TOGETHER:
                    break
                try:
                    job = self._queue.get_nowait()
                except queue.Empty:
                    break
            ended = job is None
            if not self._do(steps):
                for one in steps:  # whose fault it was alone finds out
                    self._do([one], last=True)

    def _do(self, steps: list[tuple[Callable[[Cursor], Any], Future[Any]]], *, last: bool = False) -> bool:
        """Do these in one transaction. Tells whether that went well, or who asked was told otherwise."""
        try:
            with self._database.transaction() as cursor:
                results = [does(cursor) for does, _ in steps]
        except Exception as err:  # noqa: BLE001 - whoever asked is told
            if last:
                steps[0][1].set_exception(err)
            return False
        for (_, future), result in zip(steps, results, strict=True):
            future.set_result(result)
        return True

    # What people ask

    def devices(self, *, after: str = "", limit: int = 200, trouble: bool = False) -> list[Device]:
        """List devices by name, from the one after `after` on; only those with an error, if so asked.

        That a device cannot use what is wanted of it is an error until one of the two has changed.
        """
        rows = self._database.rows(
            "SELECT name, state, version, enrolled, seen, cause, rev, wanted, rejected, files, bytes,"
            " CASE WHEN error = '' AND rejected = wanted"
            " THEN 'revision ' || wanted || ' was refused; its history tells why' ELSE error END AS trouble,"
            " (SELECT count(*) FROM actions a WHERE a.device = d.name AND a.ended IS NULL)"
            " FROM (SELECT *, coalesce((SELECT rev FROM desired w WHERE w.device = devices.name),"
            " (SELECT rev FROM desired w WHERE w.device = '')) AS wanted FROM devices) d"
            " WHERE name > ? AND (NOT ? OR trouble <> '') ORDER BY name LIMIT ?",
            (after, trouble, limit),
        )
        names = Device.__slots__
        return [Device(**dict(zip(names, row, strict=True))) for row in rows]

    def count(self) -> int:
        """Count the devices."""
        return int(self._database.rows("SELECT count(*) FROM devices")[0][0])

    def device(self, name: str) -> dict[str, Any] | None:
        """Tell all about one device: what it said last, its open actions, its history, newest first."""
        rows = self._database.rows("SELECT info FROM devices WHERE name = ?", (name,))
        if not rows:
            return None
        actions = self._database.rows(
            "SELECT id, action, queued, sent, ended, answer, told FROM actions WHERE device = ?"
            " ORDER BY seq DESC LIMIT ?",
            (name, KEPT_OF_ACTIONS),
        )
        history = self._database.rows(
            "SELECT at, what, detail FROM history WHERE device = ? ORDER BY seq DESC LIMIT ?",
            (name, KEPT_OF_HISTORY),
        )
        names = ("id", "action", "queued", "sent", "ended", "answer")
        told = [json.loads(row[-1]) for row in actions]
        return {
            "name": name,
            "info": json.loads(rows[0][0]),
            "actions": [
                dict(zip(names, row[:-1], strict=True)) | {"result": one}
                for row, one in zip(actions, told, strict=True)
            ],
            "history": [dict(zip(("at", "what", "detail"), row, strict=True)) for row in history],
        }


# Steps


def enrol(cursor: Cursor, name: str, token: bytes, now: float) -> bool:
    """Take a device in. Tells whether the name is its own: it is nobody else's, or the same token's."""
    rows = cursor.rows("SELECT token FROM devices WHERE name = ?", (name,))
    if rows:
        return bool(rows[0][0] == token)
    cursor.run("INSERT INTO devices (name, token, enrolled) VALUES (?, ?, ?)", (name, token, now))
    note(cursor, name, "enrolled", "", now)
    return True


def expel(cursor: Cursor, name: str) -> bool:
    """Forget a device: its token is of no use any more, and its name is free. Tells whether there was one."""
    found = cursor.run("DELETE FROM devices WHERE name = ?", (name,))
    cursor.run("DELETE FROM desired WHERE device = ?", (name,))
    cursor.run("DELETE FROM actions WHERE device = ?", (name,))
    cursor.run("DELETE FROM history WHERE device = ?", (name,))
    return bool(found)


def desire(cursor: Cursor, device: str, config: Mapping[str, object], now: float) -> int | None:
    """Want this configuration of a device, or of EVERY one without its own.

    Returns the revision; None: there is no such device.
    """
    if device and not cursor.rows("SELECT 1 FROM devices WHERE name = ?", (device,)):
        return None
    cursor.run("INSERT INTO revisions (device, at) VALUES (?, ?)", (device, now))
    rev = int(cursor.rows("SELECT last_insert_rowid()")[0][0])
    cursor.run("INSERT OR REPLACE INTO desired VALUES (?, ?, ?)", (device, rev, json.dumps(config)))
    if device:
        cursor.run("UPDATE devices SET state = 'configured' WHERE name = ?", (device,))
        note(cursor, device, "desired", f"revision {rev}", now)
    else:
        cursor.run("UPDATE devices SET state = 'configured' WHERE state = 'registered'")
    return rev


def set_state(cursor: Cursor, device: str, state: str, now: float) -> bool:
    """Want a device to be in this state. Tells whether there is such a device."""
    if not cursor.run("UPDATE devices SET state = ? WHERE name = ?", (state, device)):
        return False
    note(cursor, device, "state", state, now)
    return True


def order(cursor: Cursor, device: str, action: str, key: str, now: float) -> bool:
    """Queue an action, once for each `key`. Tells whether there is such a device."""
    if not cursor.rows("SELECT 1 FROM devices WHERE name = ?", (device,)):
        return False
    sql = "INSERT OR IGNORE INTO actions (id, device, action, queued) VALUES (?, ?, ?, ?)"
    if cursor.run(sql, (key, device, action, now)):
        note(cursor, device, "queued", action, now)
    return True


def end(cursor: Cursor, device: str, action: str, answer: str, told: str, now: float) -> None:
    """Write down what became of an action: the first word about it counts. Forgets those of long ago."""
    cursor.run(
        "UPDATE actions SET ended = ?, answer = ?, told = ? WHERE device = ? AND id = ? AND ended IS NULL",
        (now, answer, told, device, action),
    )
    cursor.run(
        "DELETE FROM actions WHERE device = ? AND ended IS NOT NULL AND seq <= (SELECT seq FROM actions"
        " WHERE device = ? AND ended IS NOT NULL ORDER BY seq DESC LIMIT 1 OFFSET ?)",
        (device, device, KEPT_OF_ACTIONS),
    )


def note(cursor: Cursor, device: str, what: str, detail: str, now: float) -> None:
    """Add a line to the history of a device, and forget its oldest."""
    cursor.run(
        "INSERT INTO history (device, at, what, detail) VALUES (?, ?, ?, ?)", (device, now, what, detail)
    )
    cursor.run(
        "DELETE FROM history WHERE device = ? AND seq <= (SELECT seq FROM history WHERE device = ?"
        " ORDER BY seq DESC LIMIT 1 OFFSET ?)",
        (device, device, KEPT_OF_HISTORY),
    )
