"""What is spoken with IoT Core beside requests and events: jobs and heartbeats, where configured."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tidegate.doors.heartbeat import Heartbeat
from tidegate.doors.jobs import JobsDoor

if TYPE_CHECKING:
    from collections.abc import Callable

    from tidegate.config import Config
    from tidegate.doors.desk import Desk
    from tidegate.doors.line import Line
    from tidegate.routes.board import Picture


class Core:
    """Opens and closes them as the configuration says."""

    def __init__(
        self, line: Line, desk: Desk, look: Callable[[], Picture | None], steady: Callable[[], float]
    ) -> None:
        self._line = line
        self._desk = desk
        self._look = look
        self._steady = steady
        self._jobs: tuple[str, JobsDoor] | None = None
        self._heartbeat: tuple[tuple[object, ...], Heartbeat] | None = None

    def open(self, config: Config, thing: str, seconds: float) -> None:
        """Have open what is configured; what stays as it is notices nothing. Takes up to so many seconds."""
        jobs = thing if config.iot_jobs else None
        if jobs != (self._jobs and self._jobs[0]):
            self._close_jobs(seconds)
            if jobs:
                door = JobsDoor(self._line, thing, self._desk, steady=self._steady)
                door.start()
                self._jobs = thing, door
        base = config.cloud_topics and config.cloud_topics.replace("{thing}", thing)
        topic = f"{base}/events/heartbeat" if base else None
        shadow = f"$aws/things/{thing}/shadow/name/{config.shadow}/update" if config.shadow else None
        beat = (topic, shadow, config.heartbeat_seconds) if config.heartbeat_seconds else None
        if beat != (self._heartbeat and self._heartbeat[0]):
            self._close_heartbeat(seconds)
            if beat and config.heartbeat_seconds:
                one = Heartbeat(
                    self._line, self._look, topic=topic, shadow=shadow, seconds=config.heartbeat_seconds
                )
                one.start()
                self._heartbeat = beat, one

    def wake(self) -> None:
        """Try again soon what was refused."""
        if self._jobs:
            self._jobs[1].wake()

    def close(self, seconds: float) -> None:
        """Close all of it, within so many seconds each."""
        self._close_jobs(seconds)
        self._close_heartbeat(seconds)

    def _close_jobs(self, seconds: float) -> None:
        if self._jobs:
            self._jobs[1].stop()
            self._jobs[1].join(seconds)
        self._jobs = None

    def _close_heartbeat(self, seconds: float) -> None:
        if self._heartbeat:
            self._heartbeat[1].stop()
            self._heartbeat[1].join(seconds)
        self._heartbeat = None
