"""Ways to keep a promise. What the rest of tidegate knows of a carrier is this page."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from tidegate.errors import Refused, Unavailable

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tidegate.model import Outcome, Transfer


@dataclass(frozen=True, slots=True)
class News:
    """What a carrier has to tell, and the position to ask from next time; None: it keeps no count.

    `garbled` counts messages that nobody can make sense of; they have been passed over.
    """

    outcomes: Sequence[Outcome]
    position: int | None
    garbled: int = 0


Answer = int | Refused | Unavailable | None
"""To one promise: the receipt, or why it was not taken. None: taken, for as long as this process lives."""


class Carrier(Protocol):
    """Takes charge of promises and tells, sooner or later, what became of each.

    Every method may raise `Unavailable`; then nothing has happened, or it may safely happen twice.
    """

    name: str
    depth: int
    """Promises in one lane at a time: enough to keep the carrier busy, few to wait behind a large file."""

    def lanes(self, source: str) -> Sequence[str]:
        """Queues that promises of this source may be put into. Each is worked off in order."""

    def start(self, tasks: Sequence[tuple[Transfer, str]]) -> Sequence[Answer]:
        """Put each promise into its lane. Returns the answer to each, in the same order.

        A receipt names the promise in that lane for all time, also after a restart. `Refused` is for what
        can never be taken.
        """

    def news(self, position: int) -> News:
        """What has happened since `position`. Waits a moment for news. May repeat itself."""

    def audit(self) -> Iterator[Sequence[Outcome]]:
        """Promises that will get no news, and why; found by comparing books, not by waiting for messages.

        Each batch must be settled before the next is asked for.
        """

    def wake(self) -> None:
        """An agent ends: let it wait for news no longer. That may raise `Unavailable` there."""

    def close(self) -> None:
        """Let go of everything. What was handed over is settled by the next one on this ledger."""

    def away(self, source: str) -> str:
        """Why nothing gets through for this source as far as is known; "" if it does, or nobody knows."""

    def troubles(self) -> dict[str, str]:
        """Lanes that do not get on, and why."""

    def finished(self, transfer: Transfer) -> None:
        """The promise needs no carrying any more: drop what was kept for it."""
