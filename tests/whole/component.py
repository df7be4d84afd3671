"""The component's real process, with a nucleus' stand-in and an S3 around it."""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tidegate
from tests.helpers import eventually, write
from tests.standins.nucleus import LITE, NucleusStandIn

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tests.standins.faulty_s3 import FaultyS3

SECONDS = 20.0
KEYS = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret"}


ACCESS = {
    "aws.greengrass.ipc.pubsub": {
        "tidegate:pubsub:requests": {
            "operations": ["aws.greengrass#SubscribeToTopic"],
            "resources": ["tidegate/+/+", "tidegate/+/+/post"],
        },
        "tidegate:pubsub:answers": {
            "operations": ["aws.greengrass#PublishToTopic"],
            "resources": [
                "tidegate/*/accepted",
                "tidegate/*/rejected",
                "tidegate/events/*",
                "tidegate/pulse/*",
                "cloudwatch/metric/put",
            ],
        },
    },
    "aws.greengrass.ipc.mqttproxy": {
        "tidegate:mqttproxy:requests": {
            "operations": ["aws.greengrass#SubscribeToIoTCore"],
            "resources": ["tidegate/+/+/+", "tidegate/+/+/+/post"],
        },
        "tidegate:mqttproxy:answers": {
            "operations": ["aws.greengrass#PublishToIoTCore"],
            "resources": [
                "tidegate/*/accepted",
                "tidegate/*/rejected",
                "tidegate/*/events/*",
                "tidegate/*/pulse/*",
            ],
        },
    },
}
"""What docs/ROUTES.md says that has to be allowed, and nothing else."""


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
            "Interval": 0.2,
            "QuietSeconds": 0,
            "HoldBack": "None",
            "Carrier": "Direct",
            "S3": {"EndpointUrl": self.s3.url},
            "accessControl": ACCESS,
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

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Own the work directory."""
        with (self.work / "lock").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def says(self, text: str) -> None:
        eventually(lambda: text in self._log.read_text(), SECONDS)

    def can_be_asked(self, operation: str) -> None:
        """Wait until the component has said so; lite asks no component."""
        asked = (self.nucleus.component, operation, "")
        eventually(lambda: self.nucleus.lite or asked in self.nucleus.subscriptions, SECONDS)

    def deploy(self, merge: dict[str, Any], *, reset: Sequence[str] = ()) -> tuple[str, str]:
        self.can_be_asked("SubscribeToValidateConfigurationUpdates")
        return self.nucleus.deploy(merge, reset=reset)

    def delivers(self, name: str, key: str) -> None:
        path = write(self.data / name, name)
        eventually(lambda: not path.exists(), SECONDS)
        assert self.s3.objects[f"bucket/{key}"].body == name.encode()

    def close(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait(SECONDS)
        self.nucleus.close()
        print(self._log.read_text())  # shown if the test fails


def stopped(process: subprocess.Popen[bytes]) -> int:
    process.send_signal(signal.SIGTERM)
    return process.wait(5)  # later, the classic nucleus kills


TOLD = -signal.SIGTERM
"""How a component ends that was told to. With 0 the classic nucleus would never start it again."""


def is_open(device: Device, base: str) -> bool:
    return any(it[2] == f"{base}/+/+" for it in device.nucleus.subscriptions)


def ask(device: Device, route: str, body: dict[str, Any] | None = None, *, cloud: bool = False) -> Any:
    base = f"tidegate/{device.nucleus.thing_name}" if cloud else "tidegate"
    eventually(lambda: is_open(device, base), SECONDS)
    return device.nucleus.request(f"{base}/{route}", body or {}, iot_core=cloud, seconds=SECONDS)


def accepted(device: Device, route: str, *, cloud: bool = False) -> Any:
    """Ask until the agent behind the door is there, too."""
    return eventually(
        lambda: next(
            (body for verdict, body in [ask(device, route, cloud=cloud)] if verdict == "accepted"), None
        ),
        SECONDS,
    )


def events(device: Device, kind: str, *, cloud: bool = False) -> list[dict[str, Any]]:
    topic = f"tidegate/{device.nucleus.thing_name}/events/{kind}" if cloud else f"tidegate/events/{kind}"
    messages = device.nucleus.iot_core_received if cloud else device.nucleus.published
    return [one.json() for one in messages if one.topic == topic]
