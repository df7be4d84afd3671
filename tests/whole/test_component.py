"""The agent as the component that it is: a real process, started and configured by a nucleus' stand-in."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import tidegate
from tests.helpers import eventually, write
from tests.standins.faulty_s3 import FaultyS3
from tests.standins.nucleus import CLASSIC, LITE, NucleusStandIn

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.slow

SECONDS = 20.0
GONE = 6
KEYS = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret"}


class Device:
    """A nucleus, a bucket, and the component's process."""

    def __init__(self, folder: Path, s3: FaultyS3, mode: str) -> None:
        self.data = folder / "data"
        self.data.mkdir()
        self.work = folder / "work"  # where the nucleus starts a component
        self.work.mkdir()
        self.s3 = s3
        self.nucleus = NucleusStandIn(socket=folder / "ipc", mode=mode)
        self.nucleus.configure(self.settings(), as_strings=mode == LITE)
        self._log = folder / "log"
        self._process: subprocess.Popen[bytes] | None = None

    def settings(self) -> dict[str, Any]:
        return {
            "PathName": f"{self.data}/*.csv",
            "BucketName": "bucket",
            "Interval": 1,
            "QuietSeconds": 0,
            "HoldBack": "None",
            "Carrier": "Direct",
            "S3": {"EndpointUrl": self.s3.url},
            "accessControl": {},
        }

    def start(self, *arguments: str) -> subprocess.Popen[bytes]:
        with self._log.open("ab") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tidegate", *arguments],
                cwd=self.work,
                env=os.environ
                | KEYS
                | {"PYTHONPATH": str(Path(tidegate.__file__).parents[1])}
                | self.nucleus.environment(),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )
        return self._process

    def says(self, text: str) -> None:
        eventually(lambda: text in self._log.read_text(), SECONDS)

    def delivers(self, name: str, key: str) -> None:
        path = write(self.data / name, name)
        eventually(lambda: not path.exists(), SECONDS)
        assert self.s3.objects[f"bucket/{key}"].body == name.encode()

    def close(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait(SECONDS)
        self.nucleus.close()


@pytest.fixture(params=[LITE, CLASSIC])
def device(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Device]:
    with FaultyS3() as s3:
        one = Device(tmp_path, s3, request.param)
        yield one
        one.close()


def stopped(process: subprocess.Popen[bytes]) -> int:
    process.send_signal(signal.SIGTERM)
    return process.wait(5)  # later, the classic nucleus kills


def test_a_component_is_configured_delivers_follows_a_merge_survives_a_bad_one_and_stops(device) -> None:
    process = device.start()
    device.delivers("first.csv", "first.csv")
    assert (device.work / "ledger.db").exists()
    device.nucleus.configure({"ObjectKeyPrefix": "site"})
    device.says("is used from now on")
    device.delivers("second.csv", "site/second.csv")
    device.nucleus.configure({"Interval": "often", "Nonsense": "1", "ObjectKeyPrefix": "lost"})
    device.says("the last good one is: Nonsense")
    device.says("the last good one is: Interval")
    device.delivers("third.csv", "site/third.csv")
    device.nucleus.configure({"Interval": 1, "ObjectKeyPrefix": "better"}, reset=["/Nonsense"])
    eventually(lambda: device._log.read_text().count("is used from now on") == 2, SECONDS)
    device.delivers("fourth.csv", "better/fourth.csv")
    assert stopped(process) == 0


def test_a_deployment_on_classic_learns_what_is_wrong_before_anything_changes(device) -> None:
    process = device.start()
    device.delivers("first.csv", "first.csv")
    verdict, message = device.nucleus.deploy({"Interval": "often"})
    if device.nucleus.lite:
        assert (verdict, message) == ("UNASKED", "")
    else:
        assert verdict == "REJECTED"
        assert "Interval: " in message
    assert device.nucleus.deploy({"Interval": "1", "ObjectKeyPrefix": "site"})[0] != "REJECTED"
    device.says("is used from now on")
    device.delivers("second.csv", "site/second.csv")
    assert stopped(process) == 0


def test_a_component_that_is_not_configured_waits_for_it_and_can_be_stopped_meanwhile(device) -> None:
    device.nucleus.configure({"PathName": "", "LogLevel": "Loud"})
    process = device.start()
    device.says("waiting for a better configuration: PathName: is missing")
    device.says("waiting for a better configuration: LogLevel: ")
    assert stopped(process) == -signal.SIGTERM
    process = device.start()
    device.nucleus.configure({"PathName": f"{device.data}/*.csv", "LogLevel": "INFO"})
    device.delivers("first.csv", "first.csv")
    assert stopped(process) == 0


def test_a_lost_connection_ends_the_process_once_with_its_own_code_and_a_new_one_goes_on(device) -> None:
    process = device.start()
    device.delivers("first.csv", "first.csv")
    device.nucleus.restart()
    assert process.wait(SECONDS) == GONE
    device.says("the connection to the nucleus is lost")
    process = device.start()
    device.delivers("second.csv", "second.csv")
    assert stopped(process) == 0


def test_a_connection_that_is_lost_while_waiting_for_a_configuration_ends_it_too(device) -> None:
    device.nucleus.configure({"PathName": ""})
    process = device.start()
    device.says("waiting for a better configuration")
    device.nucleus.drop_connections()
    assert process.wait(SECONDS) == GONE


def test_the_commands_work_inside_a_component_as_elsewhere(device) -> None:
    assert device.start("status").wait(SECONDS) == 3
    device.says("no agent ever ran in")
    assert device.start("--help").wait(SECONDS) == 0
    device.says("As a Greengrass component it needs no command")
