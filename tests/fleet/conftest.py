from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.fleet.rig import Mothership

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

MEMORY = Path("/dev/shm")


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A folder in memory where there is one: fsync is free there."""
    if not os.access(MEMORY, os.W_OK):
        yield tmp_path
        return
    with tempfile.TemporaryDirectory(prefix="tidegate-", dir=MEMORY) as name:
        yield Path(name)


@pytest.fixture
def mothership(folder: Path) -> Iterator[Callable[..., Mothership]]:
    """Start a mothership; it is killed in the end."""
    started: list[Mothership] = []

    def start(*more: str) -> Mothership:
        started.append(Mothership(folder, *more))
        return started[-1]

    yield start
    for one in started:
        one.kill()
