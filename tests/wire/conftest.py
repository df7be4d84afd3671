"""What the tests of the Streams carrier share."""

from __future__ import annotations

import gc
import itertools
import warnings
from typing import TYPE_CHECKING, Any

import pytest

from tests.depot import Depot
from tests.standins import s3
from tests.streams_rig import StreamsRig

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

_numbers = itertools.count()


def pytest_runtest_logfinish(nodeid: str) -> None:
    """Collect what the SDK's client leaves behind before another test is blamed for it.

    Only the stand-in's own tests use that client bare; on Python 3.10 its sockets are found late.
    """
    if "test_streammanager_standin" in nodeid:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)
            gc.collect()


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "rig(**arguments): how the test's Stream Manager is set up")


@pytest.fixture(scope="module")
def s3_endpoint() -> Iterator[str]:
    with s3.serving() as url:
        yield url


@pytest.fixture
def rig(tmp_path: Path, s3_endpoint: str, request: pytest.FixtureRequest) -> Iterator[StreamsRig]:
    """Mark a test with `rig(settings={...}, switch=...)` to have another one."""
    marker = request.node.get_closest_marker("rig")
    rig = StreamsRig(tmp_path / "sm", s3_endpoint, **(marker.kwargs if marker else {}))
    yield rig
    rig.close()


@pytest.fixture
def make_bucket(rig: StreamsRig) -> Callable[[], str]:
    """Make buckets that remember every upload."""

    def make() -> str:
        name = f"bucket-{next(_numbers)}"
        rig.s3.create_bucket(Bucket=name)
        rig.s3.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": "Enabled"})
        return name

    return make


@pytest.fixture
def make_depot(
    rig: StreamsRig, tmp_path: Path, make_bucket: Callable[[], str]
) -> Iterator[Callable[..., Depot]]:
    depots: list[Depot] = []

    def make(bucket: str | None = None, **keys: Any) -> Depot:
        root = tmp_path / f"depot{len(depots)}"
        root.mkdir()
        depots.append(Depot(rig, root, bucket or make_bucket(), **keys))
        return depots[-1]

    yield make
    for depot in depots:
        depot.close()


@pytest.fixture
def depot(make_depot: Callable[..., Depot]) -> Depot:
    return make_depot()
