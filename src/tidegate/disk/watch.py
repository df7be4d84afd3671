"""Asks the kernel to tell when a file was closed or moved in, so that a scan need not wait for its time.

Only a nudge: events may be lost, watches may run out, and nothing is missed, because scans look at
everything anyway. The only module that imports inotify_simple.
"""

from __future__ import annotations

import errno
import logging
import threading
from contextlib import suppress
from typing import TYPE_CHECKING

from inotify_simple import INotify, flags

from tidegate.disk.walk import PRIVATE_FOLDER

if TYPE_CHECKING:
    from collections.abc import Callable

_EVENTS = (
    flags.CLOSE_WRITE | flags.MOVED_TO | flags.CREATE | flags.MOVE_SELF | flags.ONLYDIR | flags.EXCL_UNLINK
)

log = logging.getLogger(__name__)


class Watch:
    """Watches folders, each for whoever asked for it. Safe to use from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._numbers: dict[str, int] = {}
        self._nudges: dict[int, set[Callable[[], None]]] = {}
        self._full = False
        try:
            self._inotify: INotify | None = INotify()
        except OSError as err:
            self._inotify = None
            log.warning("files are found by scanning only: the kernel grants no watch (%s)", err.strerror)
        else:
            threading.Thread(target=self._listen, name="watch", daemon=True).start()

    def add(self, folder: str, nudge: Callable[[], None]) -> None:
        """Watch the folder for this nudge, too, if the kernel has watches left."""
        if nudge in self._nudges.get(self._numbers.get(folder, 0), ()):
            return
        with self._lock:
            if self._inotify is None or self._full:
                return
            try:
                number = self._inotify.add_watch(folder, _EVENTS)
            except OSError as err:
                self._note(err)
                return
            self._numbers[folder] = number
            self._nudges.setdefault(number, set()).add(nudge)

    def _note(self, error: OSError) -> None:
        """Tell of a limit; a folder that is gone or unreadable is the scan's business."""
        if error.errno in {errno.ENOSPC, errno.ENOMEM}:
            self._full = True
            log.warning(
                "the kernel grants no more than %d watches (fs.inotify.max_user_watches):"
                " other folders are looked at by scans only",
                len(self._numbers),
            )

    def close(self) -> None:
        """Stop watching."""
        with self._lock:
            inotify, self._inotify = self._inotify, None
        if inotify is not None:
            inotify.close()

    def _listen(self) -> None:
        while (inotify := self._inotify) is not None:
            try:
                events = inotify.read(timeout=1000)
            except (OSError, ValueError):
                return  # closed
            for nudge in self._told(events):
                nudge()

    def _told(self, events: list[tuple[int, int, int, str]]) -> set[Callable[[], None]]:
        nudges: set[Callable[[], None]] = set()
        for number, mask, _, name in events:
            if mask & flags.Q_OVERFLOW:
                with self._lock:
                    return set().union(*self._nudges.values())
            if mask & (flags.IGNORED | flags.MOVE_SELF):
                self._forget(number, moved=bool(mask & flags.MOVE_SELF))
            elif name != PRIVATE_FOLDER and (not mask & flags.CREATE or mask & flags.ISDIR):
                nudges |= self._nudges.get(number, set())
        return nudges

    def _forget(self, number: int, *, moved: bool) -> None:
        """The folder is gone, or has another name now: the next scan adds what is there."""
        with self._lock:
            self._nudges.pop(number, None)
            self._numbers = {folder: other for folder, other in self._numbers.items() if other != number}
            if moved and self._inotify is not None:
                with suppress(OSError):
                    self._inotify.rm_watch(number)
