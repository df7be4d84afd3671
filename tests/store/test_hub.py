"""Many tasks in one thread: each waits for its own sockets and helpers, and keeps nobody else."""

from __future__ import annotations

import contextlib
import select
import socket
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from tests.helpers import eventually
from tidegate.errors import Unavailable
from tidegate.store.hub import Hub, aside, is_task, wait
from tidegate.store.wire import Address, Manner, connect

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class Desk:
    """A hub in a thread of its own, and jobs for it."""

    def __init__(self) -> None:
        self.hub = Hub(time.monotonic)
        self.jobs: list[Callable[[], None]] = []
        self._thread = threading.Thread(target=self.hub.run, args=(self._next,))
        self._thread.start()

    def do(self, *jobs: Callable[[], None]) -> None:
        self.jobs += jobs
        self.hub.wake()

    def close(self) -> None:
        self.hub.close()
        self._thread.join(10)
        assert not self._thread.is_alive()

    def _next(self) -> Callable[[], None] | None:
        return self.jobs.pop(0) if self.jobs else None


@pytest.fixture
def desk() -> Iterator[Desk]:
    desk = Desk()
    yield desk
    desk.close()


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours, theirs


def test_tasks_go_on_in_the_order_in_which_their_sockets_have_something(desk: Desk) -> None:
    pairs = [socket.socketpair() for _ in range(3)]
    order: list[int] = []
    threads: set[int] = set()

    def job(number: int) -> Callable[[], None]:
        def run() -> None:
            while not wait(pairs[number][0], select.POLLIN, 60):
                pass
            order.append(number)
            threads.add(threading.get_ident())

        return run

    desk.do(*map(job, range(3)))
    for count, number in enumerate((2, 0, 1), 1):
        pairs[number][1].send(b"x")
        eventually(lambda count=count: len(order) == count)
    assert order == [2, 0, 1]
    assert len(threads) == 1
    for ours, theirs in pairs:
        ours.close()
        theirs.close()


def test_a_wait_ends_with_nothing_when_its_time_is_over(desk: Desk, pair) -> None:
    events: list[int] = []
    desk.do(lambda: events.append(wait(pair[0], select.POLLIN, 0.01)))
    eventually(lambda: events)
    assert events == [0]


def test_the_end_of_a_connection_ends_a_wait(desk: Desk, pair) -> None:
    events: list[int] = []
    desk.do(lambda: events.append(wait(pair[0], select.POLLIN, 60)))
    pair[1].close()
    eventually(lambda: events)
    assert events[0] & select.POLLIN


def test_a_socket_with_the_number_of_one_that_was_closed_is_waited_for(desk: Desk) -> None:
    heard: list[bytes] = []
    numbers: list[int] = []

    def run() -> None:
        for text in (b"first", b"second"):
            ours, theirs = socket.socketpair()
            numbers.append(ours.fileno())
            with ours, theirs:
                theirs.send(text)
                assert wait(ours, select.POLLIN, 60)
                heard.append(ours.recv(10))

    desk.do(run)
    eventually(lambda: len(heard) == 2)
    assert heard == [b"first", b"second"]
    assert numbers[0] == numbers[1]


def test_what_blocks_is_done_aside_while_the_others_go_on(desk: Desk) -> None:
    gate = threading.Event()
    done: list[object] = []
    desk.do(lambda: done.append(aside(lambda: gate.wait(60))), lambda: done.append("other"))
    eventually(lambda: done == ["other"])
    gate.set()
    eventually(lambda: len(done) == 2)
    assert done == ["other", True]


def test_what_is_done_aside_may_fail(desk: Desk) -> None:
    errors: list[str] = []

    def fail() -> None:
        raise ValueError("no")

    def run() -> None:
        try:
            aside(fail)
        except ValueError as error:
            errors.append(str(error))

    desk.do(run)
    eventually(lambda: errors)
    assert errors == ["no"]


@pytest.fixture
def full() -> Iterator[Address]:
    """A server that has as many connections waiting as it takes: nobody answers the next one."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as server, contextlib.ExitStack() as waiting:
        for _ in range(2):
            one = waiting.enter_context(socket.socket())
            one.settimeout(0)
            one.connect_ex(server.getsockname())
        yield Address("http", *server.getsockname())


def test_a_connection_that_is_not_answered_keeps_nobody_else_and_ends_in_time(
    desk: Desk, full: Address
) -> None:
    done: list[str] = []
    threads: set[str] = set()

    def reach() -> None:
        with pytest.raises(Unavailable, match=r"cannot connect to 127.0.0.1:.*: Connection timed out"):
            connect(full, Manner(connect_seconds=0.5), None)
        done.append("tried")

    def look() -> None:
        threads.update(one.name for one in threading.enumerate())
        done.append("other")

    desk.do(reach, look)
    eventually(lambda: len(done) == 2)
    assert done == ["other", "tried"]
    assert "aside" not in threads  # a number needs no looking up


def test_a_server_is_found_by_its_name_at_whichever_address_it_listens(desk: Desk) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        made: list[socket.socket] = []
        desk.do(
            lambda: made.append(
                connect(Address("http", "localhost", server.getsockname()[1]), Manner(), None)
            )
        )
        eventually(lambda: made)
        made[0].close()


def test_jobs_under_way_are_brought_to_their_end_and_no_more_begun(pair) -> None:
    hub = Hub(time.monotonic)
    done: list[str] = []
    waits = threading.Event()

    def first() -> None:
        waits.set()
        while not wait(pair[0], select.POLLIN, 60):
            pass
        done.append("first")

    jobs = [first]
    thread = threading.Thread(target=hub.run, args=(lambda: jobs.pop() if jobs else None,))
    thread.start()
    assert waits.wait(10)
    hub.close()
    jobs.append(lambda: done.append("second"))
    hub.wake()
    thread.join(0.2)
    assert thread.is_alive()
    pair[1].send(b"x")
    thread.join(10)
    assert done == ["first"]


def test_outside_of_a_hub_waiting_is_the_business_of_the_thread(pair) -> None:
    assert not is_task()
    assert wait(pair[0], select.POLLIN, 0.001) == 0
    pair[1].send(b"x")
    assert wait(pair[0], select.POLLIN, 5) == select.POLLIN
    assert aside(threading.get_ident) == threading.get_ident()


def test_its_load_tells_whether_it_only_waits(desk: Desk, pair) -> None:
    stop = threading.Event()

    def spin() -> None:
        while not stop.is_set():
            wait(pair[0], select.POLLOUT, 1)

    assert desk.hub.load < 0.5
    desk.do(spin)
    eventually(lambda: desk.hub.load > 0.5)
    stop.set()
    eventually(lambda: desk.hub.load < 0.5)


def test_its_load_tells_nothing_as_long_as_nothing_that_was_waited_for_has_happened(desk: Desk) -> None:
    done: list[float] = []

    def compute() -> None:
        end = time.monotonic() + 0.3
        while time.monotonic() < end:
            pass
        done.append(0.0)

    desk.do(compute)
    eventually(lambda: done)
    desk.do(lambda: done.append(desk.hub.load))
    eventually(lambda: len(done) == 2)
    assert done == [0.0, 0.0]


class LateAnswers:
    """An epoll in which the answers to all come one by one, but first some time passes."""

    def __init__(self, epoll: select.epoll, answer: Callable[[], None]) -> None:
        self._epoll = epoll
        self._answer = answer

    def __getattr__(self, name: str) -> Any:
        return getattr(self._epoll, name)

    def poll(self, timeout: float) -> list[tuple[int, int]]:
        self._answer()
        return self._epoll.poll(timeout)


def test_answers_that_come_in_bursts_do_not_look_like_much_to_do() -> None:
    now = 100.0
    hub = Hub(lambda: now)
    pairs = [socket.socketpair() for _ in range(8)]
    loads: list[float] = []

    def answer() -> None:
        nonlocal now
        if len(loads) % 8 == 0:
            now += 0.4
        pairs[len(loads) % 8][1].send(b"x")
        loads.append(hub.load)

    def job(ours: socket.socket) -> Callable[[], None]:
        def run() -> None:
            nonlocal now
            for _ in range(12):
                wait(ours, select.POLLIN, 60)
                ours.recv(1)
                now += 0.02  # all together longer than is watched at least

        return run

    hub._epoll = LateAnswers(hub._epoll, answer)  # type: ignore[assignment]
    jobs = [job(ours) for ours, _ in pairs]
    hub.run(lambda: jobs.pop() if jobs else None, lambda: hub.close() if len(loads) == 96 else None)
    for ours, theirs in pairs:
        ours.close()
        theirs.close()
    assert 0 < max(loads) < 0.5
