"""The same talk through an MQTT broker: mosquitto, which says who is who."""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
import socket
import subprocess
from typing import TYPE_CHECKING, Any

import pytest
from paho.mqtt import client as paho
from paho.mqtt.enums import CallbackAPIVersion

from tests.fleet.rig import HOST, calling, free_port
from tests.store.talking import make_certificate
from tests.whole.shelf import eventually
from tidegate.config import parse
from tidegate.errors import ConfigFaults

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.fleet.rig import Mothership

pytestmark = pytest.mark.slow

NAME, TOKEN = "press-7", "a-token-of-this-device"
ACL = """
user mothership
topic read tidegate/+/up
topic write tidegate/+/down
pattern write tidegate/%u/up
pattern read tidegate/%u/down
"""


class Broker:
    """mosquitto on the loopback, with a password and two topics for each device."""

    def __init__(self, folder: Path, bundle: str | None) -> None:
        program = shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin:/usr/bin:/opt/homebrew/sbin")
        if program is None:
            pytest.fail(
                "the talk by MQTT is tested with a real broker, and there is none: apt-get install mosquitto"
            )
        self.port, self._program, self._config = free_port(), program, folder / "mosquitto.conf"
        passwords = folder / "passwords"
        for number, (user, password) in enumerate(((NAME, TOKEN), ("mothership", "its-password"))):
            create = ["-c"] if number == 0 else []
            subprocess.run(["mosquitto_passwd", *create, "-b", str(passwords), user, password], check=True)
        (folder / "acl").write_text(ACL)
        pair = folder / "server.pem"
        tls = f"certfile {pair}\nkeyfile {pair}\n" if bundle else ""
        self._config.write_text(
            f"user root\nlistener {self.port} {HOST}\n{tls}allow_anonymous false\n"
            f"password_file {passwords}\nacl_file {folder / 'acl'}\n"
        )
        self.scheme = "mqtts" if bundle else "mqtt"
        self.start()

    @property
    def url(self) -> str:
        return f"{self.scheme}://{HOST}:{self.port}"

    def start(self) -> None:
        self._process = subprocess.Popen(
            [self._program, "-c", str(self._config)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        eventually(self._listens)

    def _listens(self) -> bool:
        with contextlib.suppress(ConnectionRefusedError), socket.create_connection((HOST, self.port)):
            return True
        return False

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()


@pytest.fixture
def broker(folder: Path) -> Iterator[Callable[..., Broker]]:
    with contextlib.ExitStack() as stack:

        def start(bundle: str | None = None) -> Broker:
            one = Broker(folder, bundle)
            stack.callback(one.kill)
            return one

        yield start


class Liar:
    """A mothership behind the broker that answers whatever it is told to."""

    def __init__(self, broker: Broker, script: Callable[[dict[str, Any]], bytes]) -> None:
        self.script = script
        self.heard: list[dict[str, Any]] = []
        self._client = paho.Client(CallbackAPIVersion.VERSION2)
        self._client.username_pw_set("mothership", "its-password")
        self._client.on_connect = lambda client, *_: client.subscribe("tidegate/+/up", qos=1)
        self._client.on_message = self._answer
        self._client.connect(HOST, broker.port)
        self._client.loop_start()

    def _answer(self, client: Any, _: object, message: Any) -> None:
        context = json.loads(message.payload)["context"]
        self.heard.append(context)
        client.publish(message.topic.replace("/up", "/down"), self.script(context), qos=1)

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()


def good(context: dict[str, Any]) -> bytes:
    return json.dumps({"state": "configured", "reply_to": context["message_id"]}).encode()


@contextlib.contextmanager
def lying(broker: Broker, script: Callable[[dict[str, Any]], bytes] = good) -> Iterator[Liar]:
    liar = Liar(broker, script)
    try:
        yield liar
    finally:
        liar.close()


@pytest.mark.parametrize("way", ["mqtt", "mqtts"])
def test_a_device_is_configured_and_asked_through_a_broker(
    folder: Path, broker: Callable[..., Broker], mothership: Callable[..., Mothership], way: str
) -> None:
    bundle = make_certificate(folder)[1] if way == "mqtts" else None
    one = broker(bundle)
    (folder / "login").write_text("mothership:its-password\n")
    trusted = ("--mqtt-ca", bundle) if bundle else ()
    home = mothership("--mqtt", one.url, "--mqtt-login-file", str(folder / "login"), *trusted)
    home.ask("POST", "/devices", {"name": NAME, "token_sha256": hashlib.sha256(TOKEN.encode()).hexdigest()})
    home.ask("PUT", f"/devices/{NAME}/desired", {"LogLevel": "DEBUG"})
    action = home.ask("POST", f"/devices/{NAME}/actions", {"action": "report"})["action_id"]
    more = {"CaBundle": bundle} if bundle else {}
    with calling(folder, one.url, **more) as caller:
        eventually(lambda: home.action(NAME, action)["answer"] == "ack")
        assert caller.overlay.load()["LogLevel"] == "DEBUG"
        eventually(lambda: home.device(NAME)["rev"] == home.device(NAME)["wanted"])


def without_reply_to(_: dict[str, Any]) -> bytes:
    return b'{"state": "suspended"}'


def late(context: dict[str, Any]) -> bytes:
    return json.dumps({"state": "suspended", "reply_to": context["message_id"] - 1}).encode()


def wrong(context: dict[str, Any]) -> bytes:
    return json.dumps({"state": "suspended", "reply_to": context["message_id"], "config": 5}).encode()


@pytest.mark.parametrize(
    "harm", [without_reply_to, late, wrong, lambda _: b"", lambda _: b"\xff", lambda _: b"x" * 300_000]
)
def test_late_wrong_and_empty_replies_change_nothing_and_it_calls_again(
    folder: Path, broker: Callable[..., Broker], harm: Callable[[dict[str, Any]], bytes]
) -> None:
    one = broker()
    with lying(one) as home, calling(folder, one.url, ReadTimeout=0.3) as caller:
        eventually(lambda: caller.state == "configured")
        home.script = harm
        seen = len(home.heard)
        eventually(lambda: len(home.heard) >= seen + 2)
        assert caller.state == "configured"
        home.script = good
        eventually(lambda: not caller.home._failures)


def test_a_broker_that_goes_and_comes_back_is_found_again(
    folder: Path, broker: Callable[..., Broker]
) -> None:
    one = broker()
    with lying(one) as home, calling(folder, one.url) as caller:
        eventually(lambda: caller.state == "configured")
        one.kill()
        eventually(lambda: caller.home._failures)
        one.start()
        seen = len(home.heard)
        eventually(lambda: len(home.heard) > seen)


def test_who_is_not_let_in_tries_again_with_the_token_of_then(
    folder: Path, broker: Callable[..., Broker]
) -> None:
    one = broker()
    with lying(one) as home, calling(folder, one.url) as caller:
        eventually(lambda: caller.state == "configured")
        caller.close()
        seen = len(home.heard)
        (folder / "token").write_text("wrong")
        caller.start()
        eventually(lambda: caller.home._failures >= 2)
        assert len(home.heard) == seen
        (folder / "token").write_text(TOKEN)
        eventually(lambda: len(home.heard) > seen)


def test_a_broker_enrols_nobody() -> None:
    home = {"Url": "mqtts://broker.example.com", "BootstrapTokenFile": "/etc/tidegate.bootstrap"}
    with pytest.raises(ConfigFaults, match="TokenFile"):
        parse({"Home": home})
