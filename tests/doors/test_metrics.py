"""What CloudWatch is told: short JSON messages, counters as what is new, and nothing that kills a subscription."""

from __future__ import annotations

import logging
import queue
import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from awsiot.greengrasscoreipc import connect as connect_core
from awsiot.greengrasscoreipc.clientv2 import GreengrassCoreIPCClientV2

from tests.helpers import eventually, write
from tests.routes.rig import rig
from tests.standins.nucleus import COMPONENT, IpcError
from tests.standins.nucleus.limits import MOST_OBJECTS_IN_EVENT, objects
from tidegate.doors.metrics import COUNTERS, MetricsDoor, message, metrics, totals
from tidegate.errors import Unavailable
from tidegate.ledger.posts import STORED_AT
from tidegate.model import State
from tidegate.policy import Hold
from tidegate.routes.board import Picture, look
from tidegate.view.snapshot import Snapshot, SourceReport

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


def picture(stored: int = 0, full_seconds: float | None = 90.4) -> Picture:
    snapshot = Snapshot(
        version="1",
        pid=1,
        at=100.0,
        started_at=0.0,
        ledger="disk",
        sources={
            "logs": SourceReport(
                found=3,
                holds={Hold.OPEN.value: 2, Hold.NEWEST.value: 1},
                free_bytes=5000,
                full_seconds=full_seconds,
            )
        },
        troubles={},
        lanes={},
    )
    return Picture(
        at=100.0,
        taken=0.0,
        snapshot=snapshot,
        names=["logs"],
        tally={"logs": {State.READY: (3, 30), State.SENT: (1, 10), State.FAILED: (2, 20)}},
        counters={
            "logs": {"files_stored": stored, "bytes_stored": 10 * stored, STORED_AT: 70},
            "": {"events_dropped": 1},
        },
        oldest={"logs": 40.0},
        pauses=[],
        quarantine=[],
        events=0,
        paused=frozenset(),
        faults=(),
        in_memory=False,
        thing="thing",
    )


@pytest.fixture
def report(standin: Any, connect: Any) -> Iterator[Callable[..., None]]:
    doors = []

    def start(look: Callable[[], Picture | None], seconds: float = 0.05) -> None:
        put = connect(standin).publish_json
        one = MetricsDoor(put, look, namespace="Plant", seconds=seconds)
        doors.append(one)
        one.start()

    yield start
    for one in doors:
        one.stop()
        one.join(5)


def test_gauges_say_how_it_is_and_counters_what_is_new() -> None:
    first = {one.name: one.value for one in metrics(picture(5), totals(picture(5))) if not one.reason}
    assert first == dict.fromkeys([name for name, _, _ in COUNTERS], 0) | {
        "BacklogFiles": 4,
        "BacklogBytes": 40,
        "OldestPendingAge": 60.0,
        "FilesQuarantined": 2,
        "HoldFiles": 3,
        "LastSuccessAge": 30,
        "DiskFree": 5000,
        "TimeToFull": 90,
    }
    then = {one.name: one.value for one in metrics(picture(7), totals(picture(5)))}
    assert (then["FilesUploaded"], then["BytesUploaded"]) == (2, 20)
    assert then["FilesEvicted"] == 0


def test_how_long_uploads_took_is_told_of_those_that_ended_meanwhile() -> None:
    def counted(files: int, milliseconds: int) -> Picture:
        counters = {"uploads_timed": files, "upload_milliseconds": milliseconds}
        return replace(picture(), counters={"logs": counters})

    told = totals(counted(2, 9000))
    (found,) = [one for one in metrics(counted(5, 12_000), told) if one.name == "UploadDuration"]
    assert (found.value, found.unit) == (1.0, "Seconds")
    told |= {("logs", what): total for what, total in found.stands.items()}
    assert "UploadDuration" not in {one.name for one in metrics(counted(5, 12_000), told)}
    (anew,) = [one for one in metrics(counted(1, 5), told) if one.name == "UploadDuration"]
    assert anew.value == 0.005


def test_what_is_held_back_is_told_in_all_and_by_each_reason() -> None:
    found = [one for one in metrics(picture(), {}) if one.name == "HoldFiles"]
    assert [(one.value, one.reason) for one in found] == [(3, ""), (2, "Open"), (1, "Newest")]
    dimensions = [message(one, "Plant", picture())["request"]["metricData"]["dimensions"] for one in found]
    source = {"name": "Source", "value": "logs"}
    assert dimensions == [
        [source],
        [source, {"name": "Reason", "value": "Open"}],
        [source, {"name": "Reason", "value": "Newest"}],
    ]


def test_the_documentation_names_every_reason() -> None:
    text = (Path(__file__).parents[2] / "docs" / "ROUTES.md").read_text()
    (row,) = [line for line in text.splitlines() if line.startswith("| `HoldFiles`")]
    assert re.findall(r"`(\w+)`", row)[2:] == [why.name.capitalize() for why in Hold]


def test_what_is_not_known_is_not_told() -> None:
    unknown = replace(picture(full_seconds=None), counters={})
    names = {one.name for one in metrics(unknown, {})}
    assert not names & {"BandwidthLimit", "LastSuccessAge", "TimeToFull"}
    assert "DiskFree" in names


def test_nothing_is_told_of_what_is_gone_or_was_never_used() -> None:
    counters = {**picture().counters, "gone": {"files_stored": 9}, "left": {"files_stored": 9}}
    tally = {**picture().tally, "gone": {State.DONE: (9, 9)}, "left": {State.FAILED: (1, 1)}}
    names = ["logs", "logs.objects", "used.objects"]
    counters["used.objects"] = {"files_stored": 1}
    found = metrics(replace(picture(), names=names, counters=counters, tally=tally), {})
    assert {one.source for one in found} == {"logs", "used.objects", "left"}


def test_what_is_of_no_source_has_no_dimension() -> None:
    limited = replace(picture(), bandwidth=4096.0)
    (limit,) = [one for one in metrics(limited, {}) if one.name == "BandwidthLimit"]
    told = message(limit, "Plant", picture())["request"]["metricData"]
    assert told == {"metricName": "BandwidthLimit", "value": 4096.0, "unit": "Bytes/Second", "timestamp": 100}


def test_a_running_agent_tells_of_room_and_of_the_last_success_also_after_a_restart(tmp_path: Path) -> None:
    with rig(tmp_path, BandwidthLimit="10M") as one:

        def told() -> dict[str, float]:
            found = metrics(look(one.site, ()), {})
            return {it.name: it.value for it in found if it.source in ("default", "")}

        assert eventually(lambda: "DiskFree" in told())
        assert "LastSuccessAge" not in told()
        write(tmp_path / "data" / "a.csv", "12345")
        found = eventually(lambda: "LastSuccessAge" in (it := told()) and it)
        assert found["LastSuccessAge"] < 60
        assert 0 < found["UploadDuration"] < 60
        assert found["BandwidthLimit"] == 10 * 2**20
        one.restart()
        assert told()["LastSuccessAge"] < 60


def test_a_counter_that_begins_anew_counts_nothing_backwards() -> None:
    then = {one.name: one.value for one in metrics(picture(1), totals(picture(5)))}
    assert then["FilesUploaded"] == 0


def test_the_component_is_told_in_its_own_words_by_json(standin, report) -> None:
    subscriber = Subscriber(standin)
    report(picture)
    events = [subscriber.next() for _ in range(12)]
    (event,) = [one for one in events if one["request"]["metricData"]["metricName"] == "BacklogFiles"]
    assert event == {
        "request": {
            "namespace": "Plant",
            "metricData": {
                "metricName": "BacklogFiles",
                "value": 4,
                "unit": "Count",
                "timestamp": 100,
                "dimensions": [{"name": "Source", "value": "logs"}],
            },
        }
    }
    for _ in range(20):  # the subscription lives
        subscriber.next()


def test_every_metric_is_short_enough_for_the_subscription_of_nucleus_lite() -> None:
    for one in metrics(picture(7), totals(picture(5))):
        assert 6 + objects(message(one, "Plant", picture())) < MOST_OBJECTS_IN_EVENT


def test_without_the_right_it_is_said_once(standin, report, caplog) -> None:
    caplog.set_level(logging.WARNING)
    standin.errors["PublishToTopic"] = IpcError("ServiceError")
    report(picture)
    eventually(lambda: standin.requests["PublishToTopic"] > 3)
    assert caplog.text.count("CloudWatch is told nothing") == 1
    standin.errors.clear()
    eventually(lambda: [one for one in standin.published if one.topic == "cloudwatch/metric/put"])


def test_what_could_not_be_told_is_told_later_and_what_could_is_not_told_again() -> None:
    told: list[Any] = []
    state = {"stored": 5, "works": 100}

    def put(_: str, message: Any) -> None:
        if not state["works"]:
            raise Unavailable("the nucleus is away")
        state["works"] -= 1
        told.append(message["request"]["metricData"])

    door = MetricsDoor(put, lambda: picture(state["stored"]), namespace="Plant", seconds=60)
    for stored, works in ((5, 100), (7, 1), (8, 0), (9, 100)):
        state |= {"stored": stored, "works": works}
        door._step()
    assert sum(one["value"] for one in told if one["metricName"] == "FilesUploaded") == 4
    assert sum(one["value"] for one in told if one["metricName"] == "BytesUploaded") == 40


def test_while_no_agent_runs_nothing_is_told(standin, report) -> None:
    looked: queue.Queue[None] = queue.Queue()

    def look() -> None:
        looked.put(None)

    report(look)
    for _ in range(3):
        looked.get(timeout=10)
    assert [one for one in standin.published if one.source == COMPONENT] == []


class Subscriber:
    """The component of CloudWatch metrics, which reads JSON messages only."""

    def __init__(self, standin: Any) -> None:
        token = standin.environment("aws.greengrass.Cloudwatch")["SVCUID"]
        core = connect_core(ipc_socket=str(standin.socket), authtoken=token)
        self._client = GreengrassCoreIPCClientV2(client=core, executor=None)
        self._events: queue.Queue[Any] = queue.Queue()
        done, _ = self._client.subscribe_to_topic_async(
            topic="cloudwatch/metric/put", on_stream_event=self._events.put
        )
        done.result(10)

    def next(self) -> Any:
        return self._events.get(timeout=10).json_message.message
