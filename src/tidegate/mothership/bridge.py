"""The same talk through an MQTT broker: what comes up from a device is answered down to it.

The broker says who is who: only a device itself may publish on its topic.
"""

from __future__ import annotations

import asyncio
import json
import logging
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from paho.mqtt import client as paho
from paho.mqtt.enums import CallbackAPIVersion

from tidegate.errors import TidegateError
from tidegate.home.words import plain
from tidegate.mothership.talk import NotKnown
from tidegate.store.wire import trust

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    Answer = Callable[[str, object], Awaitable[dict[str, Any]]]

MESSAGE_BYTES = 262_144
PORTS = {"mqtt": 1883, "mqtts": 8883}

log = logging.getLogger(__name__)


class Bridge:
    """Answers from `start` to `close`. A broker that is away is tried again without end."""

    def __init__(self, url: str, login: str, ca_bundle: str | None) -> None:
        """`login` is user:password. Raises ValueError for what is not the URL of a broker."""
        parts = urlsplit(url)
        if parts.scheme not in PORTS or not parts.hostname:
            raise ValueError(f'"{url}" is not the URL of a broker; write for example mqtts://broker:8883')
        self._host, self._port = parts.hostname, parts.port or PORTS[parts.scheme]
        self._base = parts.path.strip("/") or "tidegate"
        self._client = paho.Client(CallbackAPIVersion.VERSION2, client_id="tidegate-mothership")
        user, _, password = login.strip().partition(":")
        self._client.username_pw_set(user, password)
        if parts.scheme == "mqtts":
            self._client.tls_set_context(trust(ca_bundle))
        self._client.on_connect = self._connect
        self._client.on_message = self._heard

    def start(self, loop: asyncio.AbstractEventLoop, answer: Answer) -> None:
        """Begin. `answer` is given the name of a device and what it says, and runs in that loop."""
        self._loop, self._answer = loop, answer
        self._client.connect_async(self._host, self._port, keepalive=60)
        self._client.loop_start()

    def close(self) -> None:
        """End."""
        self._client.disconnect()
        self._client.loop_stop()

    # Called in the thread of the client

    def _connect(self, client: Any, _data: object, _flags: object, reason: Any, _more: object) -> None:
        if reason.is_failure:
            log.error("the broker %s:%d lets us not in: %s", self._host, self._port, reason)
        else:
            client.subscribe(f"{self._base}/+/up", qos=1)
            log.info("answering on %s/+/up at %s:%d", self._base, self._host, self._port)

    def _heard(self, _client: Any, _data: object, message: Any) -> None:
        name = message.topic.removeprefix(f"{self._base}/").removesuffix("/up")
        if len(message.payload) <= MESSAGE_BYTES:
            asyncio.run_coroutine_threadsafe(self._talk(name, message.payload), self._loop)

    async def _talk(self, name: str, payload: bytes) -> None:
        try:
            reply = await self._answer(name, plain(payload))
        except (ValueError, RecursionError, NotKnown):
            log.warning("what came on the topic of %s is no message of a device that we know", name[:128])
        except TidegateError as err:
            log.error("a message was not answered: %s", err)  # noqa: TRY400
        else:
            self._client.publish(f"{self._base}/{name}/down", json.dumps(reply), qos=1)
