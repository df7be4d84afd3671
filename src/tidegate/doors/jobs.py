"""A door for IoT Jobs: documents with an operation of ours are taken up, done by the routes, and reported.

A document of ours is {"operation": "tidegate/scan/post", "parameters": {"source": "logs"}}. Others are left
alone: the nucleus has its own on the same topics. What is under way when the process ends is found again in
the list, and done with the same token: what was done already is only answered again.
"""

from __future__ import annotations

import hashlib
import json
import logging
import re
import threading
from collections import deque
from typing import TYPE_CHECKING, Any

from tidegate.doors.door import Door
from tidegate.errors import NotAllowed, TidegateError
from tidegate.routes.wire import cut, packed

if TYPE_CHECKING:
    from collections.abc import Callable

    from tidegate.doors.desk import Desk
    from tidegate.doors.line import Line
    from tidegate.routes.wire import Reply

OURS = "tidegate/"
SHORT = {
    # The words of s3-ingestor, for the routes that do the same.
    "report": "configuration/get",
    "wakeup": "scan/post",
    "apply-policies": "scan/post",
    "customizers": "scan/post",
    "restart": "restart/post",
}
TOPICS = ("notify", "get/accepted", "+/get/accepted")
MOST_FOREIGN = 200
DETAIL = 1000
"""Characters of a status detail; IoT Jobs takes 1024."""

AWAY = 503
"""Status of what can be asked for again later."""

_JOB = re.compile(r"[A-Za-z0-9_-]{1,64}")
_OPEN = ("QUEUED", "IN_PROGRESS")

log = logging.getLogger(__name__)


class JobsDoor(Door):
    """Open from `start` to `stop`. Asks for the list at the start, when told to, and each `poll` seconds.

    The answer to that also shows that the subscriptions live: two that do not come have them made anew.
    """

    def __init__(
        self,
        line: Line,
        thing: str,
        desk: Desk,
        *,
        steady: Callable[[], float],
        poll: float = 900.0,
        patience: float = 30.0,
    ) -> None:
        super().__init__("jobs")
        self._line = line
        self._base = f"$aws/things/{thing}/jobs"
        self._desk = desk
        self._steady = steady
        self._poll = poll
        self._patience = patience
        self._lock = threading.Lock()
        self._heard: deque[tuple[str, bytes]] = deque(maxlen=256)
        self._hang_ups: list[Callable[[], None]] = []
        self._asked: float | None = None
        self._missed = 0
        self._ask_at = 0.0
        self._pause = 1.0
        self._busy: set[str] = set()
        self._done: dict[str, bytes] = {}
        self._foreign: dict[str, None] = {}
        self._said = ""

    def wake(self) -> None:
        """See Door."""
        self._pause = 1.0
        super().wake()

    def stop(self) -> None:
        """Take no more jobs."""
        super().stop()
        self._hang_up()

    def _step(self) -> float:
        now = self._steady()
        try:
            if len(self._hang_ups) < len(TOPICS) or self._missed > 1:
                self._subscribe()
            while self._heard:
                self._take(*self._heard.popleft())
            if self._asked is not None and now >= self._asked + self._patience:
                self._asked, self._missed, self._ask_at = None, self._missed + 1, now
            if self._asked is None and now >= self._ask_at:
                self._asked, self._ask_at = now, now + self._poll
                self._line.publish(f"{self._base}/get", b"{}")
        except TidegateError as err:
            if self._said != str(err):
                self._said = str(err)
                log.warning("jobs may not get through, and it is tried again: %s", err)
            self._asked, self._ask_at = None, now
            pause, self._pause = self._pause, min(2 * self._pause, 600 if isinstance(err, NotAllowed) else 60)
            return pause
        self._pause, self._said = 1.0, ""
        due = self._ask_at if self._asked is None else self._asked + self._patience
        return max(0.01, due - now)

    def _subscribe(self) -> None:
        self._hang_up()
        for topic in TOPICS:
            hang_up = self._line.subscribe(f"{self._base}/{topic}", self._hear, self._end)
            with self._lock:
                self._hang_ups.append(hang_up)
        self._missed, self._asked, self._ask_at = 0, None, self._steady()

    def _hang_up(self) -> None:
        with self._lock:
            before, self._hang_ups = self._hang_ups, []
        for hang_up in before:
            hang_up()

    # Called in threads that are not ours

    def _hear(self, topic: str, payload: bytes) -> None:
        self._heard.append((topic, payload))
        self._loop.nudge()

    def _end(self) -> None:
        self._missed = 2
        self._loop.nudge()

    # Jobs

    def _take(self, topic: str, payload: bytes) -> None:
        try:
            said = json.loads(payload)
        except (ValueError, RecursionError):
            return
        if not isinstance(said, dict):
            return
        name = topic.removeprefix(f"{self._base}/")
        if name == "notify":
            self._ask_at = self._steady()
        elif name == "get/accepted":
            self._asked, self._missed = None, 0
            self._list(said)
        elif name.endswith("/get/accepted") and isinstance(said.get("execution"), dict):
            self._consider(said["execution"])

    def _list(self, said: dict[str, Any]) -> None:
        """Ask for the documents of all that is open and not known; tell again what was done already."""
        for name in ("inProgressJobs", "queuedJobs"):
            listed = said.get(name)
            for one in listed if isinstance(listed, list) else []:
                job = one.get("jobId") if isinstance(one, dict) else None
                if not isinstance(job, str) or not _JOB.fullmatch(job):
                    continue
                if done := self._done.get(job):
                    self._line.publish(f"{self._base}/{job}/update", done)
                elif job not in self._foreign and job not in self._busy:
                    self._line.publish(f"{self._base}/{job}/get", b'{"includeJobDocument":true}')

    def _consider(self, execution: dict[str, Any]) -> None:
        job, document, status = (execution.get(name) for name in ("jobId", "jobDocument", "status"))
        if not isinstance(job, str) or not _JOB.fullmatch(job) or job in self._busy or job in self._done:
            return
        document = document if isinstance(document, dict) else {}
        operation = document.get("operation")
        if not isinstance(operation, str) or not operation.startswith(OURS):
            self._foreign[job] = None
            while len(self._foreign) > MOST_FOREIGN:
                del self._foreign[next(iter(self._foreign))]
            return
        if status not in _OPEN:
            return
        self._busy.add(job)
        if status == "QUEUED":
            self._line.publish(f"{self._base}/{job}/update", b'{"status":"IN_PROGRESS"}')
        route = operation.removeprefix(OURS)
        token = f"job-{hashlib.sha256(job.encode()).hexdigest()[:40]}"
        given = document.get("parameters", {})
        asked = {**given, "clientToken": token} if isinstance(given, dict) else given
        self._desk.put(SHORT.get(route, route), packed(asked), lambda reply: self._answer(job, reply))

    def _answer(self, job: str, reply: Reply) -> None:
        """Report what came of it, from whatever thread; if that fails, it is told with the next list.

        What could not be done just now, as when the agent is being started anew, is done with that list.
        """
        if reply.status == AWAY:
            self._busy.discard(job)
            self._ask_later()
            return
        details = {"status": str(reply.status), "answer": cut(reply.json().decode(), DETAIL)}
        word = "SUCCEEDED" if reply.accepted else "FAILED"
        self._done[job] = packed({"status": word, "statusDetails": details})
        self._busy.discard(job)
        self._line.send(f"{self._base}/{job}/update", self._done[job], self._failed)
        while len(self._done) > MOST_FOREIGN:
            del self._done[next(iter(self._done))]

    def _failed(self, error: TidegateError) -> None:
        log.warning("the end of a job could not be told, and is told again later: %s", error)
        self._ask_later()

    def _ask_later(self) -> None:
        self._ask_at = min(self._ask_at, self._steady() + self._patience)
        self._loop.nudge()
