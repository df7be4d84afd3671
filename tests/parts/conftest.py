"""Every part is tested on its own, with real files and a real ledger."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator


MEMORY = Path("/dev/shm")


@pytest.fixture
def open_root() -> Iterator[Path]:
    """A folder that any user can reach (the temporary folders of pytest are their owner's alone)."""
    with tempfile.TemporaryDirectory(prefix="tidegate-test-") as name:
        folder = Path(name)
        folder.chmod(0o777)
        yield folder
