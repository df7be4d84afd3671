"""From a configuration that names a mothership to what calls it."""

from __future__ import annotations

import functools
import secrets
from typing import TYPE_CHECKING

from tidegate.clock import Clock
from tidegate.home.caller import ROUND_SECONDS, Home
from tidegate.home.memory import KEYS_FILE, Memory
from tidegate.home.overlay import Overlay
from tidegate.home.wire import Https
from tidegate.store.credentials import HANDED_OUT

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from tidegate.config import HomeSettings
    from tidegate.home.overlay import Local
    from tidegate.home.wire import Line

FOLDER = "home"
"""Within the work directory."""


def open_home(
    settings: HomeSettings,
    folder: Path,
    local: Local,
    *,
    name: str,
    environment: Mapping[str, str],
    round_seconds: float = ROUND_SECONDS,
) -> tuple[Overlay, Home]:
    """Make what calls the mothership, and what puts its word over the `local` one, for that work directory.

    What is kept is read at once, and nobody called yet.
    """
    memory = Memory(folder / FOLDER)
    overlay = Overlay(local, memory)
    home = Home(
        settings,
        memory,
        overlay,
        functools.partial(_line, memory=memory, name=name, environment=environment),
        clock=Clock(),
        jitter=lambda: secrets.randbelow(1024) / 1024,
        round_seconds=round_seconds,
    )
    return overlay, home


def _line(settings: HomeSettings, memory: Memory, *, name: str, environment: Mapping[str, str]) -> Line:
    """Make the way that the URL asks for."""
    if settings.url.startswith("mqtt"):
        from tidegate.home.mqtt import Mqtt  # noqa: PLC0415 - an extra

        return Mqtt(settings, name=name)
    return Https(settings, memory, name=name, environment=environment)


def with_credentials(
    settings: HomeSettings, folder: Path, environment: Mapping[str, str]
) -> Mapping[str, str]:
    """Return the environment, or one in which the mothership's credentials take the place of all others."""
    if settings.credentials != "mothership":
        return environment
    return {**environment, HANDED_OUT: str(folder / FOLDER / KEYS_FILE)}
