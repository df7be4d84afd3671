"""The component's configuration as it is at the nucleus: followed, and read whole each time.

An event only brings the next reading forward. Take all events away and a change is still seen, later.
"""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING

from tidegate.config import Config, parse
from tidegate.errors import ConfigFaults, NucleusGone, Refused, Unavailable

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tidegate.ipc.nucleus import Nucleus

SETTLE_SECONDS = 0.5
"""A deployment makes one event for each value: they all come before we look."""

READ_AGAIN_SECONDS = 60.0
"""Also the longest time for which a change goes unnoticed whose subscription died in silence."""

RETRY_SECONDS = 5.0

log = logging.getLogger(__name__)


class Configuration:
    """Reads in a thread of its own, from the constructor on, so that whoever asks need not wait.

    Asks to be told of changes, and to be asked before a deployment changes anything; where the nucleus
    has no such question, it goes on without.
    """

    def __init__(self, nucleus: Nucleus, *, read_again: float = READ_AGAIN_SECONDS) -> None:
        self._nucleus = nucleus
        self._read_again = read_again
        self._newest: dict[str, object] | None = None
        self._taken: dict[str, object] | None = None
        self._follows = False
        self._answers = False  # or knows that it is not asked
        self._nudged = threading.Event()
        self._arrived = threading.Event()
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, name="ipc-configuration", daemon=True)
        self._thread.start()

    def first_good(self) -> tuple[dict[str, object], Config]:
        """Wait without end for one that has no faults; those of others are logged. Raises NucleusGone."""
        while True:
            self._arrived.wait(1.0)
            self._arrived.clear()
            raw = self.changed()
            if raw is None:
                continue
            found = faults(raw)
            if not found:
                return raw, parse(raw)
            for sentence in found:
                log.error("waiting for a better configuration: %s", sentence)

    def changed(self) -> dict[str, object] | None:
        """Return it if it is not what was returned last; else None. Never waits. Raises NucleusGone."""
        if reason := self._nucleus.lost:
            raise NucleusGone(reason)
        newest = self._newest
        if newest is None or newest == self._taken:
            return None
        self._taken = newest
        return newest

    def close(self) -> None:
        """Read no more."""
        self._closed.set()
        self._nudged.set()
        self._thread.join()

    def _run(self) -> None:
        told = False
        while not self._closed.is_set() and not self._nucleus.lost:
            self._nudged.clear()
            pause = self._read_again
            try:
                self._read(told=told)
            except (Unavailable, Refused) as err:
                pause = min(RETRY_SECONDS, self._read_again)
                log.warning("the configuration cannot be read, and is tried again without end: %s", err)
            except Exception:
                log.exception("reading the configuration failed, and is tried again")
            told = self._nudged.wait(pause)
            if told:
                self._closed.wait(SETTLE_SECONDS)

    def _read(self, *, told: bool) -> None:
        if not self._follows:  # before reading, so that no change falls between
            self._follow()
        before, self._newest = self._newest, self._nucleus.configuration()
        self._arrived.set()
        if not told and before not in (None, self._newest):  # nobody told us: the subscription is dead
            self._follows = False
            self._nudged.set()
        if not self._answers:
            self._answer()

    def _follow(self) -> None:
        try:
            self._nucleus.follow_configuration(self._nudged.set)
            self._follows = True
        except (Unavailable, Refused) as err:
            log.warning("changes of the configuration are noticed later than usual: %s", err)

    def _answer(self) -> None:
        try:
            self._nucleus.answer_validation(faults)
        except Unavailable as err:
            log.warning("deployments cannot ask yet whether a configuration is good: %s", err)
            return
        except Refused as err:
            log.info("this nucleus does not ask whether a configuration is good: %s", err)
        self._answers = True


def faults(raw: Mapping[str, object]) -> Sequence[str]:
    """Return everything that is wrong with a configuration, one sentence each."""
    try:
        parse(raw)
    except ConfigFaults as err:
        return err.faults
    return ()
