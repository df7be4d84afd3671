from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.fleet.rig import Mothership

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


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
