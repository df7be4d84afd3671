"""Every recipe of POLICIES.md is run, and files become what it says."""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from tests.customize.helpers import DECEMBER
from tests.helpers import later, write
from tidegate.config import After, Mode, parse
from tidegate.config.file import load
from tidegate.customize import Namers, Shelf
from tidegate.flows.release import release_stored
from tidegate.flows.scan import Scanner
from tidegate.model import Outcome, Verdict

if TYPE_CHECKING:
    from tidegate.config import Source
    from tidegate.ledger import Ledger

ROOT = Path(__file__).parent.parent.parent
POLICIES = (ROOT / "docs" / "POLICIES.md").read_text(encoding="utf-8")
EXAMPLES = ROOT / "examples" / "policies"
RECIPES = {
    title: text
    for title, text in re.findall(r"^## ([^\n]*)\n(.*?)(?=^## |\Z)", POLICIES, re.DOTALL | re.MULTILINE)
    if "```yaml" in text
}
NEW_YEAR = 1_735_696_800.0  # 2025-01-01T02:00:00Z


def block(text: str, language: str) -> str | None:
    found = re.findall(rf"^```{language}\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    assert len(found) <= 1
    return found[0] if found else None


def outcomes(text: str) -> dict[str, set[str]]:
    rows = re.findall(r"^\| `([^`]+)` \| (.*) \|$", text, re.MULTILINE)
    return {name: set(re.findall(r"`([^`]+)`", said)) or {said} for name, said in rows}


def here(source: dict[str, Any], root: Path) -> dict[str, Any]:
    return {
        name: value.replace("/data", str(root)) if name == "PathName" else value
        for name, value in source.items()
    }


def configured(text: str, root: Path, programs: Path) -> list[Source]:
    """Read the configuration of a recipe, with its folders here."""
    raw = here(yaml.safe_load(block(text, "yaml") or ""), root)
    if "Sources" in raw:
        raw["Sources"] = {name: here(source, root) for name, source in raw["Sources"].items()}
    customizer = raw.get("Customizer", {})
    if "File" in customizer and "FromBucket" not in customizer:
        customizer["File"] = str(programs / Path(customizer["File"]).name)
    return list(parse(raw).sources)


@pytest.mark.parametrize("title", RECIPES)
def test_files_become_what_a_recipe_says(title: str, root: Path, tmp_path: Path, ledger: Ledger) -> None:
    text = RECIPES[title]
    expected = outcomes(text)
    assert expected
    sources = configured(text, root, EXAMPLES)
    for name in expected:
        write(root / name)
        os.utime(root / name, (DECEMBER, DECEMBER))
    fetched: list[str] = []

    def fetch(_: Any, bucket: str, key: str, limit: int) -> bytes:
        fetched.append(f"{bucket}/{key}")
        return (EXAMPLES / Path(key).name).read_bytes()

    namers = Namers("press-7", Shelf(tmp_path / "shelf", fetch))
    found: dict[str, set[str]] = {name: set() for name in expected}
    for source in sources:
        scanner = Scanner(
            source, ledger, carrier="direct", thing="press-7", never=frozenset(), namer=namers.of(source)
        )
        if source.mode is Mode.CYCLE:
            scanner.cycle = ledger.cycles.begin(source.name, "x", now=NEW_YEAR)
        scan = scanner.scan(later())
        assert not scan.problems
        if scan.holds:
            assert {held.why.value for held in scan.held} == {"younger than DelayUploadSeconds"}
            found = {name: {"waits"} for name in found}
        for transfer in ledger.claim(source.name, "direct", limit=100, now=later().wall):
            found[transfer.body.path.removeprefix(f"{root}/")].add(str(transfer.target))
            stored = Outcome(verdict=Verdict.STORED, promise=transfer.id)
            ledger.settle("direct", [stored], position=None, now=later().wall)
    assert {name: where or {"stays"} for name, where in found.items()} == expected
    assert fetched == (["my-programs/code/customizers/names.js"] if "FromBucket" in text else [])
    released(sources, ledger, namers)
    kept = {
        name for name, said in expected.items() if said & {"stays", "waits"} or sources[0].after is After.KEEP
    }
    left = {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()}
    assert left == (set(expected) if sources[0].delete_after_seconds else kept)
    namers.close()


def released(sources: list[Source], ledger: Ledger, namers: Namers) -> None:
    for source in sources:
        others = [other for other in sources if other is not source]
        release_stored(
            source,
            ledger,
            others=others,
            ignores=lambda other, body: namers.ignore(other, body, moment=later()),
            now=later().wall,
        )


def test_the_code_that_recipes_show_is_that_of_the_examples_and_has_their_checksums() -> None:
    shown = {language: block(POLICIES, language) for language in ("star", "js")}
    for language, code in shown.items():
        assert code == (EXAMPLES / f"names.{language}").read_text(encoding="utf-8")
    sums = {hashlib.sha256((code or "").encode()).hexdigest() for code in shown.values()}
    assert set(re.findall(r"Sha256: (\w+)", POLICIES)) == sums
    assert (
        set(re.findall(r"Sha256: (\w+)", (EXAMPLES / "customizer.yaml").read_text(encoding="utf-8"))) <= sums
    )


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.yaml")), ids=lambda path: path.name)
def test_an_example_of_a_policy_is_a_good_configuration(path: Path) -> None:
    (source,) = parse(load(path)).sources
    assert source.rules or source.customizer
