"""The direct engine when S3 is slow, says no or goes away; and a job that is stopped, cancelled or too late."""

from __future__ import annotations

import dataclasses

import pytest

from tests.standins.glacier import DAY
from tests.standins.glacier.faults import SLOW_DOWN
from tidegate.errors import ConfigFaults, Locked
from tidegate.restore.jobs import NoSuchJob
from tidegate.restore.nouns import Filter
from tidegate.restore.pace import Pace


def test_throttling_slows_requests_down_and_fails_none(rig):
    rig.glacier.faults.restore_rate = 150.0
    rig.glacier.faults.throttle = SLOW_DOWN
    rig.glacier.populate("bucket", 400)
    rig.order(tier="Expedited", rate=600.0)
    assert rig.run() == "Complete"
    assert (rig.counts().ready, rig.counts().failed) == (400, 0)
    assert 0 < rig.glacier.counters["RestoreObject 503"] < 300


def test_a_pace_gives_out_evenly_what_it_may_and_halves_and_recovers():
    pace = Pace(50.0, now=0.0)
    waits = [pace.take(0.0) for _ in range(55)]
    assert waits[-1] == pytest.approx(1.0, abs=0.2)
    assert waits == sorted(waits)
    pace.throttled(2.0)
    pace.throttled(2.2)  # under way together with the first
    assert pace.rate == 25
    for second in range(3, 60):
        pace.take(float(second))
    assert pace.rate == 50


def test_a_pace_does_not_save_up_for_later():
    pace = Pace(10.0, now=0.0)
    assert sum(pace.take(1000.0) == 0 for _ in range(20)) <= 2


@pytest.mark.parametrize("kind", ["drop", "drop-after", "cut", "internal-error", "unavailable"])
def test_failures_on_the_way_lose_and_double_nothing(rig, kind):
    rig.glacier.faults.add(kind, times=None, chance=0.1)
    rig.glacier.populate("bucket", 200)
    rig.order(tier="Expedited")
    assert rig.run() == "Complete"
    assert (rig.counts().ready, rig.counts().total, rig.glacier.begun) == (200, 200, 200)


def test_while_there_is_no_capacity_expedited_is_asked_for_again(rig):
    rig.glacier.faults.expedited_failures = 25
    rig.glacier.populate("bucket", 20)
    rig.order(tier="Expedited")
    assert rig.run() == "Complete"
    assert rig.notes()["tier"] == "Expedited"
    assert rig.glacier.counters["RestoreObject 503"] == 25


def test_after_ten_minutes_without_capacity_the_fallback_is_taken(rig):
    rig.glacier.faults.expedited_failures = -1
    rig.glacier.populate("bucket", 20)
    rig.order(tier="Expedited")
    assert rig.run() == "Complete"
    assert rig.notes()["tier"] == "Standard"
    assert rig.waited >= 600


def test_without_a_fallback_expedited_is_waited_for_until_time_is_over(rig):
    rig.glacier.faults.expedited_failures = -1
    rig.glacier.populate("bucket", 20)
    rig.order(tier="Expedited", fallback="", timeout=3600)
    assert rig.run() == "Timeout"
    assert rig.counts().wanted == 20


def test_deep_archive_is_asked_for_as_standard_where_there_is_no_expedited(rig):
    rig.glacier.put("bucket", "deep", storage_class="DEEP_ARCHIVE")
    rig.glacier.put("bucket", "near")
    rig.order(tier="Expedited")
    assert rig.run() == "Complete"
    assert rig.counts().ready == 2


def test_what_refuses_everything_ends_the_job_after_a_few_and_says_why(rig):
    rig.glacier.faults.add("denied", "RestoreObject", times=None)
    rig.glacier.populate("bucket", 500)
    rig.order()
    assert rig.run() == "Failed"
    assert rig.notes()["code"] == "AccessDenied"
    assert rig.glacier.counters["RestoreObject"] < 60
    assert rig.counts().wanted > 400


def test_one_object_that_is_refused_is_one_failure(rig):
    rig.glacier.faults.add("denied", "RestoreObject", times=None, matches=lambda key: key == "50")
    rig.glacier.populate("bucket", 100)
    rig.order(tier="Expedited")
    assert rig.run() == "Complete"
    assert [(it["key"], it["code"]) for it in rig.failures()] == [("50", "AccessDenied")]


def test_a_faster_tier_speeds_up_what_is_under_way(rig):
    rig.glacier.populate("bucket", 30)
    rig.order("slow", tier="Bulk")
    assert rig.run("slow", until="waiting") == "waiting"
    rig.order("fast", tier="Expedited", speed_up=True)
    assert rig.run("fast") == "Complete"
    assert rig.waited < 3600
    assert rig.run("slow") == "Complete"


def test_a_restore_of_others_that_ends_too_soon_for_us_is_lengthened(rig):
    rig.glacier.put("bucket", "a")
    rig.s3.restore_object(Bucket="bucket", Key="a", RestoreRequest={"Days": 1})
    rig.order(days=10)
    assert rig.run() == "Complete"
    rig.glacier.clock.advance(9 * DAY)
    assert rig.glacier.state("bucket", "a") == "restored"


def test_a_restore_that_came_and_went_while_nobody_looked_was_one(rig):
    rig.glacier.populate("bucket", 5)
    rig.order(days=1, timeout=30 * DAY)
    assert rig.run(until="waiting") == "waiting"
    rig.glacier.clock.advance(7 * DAY)
    assert rig.run() == "Complete"
    assert rig.glacier.begun == 5


def test_time_that_is_over_ends_a_job_once(rig):
    rig.glacier.populate("bucket", 5, storage_class="DEEP_ARCHIVE")
    rig.order(timeout=3600)
    assert rig.run() == "Timeout"
    assert rig.run() == "Timeout"
    assert [event["Status"] for event in rig.events()] == ["Restoring", "Timeout"]


def test_a_job_that_is_cancelled_asks_for_no_more(rig):
    rig.glacier.populate("bucket", 500)
    rig.order(rate=100)
    with rig.jobs.running("job", slice_seconds=0.3) as run:
        for _ in range(3):
            rig.step(run)
        rig.jobs.cancel("job")
        while rig.step(run) is not None:
            pass
    assert rig.status() == "Cancelled"
    assert 0 < rig.glacier.begun < 200
    assert rig.counts().asked == rig.glacier.begun


def test_only_one_process_runs_a_job(rig):
    rig.glacier.populate("bucket", 5)
    rig.order()
    with rig.jobs.running("job"), pytest.raises(Locked), rig.jobs.running("job"):
        pass


@pytest.mark.parametrize("name", ["nosuch", "../job", "", "a/b"])
def test_there_is_no_job_of_another_name(rig, name):
    with pytest.raises(NoSuchJob), rig.jobs.journal(name):
        pass


def test_nothing_that_was_selected_is_told_as_that(rig):
    rig.glacier.populate("bucket", 5)
    rig.order(prefix="nothing/")
    assert rig.run() == "Failed"
    assert rig.notes()["code"] == "NothingSelected"


def test_a_filter_takes_what_fits_all_of_it(rig):
    now = rig.glacier.clock.now
    for key, fields in {
        "a.bin": {},
        "a.txt": {},
        "big.bin": {"size": 5000},
        "tiny.bin": {"size": 10},
        "late.bin": {"modified": now + DAY},
        "old.bin": {"modified": now - 30 * DAY},
        "deep.bin": {"storage_class": "DEEP_ARCHIVE"},
    }.items():
        rig.glacier.put("bucket", key, **fields)
    chosen = Filter(
        classes=("GLACIER",), largest=1000, smallest=100, after=now - DAY, before=now, suffixes=(".bin",)
    )
    for field in dataclasses.fields(Filter):  # each of them takes something away
        without = dataclasses.replace(chosen, **{field.name: field.default})
        rig.order(field.name, filter=without)
        rig.run(field.name, until="requesting")
    totals = {field.name: rig.counts(field.name).total for field in dataclasses.fields(Filter)}
    assert totals == {"classes": 2, "smallest": 2, "largest": 2, "after": 2, "before": 2, "suffixes": 2}
    rig.order(filter=chosen)
    assert rig.run() == "Complete"
    assert rig.counts().total == 1


def test_keys_far_apart_are_asked_for_one_by_one_and_close_ones_listed(rig):
    rig.glacier.populate("bucket", 100_000)
    sparse = [("bucket", f"{number:05}", "") for number in range(0, 50_000, 500)]
    dense = [("bucket", f"{number:05}", "") for number in range(60_000, 62_000)]
    rig.order(rows=[*dense, *sparse])
    assert rig.run(until="requesting") == "requesting"
    assert rig.counts().wanted == 2100
    assert rig.glacier.counters["ListObjectsV2"] < 12
    assert rig.glacier.counters["HeadObject"] < 250


def test_versions_are_restored_each_for_itself(rig):
    rig.glacier.bucket("bucket", versioning=True)
    old = rig.glacier.put("bucket", "a")
    rig.glacier.put("bucket", "a")
    others = [("bucket", f"b{number:02}", rig.glacier.put("bucket", f"b{number:02}")) for number in range(30)]
    rig.order(rows=[("bucket", "a", old), *others, ("bucket", "a", "")])
    assert rig.run() == "Complete"
    assert rig.counts().ready == 32
    assert rig.glacier.counters["ListObjectVersions"] > 0


@pytest.mark.parametrize(
    ("field", "value"),
    [("tier", "Fast"), ("days", 0), ("engine", "magic"), ("rate", 0.0), ("rate", 50_000.0), ("bucket", "")],
)
def test_an_order_that_cannot_be_is_refused(rig, field, value):
    with pytest.raises(ConfigFaults) as caught:
        rig.order(**{field: value})
    assert len(caught.value.faults) == 1
    assert rig.jobs.names() == []


def test_an_object_that_s3_cannot_answer_for_fails_after_ten_tries_however_long_a_step_lasts(rig):
    rig.glacier.faults.add("internal-error", "RestoreObject", times=None, matches=lambda key: key == "3")
    rig.glacier.populate("bucket", 5)
    rig.order(tier="Expedited", timeout=3600)
    assert rig.run() == "Complete"
    assert [(it["key"], it["code"]) for it in rig.failures()] == [("3", "InternalError")]
    assert rig.counts().ready == 4


def test_an_object_that_was_refused_and_is_in_the_sample_does_not_keep_the_others_from_their_end(rig):
    rig.glacier.populate("bucket", 3000)
    rig.glacier.faults.add("denied", "RestoreObject", times=None, matches=lambda key: key.endswith("77"))
    rig.order(tier="Expedited", timeout=6 * 3600)
    assert rig.run(until="waiting") == "waiting"
    with rig.jobs.journal(
        "job", read_only=False
    ) as journal:  # as if there were a million: the sample decides
        journal.note({"price": 12_500.0})
        assert any(key.endswith("77") for _, _, key, _ in journal.sample()[1])
    assert rig.run() == "Complete"
    assert (rig.counts().ready, rig.counts().failed) == (2970, 30)
