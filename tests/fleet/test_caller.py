"""What a device says to its mothership, and what it does with good answers."""

from __future__ import annotations

import stat
import threading
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

import pytest

from tests.fleet.rig import answer, calling, lying
from tests.whole.shelf import eventually

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable
    from pathlib import Path

    from tests.fleet.rig import Heard

    Script = Callable[[Heard, socket.socket], None]

CONFIGURED = {"state": "configured"}


def always(reply: dict[str, Any] | None) -> Script:
    return lambda _, connection: connection.sendall(answer(reply))


def saying(*replies: dict[str, Any] | None) -> Script:
    """Give these answers one after the other, and then no news."""
    left = list(replies)
    return lambda _, connection: connection.sendall(answer(left.pop(0) if left else CONFIGURED))


def keys(seconds: float = 3600, **more: str) -> dict[str, str]:
    ends = (datetime.now(timezone.utc) + timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%SZ")
    said = {"access_key_id": "ASIA1", "secret_access_key": "very-secret", "session_token": "t1"}
    return {**said, "expiration": ends, **more}


def sources(root: Path, **more: Any) -> dict[str, Any]:
    return {"Sources": {"logs": {"PathName": f"{root}/*.csv", "BucketName": "bucket", **more}}}


def test_the_first_call_registers_and_the_next_one_says_where_it_runs(folder: Path) -> None:
    with lying(saying({"state": "registered"})) as home, calling(folder, home.url):
        eventually(lambda: len(home.heard) >= 3)
    first, second, third = (one.context for one in home.heard[:3])
    assert home.heard[0].token == "a-token-of-this-device"
    assert (first["action"], first["state"]) == ("register", "unregistered")
    assert second["action"] == "startup"
    assert {"hostname", "hosttype", "platform", "release", "totalmem", "network"} <= second["info"].keys()
    assert {"version", "state"} <= second.keys()
    assert third["info"].keys() == {"hostname"}


def test_what_the_mothership_says_comes_back_unread(folder: Path) -> None:
    cookie = {"state": "registered", "thing": {"deep": [1, {"er": None}]}, "n": 7}
    with lying(saying(cookie)) as home, calling(folder, home.url) as caller:
        eventually(lambda: len(home.heard) >= 2)
        assert home.heard[1].context["thing"] == cookie["thing"]
        caller.restart()
        eventually(lambda: home.causes().count("startup") >= 2)
    assert home.heard[-1].context.get("n", 7) == 7


def test_a_cookie_cannot_take_the_place_of_what_is_true(folder: Path) -> None:
    lie = {**CONFIGURED, "version": "9", "info": {"hostname": "x"}, "error": {"code": "Lie"}, "result": {"added": 5}}
    with lying(always(lie)) as home, calling(folder, home.url):
        eventually(lambda: "heartbeat" in home.causes())
    last = home.heard[-1].context
    assert last["version"] != "9"
    assert last["info"]["hostname"] != "x"
    assert "error" not in last
    assert "result" not in last


def test_only_a_configured_device_has_sources_and_it_loses_them_again(folder: Path) -> None:
    script = saying({"state": "registered", "rev": 1, "config": sources(folder)})
    with lying(script) as home, calling(folder, home.url, Roots=[str(folder)]) as caller:
        eventually(lambda: caller.state == "registered" or len(home.heard) > 1)
        eventually(lambda: caller.state == "configured")
        assert "Sources" in caller.overlay.load()
        home.script = always({"state": "suspended"})
        eventually(lambda: caller.state == "suspended")
        assert caller.overlay.changed() == {"Home": caller.overlay.load()["Home"]}


def test_a_configuration_is_taken_once_and_survives_a_restart(folder: Path) -> None:
    reply = {**CONFIGURED, "rev": 7, "config": sources(folder)}
    with lying(always(reply)) as home, calling(folder, home.url, Roots=[str(folder)]) as caller:
        eventually(lambda: any(one.context["rev"] == 7 for one in home.heard))
        assert caller.overlay.changed() is not None
        seen = len(home.heard)
        eventually(lambda: len(home.heard) >= seen + 2)
        assert caller.overlay.changed() is None
        caller.restart()
        assert "logs" in caller.overlay.load()["Sources"]


def test_a_refused_configuration_is_told_once_and_not_tried_again(folder: Path) -> None:
    reply = {**CONFIGURED, "rev": 8, "config": {"Sources": {"logs": {"PathName": 5}}}}
    with lying(always(reply)) as home, calling(folder, home.url, Roots=[str(folder)]) as caller:
        eventually(lambda: len(home.heard) >= 5)
        assert home.causes().count("config+error") == 1
        told = next(one.context for one in home.heard if one.context["action"] == "config+error")
        assert told["error"]["code"] == "ConfigurationRejected"
        assert "Sources.logs.PathName" in told["error"]["message"]
        assert home.heard[-1].context["rejected"] == 8
        assert caller.overlay.changed() == {"Home": caller.overlay.load()["Home"]}


def test_configuration_action_and_keys_count_in_every_reply_also_in_that_to_an_acknowledgement(folder: Path) -> None:
    def script(heard: Heard, connection: socket.socket) -> None:
        news = {"rev": 2, "config": {"LogLevel": "DEBUG"}, "action": "report", "action_id": "r-1", "aws_keys": keys()}
        connection.sendall(answer({**CONFIGURED, **(news if heard.context["action"] == "ack+wakeup" else {})}))

    def first(heard: Heard, connection: socket.socket) -> None:
        home.script = script
        connection.sendall(answer({**CONFIGURED, "action": "wakeup", "action_id": "w-1"}))

    with lying(first) as home, calling(folder, home.url, Credentials="Mothership") as caller:
        caller.overlay.changed()
        # Without an agent the policies never are through: what matters is what follows.
        caller.home._facts.is_scanned_since = None  # type: ignore[assignment]
        eventually(lambda: "register" in home.causes())
