"""What the tests of the Direct carrier share."""

from __future__ import annotations

import contextlib
import itertools
from typing import TYPE_CHECKING, Any

import pytest

from tests.depot import Depot
from tests.direct_rig import DirectRig, MotoRig
from tests.standins import s3
from tests.standins.faulty_s3 import FaultyS3

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

_numbers = itertools.count()


@pytest.fixture(scope="module")
def s3_endpoint() -> Iterator[str]:
    with s3.serving() as url:
        yield url


@pytest.fixture
def rig(s3_endpoint: str) -> Iterator[MotoRig]:
    rig = MotoRig(s3_endpoint)
    yield rig
    rig.close()


@pytest.fixture
def make_bucket(rig: MotoRig) -> Callable[[], str]:
    """Make buckets that remember every upload."""

    def make() -> str:
        name = f"bucket-{next(_numbers)}"
        rig.s3.create_bucket(Bucket=name)
        rig.s3.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": "Enabled"})
        return name

    return make


@pytest.fixture
def make_depot(
    rig: MotoRig, tmp_path: Path, make_bucket: Callable[[], str]
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
