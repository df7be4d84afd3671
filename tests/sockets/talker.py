"""Somebody who listens and sends lines, as meters and gateways do."""

from __future__ import annotations

import contextlib
import socket
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from typing_extensions import Self

HOST = "127.0.0.1"


class Talker:
    """Listens on TCP, or at a path. One that connects hears what `say` says from then on.

    With `replies` it says again what was not replied to on the connection before.
    """

    def __init__(self, path: Path | None = None, *, replies: bool = False) -> None:
        if path:
            self._listener = socket.socket(socket.AF_UNIX)
            self._listener.bind(str(path))
            self.address = f"unix:{path}"
        else:
            self._listener = socket.create_server((HOST, 0))
            self.address = f"tcp://{HOST}:{self._listener.getsockname()[1]}"
        self._listener.listen()
        self._replies = replies
        self._lock = threading.Condition()
        self._open: socket.socket | None = None
        self._unsure: list[bytes] = []
        self.acknowledged: list[bytes] = []
        self.connections = 0
        self._threads = [threading.Thread(target=self._accept)]

    def __enter__(self) -> Self:
        self._threads[0].start()
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.hang_up()
        for thread in self._threads:
            thread.join()

    def say(self, data: bytes) -> None:
        """Send it, or keep it until somebody listens."""
        with self._lock:
            self._unsure.append(data)
            if self._open:
                with contextlib.suppress(OSError):
                    self._open.sendall(data)
                if not self._replies:
                    self._unsure.clear()

    def hang_up(self) -> None:
        with self._lock:
            if self._open:
                with contextlib.suppress(OSError):
                    self._open.shutdown(socket.SHUT_RDWR)

    @property
    def is_heard(self) -> bool:
        return self._open is not None

    def _accept(self) -> None:
        while True:
            try:
                endpoint, _ = self._listener.accept()
            except OSError:
                return
            with self._lock:
                self.connections += 1
                self._open = endpoint
                with contextlib.suppress(OSError):
                    endpoint.sendall(b"".join(self._unsure))
                if not self._replies:
                    self._unsure.clear()
            self._threads.append(threading.Thread(target=self._hear, args=(endpoint,)))
            self._threads[-1].start()

    def _hear(self, endpoint: socket.socket) -> None:
        heard, told = b"", 0
        with contextlib.suppress(OSError):
            while data := endpoint.recv(4096):
                *replies, heard = (heard + data).split(b"\n")
                with self._lock:
                    if replies and self._open is endpoint:
                        count = int(replies[-1]) - told
                        told += count
                        self.acknowledged += self._unsure[:count]
                        del self._unsure[:count]
        with self._lock:
            if self._open is endpoint:
                self._open = None
        endpoint.close()
