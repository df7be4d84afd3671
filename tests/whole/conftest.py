from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.standins import s3
from tests.whole.plant import BUCKET

if TYPE_CHECKING:
    from collections.abc import Iterator

MEMORY = Path("/dev/shm")


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
