"""The state of the agent, read beforehand: an answer is made of it without asking anybody.

Reading needs the disk and, while many files are uploaded, a turn of the processor for each row. So it is
done by a thread of its own as long as somebody asks now and then, and answers are made of what it read last.
"""

from __future__ import annotations

import logging
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tidegate.errors import TidegateError
from tidegate.model import State

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from tidegate.ledger import Entry, Pause
    from tidegate.routes.site import Site
    from tidegate.view.snapshot import Snapshot

log = logging.getLogger(__name__)

FRESH_SECONDS = 0.5
STALE_SECONDS = 2.0
"""No answer is made of what is older."""

INTEREST_SECONDS = 60.0
"""For how long after a question the next one is prepared for."""

LISTED = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """The agent at one moment, on the wall clock (`at`) and on the steady one (`taken`), in seconds.

    `bandwidth` is how many bytes a second may be sent just now; None: as many as go.
    """

    at: float
    taken: float
    snapshot: Snapshot
    names: Sequence[str]
    tally: Mapping[str, Mapping[State, tuple[int, int]]]
    counters: Mapping[str, Mapping[str, int]]
    oldest: Mapping[str, float | None]
    pauses: Sequence[Pause]
    quarantine: Sequence[Entry]
    events: int
    paused: frozenset[str]
    faults: Sequence[str]
    in_memory: bool
    thing: str
    bandwidth: float | None = None


def look(site: Site, faults: Sequence[str]) -> Picture:
    """Take a picture. What it costs does not grow with what waits. Raises what reading a ledger raises."""
    moment = site.clock.now()
    books, limit = site.books, site.config.bandwidth
    sources = [source.name for source in site.all_sources()]
    return Picture(
        at=moment.wall,
        taken=moment.steady,
        snapshot=site.agent.snapshot(),
        names=sources,
        tally=books.tally(),
        counters=books.counters(),
        oldest={name: books.oldest(name) for name in sources},
        pauses=books.pauses(),
        quarantine=books.in_state(State.FAILED, limit=LISTED),
        events=books.events_waiting(),
        paused=site.ledger.orders.paused,
        faults=tuple(faults),
        in_memory=site.in_memory,
        thing=site.thing,
        bandwidth=limit.at(moment.wall, site.config.time_zone) if limit else None,
    )


class Board:
    """Keeps a picture at hand. Safe to use from any thread."""

    def __init__(self, take: Callable[[], Picture | None], steady: Callable[[], float]) -> None:
        """`take` takes a picture; None: there is nothing to be seen just now."""
        self._take = take
        self._steady = steady
        self._asked = float("-inf")
        self._picture: Picture | None = None
        self._wanted = threading.Event()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="board", daemon=True)
        self._thread.start()

    def at_hand(self) -> Picture | None:
        """Return the picture, if it is fresh enough, without waiting for anything."""
        self._asked = self._steady()
        self._wanted.set()
        picture = self._picture
        return picture if picture and self._asked - picture.taken < STALE_SECONDS else None

    def show(self, picture: Picture) -> Picture:
        """Keep a picture that somebody has taken."""
        self._picture = picture
        return picture

    def forget(self) -> None:
        """What was seen does not hold any more."""
        self._picture = None

    def close(self) -> None:
        """Take no more pictures."""
        self._ended.set()
        self._wanted.set()
        self._thread.join(2.0)

    def _run(self) -> None:
        while not self._ended.is_set():
            self._wanted.wait()
            try:
                self._picture = self._take()
            except TidegateError:  # the agent finds out, too; who asks is told then
                self.forget()
            except Exception:
                self.forget()
                log.exception("the state of the agent could not be read")
            self._ended.wait(FRESH_SECONDS)
            if self._steady() - self._asked > INTEREST_SECONDS:
                self._wanted.clear()
