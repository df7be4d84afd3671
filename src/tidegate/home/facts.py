"""What a device tells about itself when it calls."""

from __future__ import annotations

import json
import os
import platform
import socket
import sys
import threading
from typing import TYPE_CHECKING, Any

from tidegate.errors import TidegateError
from tidegate.routes.board import look
from tidegate.routes.reports import statistics
from tidegate.view.render import POLICIES

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tidegate.routes import Site
    from tidegate.routes.board import Picture

_COUNTED = (*POLICIES, "uploaded", "bytes", "failed", "dropped")


class Facts:
    """Asks the agent that runs just now; there may be none."""

    def __init__(self) -> None:
        self._site: Site | None = None
        self._lock = threading.Lock()  # while it is held, nobody closes what is looked at

    def serve(self, site: Site | None) -> None:
        """Ask this one from now on. With None, the one before may be closed when this returns."""
        with self._lock:
            self._site = site

    def wake(self) -> None:
        """Have the configuration looked at: it has changed."""
        with self._lock:
            if self._site:
                self._site.agent.woken.set()

    def scan_now(self) -> float | None:
        """Have all files looked at. Returns when that was; None: there is no agent just now."""
        with self._lock:
            if self._site is None:
                return None
            moment = self._site.clock.wall()
            self._site.agent.scan_now()
            return moment

    def is_scanned_since(self, moment: float) -> bool:
        """Whether each source was looked at after that moment. Asks no disk."""
        with self._lock:
            if self._site is None:
                return False
            snapshot = self._site.agent.snapshot()
        return all((one.scanned_at or 0.0) > moment for one in snapshot.sources.values())

    def picture(self) -> Picture | None:
        """Look at the agent; None if there is none, or its ledger cannot be read."""
        with self._lock:
            try:
                return look(self._site, ()) if self._site else None
            except TidegateError:
                return None


def host(*, everything: bool) -> dict[str, Any]:
    """Describe this machine, by the names that s3-ingestor used."""
    found: dict[str, Any] = {"hostname": socket.gethostname()}
    if everything:
        found |= {
            "hosttype": platform.system(),
            "platform": sys.platform,
            "release": platform.release(),
            "pythonver": platform.python_version(),
            "totalmem": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
            "network": [name for _, name in socket.if_nameindex()],
        }
    return found


def work(picture: Picture | None) -> tuple[dict[str, Any], dict[str, int] | None]:
    """Say how the work goes: what is told as `info`, and the counters, which only ever grow."""
    if picture is None:
        return {}, None
    said = statistics(picture, None)
    troubles = [one["reason"] for one in said["carriers"]["troubles"]]
    info = {"backlog": said["backlog"], "troubles": troubles, "paused": said["paused"]}
    quarantined = sum(one["quarantined"] for one in said["sources"])
    return info | {"quarantined": quarantined}, {word: said["totals"][word] for word in _COUNTED}


def encoded(context: Mapping[str, Any], most: int) -> bytes:
    """Write a message. A result that makes it too long is left out, with a word instead."""
    message = json.dumps({"context": context}).encode()
    if len(message) > most:
        message = json.dumps({"context": {**context, "result": "too much to tell"}}).encode()
    return message
