from __future__ import annotations

import pytest

from tests.standins.faulty_s3 import Fault, FaultyS3, error, reply
from tests.store.conftest import client_for
from tidegate.store.body import Body
from tidegate.store.errors import Kind, S3Error, kind_of, parse_xml

TABLE = [
    (500, "InternalError", Kind.AGAIN),
    (503, "SlowDown", Kind.AGAIN),
    (503, "", Kind.AGAIN),
    (502, "", Kind.AGAIN),
    (599, "", Kind.AGAIN),
    (429, "", Kind.AGAIN),
    (408, "", Kind.AGAIN),
    (400, "RequestTimeout", Kind.AGAIN),
    (400, "ThrottlingException", Kind.AGAIN),
    (403, "RequestTimeTooSkewed", Kind.AGAIN),
    (400, "ExpiredToken", Kind.AGAIN),
    (409, "OperationAborted", Kind.AGAIN),
    (307, "TemporaryRedirect", Kind.AGAIN),
    (302, "", Kind.AGAIN),
    (403, "AccessDenied", Kind.BLOCKED),
    (403, "", Kind.BLOCKED),
    (401, "", Kind.BLOCKED),
    (407, "", Kind.BLOCKED),
    (403, "InvalidAccessKeyId", Kind.BLOCKED),
    (403, "SignatureDoesNotMatch", Kind.BLOCKED),
    (404, "NoSuchBucket", Kind.BLOCKED),
    (404, "", Kind.BLOCKED),
    (301, "PermanentRedirect", Kind.BLOCKED),
    (301, "", Kind.BLOCKED),
    (400, "AuthorizationHeaderMalformed", Kind.BLOCKED),
    (400, "KMS.DisabledException", Kind.BLOCKED),
    (501, "NotImplemented", Kind.BLOCKED),
    (412, "PreconditionFailed", Kind.CONFLICT),
    (412, "", Kind.CONFLICT),
    (409, "ConditionalRequestConflict", Kind.CONFLICT),
    (404, "NoSuchUpload", Kind.CLEAN_START),
    (400, "InvalidPart", Kind.CLEAN_START),
    (400, "InvalidPartOrder", Kind.CLEAN_START),
    (400, "EntityTooSmall", Kind.CLEAN_START),
    (404, "NoSuchKey", Kind.REFUSED),
    (400, "BadDigest", Kind.REFUSED),
    (400, "KeyTooLongError", Kind.REFUSED),
    (400, "EntityTooLarge", Kind.REFUSED),
    (400, "NeverHeardOf", Kind.REFUSED),
    (400, "", Kind.REFUSED),
]


@pytest.mark.parametrize(("status", "code", "kind"), TABLE)
def test_the_table_says_what_to_do(status, code, kind):
    assert kind_of(status, code) is kind


@pytest.mark.parametrize("status", [301, 403, 404, 409, 412, 500, 503])
def test_a_put_that_is_refused_says_all_that_s3_said(status, opened):
    answer = error(status, "AccessDenied")
    with (
        FaultyS3(lambda _: Fault(answer)) as server,
        client_for(server.url) as s3,
        pytest.raises(S3Error) as caught,
    ):
        s3.put("bucket", "key", Body(opened(b"1"), 1))
    said = caught.value
    assert (said.status, said.code, said.message, said.request_id) == (
        status,
        "AccessDenied",
        "because of AccessDenied",
        "R",
    )
    assert str(said) == f"AccessDenied ({status}): because of AccessDenied [R]"


@pytest.mark.parametrize(
    "answer",
    [
        reply(301, {"x-amz-bucket-region": "eu-west-3"}),
        error(400, "AuthorizationHeaderMalformed", details="<Region>eu-west-3</Region>"),
    ],
)
def test_a_bucket_in_another_region_is_named_with_its_region(answer, opened):
    with (
        FaultyS3(lambda _: Fault(answer)) as server,
        client_for(server.url) as s3,
        pytest.raises(S3Error) as caught,
    ):
        s3.put("bucket", "key", Body(opened(b"1"), 1))
    assert caught.value.kind is Kind.BLOCKED
    assert "the bucket is in the region eu-west-3" in str(caught.value)


@pytest.mark.parametrize(
    "body", [b"", b"<html><body>Bad gateway", b"\xff\xfe", b"<html><Code>AccessDenied</Code></html>"]
)
def test_an_error_that_is_not_written_as_s3_does_goes_by_its_status(body, opened):
    with (
        FaultyS3(lambda _: Fault(reply(502, {}, body))) as server,
        client_for(server.url) as s3,
        pytest.raises(S3Error) as caught,
    ):
        s3.put("bucket", "key", Body(opened(b"1"), 1))
    assert (caught.value.kind, caught.value.code, caught.value.request_id) == (Kind.AGAIN, "", "REQUEST")


def test_namespaces_do_not_matter():
    assert parse_xml(b'<a xmlns="x"><b>c</b></a>').findtext("b") == "c"


@pytest.mark.parametrize("text", [b"", b"<a>", b"<!DOCTYPE a><a/>", b"hello"])
def test_what_is_not_plain_xml_is_not_parsed(text):
    with pytest.raises(ValueError, match="the answer"):
        parse_xml(text)
