"""The wire format between Stream Manager and its SDK: frames of CBOR maps, and the numbers in them."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any

import cbor2

from tests.standins.stream import Refusal

if TYPE_CHECKING:
    import asyncio

    from tests.standins.stream import Stream

CONNECT_VERSION = b"\x01"
PROTOCOL = "1.1.0"
CONNECT_REPLY = 6
CREATE, DELETE, APPEND, READ, LIST, DESCRIBE, UPDATE = 2, 3, 4, 5, 11, 13, 15
REPLIES = {CREATE: 7, DELETE: 8, APPEND: 9, READ: 10, LIST: 12, DESCRIBE: 14, UPDATE: 16}
UNKNOWN_OPERATION_ERROR = 17
NAMES = {
    CREATE: "create",
    DELETE: "delete",
    APPEND: "append",
    READ: "read",
    LIST: "list",
    DESCRIBE: "describe",
    UPDATE: "update",
}
UNKNOWN_FAILURE, UNAUTHORIZED, INVALID_REQUEST, NOT_ENOUGH_MESSAGES, UNKNOWN_OPERATION = 1, 2, 3, 13, 18

LENGTH = struct.Struct(">i")
HEADER = struct.Struct(">ib")
LARGEST_FRAME = 1 << 30


async def read_frame(reader: asyncio.StreamReader) -> tuple[int, dict[str, Any]]:
    """Read one request; whoever sends anything else is cut off."""
    (length,) = LENGTH.unpack(await reader.readexactly(4))
    if not 1 <= length <= LARGEST_FRAME:
        raise ConnectionAbortedError(f"a frame of {length} bytes")
    data = await reader.readexactly(length)
    try:
        request = cbor2.loads(data[1:])
    except cbor2.CBORDecodeError as error:
        raise ConnectionAbortedError("not CBOR") from error
    if not isinstance(request, dict) or "requestId" not in request:
        raise ConnectionAbortedError("not a request")
    return data[0], request


def frame(operation: int, reply: dict[str, Any]) -> bytes:
    """Make the bytes of one reply, to be sent in one write: see the SDK's reading of headers."""
    payload = cbor2.dumps(reply)
    return HEADER.pack(1 + len(payload), operation) + payload


def describe(stream: Stream) -> dict[str, Any]:
    """Make a messageStreamInfo; what is not known yet is left out, as everywhere in this protocol."""
    exports = []
    for identifier, progress in stream.progress.items():
        status = {
            "exportConfigIdentifier": identifier,
            "lastExportedSequenceNumber": progress.last,
            "exportedBytesFromStream": progress.exported_bytes,
            "exportedMessagesCount": progress.exported_count,
        }
        if progress.attempted_ms:
            status["lastExportTime"] = progress.attempted_ms
        if progress.error:
            status["errorMessage"] = progress.error
        exports.append(status)
    storage = {
        "oldestSequenceNumber": stream.oldest,
        "newestSequenceNumber": stream.newest,
        "totalBytes": stream.total_bytes,
    }
    return {"definition": stream.definition, "storageStatus": storage, "exportStatuses": exports}


def describe_error(error: Exception) -> dict[str, Any]:
    """Turn an exception into the status and text of a reply."""
    if isinstance(error, Refusal):
        return {"status": error.status, "errorMessage": str(error)}
    if isinstance(error, (KeyError, TypeError, AttributeError)):
        return {"status": INVALID_REQUEST, "errorMessage": f"not a valid request: {error!r}"}
    return {"status": UNKNOWN_FAILURE, "errorMessage": repr(error)}
