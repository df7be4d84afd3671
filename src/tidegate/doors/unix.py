"""A door for programs on this device: a Unix socket in the work directory, for its owner only.

Each line is a request, a JSON object with `route` beside what the route wants; each is answered by a line.
A connection may bring one request or many; they are answered one after the other.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import socket
import threading
from typing import TYPE_CHECKING

from tidegate.doors.desk import refusal

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tidegate.doors.desk import Desk
    from tidegate.routes.wire import Reply

FILE = "socket"
MOST_CONNECTIONS = 16
LARGEST_LINE = 1_500_000
"""Bytes: a request of the largest size, as JSON."""

PAUSE_SECONDS = 0.5
FAREWELL_SECONDS = 0.5
IDLE_SECONDS = 60.0
ANSWER_SECONDS = 900.0
"""Longer than any route may take."""

log = logging.getLogger(__name__)


@contextlib.contextmanager
def address(folder: Path) -> Iterator[str]:
    """Name the socket by a path short enough for any folder: the system takes 107 bytes."""
    descriptor = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{descriptor}/{FILE}"
    finally:
        os.close(descriptor)


class SocketDoor:
    """Open from the constructor's return to `close`. Only one for a folder: who owns it has its lock."""

    def __init__(self, folder: Path, desk: Desk) -> None:
        """Raise OSError where there can be no socket."""
        self._path = folder / FILE
        self._desk = desk
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._sent = threading.Condition(self._lock)
        self._unsent: set[socket.socket] = set()  # there is an answer, which is about to be sent
        self._is_closed = False
        self._paused = threading.Event()
        self._path.unlink(missing_ok=True)  # that of one who was killed
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            with address(folder) as name:
                self._listener.bind(name)
            self._path.chmod(0o600)  # nobody can have come in before `listen`
            self._listener.listen()
        except OSError:
            self._listener.close()
            raise
        self._thread = threading.Thread(target=self._accept, name="door socket", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Let nobody in any more, and hang up. Answers that there are arrive before that."""
        with self._lock:
            self._is_closed = True
            connections = list(self._open)
        self._paused.set()
        self._path.unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # wakes who waits for connections
        self._thread.join()
        self._listener.close()
        with self._sent:
            self._sent.wait_for(lambda: not self._unsent, FAREWELL_SECONDS)
        for one in connections:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        said = ""
        while not self._is_closed:
            try:
                connection, _ = self._listener.accept()
            except OSError as err:
                if self._is_closed:
                    return
                if str(err) != said:  # as long as too many files are open, for example
                    said = str(err)
                    log.warning("the socket in the work directory takes no requests for now: %s", err)
                self._paused.wait(PAUSE_SECONDS)
                continue
            said = ""
            with self._lock:
                welcome = not self._is_closed and len(self._open) < MOST_CONNECTIONS
                if welcome:
                    self._open.add(connection)
            if welcome:
                threading.Thread(target=self._talk, args=(connection,), name="socket", daemon=True).start()
            else:
                connection.close()

    def _talk(self, connection: socket.socket) -> None:
        connection.settimeout(IDLE_SECONDS)
        try:
            with connection.makefile("rb") as lines:
                while line := lines.readline(LARGEST_LINE + 1):
                    if len(line) > LARGEST_LINE:
                        reply = refusal(413, "TooLarge", f"a request has up to {LARGEST_LINE} bytes", b"")
                        connection.sendall(reply.json() + b"\n")
                        return
                    connection.sendall(self._answer(line, connection).json() + b"\n")
                    self._has_sent(connection)
        except OSError:
            pass  # whoever asked has gone, or says nothing any more
        finally:
            self._has_sent(connection)
            with self._lock:
                self._open.discard(connection)
            connection.close()

    def _has_sent(self, connection: socket.socket) -> None:
        with self._sent:
            self._unsent.discard(connection)
            self._sent.notify_all()

    def _answer(self, line: bytes, connection: socket.socket) -> Reply:
        try:
            asked = json.loads(line)
        except (ValueError, RecursionError):
            asked = None
        route = asked.pop("route", None) if isinstance(asked, dict) else None
        if not isinstance(route, str):
            example = '{"route": "statistics/get"}'
            return refusal(400, "BadRequest", f"that is no request; write for example {example}", line)
        answers: list[Reply] = []
        came = threading.Event()

        def take(reply: Reply) -> None:
            with self._lock:
                self._unsent.add(connection)
            answers.append(reply)
            came.set()

        payload = json.dumps(asked).encode()
        self._desk.put(route, payload, take)
        if not came.wait(ANSWER_SECONDS):
            return refusal(504, "NoAnswer", f"{route} has not answered", payload)
        return answers[0]
