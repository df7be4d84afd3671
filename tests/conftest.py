"""What all tests share."""

from __future__ import annotations

import itertools
import signal
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.depot import Depot
from tests.helpers import MEMORY
from tests.standins import s3
from tests.whole.plant import BUCKET
from tidegate.disk.writers import ignore_lease_signals
from tidegate.ledger import Ledger

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

_numbers = itertools.count()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, Any, Any]:
    """Write names of files that are no text in escapes: what a worker process reports has to be text."""
    report = yield
    report.sections = [
        (title, content.encode("utf-8", "backslashreplace").decode()) for title, content in report.sections
    ]
    return report


@pytest.fixture(scope="session", autouse=True)
def _signals() -> None:
    """Do as the agent does: the kernel would end us when somebody waits for a lease of ours.

    And let processes that are started here be interrupted, also where a shell runs the tests behind its back:
    that has them ignore it.
    """
    ignore_lease_signals()
    signal.signal(signal.SIGINT, signal.default_int_handler)


# Folders and a ledger


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder in memory where that is possible: fsync is free there."""
    with tempfile.TemporaryDirectory(prefix="tidegate-test-", dir=MEMORY) as name:
        yield Path(name)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A folder to be watched."""
    folder = tmp_path / "data"
    folder.mkdir()
    return folder


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    """An empty ledger on the disk, whose waits are neither shortened nor stretched by chance."""
    ledger = Ledger(tmp_path / "ledger.db", jitter=lambda: 0.5)
    yield ledger
    ledger.close()


# S3


@pytest.fixture(scope="session")
def s3_endpoint() -> Iterator[str]:
    """A pretended S3 for all tests: each keeps to a bucket of its own, or to a prefix."""
    with s3.serving() as url:
        yield url


@pytest.fixture
def endpoint(s3_endpoint: str) -> str:
    """One with a bucket for those that keep to a prefix. Whoever serves a fresh one has all buckets forgotten."""
    s3.client(s3_endpoint).create_bucket(Bucket=BUCKET)
    return s3_endpoint


@pytest.fixture
def make_bucket(rig: Any) -> Callable[[], str]:
    """Make buckets that remember every upload."""

    def make() -> str:
        name = f"bucket-{next(_numbers)}"
        rig.s3.create_bucket(Bucket=name)
        rig.s3.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": "Enabled"})
        return name

    return make


@pytest.fixture
def make_depot(rig: Any, tmp_path: Path, make_bucket: Callable[[], str]) -> Iterator[Callable[..., Depot]]:
    """Make depots, each around another folder, on the rig of the carrier that is tested."""
    depots: list[Depot] = []

    def make(bucket: str | None = None, **keys: Any) -> Depot:
        root = tmp_path / f"depot{len(depots)}"
        root.mkdir()
        depots.append(Depot(rig, root, bucket or make_bucket(), **keys))
        return depots[-1]

    yield make
    for depot in depots:
        depot.close()
