"""A door that opens on messages: requests on `<base>/<route>`, replies below the topic of the request.

A nucleus can let a subscription die without a word: on lite any local publisher can do that to us. So
from time to time we send a message to ourselves. Only if two in a row do not come back is the subscription
made anew, and ever more rarely, for on lite each one that is made costs the nucleus 6 KB for good.
"""

from __future__ import annotations

import functools
import logging
import secrets
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tidegate.doors.desk import refusal
from tidegate.doors.door import Door
from tidegate.errors import NotAllowed, TidegateError

if TYPE_CHECKING:
    from collections.abc import Callable

    from tidegate.doors.desk import Desk
    from tidegate.doors.line import Line
    from tidegate.routes.wire import Reply

LARGEST_REQUEST = 262_144
"""Bytes of a request that is looked at; the classic nucleus carries far larger ones."""

PULSE = "pulse"
OURS = ("events", PULSE)
"""What stands in the place of a route where we publish ourselves."""

VERDICTS = ("accepted", "rejected")
ROUTES = "+/+"
DEEP_ROUTES = "+/+/post"
"""Such as restore/cancel/post; no answer is on such a topic. Other filters would bring us our own answers."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """How often a door looks after itself. All in seconds.

    `pulse` between messages to ourselves, `echo` for one to come back, `retry` to `longest_retry` between
    attempts to subscribe, `longest_refusal` the same where we have no right to, `rest` to `longest_rest`
    between renewals.
    """

    pulse: float
    echo: float
    retry: float = 2.0
    longest_retry: float = 60.0
    longest_refusal: float = 600.0
    rest: float = 5.0
    longest_rest: float = 900.0


LOCAL_PACE = Pace(pulse=10.0, echo=3.0)
CLOUD_PACE = Pace(pulse=900.0, echo=30.0)
"""A message through IoT Core costs money: so many are less than two cents a month."""


class TopicDoor(Door):
    """Open from `start` to `close`, whatever becomes of the subscription meanwhile."""

    def __init__(
        self,
        line: Line,
        base: str,
        desk: Desk,
        *,
        pace: Pace,
        steady: Callable[[], float],
        routes: str = ROUTES,
    ) -> None:
        """`routes` is the filter for what comes after `base`: ROUTES or DEEP_ROUTES."""
        super().__init__(f"door {line.name}{' deep' * (routes == DEEP_ROUTES)}")
        self._line = line
        self._topics = f"{base}/{routes}"
        self._base = base
        self._desk = desk
        self._pace = pace
        self._steady = steady
        self._pulse_topic = f"{base}/{PULSE}/{secrets.token_hex(6)}{routes.removeprefix(ROUTES)}"
        self._hang_up: Callable[[], None] | None = None
        self._ended = threading.Event()  # the subscription in use has
        self._is_closed = False
        self._retry = pace.retry
        self._rest = pace.rest
        self._renew_at = 0.0
        self._sent = 0  # the number of the last pulse
        self._back = b""  # and that of the last one that came back
        self._due: float | None = None
        self._next_pulse = 0.0
        self._missed = 0
        self._said = ""
        self._is_mute = False  # the last pulse could not be sent

    def wake(self) -> None:
        """See Door."""
        self._retry = self._pace.retry
        super().wake()

    def stop(self) -> None:
        """Take no more requests. What cannot end at once ends by itself."""
        self._is_closed = True
        super().stop()
        if self._hang_up:
            self._hang_up()

    # Its keeper: in a thread of its own

    def _step(self) -> float:
        now = self._steady()
        if self._hang_up is None:
            return self._subscribe(now)
        if self._ended.is_set() or self._missed > 1:
            return max(0.0, self._renew_at - now) or self._subscribe(now)
        if self._due is None:
            return max(0.0, self._next_pulse - now) or self._send_pulse(now)
        if self._back == str(self._sent).encode():
            self._due, self._missed = None, 0
            self._rest = max(self._pace.rest, 0.99 * self._rest)
            self._next_pulse = now + self._pace.pulse
            if self._is_mute:
                log.info("requests get through again (%s)", self._line.name)
                self._is_mute, self._said = False, ""
            return self._pace.pulse
        if now < self._due:
            return self._due - now
        self._due, self._missed = None, self._missed + 1
        return 0.0

    def _subscribe(self, now: float) -> float:
        ended = threading.Event()  # which may be told before we are told that it began
        try:
            hang_up = self._line.subscribe(self._topics, self._hear, functools.partial(self._end, ended))
        except TidegateError as err:
            self._say(err)
            longest = self._pace.longest_refusal if isinstance(err, NotAllowed) else self._pace.longest_retry
            pause, self._retry = self._retry, min(2 * self._retry, longest)
            return min(pause, longest)
        before, self._hang_up = self._hang_up, hang_up
        if self._is_closed:  # meanwhile
            hang_up()
        elif before is None:
            log.info("requests are taken on %s (%s)", self._topics, self._line.name)
        else:
            log.warning(
                "the subscription to %s had died, and was made anew (%s)", self._topics, self._line.name
            )
            before()
        self._ended, self._missed, self._due = ended, 0, None
        self._retry, self._said = self._pace.retry, ""
        self._renew_at, self._rest = now + self._rest, min(2 * self._rest, self._pace.longest_rest)
        self._next_pulse = now
        return 0.0

    def _send_pulse(self, now: float) -> float:
        self._sent += 1
        try:
            self._line.pulse(self._pulse_topic, str(self._sent).encode())
        except TidegateError as err:  # that says nothing about the subscription
            self._say(err)
            self._is_mute, self._missed = True, 0
            self._next_pulse = now + self._pace.pulse
            return self._pace.pulse
        self._due = self._steady() + self._pace.echo
        return self._pace.echo

    def _say(self, error: TidegateError) -> None:
        """Say what is wrong, once."""
        if str(error) != self._said:
            self._said = str(error)
            right = "for want of a right in accessControl " if isinstance(error, NotAllowed) else ""
            log.warning(
                "requests may not get through %s(%s), and it is tried again: %s",
                right,
                self._line.name,
                error,
            )

    # Called in threads that are not ours

    def _end(self, ended: threading.Event) -> None:
        ended.set()
        self._loop.nudge()

    def _hear(self, topic: str, payload: bytes) -> None:
        if self._is_closed:
            return
        if topic == self._pulse_topic:
            self._back = payload
            return
        route = topic.removeprefix(f"{self._base}/")
        name, _, verb = route.partition("/")
        if not verb or name in OURS or verb in VERDICTS:
            return  # what is no request must not be answered, or two agents could talk for ever
        answer = functools.partial(self._answer, topic)
        if len(payload) > LARGEST_REQUEST:
            answer(refusal(413, "TooLarge", f"a request has up to {LARGEST_REQUEST} bytes", payload))
        else:
            self._desk.put(route, payload, answer)

    def _answer(self, topic: str, reply: Reply) -> None:
        verdict = VERDICTS[0 if reply.accepted else 1]
        self._line.send(f"{topic}/{verdict}", reply.json(), self._say)
