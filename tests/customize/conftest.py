"""A namer for each piece of code, and an end for each process."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.customize.helpers import namer_of, source_with
from tests.direct.conftest import on_faulty, rig
from tests.helpers import the_source
from tidegate.customize import Namer

__all__ = ["on_faulty", "rig"]

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@pytest.fixture
def ruled() -> Iterator[Callable[..., Namer]]:
    """Make the namer of a source with these rules."""
    made: list[Namer] = []

    def make(rules: Any, **keys: Any) -> Namer:
        made.append(Namer(the_source("/data", "**", Rules=rules, **keys), "press-7", None))
        return made[-1]

    yield make
    for namer in made:
        namer.close()


@pytest.fixture
def customized(tmp_path: Path) -> Iterator[Callable[..., Namer]]:
    """Make the namer of a source with this code in a file of this ending."""
    made: list[Namer] = []

    def make(code: str, ending: str = "star", **keys: Any) -> Namer:
        made.append(namer_of(source_with(tmp_path / f"names{len(made)}.{ending}", code, **keys), tmp_path))
        return made[-1]

    yield make
    for namer in made:
        namer.close()
