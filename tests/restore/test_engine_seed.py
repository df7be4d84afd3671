"""What the seed did wrong, each as it was found there, and that none of it happens here."""

from __future__ import annotations

import io

import pytest

from tests.restore.test_engine_batch import by_batch
from tidegate.errors import ConfigFaults
from tidegate.restore.journal import Journal
from tidegate.restore.selection import manifest


def read(text: bytes, **fields: object) -> list[tuple[str, str, str]]:
    return list(manifest(io.BytesIO(text), **fields))


def test_1_progress_counts_what_is_there_in_percent(rig):
    # The seed told the part that remained, rounded to 0 or 1.
    rig.glacier.populate("bucket", 300)
    rig.order()
    assert rig.run() == "Complete"
    for event in rig.events():
        counts, told = event["detail"]["counts"], int(event["ProgressPercent"])
        assert 100 * counts["ready"] // 300 <= told + 1
    assert len({event["ProgressPercent"] for event in rig.events()}) > 10


def test_2_twelve_thousand_objects_are_counted_on_every_page(rig):
    # The seed read one page of 8,620 rows, and completed when those were there.
    rig.glacier.populate("bucket", 12_000, storage_class=("GLACIER", *("STANDARD",) * 5))  # some on each page
    rig.order(tier="Expedited")
    assert rig.run() == "Complete"
    assert (rig.counts().ready, rig.counts().open) == (2000, 10_000)
    assert rig.glacier.count("bucket", "restored") == 2000
    assert rig.glacier.counters["ListObjectsV2"] > 12


def test_2_the_job_is_not_complete_while_a_single_object_of_many_is_not(rig):
    rig.glacier.populate("bucket", 3000, prefix="a/")
    rig.glacier.put("bucket", "z", storage_class="DEEP_ARCHIVE")
    rig.order()
    with rig.jobs.running("job", slice_seconds=5) as run:
        while rig.counts().ready < 3000:
            rig.step(run)
        assert rig.events()[-1]["ProgressPercent"] == "99"
        rig.glacier.clock.advance(4 * 3600)
        while rig.step(run) is not None:
            pass
    assert (rig.status(), rig.counts().ready) == ("Complete", 3001)


def test_3_a_space_in_a_key_is_the_same_key_wherever_it_is_written(rig):
    # The seed looked for %20 where the event said +, and never completed.
    rig.glacier.put("bucket", "a b+c.bin")
    assert rig.order(rows=iter(read(b"bucket,a%20b%2Bc.bin\nbucket,a+b%2Bc.bin\n"))) == 1
    assert rig.run() == "Complete"
    assert (rig.counts().ready, rig.counts().total) == (1, 1)


def test_4_one_object_that_is_not_there_is_one_failure_and_the_others_complete(rig):
    # The seed waited five days for it, at 0 %.
    rows = [("bucket", f"{number:03}", "") for number in range(100)]
    rig.glacier.populate("bucket", 1000)
    by_batch(rig, rows=[*rows, ("bucket", "gone", "")])
    assert rig.run() == "Complete"
    assert (rig.counts().ready, rig.counts().failed) == (100, 1)
    assert rig.events()[-1]["FailedBatchFiles"] == "1"


def test_5_the_same_manifest_twice_is_two_jobs_that_both_complete(rig):
    # The seed moved the rows of the first job to the second, and cancelled the first.
    rig.glacier.populate("bucket", 50)
    rows = [("bucket", f"{number:02}", "") for number in range(50)]
    by_batch(rig, "one", rows)
    by_batch(rig, "two", rows)
    assert rig.run("one", until="waiting") == "waiting"
    assert rig.run("two") == "Complete"
    assert rig.run("one") == "Complete"
    assert [rig.counts(name).ready for name in ("one", "two")] == [50, 50]


def test_6_versions_quotes_and_blank_lines_are_read_before_anything_is_ordered(rig):
    # The seed made the batch job first, and then could not read them.
    text = (
        b'"bucket","a%2Cb",v1\r\n\r\nbucket,line%0Aend,\n"bucket","with ""quotes""",v3\nbucket,x%0B%C2%85y\n'
    )
    assert read(text) == [
        ("bucket", "a,b", "v1"),
        ("bucket", "line\nend", ""),
        ("bucket", 'with "quotes"', "v3"),
        ("bucket", "x\x0b\x85y", ""),
    ]


def test_6_a_line_end_of_unicode_does_not_end_a_line(rig):
    assert read("bucket,a\u2028b\x0bc\x0cd\x85e\n".encode(), plain=True) == [
        ("bucket", "a\u2028b\x0bc\x0cd\x85e", "")
    ]


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        (b"bucket\n", "line 1: there are 1 fields instead of bucket,key,version"),
        (b"bucket,a\nbucket,b,c,d\n", "line 2: there are 4 fields"),
        (b"bucket,\n", "line 1: it names no bucket, or no key"),
        (b"bucket,%ff\n", "is not text in UTF-8"),
        (b"bucket," + b"a" * 1025, "has at most 1024 bytes"),
        (b'bucket,"a\n', "unexpected end of data"),
        (b"Bucket,Key\nbucket,a\n", "line 1: Bucket,Key is a header; take this line away"),
        (b"bucket,key,version\nbucket,a\n", "is a header"),
        (b"a/b,bucket\n", "'a/b' is not the name of a bucket; is it --fields key,bucket?"),
        (b"bucket,a\n" * 3 + b"bucket,\xe9\n", "line 4: it is not text in UTF-8"),
        ("bucket,a\n".encode("utf-16"), "line 1: "),
    ],
)
def test_6_a_manifest_that_cannot_be_read_leaves_no_job_behind(rig, text, fault):
    with pytest.raises(ConfigFaults) as caught:
        by_batch(rig, rows=manifest(io.BytesIO(text)))
    assert fault in caught.value.faults[0]
    assert (rig.jobs.names(), rig.glacier.jobs) == ([], {})
    assert [path.suffix for path in rig.folder.rglob("*") if path.is_file()] == []


def test_7_what_a_bucket_tells_to_whom_is_left_as_it_is(rig):
    # The seed replaced the bucket's notifications by its own.
    rig.glacier.populate("bucket", 5)
    queue = {"QueueArn": "arn:aws:sqs:us-east-1:123456789012:mine", "Events": ["s3:ObjectCreated:*"]}
    rig.s3.put_bucket_notification_configuration(
        Bucket="bucket", NotificationConfiguration={"QueueConfigurations": [queue]}
    )
    before = rig.s3.get_bucket_notification_configuration(Bucket="bucket")["QueueConfigurations"]
    by_batch(rig)
    assert rig.run() == "Complete"
    after = rig.s3.get_bucket_notification_configuration(Bucket="bucket")["QueueConfigurations"]
    assert after == before


def test_8_an_error_in_the_answer_about_a_batch_job_is_no_end(rig):
    # In the seed one such answer ended the round for all jobs; see also the vanished one in test_engine_batch.
    rig.glacier.populate("bucket", 5)
    by_batch(rig)
    rig.glacier.faults.add("internal-error", "DescribeJob", times=3)
    rig.glacier.faults.add("too-many", "DescribeJob", times=3)
    assert rig.run() == "Complete"
    assert rig.glacier.counters["fault too-many"] == 3


def test_9_an_event_that_cannot_be_told_is_told_later_and_holds_nothing_up(rig, tmp_path):
    # The seed's handler of this error was an error.
    rig.glacier.populate("bucket", 5)
    folder = tmp_path / "not-yet"
    rig.order(sinks=({"kind": "file", "target": str(folder / "events")},))
    with rig.jobs.running("job") as run:
        for _ in range(100):
            rig.step(run)
        assert rig.status() == "Complete"
        folder.mkdir()
        while rig.step(run) is not None:
            pass
    lines = (folder / "events").read_text().splitlines()
    assert len(lines) == len(rig.events())
    assert '"Complete"' in lines[-1]


def test_a_journal_that_has_ended_takes_no_second_end(rig):
    rig.glacier.populate("bucket", 5)
    rig.order()
    assert rig.run() == "Complete"
    with rig.jobs.journal("job", read_only=False) as journal:
        assert isinstance(journal, Journal)
        journal.note({"status": "Failed"}, event={"Status": "Failed"}, sinks=1)
    assert (rig.status(), rig.events()[-1]["Status"]) == ("Complete", "Complete")
