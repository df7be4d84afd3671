"""What is told about files that rules and customizers decide about."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import yaml

from tests.customize.helpers import STAR, sha256
from tests.helpers import environment, later, write
from tidegate.config import parse
from tidegate.customize import Namers, Shelf
from tidegate.view.explain import explain

if TYPE_CHECKING:
    from pathlib import Path

    from tidegate.view.explain import Finding

CODE = f"{STAR}    return '../x' if 'bad' in name else 'code/' + name\n"


def configuration(root: Path, folder: Path) -> dict[str, Any]:
    (folder / "names.star").write_text(CODE, encoding="utf-8")
    return {
        "PathName": f"{root}/**",
        "BucketName": "bucket",
        "HoldBack": "None",
        "QuietSeconds": 0,
        "Carrier": "Direct",
        "Rules": [{"Match": "*.tmp", "Ignore": True}, {"Match": "{day}.csv", "Key": "csv/{day}"}],
        "Customizer": {"File": f"{folder}/names.star", "Sha256": sha256(CODE)},
    }


def test_a_finding_says_the_key_or_that_the_file_is_ignored_or_why_it_has_none(
    root: Path, tmp_path: Path
) -> None:
    config = parse(configuration(root, tmp_path))
    namers = Namers("thing", Shelf(tmp_path / "shelf", lambda *_: b"", only_look=True))

    def about(name: str) -> Finding:
        (found,) = explain(
            str(write(root / name)),
            config,
            choose=lambda _: ("direct", "because"),
            thing="thing",
            never=frozenset(),
            moment=later(),
            namers=namers,
        )
        return found

    assert about("monday.csv").target == "s3://bucket/csv/monday"
    assert about("a.log").target == "s3://bucket/code/a.log"
    ignored, bad = about("a.tmp"), about("bad.log")
    assert (ignored.target, ignored.ignored, ignored.held) == (None, True, None)
    assert (bad.target, bad.ignored) == (None, False)
    assert bad.held is not None
    assert bad.held.startswith("key_impossible")
    namers.close()
    assert not (tmp_path / "shelf").exists()


def test_the_command_says_it_in_words_and_as_json(root: Path, tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    config.write_text(yaml.safe_dump(configuration(root, tmp_path)), encoding="utf-8")
    said = {}
    for name in ("a.log", "a.tmp", "bad.log"):
        command = [
            "explain",
            str(write(root / name)),
            "--config",
            str(config),
            "--work-dir",
            str(tmp_path / "work"),
        ]
        run = subprocess.run(
            [sys.executable, "-m", "tidegate", *command],
            env=environment(),
            capture_output=True,
            text=True,
            check=True,
        )
        said[name] = run.stdout
        as_json = subprocess.run(
            [sys.executable, "-m", "tidegate", *command, "--json"],
            env=environment(),
            capture_output=True,
            check=True,
        )
        assert json.loads(as_json.stdout)["sources"][0]["ignored"] == (name == "a.tmp")
    assert "it goes to s3://bucket/code/a.log" in said["a.log"]
    assert "a rule or the customizer says that it is not to be sent" in said["a.tmp"]
    assert "key_impossible" in said["bad.log"]
    assert "it goes to" not in said["bad.log"]
