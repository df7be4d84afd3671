"""Objects come back by messages to a component: its real process, a nucleus' stand-in, and both kinds of topics."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.helpers import eventually
from tests.standins.faulty_s3 import FaultyS3
from tests.standins.glacier import GlacierStandIn
from tests.standins.nucleus import CLASSIC, LITE
from tests.whole.component import SECONDS, TOLD, Device, accepted, ask, events, stopped

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.slow

FIVE = ("JobId", "BatchJobId", "Status", "ProgressPercent", "FailedBatchFiles")
DAY = 86_400.0


class Station(Device):
    """A component whose S3 is an archive."""

    def __init__(self, folder: Path, s3: FaultyS3, glacier: GlacierStandIn, mode: str) -> None:
        self.glacier = glacier
        super().__init__(folder, s3, mode)

    def settings(self) -> dict[str, Any]:
        restore = {"Enabled": True, "Buckets": ["archive"], "MaxRate": 40}
        return super().settings() | {
            "S3": {"EndpointUrl": self.glacier.endpoint, "Proxy": "direct"},
            "Restore": restore,
        }

    def post(self, *, cloud: bool, **fields: Any) -> str:
        verdict, body = ask(self, "restore/post", {"bucket": "archive", **fields}, cloud=cloud)
        assert verdict == "accepted", body
        return str(body["job"])

    def ends(self, job: str, *, cloud: bool) -> list[dict[str, Any]]:
        """Wait for the end of a job, and return all that a topic told of it."""
        return eventually(
            lambda: (
                (told := [it for it in events(self, "restore", cloud=cloud) if it["JobId"] == job])
                and told[-1]["Status"] != "Restoring"
                and told
            ),
            SECONDS,
        )


@pytest.fixture(params=[LITE, CLASSIC])
def station(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Station]:
    with FaultyS3() as s3, GlacierStandIn() as glacier:
        one = Station(tmp_path, s3, glacier, request.param)
        yield one
        one.close()


def restored(glacier: GlacierStandIn, count: int, prefix: str) -> None:
    """Put objects there whose copies stay too short: S3 answers 200 to who asks for more, and they are ready."""
    client = glacier.client("s3")
    for number in range(count):
        glacier.put("archive", f"{prefix}{number:03}")
        client.restore_object(Bucket="archive", Key=f"{prefix}{number:03}", RestoreRequest={"Days": 1})
    client.close()
    glacier.clock.advance(DAY / 2)
    assert glacier.state("archive", f"{prefix}000") == "restored"


def test_what_a_message_asks_for_is_told_on_both_topics_up_to_exactly_one_end(station: Station) -> None:
    restored(station.glacier, 100, "a/")
    station.glacier.put("archive", "b/archived")
    process = station.start()
    accepted(station, "statistics/get")
    job = station.post(cloud=False, prefix="a/", days=30, tag="mine")
    for cloud in (False, True):
        told = station.ends(job, cloud=cloud)
        assert [it["Status"] for it in told] == ["Restoring"] * (len(told) - 1) + ["Complete"]
        assert all(isinstance(it[name], str) for it in told for name in FIVE)
        shown = [int(it["ProgressPercent"]) for it in told]
        assert shown == sorted(set(shown))
        assert len(shown) >= 3
        assert (shown[0], shown[-1]) == (0, 100)
        assert {it["detail"]["clientTag"] for it in told} == {"mine"}
    other = station.post(cloud=True, keys=["b/archived", "b/missing"])
    eventually(lambda: station.glacier.state("archive", "b/archived") == "ongoing", SECONDS)
    for cloud in (False, True):
        _, body = ask(station, "restore/list", cloud=cloud)
        assert [(it["job"], it["state"]) for it in body["jobs"]] == [(job, "Complete"), (other, "Restoring")]
    assert ask(station, "restore/get", {"job": other})[1]["failed"][0]["key"] == "b/missing"
    assert ask(station, "restore/cancel/post", {"job": other}, cloud=True)[1]["was"] == "Restoring"
    for cloud in (False, True):
        told = station.ends(other, cloud=cloud)
        assert [it["Status"] for it in told if it["Status"] != "Restoring"] == ["Cancelled"]
        assert told[-1]["FailedBatchFiles"] == "1"
    assert ask(station, "restore/get", {"job": other}, cloud=True)[1]["state"] == "Cancelled"
    verdict, body = ask(station, "restore/get", {"job": "none"}, cloud=True)
    assert (verdict, body["code"]) == ("rejected", "NotFound")
    verdict, body = ask(station, "restore/post", {"bucket": "foreign"})
    assert (verdict, body["code"]) == ("rejected", "NotAllowed")
    for cloud in (False, True):  # the ends were told once, and nothing after them
        assert [it["Status"] for it in events(station, "restore", cloud=cloud)].count("Complete") == 1
        assert [it["Status"] for it in events(station, "restore", cloud=cloud)].count("Cancelled") == 1
    assert stopped(process) == TOLD
