"""Calls the mothership: at the start, at each heartbeat, when woken, and to say what became of its wishes.

Whatever it answers, and whether it answers, the next call is always arranged before this one is made. A
message about something that was done is kept until it was taken; all others are made anew each time.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from tidegate import __version__
from tidegate.errors import ConfigFaults, Refused, TidegateError
from tidegate.home.actions import POLICIES, Actions, Failed
from tidegate.home.facts import Facts, encoded, host, work
from tidegate.home.wakeup import Wakeup
from tidegate.home.words import CONFIGURED, UNREGISTERED, Said
from tidegate.loop import Loop

if TYPE_CHECKING:
    from collections.abc import Callable

    from tidegate.clock import Clock
    from tidegate.config import HomeSettings
    from tidegate.home.memory import Memory
    from tidegate.home.overlay import Overlay
    from tidegate.home.wire import Line
    from tidegate.routes import Site

MESSAGE_BYTES = 200_000
MOST_TOLD = 50
"""Messages about what was done that wait for their turn; beyond that the oldest is dropped."""

MOST_REFUSALS = 5
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 300.0
"""After a call that failed; doubled each time, and never longer than a heartbeat."""

BURST, BURST_SECONDS = 10, 10.0
"""No more calls than that in so many seconds, whatever the mothership asks for."""

ROUND_SECONDS = 60.0
"""A report of what the policies did does not wait for them any longer."""

LOOK_SECONDS = 0.2
KEYS_SECONDS = 60.0
"""Credentials are asked for at least so often while there are none."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Told:
    """A message about something that was done, or could not be."""

    action: str
    action_id: str | None = None
    result: Any = None
    error: Any = None


@dataclass(slots=True)
class Round:
    """Policies that run because of something, of which is told when they are through."""

    action: str
    action_id: str | None
    until: float
    began: float | None = None


class Home:
    """Calls until it is closed. Agents come and go meanwhile: see `serve`."""

    def __init__(
        self,
        settings: HomeSettings,
        memory: Memory,
        overlay: Overlay,
        line: Callable[[HomeSettings], Line],
        *,
        clock: Clock,
        jitter: Callable[[], float],
        round_seconds: float = ROUND_SECONDS,
    ) -> None:
        """Nothing is asked for yet. `jitter` gives 0 to 1."""
        self._round_seconds = round_seconds
        self._settings = self._used = settings
        self._memory = memory
        self._overlay = overlay
        self._make_line = line
        self._line = line(settings)
        self._clock = clock
        self._jitter = jitter
        self._stopping = threading.Event()
        self._started = False
        self._facts = Facts()
        self._told: deque[Told] = deque(maxlen=MOST_TOLD)
        self._round: Round | None = None
        self._cause: str | None = "startup"
        self._error: Any = None
        self._failures = self._refusals = 0
        self._due = self._not_before = float("-inf")
        self._calls: deque[float] = deque(maxlen=BURST)
        self._number = int(clock.wall() * 1000)
        self._said = ""
        self._woken = False
        self._wakeup: Wakeup | None = None
        self._loop = Loop("home", self._step)

    # Life

    def follow(self, settings: HomeSettings) -> None:
        """From the next call on, these count. The first time, begin, with what was left half done."""
        self._settings = settings
        if self._started:
            self._loop.nudge()
            return
        self._started = True
        if self._memory.pending:
            self._resume(self._memory.pending)
        self._open_wakeup()
        self._loop.start()

    def close(self, seconds: float) -> None:
        """End after the call under way. Waits for that at most so long."""
        self._stopping.set()
        if self._wakeup:
            self._wakeup.close()
        self._loop.stop()
        self._loop.join(seconds)
        self._line.close()

    def serve(self, site: Site | None) -> None:
        """Tell of this agent. With None, the one before may be closed when this returns."""
        self._facts.serve(site)

    @property
    def note(self) -> str:
        """Why the mothership cannot be heard, or that no source runs because of it; "" if all is well."""
        if said := self._said:
            return f"it cannot be heard: {said}"
        state = self._memory.state
        return "" if state == CONFIGURED else f"to it this device is {state}: no source runs"

    def wake(self) -> None:
        """Have it call now. Many that come together are one."""
        self._woken = True
        self._loop.nudge()

    # Calling

    def _step(self) -> float:
        now = self._clock.steady()
        self._take_settings()
        if self._round:
            self._finish_round(now)
        if self._woken:
            self._woken = False  # first, or one that comes meanwhile would be lost
            self._cause = self._cause or "wakeup"
        if self._cause is None and now >= self._due:
            self._cause = "heartbeat"
        wanted = self._told or self._cause is not None
        wait = (
            max(self._not_before, self._calls[0] + BURST_SECONDS if len(self._calls) == BURST else now) - now
        )
        if wanted and wait <= 0:
            self._call(now)
            return 0.0
        pause = wait if wanted else self._due - now
        return max(0.01, min(pause, LOOK_SECONDS if self._round else pause))

    def _call(self, now: float) -> None:
        """Make one call. Whatever becomes of it, there is a next one."""
        message = self._told[0] if self._told else Told(self._first() or "heartbeat")
        pause = min(FIRST_PAUSE * 2.0**self._failures, LONGEST_PAUSE, self._settings.heartbeat_seconds)
        self._not_before = now + pause * (0.5 + self._jitter() / 2)
        self._due = now + self._heartbeat()
        self._calls.append(now)
        self._number += 1
        try:
            reply = self._line.exchange(encoded(self._context(message), MESSAGE_BYTES), self._number)
            said = Said.of(reply, now=self._clock.wall())
        except Refused as err:
            self._failed(f"its reply is not used: {err}", {"code": "BadReply", "message": str(err)})
            self._refused(message)
            return
        except TidegateError as err:
            self._failed(str(err), None)
            return
        except OSError as err:  # of what we keep ourselves
            self._failed(f"what has to be kept cannot be: {err}", {"code": "NotKept", "message": str(err)})
            return
        self._not_before, self._failures, self._said = float("-inf"), 0, ""
        self._error, self._refusals = None, 0
        if self._told and self._told[0] is message:
            self._told.popleft()
        else:
            self._cause = None
        if said:
            self._hear(said, message)

    def _refused(self, message: Told) -> None:
        """Give a message up that is never taken: the next ones may be."""
        self._refusals += 1
        if self._refusals >= MOST_REFUSALS and self._told and self._told[0] is message:
            self._told.popleft()
            self._refusals = 0

    def _first(self) -> str | None:
        """What the first call of a device says: it is not known yet."""
        return "register" if self._memory.state == UNREGISTERED and self._cause == "startup" else self._cause

    def _failed(self, why: str, error: Any) -> None:
        self._failures = min(self._failures + 1, 20)
        self._error = error or self._error
        if self._said != why:
            self._said = why
            log.warning("the mothership cannot be heard, and is called again: %s", why)

    def _heartbeat(self) -> float:
        """Seconds until the next call, if nothing happens: credentials are renewed in good time."""
        seconds = self._settings.heartbeat_seconds
        if self._settings.credentials == "mothership" and self._memory.state == CONFIGURED:
            ends = self._memory.keys_expire()
            ending = datetime.fromisoformat(ends.replace("Z", "+00:00")).timestamp() if ends else 0.0
            seconds = min(seconds, max((ending - self._clock.wall()) / 3, KEYS_SECONDS))
        return seconds

    def _context(self, message: Told) -> dict[str, Any]:
        info, counters = work(self._facts.picture())
        cause = message.action
        error = message.error or self._error
        if self._error and not message.error:
            cause = f"{cause}+error"
        context = {
            **self._memory.context,
            "version": __version__,
            "action": cause,
            "message_id": self._number,
            "info": host(everything=cause.startswith(("startup", "register"))) | info,
            "rev": self._memory.rev,
            "rejected": self._memory.rejected,
        }
        if self._settings.credentials == "mothership":
            context["credentials"] = {"wanted": True, "expires": self._memory.keys_expire()}
        if message.action_id is not None:
            context["action_id"] = message.action_id
        if message.result is not None:
            context["result"] = message.result
        elif counters is not None and self._memory.state == CONFIGURED:
            context["result"] = counters
        if error:
            context["error"] = error
        return context

    # Hearing

    def _hear(self, said: Said, message: Told) -> None:
        before = self._memory.state
        try:
            self._memory.keep_context(said.cookie)
            if said.keys and self._settings.credentials == "mothership":
                self._memory.keep_keys(said.keys)
        except OSError as err:
            log.error("what the mothership said cannot be kept: %s", err)  # noqa: TRY400
            self._error = {"code": "NotKept", "message": str(err)}
        is_new = said.config is not None and self._take_config(said)
        if before != self._memory.state:
            self._overlay.touch()
        if is_new or before != self._memory.state:
            self._facts.wake()
        if before == UNREGISTERED and self._memory.state != before and message.action == "register":
            self._cause = "startup"
        if said.action:
            self._take_action(said.action, said.action_id)
        elif is_new or before != self._memory.state or message.action in ("startup", "wakeup"):
            self._begin_round("ack", None)

    def _take_config(self, said: Said) -> bool:
        """Use a configuration, unless it is the one that is used, or was refused, already."""
        assert said.config is not None
        named = said.rev is not None
        if named and said.rev in (self._memory.rev, self._memory.rejected):
            return False
        if not named and said.config == self._memory.config:
            return False
        try:
            self._overlay.offer(said.rev, said.config)
        except ConfigFaults as err:
            faults = "; ".join(err.faults)[:2000]
            log.error("the mothership's configuration is refused: %s", faults)  # noqa: TRY400
            error = {"code": "ConfigurationRejected", "message": faults, "rev": said.rev}
            self._told.append(Told("config+error", error=error))
            self._forget(lambda: self._memory.reject(said.rev))
            return False
        except OSError as err:
            self._told.append(Told("config+error", error={"code": "NotKept", "message": str(err)}))
            return False
        return True

    def _take_action(self, action: str, action_id: str | None) -> None:
        """Do what is asked for, unless it was done already: then only the answer is given again."""
        if action_id is not None:
            if any(one.action_id == action_id for one in self._told):
                return
            if self._round and self._round.action_id == action_id:
                return
            if before := self._memory.done(action_id):
                self._told.append(Told(before["action"], action_id, error=before.get("error")))
                return
        actions = Actions(self._overlay, dict(self._settings.commands), ended=self._stopping.is_set)
        try:
            actions.check(action, action_id)
            if action_id is not None:
                self._begin(action, action_id)
            result = actions.do(action)
        except Failed as err:
            self._answer(Told(f"{action}+error", action_id, error=err.error))
            return
        if self._stopping.is_set():
            return  # it ended us: the next start tells of it
        if action in POLICIES:
            self._overlay.touch()
            self._begin_round(f"ack+{action}", action_id)
        else:
            name = f"ack+{action}" if action == "restart" else action
            self._answer(Told(name, action_id, result.get("result")))

    def _begin(self, action: str, action_id: str) -> None:
        try:
            self._memory.begin(action, action_id)
        except OSError as err:  # without it, it could be done twice
            raise Failed("NotKept", f"what is begun cannot be written down: {err}") from err

    def _resume(self, pending: dict[str, Any]) -> None:
        """Go on with what the process before this one had begun."""
        action, action_id = str(pending.get("action")), str(pending.get("action_id"))
        if action in POLICIES:
            self._begin_round(f"ack+{action}", action_id)
        elif action == "report":
            self._take_action(action, action_id)
        else:  # it has most likely ended us, as it should
            self._answer(Told(f"ack+{action}" if action == "restart" else action, action_id))

    def _answer(self, told: Told) -> None:
        """Tell what became of an action, and never do it again."""
        self._told.append(told)
        if told.action_id is not None:
            kept = {"action": told.action, **({"error": told.error} if told.error else {})}
            self._forget(lambda: self._memory.finish(str(told.action_id), kept))

    def _forget(self, writes: Callable[[], None]) -> None:
        """Write something down; if that fails, it is only forgotten at the next start."""
        try:
            writes()
        except OSError as err:
            log.error("what the mothership asked for cannot be written down: %s", err)  # noqa: TRY400

    # Rounds

    def _begin_round(self, action: str, action_id: str | None) -> None:
        if self._round and self._round.action_id is not None:  # this one does for both
            self._answer(Told(self._round.action, self._round.action_id))
        self._round = None
        if self._memory.state == CONFIGURED or action_id is not None:
            self._round = Round(action, action_id, self._clock.steady() + self._round_seconds)

    def _finish_round(self, now: float) -> None:
        """Have the policies run, and when they have, tell of it."""
        running = self._round
        assert running
        if running.began is None and not self._overlay.is_news:
            running.began = self._facts.scan_now()
        through = running.began is not None and self._facts.is_scanned_since(running.began)
        if through or now >= running.until or self._memory.state != CONFIGURED:
            self._round = None
            self._answer(Told(running.action, running.action_id))

    def _take_settings(self) -> None:
        """Use another line, if the settings have changed."""
        settings, used = self._settings, self._used
        if settings is used:
            return
        self._used = settings
        self._line.close()
        self._line = self._make_line(settings)
        if (settings.wakeup, settings.wakeup_file) != (used.wakeup, used.wakeup_file):
            self._open_wakeup()

    def _open_wakeup(self) -> None:
        """Have the door for wakeups where it is configured. A device without one goes on without it."""
        if self._wakeup:
            self._wakeup.close()
            self._wakeup = None
        address, file = self._settings.wakeup, self._settings.wakeup_file
        if address and file:
            try:
                self._wakeup = Wakeup(address, file, self.wake, steady=self._clock.steady)
            except OSError as err:
                log.error("nobody can wake us at %s: %s", address, err)  # noqa: TRY400
