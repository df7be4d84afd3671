"""IoT Jobs through the nucleus: ours are done once and reported, others are left alone; and heartbeats."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from tests.doors.test_metrics import picture
from tests.helpers import eventually
from tidegate.doors.heartbeat import Heartbeat
from tidegate.doors.jobs import JobsDoor
from tidegate.doors.line import Cloud

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.doors.conftest import Echo
    from tests.standins.nucleus import NucleusStandIn
    from tidegate.doors.desk import Desk

BASE = "$aws/things/press-7/jobs"
SCAN = {"operation": "tidegate/scan/post", "parameters": {"source": "logs"}}


class Jobs:
    """The part of AWS IoT Jobs that a device sees, by what its documentation says: topics, lists, states."""

    def __init__(self, standin: NucleusStandIn, thing: str = "press-7") -> None:
        self._standin = standin
        self._base = f"$aws/things/{thing}/jobs"
        self._ended = threading.Event()
        self._seen = 0
        self.documents: dict[str, Any] = {}
        self.status: dict[str, str] = {}
        self.details: dict[str, Any] = {}
        self.updates: list[tuple[str, str]] = []
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def add(self, job: str, document: Any, status: str = "QUEUED") -> None:
        self.documents[job], self.status[job] = document, status
        self._send("notify", {"jobs": {}})

    def close(self) -> None:
        self._ended.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._ended.wait(0.01):
            messages = self._standin.iot_core_received
            for message in messages[self._seen :]:
                if message.topic.startswith(f"{self._base}/"):
                    self._answer(message.topic.removeprefix(f"{self._base}/"), json.loads(message.payload))
            self._seen = len(messages)

    def _answer(self, name: str, said: dict[str, Any]) -> None:
        if name == "get":
            listed = {
                key: [{"jobId": job} for job, at in self.status.items() if at == status]
                for key, status in (("queuedJobs", "QUEUED"), ("inProgressJobs", "IN_PROGRESS"))
            }
            self._send("get/accepted", listed)
        elif name.endswith("/get"):
            job = name.removesuffix("/get")
            found = {"jobId": job, "status": self.status[job], "jobDocument": self.documents[job]}
            self._send(f"{job}/get/accepted", {"execution": found})
        elif name.endswith("/update"):
            job = name.removesuffix("/update")
            self.updates.append((job, said["status"]))
            self.status[job], self.details[job] = said["status"], said.get("statusDetails")

    def _send(self, name: str, body: Any) -> None:
        self._standin.publish_iot_core(f"{self._base}/{name}", json.dumps(body).encode())


@pytest.fixture
def jobs(standin: NucleusStandIn) -> Iterator[Jobs]:
    one = Jobs(standin)
    yield one
    one.close()


@pytest.fixture
def jobs_door(standin: NucleusStandIn, connect: Any, desk: Desk) -> Iterator[Callable[..., JobsDoor]]:
    with contextlib.ExitStack() as stack:

        def open_one(**more: float) -> JobsDoor:
            one = JobsDoor(Cloud(connect(standin)), "press-7", desk, steady=time.monotonic, **more)
            stack.callback(one.join, 5)
            stack.callback(one.stop)
            one.start()
            return one

        yield open_one


def test_a_job_of_ours_is_taken_up_done_and_reported(jobs: Jobs, jobs_door: Any, routes: Echo) -> None:
    jobs_door()
    jobs.add("scan-1", SCAN)
    eventually(lambda: jobs.status["scan-1"] == "SUCCEEDED")
    assert jobs.updates == [("scan-1", "IN_PROGRESS"), ("scan-1", "SUCCEEDED")]
    ((route, asked),) = routes.heard
    assert route == "scan/post"
    assert asked["source"] == "logs"
    assert jobs.details["scan-1"]["status"] == "200"


@pytest.mark.parametrize("word", ["report", "wakeup", "apply-policies", "customizers", "restart"])
def test_the_words_of_s3_ingestor_are_understood(jobs: Jobs, jobs_door: Any, routes: Echo, word: str) -> None:
    jobs_door()
    jobs.add("a", {"operation": f"tidegate/{word}"})
    eventually(lambda: jobs.status["a"] == "SUCCEEDED")
    assert routes.heard[0][0] in ("configuration/get", "scan/post", "restart/post")


def test_what_was_there_before_us_is_found(jobs: Jobs, jobs_door: Any) -> None:
    jobs.add("early", SCAN)
    jobs_door()
    eventually(lambda: jobs.status["early"] == "SUCCEEDED")


def test_jobs_of_others_are_left_alone_and_do_not_stand_in_the_way(
    jobs: Jobs, jobs_door: Any, routes: Echo
) -> None:
    for number, document in enumerate(
        [{"operation": "reboot"}, {}, [], "tidegate/scan/post", {"operation": 5}]
    ):
        jobs.add(f"other-{number}", document)
    jobs_door()
    jobs.add("ours", SCAN)
    eventually(lambda: jobs.status["ours"] == "SUCCEEDED")
    assert {job for job, _ in jobs.updates} == {"ours"}
    assert len(routes.heard) == 1


def test_what_is_rejected_has_failed_and_says_why(jobs: Jobs, jobs_door: Any) -> None:
    jobs_door()
    jobs.add("bad", {"operation": "tidegate/scan/post", "parameters": {"status": 404}})
    eventually(lambda: jobs.status["bad"] == "FAILED")
    assert jobs.details["bad"]["status"] == "404"


def test_a_job_that_comes_while_the_agent_is_away_is_done_when_it_is_back(
    jobs: Jobs, jobs_door: Any, routes: Echo
) -> None:
    jobs_door(patience=0.1)
    jobs.add("early", {"operation": "tidegate/scan/post", "parameters": {"status": 503}})
    eventually(lambda: len(routes.heard) > 1)
    jobs.documents["early"] = SCAN
    eventually(lambda: jobs.status["early"] == "SUCCEEDED")
    assert ("early", "FAILED") not in jobs.updates
    assert len({asked["clientToken"] for _, asked in routes.heard}) == 1


def test_a_job_that_a_restart_has_interrupted_is_asked_for_with_the_same_token(
    jobs: Jobs, jobs_door: Any, routes: Echo
) -> None:
    routes.silent.set()
    first = jobs_door()
    jobs.add("long", SCAN)
    eventually(lambda: jobs.status["long"] == "IN_PROGRESS" and routes.heard)
    first.stop()
    routes.silent.clear()
    jobs_door()
    eventually(lambda: jobs.status["long"] == "SUCCEEDED")
    tokens = {asked["clientToken"] for _, asked in routes.heard}
    assert len(routes.heard) == 2
    assert len(tokens) == 1


def test_a_report_that_got_lost_is_made_again_and_the_job_is_not(
    jobs: Jobs, jobs_door: Any, routes: Echo
) -> None:
    jobs_door()
    jobs.add("a", SCAN)
    eventually(lambda: jobs.status["a"] == "SUCCEEDED")
    jobs.status["a"] = "IN_PROGRESS"  # the cloud never had it
    jobs.add("b", {"operation": "other"})
    eventually(lambda: jobs.status["a"] == "SUCCEEDED")
    assert len(routes.heard) == 1


def test_subscriptions_that_died_in_silence_are_made_again(
    standin: NucleusStandIn, jobs: Jobs, jobs_door: Any
) -> None:
    jobs_door(poll=0.1, patience=0.2)
    jobs.add("a", SCAN)
    eventually(lambda: jobs.status["a"] == "SUCCEEDED")
    standin.kill_subscriptions()
    jobs.add("b", SCAN)
    eventually(lambda: jobs.status["b"] == "SUCCEEDED")


def test_where_a_right_is_missing_for_one_topic_of_three_the_others_are_not_opened_without_rest(
    standin: NucleusStandIn, jobs_door: Any
) -> None:
    rights = {"operations": ["*"], "resources": [f"{BASE}/notify", f"{BASE}/get/accepted", f"{BASE}/get"]}
    standin.configure({"accessControl": {"aws.greengrass.ipc.mqttproxy": {"c:1": rights}}})
    before = time.monotonic()
    jobs_door()
    eventually(lambda: standin.requests["SubscribeToIoTCore"] >= 9)  # at once, after one second, after two
    assert time.monotonic() - before > 2.5


def test_odd_messages_change_nothing(
    standin: NucleusStandIn, jobs: Jobs, jobs_door: Any, routes: Echo
) -> None:
    jobs_door()
    jobs.add("a", SCAN)
    eventually(lambda: jobs.status["a"] == "SUCCEEDED")
    for name in ("get/accepted", "x/get/accepted", "notify"):
        for body in (
            b"",
            b"x",
            b"[]",
            b'{"queuedJobs": [5, {"jobId": "a/b"}], "execution": {"jobId": "../x"}}',
            b"[" * 9000,
        ):
            standin.publish_iot_core(f"{BASE}/{name}", body)
    jobs.add("b", SCAN)
    eventually(lambda: jobs.status["b"] == "SUCCEEDED")
    assert len(routes.heard) == 2


def test_a_heartbeat_tells_iot_core_and_the_shadow_how_things_go(
    standin: NucleusStandIn, connect: Any
) -> None:
    shadow = "$aws/things/press-7/shadow/name/tidegate/update"
    beat = Heartbeat(
        *(Cloud(connect(standin)), lambda: picture(5)),
        topic="tidegate/press-7/events/heartbeat",
        shadow=shadow,
        seconds=0.05,
    )
    beat.start()
    try:
        eventually(lambda: len(standin.iot_core_received) >= 4)
    finally:
        beat.stop()
        beat.join(5)
    told = {message.topic: json.loads(message.payload) for message in standin.iot_core_received}
    event = told["tidegate/press-7/events/heartbeat"]
    assert (event["event"], event["totals"]["uploaded"]) == ("heartbeat", 5)
    assert told[shadow]["state"]["reported"]["backlog"] == event["backlog"]


def test_offline_a_heartbeat_is_left_out_and_the_next_one_comes(
    standin: NucleusStandIn, connect: Any
) -> None:
    beat = Heartbeat(Cloud(connect(standin)), picture, topic="a/b", shadow=None, seconds=0.05)
    standin.go_offline()
    beat.start()
    try:
        standin.go_online()
        eventually(lambda: standin.iot_core_received)
    finally:
        beat.stop()
        beat.join(5)
