"""The engine that lets S3 Batch Operations ask, on a stand-in for them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tests.restore.rig import ODD
from tidegate.errors import ConfigFaults
from tidegate.restore.watch import GONE

if TYPE_CHECKING:
    from tests.restore.rig import Rig

BATCH = {"role": "arn:aws:iam::123456789012:role/batch", "report": "s3://reports/there"}


def by_batch(rig: Rig, name: str = "job", rows=None, **fields: object) -> int:
    rig.glacier.bucket("reports")
    batch = {**BATCH, **fields.pop("batch", {})}
    return rig.order(name, rows, engine="batch", batch=batch, **fields)


@pytest.mark.parametrize("order", ["schema", "sample"])
def test_a_manifest_is_restored_whichever_way_round_the_report_has_its_columns(rig, order):
    rig.glacier.pace.report_order = order
    for key in ODD:
        rig.glacier.put("bucket", key)
    rig.glacier.put("bucket", "tiering", storage_class="INTELLIGENT_TIERING", access_tier="ARCHIVE_ACCESS")
    rows = [("bucket", key, "") for key in (*ODD, "tiering", "late")]
    rig.glacier.put("bucket", "late")
    by_batch(rig, rows=rows)
    assert rig.run(until="requesting") == "requesting"
    rig.s3.delete_object(Bucket="bucket", Key="late")
    assert rig.run() == "Complete"
    assert (rig.counts().ready, rig.counts().failed) == (len(ODD) + 1, 1)
    (failure,) = rig.failures()
    assert (failure["key"], failure["code"]) == ("late", "NoSuchKey")
    assert failure["message"] != GONE[1]  # the report said so, not a later look
    assert list(rig.glacier.jobs.values()) == ["Complete", "Complete"]  # one with days, one without
    assert rig.glacier.counters["RestoreObject"] == 0
    last = rig.events()[-1]
    assert (last["FailedBatchFiles"], last["ProgressPercent"]) == ("1", "100")
    assert last["BatchJobId"].split(",") == list(rig.glacier.jobs)


def test_what_is_under_way_is_left_out_so_that_half_of_the_tasks_cannot_fail(rig):
    rig.glacier.populate("bucket", 1200)  # the rule is for 1,000 tasks and more
    by_batch(rig, "one")
    assert rig.run("one", until="waiting") == "waiting"
    rig.glacier.put("bucket", "one-more")
    by_batch(rig, "two")
    assert rig.run("two") == "Complete"
    assert (rig.counts("two").ready, rig.counts("two").failed) == (1201, 0)
    assert list(rig.glacier.jobs.values()) == ["Complete", "Complete"]
    assert rig.s3.head_object(Bucket="bucket", Key="one-more")["Restore"]


def test_what_somebody_else_began_after_the_plan_is_no_failure(rig):
    rig.glacier.populate("bucket", 20)
    by_batch(rig)
    assert rig.run(until="requesting") == "requesting"
    rig.order("other", prefix="1")
    assert rig.run("other", until="waiting") == "waiting"
    assert rig.run() == "Complete"
    assert (rig.counts().ready, rig.counts().failed) == (20, 0)


def test_s3_makes_the_manifest_itself_where_a_filter_says_it_all(rig):
    rig.glacier.populate("bucket", 30, prefix="a/", suffix=".bin", storage_class=("GLACIER", "STANDARD"))
    rig.glacier.populate("bucket", 30, prefix="b/", suffix=".bin")
    by_batch(rig, prefix="a/", batch={"generator": True})
    assert rig.run() == "Complete"
    assert (rig.counts().ready, rig.counts().open) == (15, 15)
    assert rig.glacier.begun == 15
    assert rig.notes()["batches"][0]["manifest"] == {"generated": True}


def test_versions_are_restored_by_their_manifest(rig):
    rig.glacier.bucket("bucket", versioning=True)
    old = [rig.glacier.put("bucket", f"{number:02}") for number in range(20)]
    for number in range(20):
        rig.glacier.put("bucket", f"{number:02}", storage_class="STANDARD")
    by_batch(rig, rows=[("bucket", f"{number:02}", version) for number, version in enumerate(old)])
    assert rig.run() == "Complete"
    assert rig.counts().ready == 20
    assert {rig.glacier.state("bucket", f"{n:02}", version) for n, version in enumerate(old)} == {"restored"}


def test_of_two_versions_the_report_names_the_one_that_failed(rig):
    rig.glacier.bucket("bucket", versioning=True)
    versions = [rig.glacier.put("bucket", "a") for _ in range(3)]
    by_batch(rig, rows=[("bucket", "a", version) for version in versions])
    assert rig.run(until="requesting") == "requesting"
    rig.s3.delete_object(Bucket="bucket", Key="a", VersionId=max(versions))
    assert rig.run() == "Complete"
    (failure,) = rig.failures()
    assert (failure["version"], failure["message"] != GONE[1]) == (max(versions), True)
    assert rig.counts().ready == 2


def test_a_job_that_waits_for_a_yes_gets_it(rig):
    rig.glacier.populate("bucket", 3)
    by_batch(rig)
    with rig.jobs.running("job") as run:
        rig.step(run)
        rig.step(run)
        (name,) = rig.glacier.jobs
        rig.glacier.force_job(name, "Suspended")
        rig.step(run)
    assert rig.glacier.jobs[name] != "Suspended"


@pytest.mark.parametrize(
    "state",
    ["New", "Preparing", "Ready", "Active", "Pausing", "Paused", "Completing", "Cancelling", "Failing"],
)
def test_there_is_nothing_to_do_but_wait_in_most_states(rig, state):
    rig.glacier.populate("bucket", 3)
    by_batch(rig)
    with rig.jobs.running("job") as run:
        for _ in range(2):
            rig.step(run)
        (name,) = rig.glacier.jobs
        rig.glacier.force_job(name, state)
        assert rig.step(run) == 30
    assert (rig.status(), rig.notes()["batches"][0]["status"]) == ("Restoring", state)


@pytest.mark.parametrize(("state", "status"), [("Failed", "Failed"), ("Cancelled", "Cancelled")])
def test_a_batch_job_that_ends_otherwise_ends_the_job(rig, state, status):
    rig.glacier.populate("bucket", 3)
    by_batch(rig)
    with rig.jobs.running("job") as run:
        for _ in range(2):
            rig.step(run)
        (name,) = rig.glacier.jobs
        rig.glacier.force_job(name, state)
        while rig.step(run) is not None:
            pass
    assert rig.status() == status
    assert [event["Status"] for event in rig.events()].count(status) == 1
    assert name in rig.notes()["reason"] or status == "Cancelled"


def test_a_batch_job_that_has_vanished_is_judged_by_its_objects_and_blocks_no_other(rig):
    rig.glacier.populate("bucket", 5, prefix="a/")
    rig.glacier.populate("bucket", 5, prefix="b/")
    by_batch(rig, "one", prefix="a/")
    by_batch(rig, "two", prefix="b/")
    with rig.jobs.running("one") as one, rig.jobs.running("two") as two:
        for run in (one, one, two, two):
            run.step()
        rig.glacier.clock.advance(600)
        rig.glacier.forget_job(next(iter(rig.glacier.jobs)))
        for _ in range(200):
            rig.step(one)
            rig.step(two)
    assert (rig.status("one"), rig.status("two")) == ("Complete", "Complete")
    assert rig.notes("one")["batches"][0]["status"] == "Vanished"


def test_a_kill_between_two_steps_makes_no_second_batch_job(rig):
    rig.glacier.populate("bucket", 5)
    by_batch(rig)
    with rig.jobs.running("job") as run:
        for _ in range(2):
            run.step()
    with rig.jobs.journal(
        "job", read_only=False
    ) as journal:  # as if it had been killed before it noted the id
        batches = journal.notes()["batches"]
        batches[0]["id"] = ""
        journal.note({"batches": batches})
    assert rig.run() == "Complete"
    assert len(rig.glacier.jobs) == 1


def test_cancelling_cancels_the_batch_job_too(rig):
    rig.glacier.populate("bucket", 5)
    by_batch(rig)
    with rig.jobs.running("job") as run:
        for _ in range(2):
            run.step()
        rig.jobs.cancel("job")
        while rig.step(run) is not None:
            pass
    rig.glacier.clock.advance(60)
    assert (rig.status(), list(rig.glacier.jobs.values())) == ("Cancelled", ["Cancelled"])
    assert json.dumps(rig.events()).count('"Cancelled"') == 1


def test_an_order_that_batch_operations_cannot_take_is_refused_before_anything_happens(rig):
    with pytest.raises(ConfigFaults) as caught:
        rig.order(engine="batch", tier="Expedited")
    assert len(caught.value.faults) == 3
    assert rig.jobs.names() == []


def test_a_state_that_nobody_knows_yet_is_waited_for(rig):
    rig.glacier.populate("bucket", 3)
    by_batch(rig)
    with rig.jobs.running("job") as run:
        for _ in range(2):
            rig.step(run)
        (name,) = rig.glacier.jobs
        rig.glacier.force_job(name, "Dreaming", known=False)
        assert rig.step(run) == 30
    assert (rig.status(), rig.notes()["batches"][0]["status"]) == ("Restoring", "Dreaming")


def test_a_batch_job_whose_name_was_lost_by_a_kill_is_cancelled_too(rig):
    rig.glacier.populate("bucket", 5)
    by_batch(rig)
    with rig.jobs.running("job") as run:
        for _ in range(2):
            run.step()
    with rig.jobs.journal("job", read_only=False) as journal:  # killed before it noted the id
        batches = journal.notes()["batches"]
        batches[0]["id"] = ""
        journal.note({"batches": batches})
    rig.jobs.cancel("job")
    assert rig.run() == "Cancelled"
    rig.glacier.clock.advance(60)
    assert list(rig.glacier.jobs.values()) == ["Cancelled"]


def test_a_job_that_is_cancelled_before_it_asked_makes_no_batch_job(rig):
    rig.glacier.populate("bucket", 5)
    by_batch(rig)
    assert rig.run(until="requesting") == "requesting"
    rig.jobs.cancel("job")
    assert rig.run() == "Cancelled"
    assert rig.glacier.jobs == {}
