"""Every part is tested on its own, with real files and a real ledger."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tidegate.disk.writers import ignore_lease_signals
from tidegate.ledger import Ledger

if TYPE_CHECKING:
    from collections.abc import Iterator


MEMORY = Path("/dev/shm")


@pytest.fixture(autouse=True)
def _no_signal() -> None:
    """Do as the agent does: the kernel would end us when somebody waits for a lease of ours."""
    ignore_lease_signals()


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    """An empty ledger on the disk, whose waits are neither shortened nor stretched by chance."""
    ledger = Ledger(tmp_path / "ledger.db", jitter=lambda: 0.5)
    yield ledger
    ledger.close()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A folder to be watched."""
    folder = tmp_path / "data"
    folder.mkdir()
    return folder


@pytest.fixture
def open_root() -> Iterator[Path]:
    """A folder that any user can reach (the temporary folders of pytest are their owner's alone)."""
    with tempfile.TemporaryDirectory(prefix="tidegate-test-") as name:
        folder = Path(name)
        folder.chmod(0o777)
        yield folder


@pytest.fixture
def big_root(tmp_path: Path) -> Iterator[Path]:
    """A folder for very many files: in memory where there is one, since making them on a disk takes long."""
    if not os.access(MEMORY, os.W_OK):
        yield tmp_path
        return
    with tempfile.TemporaryDirectory(prefix="tidegate-test-", dir=MEMORY) as name:
        yield Path(name)
