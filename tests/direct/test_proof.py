"""What proves that a file is stored, and what becomes of other objects of its name."""

from __future__ import annotations

import gzip
import os
import threading
from urllib.parse import parse_qs

import pytest
from zstandard import ZstdDecompressor

from tests.helpers import eventually
from tests.standins.faulty_s3 import Fault, Held, reply
from tidegate.model import State

SIZES = {"small": 300, "large": 2300}
THEIRS = b"theirs"


def sent(server, *kinds):
    return [seen for seen in server.seen if seen.kind in kinds]


@pytest.fixture(params=SIZES.values(), ids=SIZES)
def content(request):
    return os.urandom(request.param)


# OnConflict


def test_overwrite_replaces_another_object(on_faulty, content):
    depot, server = on_faulty()
    server.objects["bucket/file"] = Held(THEIRS)
    depot.send("file", content)
    depot.settle()
    assert server.objects["bucket/file"].body == content
    assert not any("if-none-match" in seen.headers for seen in server.seen)


def test_fail_leaves_another_object_alone_and_quarantines_the_file(on_faulty, content):
    depot, server = on_faulty(OnConflict="Fail")
    server.objects["bucket/file"] = Held(THEIRS)
    transfer = depot.send("file", content)
    depot.settle(tick=10)
    assert depot.tally() == {State.FAILED: 1}
    assert server.objects["bucket/file"].body == THEIRS
    assert "OnConflict is Fail" in depot.entry(transfer).note
    depot.run_for(200, tick=20)
    eventually(lambda: not server.uploads)


def test_fail_takes_an_object_with_the_same_bytes_for_its_own(on_faulty, content):
    depot, server = on_faulty(OnConflict="Fail")
    theirs = server.objects["bucket/file"] = Held(content)
    depot.send("file", content)
    depot.settle()
    assert depot.tally() == {State.STORED: 1}
    assert server.objects["bucket/file"] is theirs
    depot.run_for(200, tick=20)
    eventually(lambda: not server.uploads)


def test_fail_stores_what_nobody_else_has_stored(on_faulty, content):
    depot, server = on_faulty(OnConflict="Fail")
    depot.send("file", content)
    depot.settle()
    assert server.objects["bucket/file"].body == content
    assert [seen.headers["if-none-match"] for seen in sent(server, "put", "complete")] == ["*"]


def test_version_writes_a_new_version_over_another_object(on_faulty, content):
    said = {"ETag": '"x"', "Content-Length": "6", "x-amz-version-id": "v1"}
    versioned = Fault(reply(200, said, is_head=True))
    depot, server = on_faulty(lambda seen: versioned if seen.kind == "head" else None, OnConflict="Version")
    server.objects["bucket/file"] = Held(THEIRS)
    depot.send("file", content)
    depot.settle()
    assert depot.tally() == {State.STORED: 1}
    assert server.objects["bucket/file"].body == content


def test_version_on_a_bucket_without_versions_replaces_nothing_and_says_so(on_faulty, content):
    depot, server = on_faulty(OnConflict="Version")
    server.objects["bucket/file"] = Held(THEIRS)
    transfer = depot.send("file", content)
    depot.settle(tick=10)
    assert depot.tally() == {State.FAILED: 1}
    assert server.objects["bucket/file"].body == THEIRS
    assert "OnConflict is Version" in depot.entry(transfer).note


# Verify


def test_a_checksum_in_the_answer_is_proof_enough(on_faulty, content):
    depot, server = on_faulty()
    depot.send("file", content)
    depot.settle()
    assert sent(server, "head") == []


def test_an_md5_as_etag_proves_where_there_are_no_checksums(on_faulty, content):
    depot, server = on_faulty()
    server.has_checksums, server.has_md5 = False, True
    depot.send("file", content)
    depot.settle()
    depot.send("second", content)
    depot.settle()
    assert depot.tally() == {State.STORED: 2}
    assert server.objects["bucket/second"].body == content


def test_without_any_proof_nothing_is_called_stored_and_the_bucket_waits(on_faulty, content):
    depot, server = on_faulty()
    server.has_checksums = False
    depot.send("file", content)
    depot.run_for(600, tick=10)
    assert State.STORED not in depot.tally()
    (trouble,) = depot.ledger.pauses().values()
    assert "nothing proves what it holds" in trouble.reason
    assert "Verify: Head" in trouble.reason


def test_with_head_the_size_is_enough(on_faulty, content):
    depot, server = on_faulty(Verify="Head")
    server.has_checksums = False
    depot.send("file", content)
    depot.settle()
    assert depot.tally() == {State.STORED: 1}
    assert len(sent(server, "head")) == 1


def test_an_md5_of_other_bytes_is_never_believed(on_faulty):
    other = Fault(reply(200, {"ETag": '"d41d8cd98f00b204e9800998ecf8427e"'}))
    depot, _ = on_faulty(lambda seen: other if seen.kind == "put" else None)
    depot.send("file", b"content")
    depot.run_for(600, tick=10)
    assert not depot.tally().keys() & {State.STORED}


# What S3 receives beside the bytes


def test_what_is_asked_for_arrives_as_headers(on_faulty, content):
    depot, server = on_faulty(
        StorageClass="STANDARD_IA",
        Tags={"line": "7", "kind": "a+b c"},
        Metadata={"Site": "north"},
        CacheControl="no-store",
    )
    depot.send("a b.csv", content, modified=1_700_000_000.25)
    depot.settle()
    (seen,) = sent(server, "put", "create")
    headers = seen.headers
    assert headers["x-amz-storage-class"] == "STANDARD_IA"
    assert parse_qs(headers["x-amz-tagging"]) == {"line": ["7"], "kind": ["a+b c"]}
    assert headers["x-amz-meta-site"] == "north"
    assert headers["x-amz-meta-source"] == "default"
    assert headers["x-amz-meta-thing"] == "thing"
    assert headers["x-amz-meta-mtime"] == "1700000000.250000000"
    assert headers["x-amz-meta-original-name"] == "a%20b.csv"
    assert headers["cache-control"] == "no-store"
    assert headers["content-type"] == "text/csv"


@pytest.mark.parametrize("size", [3_000, 200_000, 3 * 2**20])
@pytest.mark.parametrize(
    ("how", "unpack", "suffix"),
    [
        ("Gzip", gzip.decompress, ".gz"),
        ("Zstd", lambda body: ZstdDecompressor().decompressobj().decompress(body), ".zst"),
    ],
)
def test_packed_files_unpack_to_what_they_were_and_are_packed_the_same_each_time(
    on_faulty, size, how, unpack, suffix
):
    content = os.urandom(size // 10) * 10
    depot, server = on_faulty(threshold=100_000, part_size=100_000, Compress=how)
    depot.promise(depot.write("first", content), depot.write("second", content))
    depot.settle()
    assert depot.tally() == {State.STORED: 2}
    objects = {path.partition("/")[2]: held.body for path, held in server.objects.items()}
    assert len(set(objects.values())) == 1
    assert {unpack(body) for body in objects.values()} == {content}
    assert set(objects) == {f"first{suffix}", f"second{suffix}"}


# Order


def test_an_urgent_small_file_passes_a_large_one_and_many_others(on_faulty, tmp_path):
    gate = threading.Event()
    urgent = {"PathName": f"{tmp_path}/faulty0/files/**", "BucketName": "bucket", "Priority": 1}
    depot, server = on_faulty(
        lambda _: None if gate.is_set() else Fault(wait=gate),
        workers=1,  # so that what is taken first arrives first
        Sources={"urgent": urgent},
    )
    depot.send("large", os.urandom(20_000), modified=1)
    depot.send_many(20)
    depot.hand_over()
    eventually(lambda: len(server.seen) == 1)
    depot.promise(depot.write("alarm"), source="urgent")
    depot.hand_over()
    gate.set()
    depot.settle()
    puts = [seen.path for seen in sent(server, "put")]
    assert puts[0] == "bucket/alarm"
    assert depot.tally() == {State.STORED: 22}
