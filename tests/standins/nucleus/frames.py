"""Event stream frames as Greengrass IPC uses them: a prelude, headers and a payload, each half with its CRC32.

A frame is `u32 total | u32 headers | u32 crc32 of these 8 bytes | headers | payload | u32 crc32 of all before`,
big-endian. Of the ten types of header values, IPC needs two: int32 and string.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Mapping

APPLICATION, APPLICATION_ERROR, PING, PONG, CONNECT, CONNECT_ACK = range(6)
CONNECTION_ACCEPTED, TERMINATE_STREAM = 1, 2
OVERHEAD = 16
INT32, STRING = 4, 7

_PRELUDE = struct.Struct(">II")
_U32 = struct.Struct(">I")
_INT32_VALUE = struct.Struct(">Bi")
_STRING_VALUE = struct.Struct(">BH")


class BrokenFrameError(Exception):
    """The other side does not keep to the protocol. A nucleus closes the connection and says nothing."""


@dataclass(frozen=True, slots=True)
class Frame:
    """One message, without what only its transport needs."""

    headers: Mapping[str, int | str]
    payload: bytes = b""

    @property
    def type(self) -> int:
        return self._number(":message-type")

    @property
    def flags(self) -> int:
        return self._number(":message-flags")

    @property
    def stream(self) -> int:
        return self._number(":stream-id")

    def text(self, name: str) -> str:
        """Return a string header, "" if it is not there."""
        value = self.headers.get(name, "")
        return value if isinstance(value, str) else ""

    def _number(self, name: str) -> int:
        value = self.headers.get(name)
        if not isinstance(value, int):
            raise BrokenFrameError(f"no {name}")
        return value

    def encode(self) -> bytes:
        headers = b"".join(_encode_header(name, value) for name, value in self.headers.items())
        prelude = _PRELUDE.pack(OVERHEAD + len(headers) + len(self.payload), len(headers))
        data = prelude + _U32.pack(zlib.crc32(prelude)) + headers + self.payload
        return data + _U32.pack(zlib.crc32(data))


def message(kind: int, flags: int, stream: int, payload: bytes = b"", **headers: str) -> Frame:
    """Make a frame with the three headers that each has, and others, `_` standing for `-` in their names."""
    common: dict[str, int | str] = {":message-type": kind, ":message-flags": flags, ":stream-id": stream}
    if payload:
        common[":content-type"] = "application/json"
    return Frame(common | {name.replace("_", "-"): value for name, value in headers.items()}, payload)


async def read_frame(reader: asyncio.StreamReader, largest: int) -> Frame:
    """Read one frame of at most `largest` bytes in total."""
    prelude = await reader.readexactly(_PRELUDE.size + _U32.size)
    total, headers_length = _PRELUDE.unpack_from(prelude)
    if _U32.unpack_from(prelude, _PRELUDE.size)[0] != zlib.crc32(prelude[: _PRELUDE.size]):
        raise BrokenFrameError("the checksum of the prelude is wrong")
    if not OVERHEAD + headers_length <= total <= largest:
        raise BrokenFrameError(f"a frame of {total} bytes")
    rest = await reader.readexactly(total - len(prelude))
    if _U32.unpack(rest[-_U32.size :])[0] != zlib.crc32(prelude + rest[: -_U32.size]):
        raise BrokenFrameError("the checksum is wrong")
    return Frame(_decode_headers(rest[:headers_length]), rest[headers_length : -_U32.size])


def _encode_header(name: str, value: int | str) -> bytes:
    start = bytes([len(name)]) + name.encode()
    if isinstance(value, int):
        return start + _INT32_VALUE.pack(INT32, value)
    text = value.encode()
    return start + _STRING_VALUE.pack(STRING, len(text)) + text


def _decode_headers(data: bytes) -> dict[str, int | str]:
    headers: dict[str, int | str] = {}
    at = 0
    try:
        while at < len(data):
            end = at + 1 + data[at]
            name, kind = data[at + 1 : end].decode(), data[end]
            if kind == INT32:
                _, headers[name] = _INT32_VALUE.unpack_from(data, end)
                at = end + _INT32_VALUE.size
            elif kind == STRING:
                _, length = _STRING_VALUE.unpack_from(data, end)
                at = end + _STRING_VALUE.size + length
                headers[name] = data[at - length : at].decode()
            else:
                raise BrokenFrameError(f"a header of type {kind}")
    except (IndexError, struct.error, UnicodeDecodeError) as error:
        raise BrokenFrameError("not headers") from error
    return headers
