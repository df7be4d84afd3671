"""Downloads of a real agent: a process and a bucket."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

import tidegate
from tests.standins import s3
from tests.whole.plant import BUCKET, KEYS, Agent
from tests.whole.shelf import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator


pytestmark = pytest.mark.slow


class Device:
    """An agent that sends one folder and brings another."""

    def __init__(self, folder: Path, endpoint: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self.prefix = folder.name
        self.data, self.target, self.work = folder / "data", folder / "in", folder / "work"
        self.data.mkdir()
        self.objects = s3.client(endpoint)
        self.config = folder / "config.yaml"
        self.config.write_text(
            yaml.safe_dump(
                {
                    "BucketName": BUCKET,
                    "S3": {"EndpointUrl": endpoint},
                    "Carrier": "Direct",
                    "QuietSeconds": 0.1,
                    "HoldBack": "None",
                    "Interval": 0.2,
                    "Sources": {
                        "out": {"PathName": f"{self.data}/*", "ObjectKeyPrefix": f"{self.prefix}/up"},
                        "in": {
                            "Direction": "Download",
                            "ObjectsBelow": f"{self.prefix}/down",
                            "TargetFolder": str(self.target),
                            "DeleteUnlisted": True,
                        },
                    },
                }
            )
        )
        self.agents: list[Agent] = []

    def start(self) -> Agent:
        run = ["run", "--config", str(self.config), "--work-dir", str(self.work)]
        self.agents.append(Agent([sys.executable, "-m", "tidegate", *run], self._folder / "agent.log"))
        return self.agents[-1]

    def put(self, name: str, body: bytes) -> None:
        self.objects.put_object(Bucket=BUCKET, Key=f"{self.prefix}/down/{name}", Body=body)

    def files(self) -> dict[str, bytes]:
        return {
            str(path.relative_to(self.target)): path.read_bytes()
            for path in self.target.rglob("*")
            if path.is_file() and not path.relative_to(self.target).parts[0].startswith(".")
        }

    def ask(self, *arguments: str, code: int = 0) -> str:
        env = os.environ | KEYS | {"PYTHONPATH": str(Path(tidegate.__file__).parents[1])}
        run = [sys.executable, "-m", "tidegate", *arguments]
        answer = subprocess.run(run, env=env, capture_output=True, text=True, check=False)
        assert answer.returncode == code, answer.stderr
        return answer.stdout

    def source(self) -> dict[str, Any]:
        told = json.loads(self.ask("status", "--work-dir", str(self.work), "--json"))
        return dict(told["sources"]["in"])


@pytest.fixture
def device(folder: Path, endpoint: str) -> Iterator[Device]:
    made = Device(folder, endpoint)
    yield made
    for agent in made.agents:
        agent.kill()


def test_objects_come_and_go_while_files_are_sent_and_all_of_it_is_told(device: Device) -> None:
    bodies = {"a.bin": b"1", "x/b c.bin": os.urandom(3_000_000)}
    for name, body in bodies.items():
        device.put(name, body)
    device.put("x/../bad", b"1")
    device.start()
    eventually(lambda: device.target.exists() and device.files() == bodies)
    (device.data / "up.csv").write_bytes(b"sent")
    eventually(lambda: not (device.data / "up.csv").exists())
    device.objects.delete_object(Bucket=BUCKET, Key=f"{device.prefix}/down/a.bin")
    eventually(lambda: set(device.files()) == {"x/b c.bin"})
    counters = eventually(lambda: (it := device.source())["counters"].get("downloads_deleted") and it)[
        "counters"
    ]
    assert (counters["downloads_added"], counters["downloads_deleted"]) == (2, 1)
    eventually(
        lambda: device.source()["figures"] == {"added": 0, "unchanged": 1, "deleted": 0, "problems": 1}
    )
    told = device.ask("status", "--work-dir", str(device.work))
    assert "in: 0 added, 1 unchanged, 0 deleted, 1 problems" in told
    assert f"{device.prefix}/down/x/../bad: it would leave the folder" in told
    told = device.ask("explain", str(device.target / "x" / "b c.bin"), "--work-dir", str(device.work))
    assert f"source in: yes, it comes from s3://{BUCKET}/{device.prefix}/down/x/b c.bin" in told
    told = device.ask("check-config", str(device.config))
    assert f"brings    s3://{BUCKET}/{device.prefix}/down/*" in told


def test_an_agent_that_is_killed_again_and_again_brings_everything(device: Device) -> None:
    bodies = {f"{number}.bin": os.urandom(2_000_000 if number % 5 == 0 else 500) for number in range(40)}
    for name, body in bodies.items():
        device.put(name, body)
    there = 0
    for _ in range(4):
        agent = device.start()
        eventually(lambda there=there: device.target.exists() and len(device.files()) > there)
        agent.kill()
        found = device.files()
        assert all(bodies[name] == body for name, body in found.items())
        there = min(len(found), len(bodies) - 2)
    agent = device.start()
    eventually(lambda: device.files() == bodies)
    eventually(lambda: device.source()["figures"].get("unchanged") == len(bodies))
    assert list((device.target / ".tidegate-download").iterdir()) == []
    _, seconds = agent.terminate()
    assert seconds < 4


def test_a_single_pass_brings_everything_once_and_tells_what_could_not_come(device: Device) -> None:
    device.put("a.bin", b"1")
    run = ("run", "--once", "--config", str(device.config), "--work-dir", str(device.work))
    device.ask(*run, code=0)
    assert device.files() == {"a.bin": b"1"}
    device.put(".tidegate-download/bad", b"1")
    device.ask(*run, code=1)
