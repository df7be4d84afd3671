"""The built component on a device: unpacked, installed and run as a nucleus does, then asked and stopped."""

from __future__ import annotations

import json
import queue
import shutil
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.deploy.shipped import Device, bare_environment, repack
from tests.helpers import eventually, write
from tests.standins.faulty_s3 import FaultyS3
from tests.standins.nucleus import CLASSIC, LITE, NucleusStandIn
from tests.standins.nucleus.__main__ import connected
from tools.component import build

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parent.parent.parent
SECONDS = 30.0
KEYS = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret"}
NAME = "io.tidegate.S3Agent"


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Device, dict[str, str]]:
    """A device with the component installed from the artifact alone, its wheels included."""
    folder = tmp_path_factory.mktemp("device")
    project = folder / "project"
    project.mkdir()
    for name in ("recipe.yaml", "gdk-config.json", "install.sh", "requirements.txt", "LICENSE"):
        shutil.copy(ROOT / name, project / name)
    shutil.copytree(ROOT / "src", project / "src")
    device = Device(folder / "greengrass v2", *build(project))
    repack(project / "requirements.txt", device.artifacts / "wheels")
    shutil.rmtree(project)  # nothing may be needed but what is in the artifact
    environment = bare_environment(folder / "bin")
    done = device.install(environment)
    assert done.returncode == 0, done.stderr
    return device, environment


@pytest.fixture(params=[LITE, CLASSIC])
def nucleus(
    request: pytest.FixtureRequest, tmp_path: Path, installed: tuple[Device, dict[str, str]]
) -> Iterator[NucleusStandIn]:
    """A nucleus to which the component was deployed with the defaults of its recipe, and nothing else."""
    with NucleusStandIn(
        socket=tmp_path / "ipc", mode=request.param, component=NAME, thing_name="press-7"
    ) as nucleus:
        nucleus.configure(installed[0].defaults, as_strings=nucleus.lite)
        yield nucleus


def ask(nucleus: NucleusStandIn, topic: str, *, iot_core: bool) -> tuple[str, dict[str, Any]]:
    replies: queue.Queue[tuple[str, bytes]] = queue.Queue()
    with connected(str(nucleus.socket), iot_core=iot_core) as client:
        for verdict in ("accepted", "rejected"):
            client.subscribe(f"{topic}/{verdict}", lambda where, payload: replies.put((where, payload)))
        client.publish(topic, b'{"clientToken": "1"}')
        where, payload = replies.get(timeout=SECONDS)
    return where, json.loads(payload)


def test_what_was_installed_is_not_installed_again(installed: tuple[Device, dict[str, str]]) -> None:
    device, environment = installed
    again = device.install(environment)
    assert (again.returncode, again.stdout, again.stderr) == (0, "", "")


def test_deployed_with_its_defaults_it_waits_then_takes_a_merge_delivers_answers_and_stops(
    nucleus: NucleusStandIn, installed: tuple[Device, dict[str, str]], tmp_path: Path
) -> None:
    device, environment = installed
    log, data = tmp_path / "log", tmp_path / "data"
    data.mkdir()

    def says(text: str) -> None:
        eventually(lambda: text in log.read_text(), SECONDS)

    with FaultyS3() as s3:
        process: subprocess.Popen[bytes] = device.run(environment | KEYS | nucleus.environment(), log)
        try:
            says("PathName: is missing")
            assert process.poll() is None
            settings = {
                "PathName": f"{data}/*.csv",
                "BucketName": "bucket",
                "ObjectKeyPrefix": "site",
                "QuietSeconds": "0",
                "HoldBack": "None",
                "S3": {"EndpointUrl": s3.url},
            }
            path = write(data / "first.csv", "first")
            nucleus.configure(settings)
            eventually(lambda: not path.exists(), SECONDS)
            assert s3.objects["bucket/site/first.csv"].body == b"first"
            for base, iot_core in (("tidegate", False), ("tidegate/press-7", True)):
                says(f"requests are taken on {base}/+/+")
                where, reply = ask(nucleus, f"{base}/statistics/get", iot_core=iot_core)
                assert where == f"{base}/statistics/get/accepted"
                assert (reply["status"], reply["clientToken"]) == (200, "1")
            assert "accessControl" not in log.read_text()  # nothing was refused for want of a right
            process.send_signal(signal.SIGTERM)
            assert process.wait(5) == -signal.SIGTERM  # neither done for good nor failed
        finally:
            process.kill()
            process.wait(SECONDS)
