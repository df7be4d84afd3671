"""The wire protocol of the Stream Manager stand-in: one asyncio server for the unmodified SDK.

Requests of one connection are executed in the order they came. A read may wait for messages, and every
reply may be delayed, without holding up the requests behind it.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tests.standins.stream import Refusal, executors_of
from tests.standins.wire import (
    APPEND,
    CONNECT_REPLY,
    CONNECT_VERSION,
    CREATE,
    DELETE,
    DESCRIBE,
    LIST,
    NAMES,
    NOT_ENOUGH_MESSAGES,
    PROTOCOL,
    READ,
    REPLIES,
    UNAUTHORIZED,
    UNKNOWN_OPERATION,
    UNKNOWN_OPERATION_ERROR,
    UPDATE,
    describe,
    describe_error,
    frame,
    read_frame,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from tests.standins.exporter import Exporter
    from tests.standins.store import Store
    from tests.standins.stream import Stream
    from tests.standins.switches import Switches

FRAGMENT_SECONDS = 0.02


@dataclass(slots=True)
class Counters:
    """What has been asked so far, whatever came of it."""

    connections: int = 0
    requests: int = 0
    appends: int = 0
    reads: int = 0


@dataclass(slots=True, eq=False)
class Connection:
    """One client. The lock keeps fragmented replies apart."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)


class Server:
    """Answers requests. Everything in here runs in one event loop."""

    def __init__(self, switches: Switches, store: Store, exporter: Exporter) -> None:
        self.counters = Counters()
        self._switches = switches
        self._store = store
        self._exporter = exporter
        self._connections: set[Connection] = set()
        self._serving: set[asyncio.Task[None]] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._handlers: dict[int, Callable[[dict[str, Any]], dict[str, Any]]] = {
            CREATE: self._create,
            DELETE: self._delete,
            APPEND: self._append,
            LIST: self._list,
            DESCRIBE: self._describe,
            UPDATE: self._update,
        }

    async def start(self, port: int) -> int:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", port)
        return self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Stop listening and drop every client."""
        self._server.close()
        await asyncio.sleep(0)  # a connection that was just accepted gets as far as being known
        for task in tuple(self._tasks):
            task.cancel()
        self.drop_connections()
        if self._serving:
            await asyncio.wait(self._serving)

    def drop_connections(self, *, reset: bool = False) -> None:
        """End every connection; replies that were not yet sent are lost.

        The client sees the end of the stream, as when the kernel cleans up after kill -9, or a reset.
        """
        for connection in tuple(self._connections):
            if reset and not connection.writer.transport.is_closing():  # else it has no socket any more
                endpoint = connection.writer.get_extra_info("socket")
                endpoint.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            connection.writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = Connection(reader, writer)
        task = asyncio.current_task()
        self._serving.add(task)
        self._connections.add(connection)
        self.counters.connections += 1
        try:
            if await self._greet(connection):
                await self._converse(connection)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # the client is gone, or does not speak this protocol
        finally:
            self._serving.discard(task)
            self._connections.discard(connection)
            writer.transport.abort()

    async def _greet(self, connection: Connection) -> bool:
        """Do the connect exchange; return whether the client may stay."""
        if await connection.reader.readexactly(1) != CONNECT_VERSION:
            return False
        _, request = await read_frame(connection.reader)
        if self._switches.silent:
            return True
        token = self._switches.token
        welcome = token is None or request.get("authToken") == token
        reply = {
            "requestId": request["requestId"],
            "status": 0 if welcome else UNAUTHORIZED,
            "protocolVersion": PROTOCOL,
            "supportedProtocolVersions": [PROTOCOL, "1.0.0"],
            "serverVersion": "stand-in",
            "clientIdentifier": str(uuid.uuid4()),
        }
        connection.writer.write(CONNECT_VERSION + frame(CONNECT_REPLY, reply))
        await connection.writer.drain()
        return welcome

    async def _converse(self, connection: Connection) -> None:
        while True:
            operation, request = await read_frame(connection.reader)
            if self._switches.silent:
                continue
            self.counters.requests += 1
            if operation == READ:
                self.counters.reads += 1
                self._spawn(self._answer_read(connection, request))
            else:
                self._send(connection, operation, self._execute(operation, request))
            await connection.writer.drain()

    def _execute(self, operation: int, request: dict[str, Any]) -> dict[str, Any]:
        """Carry out a request that need not wait, and return its reply."""
        reply = {"requestId": request["requestId"], "status": 0}
        handler = self._handlers.get(operation)
        if handler is None:
            return reply | {"status": UNKNOWN_OPERATION, "errorMessage": f"unknown operation {operation}"}
        try:
            reply |= handler(request)
        except Exception as error:  # noqa: BLE001 - whatever goes wrong, the client gets an answer
            reply |= describe_error(error)
        return reply

    def _append(self, request: dict[str, Any]) -> dict[str, Any]:
        self.counters.appends += 1
        stream = self._store.find(request["name"])
        sequence = stream.append(
            request["payload"],
            full_status=self._switches.full_status,
            free_exported=self._switches.free_exported,
        )
        return {"sequenceNumber": sequence}

    def _create(self, request: dict[str, Any]) -> dict[str, Any]:
        self._exporter.attend(self._store.create(request["definition"]))
        return {}

    def _update(self, request: dict[str, Any]) -> dict[str, Any]:
        definition = self._store.check_update(request["definition"])
        stream = self._store.find(definition["name"])
        self._exporter.abandon(stream, stream.executors.keys() - executors_of(definition).keys())
        stream.define(definition)
        self._exporter.attend(stream)
        return {}

    def _delete(self, request: dict[str, Any]) -> dict[str, Any]:
        self.delete_stream(request["name"])
        return {}

    def delete_stream(self, name: str) -> None:
        """End the exports of a stream and forget it."""
        stream = self._store.find(name)
        self._exporter.abandon(stream, set(stream.executors))
        self._store.delete(name)

    def _list(self, _: dict[str, Any]) -> dict[str, Any]:
        return {"streams": list(self._store.streams)}

    def _describe(self, request: dict[str, Any]) -> dict[str, Any]:
        return {"messageStreamInfo": describe(self._store.find(request["name"]))}

    async def _answer_read(self, connection: Connection, request: dict[str, Any]) -> None:
        """Wait for enough messages, or for as long as the client said, and answer."""
        reply = {"requestId": request["requestId"], "status": 0}
        options = request.get("readMessagesOptions") or {}
        try:
            stream = self._store.find(request["streamName"])
            reply["messages"] = await read_messages(stream, options)
        except Refusal as refusal:
            reply |= describe_error(refusal)
        self._send(connection, READ, reply)

    def _send(self, connection: Connection, operation: int, reply: dict[str, Any]) -> None:
        """Answer at once in one write, unless a switch wants it otherwise."""
        name, switches = NAMES.get(operation, ""), self._switches
        if switches.silent:
            return
        if self._is_to_drop(name):
            self.drop_connections()
            return
        delay = switches.append_delay if operation == APPEND else 0.0
        late, seconds = switches.late_reply
        if late and switches.late_on in ("", name):
            switches.late_reply = (late - 1, seconds)
            delay += seconds
        data = frame(REPLIES.get(operation, UNKNOWN_OPERATION_ERROR), reply)
        if delay or switches.fragment_header or connection.lock.locked():
            self._spawn(self._send_slowly(connection, data, delay))
        else:
            connection.writer.write(data)

    def _is_to_drop(self, name: str) -> bool:
        switches = self._switches
        if switches.drop_after is None or switches.drop_on not in ("", name):
            return False
        switches.drop_after -= 1
        if switches.drop_after > 0:
            return False
        switches.drop_after = None
        return True

    async def _send_slowly(self, connection: Connection, data: bytes, delay: float) -> None:
        await asyncio.sleep(delay)
        async with connection.lock:
            if self._switches.fragment_header:
                connection.writer.write(data[:2])
                await asyncio.sleep(FRAGMENT_SECONDS)
                data = data[2:]
            connection.writer.write(data)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


async def read_messages(stream: Stream, options: dict[str, Any]) -> list[dict[str, Any]]:
    """Wait until there are as many messages as asked for; refuse when the time is up."""
    start = options.get("desiredStartSequenceNumber", 0)
    minimum = options.get("minMessageCount", 1)
    maximum = max(options.get("maxMessageCount", 1), minimum)
    with contextlib.suppress(asyncio.TimeoutError):
        await asyncio.wait_for(
            wait_for_messages(stream, start, minimum), options.get("readTimeoutMillis", 0) / 1000
        )
    if stream.deleted:
        raise Refusal(5, f"the stream {stream.name} was deleted")
    found = stream.read(start, maximum)
    if len(found) < minimum:
        raise Refusal(NOT_ENOUGH_MESSAGES, f"{len(found)} of {minimum} messages are there")
    return [
        {"streamName": stream.name, "sequenceNumber": sequence, "ingestTime": when, "payload": payload}
        for sequence, when, payload in found
    ]


async def wait_for_messages(stream: Stream, start: int, minimum: int) -> None:
    while not stream.deleted and stream.newest - max(start, stream.oldest) + 1 < minimum:
        await stream.changed()
