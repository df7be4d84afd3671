"""What a door that opens on messages stands on: one way to publish and to subscribe."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

    from tidegate.errors import TidegateError
    from tidegate.ipc import Nucleus


class Line(Protocol):
    """A way to send and to hear messages. All of it raises `Unavailable` or `Refused`, and ends in time."""

    @property
    def name(self) -> str:
        """What to call it in the log."""

    def subscribe(
        self, topics: str, heard: Callable[[str, bytes], None], ended: Callable[[], None]
    ) -> Callable[[], None]:
        """Hear messages on these topics; returns what ends that. Both are called in a thread not ours."""

    def pulse(self, topic: str, payload: bytes) -> None:
        """Publish what is of use only now."""

    def publish(self, topic: str, payload: bytes) -> None:
        """Publish, and return when whoever carries it has it."""

    def send(self, topic: str, payload: bytes, failed: Callable[[TidegateError], None]) -> None:
        """Publish without waiting. `failed` may be told later, in any thread."""


class Local:
    """Messages between the components of one device."""

    name = "local messages"

    def __init__(self, nucleus: Nucleus) -> None:
        self.subscribe = nucleus.subscribe_local
        self.pulse = self.publish = nucleus.publish_local
        self.send = nucleus.send_local


class Cloud:
    """Messages through AWS IoT Core."""

    name = "IoT Core"

    def __init__(self, nucleus: Nucleus) -> None:
        self.subscribe = nucleus.subscribe_cloud
        self.publish = nucleus.publish_cloud
        self.send = nucleus.send_cloud
        self.pulse = functools.partial(nucleus.publish_cloud, once=True)
