"""Every promise names a test that shows it, and every test that is named there exists."""

from __future__ import annotations

import ast
import re
from functools import lru_cache
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
PROMISES = (TESTS.parent / "docs" / "PROMISES.md").read_text(encoding="utf-8")
PARTS = re.split(r"^\*\*(\d+)\.\*\* ", PROMISES, flags=re.MULTILINE)[1:]
NUMBERS = [int(number) for number in PARTS[::2]]
NAMED = [re.findall(r"^- `(.+?)::(\w+)`$", part, re.MULTILINE) for part in PARTS[1::2]]


@lru_cache
def names_in(path: Path) -> frozenset[str]:
    """Functions and methods, and what a module assigns: hypothesis makes a test case that way."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    functions = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
    targets = [target for node in tree.body if isinstance(node, ast.Assign) for target in node.targets]
    return frozenset(functions | {target.id for target in targets if isinstance(target, ast.Name)})


def test_promises_are_numbered_one_by_one() -> None:
    assert len(NUMBERS) > 20
    assert list(range(1, len(NUMBERS) + 1)) == NUMBERS


@pytest.mark.parametrize(("number", "named"), list(zip(NUMBERS, NAMED, strict=True)), ids=map(str, NUMBERS))
def test_a_promise_names_tests_that_exist(number: int, named: list[tuple[str, str]]) -> None:
    assert named, f"promise {number} names no test"
    for file, name in named:
        assert name.lower().startswith("test")
        assert name in names_in(TESTS / file), f"promise {number}: there is no {name} in {file}"


def test_every_line_that_names_a_test_is_understood() -> None:
    assert sum(map(len, NAMED)) == PROMISES.count("::")
