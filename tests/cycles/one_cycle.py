"""Cycles of the agent, step after step in one thread, in a forked child that may be killed.

    python -m tests.cycles.one_cycle

is `tests.whole.one_pass` with cycles in the place of scans: each round is a hundred seconds later than the
one before it, and so begins another cycle when that is over.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

from tests.whole import one_pass
from tidegate import app
from tidegate.disk.walk import is_current
from tidegate.flows.cycle import Cycles
from tidegate.flows.dispatch import dispatch
from tidegate.flows.pack import sweep
from tidegate.flows.release import release_stored, return_leftovers
from tidegate.model import Moment
from tidegate.spool import Spool

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tidegate.flows.scan import Scanner


class CyclePass(one_pass.Pass):
    """A pass whose sources work in cycles, until one of them finds nothing."""

    _cycles: list[Cycles] | None = None

    def _make(self) -> list[Cycles]:
        """Put together what the agent does, and begin as it does."""
        spool = Spool(self._folder / "archives")
        sweep(spool, self._ledger)
        made = []
        for source in self._config.sources:
            cycles = Cycles(
                source,
                self._ledger,
                spool,
                zone=None,
                thing="thing",
                never=app.own_folders(self._config, self._folder),
                stopping=threading.Event(),
            )
            cycles.carrier = self._carrier.name
            made.append(cycles)
        return made

    def _round(self, scanners: Sequence[Scanner], now: float) -> bool:  # noqa: ARG002 - cycles have their own
        bomb, ledger, sources = self._bomb, self._ledger, self._config.sources
        bomb.phase = "cycle"
        self._cycles = self._cycles or self._make()
        self._step(now)
        bomb.phase = "dispatch"
        for source in sources:
            while dispatch(source.name, self._carrier, ledger, now=now):
                pass
        bomb.phase = "collect"
        self._carrier.collect(ledger, sources, now)
        self._let_the_world_change()
        bomb.phase = "finish"
        self._step(now)
        bomb.phase = "release"
        for source in sources:
            while release_stored(source, ledger, now=now):
                pass
        bomb.phase = "return"
        returned = return_leftovers(
            {folder for it in self._cycles if it.scan for folder in it.scan.leftovers}
        )
        bomb.phase = "prune"
        ledger.prune(keep=is_current, limit=100, now=now)
        return bool(returned) or any(
            it.scan is None
            or it.scan.found
            or not it.is_idle()
            or ledger.unfinished(source.name, retention_seconds=0, now=now + 3600)
            for source, it in zip(sources, self._cycles, strict=True)
        )

    def _step(self, now: float) -> None:
        for cycles in self._cycles or ():
            cycles.step(Moment(now, time.monotonic(), float("inf")))


if __name__ == "__main__":
    one_pass.Pass = CyclePass  # type: ignore[misc]
    one_pass.main()
