"""Tells IoT Core how things go, at an interval: as an event, and in a named shadow where there is one."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from tidegate.doors.door import Door
from tidegate.errors import TidegateError
from tidegate.routes.reports import statistics
from tidegate.routes.wire import packed

if TYPE_CHECKING:
    from collections.abc import Callable

    from tidegate.doors.line import Line
    from tidegate.routes.board import Picture

log = logging.getLogger(__name__)


class Heartbeat(Door):
    """Beats from `start` to `stop`. One that cannot be sent is left out: the next one says more."""

    def __init__(
        self,
        line: Line,
        look: Callable[[], Picture | None],
        *,
        topic: str | None,
        shadow: str | None,
        seconds: float,
    ) -> None:
        """`look` may raise what reading a ledger raises. Of topics that are None there are none."""
        super().__init__("heartbeat")
        self._line = line
        self._look = look
        self._topic = topic
        self._shadow = shadow
        self._seconds = seconds
        self._said = ""

    def _step(self) -> float:
        try:
            picture = self._look()
            if picture is None:
                return 1.0
            said = statistics(picture, None)
            if self._topic:
                self._line.publish(self._topic, packed({"event": "heartbeat", **said}))
            if self._shadow:
                reported = {name: value for name, value in said.items() if name not in ("sources", "cursor")}
                self._line.publish(self._shadow, packed({"state": {"reported": reported}}))
            self._said = ""
        except TidegateError as err:
            if self._said != str(err):
                self._said = str(err)
                log.warning("no heartbeat gets through, and it is tried again: %s", err)
        return self._seconds
