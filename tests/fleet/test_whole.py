"""A mothership and three agents, all as processes: from enrolment to a restart, with everything in between."""

from __future__ import annotations

import json
import stat
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from tests.fleet.rig import Process
from tests.standins.faulty_s3 import FaultyS3
from tests.whole.shelf import eventually

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.fleet.rig import Mothership

pytestmark = pytest.mark.slow

NAMES = ("press-1", "press-2", "press-3")
GRANT = """#!/bin/sh
cat "{folder}/keys-$1.json"
"""


class Device:
    """A folder of one device, and the agent there."""

    def __init__(self, folder: Path, name: str, home: Mothership, s3: FaultyS3) -> None:
        self.name, self.folder = name, folder / name
        self.data, self.work = self.folder / "data", self.folder / "work"
        self.data.mkdir(parents=True)
        settings = {
            "ThingName": name,
            "Carrier": "Direct",
            "S3": {"EndpointUrl": s3.url, "Region": "eu-central-1"},
            "Home": {
                "Url": f"{home.url}/ingestor",
                "BootstrapTokenFile": str(home.bootstrap),
                "HeartbeatSeconds": 1,
                "Credentials": "Mothership",
                "Roots": [str(self.data)],
                "Commands": {"Restart": ["/usr/bin/touch", str(self.folder / "restarted")]},
            },
        }
        (self.folder / "config.yaml").write_text(yaml.safe_dump(settings))
        self.start()

    def start(self) -> None:
        arguments = ("run", "--config", str(self.folder / "config.yaml"), "--work-dir", str(self.work))
        self.process = Process(
            self.folder, "agent", *arguments, AWS_ACCESS_KEY_ID="", AWS_SECRET_ACCESS_KEY=""
        )

    def wants(self, **more: Any) -> dict[str, Any]:
        source = {"PathName": f"{self.data}/*.csv", "BucketName": "bucket", "ObjectKeyPrefix": self.name}
        return {
            "Sources": {"logs": {**source, "HoldBack": "None", "QuietSeconds": 0, "Interval": 0.3, **more}}
        }


def write_keys(folder: Path, name: str, number: int, seconds: float) -> str:
    ends = datetime.now(timezone.utc) + timedelta(seconds=seconds)
    key = f"ASIA{name}{number}"
    said = {"AccessKeyId": key, "SecretAccessKey": "secret", "SessionToken": f"token{number}"}
    (folder / f"keys-{name}.json").write_text(
        json.dumps({"Credentials": {**said, "Expiration": ends.isoformat()}})
    )
    return key


def test_a_mothership_and_three_agents_through_all_that_happens(
    folder: Path, mothership: Callable[..., Mothership]
) -> None:
    grant = folder / "grant"
    grant.write_text(GRANT.format(folder=folder))
    grant.chmod(0o700)
    for name in NAMES:
        write_keys(folder, name, 1, 45)
    home = mothership("--grant", str(grant))
    with FaultyS3() as s3:
        devices = [Device(folder, name, home, s3) for name in NAMES]
        try:
            go_through_it(folder, home, s3, devices)
        finally:
            for one in devices:
                one.process.kill()


def stored(s3: FaultyS3, key: str) -> bool:
    return any(str(one).endswith(key) for one in s3.objects)


def signer(s3: FaultyS3, key: str) -> str:
    (seen, *_) = [one for one in s3.seen if one.method == "PUT" and key in one.path]
    return seen.headers["authorization"].partition("Credential=")[2].partition("/")[0]


def go_through_it(folder: Path, home: Mothership, s3: FaultyS3, devices: list[Device]) -> None:
    first, second, third = devices
    # Enrolled, and nothing else: nothing is sent.
    for one in devices:
        eventually(lambda one=one: home.device(one.name).get("seen"))
        (one.data / "early.csv").write_text("1\n")
    assert {home.device(name)["state"] for name in NAMES} == {"registered"}
    assert s3.objects == {}

    # Configured, with credentials handed out: files go.
    for one in devices:
        home.ask("PUT", f"/devices/{one.name}/desired", one.wants())
    for one in devices:
        eventually(lambda one=one: stored(s3, f"{one.name}/early.csv"))
        assert signer(s3, f"{one.name}/early.csv") == f"ASIA{one.name}1"
        kept = one.work / "home" / "credentials.json"
        assert stat.S_IMODE(kept.stat().st_mode) == 0o600
        eventually(lambda one=one: home.device(one.name)["rev"] == home.device(one.name)["wanted"])

    # Heartbeats tell of the work.
    eventually(lambda: home.device(first.name)["cause"] == "heartbeat")
    counted = lambda: home.ask("GET", f"/devices/{first.name}")["info"]["result"]  # noqa: E731
    eventually(lambda: (counted() or {}).get("added") == 1)

    # Actions: one that is done, one that nobody has allowed, one that runs a program.
    ids = {
        action: home.ask("POST", f"/devices/{first.name}/actions", {"action": action})["action_id"]
        for action in ("report", "reboot", "restart", "apply-policies")
    }
    ends = {"report": "ack", "reboot": "error", "restart": "ack", "apply-policies": "ack"}
    for action, end in ends.items():
        eventually(lambda action=action, end=end: home.action(first.name, ids[action])["answer"] == end)
    assert (first.folder / "restarted").exists()

    # A configuration that it may not have: refused, told, and the one before stays.
    home.ask(
        "PUT",
        f"/devices/{second.name}/desired",
        {"Sources": {"etc": {"PathName": "/etc/*", "BucketName": "bucket"}}},
    )
    eventually(lambda: home.device(second.name)["rejected"] == home.device(second.name)["wanted"])
    history = home.ask("GET", f"/devices/{second.name}")["history"]
    assert any("/etc is in none of Home.Roots" in line["detail"] for line in history)
    (second.data / "after.csv").write_text("2\n")
    eventually(lambda: stored(s3, f"{second.name}/after.csv"))

    # The mothership goes and comes back; files go on meanwhile.
    home.kill()
    (third.data / "alone.csv").write_text("3\n")
    eventually(lambda: stored(s3, f"{third.name}/alone.csv"))
    home.start()
    seen = home.device(third.name)["seen"]
    eventually(lambda: home.device(third.name)["seen"] > seen, 30)

    # Credentials rotate into the running carriers before the old ones end.
    for one in devices:
        write_keys(folder, one.name, 2, 3600)
    for one in devices:
        eventually(lambda one=one: "2" in (one.work / "home" / "credentials.json").read_text()[:60], 60)
    (third.data / "last.csv").write_text("4\n")

    # A restart: it knows what it was told, and that the action was done.
    first.process.terminate()
    (first.folder / "restarted").unlink()
    first.start()
    (first.data / "later.csv").write_text("5\n")
    eventually(lambda: stored(s3, f"{first.name}/later.csv"))
    assert signer(s3, f"{first.name}/later.csv") == f"ASIA{first.name}2"
    eventually(lambda: home.device(first.name)["cause"] == "heartbeat")
    assert not (first.folder / "restarted").exists()

    eventually(lambda: stored(s3, f"{third.name}/last.csv"))

    def rotated() -> bool:
        path = third.data / "rotated.csv"
        path.write_text("6\n")
        eventually(lambda: not path.exists())
        return (
            s3.seen[-1].headers["authorization"].partition("Credential=")[2].startswith(f"ASIA{third.name}2")
        )

    eventually(rotated, 60, pause=1.0)
