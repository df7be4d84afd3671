"""Every operation, against moto, which is somebody else's idea of S3, and against our own stand-in."""

from __future__ import annotations

import os
import threading
import urllib.request

import boto3
import pytest

from tests.standins.faulty_s3 import Fault, FaultyS3, error, page, reply
from tests.standins.s3 import client as boto_client
from tests.standins.s3 import serving
from tests.standins.sink import Shelf, sinking
from tests.store.conftest import OURS, Purse, client_for
from tidegate.errors import Refused, Unavailable
from tidegate.store.body import CHUNK_BYTES, Body
from tidegate.store.checksum import CRC64NVME, MD5, SHA256, combine, digest_of
from tidegate.store.errors import Kind, S3Error
from tidegate.store.sigv4 import Credentials
from tidegate.store.stored import Part, Stored

ODD_KEYS = [
    "plain.csv",
    "with space",
    "a+b=c&d?e#f",
    "100%.csv",
    "%41",
    "ü/ß/日本.csv",
    "a//b",
    "trailing/",
    "~(tilde)!*'",
    '"<&>"',
    "a;b:c@d,e$",
]
MIB = 1024 * 1024


@pytest.fixture(scope="module")
def moto():
    with serving() as url:
        boto = boto_client(url)
        boto.create_bucket(Bucket="bucket")
        yield url, boto


@pytest.mark.parametrize("key", ODD_KEYS)
def test_odd_keys_arrive_as_they_are(key, moto, opened):
    url, boto = moto
    with client_for(url) as s3:
        s3.put("bucket", key, Body(opened(key.encode()), len(key.encode())))
        stored = s3.head("bucket", key)
    assert boto.get_object(Bucket="bucket", Key=key)["Body"].read() == key.encode()
    assert stored is not None
    assert stored.size == len(key.encode())


@pytest.mark.parametrize("key", [*ODD_KEYS, "a/../b", "./a", "a\nb"])
def test_odd_keys_go_over_the_wire_as_they_are(key, opened):
    with FaultyS3() as server, client_for(server.url) as s3:
        s3.put("bucket", key, Body(opened(b"1"), 1))
        assert s3.head("bucket", key) is not None
        assert list(server.objects) == [f"bucket/{key}"]


def test_an_object_gets_its_metadata_and_class(moto, opened):
    url, boto = moto
    fields = {
        "content-type": "text/csv",
        "cache-control": "max-age=5",
        "x-amz-storage-class": "STANDARD_IA",
        "x-amz-meta-source": "two  spaces",
        "x-amz-tagging": "a=b",
    }
    with client_for(url) as s3:
        s3.put("bucket", "dressed", Body(opened(b"x"), 1), headers=fields)
    seen = boto.head_object(Bucket="bucket", Key="dressed")
    assert (seen["ContentType"], seen["CacheControl"], seen["StorageClass"]) == (
        "text/csv",
        "max-age=5",
        "STANDARD_IA",
    )
    assert seen["Metadata"] == {"source": "two  spaces"}
    tags = boto.get_object_tagging(Bucket="bucket", Key="dressed")["TagSet"]
    assert tags == [{"Key": "a", "Value": "b"}]


@pytest.mark.parametrize("size", [0, 1, CHUNK_BYTES, CHUNK_BYTES + 1, 3 * CHUNK_BYTES])
def test_what_is_stored_is_proven_by_its_checksum(size, moto, opened):
    url, boto = moto
    content = os.urandom(size)
    with client_for(url) as s3:
        body = Body(opened(content), size)
        stored = s3.put("bucket", "sized", body)
        seen = s3.head("bucket", "sized")
    assert stored.proves(body.digest) is True
    assert seen is not None
    assert seen.proves(body.digest) is True
    assert boto.get_object(Bucket="bucket", Key="sized")["Body"].read() == content


def test_a_store_that_knows_only_etags_proves_by_md5(moto, opened):
    url, _ = moto
    with client_for(url) as s3:
        body = Body(opened(b"12345"), 5)
        assert s3.put("bucket", "etag", body, algorithm=MD5).proves(body.digest) is True
        other = digest_of(MD5, b"54321")
        seen = s3.head("bucket", "etag")
    assert seen is not None
    assert seen.proves(other) is False


def test_other_bytes_are_not_proven(opened):
    with FaultyS3() as server, client_for(server.url) as s3:
        stored = s3.put("bucket", "key", Body(opened(b"12345"), 5))
        assert stored.proves(digest_of("CRC64NVME", b"12346")) is False
        assert stored.proves(digest_of(SHA256, b"12345")) is None


def test_if_none_match_keeps_what_is_there(moto, opened):
    url, boto = moto
    with client_for(url) as s3:
        s3.put("bucket", "once", Body(opened(b"first"), 5), headers={"if-none-match": "*"})
        with pytest.raises(S3Error) as caught:
            s3.put("bucket", "once", Body(opened(b"later"), 5), headers={"if-none-match": "*"})
    assert (caught.value.kind, caught.value.status) == (Kind.CONFLICT, 412)
    assert boto.get_object(Bucket="bucket", Key="once")["Body"].read() == b"first"


def test_a_bucket_that_is_not_there_blocks(moto, opened):
    url, _ = moto
    with client_for(url) as s3, pytest.raises(S3Error) as caught:
        s3.put("no-such-bucket", "key", Body(opened(b"x"), 1))
    assert (caught.value.kind, caught.value.code) == (Kind.BLOCKED, "NoSuchBucket")


def test_what_is_not_stored_has_no_head(moto):
    url, _ = moto
    with client_for(url) as s3:
        assert s3.head("bucket", "never") is None


@pytest.mark.parametrize("key", ["big.bin", "gr öß/+%.bin"])
def test_parts_become_an_object(key, moto, opened):
    url, boto = moto
    content = os.urandom(11 * MIB)
    descriptor = opened(content)
    with client_for(url) as s3:
        upload_id = s3.create_upload("bucket", key, headers={"x-amz-meta-a": "b"})
        parts = [part(s3, key, upload_id, number, descriptor, content) for number in (2, 1, 3)]
        assert [(upload.key, upload.upload_id) for upload in s3.list_uploads("bucket")] == [(key, upload_id)]
        listed = s3.list_parts("bucket", key, upload_id)
        assert {number: stored.size for number, stored in listed.items()} == {1: 5 * MIB, 2: 5 * MIB, 3: MIB}
        s3.complete_upload("bucket", key, upload_id, parts)
        seen = s3.head("bucket", key)
        assert list(s3.list_uploads("bucket")) == []
    assert seen is not None
    assert seen.proves(digest_of("CRC64NVME", content)) is True
    got = boto.get_object(Bucket="bucket", Key=key)
    assert got["Body"].read() == content
    assert got["Metadata"] == {"a": "b"}


def part(s3, key, upload_id, number, descriptor, content):
    start = (number - 1) * 5 * MIB
    body = Body(descriptor, min(5 * MIB, len(content) - start), offset=start)
    stored = s3.upload_part("bucket", key, upload_id, number, body)
    return Part(number, stored.etag, body.digest)


def test_parts_may_be_sent_from_one_descriptor_at_the_same_time(opened):
    content = os.urandom(4 * MIB)
    descriptor = opened(content)
    parts: list[Part] = []

    def send(number):
        body = Body(descriptor, MIB, offset=(number - 1) * MIB)
        stored = s3.upload_part("bucket", "key", upload_id, number, body)
        assert stored.proves(body.digest) is True
        parts.append(Part(number, stored.etag, body.digest))

    with FaultyS3() as server, client_for(server.url) as s3:
        upload_id = s3.create_upload("bucket", "key")
        threads = [threading.Thread(target=send, args=(number,)) for number in (1, 2, 3, 4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        stored = s3.complete_upload("bucket", "key", upload_id, parts)
        assert (
            stored.proves(combine([each.digest for each in sorted(parts, key=lambda each: each.number)]))
            is True
        )
        assert server.objects["bucket/key"].body == content


def test_all_pages_of_parts_are_read(opened):
    descriptor = opened(b"x" * 10)
    with FaultyS3() as server, client_for(server.url) as s3:
        server.page_size = 3
        upload_id = s3.create_upload("bucket", "key")
        for number in range(1, 9):
            s3.upload_part("bucket", "key", upload_id, number, Body(descriptor, number))
        listed = s3.list_parts("bucket", "key", upload_id)
    assert {number: stored.size for number, stored in listed.items()} == {
        number: number for number in range(1, 9)
    }
    assert listed[3].proves(digest_of("CRC64NVME", b"xxx")) is True


def test_all_pages_of_uploads_are_read():
    names = ["many/1 +%", "many/1 +%", "many/ü&<>", "many/\x01", "many/z"]
    with FaultyS3() as server, client_for(server.url) as s3:
        server.page_size = 2
        expected = sorted((name, s3.create_upload("bucket", name)) for name in names)
        s3.create_upload("bucket", "other")
        found = [(upload.key, upload.upload_id) for upload in s3.list_uploads("bucket", "many/")]
        assert found == expected
        assert len(list(s3.list_uploads("bucket"))) == 6


def test_uploads_of_somebody_elses_idea_of_s3_are_listed_too(moto):
    url, _ = moto
    with client_for(url) as s3:
        ids = {name: s3.create_upload("bucket", name) for name in ("listed/a +", "listed/b")}
        s3.create_upload("bucket", "unlisted")
        assert {upload.key: upload.upload_id for upload in s3.list_uploads("bucket", "listed/")} == ids
        for upload in list(s3.list_uploads("bucket")):
            s3.abort_upload("bucket", upload.key, upload.upload_id)


def test_the_session_token_is_sent_and_signed(opened):
    with FaultyS3() as server, client_for(server.url) as s3:
        s3.put("bucket", "key", Body(opened(b"1"), 1))
        headers = server.seen[0].headers
    assert headers["x-amz-security-token"] == "TOKEN"
    assert ";x-amz-security-token," in headers["authorization"].replace(" ", "")


@pytest.mark.parametrize(
    "headers",
    [
        {"x-amz-server-side-encryption": "aws:kms"},
        {"x-amz-server-side-encryption": "aws:kms:dsse"},
        {"x-amz-server-side-encryption-customer-algorithm": "AES256"},
    ],
)
def test_the_etag_of_an_encrypted_object_proves_nothing(headers):
    digest = digest_of(MD5, b"1")
    assert Stored(etag=digest.etag).proves(digest) is True
    assert Stored(etag=digest.etag, headers={"x-amz-server-side-encryption": "AES256"}).proves(digest) is True
    assert Stored(etag=digest.etag, headers=headers).proves(digest) is None


def test_another_size_is_proof_enough():
    digest = digest_of("CRC64NVME", b"1")
    assert Stored(etag="x", size=2).proves(digest) is False
    assert Stored(etag="x", size=1).proves(digest) is None


def test_an_aborted_upload_is_gone_and_may_be_aborted_again(opened):
    with FaultyS3() as server, client_for(server.url) as s3:
        upload_id = s3.create_upload("bucket", "aborted")
        s3.abort_upload("bucket", "aborted", upload_id)
        s3.abort_upload("bucket", "aborted", upload_id)
        with pytest.raises(S3Error) as caught:
            s3.upload_part("bucket", "aborted", upload_id, 1, Body(opened(b"x"), 1))
    assert (caught.value.kind, caught.value.code) == (Kind.CLEAN_START, "NoSuchUpload")


def test_s3_checks_every_signature_and_accepts_ours(moto, opened):
    """moto checks signatures once it is told to; the user it knows gets through, and no other."""
    url, _ = moto
    iam = session().client("iam", endpoint_url=url)
    iam.create_user(UserName="someone")
    key = iam.create_access_key(UserName="someone")["AccessKey"]
    document = '{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"s3:*","Resource":"*"}]}'
    iam.put_user_policy(UserName="someone", PolicyName="all", PolicyDocument=document)
    known = Credentials(access_key=key["AccessKeyId"], secret_key=key["SecretAccessKey"])
    wrong = Credentials(access_key=key["AccessKeyId"], secret_key="wrong")
    descriptor = opened(b"12345")
    fields = {"x-amz-meta-a": "b  c", "content-type": "text/csv"}
    reset_auth(url, b"0")
    try:
        with client_for(url, Purse(known)) as s3:
            for name in ("plain", "a b+c%~ü"):
                s3.put("bucket", name, Body(descriptor, 5), headers=fields)
                upload_id = s3.create_upload("bucket", name)
                s3.upload_part("bucket", name, upload_id, 1, Body(descriptor, 5))
                s3.abort_upload("bucket", name, upload_id)
        with client_for(url, Purse(wrong)) as s3, pytest.raises(S3Error) as caught:
            s3.put("bucket", "plain", Body(descriptor, 5))
        assert (caught.value.kind, caught.value.code) == (Kind.BLOCKED, "SignatureDoesNotMatch")
    finally:
        reset_auth(url, b"inf")


def session():
    return boto3.session.Session(aws_access_key_id="a", aws_secret_access_key="b", region_name="us-east-1")


def reset_auth(url, count):
    """From now on, moto lets so many requests pass unchecked."""
    request = urllib.request.Request(f"{url}/moto-api/reset-auth", count, {"Content-Type": "text/plain"})
    with urllib.request.urlopen(request, timeout=5):
        pass


def test_the_first_answer_is_read_from_a_completion_that_fails_late(opened):
    def script(seen):
        return Fault(late) if seen.kind == "complete" else None

    late = page("Error", "<Code>InternalError</Code><Message>sorry</Message>")
    with FaultyS3(script) as server, client_for(server.url) as s3:
        upload_id = s3.create_upload("bucket", "key")
        body = Body(opened(b"x"), 1)
        stored = s3.upload_part("bucket", "key", upload_id, 1, body)
        with pytest.raises(S3Error) as caught:
            s3.complete_upload("bucket", "key", upload_id, [Part(1, stored.etag, body.digest)])
    assert (caught.value.kind, caught.value.status) == (Kind.AGAIN, 200)


def test_a_part_that_the_store_has_not_means_a_clean_start(opened):
    with FaultyS3() as server, client_for(server.url) as s3:
        upload_id = s3.create_upload("bucket", "key")
        with pytest.raises(S3Error) as caught:
            s3.complete_upload("bucket", "key", upload_id, [Part(1, "etag", digest_of("CRC64NVME", b"x"))])
    assert (caught.value.kind, caught.value.code) == (Kind.CLEAN_START, "InvalidPart")


def test_what_is_no_answer_of_s3_is_not_believed(opened):
    portal = reply(200, {"Content-Type": "text/html"}, b"<html>please log in</html>")
    with FaultyS3(lambda _: Fault(portal)) as server, client_for(server.url) as s3:
        with pytest.raises(Unavailable, match="no ETag"):
            s3.put("bucket", "key", Body(opened(b"x"), 1))
        with pytest.raises(Unavailable, match="html instead of"):
            s3.create_upload("bucket", "key")


def test_a_document_type_is_not_read(opened):
    bomb = reply(200, {}, b'<!DOCTYPE a [<!ENTITY b "c">]><InitiateMultipartUploadResult/>')
    with (
        FaultyS3(lambda _: Fault(bomb)) as server,
        client_for(server.url) as s3,
        pytest.raises(Unavailable, match="document type"),
    ):
        s3.create_upload("bucket", "key")


@pytest.mark.parametrize("fields", [{"x-amz-meta-a": "a\r\nb: c"}, {"x-amz-meta-a": "ü"}, {"a: b\r\nc": "d"}])
def test_headers_that_http_cannot_have_are_refused(fields, opened):
    with FaultyS3() as server, client_for(server.url) as s3:
        with pytest.raises(Refused, match="cannot be sent"):
            s3.put("bucket", "key", Body(opened(b"x"), 1), headers=fields)
        assert server.seen == []


def test_a_key_that_is_not_text_is_refused(opened):
    with FaultyS3() as server, client_for(server.url) as s3, pytest.raises(Refused, match="is not text"):
        s3.put("bucket", "a\udcff", Body(opened(b"x"), 1))


def test_the_clock_is_learned_from_s3_when_ours_is_wrong(opened):
    def script(seen):
        return Fault(error(403, "RequestTimeTooSkewed")) if seen.headers["x-amz-date"] < "2001" else None

    with FaultyS3(script) as server, client_for(server.url, clock=lambda: 1000.0) as s3:
        with pytest.raises(S3Error) as caught:
            s3.put("bucket", "key", Body(opened(b"x"), 1))
        assert caught.value.kind is Kind.AGAIN
        s3.put("bucket", "key", Body(opened(b"x"), 1))
        assert abs(float(server.seen[-1].headers["x-amz-date"][:4]) - 2026) < 50


def test_the_clock_is_learned_from_a_head_too(opened):
    """A HEAD has no body to say why."""

    def script(seen):
        return Fault(reply(403, is_head=True)) if seen.headers["x-amz-date"] < "2001" else None

    with FaultyS3(script) as server, client_for(server.url, clock=lambda: 1000.0) as s3:
        with pytest.raises(S3Error) as caught:
            s3.head("bucket", "key")
        assert caught.value.kind is Kind.AGAIN
        assert s3.head("bucket", "key") is None


def test_a_head_that_is_forbidden_blocks(opened):
    answer = Fault(reply(403, is_head=True))
    with FaultyS3(lambda _: answer) as server, client_for(server.url) as s3, pytest.raises(S3Error) as caught:
        s3.head("bucket", "key")
    assert caught.value.kind is Kind.BLOCKED


@pytest.mark.parametrize("method", ["put", "head"])
def test_expired_credentials_are_reported_to_who_gave_them(method, opened):
    purse, body = Purse(), Body(opened(b"x"), 1)
    answer = reply(400, is_head=True) if method == "head" else error(400, "ExpiredToken")
    with FaultyS3(lambda _: Fault(answer)) as server, client_for(server.url, purse) as s3:
        ask = (
            (lambda: s3.head("bucket", "key"))
            if method == "head"
            else (lambda: s3.put("bucket", "key", body))
        )
        with pytest.raises(S3Error) as caught:
            ask()
    assert caught.value.kind is Kind.AGAIN
    assert purse.spoilt == [OURS]


def test_the_payload_is_signed_over_plain_http_unless_that_is_spared(opened):
    with FaultyS3() as server:
        for sparing in (False, True):
            with client_for(server.url, sign_payload=not sparing) as s3:
                s3.put("bucket", "key", Body(opened(b""), 0))
    signed, spared = (seen.headers["x-amz-content-sha256"] for seen in server.seen)
    assert signed == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    assert spared == "UNSIGNED-PAYLOAD"


def test_the_sink_is_enough_of_an_s3_to_measure_with(opened):
    shelf = Shelf()
    with sinking(shelf) as url, client_for(url) as s3:
        s3.put("bucket", "key", Body(opened(b"x" * 300_000), 300_000))
        seen = s3.head("bucket", "key")
        assert s3.head("bucket", "other") is None
        upload_id = s3.create_upload("bucket", "big")
        body = Body(opened(b"y" * 100), 100)
        stored = s3.upload_part("bucket", "big", upload_id, 1, body)
        assert {number: part.size for number, part in s3.list_parts("bucket", "big", upload_id).items()} == {
            1: 100
        }
        s3.complete_upload("bucket", "big", upload_id, [Part(1, stored.etag, body.digest)])
        assert list(s3.list_uploads("bucket")) == []
    assert seen is not None
    assert seen.size == 300_000
    assert (shelf.counters.puts, shelf.counters.parts, shelf.counters.connections) == (1, 1, 1)
    assert shelf.sizes == {b"/bucket/key": 300_000, b"/bucket/big": 100}


@pytest.mark.parametrize("algorithm", ["CRC64NVME", "CRC32C", "SHA256"])
def test_the_sink_tells_the_checksums_that_it_was_told_and_no_others(opened, algorithm):
    with sinking(Shelf()) as url, client_for(url) as s3:
        body = Body(opened(b"x" * 300_000), 300_000)
        put = s3.put("bucket", "key", body, algorithm=algorithm)
        head = s3.head("bucket", "key")
        upload_id = s3.create_upload("bucket", "big", algorithm=algorithm)
        part = Body(opened(b"y" * 100), 100)
        stored = s3.upload_part("bucket", "big", upload_id, 1, part, algorithm=algorithm)
        listed = s3.list_parts("bucket", "big", upload_id)[1]
        completed = s3.complete_upload("bucket", "big", upload_id, [Part(1, stored.etag, part.digest)])
        big = s3.head("bucket", "big")
        last = Body(opened(b"z"), 1)
        bare = s3.put("bucket", "bare", last, algorithm=MD5)
    assert head is not None
    assert big is not None
    assert [one.proves(body.digest) for one in (put, head)] == [True, True]
    assert [one.proves(part.digest) for one in (stored, listed)] == [True, True]
    whole = {CRC64NVME: combine([part.digest]).text} if algorithm == CRC64NVME else {}
    assert completed.checksums == big.checksums == whole
    assert bare.checksums == {}
    assert bare.proves(last.digest)
    assert put.proves(digest_of(MD5, b"x" * 300_000)) is None
