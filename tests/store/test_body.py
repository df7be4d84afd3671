from __future__ import annotations

import hashlib
import os

import pytest

from tests.standins.faulty_s3 import FaultyS3
from tests.store.conftest import client_for
from tidegate.store.body import CHUNK_BYTES, Body, BodyChanged
from tidegate.store.checksum import digest_of

SIZES = [0, 1, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, 2 * CHUNK_BYTES, 2 * CHUNK_BYTES + 17]


@pytest.mark.parametrize("held", [False, True])
@pytest.mark.parametrize("size", SIZES)
def test_what_is_measured_is_what_is_sent(size, held, opened):
    content = os.urandom(size + 20)
    wanted = content[10 : 10 + size]
    body = Body(opened(content), size, offset=10, buffer=bytearray(size + 5) if held else None)
    digest, sha256 = body.measure("CRC64NVME", sha256=True)
    assert digest == body.digest == digest_of("CRC64NVME", wanted)
    assert sha256 == hashlib.sha256(wanted).hexdigest()
    for _ in range(2):  # it may have to be sent again
        assert b"".join(bytes(chunk) for chunk in body.chunks()) == wanted


def test_the_position_of_the_descriptor_stays_where_it_is(opened):
    descriptor = opened(b"x" * 600_000)
    os.lseek(descriptor, 5, os.SEEK_SET)
    body = Body(descriptor, 600_000)
    body.measure("CRC64NVME")
    assert sum(len(chunk) for chunk in body.chunks()) == 600_000
    assert os.lseek(descriptor, 0, os.SEEK_CUR) == 5


@pytest.mark.parametrize("size", [10, 2 * CHUNK_BYTES])
def test_every_byte_is_paid_for_before_it_is_sent(size, opened):
    spent, checks = [], []
    body = Body(
        opened(b"x" * size),
        size,
        take=lambda count: spent.append(count) or count,
        check=lambda: checks.append(len(spent)),
    )
    body.measure("CRC64NVME")
    assert spent == []
    seen = []
    for chunk in body.chunks():
        seen.append(len(chunk))
        assert spent == seen
    assert sum(spent) == size
    assert len(checks) >= 2 * len(seen)


@pytest.mark.parametrize("size", [10, CHUNK_BYTES, 3 * CHUNK_BYTES + 1])
def test_a_body_that_may_only_go_in_slices_arrives_whole(size, opened):
    content = os.urandom(size)
    body = Body(opened(content), size, take=lambda count: min(count, 1000))
    body.measure("CRC64NVME")
    slices = [bytes(chunk) for chunk in body.chunks()]
    assert max(map(len, slices)) <= 1000
    assert b"".join(slices) == content


@pytest.mark.parametrize("held", [False, True])
def test_a_body_in_a_buffer_is_sent_in_chunks_too(held, opened):
    size = 2 * CHUNK_BYTES + 1
    body = Body(opened(b"x" * size), size, buffer=bytearray(size) if held else None)
    body.measure("CRC64NVME")
    assert [len(chunk) for chunk in body.chunks()] == [CHUNK_BYTES, CHUNK_BYTES, 1]


@pytest.mark.parametrize("held", [False, True])
@pytest.mark.parametrize("size", [11, CHUNK_BYTES + 1])
def test_a_file_that_is_too_short_is_noticed(size, held, opened):
    body = Body(opened(b"x" * (size - 1)), size, buffer=bytearray(size) if held else None)
    with pytest.raises(BodyChanged, match=f"ends after {size - 1} bytes"):
        body.measure("CRC64NVME")


@pytest.mark.parametrize("place", [0, CHUNK_BYTES, 3 * CHUNK_BYTES - 1])
def test_a_file_that_changes_while_it_is_sent_is_not_stored(place, tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"x" * 3 * CHUNK_BYTES)
    size = 3 * CHUNK_BYTES
    descriptor = os.open(path, os.O_RDWR)
    try:
        body = Body(descriptor, size)
        body.measure("CRC64NVME")
        os.pwrite(descriptor, b"y", place)
        sent = []
        with pytest.raises(BodyChanged, match="while it was sent"):
            sent.extend(len(chunk) for chunk in body.chunks())
        assert sum(sent) < size
    finally:
        os.close(descriptor)


def test_nothing_torn_is_ever_stored(tmp_path):
    """One thread writes into the file between the two readings: the request ends before its last byte."""
    path = tmp_path / "file"
    size = 40 * CHUNK_BYTES
    path.write_bytes(b"x" * size)
    descriptor = os.open(path, os.O_RDWR)
    spent = []

    def take(count):
        spent.append(count)
        if len(spent) == 3:
            os.pwrite(descriptor, b"y", size // 2)
        return count

    try:
        with FaultyS3() as server, client_for(server.url) as s3:
            with pytest.raises(BodyChanged):
                s3.put("bucket", "key", Body(descriptor, size, take=take))
            assert server.objects == {}
    finally:
        os.close(descriptor)


def test_a_file_that_cannot_be_read_says_so_itself(tmp_path):
    descriptor = os.open(tmp_path, os.O_RDONLY)
    try:
        with pytest.raises(IsADirectoryError):
            Body(descriptor, 10).measure("CRC64NVME")
    finally:
        os.close(descriptor)
