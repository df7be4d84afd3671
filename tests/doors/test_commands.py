"""The commands that speak to a running agent: each is a process, and so is the agent."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from tests.helpers import environment, eventually, write
from tests.standins.faulty_s3 import Fault, FaultyS3

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.slow

SECONDS = 20.0
KEYS = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret"}


class Agent:
    """A folder, a bucket, an agent, and the commands."""

    def __init__(self, folder: Path, s3: FaultyS3) -> None:
        self.data = folder / "data"
        self.data.mkdir()
        self.work = folder / "work"
        self.s3 = s3
        self._log = folder / "log"
        self._config = folder / "config.yaml"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, **keys: object) -> None:
        settings = {
            "Sources": {"logs": {"PathName": f"{self.data}/*.csv"}},
            "BucketName": "bucket",
            "Interval": 1,
            "QuietSeconds": 0,
            "HoldBack": "None",
            "Carrier": "Direct",
            "S3": {"EndpointUrl": self.s3.url},
        }
        self._config.write_text(yaml.safe_dump(settings | keys))
        with self._log.open("ab") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tidegate", "run", "--config", str(self._config), *self._where],
                env=environment() | KEYS,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )
        eventually((self.work / "socket").exists, SECONDS)

    def stop(self) -> int:
        assert self._process
        self._process.send_signal(signal.SIGTERM)
        code = self._process.wait(SECONDS)
        self._process = None
        return code

    def close(self) -> None:
        if self._process:
            self._process.kill()
            self._process.wait(SECONDS)

    def run(self, *arguments: str, body: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(
            [sys.executable, "-m", "tidegate", *arguments, *self._where],
            input=body,
            capture_output=True,
            timeout=60,
            check=False,
            env=environment() | KEYS,
        )

    def says(self, *arguments: str, body: bytes = b"") -> Any:
        """Run a command that must succeed, and return what it says as JSON."""
        found = self.run(*arguments, "--json", body=body)
        assert found.returncode == 0, found.stderr
        return json.loads(found.stdout)

    def logged(self, words: str) -> int:
        return self._log.read_text().count(words)

    @property
    def _where(self) -> tuple[str, str]:
        return "--work-dir", str(self.work)


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[Agent]:
    with FaultyS3() as s3:
        one = Agent(tmp_path, s3)
        yield one
        one.close()


def test_statistics_say_what_was_sent_as_json_and_as_a_table(agent) -> None:
    agent.start()
    path = write(agent.data / "a.csv")
    eventually(lambda: not path.exists(), SECONDS)
    found = eventually(
        lambda: next((it for it in [agent.says("statistics")] if it["totals"]["uploaded"]), None), SECONDS
    )
    assert found["sources"][0]["name"] == "logs"
    table = agent.run("statistics").stdout.decode()
    assert table.split()[0] == "source"
    assert "logs" in table
    assert agent.stop() == 0


def test_a_pause_lasts_over_a_restart_until_resumed(agent) -> None:
    agent.start()
    assert agent.run("pause").returncode == 0
    assert agent.stop() == 0
    agent.start()
    path = write(agent.data / "a.csv")
    eventually(lambda: agent.says("statistics")["backlog"]["files"] == 1, SECONDS)
    assert path.exists()
    assert "paused" in agent.run("statistics").stdout.decode()
    assert "paused (tidegate resume sends again):\n  logs\n" in agent.run("status").stdout.decode()
    assert (
        "its source is paused: tidegate resume sends again" in agent.run("explain", str(path)).stdout.decode()
    )
    assert agent.logged("paused: everything; `tidegate resume` has it sent again")
    assert agent.run("resume", "--source", "logs").returncode == 2  # all are paused, not only this one
    assert agent.run("resume").stdout == b"all sources resumed\n"
    eventually(lambda: not path.exists(), SECONDS)


def test_a_faulty_change_of_the_configuration_is_seen_by_status(agent) -> None:
    agent.start()
    config = agent._config.read_text()
    agent._config.write_text(config + "Intervall: 7\n")
    fault = "faults of the configuration; the last good one is used:\n  Intervall: "
    eventually(lambda: fault in agent.run("status").stdout.decode(), SECONDS)
    agent._config.write_text(config)
    eventually(lambda: fault not in agent.run("status").stdout.decode(), SECONDS)


def test_that_it_works_again_is_said_when_s3_has_answered_and_not_when_it_is_tried(tmp_path) -> None:
    away = True
    with FaultyS3(lambda _: Fault(answer=b"", take=0, cut=0, reset=True) if away else None) as s3:
        agent = Agent(tmp_path, s3)
        try:
            agent.start()
            paths = [write(agent.data / f"{name}.csv") for name in "abcde"]
            eventually(lambda: agent.logged("nothing is lost, and it is tried without end"), SECONDS)
            before = len(s3.seen)
            eventually(lambda: len(s3.seen) > before, SECONDS)  # it was tried whether it works
            assert agent.logged("nothing is lost, and it is tried without end") == 1
            assert agent.logged("it works again") == 0
            away = False
            assert agent.run("retry", "--all").returncode == 0
            eventually(lambda: not any(path.exists() for path in paths), SECONDS)
            eventually(lambda: agent.logged("it works again") == 1, SECONDS)
        finally:
            agent.close()


def test_an_object_is_posted_from_a_file_of_a_source_from_any_file_and_from_the_input(
    agent, tmp_path
) -> None:
    agent.start(QuietSeconds=600)
    path = write(agent.data / "a.csv", "1,2")
    said = agent.run("post", str(path))
    assert said.returncode == 0, said.stderr
    assert agent.s3.objects["bucket/a.csv"].body == b"1,2"
    other = write(tmp_path / "other.txt", "x")
    posted = agent.says("post", "--key", "reports/other.txt", "--source", "logs", str(other))
    assert posted["status"] == 200
    assert agent.s3.objects[f"bucket/{posted['key']}"].body == b"x"
    assert other.exists()
    posted = agent.says("post", "--key", "in.txt", "--source", "logs", "-", body=b"from the input")
    assert agent.s3.objects[f"bucket/{posted['key']}"].body == b"from the input"


def test_a_large_object_goes_in_parts(agent) -> None:
    agent.start()
    body = os.urandom(1_300_000)
    posted = agent.says("post", "--key", "large.bin", "--source", "logs", "-", body=body)
    assert posted["status"] == 200
    assert agent.s3.objects[f"bucket/{posted['key']}"].body == body


def test_what_is_asked_wrongly_is_told_with_its_code(agent, tmp_path) -> None:
    agent.start()
    for arguments, code, words in (
        (("scan", "--source", "nonsense"), 3, "nonsense"),
        (("post", "/nowhere/a.csv"), 3, "belongs to no source"),
        (("post", "-"), 2, "--key"),
        (("post", str(tmp_path / "missing"), "--key", "a"), 2, "No such file"),
    ):
        found = agent.run(*arguments)
        assert found.returncode == code, (arguments, found)
        assert words in found.stderr.decode()
    assert agent.run("scan").stdout == b"looking for files of all sources\n"


def test_without_an_agent_each_command_says_so_and_fails(agent) -> None:
    for arguments in (
        ("statistics",),
        ("pause",),
        ("resume",),
        ("scan",),
        ("post", "--key", "a", "-"),
    ):
        found = agent.run(*arguments)
        assert found.returncode == 3, found
        assert b"no agent runs in" in found.stderr


def test_a_retry_reaches_the_agent_that_runs_and_the_ledger_of_one_that_does_not(agent) -> None:
    agent.start()
    assert agent.run("retry", "--all").returncode == 0
    assert agent.stop() == 0
    assert not (agent.work / "socket").exists()
    assert agent.run("retry", "--all").returncode == 0


def test_every_command_shows_an_example(agent) -> None:
    for name in ("statistics", "pause", "resume", "scan", "post"):
        found = agent.run(name, "--help").stdout.decode()
        assert f"example:\n  tidegate {name}" in found
