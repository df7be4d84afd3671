"""Routes are tested on a running agent, with a real ledger and real files."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.routes.rig import Rig, rig

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def one(tmp_path: Path) -> Iterator[Rig]:
    """An agent that watches `data` for CSV files and sends them to `bucket`."""
    with rig(tmp_path) as made:
        yield made
