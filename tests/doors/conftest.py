"""A nucleus' stand-in of each mode, connections to it, and an object in place of the routes."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from tests.standins.nucleus import CLASSIC, LITE, NucleusStandIn
from tidegate.doors.desk import Desk
from tidegate.doors.line import Cloud, Local
from tidegate.doors.topics import Pace, TopicDoor
from tidegate.ipc import Nucleus
from tidegate.routes import Reply

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

QUICK = Pace(pulse=0.1, echo=0.2, retry=0.05, longest_retry=0.2, longest_refusal=0.2, rest=0.01)


class Echo:
    """Answers each request by what it was, unless it is told to be silent; remembers them in order."""

    def __init__(self) -> None:
        self.heard: list[tuple[str, Any]] = []
        self.threads: set[int] = set()
        self.silent = threading.Event()

    def handle(self, route: str, payload: bytes, answer: Callable[[Reply], None]) -> None:
        body = json.loads(payload)
        self.heard.append((route, body))
        self.threads.add(threading.get_ident())
        if self.silent.is_set():
            return
        status = body.get("status", 200)
        answer(Reply(status, {"status": status, "clientToken": body.get("clientToken"), "route": route}))


@pytest.fixture(params=[LITE, CLASSIC])
def standin(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[NucleusStandIn]:
    with NucleusStandIn(socket=tmp_path / "ipc", mode=request.param) as one:
        yield one


@pytest.fixture
def connect() -> Iterator[Callable[..., Nucleus]]:
    with contextlib.ExitStack() as stack:

        def connect_one(standin: NucleusStandIn, **limits: float) -> Nucleus:
            token = standin.environment()["SVCUID"]
            nucleus = Nucleus(str(standin.socket), token, pauses=(), **limits)
            stack.callback(nucleus.close)
            return nucleus

        yield connect_one


@pytest.fixture
def routes() -> Echo:
    return Echo()


@pytest.fixture
def desk(routes: Echo) -> Iterator[Desk]:
    one = Desk(routes)
    yield one
    one.close()


@pytest.fixture
def door(standin: NucleusStandIn, connect: Any, desk: Desk) -> Iterator[Callable[..., TopicDoor]]:
    """Open a door, locally or (cloud=True) on IoT Core, by a line of its own kind if that is named."""
    with contextlib.ExitStack() as stack:

        def open_one(
            base: str = "tidegate", *, cloud: bool = False, kind: type[Local] = Local, **more: Any
        ) -> TopicDoor:
            line = (Cloud if cloud else kind)(connect(standin))
            one = TopicDoor(line, base, desk, steady=time.monotonic, **{"pace": QUICK, **more})
            stack.callback(one.join, 5)
            stack.callback(one.stop)
            one.start()
            return one

        yield open_one
