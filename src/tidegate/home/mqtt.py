"""One exchange with a mothership through an MQTT broker: a message up, and the reply to just that one down.

The broker says who is who: each device logs in as itself, and may use its own two topics only.
"""

from __future__ import annotations

import json
import logging
import queue
import threading
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from tidegate.errors import NotAllowed, Refused, Unavailable
from tidegate.home.wire import CONNECT_SECONDS, read_token
from tidegate.home.words import REPLY_BYTES
from tidegate.store.wire import trust

if TYPE_CHECKING:
    from tidegate.config import HomeSettings

try:
    from paho.mqtt import client as paho
    from paho.mqtt.enums import CallbackAPIVersion
except ImportError:  # the extra `mqtt`
    paho = None  # type: ignore[assignment]

PORTS = {"mqtt": 1883, "mqtts": 8883}
BASE = "tidegate"

log = logging.getLogger(__name__)


class Mqtt:
    """The way through a broker. It is connected when there is something to say, and stays so."""

    def __init__(self, settings: HomeSettings, *, name: str) -> None:
        parts = urlsplit(settings.url)
        base = parts.path.strip("/") or BASE
        self._settings = settings
        self._name = name
        self._host, self._port = parts.hostname or "", parts.port or PORTS[parts.scheme]
        self._secure = parts.scheme == "mqtts"
        self._up, self._down = f"{base}/{name}/up", f"{base}/{name}/down"
        self._replies: queue.Queue[bytes] = queue.Queue(16)
        self._ready = threading.Event()
        self._refused = ""
        self._client: Any = None

    def exchange(self, message: bytes, number: int) -> bytes:
        """See Line. A reply that names another message comes too late, and is passed over."""
        client = self._connected()
        client.publish(self._up, message, qos=1)
        left = self._settings.read_seconds
        deadline = threading.Event()
        timer = threading.Timer(left, deadline.set)
        timer.daemon = True
        timer.start()
        try:
            while not deadline.is_set():
                try:
                    reply = self._replies.get(timeout=min(left, 0.1))
                except queue.Empty:
                    continue
                if len(reply) > REPLY_BYTES:
                    raise Refused(f"it is longer than {REPLY_BYTES} bytes")
                if _named(reply) == number:
                    return reply
        finally:
            timer.cancel()
        raise Unavailable(f"no reply through {self._host}:{self._port} in {left:g} seconds")

    def close(self) -> None:
        """See Line."""
        client, self._client = self._client, None
        self._ready.clear()
        if client:
            client.disconnect()
            client.loop_stop()

    def _connected(self) -> Any:
        """Return a client that has subscribed. Raises Unavailable and NotAllowed."""
        if self._client and self._client.is_connected() and self._ready.is_set():
            return self._client
        self.close()
        if paho is None:
            raise Unavailable("the package for MQTT is not installed: pip install paho-mqtt")
        assert self._settings.token_file
        client = paho.Client(CallbackAPIVersion.VERSION2, client_id=self._name, clean_session=True)
        client.username_pw_set(self._name, read_token(self._settings.token_file))
        if self._secure:
            client.tls_set_context(trust(self._settings.ca_bundle))
        client.connect_timeout = CONNECT_SECONDS
        client.on_connect, client.on_subscribe, client.on_message = (
            self._connect,
            self._subscribed,
            self._heard,
        )
        self._refused = ""
        try:
            client.connect(self._host, self._port, keepalive=60)
        except (OSError, ValueError) as err:
            raise Unavailable(f"cannot connect to {self._host}:{self._port}: {err}") from err
        self._client = client
        client.loop_start()
        if not self._ready.wait(CONNECT_SECONDS) or self._refused:
            self.close()
            raise NotAllowed(
                f"{self._host}:{self._port} lets us not in: {self._refused or 'it says nothing'}"
            )
        return client

    # Called in the thread of the client

    def _connect(self, client: Any, _data: object, _flags: object, reason: Any, _more: object) -> None:
        if reason.is_failure:
            self._refused = str(reason)
            self._ready.set()
        else:
            client.subscribe(self._down, qos=1)

    def _subscribed(self, _client: Any, _data: object, _id: int, reasons: Any, _more: object) -> None:
        self._refused = "; ".join(str(one) for one in reasons if one.is_failure)
        self._ready.set()

    def _heard(self, _client: Any, _data: object, message: Any) -> None:
        try:
            self._replies.put_nowait(message.payload)
        except queue.Full:
            log.warning("a reply of the mothership is dropped: too many came at once")


def _named(reply: bytes) -> object:
    """Return which message a reply is for."""
    try:
        found = json.loads(reply)
    except (ValueError, RecursionError):
        return None
    return found.get("reply_to") if isinstance(found, dict) else None
