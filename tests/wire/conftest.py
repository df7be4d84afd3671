"""What the tests of the Streams carrier share."""

from __future__ import annotations

import gc
import itertools
import warnings
from typing import TYPE_CHECKING

import pytest

from tests.streams_rig import StreamsRig

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.depot import Depot

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


@pytest.fixture
def rig(tmp_path: Path, s3_endpoint: str, request: pytest.FixtureRequest) -> Iterator[StreamsRig]:
    """Mark a test with `rig(settings={...}, switch=...)` to have another one."""
    marker = request.node.get_closest_marker("rig")
    rig = StreamsRig(tmp_path / "sm", s3_endpoint, **(marker.kwargs if marker else {}))
    yield rig
    rig.close()


@pytest.fixture
def depot(make_depot: Callable[..., Depot]) -> Depot:
    return make_depot()
