"""Waking a device up: only from this machine, only with the token, and not too often."""

from __future__ import annotations

import contextlib
import socket
import stat
import time
from typing import TYPE_CHECKING

import pytest

from tests.fleet.rig import HOST, answer, calling, free_port, lying
from tests.helpers import no_more_descriptors
from tests.whole.shelf import eventually
from tidegate.home.wakeup import Wakeup

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

TOKEN = "a-token-of-twenty-letters"


def ask(where: int | Path, head: str = f"POST / HTTP/1.1\r\nauthorization: Bearer {TOKEN}") -> int:
    """Send a request; return the status."""
    family = socket.AF_INET if isinstance(where, int) else socket.AF_UNIX
    with socket.socket(family, socket.SOCK_STREAM) as one:
        one.settimeout(10)
        one.connect((HOST, where) if isinstance(where, int) else str(where))
        one.sendall(f"{head}\r\n\r\n".encode())
        with one.makefile("rb") as reply:
            return int(reply.readline().split()[1])


@pytest.fixture
def door(folder: Path) -> Iterator[Callable[..., tuple[Wakeup, list[int]]]]:
    (folder / "wake").write_text(TOKEN)
    with contextlib.ExitStack() as stack:

        def open_one(address: str = f"{HOST}:0", least: float = 60) -> tuple[Wakeup, list[int]]:
            woken: list[int] = []
            one = Wakeup(
                *(address, str(folder / "wake"), lambda: woken.append(1)),
                steady=time.monotonic,
                least_seconds=least,
            )
            stack.callback(one.close)
            return one, woken

        yield open_one


def test_who_has_the_token_wakes_it_and_not_too_often(door: Callable[..., tuple[Wakeup, list[int]]]) -> None:
    one, woken = door(least=0.3)
    assert ask(one.port) == 202
    assert ask(one.port) == 429
    eventually(lambda: ask(one.port) == 202)
    assert len(woken) == 2


@pytest.mark.parametrize(
    "head",
    [
        "GET / HTTP/1.1\r\nauthorization: Bearer {token}",
        "POST / HTTP/1.1",
        "POST / HTTP/1.1\r\nauthorization: Bearer {token}x",
        "POST / HTTP/1.1\r\nauthorization: Bearer ",
        "POST / HTTP/1.1\r\nauthorization: Basic {token}",
        "POST / HTTP/1.1\r\nauthorization: Bearer {token}\r\nauthorization: Bearer {token}",
        "POST / HTTP/1.1\r\nauthorization: Bearer ümlaut",
        "x" * 10_000,
    ],
)
def test_nobody_else_does(door: Callable[..., tuple[Wakeup, list[int]]], head: str) -> None:
    one, woken = door()
    assert ask(one.port, head.replace("{token}", TOKEN)) in (401, 405)
    assert woken == []
    assert ask(one.port) == 202


def test_who_says_nothing_does_not_keep_others_away_for_ever(
    door: Callable[..., tuple[Wakeup, list[int]]],
) -> None:
    one, _ = door()
    with socket.create_connection((HOST, one.port)):
        assert ask(one.port) == 202


def test_a_token_that_is_too_short_lets_nobody_in(
    door: Callable[..., tuple[Wakeup, list[int]]], folder: Path
) -> None:
    one, _ = door()
    (folder / "wake").write_text("short")
    assert ask(one.port, "POST / HTTP/1.1\r\nauthorization: Bearer short") == 401


def test_a_moment_without_descriptors_does_not_close_it(
    door: Callable[..., tuple[Wakeup, list[int]]], caplog: pytest.LogCaptureFixture
) -> None:
    one, _ = door()
    with socket.socket() as early, no_more_descriptors():
        early.connect((HOST, one.port))
        eventually(lambda: "not heard" in caplog.text)
    assert ask(one.port) == 202


def test_a_socket_is_for_its_owner_and_group(
    door: Callable[..., tuple[Wakeup, list[int]]], folder: Path
) -> None:
    path = folder / "socket"
    with socket.socket(socket.AF_UNIX) as killed:
        killed.bind(str(path))
    one, woken = door(str(path))
    assert stat.S_IMODE(path.stat().st_mode) == 0o660
    assert ask(path) == 202
    assert woken == [1]
    one.close()
    assert not path.exists()


def test_a_device_that_is_woken_calls_home(folder: Path) -> None:
    (folder / "wake").write_text(TOKEN)
    port = free_port()
    with (
        lying(lambda _, connection: connection.sendall(answer({"state": "configured"}))) as home,
        calling(
            *(folder, home.url), heartbeat=3600, Wakeup=f"{HOST}:{port}", WakeupTokenFile=str(folder / "wake")
        ),
    ):
        eventually(lambda: "ack" in home.causes())
        assert ask(port) == 202
        eventually(lambda: "wakeup" in home.causes())


def test_without_being_asked_for_there_is_no_door(folder: Path) -> None:
    with (
        lying(lambda _, connection: connection.sendall(answer({}))) as home,
        calling(folder, home.url) as caller,
    ):
        assert caller.home._wakeup is None
