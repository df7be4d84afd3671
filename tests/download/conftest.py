"""What the tests of downloads share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.download.rig import Desk
from tests.standins.faulty_s3 import FaultyS3

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@pytest.fixture
def s3() -> Iterator[FaultyS3]:
    with FaultyS3() as server:
        yield server


@pytest.fixture
def make_desk(tmp_path: Path, s3: FaultyS3) -> Iterator[Callable[..., Desk]]:
    made: list[Desk] = []

    def make(**keys: Any) -> Desk:
        made.append(Desk(tmp_path, s3, **keys))
        return made[-1]

    yield make
    for desk in made:
        desk.stop()


@pytest.fixture
def desk(make_desk: Callable[..., Desk]) -> Desk:
    return make_desk()
