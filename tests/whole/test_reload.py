"""A configuration file that is edited while the agent uploads by it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from tests.helpers import eventually, write
from tests.standins.faulty_s3 import Fault, FaultyS3, Held, error
from tidegate.view import snapshot

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

pytestmark = pytest.mark.slow

KEYS = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret"}
KIB = 1024


@pytest.fixture
def s3() -> Iterator[FaultyS3]:
    with FaultyS3() as server:
        yield server


@pytest.fixture
def configure(tmp_path: Path, s3: FaultyS3) -> Callable[..., None]:
    """Write the configuration as editors do: beside, then over the old one."""

    def configure(**keys: Any) -> None:
        raw = {
            "PathName": f"{tmp_path}/data/*",
            "BucketName": "bucket",
            "Interval": 0.5,
            "QuietSeconds": 0,
            "HoldBack": "None",
            "S3": {"EndpointUrl": s3.url},
        }
        part = tmp_path / "config.part"
        part.write_text(json.dumps({key: value for key, value in (raw | keys).items() if value is not None}))
        part.replace(tmp_path / "config.yaml")

    return configure


@pytest.fixture
def agent(tmp_path: Path, configure: Callable[..., None]) -> Iterator[Path]:
    """Run the agent at 128 KiB a second, and yield its log."""
    (tmp_path / "data").mkdir()
    configure(BandwidthLimit="128k")
    log = tmp_path / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "tidegate", "run", "--config", tmp_path / "config.yaml"],
            env=os.environ
            | KEYS
            | {"TIDEGATE_WORK_DIR": str(tmp_path / "work"), "PYTHONPATH": os.pathsep.join(sys.path)},
            stdout=output,
            stderr=output,
        )
        eventually((tmp_path / "work").exists, seconds=20)  # it has read its configuration
        yield log
        process.terminate()
        assert process.wait(10) == 0


def test_a_limit_is_kept_and_a_new_one_holds_for_the_upload_under_way(agent, tmp_path, s3, configure) -> None:
    write(tmp_path / "data" / "first", "x" * 512 * KIB)
    eventually(lambda: s3.seen, seconds=20)
    began = time.monotonic()
    eventually(lambda: "bucket/first" in s3.objects, seconds=20)
    assert time.monotonic() - began > 512 / 128 / 1.1 - 0.5
    write(tmp_path / "data" / "second", "y" * 4096 * KIB)  # 32 seconds, by the old limit
    eventually(lambda: len(s3.seen) >= 2, seconds=20)
    changed = time.monotonic()
    configure(BandwidthLimit="100M")
    eventually(lambda: "bucket/second" in s3.objects, seconds=20)
    assert time.monotonic() - changed < 5
    assert [seen.kind for seen in s3.seen] == ["put", "put"]


def test_a_faulty_change_is_refused_and_a_good_one_is_taken_over(agent, tmp_path, s3, configure) -> None:
    configure(BandwidthLimit="fast", Bucketname="X")
    eventually(lambda: "last good one" in agent.read_text(), seconds=20)
    assert agent.read_text().count("last good one") == 2
    write(tmp_path / "data" / "first", "x")
    eventually(lambda: "bucket/first" in s3.objects, seconds=20)
    configure(ObjectKeyPrefix="site")
    eventually(lambda: "is used from now on" in agent.read_text(), seconds=20)
    write(tmp_path / "data" / "second", "x")
    eventually(lambda: "bucket/site/second" in s3.objects, seconds=20)


def test_an_upload_under_way_is_not_disturbed_by_a_change_that_takes_another_agent(
    agent, tmp_path, s3, configure
) -> None:
    write(tmp_path / "data" / "slow", "x" * 512 * KIB)  # 4 seconds
    eventually(lambda: s3.seen, seconds=20)
    configure(BandwidthLimit="128k", ObjectKeyPrefix="site", MaxConcurrent=4)
    eventually(lambda: "is used from now on" in agent.read_text(), seconds=20)
    assert "bucket/slow" not in s3.objects
    write(tmp_path / "data" / "next", "y")
    eventually(lambda: "bucket/site/next" in s3.objects and "bucket/slow" in s3.objects, seconds=20)
    eventually(lambda: not list((tmp_path / "data").iterdir()), seconds=20)
    assert [seen.path for seen in s3.seen if seen.kind == "put"] == ["bucket/slow", "bucket/site/next"]


def test_an_upload_of_a_source_that_is_gone_is_brought_to_its_end(agent, tmp_path, s3, configure) -> None:
    write(tmp_path / "data" / "slow", "x" * 512 * KIB)
    eventually(lambda: s3.seen, seconds=20)
    (tmp_path / "other").mkdir()
    other = {"other": {"PathName": f"{tmp_path}/other/*"}}
    configure(BandwidthLimit="128k", PathName=None, Sources=other)
    eventually(lambda: "is used from now on" in agent.read_text(), seconds=20)
    write(tmp_path / "other" / "next", "y")
    eventually(lambda: "bucket/next" in s3.objects and "bucket/slow" in s3.objects, seconds=20)
    assert sorted(seen.path for seen in s3.seen) == ["bucket/next", "bucket/slow"]


def incoming(tmp_path: Path, **keys: Any) -> dict[str, Any]:
    return {"Direction": "Download", "ObjectsBelow": "down", "TargetFolder": str(tmp_path / "in"), **keys}


def test_a_download_under_way_is_not_disturbed_by_a_change_that_takes_another_agent(
    agent, tmp_path, s3, configure
) -> None:
    free = threading.Event()
    s3.script = lambda seen: Fault(wait=free) if seen.kind == "get" else None
    s3.objects["bucket/down/a"] = Held(b"a")
    sources = {"in": incoming(tmp_path)}
    configure(Sources=sources)
    eventually(lambda: any(seen.path == "bucket/down/a" for seen in s3.seen), seconds=20)
    configure(Sources=sources, ObjectKeyPrefix="site")
    eventually(lambda: agent.read_text().count("is used from now on") == 2, seconds=20)
    write(tmp_path / "data" / "next", "y")
    eventually(lambda: "bucket/site/next" in s3.objects, seconds=20)
    free.set()
    eventually((tmp_path / "in" / "a").exists, seconds=20)
    assert [seen.path for seen in s3.seen].count("bucket/down/a") == 1


def test_what_was_wrong_with_a_download_is_forgotten_with_it_and_a_changed_one_begins_anew(
    agent, tmp_path, s3, configure
) -> None:
    def troubles() -> dict[str, Any]:
        return (snapshot.read(tmp_path / "work") or {}).get("troubles", {})

    s3.script = lambda seen: Fault(answer=error(403, "AccessDenied")) if seen.kind == "list" else None
    configure(Sources={"in": incoming(tmp_path)})
    eventually(lambda: "download in" in troubles(), seconds=20)
    configure(Sources={"in": incoming(tmp_path, ObjectsBelow="elsewhere")})
    eventually(lambda: any(seen.query.get("prefix") == "elsewhere/" for seen in s3.seen), seconds=20)
    configure()
    eventually(lambda: agent.read_text().count("is used from now on") == 3, seconds=20)
    eventually(lambda: troubles() == {}, seconds=20)
