"""What the README and the examples show can be taken as it is."""

from __future__ import annotations

import configparser
import json
import re
from pathlib import Path

import pytest
import yaml

from tidegate.cli import EXIT_CODES
from tidegate.config import parse
from tidegate.config.file import load
from tidegate.config.keys import AGENT, SOURCE

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
EXAMPLES = sorted((ROOT / "examples").glob("*.yaml"))
DOCUMENTS = sorted([ROOT / "README.md", ROOT / "CHANGELOG.md", *(ROOT / "docs").rglob("*.md")])


def section(heading: str) -> str:
    (found,) = re.findall(rf"^## {re.escape(heading)}\n(.*?)(?=^## |\Z)", README, re.DOTALL | re.MULTILINE)
    return found


def rows(heading: str) -> list[list[str]]:
    lines = [line for line in section(heading).splitlines() if re.match(r"\| [`\d]", line)]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_an_example_is_a_good_configuration(path: Path) -> None:
    assert parse(load(path)).sources


def test_there_is_an_example_of_each_kind() -> None:
    assert {path.stem for path in EXAMPLES} == {"minimal", "two-sources", "keep", "move", "direct", "cycle"}


def test_the_configurations_that_the_readme_shows_are_good_ones() -> None:
    texts = re.findall(r"^ *```yaml\n(.*?)^ *```", README, re.DOTALL | re.MULTILINE)
    assert len(texts) == 3
    for text in texts:
        assert parse(yaml.safe_load(text)).sources


def test_the_json_that_the_readme_shows_is_json() -> None:
    texts = re.findall(r"^ *```json\n(.*?)^ *```", README, re.DOTALL | re.MULTILINE)
    assert len(texts) == 2
    for text in texts:
        assert json.loads(text)


def test_the_keys_of_the_readme_exist_and_have_these_defaults() -> None:
    keys = {key.name: key for key in (*AGENT, *SOURCE)}
    for names, _, defaults in rows("Configuration"):
        for name in re.findall(r"`(\w+)`", names):
            key = keys[name]
            if name not in {"StreamManager", "S3"}:
                shown = str(key.default) if key.default not in {None, "", ()} else ""
                assert f"`{shown}`" in defaults or defaults in {"must be given", "nothing", "none"}
                assert (defaults == "must be given") == bool(key.missing)


def test_the_exit_codes_of_the_readme_are_those_of_the_command() -> None:
    told = re.findall(r"^  (\d+) +(.*)$", EXIT_CODES, re.MULTILINE)
    shown = [(code, meaning.replace("`", "")) for code, meaning in rows("Commands and exit codes")]
    assert shown == told


def test_the_unit_runs_the_agent_and_knows_which_ends_are_for_good() -> None:
    unit = configparser.ConfigParser(interpolation=None, strict=False)
    unit.optionxform = str  # type: ignore[assignment,method-assign]
    unit.read(ROOT / "examples" / "tidegate.service")
    service = unit["Service"]
    assert service["ExecStart"].startswith("/opt/tidegate/bin/tidegate run --config ")
    assert f"/var/lib/{service['StateDirectory']}" in service["ExecStart"]
    assert service["RestartPreventExitStatus"].split() == ["2", "11"]
    assert {"2", "11"} <= {code for code, _ in rows("Commands and exit codes")}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_link_leads_to_a_file(document: Path) -> None:
    for target in re.findall(r"\]\(([^)#:]+)\)", document.read_text(encoding="utf-8")):
        assert (document.parent / target).exists(), target
