"""Loops: each repeats one step in its own thread, by time or when nudged, until told to stop.

A nudge only brings the next round forward. Take all nudges away and everything still happens, later.
"""

from __future__ import annotations

import logging
import queue
import signal
import threading
from typing import TYPE_CHECKING

from tidegate.errors import LedgerLost, Unavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

SLOWEST_RETRY_SECONDS = 30.0

log = logging.getLogger(__name__)


class Nudge:
    """Wakes whoever waits. One waiter; nudges that come while it works are not lost."""

    def __init__(self) -> None:
        self._event = threading.Event()

    def __call__(self) -> None:
        """Wake it."""
        self._event.set()

    def wait(self, seconds: float) -> bool:
        """Wait for a nudge, at most so long. Tells whether one came."""
        came = self._event.wait(seconds)
        self._event.clear()
        return came


def obey(orders: Mapping[int, Callable[[], None]]) -> None:
    """Do this or that when a signal comes, in a thread of its own.

    A handler may interrupt its thread just where that holds the lock of what the order is to wake, and would
    wait for it for ever. To lay an order down takes no lock.
    """
    given: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()

    def follow() -> None:
        while True:
            order = given.get()
            try:
                order()
            except Exception:
                log.exception("what a signal asked for failed")

    def lay_down(number: int, _: object) -> None:
        given.put(orders[number])

    for number in orders:
        signal.signal(number, lay_down)
    threading.Thread(target=follow, name="signals", daemon=True).start()


class Loop:
    """Runs `step` again and again; the step returns the seconds to wait before the next round.

    `trouble(name, error)` is told each time the step cannot be done for want of something, and with None
    when it could; `lost` is told when the ledger is lost, which ends the loop. A step that fails for any
    other reason is a bug: it is logged, and tried again with growing pauses.
    """

    def __init__(
        self,
        name: str,
        step: Callable[[], float],
        *,
        trouble: Callable[[str, Unavailable | None], None] = lambda *_: None,
        lost: Callable[[LedgerLost], None] = lambda _: None,
    ) -> None:
        self.name = name
        self.nudge = Nudge()
        self._step = step
        self._trouble = trouble
        self._lost = lost
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """Ask it to end after the step under way."""
        self._stopping.set()
        self.nudge()

    def join(self, seconds: float) -> bool:
        """Wait for its end. Tells whether it has ended; one that never began has."""
        if self._thread.ident is None:
            return True
        self._thread.join(max(0.0, seconds))
        return not self._thread.is_alive()

    def _run(self) -> None:
        failures = 0
        while not self._stopping.is_set():
            try:
                pause = self._step()
                failures = 0
                self._trouble(self.name, None)
            except Unavailable as err:
                if self._stopping.is_set():
                    return  # it may be so because we end
                self._trouble(self.name, err)
                pause = 1.0
            except LedgerLost as err:
                self._lost(err)
                return
            except Exception:
                if self._stopping.is_set():
                    return  # what it worked with has been closed under it
                failures += 1
                pause = min(2.0**failures, SLOWEST_RETRY_SECONDS)
                log.exception("%s failed and is tried again in %.0f seconds", self.name, pause)
            if pause > 0 and not self._stopping.is_set():
                self.nudge.wait(pause)
