"""The documents say what the code does."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import yaml

from tidegate.config import KEYS, parse
from tidegate.config.naming import DIRECTIVES, FIELDS, KeyTemplate, escape

if TYPE_CHECKING:
    from tidegate.config.schema import Key

CONFIGURATION = (Path(__file__).parent.parent / "docs" / "CONFIGURATION.md").read_text(encoding="utf-8")
HEADINGS = (
    *("Keys at the top", "Keys of a source", "Keys under StreamManager", "Keys under S3"),
    "Keys under Events",
    "Keys under Home",
    "Keys under Restore",
    *("Keys of a download", "Keys of a socket"),
    "Keys of a rule",
    "Keys under Customizer",
)
EXAMPLES = re.findall(r"^```(yaml|json)\n(.*?)^```$", CONFIGURATION, re.DOTALL | re.MULTILINE)


def section(heading: str) -> str:
    (found,) = re.findall(
        rf"^## {re.escape(heading)}\n(.*?)(?=^## |\Z)", CONFIGURATION, re.DOTALL | re.MULTILINE
    )
    return found


def rows(heading: str) -> list[list[str]]:
    lines = [line for line in section(heading).splitlines() if line.startswith("| `")]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]


def key_rows() -> list[list[str]]:
    return [row for heading in HEADINGS for row in rows(heading)]


def default_in_words(key: Key) -> str:
    if key.missing:
        return "must be given"
    if key.default is None:
        return "none"
    return f"`{key.default}`" if key.default not in {"", ()} else "nothing"


def test_every_configuration_key_is_documented_and_every_documented_key_exists() -> None:
    assert [row[0].strip("`") for row in key_rows()] == [key.name for key in KEYS]


@pytest.mark.parametrize("number", range(len(KEYS)), ids=lambda number: KEYS[number].name)
def test_a_key_is_documented_with_its_default_and_an_example_that_is_taken(number: int) -> None:
    key, (_, meaning, default, example) = KEYS[number], key_rows()[number]
    assert meaning.endswith(".")
    assert default == default_in_words(key)
    assert example.startswith("`")
    key.kind.read(yaml.safe_load(example.strip("`")))


@pytest.mark.parametrize("key", KEYS, ids=lambda key: key.name)
def test_a_key_says_in_one_line_what_it_takes_and_what_it_is_for(key: Key) -> None:
    assert key.kind.words
    assert key.meaning.endswith(".")
    assert len(key.meaning) < 80


def test_there_are_examples_in_both_notations() -> None:
    assert {notation for notation, _ in EXAMPLES} == {"yaml", "json"}


@pytest.mark.parametrize(("notation", "text"), EXAMPLES)
def test_every_example_of_a_configuration_is_taken(notation: str, text: str) -> None:
    config = parse(yaml.safe_load(text) if notation == "yaml" else json.loads(text))
    assert config.sources or config.objects


def test_every_field_of_a_key_template_is_documented_with_what_it_gives() -> None:
    documented = {row[0].strip("`{}").partition(":")[0]: row for row in rows("Key templates")}
    assert tuple(documented) == FIELDS
    for field in ("path", "dir", "name", "stem", "ext"):
        template = KeyTemplate.parse(f"{{{field}}}:{{path}}")
        key = template.render(prefix="", thing="", source="", path="a/b c.tar.gz", mtime_ns=0, now=0)
        assert documented[field][2] == f"`{key.partition(':')[0]}`"


def test_every_directive_of_a_time_is_documented() -> None:
    assert set(re.findall(r"`(%\w)` \(", section("Key templates"))) == set(DIRECTIVES)


def test_every_example_of_an_escaped_name_is_right() -> None:
    examples = [(name.strip("`"), key.strip("`")) for name, key in rows("Names in keys")]
    assert examples
    for name, key in examples:
        assert escape(name) == key
