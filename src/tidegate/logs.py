"""How a line of the log looks: text for people or JSON for machines, on standard output."""

from __future__ import annotations

import json
import logging
import sys
import time
from datetime import datetime, timezone
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from collections.abc import Callable

    from tidegate.model import Transfer

REPEAT_SECONDS = 60.0
BURST = 20
"""Of lines that differ only in what they are about, this many are written in each `REPEAT_SECONDS`."""

_QUIET_LOGGERS = ("asyncio",)  # the SDK's loop complains there of tasks that were pending when we hung up


class JsonLines(logging.Formatter):
    """One JSON object a line: time, level, logger, message, and the fields of what it is about."""

    def format(self, record: logging.LogRecord) -> str:
        """See logging.Formatter."""
        line: dict[str, object] = {
            "timestamp": datetime.fromtimestamp(record.created, timezone.utc).isoformat(
                timespec="milliseconds"
            ),
            "level": record.levelname,
            "loggerName": record.name,
            "message": record.getMessage(),
        }
        line |= getattr(record, "fields", {})
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=True)


def about(event: str, transfer: Transfer, **more: object) -> dict[str, dict[str, object]]:
    """Return the `extra` of a log line that tells what happened to a promise."""
    body, target = transfer.body, transfer.target
    fields = {"event": event, "source": transfer.source, "path": body.path, "size": body.fingerprint.size}
    return {"fields": {**fields, "bucket": target.bucket, "key": target.key, **more}}


class Lines(logging.Formatter):
    """One line for people. File names cannot break it into two."""

    converter = staticmethod(time.gmtime)

    def __init__(self) -> None:
        super().__init__("%(asctime)s.%(msecs)03dZ %(levelname)-7s %(message)s", "%Y-%m-%dT%H:%M:%S")

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - its name in the base class
        """See logging.Formatter."""
        text = super().formatMessage(record)
        return text if text.isprintable() else text.encode("unicode_escape").decode("ascii")


class RateLimit(logging.Filter):
    """Lets through a burst of lines of one kind, then none until the minute is over, and says how many.

    Lines at INFO and below are one for each promise kept; they are not limited.
    """

    def __init__(self, steady: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._steady = steady
        self._seen: dict[str, tuple[float, int]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """See logging.Filter."""
        if record.levelno <= logging.INFO:
            return True
        kind = f"{record.name}:{record.lineno}"
        began, count = self._seen.get(kind, (self._steady(), 0))
        if self._steady() - began > REPEAT_SECONDS:
            if count > BURST:
                record.msg = f"{record.msg} [{count - BURST} more like this were left out]"
            began, count = self._steady(), 0
        self._seen[kind] = began, count + 1
        return count < BURST


def set_up(level: str, style: str, stream: TextIO | None = None) -> None:
    """Log to standard output from now on. `style` is Text or Json."""
    handler = logging.StreamHandler(stream or sys.stdout)
    handler.setFormatter(JsonLines() if style == "Json" else Lines())
    handler.addFilter(RateLimit())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    for name in _QUIET_LOGGERS:
        logging.getLogger(name).setLevel(logging.CRITICAL)
