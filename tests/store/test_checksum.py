from __future__ import annotations

import base64
import hashlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tidegate.store.checksum import CRC32C, CRC64NVME, MD5, SHA256, Digest, best, combine, digest_of, hasher

CHECK = b"123456789"


def by_the_book(data: bytes) -> int:
    """CRC-64/NVME of the catalogue, bit by bit: polynomial AD93D23594C93659 reflected, all ones in and out."""
    crc = 0xFFFFFFFFFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x9A6C9329AC4BC9B5 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFFFFFFFFFF


@pytest.mark.parametrize(
    ("algorithm", "text"),
    [
        (CRC64NVME, base64.b64encode(bytes.fromhex("AE8B14860A799888")).decode()),
        (CRC32C, base64.b64encode(bytes.fromhex("E3069283")).decode()),
        (SHA256, base64.b64encode(hashlib.sha256(CHECK).digest()).decode()),
        (MD5, base64.b64encode(hashlib.md5(CHECK).digest()).decode()),
    ],
)
def test_checksums_are_the_published_ones_big_endian_in_base64(algorithm, text):
    assert digest_of(algorithm, CHECK).text == text


@settings(max_examples=50, deadline=None)
@given(st.lists(st.binary(max_size=40), min_size=1, max_size=6))
def test_checksums_of_parts_combine_to_that_of_the_object(parts):
    whole = combine([digest_of(CRC64NVME, part) for part in parts])
    data = b"".join(parts)
    assert (
        whole
        == digest_of(CRC64NVME, data)
        == Digest(CRC64NVME, by_the_book(data).to_bytes(8, "big"), len(data))
    )


@pytest.mark.parametrize("algorithm", [CRC64NVME, CRC32C, SHA256, MD5])
def test_a_checksum_may_be_computed_piece_by_piece(algorithm):
    begun = hasher(algorithm)
    for piece in (b"123", bytearray(b"4567"), memoryview(b"_89")[1:]):
        begun.update(piece)
    assert begun.digest() == digest_of(algorithm, CHECK)


@pytest.mark.parametrize("algorithm", [CRC32C, SHA256])
def test_other_checksums_of_multipart_objects_are_checksums_of_checksums(algorithm):
    parts = [digest_of(algorithm, b"a"), digest_of(algorithm, b"bc")]
    whole = combine(parts)
    assert whole.text == digest_of(algorithm, parts[0].raw + parts[1].raw).text + "-2"
    assert whole.size == 3


def test_the_etag_of_a_multipart_object_is_the_md5_of_the_md5s():
    parts = [digest_of(MD5, b"a"), digest_of(MD5, b"b")]
    expected = hashlib.md5(hashlib.md5(b"a").digest() + hashlib.md5(b"b").digest()).hexdigest() + "-2"
    assert combine(parts).etag == expected


def test_parts_with_different_checksums_do_not_combine():
    with pytest.raises(ValueError, match="one algorithm"):
        combine([digest_of(MD5, b"a"), digest_of(SHA256, b"b")])
    with pytest.raises(ValueError, match="one algorithm"):
        combine([])


def test_an_unknown_checksum_is_refused():
    with pytest.raises(ValueError, match="CRC8"):
        hasher("CRC8")


def test_without_awscrt_it_is_sha256():
    assert best() == CRC64NVME
    assert best(has_crt=False) == SHA256
