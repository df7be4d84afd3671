"""What the tests of whole runs share: a bucket that fills at once, and patience."""

from __future__ import annotations

import threading
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.standins.exporter import local_path

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.standins.switches import ExportTask


class RefusedKeyError(Exception):
    """The bucket does not like this key for the time being."""


class Shelf:
    """A bucket without a network: the `on_export` hook of a stand-in with `noop_exporter`.

    `refusing` says how many more times each key is refused. `tries` counts attempts by promise.
    """

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.refusing: Counter[str] = Counter()
        self.tries: Counter[str] = Counter()

    def __call__(self, task: ExportTask) -> None:
        self.tries[task.metadata["tidegate-id"]] += 1
        if self.refusing[task.key] > 0:
            self.refusing[task.key] -= 1
            raise RefusedKeyError(task.key)
        self.objects[task.key] = Path(local_path(task.input_url, percent_decode=False)).read_bytes()


def eventually(condition: Callable[[], Any], seconds: float = 20.0, *, pause: float = 0.02) -> Any:
    """Return the first true result of `condition`."""
    deadline = time.monotonic() + seconds
    nothing = threading.Event()
    while time.monotonic() < deadline:
        if result := condition():
            return result
        nothing.wait(pause)
    raise AssertionError(f"not within {seconds} seconds")
