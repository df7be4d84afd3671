"""The component's configuration as it is at the nucleus: followed, and read whole each time.

An event only brings the next reading forward. Take all events away and a change is still seen, later.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from tidegate.config import Config, parse
from tidegate.config.file import Extension
from tidegate.errors import ConfigFaults, NucleusGone, Refused, Unavailable

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tidegate.ipc.nucleus import Nucleus

SETTLE_SECONDS = 0.5
"""A deployment makes one event for each value: they all come before we look."""

READ_AGAIN_SECONDS = 60.0
"""Also the longest time for which a change goes unnoticed whose subscription died in silence."""

RETRY_SECONDS = 5.0

_KEPT = {"thingname", "localtopicbase", "cloudtopicbase", "events"}
"""What says who we are, and where and of what we speak."""

Tell = Callable[[Config, Sequence[str]], None]
"""Takes what there is in place of a good configuration, for doors only, and the faults of the bad one."""

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
        self._extension = Extension()
        self._follows = False
        self._unanswered = dict.fromkeys(("validation", "updates"))  # what nobody may have asked us yet
        self._nudged = threading.Event()
        self._arrived = threading.Event()
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, name="ipc-configuration", daemon=True)
        self._thread.start()

    def first_good(
        self, last: Mapping[str, object] | None, tell: Tell = lambda *_: None
    ) -> tuple[Mapping[str, object], Config, Sequence[str]]:
        """Wait without end for one that has no faults, and return it; those of others are logged, and told.

        If there are faults and `last`, the one in use before we were started, is good, return that with
        the faults of the new one. Raises NucleusGone.
        """
        while True:
            self._arrived.wait(1.0)
            self._arrived.clear()
            raw = None
            try:
                raw = self.changed()
                if raw is not None:
                    return raw, parse(raw), ()
            except ConfigFaults as err:
                with contextlib.suppress(ConfigFaults):
                    if last is not None:
                        return last, parse(last), err.faults
                for sentence in err.faults:
                    log.error("waiting for a better configuration: %s", sentence)  # noqa: TRY400
                tell(_stopgap(raw or self._taken or {}), err.faults)

    def changed(self) -> dict[str, object] | None:
        """Return it, with the file that it names, if it is not what was returned last; else None.

        Never waits for the nucleus. Raises NucleusGone, and ConfigFaults where there is no such file.
        """
        if reason := self._nucleus.lost:
            raise NucleusGone(reason)
        newest = self._newest
        if newest is None or (newest == self._taken and not self._extension.has_changed()):
            return None
        self._taken = newest
        return self._extension.expand(newest)

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
        for question in list(self._unanswered):
            self._answer(question)

    def _follow(self) -> None:
        try:
            self._nucleus.follow_configuration(self._nudged.set)
            self._follows = True
        except (Unavailable, Refused) as err:
            log.warning("changes of the configuration are noticed later than usual: %s", err)

    def _answer(self, question: str) -> None:
        try:
            if question == "validation":
                self._nucleus.answer_validation(faults)
            else:
                self._nucleus.answer_updates()
        except Unavailable as err:
            log.warning("the nucleus cannot ask us about %s yet: %s", question, err)
            return
        except Refused as err:
            log.info("this nucleus does not ask us about %s: %s", question, err)
        del self._unanswered[question]


def faults(raw: Mapping[str, object]) -> Sequence[str]:
    """Return everything that is wrong with a configuration, one sentence each."""
    try:
        parse(Extension().expand(raw))
    except ConfigFaults as err:
        return err.faults
    return ()


def _stopgap(raw: Mapping[str, object]) -> Config:
    """Make a configuration of the defaults, and of what in a bad one is good and tells where to find us."""
    good: dict[str, object] = {"PathName": "/*", "BucketName": "none"}  # the least that has no faults
    for key, value in raw.items():
        if key.lower() in _KEPT and not faults({**good, key: value}):
            good[key] = value
    return parse(good)
