from __future__ import annotations

import _ctypes
import base64
import hashlib
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.helpers import environment
from tidegate.store import crt
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


def installed() -> Path:
    return Path(find_spec("_awscrt").origin)


def in_place_of(extension: Path, folder: Path, version: str) -> Path:
    """Pretend that this file is the extension of that version."""
    (folder / f"awscrt-{version}.dist-info").mkdir()
    shutil.copy(extension, folder / "_awscrt.so")
    return folder / "_awscrt.so"


@settings(max_examples=50, deadline=None)
@given(st.binary(max_size=9000), st.binary(max_size=9000))
def test_checksums_taken_out_of_the_extension_are_those_of_the_library(first, second):
    straight, through = crt.direct(installed()), crt.whole()
    assert straight is not None
    for name in ("crc64nvme", "crc32c"):
        ours, theirs = getattr(straight, name), getattr(through, name)
        assert ours(memoryview(second), ours(first, 0)) == theirs(second, theirs(first, 0))
    crcs = straight.crc64nvme(first, 0), straight.crc64nvme(second, 0)
    assert straight.combine_crc64nvme(*crcs, len(second)) == straight.crc64nvme(first + second, 0)


def test_a_start_does_not_pay_for_the_rest_of_the_library():
    code = "import sys; from tidegate.store.checksum import best; print(best(), '_awscrt' in sys.modules)"
    found = subprocess.run(
        [sys.executable, "-c", code], env=environment(), capture_output=True, text=True, check=True
    )
    assert found.stdout.split() == [CRC64NVME, "False"]


def test_a_version_that_was_not_tried_is_used_as_it_is_meant_to_be(tmp_path):
    assert crt.direct(in_place_of(installed(), tmp_path, "0.35.9")) is None
    assert crt.whole().are_right()


def test_an_extension_that_has_no_such_functions_is_not_used(tmp_path):
    assert crt.direct(in_place_of(Path(_ctypes.__file__), tmp_path, crt.TRIED[0])) is None
    (tmp_path / "torn.so").write_bytes(b"no library")
    assert crt.direct(tmp_path / "torn.so") is None


def test_checksums_that_are_wrong_are_found_out():
    right = crt.whole()
    for name in right._fields:
        assert not right._replace(**{name: lambda *_: 1}).are_right()


def test_without_awscrt_it_is_sha256():
    assert best() == CRC64NVME
    assert best(has_crt=False) == SHA256
