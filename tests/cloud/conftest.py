"""One server of moto for all tests; each has a stack of its own, but for those that change nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.cloud.rig import App, Moto, app, moto

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="session")
def server() -> Iterator[Moto]:
    with moto() as made:
        yield made


@pytest.fixture
def cloud(server: Moto) -> Iterator[App]:
    with app(server) as made:
        yield made


@pytest.fixture(scope="module")
def untouched(server: Moto) -> Iterator[App]:
    """For tests that see that nothing was done: there are no jobs and no events, before and after each."""
    with app(server) as made:
        yield made
