"""What the tests of the Direct carrier share."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import pytest

from tests.depot import Depot
from tests.direct_rig import DirectRig, MotoRig
from tests.standins.faulty_s3 import FaultyS3

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.standins.faulty_s3 import Fault, Seen

_numbers = itertools.count()


@pytest.fixture
def rig(s3_endpoint: str) -> Iterator[MotoRig]:
    rig = MotoRig(s3_endpoint)
    yield rig
    rig.close()


@pytest.fixture
def on_faulty(tmp_path: Path) -> Iterator[Callable[..., tuple[Depot, FaultyS3]]]:
    """Make a depot whose S3 does what a script says. Files of more than 1000 bytes go in parts of 400.

    Keys of the configuration begin with capitals; the others are those of the rig.
    """
    opened: list[tuple[Depot, FaultyS3]] = []

    def make(
        script: Callable[[Seen], Fault | None] = lambda _: None,
        *,
        receive_buffer: int | None = None,
        **keys: Any,
    ) -> tuple[Depot, FaultyS3]:
        server = FaultyS3(script, receive_buffer=receive_buffer).__enter__()
        settings = {"threshold": 1000, "part_size": 400}
        settings |= {name: keys.pop(name) for name in list(keys) if name.islower()}
        root = tmp_path / f"faulty{len(opened)}"
        root.mkdir()
        opened.append((Depot(DirectRig(server.url, **settings), root, "bucket", **keys), server))
        return opened[-1]

    yield make
    for depot, server in opened:
        depot.close()
        server.__exit__()
