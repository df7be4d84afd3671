"""Objects come back because somebody asks an agent: within what its configuration allows, and told truly."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from tests.helpers import eventually
from tests.restore.rig import ODD, VirtualClock
from tests.routes.rig import rig as agent_rig
from tests.routes.test_docs import BLOCKS, assert_alike
from tests.standins.glacier import GlacierStandIn
from tidegate.config import parse
from tidegate.doors.asking import NoAgent, ask
from tidegate.errors import ConfigFaults, Unavailable
from tidegate.restore.journal import Journal
from tidegate.restore.nouns import Phase
from tidegate.restoring import KEPT_SECONDS, MOST_OVER, MOST_UNDER_WAY, Restoring

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.routes.rig import Rig as AgentRig

HOUR = 3600.0
KEYS = {"AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing"}


class Device:
    """An agent that restores, in the stand-in's time."""

    def __init__(self, agent: AgentRig, glacier: GlacierStandIn) -> None:
        self.agent = agent
        self.glacier = glacier
        self.most = MOST_UNDER_WAY, MOST_OVER
        self.restoring: Restoring
        self.begin()

    def begin(self) -> None:
        settings = parse(self.agent.raw).restore
        assert settings
        self.restoring = Restoring(
            settings,
            self.agent.work,
            KEYS,
            VirtualClock(self.glacier),
            poll=0.05,  # type: ignore[arg-type]
            most=self.most,
        )
        site = self.agent.routes._site
        assert site
        self.agent.routes.attach(dataclasses.replace(site, restoring=self.restoring))
        self.restoring.start(self.agent.ledger.events)

    def end(self) -> None:
        self.restoring.close(5.0)

    def say(self, route: str, **fields: Any) -> dict[str, Any]:
        return dict(self.agent.ask(route, fields).body)

    def post(self, **fields: Any) -> str:
        reply = self.say("restore/post", **{"bucket": "archive", **fields})
        assert reply["status"] == 200, reply
        return str(reply["job"])

    def status(self, job: str) -> str:
        return str(self.say("restore/get", job=job)["state"])

    def asked(self, count: int) -> None:
        eventually(lambda: self.glacier.counters["RestoreObject"] >= count)

    def events(self, job: str) -> list[dict[str, Any]]:
        return [body for body in self.agent.events("restore") if body["JobId"] == job]


@contextmanager
def device(folder: Path, **settings: Any) -> Iterator[Device]:
    with GlacierStandIn(speed=1.0) as glacier:
        glacier.faults.restore_rate = None
        glacier.bucket("archive")
        raw = {"Enabled": True, "Buckets": ["archive", "other"], "MaxRate": 1000, **settings}
        with agent_rig(folder, Restore=raw, S3={"EndpointUrl": glacier.endpoint, "Proxy": "direct"}) as agent:
            made = Device(agent, glacier)
            try:
                yield made
            finally:
                made.end()


def test_what_is_asked_for_comes_back_and_each_change_is_told_until_exactly_one_end(tmp_path: Path) -> None:
    with device(tmp_path) as one:
        one.glacier.populate("archive", 40, prefix="a/")
        job = one.post(prefix="a/", tier="Standard", days=3, tag="mine")
        one.asked(40)
        one.glacier.clock.advance(4 * HOUR)
        one.glacier.clock.advance(2 * HOUR)
        eventually(lambda: one.status(job) == "Complete")
        assert one.glacier.restores("archive") == 40
        told = eventually(lambda: (it := one.events(job)) and it[-1]["Status"] != "Restoring" and it)
        assert [it["Status"] for it in told if it["Status"] != "Restoring"] == ["Complete"]
        assert told[-1]["ProgressPercent"] == "100"
        shown = [int(it["ProgressPercent"]) for it in told]
        assert shown == sorted(shown)
        five = ("JobId", "BatchJobId", "Status", "ProgressPercent", "FailedBatchFiles")
        assert all(isinstance(it[name], str) for it in told for name in five)
        assert told[0]["detail"]["clientTag"] == "mine"


@pytest.mark.parametrize("phase", ["requesting", "waiting"])
def test_jobs_go_on_with_the_next_agent(tmp_path: Path, phase: str) -> None:
    with device(tmp_path) as one:
        one.glacier.populate("archive", 5)
        job = one.post()
        one.asked(5)
        eventually(lambda: phase == "requesting" or one.say("restore/get", job=job)["phase"] == phase)
        before = one.restoring
        one.end()
        one.glacier.clock.advance(6 * HOUR)
        one.begin()
        assert one.restoring is not before  # which has let the job go, though it is still there
        eventually(lambda: one.status(job) == "Complete")
        assert one.glacier.counters["RestoreObject"] == 5


def test_one_token_makes_one_job_even_if_the_answer_was_forgotten(tmp_path: Path) -> None:
    with device(tmp_path) as one:
        one.glacier.populate("archive", 3)
        job = one.post(clientToken="t-1", prefix="")
        assert one.post(clientToken="t-1", prefix="") == job
        with one.agent.ledger._database.transaction() as cursor:
            assert cursor.run("DELETE FROM answered", ()) == 1
        assert one.post(clientToken="t-1") == job
        with one.agent.ledger._database.transaction() as cursor:
            cursor.run("DELETE FROM answered", ())
        reply = one.say("restore/post", bucket="archive", clientToken="t-1", days=9)
        assert (reply["status"], reply["code"]) == (409, "Conflict")
        assert one.restoring.names() == [job]


def test_an_order_whose_writing_was_cut_off_is_written_anew(tmp_path: Path) -> None:
    with device(tmp_path) as one:
        one.glacier.populate("archive", 3)
        one.end()
        job = one.post(clientToken="t-2", keys=["a"])
        with one.restoring._jobs.journal(job, read_only=False) as journal:
            journal.note({}, phase=Phase.READING)
        with one.agent.ledger._database.transaction() as cursor:
            cursor.run("DELETE FROM answered", ())
        one.begin()
        assert one.post(clientToken="t-2", keys=["a"]) == job
        eventually(lambda: one.status(job) == "Failed")  # there is no such object, and that was found out
        assert one.say("restore/get", job=job)["failed"][0]["key"] == "a"


@pytest.mark.parametrize(
    ("fields", "code", "words"),
    [
        ({"bucket": "foreign"}, "NotAllowed", 'bucket: "foreign" is not among those of Restore.Buckets'),
        ({"bucket": "archive", "tier": "Expedited"}, "NotAllowed", 'tier: "Expedited" is not among'),
        ({"bucket": "archive", "fetch": True}, "NotAllowed", "fetch: nothing is downloaded here"),
        ({"manifest": "s3://foreign/m.csv"}, "NotAllowed", 'bucket: "foreign" is not among'),
        ({"manifest": "s3://archive/rows.csv"}, "NotAllowed", 'bucket: "foreign" is not among'),
        ({"manifest": "s3://archive/bad.csv"}, "BadRequest", "the manifest, line 1: "),
        ({"manifest": "s3://archive/none.csv"}, "NotFound", "manifest: S3 says"),
        ({"manifest": "m.csv"}, "BadRequest", "manifest: "),
        ({}, "BadRequest", "bucket: write either this"),
        ({"bucket": "archive", "keys": ["a"], "suffixes": [".b"]}, "BadRequest", "suffixes: has no use"),
        ({"bucket": "archive", "keys": ["a"], "prefix": "b"}, "BadRequest", "prefix: has no use"),
        ({"bucket": "archive", "tier": "fast"}, "BadRequest", "there is no tier Fast"),
        ({"bucket": "archive", "days": 0}, "BadRequest", "days: 0 is less than 1"),
        ({"bucket": "archive", "after": "monday"}, "BadRequest", "after: "),
        ({"bucket": "archive", "color": 1}, "BadRequest", "color: there is no such key"),
    ],
)
def test_what_is_not_allowed_or_wrong_is_rejected_and_makes_no_job(
    tmp_path: Path, fields: dict[str, Any], code: str, words: str
) -> None:
    with device(tmp_path) as one:
        one.glacier.put("archive", "rows.csv", storage_class="STANDARD", body=b"archive,a\nforeign,b\n")
        one.glacier.put("archive", "bad.csv", storage_class="STANDARD", body=b"only-a-bucket\n")
        reply = one.say("restore/post", **fields)
        assert reply["code"] == code, reply
        assert words in reply["message"]
        assert one.restoring.names() == []
        assert one.glacier.counters["RestoreObject"] == 0


def test_odd_keys_of_a_list_or_a_manifest_come_back(tmp_path: Path) -> None:
    with device(tmp_path) as one:
        for key in ODD:
            one.glacier.put("archive", key)
        job = one.post(keys=list(ODD))
        one.asked(len(ODD))
        assert one.glacier.restores("archive") == len(ODD)
        assert one.say("restore/cancel/post", job=job)["was"] == "Restoring"
        eventually(lambda: one.status(job) == "Cancelled")
        assert one.say("restore/cancel/post", job=job)["was"] == "Cancelled"
        assert [it["Status"] for it in one.events(job)].count("Cancelled") == 1


def test_what_comes_back_is_downloaded_where_the_configuration_says(tmp_path: Path) -> None:
    with device(tmp_path, Folder=str(tmp_path / "back")) as one:
        one.glacier.put("archive", "a/b.bin", body=b"content")
        job = one.post(prefix="a/", fetch=True)
        one.asked(1)
        one.glacier.clock.advance(6 * HOUR)
        eventually(lambda: one.status(job) == "Complete")
        assert (tmp_path / "back" / "archive" / "a" / "b.bin").read_bytes() == b"content"


def test_a_hundred_jobs_are_listed_page_by_page_and_each_once(tmp_path: Path) -> None:
    with device(tmp_path) as one:
        one.end()  # they need not run
        names = [one.post(keys=["a"], clientToken=f"token {number}") for number in range(100)]
        found: list[str] = []
        cursor: str | None = None
        while True:
            reply = one.say("restore/list", **({"cursor": cursor} if cursor else {}))
            found += [it["job"] for it in reply["jobs"]]
            if not (cursor := reply.get("cursor")):
                break
        assert found == names


def test_a_job_that_cannot_be_read_keeps_nobody_from_the_others(tmp_path: Path) -> None:
    with device(tmp_path) as one:
        one.end()
        job = one.post(keys=["a"])
        folder = one.agent.work / "restore"
        Journal(folder / "killed.job").close()  # before anything was written
        (folder / "broken.job").write_bytes(b"x" * 5000)
        assert [it["job"] for it in one.say("restore/list")["jobs"]] == [job]
        one.begin()
        eventually(lambda: one.status(job) == "Failed")  # there is no such object; the others did no harm
        assert one.say("restore/get", job="killed")["code"] == "NotFound"


def test_a_job_that_is_over_is_forgotten_after_a_month(tmp_path: Path) -> None:
    with device(tmp_path) as one:
        job = one.post(keys=["a"])
        eventually(lambda: one.status(job) == "Failed")
        one.end()
        one.glacier.clock.advance(KEPT_SECONDS + 1)
        one.begin()
        eventually(lambda: one.restoring.names() == [])
        assert one.say("restore/get", job=job)["code"] == "NotFound"


def test_more_jobs_than_can_be_under_way_are_refused_until_one_is_over(tmp_path: Path) -> None:
    with device(tmp_path) as one:
        one.end()
        one.most = 2, 9
        one.begin()
        one.glacier.populate("archive", 2)
        first, second = one.post(clientToken="a"), one.post(clientToken="b")
        reply = one.say("restore/post", bucket="archive", clientToken="c")
        assert (reply["status"], reply["message"]) == (503, "2 jobs are under way already; ask again later")
        assert one.post(clientToken="a") == first  # which is there
        assert one.say("restore/cancel/post", job=second)["status"] == 200
        eventually(lambda: one.say("restore/post", bucket="archive", clientToken="c")["status"] == 200)


def test_of_many_jobs_that_are_over_the_first_are_forgotten(tmp_path: Path) -> None:
    with device(tmp_path) as one:
        one.end()
        one.most = 9, 2
        one.begin()
        jobs = []
        for number in range(4):
            jobs.append(one.post(keys=[f"not there {number}"]))
            eventually(lambda: one.status(jobs[-1]) == "Failed")
        eventually(lambda: one.restoring.names() == jobs[2:])
        one.end()
        one.most = 9, 1
        one.begin()
        eventually(lambda: one.restoring.names() == jobs[3:])


def test_nothing_is_restored_unless_the_configuration_says_so(tmp_path: Path) -> None:
    with agent_rig(tmp_path) as agent:
        for route in ("post", "list"):
            reply = agent.ask(f"restore/{route}", {"bucket": "archive"} if route == "post" else {})
            assert (reply.status, reply.body["code"]) == (403, "NotAllowed")
    for raw, words in (
        ({"Enabled": True}, r"Restore\.Buckets: is missing"),
        ({"Enabled": True, "Buckets": ["a_"]}, r"Restore\.Buckets: a list is not the name of a bucket"),
        ({"Tiers": ["Slow"]}, r'Restore\.Tiers: a list has "Slow", which is no tier'),
        ({"MaxRate": 0}, r"Restore\.MaxRate: 0 is less"),
        ({"Folder": "here"}, r"Restore\.Folder: "),
    ):
        with pytest.raises(ConfigFaults, match=words):
            parse({"Restore": raw})
    source = {"PathName": "/data/*.csv", "BucketName": "bucket"}
    assert parse({**source, "Restore": {"Buckets": ["archive"]}}).restore is None
    with pytest.raises(ConfigFaults, match="PathName: is missing"):  # there would be nothing to do
        parse({"Restore": {"Buckets": ["archive"]}})


@pytest.mark.parametrize("route", [it for it in BLOCKS if it.startswith("restore/")])
def test_a_documented_request_gets_an_answer_such_as_is_shown(tmp_path: Path, route: str) -> None:
    with device(tmp_path) as one:
        one.glacier.populate("archive", 3, prefix="2024/")
        job = one.post(prefix="2024/", tag="audit")
        one.asked(3)
        request, shown = BLOCKS[route]
        reply = one.say(route, **(request | ({"job": job} if "job" in request else {})))
        assert reply["status"] == shown["status"], reply
        assert_alike(json.loads(json.dumps(reply)), shown, exactly=True)


@pytest.mark.slow
def test_a_process_that_is_killed_goes_on_and_counts_each_object_once(tmp_path: Path) -> None:
    with GlacierStandIn() as glacier:
        glacier.faults.restore_rate = None
        glacier.populate("archive", 3000)
        restore = {"Enabled": True, "Buckets": ["archive"], "MaxRate": 1000}
        raw = {"Restore": restore, "S3": {"EndpointUrl": glacier.endpoint, "Proxy": "direct"}}
        (tmp_path / "config.yaml").write_text(json.dumps(raw))
        with process(tmp_path) as agent:
            job = say(tmp_path, "restore/post", bucket="archive", clientToken="t")["job"]
            eventually(lambda: glacier.counters["RestoreObject"] > 500)
            agent.send_signal(signal.SIGKILL)
            agent.wait()
        assert glacier.counters["RestoreObject"] < 3000
        with process(tmp_path) as agent:
            assert say(tmp_path, "restore/post", bucket="archive", clientToken="t")["job"] == job
            counts = eventually(
                lambda: (it := say(tmp_path, "restore/get", job=job)["counts"])["wanted"] == 0 and it, 30
            )
            assert counts["asked"] + counts["already"] == counts["total"] == 3000
            assert glacier.restores("archive") == 3000
            say(tmp_path, "restore/cancel/post", job=job)
            eventually(lambda: say(tmp_path, "restore/get", job=job)["state"] == "Cancelled")
            agent.terminate()
            assert agent.wait(10) == 0


@contextmanager
def process(folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    environment = os.environ | KEYS | {"TIDEGATE_WORK_DIR": str(folder / "work")}
    environment["PYTHONPATH"] = os.pathsep.join(sys.path)
    command = [sys.executable, "-m", "tidegate", "run", "--config", folder / "config.yaml"]
    with (folder / "log").open("ab") as log:
        found = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
    try:
        yield found
    finally:
        found.kill()
        found.wait()


def say(folder: Path, route: str, **fields: Any) -> dict[str, Any]:
    def attempt() -> dict[str, Any] | None:
        try:
            return ask(folder / "work", route, fields, seconds=20)
        except (NoAgent, Unavailable):
            return None

    found: dict[str, Any] = eventually(attempt, 30)
    return found
