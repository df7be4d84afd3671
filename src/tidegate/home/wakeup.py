"""A door for programs of this machine: a POST with a token, and the mothership is called now.

Off unless configured, never open to the network, and of no other use: it tells nothing.
"""

from __future__ import annotations

import contextlib
import hmac
import logging
import socket
import threading
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

LEAST_SECONDS = 10.0
"""Between two wakeups; the one that came too soon is told to come again."""

MOST_BYTES = 8192
PATIENCE_SECONDS = 5.0
RETRY_SECONDS = 0.5
LEAST_TOKEN = 16

log = logging.getLogger(__name__)


class Wakeup:
    """Open from the constructor's return to `close`. One request at a time: nobody has much to say."""

    def __init__(
        self,
        address: str,
        token_file: str,
        wake: Callable[[], None],
        *,
        steady: Callable[[], float],
        least_seconds: float = LEAST_SECONDS,
    ) -> None:
        """`address` is one of the loopback, or the path of a socket. Raises OSError where it cannot be."""
        self._token_file = Path(token_file)
        self._wake = wake
        self._steady = steady
        self._least_seconds = least_seconds
        self._last = float("-inf")
        self._path = Path(address) if address.startswith("/") else None
        self._listener = _on_path(self._path) if self._path else _on_loopback(address)
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._accept, name="wakeup", daemon=True)
        self._thread.start()

    @property
    def port(self) -> int:
        """Where it listens, if not on a path."""
        return int(self._listener.getsockname()[1])

    def close(self) -> None:
        """Let nobody in any more."""
        self._closing.set()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # wakes who waits for connections
        self._listener.close()
        self._thread.join()
        if self._path:
            self._path.unlink(missing_ok=True)

    def _accept(self) -> None:
        while not self._closing.is_set():
            try:
                connection, _ = self._listener.accept()
            except OSError as err:  # it is being closed, or there is no descriptor left
                if not self._closing.wait(RETRY_SECONDS):
                    log.warning("a wakeup was not heard: %s", err)
                continue
            with contextlib.suppress(OSError), connection:
                connection.settimeout(PATIENCE_SECONDS)
                status = self._answer(_head(connection, self._steady))
                connection.sendall(
                    f"HTTP/1.1 {status}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n".encode()
                )

    def _answer(self, head: bytes) -> str:
        lines = head.split(b"\r\n")
        if not lines[0].startswith(b"POST "):
            return "405 Method Not Allowed"
        sent = [line.partition(b":")[2].strip() for line in lines if line[:14].lower() == b"authorization:"]
        if len(sent) != 1 or not self._is_right(sent[0]):
            return "401 Unauthorized"
        now = self._steady()
        if now - self._last < self._least_seconds:
            return "429 Too Many Requests"
        self._last = now
        self._wake()
        return "202 Accepted"

    def _is_right(self, sent: bytes) -> bool:
        """Compare with the token as it stands in its file now."""
        try:
            token = self._token_file.read_text("utf-8").strip()
        except (OSError, ValueError) as err:
            log.error("nobody can wake us: %s: %s", self._token_file, err)  # noqa: TRY400
            return False
        if len(token) < LEAST_TOKEN:
            log.error("nobody can wake us: %s holds less than %d characters", self._token_file, LEAST_TOKEN)
            return False
        return hmac.compare_digest(sent, b"Bearer " + token.encode())


def _on_path(path: Path) -> socket.socket:
    if path.is_socket():  # that of one who was killed
        path.unlink()
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        listener.bind(str(path))
        path.chmod(0o660)  # nobody can have come in before `listen`
        listener.listen()
    except OSError:
        listener.close()
        raise
    return listener


def _on_loopback(address: str) -> socket.socket:
    host, _, port = address.rpartition(":")
    host = host.strip("[]")
    return socket.create_server((host, int(port)), family=socket.AF_INET6 if ":" in host else socket.AF_INET)


def _head(connection: socket.socket, steady: Callable[[], float]) -> bytes:
    """Read a request up to its empty line. What is too long, or takes too long, is no request."""
    data, end = b"", steady() + PATIENCE_SECONDS
    while b"\r\n\r\n" not in data:
        piece = connection.recv(MOST_BYTES)
        data += piece
        if not piece or len(data) > MOST_BYTES or steady() > end:
            return b""
    return data.partition(b"\r\n\r\n")[0]
