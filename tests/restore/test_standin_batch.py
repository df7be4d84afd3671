"""The stand-in for S3 Batch Operations, seen through an unmodified boto3."""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pytest
from botocore.exceptions import ClientError

from tests.helpers import environment
from tests.standins.glacier import ACCOUNT, DAY, HOUR, MINUTE, GlacierStandIn

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

REPORT_BUCKET = "reports"
CSV = "S3BatchOperations_CSV_20180820"
ODD_KEYS = ("plus+and%20percent%", 'commas, "quotes"', "é 日本", "two\nlines", " ")
STATES = "New Preparing Suspended Ready Active Pausing Paused Completing Complete Cancelling Cancelled Failing Failed"


def restore(days: int | None = 3, tier: str = "STANDARD") -> dict[str, Any]:
    wanted: dict[str, Any] = {} if days is None else {"ExpirationInDays": days}
    return {"S3InitiateRestoreObject": {**wanted, "GlacierJobTier": tier}}


def request(token: str = "token", **more: Any) -> dict[str, Any]:
    return {
        "AccountId": ACCOUNT,
        "ConfirmationRequired": False,
        "Operation": restore(),
        "Report": {
            "Bucket": f"arn:aws:s3:::{REPORT_BUCKET}",
            "Format": "Report_CSV_20180820",
            "Enabled": True,
            "Prefix": "restores",
            "ReportScope": "AllTasks",
        },
        "ClientRequestToken": token,
        "Priority": 10,
        "RoleArn": "arn:aws:iam::123456789012:role/batch",
        **more,
    }


def manifest(glacier: GlacierStandIn, lines: Iterable[str], *, fields: str = "Bucket Key") -> dict[str, Any]:
    """Store a manifest and return what CreateJob is to be told of it."""
    body = "".join(f"{it}\n" for it in lines).encode()
    glacier.put("manifests", "list.csv", body=body, storage_class="STANDARD")
    return {
        "Spec": {"Format": CSV, "Fields": fields.split()},
        "Location": {
            "ObjectArn": "arn:aws:s3:::manifests/list.csv",
            "ETag": hashlib.md5(body).hexdigest(),
        },
    }


def numbered(glacier: GlacierStandIn, count: int, *, missing: int = 0) -> dict[str, Any]:
    """Store so many objects and make a manifest of them, and of some that are not there."""
    glacier.populate("bucket", count, prefix="k")
    width = len(str(count - 1))
    keys = [f"k{number:0{width}d}" for number in range(count)] + [f"no{number}" for number in range(missing)]
    return manifest(glacier, (f"bucket,{key}" for key in keys))


def create(control: Any, **arguments: Any) -> str:
    return control.create_job(**request(**arguments))["JobId"]


def described(control: Any, job: str) -> dict[str, Any]:
    return control.describe_job(AccountId=ACCOUNT, JobId=job)["Job"]


def status(control: Any, job: str) -> str:
    return described(control, job)["Status"]


def counted(control: Any, job: str) -> tuple[int, int, int]:
    found = described(control, job)["ProgressSummary"]
    return found["TotalNumberOfTasks"], found["NumberOfTasksSucceeded"], found["NumberOfTasksFailed"]


def refusal(operation: Callable[..., Any], **arguments: Any) -> tuple[int, str]:
    with pytest.raises(ClientError) as caught:
        operation(**arguments)
    answer = caught.value.response
    return answer["ResponseMetadata"]["HTTPStatusCode"], answer["Error"]["Code"]


def walked(glacier: GlacierStandIn, control: Any, job: str, seconds: int = 60) -> list[str]:
    """Let a job go on second by second and return the states it was in."""
    states = [status(control, job)]
    for _ in range(seconds):
        glacier.clock.advance(1)
        if (now := status(control, job)) != states[-1]:
            states.append(now)
    return states


def report(s3: Any, job: str) -> tuple[dict[str, Any], dict[str, list[list[str]]]]:
    """Read the completion report: its manifest, and the rows by outcome."""
    key = f"restores/job-{job}/manifest.json"
    found = json.loads(s3.get_object(Bucket=REPORT_BUCKET, Key=key)["Body"].read())
    rows = {}
    for result in found["Results"]:
        body = s3.get_object(Bucket=result["Bucket"], Key=result["Key"])["Body"].read()
        assert hashlib.md5(body).hexdigest() == result["MD5Checksum"]
        rows[result["TaskExecutionStatus"]] = list(csv.reader(io.StringIO(body.decode(), newline="")))
    return found, rows


def test_a_job_asks_for_every_object_and_goes_through_its_states(
    glacier: GlacierStandIn, s3: Any, control: Any
) -> None:
    job = create(control, Manifest=numbered(glacier, 2500), Description="all of it")
    assert walked(glacier, control, job) == ["New", "Preparing", "Ready", "Active", "Completing", "Complete"]
    assert counted(control, job) == (2500, 2500, 0)
    found = described(control, job)
    assert found["ProgressSummary"]["Timers"]["ElapsedTimeInActiveSeconds"] == 3
    assert found["JobArn"].endswith(f":{ACCOUNT}:job/{job}")
    assert (found["Description"], found["Priority"]) == ("all of it", 10)
    assert found["CreationTime"] < found["TerminationDate"]
    assert found["Operation"] == restore()
    assert glacier.count("bucket", "ongoing") == glacier.begun == 2500


def test_standard_restores_of_a_job_come_within_minutes_to_hours(
    glacier: GlacierStandIn, control: Any
) -> None:
    create(control, Manifest=numbered(glacier, 100))
    glacier.clock.advance(MINUTE)
    assert glacier.count("bucket", "ongoing") == 100
    glacier.clock.advance(2 * HOUR)
    assert 20 < glacier.count("bucket", "restored") < 80
    glacier.clock.advance(3 * HOUR)
    assert glacier.count("bucket", "restored") == 100


def test_a_job_to_be_confirmed_waits_for_that(glacier: GlacierStandIn, control: Any) -> None:
    job = create(control, Manifest=numbered(glacier, 10), ConfirmationRequired=True)
    assert walked(glacier, control, job) == ["New", "Preparing", "Suspended"]
    assert described(control, job)["SuspendedCause"] == "AwaitingConfirmation"
    wanted = {"AccountId": ACCOUNT, "JobId": job, "RequestedJobStatus": "Ready"}
    assert control.update_job_status(**wanted)["Status"] == "Ready"
    assert refusal(control.update_job_status, **wanted) == (400, "JobStatusException")
    assert walked(glacier, control, job)[-1] == "Complete"


def test_a_job_that_nobody_confirms_fails_after_thirty_days(glacier: GlacierStandIn, control: Any) -> None:
    job = create(control, Manifest=numbered(glacier, 10), ConfirmationRequired=True)
    glacier.clock.advance(29 * DAY)
    assert status(control, job) == "Suspended"
    glacier.clock.advance(2 * DAY)
    assert status(control, job) == "Failed"
    assert glacier.begun == 0


def test_a_job_can_be_cancelled_in_the_middle_and_reports_what_it_did(
    glacier: GlacierStandIn, s3: Any, control: Any
) -> None:
    glacier.pace.tasks_per_second = 10
    job = create(control, Manifest=numbered(glacier, 100))
    glacier.clock.advance(20)
    assert status(control, job) == "Active"
    wanted = {
        "AccountId": ACCOUNT,
        "JobId": job,
        "RequestedJobStatus": "Cancelled",
        "StatusUpdateReason": "enough",
    }
    assert control.update_job_status(**wanted)["Status"] == "Cancelling"
    assert walked(glacier, control, job) == ["Cancelling", "Cancelled"]
    assert described(control, job)["StatusUpdateReason"] == "enough"
    total, succeeded, failed = counted(control, job)
    assert (total, failed) == (100, 0)
    assert 0 < succeeded < 100
    assert glacier.begun == succeeded
    assert len(report(s3, job)[1]["succeeded"]) == succeeded
    assert refusal(control.update_job_status, **wanted) == (400, "JobStatusException")


def test_a_token_makes_one_job_only(glacier: GlacierStandIn, control: Any) -> None:
    listed = numbered(glacier, 10)
    job = create(control, Manifest=listed)
    assert create(control, Manifest=listed) == job
    other = request(Manifest=listed, Operation=restore(4))
    assert refusal(control.create_job, **other) == (400, "IdempotencyException")
    assert create(control, Manifest=listed, token="another") != job
    assert len(glacier.jobs) == 2


def test_a_job_fails_when_more_than_half_of_a_thousand_tasks_have(
    glacier: GlacierStandIn, s3: Any, control: Any
) -> None:
    listed = numbered(glacier, 2500)
    create(control, Manifest=listed)
    glacier.clock.advance(MINUTE)
    again = create(control, Manifest=listed, token="again")
    states = walked(glacier, control, again)
    assert states[-3:] == ["Active", "Failing", "Failed"]
    assert counted(control, again) == (2500, 0, 1000)
    assert described(control, again)["FailureReasons"][0]["FailureCode"]
    rows = report(s3, again)[1]["failed"]
    assert {row[4] for row in rows} == {"RestoreAlreadyInProgress"}


@pytest.mark.parametrize(
    ("there", "missing", "end"),
    [(1, 998, "Complete"), (500, 500, "Complete"), (499, 501, "Failed"), (10, 1000, "Failed")],
)
def test_a_job_completes_when_fewer_tasks_have_failed(
    glacier: GlacierStandIn, control: Any, there: int, missing: int, end: str
) -> None:
    job = create(control, Manifest=numbered(glacier, there, missing=missing))
    glacier.clock.advance(MINUTE)
    assert status(control, job) == end


@pytest.mark.parametrize(
    ("order", "failed", "succeeded"),
    [
        ("schema", ["failed", "NoSuchKey", "404"], ["succeeded", "", "202"]),
        ("sample", ["failed", "404", "NoSuchKey"], ["succeeded", "202", ""]),
    ],
)
def test_a_report_has_its_columns_in_either_order(
    glacier: GlacierStandIn, s3: Any, control: Any, order: str, failed: list[str], succeeded: list[str]
) -> None:
    glacier.pace.report_order = order
    job = create(control, Manifest=numbered(glacier, 2, missing=1))
    glacier.clock.advance(MINUTE)
    found, rows = report(s3, job)
    assert found["Format"] == "Report_CSV_20180820"
    assert found["ReportSchema"] == (
        "Bucket, Key, VersionId, TaskStatus, ErrorCode, HTTPStatusCode, ResultMessage"
    )
    assert [row[:-1] for row in rows["failed"]] == [["bucket", "no0", "", *failed]]
    assert [row[:-1] for row in rows["succeeded"]] == [
        ["bucket", f"k{it}", "", *succeeded] for it in range(2)
    ]


def test_a_report_is_of_failures_only_or_left_out_when_asked_for(
    glacier: GlacierStandIn, s3: Any, control: Any
) -> None:
    listed = numbered(glacier, 2, missing=1)
    wanted = request()["Report"]
    some = create(control, Manifest=listed, Report=wanted | {"ReportScope": "FailedTasksOnly"}, token="1")
    none = create(control, Manifest=listed, Report={"Enabled": False}, token="2")
    glacier.clock.advance(MINUTE)
    assert list(report(s3, some)[1]) == ["failed"]
    keys = [it["Key"] for it in s3.list_objects_v2(Bucket=REPORT_BUCKET)["Contents"]]
    assert keys
    assert not [it for it in keys if none in it]


def test_keys_of_a_manifest_and_a_report_are_url_encoded(
    glacier: GlacierStandIn, s3: Any, control: Any
) -> None:
    for key in ODD_KEYS:
        glacier.put("bucket", key)
    job = create(control, Manifest=manifest(glacier, [f'"bucket","{quote(key)}"' for key in ODD_KEYS]))
    glacier.clock.advance(MINUTE)
    assert counted(control, job) == (5, 5, 0)
    assert {glacier.state("bucket", key) for key in ODD_KEYS} == {"ongoing"}
    assert [row[1] for row in report(s3, job)[1]["succeeded"]] == [quote(key) for key in ODD_KEYS]


def test_a_manifest_can_name_versions_and_have_columns_to_ignore(
    glacier: GlacierStandIn, control: Any
) -> None:
    glacier.bucket("bucket", versioning=True)
    old, new = (glacier.put("bucket", "a") for _ in range(2))
    lines = [f"x,bucket,a,{old}", "y,bucket,a,none"]
    job = create(control, Manifest=manifest(glacier, lines, fields="Ignore Bucket Key VersionId"))
    glacier.clock.advance(MINUTE)
    assert counted(control, job) == (2, 1, 1)
    assert [glacier.state("bucket", "a", it) for it in (old, new)] == ["ongoing", "archived"]


@pytest.mark.parametrize(
    ("lines", "location", "code"),
    [
        (["bucket,k0", "bucket,k1,v"], {}, "InvalidManifest"),
        (["bucket,k0", ""], {}, "InvalidManifest"),
        (["bucket,k0", "other,k1"], {}, "InvalidManifest"),
        (["bucket,k0"], {"ETag": "0" * 32}, "ManifestETagMismatch"),
        (["bucket,k0"], {"ObjectArn": "arn:aws:s3:::manifests/none"}, "ManifestNotFound"),
    ],
)
def test_a_job_with_a_bad_manifest_fails_before_it_does_anything(
    glacier: GlacierStandIn, control: Any, lines: list[str], location: dict[str, str], code: str
) -> None:
    glacier.populate("bucket", 2, prefix="k")
    listed = manifest(glacier, lines)
    listed["Location"] |= location
    job = create(control, Manifest=listed)
    assert walked(glacier, control, job) == ["New", "Failing", "Failed"]
    assert described(control, job)["FailureReasons"][0]["FailureCode"] == code
    assert glacier.begun == 0


def test_days_must_be_given_for_archives_and_not_for_intelligent_tiering(
    glacier: GlacierStandIn, s3: Any, control: Any
) -> None:
    glacier.put("bucket", "cold")
    glacier.put("bucket", "tiered", storage_class="INTELLIGENT_TIERING", access_tier="ARCHIVE_ACCESS")
    glacier.put("bucket", "warm", storage_class="STANDARD")
    listed = manifest(glacier, ["bucket,cold", "bucket,tiered", "bucket,warm"])
    without = create(control, Manifest=listed, Operation=restore(None, "BULK"), token="1")
    glacier.clock.advance(MINUTE)
    assert [glacier.state("bucket", it) for it in ("cold", "tiered")] == ["archived", "ongoing"]
    having = create(control, Manifest=listed, Operation=restore(3, "BULK"), token="2")
    glacier.clock.advance(MINUTE)
    assert glacier.state("bucket", "cold") == "ongoing"
    assert [counted(control, it) for it in (without, having)] == [(3, 1, 2)] * 2
    assert [row[1:6] for row in report(s3, having)[1]["failed"]] == [
        ["tiered", "", "failed", "InvalidArgument", "400"],
        ["warm", "", "failed", "InvalidObjectState", "403"],
    ]


@pytest.mark.parametrize(
    "wrong",
    [
        {"Operation": restore(3, "EXPEDITED")},
        {"Operation": {"S3DeleteObjectTagging": {}}},
        {"ClientRequestToken": "x" * 65},
        {"Report": {"Enabled": True, "Bucket": "arn:aws:s3:::reports"}},
        {
            "Manifest": {
                "Spec": {"Format": CSV, "Fields": ["Key"]},
                "Location": {"ObjectArn": "a", "ETag": "b"},
            }
        },
        {
            "ManifestGenerator": {
                "S3JobManifestGenerator": {"SourceBucket": "a", "EnableManifestOutput": False}
            }
        },
    ],
)
def test_a_request_that_cannot_be_a_job_is_refused(
    glacier: GlacierStandIn, control: Any, wrong: dict[str, Any]
) -> None:
    arguments = request(Manifest=numbered(glacier, 1)) | wrong
    assert refusal(control.create_job, **arguments) == (400, "BadRequestException")
    assert glacier.jobs == {}


def generator(*, output: bool = False, **conditions: Any) -> dict[str, Any]:
    location = {
        "Bucket": "arn:aws:s3:::manifests",
        "ManifestPrefix": "made",
        "ManifestFormat": "S3InventoryReport_CSV_20211130",
    }
    wanted: dict[str, Any] = {
        "SourceBucket": "arn:aws:s3:::bucket",
        "Filter": conditions,
        "EnableManifestOutput": output,
    }
    if output:
        wanted["ManifestOutputLocation"] = location
    return {"S3JobManifestGenerator": wanted}


@pytest.mark.parametrize(
    ("conditions", "expected"),
    [
        ({}, "a/1.bin a/2.txt b/3.bin b/4.txt"),
        ({"KeyNameConstraint": {"MatchAnyPrefix": ["a/", "c/"]}}, "a/1.bin a/2.txt"),
        ({"KeyNameConstraint": {"MatchAnySuffix": [".txt"], "MatchAnyPrefix": ["b"]}}, "b/4.txt"),
        ({"KeyNameConstraint": {"MatchAnySubstring": ["3", "/1"]}}, "a/1.bin b/3.bin"),
        ({"MatchAnyStorageClass": ["DEEP_ARCHIVE"]}, "b/3.bin"),
        ({"ObjectSizeGreaterThanBytes": 100, "ObjectSizeLessThanBytes": 400}, "a/2.txt b/3.bin"),
        ({"CreatedAfter": "2026-01-03T00:00:00Z", "CreatedBefore": "2026-01-05T00:00:00Z"}, "b/4.txt"),
    ],
)
def test_a_generator_takes_what_its_filter_lets_through(
    glacier: GlacierStandIn, control: Any, s3: Any, conditions: dict[str, Any], expected: str
) -> None:
    first = 1_767_225_600.0  # 2026-01-01
    for number, key in enumerate(("a/1.bin", "a/2.txt", "b/3.bin", "b/4.txt"), 1):
        storage_class = "DEEP_ARCHIVE" if number == 3 else "GLACIER"
        when = first + (number - 1) * DAY
        glacier.put("bucket", key, size=100 * number, storage_class=storage_class, modified=when)
    job = create(control, ManifestGenerator=generator(**conditions))
    glacier.clock.advance(MINUTE)
    assert status(control, job) == "Complete"
    assert [row[1] for row in report(s3, job)[1]["succeeded"]] == expected.split()


def test_a_generator_writes_its_list_when_asked_to(glacier: GlacierStandIn, control: Any, s3: Any) -> None:
    for key in ODD_KEYS:
        glacier.put("bucket", key)
    job = create(control, ManifestGenerator=generator(output=True))
    glacier.clock.advance(MINUTE)
    found = described(control, job)["GeneratedManifestDescriptor"]
    assert found["Format"] == "S3InventoryReport_CSV_20211130"
    name = found["Location"]["ObjectArn"].removeprefix("arn:aws:s3:::manifests/")
    answer = s3.get_object(Bucket="manifests", Key=name)
    assert answer["ETag"].strip('"') == found["Location"]["ETag"]
    (file,) = json.loads(answer["Body"].read())["files"]
    body = gzip.decompress(s3.get_object(Bucket="manifests", Key=file["key"])["Body"].read())
    rows = list(csv.reader(io.StringIO(body.decode())))
    assert sorted(row[1] for row in rows) == sorted(quote(it) for it in ODD_KEYS)


def test_an_inventory_report_can_be_the_manifest(glacier: GlacierStandIn, control: Any) -> None:
    for key in ODD_KEYS:
        glacier.put("bucket", key)
    file = gzip.compress("".join(f'"bucket","{quote(key)}","123"\n' for key in ODD_KEYS).encode())
    glacier.put("manifests", "data/1.csv.gz", body=file, storage_class="STANDARD")
    inventory = {
        "sourceBucket": "bucket",
        "destinationBucket": "arn:aws:s3:::manifests",
        "fileFormat": "CSV",
        "fileSchema": "Bucket, Key, Size",
        "files": [{"key": "data/1.csv.gz", "size": len(file), "MD5checksum": hashlib.md5(file).hexdigest()}],
    }
    body = json.dumps(inventory).encode()
    glacier.put("manifests", "manifest.json", body=body, storage_class="STANDARD")
    location = {"ObjectArn": "arn:aws:s3:::manifests/manifest.json", "ETag": hashlib.md5(body).hexdigest()}
    listed = {"Spec": {"Format": "S3InventoryReport_CSV_20161130"}, "Location": location}
    job = create(control, Manifest=listed)
    glacier.clock.advance(MINUTE)
    assert counted(control, job) == (5, 5, 0)


def test_a_more_urgent_job_takes_the_place_of_another(glacier: GlacierStandIn, control: Any) -> None:
    glacier.pace.most_active = 1
    glacier.pace.tasks_per_second = 10
    listed = numbered(glacier, 300)
    glacier.populate("bucket", 100, prefix="k")
    slow = create(control, Manifest=listed, token="slow")
    glacier.clock.advance(25)
    urgent = create(control, Manifest=listed, token="urgent", Priority=20)
    states = walked(glacier, control, slow, 70)
    assert states == ["Active", "Pausing", "Paused", "Active", "Completing", "Complete"]
    assert status(control, urgent) == "Complete"
    assert counted(control, slow)[0] == sum(counted(control, slow)[1:])
    waiting = create(control, Manifest=listed, token="waiting")
    other = create(control, Manifest=listed, token="other")
    glacier.clock.advance(25)
    assert (status(control, waiting), status(control, other)) == ("Active", "Ready")
    control.update_job_priority(AccountId=ACCOUNT, JobId=other, Priority=99)
    assert (status(control, waiting), described(control, other)["Priority"]) == ("Pausing", 99)


def test_a_job_can_be_put_into_any_of_thirteen_states(glacier: GlacierStandIn, control: Any) -> None:
    job = create(control, Manifest=numbered(glacier, 10))
    shape = control.meta.service_model.shape_for("JobStatus")
    assert sorted(shape.enum) == sorted(STATES.split())
    for state in shape.enum:
        glacier.force_job(job, state)
        assert status(control, job) == state
        glacier.clock.advance(HOUR)
        assert status(control, job) == state
        found = control.list_jobs(AccountId=ACCOUNT, JobStatuses=[state])["Jobs"]
        assert [it["JobId"] for it in found] == [job]
    with pytest.raises(ValueError, match="Canceled"):
        glacier.force_job(job, "Canceled")


def test_jobs_are_listed_newest_first_in_pages(glacier: GlacierStandIn, control: Any) -> None:
    listed = numbered(glacier, 1)
    jobs = [create(control, Manifest=listed, token=str(number)) for number in range(5)]
    glacier.force_job(jobs[1], "Failed")
    found: list[str] = []
    token: dict[str, str] = {}
    while True:
        page = control.list_jobs(AccountId=ACCOUNT, MaxResults=2, **token)
        found += [it["JobId"] for it in page["Jobs"]]
        if "NextToken" not in page:
            break
        token = {"NextToken": page["NextToken"]}
    assert found == jobs[::-1]
    some = control.list_jobs(AccountId=ACCOUNT, JobStatuses=["New", "Failed"])["Jobs"]
    assert len(some) == 5
    bad = refusal(control.list_jobs, AccountId=ACCOUNT, NextToken="?")
    assert bad == (400, "InvalidNextTokenException")


def test_a_job_vanishes_after_ninety_days_or_on_command(glacier: GlacierStandIn, control: Any) -> None:
    listed = numbered(glacier, 1)
    job = create(control, Manifest=listed)
    glacier.clock.advance(90 * DAY)
    assert status(control, job) == "Complete"
    glacier.clock.advance(MINUTE)
    assert refusal(control.describe_job, AccountId=ACCOUNT, JobId=job) == (404, "NotFoundException")
    other = create(control, Manifest=listed, token="other")
    glacier.forget_job(other)
    assert refusal(control.describe_job, AccountId=ACCOUNT, JobId=other) == (404, "NotFoundException")
    glacier.clock.advance(MINUTE)


def test_another_account_sees_nothing_and_faults_strike_here_too(
    glacier: GlacierStandIn, control: Any
) -> None:
    job = create(control, Manifest=numbered(glacier, 1))
    assert refusal(control.describe_job, AccountId="210987654321", JobId=job) == (403, "AccessDenied")
    glacier.faults.add("too-many", "DescribeJob")
    assert refusal(control.describe_job, AccountId=ACCOUNT, JobId=job) == (429, "TooManyRequestsException")
    assert status(control, job) == "New"
    assert glacier.counters["DescribeJob"] == 3


def test_a_process_with_the_environment_finds_both_by_itself(glacier: GlacierStandIn) -> None:
    glacier.put("bucket", "a", storage_class="STANDARD", size=3)
    code = (
        "import boto3;"
        "print(boto3.client('s3').head_object(Bucket='bucket', Key='a')['ContentLength'],"
        " boto3.client('s3control').list_jobs(AccountId='123456789012')['Jobs'])"
    )
    ours = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    ran = subprocess.run(
        [sys.executable, "-c", code],
        env=environment() | ours | glacier.environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert (ran.stdout, ran.stderr) == ("3 []\n", "")
