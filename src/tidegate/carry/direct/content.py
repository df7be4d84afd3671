"""The bytes that become an object: the file as it is, or packed."""

from __future__ import annotations

import os
import zlib
from typing import TYPE_CHECKING, Protocol

from tidegate.config import Compress
from tidegate.errors import Refused
from tidegate.store.fence import Fence

if TYPE_CHECKING:
    from pathlib import Path

    from tidegate.model import Candidate

_CHUNK = 256 * 1024
_IN_MEMORY = 2**20
_GZIP_WITHOUT_NAME_OR_TIME = 31  # zlib's word for it: the same bytes each time, so an upload can be resumed


class Content(Protocol):
    """An open descriptor and how much of it counts. `check` raises `BodyChanged` when the file did."""

    descriptor: int
    size: int

    def check(self) -> None:
        """See that the file is still the promised version."""

    def close(self) -> None:
        """Let go of it."""


class Plain:
    """A file as it is."""

    __slots__ = ("_fence", "check", "close", "descriptor", "size")

    def __init__(self, body: Candidate) -> None:
        fence = Fence(body)
        self.descriptor = fence.descriptor
        self.size = body.fingerprint.size
        self.check = fence.check
        self.close = fence.close


class Packed:
    """A file compressed into one that has no name: in memory if it is small, else in the spool folder."""

    def __init__(self, body: Candidate, how: Compress, spool: Path) -> None:
        """Raises `BodyChanged`, and OSError when there is no room."""
        self._fence = Fence(body)
        try:
            self.descriptor = _unnamed(body.fingerprint.size, spool)
        except BaseException:
            self._fence.close()
            raise
        try:
            self.size = self._pack(how, body.fingerprint.size)
        except BaseException:
            self.close()
            raise

    def check(self) -> None:
        """See Content."""
        self._fence.check()

    def close(self) -> None:
        """See Content."""
        os.close(self.descriptor)
        self._fence.close()

    def _pack(self, how: Compress, size: int) -> int:
        packer = _packer(how)
        offset = packed = 0
        while offset < size:
            self.check()
            chunk = os.pread(self._fence.descriptor, _CHUNK, offset)
            if not chunk:
                break
            offset += len(chunk)
            packed += _write(self.descriptor, packer.compress(chunk))
        packed += _write(self.descriptor, packer.flush())
        self.check()
        return packed


class _Packer(Protocol):
    def compress(self, data: bytes, /) -> bytes: ...

    def flush(self) -> bytes: ...


def _packer(how: Compress) -> _Packer:
    if how is Compress.GZIP:
        return zlib.compressobj(6, zlib.DEFLATED, _GZIP_WITHOUT_NAME_OR_TIME)
    try:
        import zstandard  # noqa: PLC0415 - an extra: few need it
    except ImportError as error:
        raise Refused("Compress: Zstd needs the package zstandard: pip install zstandard") from error
    packer: _Packer = zstandard.ZstdCompressor(level=3).compressobj()
    return packer


def _unnamed(size: int, spool: Path) -> int:
    if size <= _IN_MEMORY:
        return os.memfd_create("tidegate", os.MFD_CLOEXEC)
    spool.mkdir(parents=True, exist_ok=True)
    return os.open(spool, os.O_RDWR | os.O_TMPFILE | os.O_CLOEXEC, 0o600)


def _write(descriptor: int, data: bytes) -> int:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]
    return len(data)
