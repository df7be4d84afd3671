"""The agent that uploads itself, as a process: killed at any moment, started twice, and left out in the cold."""

from __future__ import annotations

import json
import random
import sys
import threading
from typing import TYPE_CHECKING, Any

import pytest

from tests.standins.faulty_s3 import Fault, error
from tests.whole.plant import Agent
from tests.whole.shelf import eventually
from tests.whole.stores import BUCKET, MIB, Remembering

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.standins.faulty_s3 import Seen

pytestmark = pytest.mark.slow

KILLS = 20
WORKERS = 4
LARGE = {f"large{number}.csv": random.Random(number).randbytes(16 * MIB + number) for number in range(5)}
SMALL = {f"small{number:03}.csv": random.Random(number).randbytes(number * 40) for number in range(200)}
PARTS = 4
"""Of each large file."""


class Site:
    """A folder, an S3 that may be told how to behave, and agents."""

    def __init__(self, folder: Path) -> None:
        self.data = folder / "data"
        self.data.mkdir()
        self.refuses = False
        self.pace: int | None = None
        self.delay = 0.0
        self.s3 = Remembering(self._behave)
        self._folder = folder
        self._work = folder / "work"
        self._agents: list[Agent] = []

    def _behave(self, seen: Seen) -> Fault | None:
        if self.refuses:
            return Fault(error(403, "AccessDenied"))
        return Fault(pace=self.pace) if self.pace and seen.kind == "part" else Fault(delay=self.delay)

    def start(self, program: str = "tidegate", **keys: Any) -> Agent:
        config = self._folder / "config.json"
        settings = {
            "PathName": f"{self.data}/*.csv",
            "BucketName": BUCKET,
            "Carrier": "Direct",
            "HoldBack": "None",
            "Interval": 0.3,
            "QuietSeconds": 0,
            "MaxConcurrent": WORKERS,
            "S3": {"EndpointUrl": self.s3.url, "PartSize": 5 * MIB, "MultipartThreshold": 5 * MIB},
        }
        config.write_text(json.dumps(settings | keys))
        run = [sys.executable, "-m", program, "run", "--config", str(config), "--work-dir", str(self._work)]
        agent = Agent(run, self._folder / "agent.log")
        self._agents.append(agent)
        return agent

    def retry(self) -> None:
        """Have one try be made now, whenever it would be due."""
        run = [sys.executable, "-m", "tidegate", "retry", "--all", "--work-dir", str(self._work)]
        assert Agent(run, self._folder / "retry.log").wait() == 0

    def write(self, files: dict[str, bytes]) -> None:
        for name, content in files.items():
            part = self.data / f"{name}.part"
            part.write_bytes(content)
            part.replace(self.data / name)

    def holds(self, files: dict[str, bytes]) -> bool:
        stored = self.s3.objects
        return stored.keys() == {f"{BUCKET}/{name}" for name in files} and all(
            stored[f"{BUCKET}/{name}"].body == content for name, content in files.items()
        )

    def sent(self, kind: str) -> int:
        return sum(seen.kind == kind for seen in self.s3.seen)

    def close(self) -> None:
        for agent in self._agents:
            agent.kill()


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    made = Site(tmp_path)
    with made.s3:
        yield made
        made.close()


def test_files_small_and_large_are_stored_once_however_often_the_agent_is_killed(site: Site) -> None:
    chance, pause = random.Random(20), threading.Event()
    files = LARGE | SMALL
    site.write(files)
    site.pace, site.delay = 100_000, 0.05  # bytes in a hundredth of a second; seconds before an answer
    agent = site.start(After="Keep")
    for _ in range(KILLS):
        before = len(site.s3.seen)
        eventually(lambda before=before: len(site.s3.seen) > before or site.holds(files))
        pause.wait(chance.uniform(0.0, 0.2))
        agent.kill()
        eventually(lambda: not site.s3.has_clients)
        agent = site.start(After="Keep")
    site.pace, site.delay = None, 0.0
    broken_off = site.sent("part") - sum(key[0].startswith("part") for key in site.s3.stored)
    eventually(lambda: site.holds(files), 60)
    assert set(site.s3.stored.values()) == {1}, "something was sent again though it was there"
    assert site.s3.uploads == {}
    print(f"{broken_off} parts broken off by {KILLS} kills")
    assert 0 < broken_off <= KILLS * WORKERS
    assert site.sent("part") == PARTS * len(LARGE) + broken_off


def test_many_small_files_are_stored_once_however_often_the_agent_and_its_second_process_are_killed(
    site: Site,
) -> None:
    chance, pause = random.Random(21), threading.Event()
    files = {f"many{number:05}.csv": random.Random(number).randbytes(number % 99) for number in range(4000)}
    site.write(files)
    agent = site.start("tests.whole.eager", After="Keep")
    for _ in range(4):
        before = len(site.s3.seen)
        eventually(lambda before=before: len(site.s3.seen) > before + 200 or site.holds(files))
        pause.wait(chance.uniform(0.0, 0.3))
        agent.kill()
        eventually(lambda: not site.s3.has_clients)
        agent = site.start("tests.whole.eager", After="Keep")
    eventually(lambda: site.holds(files), 60)
    assert set(site.s3.stored.values()) == {1}, "something was sent again though it was there"
    late = {f"late{number:05}.csv": b"late" for number in range(1000)}  # the last one may have had few left
    site.write(late)
    eventually(lambda: site.holds(files | late), 60)
    assert agent.terminate()[0] == 0
    assert "a second process has uploaded" in agent.log


def test_a_second_agent_goes_and_the_upload_of_the_first_goes_on(site: Site) -> None:
    site.pace = 100_000
    site.write({"large.csv": LARGE["large0.csv"]})
    first = site.start()
    eventually(lambda: site.sent("part"))
    said = first.log
    second = site.start()
    assert second.wait() == 11
    assert f"belongs to an agent that runs (process {first.pid})" in second.log
    assert first.is_running
    assert first.log.startswith(said)
    eventually(lambda: not list(site.data.iterdir()))
    assert site.holds({"large.csv": LARGE["large0.csv"]})
    assert (site.sent("part"), site.sent("create")) == (PARTS, 1)
    assert first.terminate()[0] == 0


def test_files_that_changed_while_the_bucket_was_paused_do_not_take_the_turns_of_the_others(
    site: Site,
) -> None:
    site.refuses = True
    site.write({"a.csv": b"first"})
    agent = site.start(Interval=0.1)
    eventually(lambda: "refuses everything" in agent.log)
    pause = threading.Event()
    for number in range(12):  # each is promised, as the last was; their turns would take ten minutes
        site.write({"a.csv": b"version %d" % number})
        pause.wait(0.15)
    site.refuses = False
    site.retry()
    eventually(lambda: site.holds({"a.csv": b"version 11"}), 40)
    assert agent.terminate()[0] == 0
