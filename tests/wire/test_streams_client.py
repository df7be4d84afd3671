"""The connection to Stream Manager: whatever happens to it, it is replaced, and nothing is left of the old one."""

from __future__ import annotations

import itertools
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.depot import HandClock
from tests.helpers import PATIENCE, eventually
from tests.standins.streammanager import StreamManagerStandIn
from tidegate.carry.streams.client import SLOWEST_RETRY_SECONDS, Client
from tidegate.config import parse
from tidegate.errors import Unavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ATTEMPTS = 20
FOREVER = 600.0


@pytest.fixture
def sm(tmp_path: Path) -> Iterator[StreamManagerStandIn]:
    with StreamManagerStandIn(data_dir=tmp_path, noop_exporter=True) as sm:
        yield sm


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


@pytest.fixture
def connect(clock: HandClock) -> Iterator[Callable[..., Client]]:
    clients: list[Client] = []

    def make(port: int, **seconds: float) -> Client:
        raw = {"PathName": "/x/*", "BucketName": "bucket", "StreamManager": {"Port": port}}
        clients.append(Client(parse(raw).stream_manager, clock.steady, **seconds))
        return clients[-1]

    yield make
    for client in clients:
        client.close()


def belongings() -> tuple[int, int]:
    """Count the threads and the open descriptors of this process."""
    return threading.active_count(), sum(1 for _ in Path("/proc/self/fd").iterdir())


def fails_without_a_trace(clock: HandClock, attempt: Callable[[], Any], times: int = ATTEMPTS) -> None:
    """Fail so often, each time for real, and find that not one thread or descriptor is left of it."""
    before = belongings()
    for _ in range(times):
        with pytest.raises(Unavailable):
            attempt()
        clock.advance(2 * SLOWEST_RETRY_SECONDS)
    eventually(lambda: no_more_than(before))


def no_more_than(before: tuple[int, int]) -> bool:
    return all(now <= then for now, then in zip(belongings(), before, strict=True))


@pytest.fixture
def nobody() -> Iterator[int]:
    """A port where nobody listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield taken.getsockname()[1]


def test_failed_attempts_at_a_server_that_is_absent_leave_nothing_behind(connect, clock, nobody):
    fails_without_a_trace(clock, connect(nobody).streams)


def test_failed_attempts_with_a_token_that_is_refused_leave_nothing_behind(sm, connect, clock, monkeypatch):
    sm.token = "right"
    monkeypatch.setenv("AWS_CONTAINER_AUTHORIZATION_TOKEN", "wrong")
    client = connect(sm.port)
    fails_without_a_trace(clock, client.streams)
    assert sm.counters.connections == ATTEMPTS
    monkeypatch.setenv("AWS_CONTAINER_AUTHORIZATION_TOKEN", "right")
    assert client.streams() == []


def test_failed_attempts_at_a_server_that_stays_silent_leave_nothing_behind(sm, connect, clock):
    sm.silent = True
    client = connect(sm.port, connect_seconds=0.05, request_seconds=FOREVER)
    fails_without_a_trace(clock, client.streams)
    assert sm.counters.connections == ATTEMPTS


@pytest.mark.parametrize("reset", [False, True])
def test_connections_that_are_dropped_leave_nothing_behind(sm, connect, clock, reset):
    client = connect(sm.port)
    client.streams()
    before = belongings()
    for number in range(ATTEMPTS):
        sm.drop_connections(reset=reset)
        eventually(lambda known=number + 1: works(client) and client.connections > known)
    assert sm.counters.connections == client.connections == ATTEMPTS + 1  # the SDK made none of its own
    eventually(lambda: no_more_than(before))


def append(client: Client, payload: bytes) -> int:
    """Append one message to the stream; raise if it is not taken."""
    (answer,) = client.append([("stream", payload)])
    if isinstance(answer, Unavailable):
        raise answer
    return answer


def works(client: Client) -> bool:
    try:
        return client.streams() == []
    except Unavailable:
        return False


def test_calls_that_time_out_leave_nothing_behind(sm, connect, clock):
    client = connect(sm.port, request_seconds=0.05)
    client.create_status_stream("stream")
    sm.late_reply, sm.late_on = (ATTEMPTS, 0.1), "append"
    fails_without_a_trace(clock, lambda: append(client, b"x"))
    assert client.connections == ATTEMPTS
    assert append(client, b"y") == len(sm.payloads("stream")) - 1


def test_a_reply_that_comes_late_costs_one_connection_and_no_more(sm, connect):
    client = connect(sm.port, request_seconds=0.2)
    client.create_status_stream("stream")
    sm.late_reply, sm.late_on = (1, 0.3), "append"
    with pytest.raises(Unavailable):
        append(client, b"x")
    assert append(client, b"y") == 1
    assert client.connections == 2


@pytest.mark.parametrize("reset", [False, True])
def test_who_waits_for_an_answer_learns_at_once_that_none_will_come(sm, connect, reset):
    client = connect(sm.port, request_seconds=FOREVER)
    client.create_status_stream("stream")
    with ThreadPoolExecutor(3) as pool:
        polls = [pool.submit(client.read, "stream", 0, limit=1, wait_seconds=FOREVER) for _ in range(3)]
        eventually(lambda: sm.counters.reads == 3)
        sm.drop_connections(reset=reset)
        for poll in polls:
            assert isinstance(poll.exception(timeout=PATIENCE), Unavailable)
    assert client.streams() == ["stream"]


def test_replies_in_two_pieces_are_understood(sm, connect):
    client = connect(sm.port)
    sm.fragment_header = True
    client.create_status_stream("stream")
    assert [append(client, b"x") for _ in range(5)] == [0, 1, 2, 3, 4]
    assert client.connections == 1


def test_attempts_to_connect_are_spaced_ever_wider(sm, connect, clock):
    sm.token = "another"
    client = connect(sm.port)
    times = []
    while clock.now < 200:
        before = sm.counters.connections
        with pytest.raises(Unavailable, match="cannot connect"):
            client.streams()
        if sm.counters.connections > before:
            times.append(clock.now)
        clock.advance(0.5)
    gaps = [later - earlier for earlier, later in itertools.pairwise(times)]
    assert gaps == [0.5, 1, 2, 4, 8, 16, *[SLOWEST_RETRY_SECONDS] * (len(gaps) - 6)]
    assert len(gaps) > 8


def test_hanging_up_waits_for_nobody(sm, connect):
    client = connect(sm.port, request_seconds=FOREVER)
    client.create_status_stream("stream")
    with ThreadPoolExecutor(1) as pool:
        poll = pool.submit(client.read, "stream", 0, limit=1, wait_seconds=FOREVER)
        eventually(lambda: sm.counters.reads == 1)
        client.close()
        assert isinstance(poll.exception(timeout=PATIENCE), Unavailable)
    with pytest.raises(Unavailable):
        client.streams()
    assert sm.counters.connections == 1


def test_hanging_up_ends_an_attempt_to_connect(sm, connect):
    sm.silent = True
    client = connect(sm.port, connect_seconds=FOREVER)
    with ThreadPoolExecutor(1) as pool:
        attempt = pool.submit(client.streams)
        eventually(lambda: sm.counters.connections == 1)
        client.close()
        assert isinstance(attempt.exception(timeout=PATIENCE), Unavailable)


def test_many_callers_find_back_over_one_connection(sm, connect):
    client = connect(sm.port)
    client.create_status_stream("stream")
    sm.drop_connections()
    eventually(lambda: client._connection.ended)
    with ThreadPoolExecutor(8) as pool:
        numbers = list(pool.map(lambda _: append(client, b"x"), range(40)))
    assert sorted(numbers) == list(range(40))
    assert client.connections == 2
