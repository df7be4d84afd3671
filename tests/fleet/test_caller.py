"""What a device says to its mothership, and what it does with good answers."""

from __future__ import annotations

import os
import signal
import stat
import threading
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

import pytest
import yaml

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
    lie = {
        **CONFIGURED,
        "version": "9",
        "info": {"hostname": "x"},
        "error": {"code": "Lie"},
        "result": {"added": 5},
    }
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


def test_a_device_that_loses_its_home_while_it_runs_goes_on_with_its_own_configuration(folder: Path) -> None:
    reply = {**CONFIGURED, "rev": 7, "config": sources(folder)}
    with lying(always(reply)) as home, calling(folder, home.url, Roots=[str(folder)]) as caller:
        eventually((caller.work / "home" / "remote.json").exists)
        eventually(lambda: "Sources" in (caller.overlay.changed() or {}))
        own = {"PathName": "/data/*", "BucketName": "bucket"}
        caller.file.write_text(yaml.safe_dump(own))
        assert eventually(caller.overlay.changed) == own
        seen = len(home.heard)
        eventually(lambda: len(home.heard) > seen)


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


def test_configuration_action_and_keys_count_in_every_reply_also_in_that_to_an_acknowledgement(
    folder: Path,
) -> None:
    def script(heard: Heard, connection: socket.socket) -> None:
        news = {
            "rev": 2,
            "config": {"LogLevel": "DEBUG"},
            "action": "report",
            "action_id": "r-1",
            "aws_keys": keys(),
        }
        connection.sendall(
            answer({**CONFIGURED, **(news if heard.context["action"] == "ack+wakeup" else {})})
        )

    def first(heard: Heard, connection: socket.socket) -> None:
        home.script = script
        connection.sendall(answer({**CONFIGURED, "action": "wakeup", "action_id": "w-1"}))

    with lying(first) as home, calling(folder, home.url, Credentials="Mothership") as caller:
        eventually(lambda: "report" in home.causes())
        told = next(one.context for one in home.heard if one.context["action"] == "report")
        assert (told["action_id"], told["rev"]) == ("r-1", 2)
        assert told["result"] == {"LogLevel": "DEBUG"}
        assert caller.kept("credentials.json")["AccessKeyId"] == "ASIA1"


def test_an_action_is_acknowledged_with_its_id_and_done_once_also_after_a_restart(folder: Path) -> None:
    mark = folder / "mark"
    command = ["/bin/sh", "-c", f"echo done >> {mark}"]
    reply = {**CONFIGURED, "action": "upgrade", "action_id": "u-1"}
    with lying(always(reply)) as home, calling(folder, home.url, Commands={"Upgrade": command}) as caller:
        eventually(lambda: home.causes().count("upgrade") >= 2)
        caller.restart()
        seen = home.causes().count("upgrade")
        eventually(lambda: home.causes().count("upgrade") >= seen + 2)
    assert {one.context["action_id"] for one in home.heard if one.context["action"] == "upgrade"} == {"u-1"}
    assert mark.read_text() == "done\n"


def test_a_command_that_fails_is_told_with_its_code(folder: Path) -> None:
    reply = {**CONFIGURED, "action": "upgrade", "action_id": "u-2"}
    with (
        lying(saying(reply)) as home,
        calling(folder, home.url, Commands={"Upgrade": ["/bin/sh", "-c", "exit 3"]}),
    ):
        eventually(lambda: "upgrade+error" in home.causes())
    told = next(one.context for one in home.heard if one.context["action"] == "upgrade+error")
    assert told["error"]["code"] == 3


def test_an_action_that_was_interrupted_is_told_of_by_the_next_process(folder: Path) -> None:
    command = ["/bin/sh", "-c", f"echo $$ >> {folder}/mark; exec sleep 600"]
    reply = {**CONFIGURED, "action": "restart", "action_id": "x-1"}
    with lying(always(reply)) as home, calling(folder, home.url, Commands={"Restart": command}) as caller:
        eventually((folder / "mark").exists)
        assert "ack+restart" not in home.causes()
        caller.restart()
        eventually(lambda: "ack+restart" in home.causes())
        eventually(lambda: len(home.heard) >= 5)
    (begun,) = (folder / "mark").read_text().splitlines()
    os.kill(int(begun), signal.SIGKILL)


@pytest.mark.parametrize("action", ["apply-policies", "customizers", "wakeup"])
def test_policies_that_were_asked_for_are_acknowledged(folder: Path, action: str) -> None:
    with (
        lying(saying({**CONFIGURED, "action": action, "action_id": "p-1"})) as home,
        calling(folder, home.url),
    ):
        eventually(lambda: f"ack+{action}" in home.causes())
    told = next(one.context for one in home.heard if one.context["action"] == f"ack+{action}")
    assert told["action_id"] == "p-1"


def test_credentials_are_kept_for_the_owner_only_and_shown_nowhere(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    reply = {**CONFIGURED, "aws_keys": keys(), "action": "report", "action_id": "r-1"}
    with lying(always(reply)) as home, calling(folder, home.url, Credentials="Mothership") as caller:
        eventually(lambda: "report" in home.causes())
        path = caller.work / "home" / "credentials.json"
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert "very-secret" not in str([one.context for one in home.heard]) + caplog.text
    assert home.heard[-1].context["credentials"]["expires"] == reply["aws_keys"]["expiration"]


def test_credentials_that_nobody_asked_for_are_not_kept(folder: Path) -> None:
    with lying(always({**CONFIGURED, "aws_keys": keys()})) as home, calling(folder, home.url) as caller:
        eventually(lambda: len(home.heard) >= 3)
        assert not (caller.work / "home" / "credentials.json").exists()
    assert "credentials" not in home.heard[-1].context


def test_a_wakeup_calls_at_once_and_many_are_one(folder: Path) -> None:
    release = threading.Event()

    def slow(_: Heard, connection: socket.socket) -> None:
        release.wait(5)
        connection.sendall(answer(CONFIGURED))

    with (
        lying(always(CONFIGURED)) as home,
        calling(folder, home.url, heartbeat=3600, ReadTimeout=10) as caller,
    ):
        eventually(lambda: "ack" in home.causes())
        seen, home.script = len(home.heard), slow
        for _ in range(100):
            caller.home.wake()
        eventually(lambda: len(home.heard) == seen + 1)
        for _ in range(100):
            caller.home.wake()
        release.set()
        eventually(lambda: home.causes()[seen:] == ["wakeup", "wakeup", "ack"])


def test_a_token_of_its_own_is_enrolled_once_and_again_where_it_is_not_known(folder: Path) -> None:
    enrolled: list[str] = []

    def script(heard: Heard, connection: socket.socket) -> None:
        if heard.path.endswith("/enrol"):
            enrolled.append(heard.context["token_sha256"])
            if len(enrolled) == 1:
                return  # done, and the answer lost
        connection.sendall(
            answer(CONFIGURED, "401 No" if refuses and not heard.path.endswith("/enrol") else "200 OK")
        )

    refuses: list[bool] = []
    (folder / "bootstrap").write_text("shared-by-all")
    keys = {"TokenFile": None, "BootstrapTokenFile": str(folder / "bootstrap")}
    with lying(script) as home, calling(folder, home.url, **keys) as caller:
        eventually(lambda: "heartbeat" in home.causes())
        assert len(enrolled) == 2
        refuses.append(True)
        eventually(lambda: len(enrolled) == 3)
        refuses.clear()
        caller.restart()
        seen = len(home.heard)
        eventually(lambda: len(home.heard) >= seen + 2)
    assert len(set(enrolled)) == 1
    assert {one.token for one in home.heard if one.path.endswith("/enrol")} == {"shared-by-all"}
    assert "shared-by-all" not in {one.token for one in home.heard if one.path.endswith("/ingestor")}
    assert stat.S_IMODE((caller.work / "home" / "token.json").stat().st_mode) == 0o600
