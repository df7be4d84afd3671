"""The direct engine, end to end, on a stand-in for Glacier in its own time."""

from __future__ import annotations

import io

from tests.restore.rig import ODD
from tidegate.restore.batch import line
from tidegate.restore.selection import manifest


def test_a_prefix_is_restored_and_told_from_0_to_100_with_one_event_for_each_change(rig):
    rig.glacier.populate("bucket", 1500, prefix="a/")
    rig.glacier.populate("bucket", 10, prefix="b/")
    rig.order(prefix="a/")
    assert rig.run() == "Complete"
    assert (rig.counts().ready, rig.counts().total) == (1500, 1500)
    percents = [int(event["ProgressPercent"]) for event in rig.events()]
    assert (percents[0], percents[-1]) == (0, 100)
    assert percents == sorted(set(percents))
    assert len(percents) > 10
    assert [event["Status"] for event in rig.events()] == ["Restoring"] * (len(percents) - 1) + ["Complete"]
    assert rig.glacier.begun == 1500


def test_what_needs_no_request_gets_none_and_is_counted_all_the_same(rig):
    glacier = rig.glacier
    for name, fields in {
        "standard": {"storage_class": "STANDARD"},
        "instant": {"storage_class": "GLACIER_IR"},
        "tiering-near": {"storage_class": "INTELLIGENT_TIERING"},
        "tiering-far": {"storage_class": "INTELLIGENT_TIERING", "access_tier": "ARCHIVE_ACCESS"},
        "tiering-deep": {"storage_class": "INTELLIGENT_TIERING", "access_tier": "DEEP_ARCHIVE_ACCESS"},
        "glacier": {},
        "deep": {"storage_class": "DEEP_ARCHIVE"},
        "ongoing": {},
        "restored": {},
        "restored-too-short": {},
    }.items():
        glacier.put("bucket", name, **fields)
    s3 = rig.s3
    for name, days in (("restored", 9), ("restored-too-short", 1)):
        s3.restore_object(Bucket="bucket", Key=name, RestoreRequest={"Days": days})
    glacier.clock.advance(6 * 3600)
    s3.restore_object(Bucket="bucket", Key="ongoing", RestoreRequest={"Days": 5})
    before = glacier.counters["RestoreObject"]
    rig.order()
    assert rig.run(until="waiting") == "waiting"
    counts = rig.counts()
    assert (counts.open, counts.already, counts.asked, counts.ready) == (3, 1, 4, 2)
    assert glacier.counters["RestoreObject"] - before == 5
    assert rig.run() == "Complete"
    assert rig.counts().readable == 10
    assert all(glacier.state("bucket", name) in ("readable", "restored") for name in ("deep", "tiering-deep"))


def test_two_jobs_that_share_objects_count_each_of_them_and_both_complete(rig):
    rig.glacier.populate("bucket", 300, prefix="a/")
    rig.order("one", prefix="a/")
    rig.order("two", prefix="a/1")
    assert rig.run("one", until="waiting") == "waiting"
    assert rig.run("two") == "Complete"
    assert rig.run("one") == "Complete"
    assert (rig.counts("one").total, rig.counts("two").total) == (300, 100)
    assert rig.glacier.begun == 300
    assert [rig.events(name)[-1]["ProgressPercent"] for name in ("one", "two")] == ["100", "100"]


def test_keys_of_all_kinds_in_a_manifest_are_restored_and_named(rig):
    for key in ODD:
        rig.glacier.put("bucket", key)
    text = b"".join(line("bucket", key, "") for key in (*ODD, ODD[0], "missing")) + b"\r\n\n"
    assert rig.order(rows=manifest(io.BytesIO(text))) == 1
    assert rig.run() == "Complete"
    assert (rig.counts().ready, rig.counts().failed) == (len(ODD), 1)
    assert [failure["key"] for failure in rig.failures()] == ["missing"]
    assert rig.events()[-1]["FailedBatchFiles"] == "1"
