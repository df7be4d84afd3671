"""Where requests from all doors come together: one worker hands them to the routes, in order.

A door must not be held up, so it only lays its request down here. Whoever answers does so when it can.
"""

from __future__ import annotations

import contextlib
import logging
import queue
import threading
from collections.abc import Callable
from typing import Protocol

from tidegate.routes.wire import Rejected, Reply, payload_of, rejected, token_of

MOST_WAITING = 256
LARGEST_TOKEN_BYTES = 65_536
"""A refused request of more bytes is not looked into for the token of its caller."""

log = logging.getLogger(__name__)

Answer = Callable[[Reply], None]


class Handler(Protocol):
    """Answers requests: see `tidegate.routes.Routes`."""

    def handle(self, route: str, payload: bytes, answer: Answer) -> None:
        """Call `answer` once, now or later. Never blocks, never raises."""


class Desk:
    """Takes requests from any thread. Every request is answered once."""

    def __init__(self, handler: Handler) -> None:
        self._handler = handler
        self._waiting: queue.Queue[tuple[str, bytes, Answer] | None] = queue.Queue(MOST_WAITING)
        self._thread = threading.Thread(target=self._run, name="doors", daemon=True)
        self._thread.start()

    def put(self, route: str, payload: bytes, answer: Answer) -> None:
        """Lay down a request. Never waits: if too many lie there already, it is refused at once."""
        try:
            self._waiting.put_nowait((route, payload, answer))
        except queue.Full:
            answer(refusal(503, "Busy", "too many requests wait; try again in a second", payload))

    def close(self) -> None:
        """Take no more. What waits is answered first."""
        self._waiting.put(None)
        self._thread.join()

    def _run(self) -> None:
        while request := self._waiting.get():
            route, payload, answer = request
            try:
                self._handler.handle(route, payload, answer)
            except Exception:
                log.exception("a request to %s failed", route)


def refusal(status: int, code: str, message: str, payload: bytes) -> Reply:
    """Make the reply to a request that reaches no route."""
    token = ""
    if len(payload) <= LARGEST_TOKEN_BYTES:
        with contextlib.suppress(Rejected):
            token = token_of(payload_of(payload))
    return rejected(Rejected(status, code, message), token)
