"""What one agent after another stands on: the open ledger, and what carries.

It outlives a change of the configuration: uploads from this process go on as they were begun, whatever
the next agent is to do otherwise.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from tidegate import workdir
from tidegate.carry.choice import DIRECT
from tidegate.ledger import Books

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tidegate.carry import Carrier
    from tidegate.carry.direct import Direct


class Ground:
    """Open until `close`. `carriers` are those of the agent that runs, by name."""

    def __init__(self, folder: Path, *, jitter: Callable[[], float], in_memory: bool) -> None:
        """`folder` is the work directory. Raises `LedgerLost`."""
        self.in_memory = in_memory
        self.ledger = workdir.open_ledger(folder, jitter=jitter, in_memory=in_memory)
        self.books = self.ledger.books if in_memory else Books(workdir.ledger_path(folder))
        self.carriers: dict[str, Carrier] = {}

    @property
    def direct(self) -> Direct | None:
        """What uploads from this process, if an agent has begun that."""
        return cast("Direct | None", self.carriers.get(DIRECT))

    def rest(self) -> None:
        """One agent has ended and another one follows: close what goes on by itself meanwhile."""
        for name in [name for name in self.carriers if name != DIRECT]:
            self.carriers.pop(name).close()

    def close(self) -> None:
        """Break off what is under way. The next start takes it up."""
        for carrier in self.carriers.values():
            carrier.close()
        self.carriers = {}
        self.books.close()
        self.ledger.close()
