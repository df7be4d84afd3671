"""One server of moto for all tests; each has a stack of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.cloud.rig import App, app, moto

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="session")
def moto_url() -> Iterator[str]:
    with moto() as url:
        yield url


@pytest.fixture
def cloud(moto_url: str) -> Iterator[App]:
    with app(moto_url) as made:
        yield made
