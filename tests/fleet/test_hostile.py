"""A mothership that is broken, late, or means harm: the device stays as it is, and goes on calling."""

from __future__ import annotations

import json
import threading
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from tests.fleet.rig import answer, calling, lying
from tests.fleet.test_caller import CONFIGURED, always, keys, saying, sources
from tests.store.talking import make_certificate
from tests.whole.shelf import eventually

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable
    from pathlib import Path

    from tests.fleet.rig import Heard

GOOD = {**CONFIGURED, "mark": "good", "rev": 1}
NEVER = threading.Event()


def says(raw: bytes) -> Callable[..., None]:
    return lambda _, connection: connection.sendall(raw)


def in_pieces(_: Heard, connection: socket.socket) -> None:
    for piece in (b"HTTP/1.1 200 OK\r\ncontent-le", b"ngth: 3\r", b"\n\r\n", b"{", b"x"):
        connection.sendall(piece)
        NEVER.wait(0.02)


def dripping(_: Heard, connection: socket.socket) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\n{")
    while not NEVER.wait(0.1):
        connection.sendall(b" ")


def silent(_: Heard, connection: socket.socket) -> None:
    connection.recv(1)


HARM: dict[str, Callable[..., None]] = {
    "nothing at all": lambda _, __: None,
    "an empty body": says(answer(None)),
    "an empty body with status 204": says(b"HTTP/1.1 204 No\r\n\r\n"),
    "blanks": says(answer(b" \r\n ")),
    "an empty map": says(answer(b"{}")),
    "pieces of something": in_pieces,
    "a byte now and then": dripping,
    "silence": silent,
    "half of it": says(b'HTTP/1.1 200 OK\r\ncontent-length: 50\r\n\r\n{"state": "x"'),
    "no HTTP": says(b"SSH-2.0-OpenSSH_9.2\r\n"),
    "headers without end": says(b"HTTP/1.1 200 OK\r\n" + b"x: y\r\n" * 100_000),
    "no JSON": says(answer(b"<html>Sign in to continue</html>")),
    "no UTF-8": says(answer(b'{"state": "\xff"}')),
    "a list": says(answer(b'["configured"]')),
    "a text": says(answer(b'"configured"')),
    "null": says(answer(b"null")),
    "a number of many digits": says(answer(b"1" * 10_000)),
    "no number": says(answer(b'{"state": "registered", "n": NaN}')),
    "a number beyond all": says(answer(b'{"state": "registered", "n": 1e999}')),
    "very deep": says(answer(b'{"a":' * 5_000 + b"1" + b"}" * 5_000)),
    "deep": says(answer(b'{"a":' * 100 + b"1" + b"}" * 100)),
    "very long": says(answer(b'{"a": "' + b"x" * 300_000 + b'"}')),
    "long to keep": says(answer({"state": "registered", "a": "x" * 40_000})),
    "a state that is none": says(answer({"state": 5})),
    "a state of several lines": says(answer({"state": "a\nb"})),
    "a configuration that is none": says(answer({"state": "registered", "config": [1]})),
    "a revision that is none": says(answer({"state": "registered", "rev": {"a": 1}, "config": {}})),
    "an action that is none": says(answer({"state": "registered", "action": ["reboot"]})),
    "an action with a shell in it": says(answer({"state": "registered", "action": "report; touch /tmp/x"})),
    "keys that are none": says(answer({"state": "registered", "aws_keys": "AKIA"})),
    "keys for ever": says(
        answer({"state": "registered", "aws_keys": {"access_key_id": "AKIA", "secret_access_key": "s"}})
    ),
    "keys for long": says(answer({"state": "registered", "aws_keys": keys(90 * 86_400)})),
    "keys of yesterday": says(answer({"state": "registered", "aws_keys": keys(-86_400)})),
    "status 500": says(answer({"state": "registered"}, "500 Oops")),
    "status 404": says(answer({"state": "registered"}, "404 Not Found")),
    "status 401": says(answer({"state": "registered"}, "401 Who are you")),
    "another place": says(
        b"HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n"
    ),
}


@pytest.mark.parametrize("harm", HARM)
def test_whatever_comes_back_the_device_stays_as_it_is_and_calls_again(folder: Path, harm: str) -> None:
    good = {**GOOD, "config": sources(folder)}
    with (
        lying(always(good)) as home,
        calling(folder, home.url, Roots=[str(folder)], ReadTimeout=0.3) as caller,
    ):
        eventually((caller.work / "home" / "remote.json").exists)
        before = caller.kept("context.json"), caller.kept("remote.json")
        home.script = HARM[harm]
        seen = len(home.heard)
        eventually(lambda: len(home.heard) >= seen + 2)
        assert (caller.kept("context.json"), caller.kept("remote.json")) == before
        assert not (caller.work / "home" / "credentials.json").exists()
        home.script = always({**CONFIGURED, "mark": "better"})
        eventually(lambda: caller.kept("context.json")["mark"] == "better")


def test_a_reply_that_makes_no_sense_is_told_with_the_next_call(folder: Path) -> None:
    with lying(says(answer(b"<html>"))) as home, calling(folder, home.url):
        eventually(lambda: len(home.heard) >= 2)
        assert home.heard[1].context["action"] == "register+error"
        assert home.heard[1].context["error"]["code"] == "BadReply"
        home.script = always(CONFIGURED)
        eventually(lambda: "startup" in home.causes())
    assert "error" not in home.heard[-1].context


def test_credentials_that_cannot_be_read_do_not_keep_it_from_calling(folder: Path) -> None:
    kept = folder / "work" / "home"
    kept.mkdir(parents=True)
    (kept / "context.json").write_text('{"state": "configured"}')
    (kept / "credentials.json").write_text('{"Expiration": "soon"}')
    with lying(always({})) as home, calling(folder, home.url, Credentials="Mothership"):
        eventually(lambda: home.heard)
        assert home.heard[0].context["credentials"] == {"wanted": True, "expires": None}


def test_a_good_reply_in_many_pieces_is_a_good_reply(folder: Path) -> None:
    def pieces(_: Heard, connection: socket.socket) -> None:
        for byte in answer(GOOD):
            connection.sendall(bytes([byte]))

    with lying(pieces) as home, calling(folder, home.url) as caller:
        eventually(lambda: caller.state == "configured")


def test_a_mothership_that_is_away_is_called_until_it_is_back(folder: Path) -> None:
    with lying(always(CONFIGURED)) as gone:
        url = gone.url
    with calling(folder, url) as caller:
        port = int(url.rpartition(":")[2].partition("/")[0])
        eventually(lambda: caller.home._failures >= 2)
        with lying(always(CONFIGURED), port=port):
            eventually(lambda: caller.state == "configured")


FORBIDDEN: dict[str, dict[str, Any]] = {
    "the mothership": {"Home": {"Url": "https://evil.example.com/ingestor"}},
    "commands": {"Home": {"Commands": {"Upgrade": ["/bin/sh", "-c", "id"]}}},
    "what it may set": {"home": {"allow": ["Sources"], "roots": ["/"]}},
    "a file with more": {"ConfigurationFile": "/tmp/more.yaml"},
    "the name of the device": {"ThingName": "other"},
    "Stream Manager": {"StreamManager": {"Host": "evil.example.com"}},
    "where S3 is": {"S3": {"EndpointUrl": "https://evil.example.com"}},
    "where S3 of a source is": {"Sources": {"logs": {"S3": {"EndpointUrl": "https://evil.example.com"}}}},
    "certificates": {"Sources": {"logs": {"s3": {"cabundle": "/tmp/ca.pem"}}}},
    "code": {"Sources": {"logs": {"Customizer": {"File": "/tmp/x.star", "Sha256": "0" * 64}}}},
    "downloads": {"Sources": {"logs": {"Direction": "Download", "TargetFolder": "/etc/cron.d"}}},
    "a socket to read": {"Sources": {"logs": {"Socket": "unix:/run/docker.sock"}}},
    "links to follow": {"Sources": {"logs": {"FollowSymlinks": True}}},
    "a command of s3-ingestor": {"upgrade_command": "touch /tmp/owned"},
    "a host of s3-ingestor": {"host_dns": "evil.example.com"},
    "a folder outside": {"Sources": {"logs": {"PathName": "/etc/*"}}},
    "a folder beside": {"Sources": {"logs": {"PathName": "{root}-secret/*"}}},
    "a folder above": {"Sources": {"logs": {"PathName": "{root}/../*"}}},
    "a folder behind a link": {"Sources": {"logs": {"PathName": "{root}/link/*"}}},
    "a place to move to": {"Sources": {"logs": {"After": "Move", "MoveTo": "/etc/cron.d"}}},
    "the bucket of a source of the device": {"Sources": {"own": {"BucketName": "evil"}}},
    "a shorthand": {"PathName": "/etc/*", "BucketName": "evil"},
    "no map": {"Sources": [1]},
    "where S3 is, by leaving it out": {"S3": None},
    "the mothership, by leaving it out": {"home": ""},
    "the name of the device, by leaving it out": {"ThingName": "null"},
}


@pytest.mark.parametrize("what", FORBIDDEN)
def test_what_is_not_allowed_is_refused_whole(folder: Path, what: str) -> None:
    root = folder / "data"
    root.mkdir()
    (root / "link").symlink_to("/etc")
    config = json.loads(json.dumps(FORBIDDEN[what]).replace("{root}", str(root)))
    base = {"PathName": f"{root}/*", "BucketName": "bucket"}
    if isinstance(found := config.get("Sources"), dict) and "logs" in found:
        found["logs"] = {**base, **found["logs"]}
    reply = {**CONFIGURED, "rev": 1, "config": {"LogLevel": "DEBUG", **config}}
    with lying(always(reply)) as home, calling(folder, home.url, Roots=[str(root)]) as caller:
        own = {"own": {"PathName": f"{folder}/own/*", "BucketName": "mine"}}
        caller.file.write_text(yaml.safe_dump({**yaml.safe_load(caller.file.read_text()), "Sources": own}))
        caller.overlay.changed()
        eventually(lambda: "config+error" in home.causes())
        assert caller.kept("remote.json") == {"rev": None, "config": None, "rejected": 1}
        assert caller.overlay.load()["Sources"] == own
        assert "LogLevel" not in caller.overlay.load()


@pytest.mark.parametrize("action", ["restart", "upgrade", "reboot"])
def test_nothing_runs_that_the_device_itself_does_not_name(folder: Path, action: str) -> None:
    reply = {**CONFIGURED, "action": action, "action_id": "a-1"}
    with lying(saying(reply)) as home, calling(folder, home.url):
        eventually(lambda: f"{action}+error" in home.causes())
    told = next(one.context for one in home.heard if one.context["action"] == f"{action}+error")
    assert told["error"]["code"] == "NotAllowed"


def test_what_has_no_id_is_not_run_for_it_would_be_run_for_ever(folder: Path) -> None:
    command = {"Restart": ["/usr/bin/touch", str(folder / "mark")]}
    with (
        lying(always({**CONFIGURED, "action": "restart"})) as home,
        calling(folder, home.url, Commands=command),
    ):
        eventually(lambda: home.causes().count("restart+error") >= 2)
    assert not (folder / "mark").exists()


def test_an_action_that_nobody_knows_is_refused(folder: Path) -> None:
    with (
        lying(saying({**CONFIGURED, "action": "bogus", "action_id": "b-1"})) as home,
        calling(folder, home.url),
    ):
        eventually(lambda: "bogus+error" in home.causes())


def test_a_program_sees_no_secrets_and_no_shell(folder: Path) -> None:
    out = folder / "out"
    script = folder / "script"
    script.write_text(f'#!/bin/sh\nenv > {out}; echo "$1" >> {out}\n')
    script.chmod(0o700)
    reply = {**CONFIGURED, "action": "upgrade", "action_id": "id`id`"}
    command = {"Upgrade": [str(script), "$(id); `id`"]}
    good = {**reply, "action_id": "u-1"}
    with lying(saying(reply, good)) as home, calling(folder, home.url, Commands=command):
        eventually(lambda: "upgrade" in home.causes())
    seen = out.read_text()
    assert "AWS_" not in seen
    assert seen.endswith("$(id); `id`\n")


def test_a_mothership_cannot_keep_a_device_busy(folder: Path) -> None:
    numbers = iter(range(10_000))

    def script(_: Heard, connection: socket.socket) -> None:
        connection.sendall(answer({**CONFIGURED, "action": "report", "action_id": f"r-{next(numbers)}"}))

    with lying(script) as home, calling(folder, home.url):
        eventually(lambda: len(home.heard) >= 10)
        NEVER.wait(1.0)
        assert len(home.heard) == 10


def test_a_message_that_is_never_taken_does_not_keep_the_others_away(folder: Path) -> None:
    def script(heard: Heard, connection: socket.socket) -> None:
        bad = heard.context["action"].startswith("report")
        reply = {
            **CONFIGURED,
            **({"action": "report", "action_id": "r-1"} if heard.context["action"] == "startup" else {}),
        }
        connection.sendall(answer(None, "400 No") if bad else answer(reply))

    with lying(script) as home, calling(folder, home.url):
        eventually(lambda: home.causes().count("report") + home.causes().count("report+error") >= 5, 30)
        seen = len(home.heard)
        eventually(lambda: "heartbeat" in "".join(home.causes()[seen:]), 30)


def test_a_context_that_cannot_be_read_is_told_and_nothing_runs(folder: Path) -> None:
    with lying(always(CONFIGURED)) as home, calling(folder, home.url) as caller:
        eventually(lambda: caller.state == "configured")
        home.script = says(answer(None))
        caller.close()
        (caller.work / "home" / "context.json").write_text("{")
        seen = len(home.heard)
        caller.start()
        eventually(lambda: len(home.heard) > seen)
    assert home.heard[seen].context["state"] == "error"


@pytest.mark.parametrize("token", ["two words", "line\r\nx-evil: 1\r\n", "", "ümlaut"])
def test_a_token_that_is_none_is_never_sent_and_another_one_is_taken_at_once(
    folder: Path, token: str
) -> None:
    with lying(always(CONFIGURED)) as home, calling(folder, home.url) as caller:
        eventually(lambda: caller.state == "configured")
        (folder / "token").write_bytes(token.replace("\r\n", "\n").encode() if token else b"")
        eventually(lambda: caller.home._failures >= 2)
        assert {one.token for one in home.heard} == {"a-token-of-this-device"}
        (folder / "token").write_text("another-token")
        eventually(lambda: home.heard[-1].token == "another-token")


def test_who_has_the_wrong_certificate_hears_nothing(folder: Path) -> None:
    context, _ = make_certificate(folder)
    (folder / "other").mkdir()
    _, stranger = make_certificate(folder / "other")
    with lying(always(CONFIGURED), context=context) as home:
        with calling(folder, home.url, CaBundle=stranger) as caller:
            eventually(lambda: caller.home._failures >= 2)
        assert home.heard == []


def test_over_tls_it_is_the_same(folder: Path) -> None:
    context, bundle = make_certificate(folder)
    with (
        lying(always(CONFIGURED), context=context) as home,
        calling(folder, home.url, CaBundle=bundle) as caller,
    ):
        eventually(lambda: caller.state == "configured")
        home.script = in_pieces
        seen = len(home.heard)
        eventually(lambda: len(home.heard) >= seen + 2)
