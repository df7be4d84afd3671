"""What goes wrong on command.

Throttling and waiting go by the real clock, all else by that of the stand-in.
"""

from __future__ import annotations

import random
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tests.standins.glacier.errors import Refusal

if TYPE_CHECKING:
    from collections.abc import Callable

SLOW_DOWN = Refusal(503, "SlowDown", "Please reduce your request rate.")
INTERNAL = Refusal(500, "InternalError", "We encountered an internal error. Please try again.")
UNAVAILABLE = Refusal(503, "ServiceUnavailable", "Service is unable to handle request.")
DENIED = Refusal(403, "AccessDenied", "Access Denied")
TOO_MANY = Refusal(429, "TooManyRequestsException", "Too many requests")  # of S3 Control
ANSWERS = {
    "slow-down": SLOW_DOWN,
    "internal-error": INTERNAL,
    "unavailable": UNAVAILABLE,
    "denied": DENIED,
    "too-many": TOO_MANY,
}
BURST_SECONDS = 1.0


@dataclass(slots=True)
class Fault:
    """What happens to requests of one operation ("" is every one), such as RestoreObject or HeadObject.

    `kind` is one of ANSWERS, or
      drop        the connection is reset, and nothing was done
      drop-after  the same, but what was asked for was done
      cut         half of the answer comes, then the connection ends
      hang        nothing is done and no answer ever comes
      delay       the answer comes `seconds` later
    It befalls the next `times` requests (None: until it is taken away) whose key `matches`, after `skip`
    others, each with the `chance`.
    """

    kind: str
    operation: str = ""
    times: int | None = 1
    skip: int = 0
    chance: float = 1.0
    seconds: float = 0.0
    matches: Callable[[str], bool] = field(default=lambda _: True)
    seen: int = 0  # how often it has struck


class Faults:
    """Plain attributes; a change is seen by the next request.

    restore_rate          RestoreObject requests answered in a second, more are throttled; None: any number
    throttle_status       of the answer to those that are throttled
    throttle_code         of the error in it
    expedited_failures    how many of the next Expedited restores find no capacity; -1 is all
    list_tiering_status   whether listings tell the RestoreStatus of Intelligent-Tiering
    """

    def __init__(self, seed: int) -> None:
        self.restore_rate: float | None = 1000.0
        self.throttle_status = 503
        self.throttle_code = "ThrottlingException"
        self.expedited_failures = 0
        self.list_tiering_status = False
        self._faults: list[Fault] = []
        self._random = random.Random(seed)
        self._tokens = 0.0
        self._filled = float("-inf")

    def add(self, kind: str, operation: str = "", **fields: object) -> Fault:
        """Add a fault (see Fault); the first that applies strikes."""
        fault = Fault(kind, operation, **fields)  # type: ignore[arg-type]
        if kind not in {*ANSWERS, "drop", "drop-after", "cut", "hang", "delay"}:
            raise ValueError(f"no fault is named {kind}")
        self._faults.append(fault)
        return fault

    def clear(self) -> None:
        self._faults.clear()

    def strike(self, operation: str, key: str) -> Fault | None:
        """Find what is to happen to a request."""
        for fault in self._faults:
            if fault.operation not in ("", operation) or fault.times == 0 or not fault.matches(key):
                continue
            if fault.skip > 0:
                fault.skip -= 1
            elif fault.chance >= 1 or self._random.random() < fault.chance:
                fault.seen += 1
                if fault.times is not None:
                    fault.times -= 1
                return fault
        return None

    def check_rate(self) -> None:
        """Refuse a RestoreObject if there were too many."""
        rate = self.restore_rate
        if rate is None:
            return
        now = time.monotonic()
        most = max(rate * BURST_SECONDS, 1.0)
        self._tokens = min(most, self._tokens + min(now - self._filled, BURST_SECONDS) * rate)
        self._filled = now
        if self._tokens < 1:
            raise Refusal(self.throttle_status, self.throttle_code, "Rate exceeded")
        self._tokens -= 1

    def take_expedited(self) -> bool:
        """Whether there is no capacity for one more Expedited restore."""
        if self.expedited_failures > 0:
            self.expedited_failures -= 1
            return True
        return self.expedited_failures < 0
