"""A download and the thread that repeats its rounds. It goes on from one agent to the next."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tidegate.loop import Loop

if TYPE_CHECKING:
    from collections.abc import Callable

    from tidegate.config import Download
    from tidegate.errors import LedgerLost
    from tidegate.fetch.download import Downloader, Round


class Running:
    """Runs from the first `begin` to `stop`."""

    def __init__(self, downloader: Downloader, tell: Callable[[str, Exception | None], None]) -> None:
        """`tell` hears of troubles, and None when there are none."""
        self._downloader = downloader
        self._lost: Callable[[LedgerLost], None] = lambda _: None
        self._loop = Loop(
            f"download {self.name}",
            downloader.step,
            trouble=tell,
            lost=self._lose,
        )
        self._begun = False
        self.nudge = self._loop.nudge
        """Brings the next round forward."""

    @property
    def name(self) -> str:
        """The source's."""
        return self._downloader.name

    @property
    def part(self) -> str:
        """What its troubles are told of."""
        return self._loop.name

    @property
    def settings(self) -> Download:
        """What it was made with."""
        return self._downloader.settings

    @property
    def last(self) -> Round | None:
        """The last round that is over, or the first one while it lasts."""
        return self._downloader.last

    @property
    def is_done(self) -> bool:
        """Whether there was a whole round."""
        return self._downloader.is_done

    def begin(self, lost: Callable[[LedgerLost], None]) -> None:
        """Start, if it does not run yet. From now on `lost` is told when the ledger is."""
        self._lost = lost
        if not self._begun:
            self._begun = True
            self._loop.start()

    def stop(self) -> None:
        """Have it end soon. Requests under way are broken off; what is here of an object is gone on with."""
        self._loop.stop()
        self._downloader.stop()

    def join(self, seconds: float) -> bool:
        """Wait for its end. Tells whether it has ended."""
        return self._loop.join(seconds)

    def _lose(self, error: LedgerLost) -> None:
        self._lost(error)
