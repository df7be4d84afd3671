"""The Lambdas from end to end: what is ordered comes back, is counted truly, and each job tells its end once.

S3 and S3 Batch Operations are played by a stand-in that does what AWS documents, all else by moto.
"""

from __future__ import annotations

import json
import threading
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pytest

from tests.cloud.rig import FIVE, HOUR, SIX, app, body_for
from tests.restore.rig import ODD
from tidegate.cloud.work import HOPELESS_SECONDS, LEASE_SECONDS, SOON

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cloud.rig import App, Moto

pytestmark = pytest.mark.slow


def rows(names: list[str], bucket: str = "archive") -> str:
    return "".join(f"{bucket},{name}\n" for name in names)


def some(cloud: App, count: int, prefix: str = "a/") -> list[str]:
    """Put so many archived objects there, and name them."""
    names = [f"{prefix}{number:05}" for number in range(count)]
    for name in names:
        cloud.glacier.put("archive", name)
    return names


def ends(told: list[dict[str, Any]]) -> list[str]:
    return [it["Status"] for it in told if it["Status"] != "Restoring"]


def test_a_job_is_answered_with_the_six_fields_and_comes_back_with_true_progress(cloud: App) -> None:
    answer = cloud.order(rows(some(cloud, 300)).replace("\n", "\r\n"))
    assert set(answer) == SIX
    assert answer["SNSTopic"] == cloud.variables["TOPIC"]
    assert answer["SQSQueue"] == cloud.variables["QUEUE"]
    assert answer["ReportBucket"] == cloud.variables["REPORTS"]
    assert answer["TotalFilesRequested"] == 300
    assert answer["BatchOperation"]["JobId"] in cloud.glacier.jobs
    name = answer["BulkJobId"]
    job = cloud.ends(name, step=600.0)
    assert {field: job[field] for field in FIVE} == {
        "JobId": name,
        "BatchJobId": answer["BatchOperation"]["JobId"],
        "Status": "Complete",
        "ProgressPercent": "100",
        "FailedBatchFiles": "0",
    }
    told = cloud.events(name)
    assert ends(told) == ["Complete"]
    assert told[-1]["Status"] == "Complete"
    assert all(isinstance(it[field], str) for it in told for field in FIVE)
    shown = [int(it["ProgressPercent"]) for it in told]
    assert shown == sorted(shown)
    assert len({it for it in shown if 0 < it < 100}) > 3
    assert cloud.glacier.restores("archive") == 300
    row = cloud.item(name)
    assert "Active" not in row
    assert int(row["Expires"]["N"]) > cloud.glacier.clock.now + 89 * 24 * HOUR
    assert len(cloud.items()) == 1  # whatever the number of objects


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (body_for(tier="EXPEDITED"), "tier: S3 Batch Operations have no EXPEDITED"),
        (body_for(expiration_days=0), "expiration_days: write a number"),
        (body_for(expiration_days="many"), "expiration_days: write a number"),
        (body_for(expiration_days=True), "expiration_days: write a number"),
        (body_for(bucket=""), "bucket: is missing"),
        (body_for(client_tag=7), "client_tag: is missing, or no text"),
        (body_for(client_tag="a\nb"), "client_tag: write up to"),
        (body_for(colour="red"), "colour: there is no such key"),
        (
            body_for(key="none.csv"),
            "key: s3://archive/none.csv cannot be read: there is no such object, or no such bucket",
        ),
        (
            body_for(bucket="foreign"),
            "in foreign, which this app may not read; its parameter Buckets names archive, other",
        ),
        (
            body_for(key="foreign.csv"),
            "key: the manifest names objects in foreign, stranger, which this app may not read",
        ),
        (body_for(key="empty.csv"), "the manifest names no object"),
        (body_for(key="wide.csv"), "the manifest, line 2: there are 4 fields"),
        (body_for(key="torn.csv"), "the manifest, line "),
        ("{", "the body is not JSON"),
        ([1], "the body is no map"),
        (None, "the body is not JSON"),
    ],
)
def test_what_is_wrong_is_answered_with_400_before_anything_is_done(
    untouched: App, body: Any, words: str
) -> None:
    cloud = untouched
    for key, content in {
        "manifest.csv": b"archive,a\n",
        "empty.csv": b"\r\n\r\n",
        "foreign.csv": b"archive,a\nstranger,a\nother,a\nforeign,a\n",
        "wide.csv": b"archive,a\narchive,b,c,d\n",
        "torn.csv": b'archive,"a\n',
    }.items():
        cloud.glacier.put("archive", key, storage_class="STANDARD", body=content)
    status, answer = cloud.ask("POST", "/create-job", body)
    assert status == 400, answer
    assert words in answer["Error"]
    assert cloud.items() == []
    assert cloud.glacier.jobs == {}
    assert not cloud.s3.list_objects_v2(Bucket=cloud.variables["REPORTS"]).get("Contents")
    assert cloud.events() == []


def test_one_token_makes_one_job_and_another_order_of_that_token_is_a_conflict(cloud: App) -> None:
    names = some(cloud, 5)
    first = cloud.order(rows(names), clientToken="t-1")
    assert cloud.order(rows(names), clientToken="t-1") == first
    assert len(cloud.glacier.jobs) == len(cloud.items()) == 1
    status, answer = cloud.ask("POST", "/create-job", body_for(clientToken="t-1", expiration_days=9))
    assert (status, answer["Error"][:12]) == (409, "clientToken:")
    assert cloud.order(rows(names))["BulkJobId"] != first["BulkJobId"]


def test_a_cancelled_job_ends_at_once_and_once(cloud: App) -> None:
    answer = cloud.order(rows(some(cloud, 5)))
    name = answer["BulkJobId"]
    status, job = cloud.ask("POST", "/jobs/{id}/cancel", id=name)
    assert (status, job["Status"]) == (200, "Cancelled")
    assert cloud.ask("POST", "/jobs/{id}/cancel", id=name)[1]["Status"] == "Cancelled"
    cloud.pass_time(30 * 60.0)
    assert cloud.glacier.jobs[answer["BatchOperation"]["JobId"]] in ("Cancelled", "Cancelling")
    assert ends(cloud.events(name)) == ["Cancelled"]
    for method, resource in (("GET", "/jobs/{id}"), ("POST", "/jobs/{id}/cancel")):
        assert cloud.ask(method, resource, id="none")[0] == 404


def test_a_cancellation_that_comes_while_somebody_is_at_the_job_is_not_lost(
    cloud: App, tmp_path: Path
) -> None:
    name = cloud.order(rows(some(cloud, 5)))["BulkJobId"]
    work, now = cloud.lambdas._made[1], int(cloud.glacier.clock.now)  # type: ignore[index]
    cloud.glacier.clock.advance(60.0)
    row = work._table.lease(name, now + 60, now + LEASE_SECONDS)
    assert row
    (tmp_path / "restore").mkdir()
    work._fetch(row["Journal"], tmp_path / "restore" / f"{name}.job")
    assert cloud.ask("POST", "/jobs/{id}/cancel", id=name)[1]["Status"] == "Restoring"
    work._bring_on(row, tmp_path)
    assert cloud.tick() == 1
    assert cloud.job(name)["Status"] == "Cancelled"
    assert ends(cloud.events(name)) == ["Cancelled"]


def test_all_jobs_are_listed_page_by_page(cloud: App) -> None:
    names = {cloud.order("archive,none\n")["BulkJobId"] for _ in range(2)}
    names |= set(cloud.copies(names.copy().pop(), 58))
    status, first = cloud.ask("GET", "/jobs")
    assert status == 200
    second = cloud.ask("GET", "/jobs", next=first["next"])[1]
    assert "next" not in second
    assert {it["JobId"] for it in first["jobs"] + second["jobs"]} == names
    assert len(first["jobs"]) + len(second["jobs"]) == 60


def test_a_tick_with_nothing_to_do_costs_one_query(cloud: App) -> None:
    name = cloud.order(rows(some(cloud, 3)))["BulkJobId"]
    cloud.ends(name)
    asked: list[str] = []
    cloud.lambdas._made[1]._table._client.meta.events.register(  # type: ignore[index]
        "before-call", lambda model, **_: asked.append(model.name)
    )
    before = dict(cloud.glacier.counters)
    assert cloud.tick() == 0
    assert asked == ["Query"]
    assert dict(cloud.glacier.counters) == before


def test_objects_that_are_not_there_are_counted_and_do_not_keep_a_job_from_its_end(cloud: App) -> None:
    answer = cloud.order(rows([*some(cloud, 100), "missing"]))
    assert answer["TotalFilesRequested"] == 101
    job = cloud.ends(answer["BulkJobId"])
    assert (job["Status"], job["ProgressPercent"], job["FailedBatchFiles"]) == ("Complete", "100", "1")
    assert job["detail"]["failures"] == {"NoSuchKey": 1}


def test_two_jobs_that_share_objects_both_end_with_true_counts(cloud: App) -> None:
    names = some(cloud, 40)
    first = cloud.order(rows(names[:30]))["BulkJobId"]
    cloud.pass_time(20 * 60.0)
    second = cloud.order(rows(names[10:]))["BulkJobId"]
    for name in (first, second):
        job = cloud.job(name) if cloud.job(name)["Status"] != "Restoring" else cloud.ends(name)
        assert (job["Status"], job["FailedBatchFiles"], job["TotalFilesRequested"]) == ("Complete", "0", 30)
        assert job["detail"]["counts"]["ready"] == 30
    assert cloud.glacier.restores("archive") == 40


def test_odd_keys_versions_quotes_and_doubles_are_understood(cloud: App) -> None:
    cloud.glacier.bucket("other", versioning=True)
    for key in ODD:
        cloud.glacier.put("archive", key)
    version = cloud.glacier.put("other", "v")
    cloud.glacier.put("other", "v")
    lines = [f'archive,"{quote(key)}"' for key in ODD] + [
        f"other,v,{version}",
        "",
        f"archive,{quote(ODD[0])}",
    ]
    answer = cloud.order("\r\n".join(lines))
    assert answer["TotalFilesRequested"] == len(ODD) + 1
    assert len(answer["BatchOperation"]["JobId"].split(",")) == 2  # a job of S3 is for one bucket
    job = cloud.ends(answer["BulkJobId"])
    assert (job["Status"], job["FailedBatchFiles"]) == ("Complete", "0")
    assert cloud.glacier.restores("archive") == len(ODD)
    assert cloud.glacier.restores("other") == 1


def test_a_batch_job_that_has_vanished_holds_nobody_up_and_is_judged_by_its_objects(cloud: App) -> None:
    names = some(cloud, 20)
    vanished, fine = (cloud.order(rows(names[at : at + 10])) for at in (0, 10))
    cloud.pass_time(600.0)
    cloud.glacier.forget_job(vanished["BatchOperation"]["JobId"])
    assert cloud.ends(fine["BulkJobId"])["Status"] == "Complete"
    cloud.pass_time(6 * HOUR, step=1800.0)
    assert cloud.job(vanished["BulkJobId"])["Status"] == "Complete"
    told = cloud.events()
    assert sorted(it["JobId"] for it in told if it["Status"] == "Complete") == sorted(
        one["BulkJobId"] for one in (vanished, fine)
    )


def test_a_job_whose_file_is_lost_holds_nobody_up_and_has_an_end_too(cloud: App) -> None:
    names = some(cloud, 20)
    lost, fine = (cloud.order(rows(names[at : at + 10])) for at in (0, 10))
    journal = cloud.item(lost["BulkJobId"])["Journal"]["S"]
    cloud.s3.delete_object(Bucket=cloud.variables["REPORTS"], Key=journal)
    assert cloud.ends(fine["BulkJobId"])["Status"] == "Complete"
    assert cloud.job(lost["BulkJobId"])["Status"] == "Restoring"
    cloud.glacier.clock.advance(HOPELESS_SECONDS)
    cloud.pass_time(600.0)
    assert cloud.job(lost["BulkJobId"])["Status"] == "Timeout"
    assert ends(cloud.events(lost["BulkJobId"])) == ["Timeout"]
    assert "Active" not in cloud.item(lost["BulkJobId"])


def test_a_batch_job_that_fails_ends_the_job_as_failed(cloud: App) -> None:
    answer = cloud.order(rows(some(cloud, 5)))
    cloud.glacier.force_job(answer["BatchOperation"]["JobId"], "Failed")
    job = cloud.ends(answer["BulkJobId"])
    assert job["Status"] == "Failed"
    assert int(job["ProgressPercent"]) < 100
    assert ends(cloud.events(answer["BulkJobId"])) == ["Failed"]


def test_a_job_that_takes_too_long_ends_with_timeout(cloud: App) -> None:
    answer = cloud.order(rows(some(cloud, 5)))
    cloud.glacier.force_job(answer["BatchOperation"]["JobId"], "Paused")
    job = cloud.ends(answer["BulkJobId"], hours=130, step=6 * HOUR)
    assert job["Status"] == "Timeout"
    cloud.pass_time(HOUR)
    assert ends(cloud.events(answer["BulkJobId"])) == ["Timeout"]


def one_at_a_time(cloud: App) -> None:
    """Have moto look at a condition and write in one step, as DynamoDB does: it takes two, and many threads."""
    gate = threading.Lock()
    table = cloud.lambdas._made[1]._table  # type: ignore[index]
    events = table._client.meta.events
    events.register("before-call.dynamodb", lambda **_: gate.acquire() and None)
    events.register("after-call.dynamodb", lambda **_: gate.release())
    events.register("after-call-error.dynamodb", lambda **_: gate.release())


def test_ticks_at_the_same_time_tell_everything_once(cloud: App) -> None:
    name = cloud.order(rows(some(cloud, 20)))["BulkJobId"]
    one_at_a_time(cloud)
    for _ in range(24):
        cloud.glacier.clock.advance(1800.0)
        crowd = [threading.Thread(target=cloud.lambdas._made[1].advance, args=(name,)) for _ in range(3)]  # type: ignore[index]
        for thread in crowd:
            thread.start()
        for thread in crowd:
            thread.join()
    assert cloud.job(name)["Status"] == "Complete"
    told = [it["detail"]["eventId"] for it in cloud.events(name)]
    assert len(told) == len(set(told)) > 2


def test_a_lambda_that_was_killed_at_its_work_is_replaced_when_its_lease_is_over(cloud: App) -> None:
    name = cloud.order(rows(some(cloud, 5)))["BulkJobId"]
    cloud.glacier.clock.advance(HOUR)
    table, now = cloud.lambdas._made[1]._table, int(cloud.glacier.clock.now)  # type: ignore[index]
    killed = table.lease(name, now, now + LEASE_SECONDS)
    assert killed
    assert cloud.tick() == 0
    cloud.glacier.clock.advance(LEASE_SECONDS + 1)
    assert cloud.tick() == 1
    assert not table.commit(killed, {"Status": "Failed"})  # if it comes back after all
    assert cloud.ends(name)["Status"] == "Complete"


def test_events_wait_while_the_topic_is_away_and_come_in_order(cloud: App) -> None:
    name = cloud.order(rows(some(cloud, 5)))["BulkJobId"]
    topic = cloud.variables["TOPIC"]
    sns = cloud.client("sns")
    sns.delete_topic(TopicArn=topic)
    cloud.ends(name)
    assert "Active" in cloud.item(name)  # as long as there is something to tell
    sns.create_topic(Name=topic.rpartition(":")[2])
    sns.subscribe(
        TopicArn=topic,
        Protocol="sqs",
        Endpoint=cloud.variables["QUEUE"],
        Attributes={"RawMessageDelivery": "true"},
    )
    cloud.pass_time(600.0)
    told = cloud.events(name)
    assert ends(told) == ["Complete"]
    numbers = [int(it["detail"]["eventId"].rpartition("-")[2]) for it in told]
    assert sorted(numbers) == list(range(1, len(numbers) + 1))
    assert "Active" not in cloud.item(name)


def test_what_a_bucket_tells_to_whom_is_left_alone(cloud: App) -> None:
    queue = {
        "QueueArn": "arn:aws:sqs:us-east-1:123456789012:mine",
        "Events": ["s3:ObjectCreated:*"],
        "Id": "mine",
    }
    mine = {"QueueConfigurations": [queue]}
    cloud.s3.put_bucket_notification_configuration(Bucket="archive", NotificationConfiguration=mine)
    cloud.order(rows(some(cloud, 3)))
    after = cloud.s3.get_bucket_notification_configuration(Bucket="archive")
    assert {**after, "ResponseMetadata": None} == {**mine, "ResponseMetadata": None}


def test_on_request_event_bridge_is_added_and_makes_a_job_be_looked_at_sooner(server: Moto) -> None:
    with app(server, notify=True) as cloud:
        queue = {
            "QueueArn": "arn:aws:sqs:us-east-1:123456789012:mine",
            "Events": ["s3:ObjectCreated:*"],
            "Id": "mine",
        }
        mine = {"QueueConfigurations": [queue]}
        cloud.s3.put_bucket_notification_configuration(Bucket="archive", NotificationConfiguration=mine)
        answer = cloud.order(rows(some(cloud, 3)), tier="BULK")
        after = cloud.s3.get_bucket_notification_configuration(Bucket="archive")
        assert after["QueueConfigurations"] == [queue]
        assert after["EventBridgeConfiguration"] == {}
        cloud.pass_time(HOUR)
        due = int(cloud.item(answer["BulkJobId"])["Due"]["N"])
        assert due > cloud.glacier.clock.now
        event = {"source": "aws.s3", "detail": {"bucket": {"name": "archive"}, "object": {"key": "a/1"}}}
        other = {"source": "aws.s3", "detail": {"bucket": {"name": "other"}}}
        records = {
            "Records": [
                {"messageId": str(at), "body": json.dumps(it)} for at, it in enumerate((event, other))
            ]
        }
        records["Records"].append({"messageId": "2", "body": "no JSON"})
        assert cloud.call("receive", {"Records": records["Records"][1:]}) == {"batchItemFailures": []}
        assert int(cloud.item(answer["BulkJobId"])["Due"]["N"]) == due
        cloud.call("receive", records)
        assert int(cloud.item(answer["BulkJobId"])["Due"]["N"]) <= cloud.glacier.clock.now
        heads = cloud.glacier.counters["ListObjectsV2"] + cloud.glacier.counters["HeadObject"]
        assert cloud.tick() == 1
        # One HEAD is for the file of the job; the look itself is a listing, or a HEAD for each object.
        assert cloud.glacier.counters["ListObjectsV2"] + cloud.glacier.counters["HeadObject"] > heads + 1
        assert cloud.ends(answer["BulkJobId"])["Status"] == "Complete"


def test_a_large_job_is_begun_by_a_tick_and_seen_whole(cloud: App) -> None:
    count = SOON + 1
    cloud.glacier.populate("archive", count, prefix="big/")
    answer = cloud.order(rows([f"big/{number:05}" for number in range(count)]), tier="BULK")
    assert (answer["TotalFilesRequested"], answer["BatchOperation"]) == (count, {"JobId": ""})
    cloud.glacier.clock.advance(120)
    assert cloud.tick() == 1
    assert cloud.job(answer["BulkJobId"])["BatchJobId"] in cloud.glacier.jobs
    assert cloud.item(answer["BulkJobId"])["Listed"]["S"] == ""
    job = cloud.ends(answer["BulkJobId"], step=4 * HOUR)
    assert (job["Status"], job["detail"]["counts"]["ready"]) == ("Complete", count)
    assert len(cloud.items()) == 1
