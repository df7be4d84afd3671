"""A folder of 10,000 mixed files, rules, customizers in both engines, two buckets: and the counters add up."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from tests.customize.helpers import sha256
from tests.fleet.rig import Process
from tests.helpers import environment
from tests.standins.faulty_s3 import FaultyS3, Held
from tests.whole.shelf import eventually

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.slow

FILES = 10_000
NOON = 1_735_646_400
"""Of 31 December 2024, so that keys do not change with the years."""

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
        os.utime(data / name, (NOON, NOON))


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
        os.utime(data / "line0/file0.csv", (NOON + 1, NOON + 1))
        (data / "line1/file1.csv").write_bytes(b"7")
        os.utime(data / "line1/file1.csv", (NOON, NOON))
        third = once(config, work)
        for source in third.values():
            assert words(source) == {"updated": 1, "skipped": 2 * fifth - 1, "ignored": 2 * fifth}
        changed = {key for key, held in server.objects.items() if before[key] is not held}
        assert changed == {"one/L7/2024/line1/file1.csv", "two/L7/line1/file1.csv"}


def test_an_agent_that_runs_takes_new_code_from_the_bucket_and_asks_for_it_when_it_is_told_to(
    tmp_path: Path,
) -> None:
    codes = [f"module.exports = function (name) {{ return 'v{number}/' + name; }};" for number in (1, 2)]
    data, file = tmp_path / "data", tmp_path / "config.yaml"
    data.mkdir()
    with FaultyS3() as server:
        customizer = {"File": "names.js", "FromBucket": "programs", "FromPrefix": "code"}
        keys = {"PathName": f"{data}/*", "BucketName": "bucket", "Carrier": "Direct", "HoldBack": "None"}
        keys |= {"QuietSeconds": 0, "Interval": 0.2, "S3": {"EndpointUrl": server.url}}

        def configure(code: str) -> None:
            wanted = {**keys, "Customizer": {**customizer, "Sha256": sha256(code)}}
            file.with_suffix(".new").write_text(yaml.safe_dump(wanted), encoding="utf-8")
            file.with_suffix(".new").replace(file)

        configure(codes[0])
        arguments = ("run", "--config", str(file), "--work-dir", str(tmp_path / "work"))
        agent = Process(tmp_path, "agent", *arguments, AWS_ACCESS_KEY_ID="id", AWS_SECRET_ACCESS_KEY="key")
        try:
            (data / "a.csv").write_text("1")
            eventually(lambda: "s3://programs/code/names.js cannot be fetched" in agent.log)
            server.objects["programs/code/names.js"] = Held(codes[0].encode())
            os.kill(agent.pid, signal.SIGHUP)  # as every way to ask for a scan
            eventually(lambda: "bucket/v1/a.csv" in server.objects)
            server.objects["programs/code/names.js"] = Held(codes[1].encode())
            configure(codes[1])
            eventually(lambda: "the configuration has changed" in agent.log)
            (data / "b.csv").write_text("2")
            eventually(lambda: {"bucket/v1/b.csv", "bucket/v2/b.csv"} & server.objects.keys())
            assert "bucket/v2/b.csv" in server.objects
        finally:
            agent.kill()
