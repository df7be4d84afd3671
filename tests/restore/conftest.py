"""The archive to test against with clients for it, and a rig of jobs that run against one."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

import pytest

from tests.restore.rig import Rig, rigged
from tests.restore.shell import HOURS_IN_A_SECOND, Shell
from tests.standins.glacier import GlacierStandIn

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

HALF_PAST_TEN = datetime(2026, 1, 15, 10, 30, tzinfo=timezone.utc).timestamp()
ONE_ATTEMPT = {"total_max_attempts": 1}


@pytest.fixture
def glacier() -> Iterator[GlacierStandIn]:
    """An empty one, at half past ten in the morning."""
    with GlacierStandIn(start=HALF_PAST_TEN) as standin:
        yield standin


@pytest.fixture
def s3(glacier: GlacierStandIn) -> Iterator[Any]:
    """A client that tries once."""
    client = glacier.client("s3", retries=ONE_ATTEMPT)
    yield client
    client.close()


@pytest.fixture
def control(glacier: GlacierStandIn) -> Iterator[Any]:
    client = glacier.client("s3control", retries=ONE_ATTEMPT)
    yield client
    client.close()


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    """A stand-in for Glacier that throttles nobody, and an empty work directory."""
    with rigged(tmp_path) as rig:
        yield rig


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    with GlacierStandIn(speed=HOURS_IN_A_SECOND) as glacier:
        made = Shell(glacier, tmp_path)
        yield made
        made.close()
