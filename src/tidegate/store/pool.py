"""Keeps connections, so that a small object costs one round trip and not four."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

from tidegate.store.http import Connection, Stale
from tidegate.store.wire import trust

if TYPE_CHECKING:
    from tidegate.store.answers import Answer
    from tidegate.store.http import Request
    from tidegate.store.wire import Address, Manner

_FRESH_SECONDS = 1.0  # a connection that was used since then is not looked at before it is used again
_KEEP_SECONDS = 60.0


class Pool:
    """Connections to one address, kept while they are good. Safe to use from several threads.

    There are as many as there were requests at the same time; the last one used is used first.
    """

    def __init__(self, address: Address, manner: Manner) -> None:
        """Raises `Unavailable` if the CA bundle cannot be read."""
        self._address = address
        self.manner = manner
        self._context = trust(manner.ca_bundle) if address.scheme == "https" else None
        self._gate = threading.Lock()
        self._idle: list[Connection] = []
        self._busy: set[Connection] = set()
        self._closed = False
        absolute = manner.proxy is not None and self._context is None
        login = manner.proxy.authorization if manner.proxy is not None and absolute else ""
        self._prefix = str(address) if absolute else ""
        self._head = f"host: {address.authority}\r\n" + (f"proxy-authorization: {login}\r\n" if login else "")

    def exchange(self, request: Request) -> Answer:
        """Send a request and return its answer.

        If a kept connection turns out to be closed, a repeatable request is sent on a fresh one.
        Raises `Unavailable` when the network or the server fails, and whatever the body raises.
        """
        line = f"{request.method} {self._prefix}{request.target} HTTP/1.1\r\n"
        head = f"{line}{self._head}{request.head}\r\n".encode("latin-1")
        kept = self._take()
        if kept is not None:
            try:
                return self._exchange(kept, head, request)
            except Stale:
                if not request.repeatable:
                    raise
        return self._exchange(Connection(self._address, self.manner, self._context), head, request)

    def close(self) -> None:
        """Hang up on everybody: requests under way fail with `Unavailable`, and so do later ones."""
        with self._gate:
            self._closed = True
            for connection in self._busy:
                connection.hang_up()
            for connection in self._idle:
                connection.close()
            self._idle.clear()

    def _exchange(self, connection: Connection, head: bytes, request: Request) -> Answer:
        with self._gate:
            self._busy.add(connection)
            if self._closed:
                connection.hang_up()
        try:
            return connection.exchange(head, request)
        finally:
            with self._gate:
                self._busy.discard(connection)
                if connection.lasting and not self._closed:
                    connection.idle_since = time.monotonic()
                    self._idle.append(connection)
                else:
                    connection.close()

    def _take(self) -> Connection | None:
        """Take a kept connection that seems good; let go of those that nobody has used for long."""
        now = time.monotonic()
        with self._gate:
            while self._idle and now - self._idle[0].idle_since > _KEEP_SECONDS:
                self._idle.pop(0).close()
            while self._idle:
                connection = self._idle.pop()
                if now - connection.idle_since < _FRESH_SECONDS or connection.is_fresh():
                    return connection
                connection.close()
        return None
