"""One exchange with a mothership over HTTPS: a connection of its own, and an end that it cannot put off."""

from __future__ import annotations

import hashlib
import json
import re
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Protocol
from urllib.parse import urlsplit

from tidegate.errors import NotAllowed, Refused, Unavailable
from tidegate.home.words import REPLY_BYTES
from tidegate.store.http import Connection, Request
from tidegate.store.wire import Address, Manner, Proxy, proxy_for, trust

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tidegate.config import HomeSettings
    from tidegate.home.memory import Memory
    from tidegate.store.answers import Answer

CONNECT_SECONDS = 10.0
_TOKEN = re.compile(r"[!-~]{1,4096}")


class Line(Protocol):
    """A way to a mothership."""

    def exchange(self, message: bytes, number: int) -> bytes:
        """Send a message and return what is answered. Raises Unavailable and Refused.

        `number` is that of the message, for ways on which replies have to be told apart.
        """

    def close(self) -> None:
        """Let go of it."""


class Https:
    """The way by HTTPS. With a bootstrap token it enrols the device first."""

    def __init__(
        self, settings: HomeSettings, memory: Memory, *, name: str, environment: Mapping[str, str]
    ) -> None:
        self._settings = settings
        self._memory = memory
        self._name = name
        self._environment = environment

    def exchange(self, message: bytes, number: int) -> bytes:  # noqa: ARG002 - see Line
        """See Line."""
        if self._settings.bootstrap_file and not self._memory.is_enrolled:
            self._enrol(self._settings.bootstrap_file)
        path = urlsplit(self._settings.url).path or "/"
        answer = self._post(path, self._token(), message)
        if answer.status in (401, 403):
            if self._settings.bootstrap_file and answer.status == 401:
                self._memory.enrolled(known=False)
            raise NotAllowed(f"{self._settings.url} does not accept the token of this device")
        return _body(self._settings.url, answer)

    def close(self) -> None:
        """See Line."""

    def _enrol(self, file: str) -> None:
        digest = hashlib.sha256(self._memory.token().encode()).hexdigest()
        message = json.dumps({"name": self._name, "token_sha256": digest}).encode()
        answer = self._post(
            f"{urlsplit(self._settings.url).path.rstrip('/')}/enrol", read_token(file), message
        )
        if answer.status in (401, 403, 409):
            why = (
                "another device has its name"
                if answer.status == 409
                else "the bootstrap token is not accepted"
            )
            raise NotAllowed(f"{self._settings.url} does not enrol this device: {why}")
        _body(self._settings.url, answer)
        self._memory.enrolled(known=True)

    def _token(self) -> str:
        return read_token(self._settings.token_file) if self._settings.token_file else self._memory.token()

    def _post(self, path: str, token: str, message: bytes) -> Answer:
        address = Address.of(self._settings.url)
        manner = Manner(
            connect_seconds=CONNECT_SECONDS,
            read_seconds=self._settings.read_seconds,
            ca_bundle=self._settings.ca_bundle,
            proxy=self._proxy(address),
        )
        context = trust(self._settings.ca_bundle) if address.scheme == "https" else None
        head = f"host: {address.authority}\r\nauthorization: Bearer {token}\r\nconnection: close\r\n"
        head += f"content-type: application/json\r\ncontent-length: {len(message)}\r\n"
        request = Request(method="POST", target=path, head=head, chunks=lambda: (message,))
        connection = Connection(address, manner, context)
        # A server that sends a byte now and then would keep us for ever: it never is silent for long.
        ending = threading.Timer(self._settings.read_seconds, connection.hang_up)
        ending.daemon = True
        ending.start()
        try:
            return connection.exchange(f"POST {path} HTTP/1.1\r\n{head}\r\n".encode("latin-1"), request)
        finally:
            ending.cancel()
            connection.close()

    def _proxy(self, address: Address) -> Proxy | None:
        if self._settings.proxy == "direct":
            return None
        if self._settings.proxy:
            return Proxy.of(self._settings.proxy)
        try:
            return proxy_for(address, self._environment)
        except ValueError as error:
            raise Unavailable(f"the environment names a proxy that is none: {error}") from error


def read_token(file: str) -> str:
    """Read a token. Raises Unavailable: somebody may yet put it there."""
    try:
        token = Path(file).read_text("utf-8").strip()
    except (OSError, ValueError) as err:
        raise Unavailable(f"the token in {file} cannot be read: {err}") from err
    if not _TOKEN.fullmatch(token):
        raise Unavailable(f"{file} holds no token: it is one line without spaces")
    return token


def _body(url: str, answer: Answer) -> bytes:
    if answer.status in (408, 425, 429) or answer.status >= 500:
        raise Unavailable(f"{url} answers with status {answer.status}")
    if not 200 <= answer.status < 300:
        raise Refused(f"{url} answers with status {answer.status}")
    if len(answer.body) > REPLY_BYTES:
        raise Refused(f"{url} answers with more than {REPLY_BYTES} bytes")
    return answer.body
