"""One thread that waits for many sockets at a time.

Code that waits by `wait`, and does what blocks otherwise by `aside`, runs in any thread. In a task of a Hub
the wait is for the others of its thread to go on: ten uploads in one thread spare the switches between ten,
which cost more than the uploads. A lock must not be held over either of them.
"""

from __future__ import annotations

import os
import select
import threading
from collections import deque
from typing import TYPE_CHECKING, TypeVar

try:
    from greenlet import getcurrent, greenlet
except ImportError:  # no wheel for this machine, and nothing to build it with
    is_available = False
    getcurrent, greenlet = threading.current_thread, object  # type: ignore[assignment,misc]
else:
    is_available = True

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

EXPIRY_SECONDS = 0.25
"""How late a wait may notice that its time is over."""
WINDOW_SECONDS = 0.1
LONGEST_WINDOW_SECONDS = 1.0
TURNS = 4
"""It is watched for so long how much there is to do, and until as much has come as if each that waits had
gone on so often: answers that take long come in bursts, and between two of them there is nothing to do."""

Result = TypeVar("Result")


def wait(endpoint: socket.socket, events: int, seconds: float) -> int:
    """Wait for any of the events, an error or the end of the connection. 0 if nothing happens."""
    task = getcurrent()
    if seconds and isinstance(task, _Task):
        return task.hub.wait(endpoint.fileno(), events, seconds)
    poll = select.poll()
    poll.register(endpoint, events)
    ready = poll.poll(int(seconds * 1000))
    return ready[0][1] if ready else 0


def is_task() -> bool:
    """Whether others of this thread could go on while the caller waits."""
    return isinstance(getcurrent(), _Task)


def aside(function: Callable[[], Result]) -> Result:
    """Call what may block. A task has that done in a thread of its own, and waits for the result."""
    task = getcurrent()
    return task.hub.aside(function) if isinstance(task, _Task) else function()


class _Task(greenlet):
    """One job, and where it waits."""

    def __init__(self, job: Callable[[], None], hub: Hub) -> None:
        super().__init__(job)
        self.hub = hub
        self.until = 0.0


class Hub:
    """Runs jobs, each until it waits, in the thread that calls `run`. `steady` is a clock in seconds."""

    def __init__(self, steady: Callable[[], float]) -> None:
        self._steady = steady
        self._epoll = select.epoll()
        self._known: set[int] = set()
        self._waiting: dict[int, _Task] = {}
        self._expire_at = 0.0
        self._helped: deque[_Task] = deque()
        self._helpers = 0
        self._gate = threading.Lock()
        self._bell = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._epoll.register(self._bell, select.EPOLLIN)
        self._is_listening = True
        self._closed = False
        self._window_at = 0.0
        self._waited = 0.0
        self._went_on = 0
        self.load = 0.0
        """Which part of its time it was not waiting lately: 1 if there is more to do than it can do.

        As long as nothing that was waited for has happened, that tells nothing, and it is 0."""

    def run(
        self, next_job: Callable[[], Callable[[], None] | None], after_turn: Callable[[], object] = tuple
    ) -> None:
        """Do the jobs that come until `close`, and bring those under way to their end.

        `next_job` returns None when there is none now; `wake` has it asked again. `after_turn` is called
        whenever all that could go on went on, several times a second at least.
        """
        while not self._closed or self._waiting or self._helpers:
            while not self._closed and (job := next_job()):
                _Task(job, self).switch()
            self._turn()
            after_turn()
        with self._gate:
            self._is_listening = False
            self._epoll.close()
            os.close(self._bell)

    def wake(self) -> None:
        """Have it look for the next job, from whatever thread."""
        with self._gate:
            if self._is_listening:
                os.eventfd_write(self._bell, 1)

    def close(self) -> None:
        """Begin no more jobs. Who made them sees to it that those under way end."""
        self._closed = True
        self.wake()

    def wait(self, descriptor: int, events: int, seconds: float) -> int:
        """Let the others go on until one of the events happens. Only for tasks of this hub."""
        task = getcurrent()
        assert isinstance(task, _Task)
        assert task.parent is not None
        self._watch(descriptor, events | select.EPOLLONESHOT)
        task.until = self._steady() + seconds
        self._waiting[descriptor] = task
        happened: int = task.parent.switch()
        return happened

    def aside(self, function: Callable[[], Result]) -> Result:
        """Let the others go on while a thread calls the function. Only for tasks of this hub."""
        task = getcurrent()
        assert isinstance(task, _Task)
        assert task.parent is not None
        results: list[Result] = []
        errors: list[BaseException] = []

        def help_out() -> None:
            try:
                results.append(function())
            except BaseException as error:  # noqa: BLE001 - it is raised where it is waited for
                errors.append(error)
            self._helped.append(task)
            self.wake()

        self._helpers += 1
        threading.Thread(target=help_out, name="aside", daemon=True).start()
        task.parent.switch()
        if errors:
            raise errors[0]
        return results[0]

    def _watch(self, descriptor: int, flags: int) -> None:
        """Have the kernel tell of the next event. Its closing ends that, also for the number's next owner."""
        if descriptor in self._known:
            try:
                self._epoll.modify(descriptor, flags)
            except FileNotFoundError:
                pass
            else:
                return
        self._epoll.register(descriptor, flags)
        self._known.add(descriptor)

    def _turn(self) -> None:
        """Wait until something happens, and let those go on whom it concerns."""
        began = self._steady()
        happened = self._epoll.poll(EXPIRY_SECONDS)
        self._weigh(began, self._steady())
        for descriptor, events in happened:
            if descriptor == self._bell:
                os.eventfd_read(self._bell)
            elif task := self._waiting.pop(descriptor, None):
                self._went_on += 1
                task.switch(events)
        while self._helped:
            self._helpers -= 1
            self._helped.popleft().switch()
        now = self._steady()
        if now >= self._expire_at:
            self._expire_at = now + EXPIRY_SECONDS
            for descriptor in [one for one, task in self._waiting.items() if task.until <= now]:
                self._waiting.pop(descriptor).switch(0)

    def _weigh(self, began: float, now: float) -> None:
        """Note how long there was nothing to do."""
        self._waited += now - began
        seconds = now - self._window_at
        is_typical = self._went_on >= TURNS * len(self._waiting) or seconds >= LONGEST_WINDOW_SECONDS
        if seconds >= WINDOW_SECONDS and is_typical:
            self.load = 1.0 - self._waited / seconds if self._went_on else 0.0
            self._window_at, self._waited, self._went_on = now, 0.0, 0
