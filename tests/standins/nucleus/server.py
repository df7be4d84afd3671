"""The protocol side of the nucleus stand-in: connections, frames and streams, for the unmodified SDK."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from typing import TYPE_CHECKING, Any

from tests.standins.nucleus.connection import PREFIX, Connection, Subscription, Subscriptions
from tests.standins.nucleus.frames import (
    CONNECT,
    PING,
    TERMINATE_STREAM,
    BrokenFrameError,
    Frame,
    read_frame,
)
from tests.standins.nucleus.limits import (
    DEEPEST,
    LARGEST_FRAME_CLASSIC,
    LARGEST_REQUEST,
    MOST_OBJECTS,
    depth,
    objects,
)
from tests.standins.nucleus.operations import Call, Operations
from tests.standins.nucleus.switches import IpcError

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from pathlib import Path

    from tests.standins.nucleus.switches import Switches

PROTOCOL = "0.1.0"


class Server:
    """Answers requests. Everything in here runs in one event loop."""

    def __init__(
        self,
        switches: Switches,
        operations: Operations,
        subscriptions: Subscriptions,
        authenticate: Callable[[str], str | None],
    ) -> None:
        self.requests: Counter[str] = Counter()
        self.connections: set[Connection] = set()
        self._switches = switches
        self._operations = operations
        self._subscriptions = subscriptions
        self._authenticate = authenticate
        self._serving: set[asyncio.Task[None]] = set()
        self._delayed: set[asyncio.Task[None]] = set()

    async def start(self, path: Path) -> None:
        """Listen at a path, in place of who listened there before."""
        self._server = await asyncio.start_unix_server(self._serve, path)  # takes the place of a socket

    async def stop(self) -> None:
        """Stop listening and drop every client."""
        self._server.close()
        await asyncio.sleep(0)  # a connection that was just accepted gets as far as being known
        for task in tuple(self._delayed):
            task.cancel()
        for connection in tuple(self.connections):
            connection.drop()
        if self._serving:
            await asyncio.wait(self._serving)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = Connection(writer, self._switches)
        task = asyncio.current_task()
        self._serving.add(task)
        self.connections.add(connection)
        try:
            if await self._greet(connection, reader):
                await self._converse(connection, reader)
        except (asyncio.IncompleteReadError, ConnectionError, BrokenFrameError):
            pass  # the client is gone, or not to be talked to
        finally:
            self._serving.discard(task)
            self.connections.discard(connection)
            self._subscriptions.close(connection)
            connection.drop()

    async def _greet(self, connection: Connection, reader: asyncio.StreamReader) -> bool:
        """Do the connect exchange; return whether the client may stay."""
        frame = await self._read(reader)
        if self._switches.silent_connect:
            await reader.read()
            return False
        if (frame.type, frame.flags, frame.stream) != (CONNECT, 0, 0) or frame.text(":version") != PROTOCOL:
            return False
        token = parse(frame.payload).get("authToken")
        component = None if self._switches.refuse else self._authenticate(str(token))
        connection.component = component or ""
        connection.greet(welcome=component is not None)
        await connection.drain()
        if component is None and not self._switches.lite:
            await reader.read()  # whoever is told leaves by itself; closing first would overtake the answer
        return component is not None

    async def _converse(self, connection: Connection, reader: asyncio.StreamReader) -> None:
        while True:
            frame = await self._read(reader)
            if frame.type == PING and not self._switches.lite:
                connection.pong()
            elif frame.stream == 0:
                raise BrokenFrameError("neither a request nor the end of one")
            elif frame.flags & TERMINATE_STREAM:
                self._subscriptions.close(connection, frame.stream)
                if not self._switches.lite:
                    connection.end(frame.stream)
            else:
                self._receive(connection, frame)
            await connection.drain()

    async def _read(self, reader: asyncio.StreamReader) -> Frame:
        return await read_frame(reader, LARGEST_REQUEST if self._switches.guarded else LARGEST_FRAME_CLASSIC)

    def _receive(self, connection: Connection, frame: Frame) -> None:
        operation = frame.text("operation").removeprefix(PREFIX)
        self.requests[operation] += 1
        if self._switches.silent_on & {operation, "*"}:
            return
        if delay := self._switches.delays.get(operation, 0.0):
            self._spawn(self._answer_later(connection, operation, frame, delay))
        else:
            self._answer(connection, operation, frame)

    def _answer(self, connection: Connection, operation: str, frame: Frame) -> None:
        answer: dict[str, Any] | Subscription | IpcError
        try:
            answer = self._carry_out(connection, operation, frame)
        except IpcError as error:
            answer = error
        if self._switches.drop_on == operation:
            self._switches.drop_on = ""
            connection.drop()
        elif isinstance(answer, IpcError):
            connection.fail(frame.stream, answer)
        elif isinstance(answer, Subscription):
            connection.respond(frame.stream, operation, {}, last=False)
            self._subscriptions.add(answer)
        else:
            connection.respond(frame.stream, operation, answer, last=True)

    def _carry_out(
        self, connection: Connection, operation: str, frame: Frame
    ) -> dict[str, Any] | Subscription:
        if operation in self._switches.errors:
            raise self._switches.errors[operation]
        try:
            body = parse(frame.payload)
        except BrokenFrameError as error:
            raise IpcError from error
        if self._switches.guarded and (objects(body) > MOST_OBJECTS or depth(body) > DEEPEST):
            raise IpcError
        try:
            return self._operations.carry_out(Call(operation, body, connection, frame.stream))
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise IpcError(message=f"Received invalid parameters: {error!r}") from error

    async def _answer_later(self, connection: Connection, operation: str, frame: Frame, delay: float) -> None:
        await asyncio.sleep(delay)
        if connection in self.connections:
            self._answer(connection, operation, frame)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._delayed.add(task)
        task.add_done_callback(self._delayed.discard)


def parse(payload: bytes) -> dict[str, Any]:
    """Read the JSON object that every message is."""
    try:
        body = json.loads(payload)
    except ValueError as error:
        raise BrokenFrameError("not JSON") from error
    if not isinstance(body, dict):
        raise BrokenFrameError("not a JSON object")
    return body
