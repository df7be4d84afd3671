"""The stand-in for S3's archive classes, seen through an unmodified boto3."""

from __future__ import annotations

import contextlib
import hashlib
import subprocess
import sys
import threading
import tracemalloc
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from botocore.exceptions import ClientError, ConnectionClosedError, HTTPClientError, ReadTimeoutError

from tests.helpers import environment, eventually
from tests.restore.conftest import HALF_PAST_TEN, ONE_ATTEMPT
from tests.standins.glacier import DAY, HOUR, MINUTE, GlacierStandIn

if TYPE_CHECKING:
    from collections.abc import Iterator

ODD_KEYS = (
    'commas, and "quotes"',
    "plus+and%20percent%",
    "é ü 日本",
    "two\nlines\tand\ttabs",
    "a//b/../c",
    "<&>'",
    " ",
)
TIERS = ("Expedited", "Standard", "Bulk")
LONGEST = {
    ("GLACIER", "Expedited"): 5 * MINUTE,
    ("GLACIER", "Standard"): 5 * HOUR,
    ("GLACIER", "Bulk"): 12 * HOUR,
    ("DEEP_ARCHIVE", "Standard"): 12 * HOUR,
    ("DEEP_ARCHIVE", "Bulk"): 48 * HOUR,
}
SHORTEST = {
    ("GLACIER", "Expedited"): MINUTE,
    ("GLACIER", "Standard"): 3 * HOUR,
    ("GLACIER", "Bulk"): 5 * HOUR,
    ("DEEP_ARCHIVE", "Standard"): 9 * HOUR,
    ("DEEP_ARCHIVE", "Bulk"): 12 * HOUR,
}


def request(tier: str | None = "Standard", days: int | None = 3) -> dict[str, Any]:
    wanted: dict[str, Any] = {} if days is None else {"Days": days}
    return wanted if tier is None else wanted | {"GlacierJobParameters": {"Tier": tier}}


def ask(
    s3: Any, key: str, tier: str | None = "Standard", days: int | None = 3, **more: str
) -> tuple[int, str]:
    """Ask for an object in "bucket"; return the status and the code of the error, if any."""
    try:
        answer = s3.restore_object(Bucket="bucket", Key=key, RestoreRequest=request(tier, days), **more)
    except ClientError as error:
        return error.response["ResponseMetadata"]["HTTPStatusCode"], error.response["Error"]["Code"]
    return answer["ResponseMetadata"]["HTTPStatusCode"], ""


def said(s3: Any, key: str, **more: str) -> str | None:
    """Return what HEAD says about the restore of an object."""
    return s3.head_object(Bucket="bucket", Key=key, **more).get("Restore")


def read(s3: Any, key: str, **more: Any) -> Any:
    return s3.get_object(Bucket="bucket", Key=key, **more)["Body"].read()


def refused(operation: Any, **arguments: Any) -> tuple[int, str]:
    with pytest.raises(ClientError) as caught:
        operation(**arguments)
    answer = caught.value.response
    return answer["ResponseMetadata"]["HTTPStatusCode"], answer["Error"]["Code"]


def listed(s3: Any, **arguments: Any) -> dict[str, Any]:
    """List a bucket whole, with the restores."""
    pages = s3.get_paginator("list_objects_v2").paginate(
        Bucket="bucket", OptionalObjectAttributes=["RestoreStatus"], **arguments
    )
    return {it["Key"]: it for page in pages for it in page.get("Contents", ())}


def utc(*numbers: int) -> datetime:
    return datetime(*numbers, tzinfo=timezone.utc)  # type: ignore[misc,arg-type]


# ---------------------------------------------------------------- one restore


@pytest.mark.parametrize(("storage_class", "tier"), LONGEST)
def test_a_restore_takes_at_least_and_at_most_what_its_tier_says(
    glacier: GlacierStandIn, s3: Any, storage_class: str, tier: str
) -> None:
    keys = [f"object {number}" for number in range(20)]
    for key in keys:
        glacier.put("bucket", key, storage_class=storage_class)
        assert ask(s3, key, tier) == (202, "")
    shortest, longest = SHORTEST[storage_class, tier], LONGEST[storage_class, tier]
    glacier.clock.advance(shortest - 1)
    assert glacier.count("bucket", "ongoing") == 20
    glacier.clock.advance((longest - shortest) / 2)
    assert 0 < glacier.count("bucket", "restored") < 20
    glacier.clock.advance((longest - shortest) / 2 + 2)
    assert glacier.count("bucket", "restored") == 20
    assert {said(s3, key).split(",")[0] for key in keys} == {'ongoing-request="false"'}  # type: ignore[union-attr]


def test_the_bytes_of_an_archived_object_can_be_read_only_while_a_copy_is_there(
    glacier: GlacierStandIn, s3: Any
) -> None:
    s3.create_bucket(Bucket="bucket")
    s3.put_object(Bucket="bucket", Key="a", Body=b"payload", StorageClass="DEEP_ARCHIVE", Metadata={"x": "y"})
    head = s3.head_object(Bucket="bucket", Key="a")
    assert (head["StorageClass"], head["Metadata"], head["ContentLength"]) == ("DEEP_ARCHIVE", {"x": "y"}, 7)
    assert "Restore" not in head
    assert refused(s3.get_object, Bucket="bucket", Key="a") == (403, "InvalidObjectState")
    assert ask(s3, "a", "Standard", days=2) == (202, "")
    assert said(s3, "a") == 'ongoing-request="true"'
    assert refused(s3.get_object, Bucket="bucket", Key="a") == (403, "InvalidObjectState")
    glacier.clock.advance(12 * HOUR)
    assert read(s3, "a") == b"payload"
    glacier.clock.advance(3 * DAY)
    assert refused(s3.get_object, Bucket="bucket", Key="a") == (403, "InvalidObjectState")
    assert said(s3, "a") is None


def test_a_copy_expires_at_the_midnight_after_its_days(glacier: GlacierStandIn, s3: Any) -> None:
    glacier.put("bucket", "a")
    ask(s3, "a", "Expedited", days=3)
    glacier.clock.advance(5 * MINUTE)
    assert said(s3, "a") == 'ongoing-request="false", expiry-date="Mon, 19 Jan 2026 00:00:00 GMT"'
    midnight = utc(2026, 1, 19).timestamp()
    glacier.clock.advance(midnight - glacier.clock.now - 1)
    assert glacier.state("bucket", "a") == "restored"
    glacier.clock.advance(1)
    assert glacier.state("bucket", "a") == "archived"


def test_an_object_that_expired_can_be_restored_again(glacier: GlacierStandIn, s3: Any) -> None:
    glacier.put("bucket", "a")
    for _ in range(2):
        assert ask(s3, "a", "Expedited", days=1) == (202, "")
        glacier.clock.advance(5 * DAY)
    assert glacier.begun == 2
    assert glacier.restores("bucket") == 1


def test_asking_again_is_a_conflict_while_it_is_under_way_and_a_new_expiry_afterwards(
    glacier: GlacierStandIn, s3: Any
) -> None:
    glacier.put("bucket", "a")
    assert ask(s3, "a", days=1) == (202, "")
    assert ask(s3, "a", days=1) == (409, "RestoreAlreadyInProgress")
    assert ask(s3, "a", days=7) == (409, "RestoreAlreadyInProgress")
    glacier.clock.advance(5 * HOUR)
    assert ask(s3, "a", days=7) == (200, "")
    assert said(s3, "a") == 'ongoing-request="false", expiry-date="Fri, 23 Jan 2026 00:00:00 GMT"'
    assert ask(s3, "a", days=1) == (200, "")
    assert said(s3, "a") == 'ongoing-request="false", expiry-date="Sat, 17 Jan 2026 00:00:00 GMT"'
    assert glacier.begun == 1


def test_a_faster_tier_with_the_same_days_speeds_a_restore_up(glacier: GlacierStandIn, s3: Any) -> None:
    glacier.put("bucket", "a")
    assert ask(s3, "a", "Bulk") == (202, "")
    slow = glacier.ready_at("bucket", "a")
    assert ask(s3, "a", "Expedited", days=4) == (409, "RestoreAlreadyInProgress")
    assert ask(s3, "a", "Standard") == (202, "")
    assert ask(s3, "a", "Bulk") == (409, "RestoreAlreadyInProgress")
    assert ask(s3, "a", "Expedited") == (202, "")
    fast = glacier.ready_at("bucket", "a")
    assert slow is not None
    assert fast is not None
    assert fast <= HALF_PAST_TEN + 5 * MINUTE < HALF_PAST_TEN + 5 * HOUR <= slow
    glacier.clock.advance(5 * MINUTE)
    assert glacier.state("bucket", "a") == "restored"
    assert glacier.begun == 1


def test_no_faster_tier_makes_a_restore_later(glacier: GlacierStandIn, s3: Any) -> None:
    glacier.put("bucket", "a")
    ask(s3, "a", "Bulk")
    ready = glacier.ready_at("bucket", "a")
    assert ready is not None
    glacier.clock.advance(ready - glacier.clock.now - 1)
    assert ask(s3, "a", "Standard") == (202, "")
    assert glacier.ready_at("bucket", "a") == ready


@pytest.mark.parametrize(
    ("tier", "days", "code"),
    [("Standard", None, "InvalidArgument"), ("Standard", 0, "InvalidArgument"), ("Fast", 3, "MalformedXML")],
)
def test_a_request_without_days_or_with_an_unknown_tier_is_a_bad_one(
    glacier: GlacierStandIn, s3: Any, tier: str, days: int | None, code: str
) -> None:
    glacier.put("bucket", "a")
    assert ask(s3, "a", tier, days) == (400, code)
    assert glacier.state("bucket", "a") == "archived"


def test_no_tier_is_the_standard_one(glacier: GlacierStandIn, s3: Any) -> None:
    glacier.put("bucket", "a")
    assert ask(s3, "a", None) == (202, "")
    assert ask(s3, "a", "Standard")[0] == 409
    assert ask(s3, "a", "Expedited")[0] == 202


def test_nothing_in_deep_archive_comes_expedited(glacier: GlacierStandIn, s3: Any) -> None:
    glacier.put("bucket", "a", storage_class="DEEP_ARCHIVE")
    assert ask(s3, "a", "Expedited") == (400, "InvalidArgument")


@pytest.mark.parametrize("storage_class", ["STANDARD", "STANDARD_IA", "GLACIER_IR", "INTELLIGENT_TIERING"])
def test_what_is_not_archived_is_read_at_once_and_cannot_be_restored(
    glacier: GlacierStandIn, s3: Any, storage_class: str
) -> None:
    glacier.put("bucket", "a", body=b"here", storage_class=storage_class)
    assert read(s3, "a") == b"here"
    assert ask(s3, "a") == (403, "InvalidObjectState")


def test_what_is_not_there_is_not_found(glacier: GlacierStandIn, s3: Any) -> None:
    assert ask(s3, "a") == (404, "NoSuchBucket")
    glacier.put("bucket", "a")
    assert ask(s3, "b") == (404, "NoSuchKey")
    assert ask(s3, "a", VersionId="no") == (404, "NoSuchVersion")
    assert refused(s3.get_object, Bucket="bucket", Key="b") == (404, "NoSuchKey")
    assert refused(s3.head_object, Bucket="bucket", Key="b")[0] == 404
    assert refused(s3.list_objects_v2, Bucket="none") == (404, "NoSuchBucket")


def test_there_may_be_no_capacity_for_expedited_restores(glacier: GlacierStandIn, s3: Any) -> None:
    glacier.put("bucket", "a")
    glacier.faults.expedited_failures = 1
    assert ask(s3, "a", "Expedited") == (503, "GlacierExpeditedRetrievalNotAvailable")
    assert glacier.state("bucket", "a") == "archived"
    assert ask(s3, "a", "Expedited") == (202, "")
    glacier.faults.expedited_failures = -1
    glacier.put("bucket", "b")
    assert [ask(s3, "b", "Expedited")[0] for _ in range(3)] == [503] * 3
    assert ask(s3, "b", "Standard")[0] == 202


@pytest.mark.parametrize(
    ("access_tier", "fastest", "longest"),
    [("ARCHIVE_ACCESS", "Expedited", 5 * MINUTE), ("DEEP_ARCHIVE_ACCESS", "Standard", 12 * HOUR)],
)
def test_intelligent_tiering_is_restored_without_days_and_for_good(
    glacier: GlacierStandIn, s3: Any, access_tier: str, fastest: str, longest: float
) -> None:
    glacier.put("bucket", "a", body=b"warm", storage_class="INTELLIGENT_TIERING", access_tier=access_tier)
    head = s3.head_object(Bucket="bucket", Key="a")
    assert (head["StorageClass"], head["ArchiveStatus"]) == ("INTELLIGENT_TIERING", access_tier)
    with pytest.raises(s3.exceptions.InvalidObjectState) as caught:
        s3.get_object(Bucket="bucket", Key="a")
    assert caught.value.response["AccessTier"] == access_tier
    assert ask(s3, "a", fastest, days=3)[0] == 400
    assert ask(s3, "a", fastest, days=None) == (202, "")
    assert ask(s3, "a", fastest, days=None)[0] == 409
    head = s3.head_object(Bucket="bucket", Key="a")
    assert (head["Restore"], head["ArchiveStatus"]) == ('ongoing-request="true"', access_tier)
    glacier.clock.advance(longest)
    head = s3.head_object(Bucket="bucket", Key="a")
    assert "Restore" not in head
    assert "ArchiveStatus" not in head
    glacier.clock.advance(1000 * DAY)
    assert read(s3, "a") == b"warm"
    assert ask(s3, "a", fastest, days=None) == (403, "InvalidObjectState")


# ---------------------------------------------------------------- throttling and other faults


def test_more_restores_in_a_second_than_allowed_are_throttled(glacier: GlacierStandIn, s3: Any) -> None:
    glacier.populate("bucket", 60, prefix="a")
    glacier.faults.restore_rate = 2
    answers = [ask(s3, f"a{number:02d}") for number in range(60)]
    assert answers[:2] == [(202, "")] * 2
    assert (503, "ThrottlingException") in answers
    glacier.faults.restore_rate = None
    assert {ask(s3, f"a{number:02d}")[0] for number in range(60)} == {202, 409}
    assert glacier.restores("bucket") == glacier.begun == 60
    assert glacier.counters["RestoreObject 503"] == answers.count((503, "ThrottlingException"))


@pytest.mark.parametrize(
    ("kind", "answer"),
    [
        ("slow-down", (503, "SlowDown")),
        ("internal-error", (500, "InternalError")),
        ("unavailable", (503, "ServiceUnavailable")),
        ("denied", (403, "AccessDenied")),
    ],
)
def test_an_answer_can_be_an_error_on_command(
    glacier: GlacierStandIn, s3: Any, kind: str, answer: tuple[int, str]
) -> None:
    glacier.put("bucket", "a")
    glacier.faults.add(kind, "RestoreObject", times=2, skip=1, matches=lambda key: key != "b")
    glacier.put("bucket", "b")
    assert ask(s3, "b") == (202, "")
    assert ask(s3, "a") == (202, "")
    assert [ask(s3, "a") for _ in range(2)] == [answer] * 2
    assert ask(s3, "a") == (409, "RestoreAlreadyInProgress")


def test_a_share_of_the_requests_can_fail(glacier: GlacierStandIn, s3: Any) -> None:
    glacier.put("bucket", "a")
    fault = glacier.faults.add("slow-down", "HeadObject", times=None, chance=0.3)
    for _ in range(100):
        with contextlib.suppress(ClientError):
            s3.head_object(Bucket="bucket", Key="a")
    assert 10 < fault.seen < 50
    assert glacier.counters["HeadObject 503"] == glacier.counters["fault slow-down"] == fault.seen
    glacier.faults.clear()
    s3.head_object(Bucket="bucket", Key="a")


def test_a_dropped_request_was_done_or_not_as_one_likes(glacier: GlacierStandIn, s3: Any) -> None:
    glacier.put("bucket", "a")
    glacier.faults.add("drop", "RestoreObject")
    with pytest.raises(HTTPClientError):
        ask(s3, "a")
    assert glacier.state("bucket", "a") == "archived"
    glacier.faults.add("drop-after", "RestoreObject")
    with pytest.raises(HTTPClientError):
        ask(s3, "a")
    assert glacier.state("bucket", "a") == "ongoing"


def test_an_answer_can_be_cut_off(glacier: GlacierStandIn, s3: Any) -> None:
    glacier.put("bucket", "a", size=50_000, storage_class="STANDARD")
    glacier.faults.add("cut", "GetObject")
    with pytest.raises((HTTPClientError, ConnectionClosedError)):
        read(s3, "a")
    assert len(read(s3, "a")) == 50_000


def test_an_answer_can_be_late_or_never_come(glacier: GlacierStandIn) -> None:
    client = glacier.client("s3", retries=ONE_ATTEMPT, read_timeout=0.2)
    glacier.put("bucket", "a")
    glacier.faults.add("hang", "RestoreObject")
    with pytest.raises(ReadTimeoutError):
        ask(client, "a")
    assert glacier.state("bucket", "a") == "archived"
    glacier.faults.add("delay", "RestoreObject", seconds=0.5)
    with pytest.raises(ReadTimeoutError):
        ask(client, "a")
    eventually(lambda: glacier.state("bucket", "a") == "ongoing")
    client.close()


def test_a_client_that_tries_again_gets_through_when_all_connections_were_dropped(
    glacier: GlacierStandIn,
) -> None:
    client = glacier.client("s3", retries={"total_max_attempts": 3})
    glacier.put("bucket", "a")
    assert ask(client, "a")[0] == 202
    glacier.drop_connections()
    assert ask(client, "a")[0] == 409
    client.close()


# ---------------------------------------------------------------- objects, parts, versions


def test_odd_keys_are_listed_read_and_restored(glacier: GlacierStandIn, s3: Any) -> None:
    for key in ODD_KEYS:
        glacier.put("bucket", key, body=key.encode())
        assert ask(s3, key, "Expedited") == (202, "")
    glacier.clock.advance(5 * MINUTE)
    assert list(listed(s3)) == sorted(ODD_KEYS)
    assert [read(s3, key) for key in ODD_KEYS] == [key.encode() for key in ODD_KEYS]


def test_an_object_of_several_parts_is_one_object(glacier: GlacierStandIn, s3: Any) -> None:
    s3.create_bucket(Bucket="bucket")
    upload = s3.create_multipart_upload(Bucket="bucket", Key="a", StorageClass="GLACIER")["UploadId"]
    bodies = (b"x" * 6000, b"y" * 6000, b"z" * 10)
    parts = []
    for number, body in enumerate(bodies, 1):
        part = s3.upload_part(Bucket="bucket", Key="a", UploadId=upload, PartNumber=number, Body=body)
        parts.append({"PartNumber": number, "ETag": part["ETag"]})
    whole = {"Bucket": "bucket", "Key": "a", "UploadId": upload, "MultipartUpload": {"Parts": parts}}
    etag = s3.complete_multipart_upload(**whole)["ETag"]
    digests = b"".join(hashlib.md5(body).digest() for body in bodies)
    assert etag == f'"{hashlib.md5(digests).hexdigest()}-3"'
    assert refused(s3.complete_multipart_upload, **whole) == (404, "NoSuchUpload")
    assert ask(s3, "a", "Expedited") == (202, "")
    glacier.clock.advance(5 * MINUTE)
    assert s3.head_object(Bucket="bucket", Key="a", PartNumber=2)["PartsCount"] == 3
    assert read(s3, "a", PartNumber=2) == bodies[1]
    assert read(s3, "a") == b"".join(bodies)
    glacier.put("bucket", "b", parts=(100, 100, 5))
    assert s3.head_object(Bucket="bucket", Key="b")["ETag"].endswith('-3"')
    assert glacier.begun == 1


def test_ranges_and_conditions_are_kept(glacier: GlacierStandIn, s3: Any) -> None:
    glacier.put("bucket", "a", body=b"0123456789", storage_class="STANDARD")
    assert read(s3, "a", Range="bytes=2-4") == b"234"
    assert read(s3, "a", Range="bytes=7-") == b"789"
    assert read(s3, "a", Range="bytes=-2") == b"89"
    assert refused(s3.get_object, Bucket="bucket", Key="a", Range="bytes=10-") == (416, "InvalidRange")
    etag = s3.head_object(Bucket="bucket", Key="a")["ETag"]
    assert read(s3, "a", IfMatch=etag) == b"0123456789"
    wrong = refused(s3.get_object, Bucket="bucket", Key="a", IfMatch='"0"')
    assert wrong == (412, "PreconditionFailed")


def test_checksums_come_when_asked_for_unless_the_object_is_too_old(glacier: GlacierStandIn, s3: Any) -> None:
    glacier.put("bucket", "new", body=b"123456789", storage_class="STANDARD")
    glacier.put("bucket", "old", storage_class="STANDARD", checksum=False)
    head = s3.head_object(Bucket="bucket", Key="new", ChecksumMode="ENABLED")
    assert (head["ChecksumCRC64NVME"], head["ChecksumType"]) == ("rosUhgp5mIg=", "FULL_OBJECT")
    assert read(s3, "new", ChecksumMode="ENABLED") == b"123456789"
    assert "ChecksumCRC64NVME" not in s3.head_object(Bucket="bucket", Key="new")
    assert "ChecksumCRC64NVME" not in s3.head_object(Bucket="bucket", Key="old", ChecksumMode="ENABLED")


def test_a_stream_that_is_sent_in_chunks_is_stored_without_them(glacier: GlacierStandIn, s3: Any) -> None:
    s3.create_bucket(Bucket="bucket")
    body = b"0123456789" * 10_000
    s3.put_object(Bucket="bucket", Key="a", Body=body, ChecksumAlgorithm="CRC32")
    assert read(s3, "a") == body
    chunks = b"4;chunk-signature=0\r\nabcd\r\n2\r\nef\r\n0\r\nx-amz-checksum-crc32:AAAA\r\n\r\n"
    s3.meta.events.register("before-send.s3.PutObject", lambda request, **_: in_chunks(request, chunks))
    s3.put_object(Bucket="bucket", Key="b", Body=b"-")
    assert read(s3, "b") == b"abcdef"


def in_chunks(prepared: Any, chunks: bytes) -> None:
    """Make the body of a request the one that clients send who sign as they go."""
    prepared.body = chunks
    prepared.headers["Content-Length"] = str(len(chunks))
    prepared.headers["Content-Encoding"] = "aws-chunked"


def test_each_version_has_a_restore_of_its_own(glacier: GlacierStandIn, s3: Any) -> None:
    s3.create_bucket(Bucket="bucket")
    versioned = {"Status": "Enabled"}
    s3.put_bucket_versioning(Bucket="bucket", VersioningConfiguration=versioned)
    assert s3.get_bucket_versioning(Bucket="bucket")["Status"] == "Enabled"
    old, new = (
        s3.put_object(Bucket="bucket", Key="a", Body=body, StorageClass="GLACIER")["VersionId"]
        for body in (b"old", b"new")
    )
    assert ask(s3, "a", "Expedited", VersionId=old) == (202, "")
    glacier.clock.advance(5 * MINUTE)
    assert read(s3, "a", VersionId=old) == b"old"
    assert refused(s3.get_object, Bucket="bucket", Key="a") == (403, "InvalidObjectState")
    versions = s3.list_object_versions(Bucket="bucket", OptionalObjectAttributes=["RestoreStatus"])[
        "Versions"
    ]
    assert [(it["VersionId"], it["IsLatest"], "RestoreStatus" in it) for it in versions] == [
        (new, True, False),
        (old, False, True),
    ]
    marker = s3.delete_object(Bucket="bucket", Key="a")["VersionId"]
    assert listed(s3) == {}
    assert ask(s3, "a") == (404, "NoSuchKey")
    assert ask(s3, "a", VersionId=marker) == (405, "MethodNotAllowed")
    assert ask(s3, "a", VersionId=new) == (202, "")
    (found,) = s3.list_object_versions(Bucket="bucket")["DeleteMarkers"]
    assert (found["VersionId"], found["IsLatest"]) == (marker, True)
    s3.delete_object(Bucket="bucket", Key="a", VersionId=marker)
    assert list(listed(s3)) == ["a"]


def test_without_versions_the_last_object_is_the_only_one(glacier: GlacierStandIn, s3: Any) -> None:
    glacier.put("bucket", "a", body=b"1")
    ask(s3, "a", "Expedited")
    s3.put_object(Bucket="bucket", Key="a", Body=b"2", StorageClass="GLACIER")
    assert glacier.state("bucket", "a") == "archived"
    assert len(s3.list_object_versions(Bucket="bucket")["Versions"]) == 1
    s3.delete_object(Bucket="bucket", Key="a")
    assert listed(s3) == {}


# ---------------------------------------------------------------- listings


def test_listings_tell_of_restores_when_asked_to(glacier: GlacierStandIn, s3: Any) -> None:
    for key in "abc":
        glacier.put("bucket", key)
    ask(s3, "a", "Expedited", days=1)
    glacier.clock.advance(5 * MINUTE)
    ask(s3, "b", "Bulk")
    assert {key: it.get("RestoreStatus") for key, it in listed(s3).items()} == {
        "a": {"IsRestoreInProgress": False, "RestoreExpiryDate": utc(2026, 1, 17)},
        "b": {"IsRestoreInProgress": True},
        "c": None,
    }
    plain = s3.list_objects_v2(Bucket="bucket")["Contents"]
    assert all("RestoreStatus" not in it for it in plain)
    assert [(it["StorageClass"], it["Size"]) for it in plain] == [("GLACIER", 100)] * 3


def test_listings_tell_of_intelligent_tiering_only_when_switched_on(glacier: GlacierStandIn, s3: Any) -> None:
    glacier.put("bucket", "a", storage_class="INTELLIGENT_TIERING", access_tier="ARCHIVE_ACCESS")
    ask(s3, "a", days=None)
    assert "RestoreStatus" not in listed(s3)["a"]
    glacier.faults.list_tiering_status = True
    assert listed(s3)["a"]["RestoreStatus"] == {"IsRestoreInProgress": True}


def test_a_listing_comes_in_pages_of_a_thousand_with_every_key_once(glacier: GlacierStandIn, s3: Any) -> None:
    glacier.populate("bucket", 12_000, prefix="many/", suffix=".bin")
    for key in ("a", "many/0", "many/00500.bin+", "many/", "z"):
        glacier.put("bucket", key, storage_class="STANDARD")
    s3.delete_object(Bucket="bucket", Key="many/07777.bin")
    keys = list(listed(s3))
    assert len(keys) == len(set(keys)) == 12_004
    assert keys == sorted(keys)
    assert "many/07777.bin" not in keys
    assert glacier.counters["ListObjectsV2"] == 13
    page = s3.list_objects_v2(Bucket="bucket", StartAfter="many/11998.bin")
    assert [it["Key"] for it in page["Contents"]] == ["many/11999.bin", "z"]
    assert (page["KeyCount"], page["IsTruncated"]) == (2, False)
    assert len(listed(s3, Prefix="many/0777")) == 9
    assert len(s3.list_objects_v2(Bucket="bucket", MaxKeys=5000)["Contents"]) == 1000
    assert len(s3.list_objects_v2(Bucket="bucket", MaxKeys=7)["Contents"]) == 7


def test_folders_are_listed_once(glacier: GlacierStandIn, s3: Any) -> None:
    glacier.populate("bucket", 3000, prefix="many/")
    for key in ("a", "b/1", "b/2", "c"):
        glacier.put("bucket", key)
    found = s3.list_objects_v2(Bucket="bucket", Delimiter="/")
    assert [it["Key"] for it in found["Contents"]] == ["a", "c"]
    assert [it["Prefix"] for it in found["CommonPrefixes"]] == ["b/", "many/"]
    pages = s3.get_paginator("list_objects_v2").paginate(
        Bucket="bucket", Delimiter="/", PaginationConfig={"PageSize": 1}
    )
    names = [
        it.get("Key", it.get("Prefix"))
        for one in pages
        for it in (*one.get("Contents", ()), *one.get("CommonPrefixes", ()))
    ]
    assert names == ["a", "b/", "c", "many/"]


def test_versions_are_listed_in_pages_too(glacier: GlacierStandIn, s3: Any) -> None:
    glacier.bucket("bucket", versioning=True)
    expected = []
    for key in "abc":
        versions = [glacier.put("bucket", key) for _ in range(5)]
        expected += [(key, it) for it in reversed(versions)]
    glacier.populate("bucket", 3, prefix="d")
    for size in (1, 3, 5, 1000):
        pages = s3.get_paginator("list_object_versions").paginate(
            Bucket="bucket", PaginationConfig={"PageSize": size}
        )
        found = [(it["Key"], it["VersionId"]) for page in pages for it in page["Versions"]]
        assert found == [*expected, *((f"d{number}", "null") for number in range(3))]


def test_a_million_objects_cost_nothing_before_they_are_restored_and_little_then(
    glacier: GlacierStandIn, s3: Any
) -> None:
    tracemalloc.start()
    try:
        glacier.populate("bucket", 1_000_000, size=(1000, 10**12), storage_class=("GLACIER", "DEEP_ARCHIVE"))
        page = s3.list_objects_v2(Bucket="bucket", StartAfter="777776")["Contents"]
        untouched, _ = tracemalloc.get_traced_memory()
        assert ask(s3, "777777") == (202, "")
        touched, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert (page[0]["Key"], page[0]["StorageClass"], page[0]["Size"]) == ("777777", "DEEP_ARCHIVE", 10**12)
    assert untouched < 10_000_000
    assert touched - untouched < 30_000_000
    assert glacier.restores("bucket") == 1


def test_one_of_many_can_be_replaced_deleted_and_restored(glacier: GlacierStandIn, s3: Any) -> None:
    glacier.populate("bucket", 10, size=5)
    assert read_restored(glacier, s3, "3") == b"3\n3\n3"
    s3.put_object(Bucket="bucket", Key="3", Body=b"other")
    assert read(s3, "3") == b"other"
    s3.delete_object(Bucket="bucket", Key="4")
    s3.delete_object(Bucket="bucket", Key="3")
    assert list(listed(s3)) == list("01256789")
    assert ask(s3, "4") == (404, "NoSuchKey")


def read_restored(glacier: GlacierStandIn, s3: Any, key: str) -> bytes:
    ask(s3, key, "Expedited")
    glacier.clock.advance(5 * MINUTE)
    return read(s3, key)


# ---------------------------------------------------------------- by hand


@pytest.fixture
def by_hand() -> Iterator[str]:
    """The address of one that runs as a process of its own."""
    command = [sys.executable, "-m", "tests.standins.glacier", "serve", "--port=0", "--populate=bucket=1500"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment()) as process:
        assert process.stdout is not None
        try:
            lines = iter(process.stdout.readline, "")
            yield next(it for it in lines if it.startswith("# listening on ")).split()[-1]
        finally:
            process.terminate()
        assert process.wait() == 0


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tests.standins.glacier", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment())


def test_it_runs_by_hand_and_does_what_it_is_told(by_hand: str) -> None:
    session = boto3.session.Session("testing", "testing", region_name="eu-central-1")
    client = session.client("s3", endpoint_url=by_hand)
    assert ask(client, "0007") == (202, "")
    assert run("advance", "5h", "--at", by_hand).returncode == 0
    assert read(client, "0007").startswith(b"0007\n")
    put = ("key=new", "size=7", "storage_class=STANDARD")
    assert run("do", "put", "bucket=bucket", *put, "--at", by_hand).returncode == 0
    assert len(read(client, "new")) == 7
    run("do", "fault", "kind=denied", "operation=GetObject", "--at", by_hand)
    assert refused(client.get_object, Bucket="bucket", Key="new") == (403, "AccessDenied")
    shown = run("show", "--at", by_hand).stdout
    assert '"begun": 1' in shown
    assert '"GetObject 403": 1' in shown
    wrong = run("do", "put", "nothing=1", "--at", by_hand)
    assert (wrong.returncode, wrong.stdout) == (1, "")
    assert "TypeError" in wrong.stderr
    assert run("--help").stdout.startswith("usage: python -m tests.standins.glacier")
    client.close()


def test_time_can_flow_by_itself() -> None:
    with GlacierStandIn(speed=36_000) as glacier:
        client = glacier.client("s3")
        glacier.put("bucket", "a")
        ask(client, "a")
        eventually(lambda: glacier.state("bucket", "a") == "restored")
        client.close()


def test_many_clients_at_once_begin_each_restore_once(glacier: GlacierStandIn) -> None:
    glacier.populate("bucket", 100)
    client = glacier.client("s3", max_pool_connections=8, retries=ONE_ATTEMPT)
    answers: list[tuple[int, str]] = []

    def work() -> None:
        answers.extend(ask(client, f"{number:02d}") for number in range(100))

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    client.close()
    assert sorted(answers) == sorted([(202, "")] * 100 + [(409, "RestoreAlreadyInProgress")] * 200)
    assert glacier.begun == 100
