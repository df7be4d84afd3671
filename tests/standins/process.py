"""What the stand-ins need when they run as processes of their own."""

from __future__ import annotations

import signal
import threading


def wait_for_signal() -> None:
    """Return at SIGTERM or SIGINT."""
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    stop.wait()
