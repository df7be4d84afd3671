"""Inside Greengrass: jobs, heartbeats and the shadow of the component as it runs, with the rights that docs name."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.doors.test_jobs import Jobs
from tests.helpers import eventually
from tests.standins.faulty_s3 import FaultyS3
from tests.standins.nucleus import CLASSIC, LITE
from tests.whole.component import ACCESS, SECONDS, Device

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.slow

GUIDE = Path(__file__).parents[2] / "docs" / "FLEET.md"


def rights() -> dict[str, Any]:
    """What the guide says that has to be allowed, beside the usual."""
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in GUIDE.read_text("utf-8").splitlines()
        if line.startswith("| `aws.greengrass.ipc.")
    ]
    more = {
        f"tidegate:more:{number}": {
            "operations": [operation.strip("`")],
            "resources": [one.strip("` ") for one in resources.split(",")],
        }
        for number, (_, operation, resources) in enumerate(rows)
    }
    assert len(more) == 2
    proxy = "aws.greengrass.ipc.mqttproxy"
    return {**ACCESS, proxy: {**ACCESS[proxy], **more}}


@pytest.fixture(params=[LITE, CLASSIC])
def device(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Device]:
    with FaultyS3() as s3:
        one = Device(tmp_path, s3, request.param)
        yield one
        one.close()


@pytest.fixture
def jobs(device: Device) -> Iterator[Jobs]:
    one = Jobs(device.nucleus, device.nucleus.thing_name)
    yield one
    one.close()


def test_a_component_does_jobs_also_after_a_kill_in_the_middle_and_tells_how_things_go(
    device: Device, jobs: Jobs
) -> None:
    keys = {"IotJobs": True, "HeartbeatSeconds": 10, "Shadow": "tidegate", "accessControl": rights()}
    device.nucleus.configure(keys, as_strings=device.nucleus.lite)
    process = device.start()
    for word in ("report", "wakeup", "apply-policies", "customizers"):
        jobs.add(word, {"operation": f"tidegate/{word}"})
    for word in ("report", "wakeup", "apply-policies", "customizers"):
        eventually(lambda word=word: jobs.status[word] == "SUCCEEDED", SECONDS)
    assert '"PathName"' in jobs.details["report"]["answer"]

    jobs.add("again", {"operation": "tidegate/restart"})
    eventually(lambda: ("again", "IN_PROGRESS") in jobs.updates, SECONDS)
    process.kill()
    process.wait(SECONDS)
    jobs.status["again"] = "IN_PROGRESS"  # if it was done, nobody has heard so
    device.start()
    eventually(lambda: jobs.status["again"] == "SUCCEEDED", SECONDS)
    assert "FAILED" not in {status for _, status in jobs.updates}

    thing = device.nucleus.thing_name
    sent = {
        topic: lambda topic=topic: [
            one.json() for one in device.nucleus.iot_core_received if one.topic == topic
        ]
        for topic in (
            f"tidegate/{thing}/events/heartbeat",
            f"$aws/things/{thing}/shadow/name/tidegate/update",
        )
    }
    beat, shadow = (eventually(lambda of=of: of()[-1:], SECONDS)[0] for of in sent.values())
    assert {source["name"] for source in beat["sources"]} == {"default"}
    assert shadow["state"]["reported"]["totals"].keys() == beat["totals"].keys()
