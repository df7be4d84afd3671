"""The socket in the work directory: who may come in, how requests go, and what happens to the ill-mannered."""

from __future__ import annotations

import json
import socket
import stat
import threading
from typing import TYPE_CHECKING, Any

import pytest

from tests.helpers import eventually, no_more_descriptors
from tidegate.doors.asking import NoAgent, ask
from tidegate.doors.unix import LARGEST_LINE, MOST_CONNECTIONS, SocketDoor, address
from tidegate.errors import Unavailable

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    deep = tmp_path / ("long" * 20) / ("name" * 20)  # longer than the system takes for a socket
    deep.mkdir(parents=True)
    return deep


@pytest.fixture
def door(folder: Path, desk: Any) -> Iterator[SocketDoor]:
    one = SocketDoor(folder, desk)
    yield one
    one.close()


def connect(folder: Path) -> socket.socket:
    one = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    with address(folder) as name:
        one.connect(name)
    one.settimeout(10)
    return one


def test_a_request_is_answered(folder, door, routes) -> None:
    reply = ask(folder, "statistics/get", {"clientToken": "t"}, seconds=10)
    assert reply == {"status": 200, "clientToken": "t", "route": "statistics/get"}
    assert routes.heard == [("statistics/get", {"clientToken": "t"})]


def test_many_requests_on_one_connection_are_answered_in_turn(folder, door) -> None:
    with connect(folder) as connection, connection.makefile("rwb") as lines:
        for number in range(5):
            lines.write(json.dumps({"route": "a/b", "clientToken": str(number)}).encode() + b"\n")
        lines.flush()
        assert [json.loads(lines.readline())["clientToken"] for _ in range(5)] == list("01234")


@pytest.mark.parametrize("line", [b"nonsense\n", b"[]\n", b'{"clientToken": "t"}\n', b'{"route": 7}\n'])
def test_what_is_no_request_is_rejected_and_the_next_one_answered(folder, door, line) -> None:
    with connect(folder) as connection, connection.makefile("rwb") as lines:
        lines.write(line + b'{"route": "a/b"}\n')
        lines.flush()
        rejected = json.loads(lines.readline())
        assert rejected["status"] == 400
        assert "write for example" in rejected["message"]
        assert json.loads(lines.readline())["status"] == 200


def test_a_line_without_end_is_refused_and_the_connection_ended(folder, door) -> None:
    with connect(folder) as connection, connection.makefile("rb") as lines:
        connection.sendall(b"x" * (LARGEST_LINE + 1))
        assert json.loads(lines.readline())["status"] == 413
        assert lines.readline() == b""


def test_only_its_owner_may_ask(folder, door) -> None:
    assert stat.S_IMODE((folder / "socket").stat().st_mode) == 0o600


def test_without_an_agent_that_is_what_one_is_told(folder, door) -> None:
    door.close()
    with pytest.raises(NoAgent, match="no agent runs"):
        ask(folder, "a/b", {}, seconds=10)
    with pytest.raises(NoAgent, match="no agent runs"):
        ask(folder / "nowhere", "a/b", {}, seconds=10)


def test_the_socket_of_one_who_was_killed_is_noticed_and_replaced(folder, desk) -> None:
    dead = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    with address(folder) as name:
        dead.bind(name)
    dead.close()
    with pytest.raises(NoAgent, match="was killed"):
        ask(folder, "a/b", {}, seconds=10)
    door = SocketDoor(folder, desk)
    assert ask(folder, "a/b", {}, seconds=10)["status"] == 200
    door.close()
    assert not (folder / "socket").exists()


def test_an_agent_that_is_silent_is_not_waited_for_without_end(folder, door, routes) -> None:
    routes.silent.set()
    with pytest.raises(Unavailable, match="has not answered a/b"):
        ask(folder, "a/b", {}, seconds=0.2)


def test_an_agent_that_ends_meanwhile_is_noticed(folder, door, routes) -> None:
    routes.silent.set()
    failures: list[Exception] = []

    def wait() -> None:
        try:
            ask(folder, "a/b", {}, seconds=10)
        except Unavailable as err:
            failures.append(err)

    asking = threading.Thread(target=wait, daemon=True)
    asking.start()
    eventually(lambda: routes.heard)
    door.close()
    asking.join(10)
    assert "hung up" in str(failures[0]) or "has not answered" in str(failures[0])


def test_those_who_only_stay_connected_keep_nobody_else_out_for_ever(folder, door) -> None:
    idle = [connect(folder) for _ in range(MOST_CONNECTIONS)]
    eventually(lambda: len(door._open) == MOST_CONNECTIONS)
    with pytest.raises(Unavailable):
        ask(folder, "a/b", {}, seconds=10)
    for one in idle:
        one.close()
    eventually(lambda: not door._open)
    assert ask(folder, "a/b", {}, seconds=10)["status"] == 200


def test_too_many_open_files_keep_nobody_out_for_ever(folder, desk, caplog) -> None:
    door = SocketDoor(folder, desk)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection, address(folder) as name:
        connection.settimeout(10)
        with no_more_descriptors():
            connection.connect(name)
            eventually(lambda: "takes no requests for now" in caplog.text)
        connection.sendall(b'{"route": "a/b"}\n')
        assert json.loads(connection.recv(1000))["status"] == 200
    assert caplog.text.count("takes no requests") == 1
    door.close()
