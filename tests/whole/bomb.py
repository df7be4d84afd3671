"""Ends a process at one chosen step, without the code under test having a seam for it.

Python itself announces each change of a file system (audit events) and SQLite each statement (its trace
callback), both just before it happens. To die before the next step is to die after the one before it,
so the steps in order are all there is to try.
"""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import sys
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_FILE_EVENTS = {"os.rename", "os.remove", "os.link", "os.mkdir", "os.rmdir", "os.symlink", "os.truncate"}
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT
_STATEMENTS = ("BEGIN", "COMMIT", "ROLLBACK", "PRAGMA journal_mode", "PRAGMA user_version =")


class Bomb:
    """Counts the steps of this process, and kills it at number `fuse`; 0 never goes off.

    Only what is changed below `roots` counts. `report` is a descriptor that is told all steps.
    """

    def __init__(self, roots: Sequence[str], *, fuse: int, report: int) -> None:
        self.phase = ""
        self._roots = tuple(roots)
        self._fuse = fuse
        self._report = report
        self._steps: list[str] = []
        self._connections: list[sqlite3.Connection] = []  # not yet traced
        self._silent = False
        self._lock = threading.Lock()

    def arm(self) -> None:
        """From now on changes of files and databases are steps, for the life of the process."""
        sys.addaudithook(self._audit)

    def step(self, what: str) -> None:
        """The process is about to do this."""
        if self._silent:
            return
        with self._lock:
            self._steps.append(f"{self.phase}: {what}")
            if len(self._steps) == self._fuse:
                self.tell()
                os.kill(os.getpid(), signal.SIGKILL)

    @contextmanager
    def silence(self) -> Iterator[None]:
        """What happens in the block is done by others."""
        self._silent = True
        try:
            yield
        finally:
            self._silent = False

    def tell(self) -> None:
        """Report the steps so far."""
        os.write(self._report, json.dumps(self._steps).encode())

    def _audit(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event == "sqlite3.connect/handle":
            self._connections.append(arguments[0])
        self._connections = [it for it in self._connections if not self._trace(it)]
        if event in _FILE_EVENTS or (event == "open" and (arguments[2] or 0) & _WRITES):
            paths = [os.fsdecode(it) for it in arguments[:2] if isinstance(it, (str, bytes, os.PathLike))]
            if paths and paths[-1 if event == "os.symlink" else 0].startswith(self._roots):
                self.step(f"{event} {paths[0]}")

    def _trace(self, connection: sqlite3.Connection) -> bool:
        """Some versions of Python announce a connection before it can be used: then at the next event."""
        try:
            connection.set_trace_callback(self._statement)
        except sqlite3.ProgrammingError:
            return False
        return True

    def _statement(self, sql: str) -> None:
        if sql.startswith(_STATEMENTS):
            self.step(sql)
