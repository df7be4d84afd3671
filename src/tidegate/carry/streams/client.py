"""One dependable connection to Stream Manager, made of the SDK's client.

The only module that imports stream_manager. It knows nothing about promises.

After anything but a proper answer the connection is thrown away, and the next call makes a new one: the
SDK itself cannot be relied on to find back (see connection.py). Attempts are spaced, and a server that
accepts connections but stays silent is not waited for as long as one that is busy.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import logging
import threading
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from stream_manager import (
    ExportDefinition,
    MessageStreamDefinition,
    NotEnoughMessagesException,
    Persistence,
    ReadMessagesOptions,
    ResourceNotFoundException,
    S3ExportTaskDefinition,
    S3ExportTaskExecutorConfig,
    StatusConfig,
    StatusLevel,
    StrategyOnFull,
    StreamManagerClient,
    StreamManagerException,
    ValidationException,
)
from stream_manager.util import Util

from tidegate.carry.streams.connection import Connection
from tidegate.errors import Refused, Unavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from tidegate.config import StreamManager

REQUEST_SECONDS = 10
"""Time-out of every call. Long polls must be shorter."""

CONNECT_SECONDS = 3
DEFAULT_PORT = 8088
SLOWEST_RETRY_SECONDS = 30.0
"""Attempts to connect are spaced by half a second, doubling to this."""

HANG_UP_SECONDS = 1.0
SEGMENT_BYTES = 16 * 2**20
SMALLEST_SEGMENT_BYTES = 1024

_LOST = (
    OSError,
    TimeoutError,
    asyncio.TimeoutError,
    asyncio.IncompleteReadError,
    asyncio.CancelledError,  # the connection ended while we waited
    concurrent.futures.CancelledError,
    KeyError,  # the SDK's, when it forgets a request twice
    AttributeError,  # the SDK's, for the answer to an operation that the server does not know
)
_T = TypeVar("_T")


class Missing(Unavailable):
    """The stream does not exist (any more)."""


class Full(Unavailable):
    """The stream takes no message for now: it is full, as far as one can tell from what is documented."""


@dataclass(frozen=True, slots=True)
class Description:
    """What Stream Manager says about one stream. Numbers are -1 where there is nothing yet."""

    newest: int
    exported: int
    error: str


class Client:
    """Stream Manager, for one kind of work. Safe to use from several threads.

    Every method raises `Unavailable` when Stream Manager cannot be reached or does not answer in time;
    whatever was asked may then have happened or not. `steady` is a clock that never jumps, in seconds.
    """

    def __init__(
        self,
        settings: StreamManager,
        steady: Callable[[], float],
        *,
        request_seconds: float = REQUEST_SECONDS,
        connect_seconds: float = CONNECT_SECONDS,
    ) -> None:
        self._settings = settings
        self._steady = steady
        self._request_seconds = request_seconds
        self._connect_seconds = connect_seconds
        self._lock = threading.Lock()
        self._connection: Connection | None = None
        self._opening: Connection | None = None
        self._closed = False
        self._next_attempt = steady()
        self._wait = 0.5
        self._last_error = ""
        self.connections = 0

    @property
    def connected(self) -> bool:
        """Whether there is a connection, as far as one can tell without using it."""
        return self._connection is not None and not self._connection.ended

    def append(self, messages: Sequence[tuple[str, bytes]]) -> list[int | Unavailable]:
        """Append each message to its stream; return the number of each, or why it was not taken.

        `Missing` and `Full` are about the stream alone.
        """
        try:
            connection = self._connected()
            answers = connection.ask_all(lambda client: (client._append_message(*one) for one in messages))  # noqa: SLF001
        except Unavailable as err:
            return [err] * len(messages)
        except _LOST as err:
            return [self._lost(connection, err)] * len(messages)
        return [self._number(connection, answer) for answer in answers]

    def _number(self, connection: Connection, answer: object) -> int | Unavailable:
        if isinstance(answer, int):
            return answer
        if isinstance(answer, ResourceNotFoundException):
            return Missing(str(answer))
        if isinstance(answer, StreamManagerException):
            return Full(f"Stream Manager answered {type(answer).__name__}: {answer}")
        if isinstance(answer, _LOST):
            return self._lost(connection, answer)
        assert isinstance(answer, BaseException)
        raise answer

    def read(self, stream: str, start: int, *, limit: int, wait_seconds: float) -> list[tuple[int, bytes]]:
        """Read up to `limit` messages from number `start` on; none when none come in time."""
        options = ReadMessagesOptions(
            desired_start_sequence_number=start,
            min_message_count=1,
            max_message_count=limit,
            read_timeout_millis=int(wait_seconds * 1000),
        )
        try:
            messages = self._call(lambda client: client.read_messages(stream, options))
        except _Nothing:
            return []
        return [(message.sequence_number, message.payload) for message in messages]

    def streams(self) -> list[str]:
        """List the names of all streams, also of other components."""
        return list(self._call(lambda client: client.list_streams()))

    def describe(self, stream: str) -> Description:
        """Tell how far a stream is. Raises `Missing`."""
        info = self._call(lambda client: client.describe_message_stream(stream))
        export = info.export_statuses[0] if info.export_statuses else None
        begun = export is not None and (export.exported_messages_count or export.last_export_time)
        return Description(
            newest=info.storage_status.newest_sequence_number,
            exported=export.last_exported_sequence_number if export and begun else -1,
            error=(export.error_message or "") if export else "",
        )

    def delete(self, stream: str) -> None:
        """Delete a stream and all tasks in it. One that is missing is deleted already."""
        with suppress(Missing):
            self._call(lambda client: client.delete_message_stream(stream))

    def create_task_stream(self, stream: str, status_stream: str) -> None:
        """Create a stream whose messages are uploads; the status stream must exist."""
        executor = S3ExportTaskExecutorConfig(
            identifier=stream,
            size_threshold_for_multipart_upload_bytes=self._settings.multipart_threshold,
            status_config=StatusConfig(status_level=StatusLevel.INFO, status_stream_name=status_stream),
        )
        self._create(stream, StrategyOnFull.RejectNewData, ExportDefinition(s3_task_executor=[executor]))

    def create_status_stream(self, stream: str) -> None:
        """Create a stream that keeps the newest news and gives up the oldest when full."""
        self._create(stream, StrategyOnFull.OverwriteOldestData, None)

    def _create(self, stream: str, on_full: StrategyOnFull, export: ExportDefinition | None) -> None:
        size = self._settings.stream_max_bytes
        definition = MessageStreamDefinition(
            name=stream,
            max_size=size,
            # Room is made by whole segments, and one of the default size may be more than there is.
            stream_segment_size=max(SMALLEST_SEGMENT_BYTES, min(SEGMENT_BYTES, size // 4)),
            strategy_on_full=on_full,
            persistence=Persistence[self._settings.persistence],
            export_definition=export,
        )
        if self._settings.persistence == "File":
            definition.flush_on_write = self._settings.flush_on_write
        self._call(lambda client: client.create_message_stream(definition))

    def close(self) -> None:
        """Hang up, without waiting for an answer."""
        self._closed = True
        for connection in (self._connection, self._opening):
            if connection is not None:
                connection.end()
                connection.join(HANG_UP_SECONDS)

    def _call(self, ask: Callable[[Any], _T]) -> _T:
        connection = self._connected()
        try:
            return connection.ask(ask)
        except NotEnoughMessagesException:
            raise _Nothing from None
        except ResourceNotFoundException as err:
            raise Missing(str(err)) from err
        except StreamManagerException as err:
            raise Unavailable(f"Stream Manager answered {type(err).__name__}: {err}") from err
        except _LOST as err:
            raise self._lost(connection, err) from err

    def _lost(self, connection: Connection, err: BaseException) -> Unavailable:
        connection.end()
        return Unavailable(f"Stream Manager at {self._address()} does not answer: {err!r}")

    def _connected(self) -> Connection:
        with self._lock:
            if self._connection is not None and self.connected:
                return self._connection
            if self._closed:
                raise Unavailable("hung up")
            if self._steady() < self._next_attempt:
                raise Unavailable(self._last_error)
            try:
                self._connection = self._connect()
            except (StreamManagerException, *_LOST) as err:
                reason = str(err) or type(err).__name__
                self._last_error = f"cannot connect to Stream Manager at {self._address()}: {reason}"
                self._next_attempt = self._steady() + self._wait
                self._wait = min(2 * self._wait, SLOWEST_RETRY_SECONDS)
                raise Unavailable(self._last_error) from err
            self._wait = 0.5
            self.connections += 1
            return self._connection

    def _connect(self) -> Connection:
        client = StreamManagerClient.__new__(StreamManagerClient)
        self._opening = connection = Connection(client)
        connection.open(
            host=self._settings.host,
            port=self._settings.port or DEFAULT_PORT,
            connect_timeout=self._connect_seconds,
            request_timeout=self._connect_seconds,  # of the handshake
            logger=_SILENT,
        )
        client.request_timeout = self._request_seconds
        if self._closed:
            connection.end()
        return connection

    def _address(self) -> str:
        return f"{self._settings.host}:{self._settings.port or DEFAULT_PORT}"


def serialized(url: str, bucket: str, key: str, metadata: Mapping[str, str]) -> bytes:
    """Build the message that asks for one upload. Raises `Refused` for what Stream Manager forbids."""
    task = S3ExportTaskDefinition(input_url=url, bucket=bucket, key=key, user_metadata=dict(metadata))
    try:
        return bytes(Util.validate_and_serialize_to_json_bytes(task))
    except ValidationException as err:
        raise Refused(str(err)) from err


class _Nothing(Exception):  # noqa: N818 - not an error
    """No messages came in time."""


_SILENT = logging.getLogger("tidegate.sdk")
_SILENT.setLevel(logging.CRITICAL + 1)  # what goes wrong is told once, by whoever waits for the answer
