"""Which carrier takes the files of a source: the one that the user wrote, else the one that can."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

from tidegate.config import CarrierChoice, only_direct

if TYPE_CHECKING:
    from collections.abc import Callable

    from tidegate.config import Config, Source, StreamManager

STREAMS, DIRECT = "streams", "direct"

PROBE_SECONDS = 15.0
PATIENCE_SECONDS = 60.0
"""Stream Manager may be away for so long, restarting, before new promises go another way."""


class Choice:
    """Decides with each promise. `probe` tells whether Stream Manager can be reached, in at most a second."""

    def __init__(
        self,
        config: Config,
        *,
        in_greengrass: bool,
        steady: Callable[[], float],
        probe: Callable[[StreamManager], bool] | None = None,
    ) -> None:
        self._settings = config.stream_manager
        self._in_greengrass = in_greengrass
        self._steady = steady
        self._probe = probe or answers
        self._probed_at = self._seen_at = float("-inf")

    def of(self, source: Source) -> tuple[str, str]:
        """Return the name of the carrier, and why it is that one."""
        if source.carrier is CarrierChoice.DIRECT:
            return DIRECT, "Carrier is Direct"
        if source.carrier is CarrierChoice.STREAM_MANAGER:
            return STREAMS, "Carrier is StreamManager"
        if reason := only_direct(source):
            return DIRECT, f"{reason}, which Stream Manager cannot do"
        if not self._in_greengrass:
            return DIRECT, "this is not a Greengrass component"
        if not self._is_reachable():
            return DIRECT, "Stream Manager cannot be reached"
        return STREAMS, "Stream Manager can be reached, and can do what the source asks"

    def may_be_streams(self, source: Source) -> bool:
        """Whether Stream Manager may ever carry files of the source."""
        if source.carrier is CarrierChoice.AUTO:
            return self._in_greengrass and not only_direct(source)
        return source.carrier is CarrierChoice.STREAM_MANAGER

    def _is_reachable(self) -> bool:
        now = self._steady()
        if now >= self._probed_at + PROBE_SECONDS:
            self._probed_at = now
            if self._probe(self._settings):
                self._seen_at = now
        return now < self._seen_at + PATIENCE_SECONDS


def answers(settings: StreamManager) -> bool:
    """Whether somebody listens where Stream Manager should."""
    try:
        socket.create_connection((settings.host, settings.port or 8088), timeout=1.0).close()
    except OSError:
        return False
    return True
