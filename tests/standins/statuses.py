"""The status messages of the Stream Manager stand-in, and every way they may go wrong."""

from __future__ import annotations

import asyncio
import functools
import json
import random
import time
from typing import TYPE_CHECKING, Any

from tests.standins.stream import Refusal
from tests.standins.switches import Status

if TYPE_CHECKING:
    from tests.standins.store import Store
    from tests.standins.switches import ExportTask, Switches

LEVELS = {
    Status.FAILURE: 0,
    Status.WARNING: 1,
    Status.CANCELED: 1,
    Status.SUCCESS: 2,
    Status.IN_PROGRESS: 2,
}
INFO = 2
HOLD_SECONDS = 0.1


class Statuses:
    """Writes status messages to status streams. `lost` counts those the stream or a switch swallowed."""

    def __init__(self, switches: Switches, store: Store) -> None:
        self.lost = 0
        self._switches = switches
        self._store = store
        self._successes = 0
        self._held: list[tuple[str, bytes]] = []
        self._random = random.Random(switches.seed)

    def write(self, executor: dict[str, Any], task: ExportTask, status: Status, text: str = "") -> None:
        """Tell about one task, if the executor's configuration wants to hear it and no switch is against."""
        config = executor.get("statusConfig")
        if config is None or LEVELS[status] > config.get("statusLevel", INFO):
            return
        if self._loses(task, status):
            self.lost += 1
            return
        message = render(task, status, text)
        for _ in range(2 if self._switches.duplicate_statuses else 1):
            if self._switches.reorder_statuses:
                self._hold(config["statusStreamName"], message)
            else:
                self._append(config["statusStreamName"], message)

    def flush(self) -> None:
        """Write what was held back, in another order."""
        held, self._held = self._held, []
        self._random.shuffle(held)
        for stream, message in held:
            self._append(stream, message)

    def _loses(self, task: ExportTask, status: Status) -> bool:
        lose = self._switches.lose_statuses
        if callable(lose):
            return lose(task, status)
        if status is not Status.SUCCESS or not lose:
            return False
        self._successes += 1
        return self._successes % lose == 0

    def _hold(self, stream: str, message: bytes) -> None:
        if not self._held:
            asyncio.get_running_loop().call_later(HOLD_SECONDS, self.flush)
        self._held.append((stream, message))
        if len(self._held) >= self._switches.reorder_statuses:
            self.flush()

    def _append(self, name: str, message: bytes) -> None:
        try:
            self._store.find(name).append(message)
        except Refusal:
            self.lost += 1


def render(task: ExportTask, status: Status, text: str) -> bytes:
    """Make the JSON around the task's own bytes: the task is echoed exactly as it came."""
    definition = b"" if task.problem else b'"s3ExportTaskDefinition": %b, ' % task.payload
    message = b'"message": %b, ' % json.dumps(text).encode() if text else b""
    return b'{"eventType": 0, "statusLevel": %d, "status": %d, "statusContext": {%b%b%d}, %b%b%d}' % (
        LEVELS[status],
        status,
        definition,
        _address(task.identifier, task.stream),
        task.sequence,
        message,
        b'"timestampEpochMs": ',
        time.time_ns() // 1_000_000,
    )


@functools.lru_cache
def _address(identifier: str, stream: str) -> bytes:
    names = f'"exportIdentifier": {json.dumps(identifier)}, "streamName": {json.dumps(stream)}'
    return f'{names}, "sequenceNumber": '.encode()
