"""One client of the nucleus stand-in: what is sent to it, in the shapes of the two kinds of nucleus."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tests.standins.nucleus.frames import (
    APPLICATION,
    APPLICATION_ERROR,
    CONNECT_ACK,
    CONNECTION_ACCEPTED,
    PONG,
    TERMINATE_STREAM,
    Frame,
    message,
)
from tests.standins.nucleus.limits import LARGEST_FRAME_OUT, dump
from tests.standins.nucleus.switches import IpcError

if TYPE_CHECKING:
    import asyncio

    from tests.standins.nucleus.switches import Switches

PREFIX = "aws.greengrass#"


class Connection:
    """A connected component. Everything is written at once, and whole."""

    def __init__(self, writer: asyncio.StreamWriter, switches: Switches) -> None:
        self.component = ""
        self._writer = writer
        self._switches = switches

    async def drain(self) -> None:
        await self._writer.drain()

    def greet(self, *, welcome: bool) -> None:
        """Answer the connect message. Lite tells nobody that it is not welcome."""
        if welcome or not self._switches.lite:
            self._send(message(CONNECT_ACK, CONNECTION_ACCEPTED if welcome else 0, 0))

    def pong(self) -> None:
        self._send(message(PONG, 0, 0))

    def respond(self, stream: int, operation: str, body: dict[str, Any], *, last: bool) -> None:
        """Send the response of an operation; `last` if no events follow. Too large for lite: an error."""
        flags = TERMINATE_STREAM if last and not self._switches.lite else 0
        model = f"{PREFIX}{operation}Response"
        if not self._send(message(APPLICATION, flags, stream, dump(body), service_model_type=model)):
            self.fail(stream, IpcError())

    def fail(self, stream: int, error: IpcError) -> None:
        body = {"_message": error.message, "_errorCode": error.code}
        if not self._switches.lite:
            body |= {"message": error.message, "_service": f"{PREFIX}GreengrassCoreIPC"}
        model = f"{PREFIX}{error.code}"
        self._send(message(APPLICATION_ERROR, TERMINATE_STREAM, stream, dump(body), service_model_type=model))

    def event(self, stream: int, model: str, body: dict[str, Any]) -> None:
        """Send an event of a subscription. Too large for lite: it is lost."""
        model = f"{PREFIX}{model}"
        self._send(message(APPLICATION, 0, stream, dump(body), service_model_type=model))

    def end(self, stream: int) -> None:
        """Close a stream from our side."""
        self._send(message(APPLICATION, TERMINATE_STREAM, stream))

    def drop(self) -> None:
        """Break the connection off; what was not sent yet is lost."""
        self._writer.transport.abort()

    def _send(self, frame: Frame) -> bool:
        """Write a frame, or return False because lite cannot."""
        data = frame.encode()
        if self._switches.guarded and len(data) > LARGEST_FRAME_OUT:
            return False
        if not self._writer.transport.is_closing():
            self._writer.write(data)
        return True


@dataclass(eq=False, frozen=True, slots=True)
class Subscription:
    """A stream that stays open for events. `subject` is a topic filter, or a component and a path below it."""

    operation: str
    connection: Connection
    stream: int
    subject: str | tuple[str, ...] = ""
    others_only: bool = False

    @property
    def component(self) -> str:
        return self.connection.component

    def send(self, model: str, body: dict[str, Any]) -> None:
        self.connection.event(self.stream, model, body)


class Subscriptions:
    """All open streams, in the order in which they were opened."""

    def __init__(self) -> None:
        self._all: list[Subscription] = []

    def add(self, subscription: Subscription) -> None:
        self._all.append(subscription)

    def all(self) -> list[Subscription]:
        return list(self._all)

    def of(self, operation: str, component: str | None = None) -> list[Subscription]:
        return [one for one in self._all if one.operation == operation and component in (None, one.component)]

    def remove(self, subscription: Subscription) -> None:
        """Forget a subscription: no more events, and nobody is told."""
        if subscription in self._all:
            self._all.remove(subscription)

    def close(self, connection: Connection, stream: int | None = None) -> None:
        """Forget one stream of a connection, or all."""
        self._all = [
            one for one in self._all if one.connection is not connection or stream not in (None, one.stream)
        ]
