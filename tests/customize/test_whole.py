"""A folder of 10,000 mixed files, rules, customizers in both engines, two buckets: and the counters add up."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from tests.customize.helpers import sha256
from tests.helpers import environment
from tests.standins.faulty_s3 import FaultyS3

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.slow

FILES = 10_000
ENDINGS = ("csv", "log", "tmp", "bin", "dat")
STAR = """
def customize(name, settings, stat):
    if name.endswith(".bin"):
        return None
    if name.endswith(".dat"):
        return "../" + name
    return settings["line"] + "/" + stat["time"][:4] + "/" + name
"""
JS = """
module.exports = function (filename, settings) {
  if (/dat$/.test(filename)) throw new Error('no dat');
  return /(csv|log)$/.test(filename) ? settings.line + '/' + filename : null;
};
"""


def fill(data: Path) -> None:
    for folder in range(10):
        (data / f"line{folder}").mkdir(parents=True)
    for number in range(FILES):
        name = f"line{number % 10}/file{number}.{ENDINGS[number // 10 % len(ENDINGS)]}"
        (data / name).write_bytes(b"%d" % number)


def configuration(data: Path, folder: Path, url: str) -> dict[str, Any]:
    shared = {"PathName": f"{data}/**"}
    codes = {"star": STAR, "js": JS}
    for ending, code in codes.items():
        (folder / f"names.{ending}").write_text(code, encoding="utf-8")
    customizers = {
        ending: {"File": f"{folder}/names.{ending}", "Sha256": sha256(code), "Settings": {"line": "L7"}}
        for ending, code in codes.items()
    }
    rules = [{"Match": "*.tmp", "Ignore": True}, {"Match": "{line}/{file}.log", "Key": "logs/{line}/{file}"}]
    return {
        "HoldBack": "None",
        "QuietSeconds": 0,
        "After": "Keep",
        "Carrier": "Direct",
        "LogLevel": "ERROR",
        "S3": {"EndpointUrl": url},
        "Sources": {
            "star": {"BucketName": "one", "Rules": rules, "Customizer": customizers["star"], **shared},
            "js": {"BucketName": "two", "Customizer": customizers["js"], **shared},
        },
    }


def once(config: Path, work: Path) -> dict[str, Any]:
    """Make one pass as a process, and tell what its status says of the sources."""
    keys = {**environment(), "AWS_ACCESS_KEY_ID": "id", "AWS_SECRET_ACCESS_KEY": "key"}
    command = [sys.executable, "-m", "tidegate"]
    run = subprocess.run(
        [*command, "run", "--once", "--config", config, "--work-dir", work],
        env=keys,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 4, run.stderr[-2000:]  # some have no name
    status = subprocess.run(
        [*command, "status", "--json", "--work-dir", work], env=keys, capture_output=True, check=True
    )
    found = json.loads(status.stdout)["sources"]
    assert isinstance(found, dict)
    return found


def words(source: dict[str, Any]) -> dict[str, int]:
    return {
        name: source["counters"][name]
        for name in ("added", "updated", "skipped", "ignored", "unchanged")
        if source["counters"].get(name)
    }


def test_ten_thousand_mixed_files_go_where_they_belong_and_the_counters_add_up(tmp_path: Path) -> None:
    data, work, config = tmp_path / "data", tmp_path / "work", tmp_path / "config.yaml"
    fill(data)
    fifth = FILES // 5
    with FaultyS3(lambda _: server.seen.clear()) as server:  # type: ignore[func-returns-value]
        config.write_text(yaml.safe_dump(configuration(data, tmp_path, server.url)), encoding="utf-8")
        first = once(config, work)
        for source in first.values():
            assert source["found"] == FILES == sum(words(source).values()) + source["held"]
            assert source["holds"] == {"no key could be found for it": fifth}
            assert words(source) == {"added": 2 * fifth, "ignored": 2 * fifth}
        kinds = Counter(key.split("/")[0] + " " + key.split("/")[1] for key in server.objects)
        assert kinds == {"one logs": fifth, "one L7": fifth, "two L7": 2 * fifth}
        second = once(config, work)
        for source in second.values():
            assert words(source) == {"added": 2 * fifth, "ignored": 4 * fifth, "unchanged": 2 * fifth}
        shutil.rmtree(work)
        before = dict(server.objects)
        os.utime(data / "line0/file0.csv")
        (data / "line1/file1.csv").write_bytes(b"7")
        third = once(config, work)
        for source in third.values():
            assert words(source) == {"updated": 1, "skipped": 2 * fifth - 1, "ignored": 2 * fifth}
        changed = {key for key, held in server.objects.items() if before[key] is not held}
        assert changed == {"one/L7/2026/line1/file1.csv", "two/L7/line1/file1.csv"}
