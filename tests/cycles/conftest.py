from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.standins import s3
from tests.whole.plant import BUCKET
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
def folder(tmp_path: Path) -> Iterator[Path]:
    """A folder in memory where there is one: dying processes lose nothing there either, and fsync is free."""
    if not os.access(MEMORY, os.W_OK):
        yield tmp_path / "memory"
        return
    with tempfile.TemporaryDirectory(prefix="tidegate-", dir=MEMORY) as name:
        yield Path(name)


@pytest.fixture(scope="session")
def endpoint() -> Iterator[str]:
    """A pretended S3 with one bucket, for all tests: each keeps to a prefix of its own."""
    with s3.serving() as url:
        s3.client(url).create_bucket(Bucket=BUCKET)
        yield url
