"""What is away or refusing at the moment, told in the log once for each change of state."""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING

from tidegate.model import Trouble

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

log = logging.getLogger(__name__)


class Health:
    """Keeps the troubles of each part. Safe to use from any thread."""

    def __init__(self, wall: Callable[[], float]) -> None:
        self._wall = wall
        self._lock = threading.Lock()
        self._troubles: dict[str, Trouble] = {}

    def tell(self, part: str, error: Exception | None) -> None:
        """Hear that a part works (None), or does not."""
        with self._lock:
            before = self._troubles.get(part)
            if error is None and before is None:
                return
            if error is None:
                del self._troubles[part]
            else:
                since = before.since if before else self._wall()
                self._troubles[part] = Trouble(since, str(error))
            others = len(self._troubles)
        if error is None and before is not None and not others:
            log.warning("it works again, after %.0f seconds: %s", self._wall() - before.since, before.reason)
        elif before is None and others == 1:
            log.warning("nothing is lost, and it is tried without end: %s", error)

    def keep_to(self, parts: Collection[str]) -> None:
        """Forget the troubles of all other parts: there are no others any more."""
        with self._lock:
            self._troubles = {part: it for part, it in self._troubles.items() if part in parts}

    def troubles(self) -> dict[str, Trouble]:
        """Return what does not work now."""
        with self._lock:
            return dict(self._troubles)
