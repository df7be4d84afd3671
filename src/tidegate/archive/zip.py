"""Writing a zip file member by member: the same bytes for the same members, in memory that does not grow.

The standard library keeps a value for each member until the end, 38 MB for a hundred thousand
(docs/decisions/0010). Here the directory that stands at the end of the file waits in an unnamed file.
Sizes and counts beyond the old limits are written as zip64 has them. Names are UTF-8, times are UTC.
"""

from __future__ import annotations

import shutil
import struct
import tempfile
import zlib
from datetime import datetime, timezone
from typing import TYPE_CHECKING, BinaryIO

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from typing_extensions import Self

_STORED, _DEFLATED = 0, 8
_PLAIN, _ZIP64 = 20, 45  # versions of the format that a reader must know
_UTF8 = 0x800
_UNIX = 3 << 8
_FILE = 0o100644 << 16  # a regular file that its owner may write
_MOST, _MANY = 0xFFFFFFFF, 0xFFFF
LARGE = _MOST - 2**24  # incompressible bytes grow a little
_FIRST, _LAST = 315532800, 4354819198  # the years 1980 to 2107, in seconds since 1970
_RAW_DEFLATE = -15


class Zip:
    """A zip file that is being written, from the beginning of `file`, which must be seekable."""

    def __init__(self, file: BinaryIO, folder: Path, *, large: int = LARGE) -> None:
        """`folder` is one for an unnamed file. Numbers above `large` are written as zip64 has them."""
        self._large = large
        self._file = file
        self._directory = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 - closed with the archive
        self._count = 0
        self._offset = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._directory.close()

    def add(self, name: bytes, size: int, mtime_ns: int, chunks: Iterator[bytes]) -> None:
        """Add a file of this size. `chunks` yields exactly so many bytes."""
        large = size > self._large
        method = _DEFLATED if size else _STORED
        extra = _extended_time(mtime_ns)
        if large:
            extra = _large_sizes(0, 0) + extra
        shape = struct.pack("<HHH", _ZIP64 if large else _PLAIN, _UTF8, method) + _dos_time(mtime_ns)
        header = b"PK\3\4" + shape + bytes(12) + struct.pack("<HH", len(name), len(extra)) + name + extra
        self._file.write(header)
        checksum, packed = self._pack(method, chunks)
        sizes = (_MOST, _MOST) if large else (packed, size)
        self._file.seek(self._offset + 14)
        self._file.write(struct.pack("<LLL", checksum, *sizes))
        if large:
            self._file.seek(self._offset + 30 + len(name))
            self._file.write(_large_sizes(size, packed))
        self._note(name, shape, checksum, size, packed, _extended_time(mtime_ns))
        self._offset += len(header) + packed
        self._file.seek(self._offset)

    def close(self) -> None:
        """Write the directory."""
        begin, length = self._offset, self._directory.tell()
        self._directory.seek(0)
        shutil.copyfileobj(self._directory, self._file)
        if self._count >= _MANY or length >= _MOST or begin > self._large:
            entry = struct.pack("<HHLLQQQQ", _ZIP64, _ZIP64, 0, 0, self._count, self._count, length, begin)
            self._file.write(b"PK\6\6" + struct.pack("<Q", len(entry)) + entry)
            self._file.write(b"PK\6\7" + struct.pack("<LQL", 0, begin + length, 1))
        count = min(self._count, _MANY)
        self._file.write(
            b"PK\5\6" + struct.pack("<HHHHLLH", 0, 0, count, count, min(length, _MOST), min(begin, _MOST), 0)
        )

    def _pack(self, method: int, chunks: Iterator[bytes]) -> tuple[int, int]:
        """Write the bytes of a member. Returns their checksum and how many were written."""
        checksum = written = 0
        packer = zlib.compressobj(zlib.Z_DEFAULT_COMPRESSION, zlib.DEFLATED, _RAW_DEFLATE)
        for chunk in chunks:
            checksum = zlib.crc32(chunk, checksum)
            written += self._file.write(packer.compress(chunk))
        if method == _DEFLATED:
            written += self._file.write(packer.flush())
        return checksum, written

    def _note(self, name: bytes, shape: bytes, checksum: int, size: int, packed: int, extra: bytes) -> None:
        """Write the entry of the directory, for the end."""
        large = [value for value in (size, packed, self._offset) if value > self._large]
        if large:
            extra = struct.pack(f"<HH{len(large)}Q", 1, 8 * len(large), *large) + extra
            shape = struct.pack("<H", _ZIP64) + shape[2:]
        packed, size, offset = (
            _MOST if value > self._large else value for value in (packed, size, self._offset)
        )
        self._directory.write(
            b"PK\1\2"
            + struct.pack("<H", _UNIX | struct.unpack_from("<H", shape)[0])
            + shape
            + struct.pack(
                "<LLLHHHHHLL", checksum, packed, size, len(name), len(extra), 0, 0, 0, _FILE, offset
            )
            + name
            + extra
        )
        self._count += 1


def _large_sizes(size: int, packed: int) -> bytes:
    return struct.pack("<HHQQ", 1, 16, size, packed)


def _dos_time(mtime_ns: int) -> bytes:
    """Write a time as the format has it, in steps of two seconds, from 1980 to 2107."""
    seconds = min(max(mtime_ns // 10**9, _FIRST), _LAST)
    moment = datetime.fromtimestamp(seconds, timezone.utc)
    clock = moment.hour << 11 | moment.minute << 5 | moment.second // 2
    return struct.pack("<HH", clock, (moment.year - 1980) << 9 | moment.month << 5 | moment.day)


def _extended_time(mtime_ns: int) -> bytes:
    """Write a time in seconds since 1970, as Unix tools do; nothing if it does not fit."""
    seconds = mtime_ns // 10**9
    return struct.pack("<HHBl", 0x5455, 5, 1, seconds) if -(2**31) <= seconds < 2**31 else b""
