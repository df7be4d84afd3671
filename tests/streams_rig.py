"""The Streams carrier on the Stream Manager stand-in, for tests."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tests.standins import s3
from tests.standins.streammanager import StreamManagerStandIn
from tidegate.carry.streams import Streams
from tidegate.config import parse

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from tests.standins.switches import ExportTask
    from tidegate.config import Source
    from tidegate.ledger import Ledger

POLL_SECONDS = 0.02
REQUEST_SECONDS = 2.0
CONNECT_SECONDS = 1.0


class StreamsRig:
    """One Stream Manager that can be closed, killed and started again on the same port and data.

    `settings` are keys under StreamManager; `switches` those of the stand-in, also after a restart.
    """

    def __init__(
        self, data_dir: Path, endpoint: str, settings: dict[str, Any] | None = None, **switches: Any
    ) -> None:
        self.s3 = s3.client(endpoint)
        self.settings = settings or {}
        self.request_seconds = REQUEST_SECONDS
        self.connect_seconds = CONNECT_SECONDS
        self.poll_seconds = POLL_SECONDS
        self._start: dict[str, Any] = {"data_dir": data_dir, "s3_endpoint": endpoint}
        self._switches: dict[str, Any] = {"retry_base": 0.02, "retry_cap": 0.05} | switches
        self.sm = StreamManagerStandIn(**self._start, **self._switches)
        self._start["port"] = self.sm.port

    def close(self) -> None:
        self.sm.close()
        self.s3.close()

    def carrier(
        self,
        ledger: Ledger,
        *,
        sources: Sequence[Source],  # noqa: ARG002 - Streams needs to know none
        links: Path,
        steady: Callable[[], float],
        wall: Callable[[], float],
    ) -> Streams:
        raw = {"PathName": "/x/*", "BucketName": "bucket"}
        settings = {"Streams": 2, "Port": self.sm.port} | self.settings
        return Streams(
            parse(raw | {"StreamManager": settings}).stream_manager,
            ledger,
            links=links,
            steady=steady,
            wall=wall,
            poll_seconds=self.poll_seconds,
            request_seconds=self.request_seconds,
            connect_seconds=self.connect_seconds,
        )

    def go_away(self) -> None:
        self.sm.kill()

    def come_back(self, **switches: Any) -> None:
        self._switches |= switches
        self.sm = StreamManagerStandIn(**self._start, **self._switches)

    def hold(self) -> None:
        self.sm.pause()

    def let_go(self) -> None:
        self.sm.resume()

    def refuse(self, reason: Callable[[str], str | None] | None) -> None:
        def refusal(task: ExportTask) -> str | None:
            return reason(task.key) if reason else None

        self._switches["refuse"] = self.sm.refuse = refusal

    def lanes(self) -> list[str]:
        """The task streams, oldest generation first."""
        return sorted(name for name in self.sm.streams if not name.endswith(".status"))
