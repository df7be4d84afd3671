"""One dependable connection to Stream Manager, made of the SDK's client.

The only module that imports stream_manager. It knows nothing about promises. What it makes good in
version 1.1.2 of the SDK, each seen with the unmodified package:

- after a reply that comes late, or in two pieces, the client stays "connected" and every later call
  times out: after any time-out it is thrown away and a new one is made;
- a constructor that fails leaves a thread and an event loop behind: it is closed all the same;
- a server that accepts and stays silent holds the constructor for the whole request time-out: the
  time-out is short, and attempts are spaced.
"""

from __future__ import annotations

import asyncio
import logging
import socket
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

from tidegate.errors import Refused, Unavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from tidegate.config import StreamManager

REQUEST_SECONDS = 10
"""Time-out of every call. Long polls must be shorter."""

CONNECT_SECONDS = 3
DEFAULT_PORT = 8088
SLOWEST_RETRY_SECONDS = 30.0
"""Attempts to connect are spaced by half a second, doubling to this."""

_LOST = (ConnectionError, TimeoutError, asyncio.TimeoutError, asyncio.IncompleteReadError, OSError, KeyError)
_T = TypeVar("_T")


class Missing(Unavailable):
    """The stream does not exist (any more)."""


@dataclass(frozen=True, slots=True)
class Description:
    """What Stream Manager says about one stream. Numbers are -1 where there is nothing yet."""

    oldest: int
    newest: int
    size: int
    capacity: int
    exported: int
    error: str


class Client:
    """Stream Manager, for one kind of work. Safe to use from several threads.

    Every method raises `Unavailable` when Stream Manager cannot be reached or does not answer in time;
    whatever was asked may then have happened or not. `steady` is a clock that never jumps, in seconds.
    """

    def __init__(self, settings: StreamManager, steady: Callable[[], float]) -> None:
        self._settings = settings
        self._steady = steady
        self._lock = threading.Lock()
        self._client: Any = None
        self._next_attempt = 0.0
        self._wait = 0.5
        self._last_error = ""
        self.connections = 0

    def append(self, stream: str, payload: bytes) -> int:
        """Append one message; return its number. Raises `Missing`, and `Unavailable` also when full."""
        return int(self._call(lambda client: client.append_message(stream, payload)))

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
            oldest=info.storage_status.oldest_sequence_number,
            newest=info.storage_status.newest_sequence_number,
            size=info.storage_status.total_bytes,
            capacity=info.definition.max_size,
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
        definition = MessageStreamDefinition(
            name=stream,
            max_size=self._settings.stream_max_bytes,
            strategy_on_full=on_full,
            persistence=Persistence[self._settings.persistence],
            export_definition=export,
        )
        if self._settings.persistence == "File":
            definition.flush_on_write = self._settings.flush_on_write
        self._call(lambda client: client.create_message_stream(definition))

    def close(self) -> None:
        """Hang up, without waiting for an answer."""
        with self._lock:
            self._drop()

    def _call(self, ask: Callable[[Any], _T]) -> _T:
        client = self._connected()
        try:
            return ask(client)
        except NotEnoughMessagesException:
            raise _Nothing from None
        except ResourceNotFoundException as err:
            raise Missing(str(err)) from err
        except ValidationException as err:
            raise Refused(str(err)) from err
        except StreamManagerException as err:
            raise Unavailable(f"Stream Manager answered {type(err).__name__}: {err}") from err
        except (*_LOST, AttributeError) as err:  # AttributeError: its answer to an operation it does not know
            with self._lock:
                if self._client is client:
                    self._drop()
            raise Unavailable(f"Stream Manager at {self._address()} does not answer: {err!r}") from err

    def _connected(self) -> Any:
        with self._lock:
            if self._client is None:
                if self._steady() < self._next_attempt:
                    raise Unavailable(self._last_error)
                try:
                    self._client = self._connect()
                except (StreamManagerException, *_LOST) as err:
                    self._last_error = (
                        f"cannot connect to Stream Manager at {self._address()}: {err or type(err).__name__}"
                    )
                    self._next_attempt = self._steady() + self._wait
                    self._wait = min(2 * self._wait, SLOWEST_RETRY_SECONDS)
                    raise Unavailable(self._last_error) from err
                self._wait = 0.5
                self.connections += 1
            return self._client

    def _connect(self) -> Any:
        address = (self._settings.host, self._settings.port or DEFAULT_PORT)
        socket.create_connection(address, timeout=CONNECT_SECONDS).close()  # is anybody there at all?
        client = StreamManagerClient.__new__(StreamManagerClient)
        try:
            client.__init__(
                host=self._settings.host,
                port=address[1],
                connect_timeout=CONNECT_SECONDS,
                request_timeout=REQUEST_SECONDS,
                logger=_SILENT,
            )
        except BaseException:
            _hang_up(client)
            raise
        return client

    def _drop(self) -> None:
        if self._client is not None:
            _hang_up(self._client)
            self._client = None

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


def _hang_up(client: Any) -> None:
    """Close a client whose connection may be dead, so that nobody has to wait for it."""
    threading.Thread(target=_close_quietly, args=(client,), daemon=True, name="hang-up").start()


def _close_quietly(client: Any) -> None:
    with suppress(Exception):
        client.close()
