"""Writing a compressed tar file member by member: the same bytes for the same members, in little memory."""

from __future__ import annotations

import tarfile
from typing import TYPE_CHECKING, Any, BinaryIO

from tidegate.errors import Unavailable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from typing_extensions import Self

_BLOCK = 512
_LEVEL = 3


class TarZstd:
    """A compressed tar file that is being written to `file`. Names are UTF-8, long ones as POSIX has them."""

    def __init__(self, file: BinaryIO) -> None:
        """Raises Unavailable where the library is missing."""
        try:
            import zstandard  # noqa: PLC0415 - an extra: few need it
        except ImportError as error:
            raise Unavailable(
                "Archive: TarZstd needs the package zstandard: pip install zstandard"
            ) from error
        self._file: Any = zstandard.ZstdCompressor(level=_LEVEL).stream_writer(file, closefd=False)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def add(self, name: bytes, size: int, mtime_ns: int, chunks: Iterator[bytes]) -> None:
        """Add a file of this size. `chunks` yields exactly so many bytes."""
        entry = tarfile.TarInfo(name.decode())
        entry.size, entry.mtime = size, mtime_ns // 10**9
        self._file.write(entry.tobuf(tarfile.PAX_FORMAT, "utf-8", "strict"))
        for chunk in chunks:
            self._file.write(chunk)
        self._file.write(bytes(-size % _BLOCK))

    def close(self) -> None:
        """Write what comes at the end."""
        self._file.write(bytes(2 * _BLOCK))
        self._file.close()
