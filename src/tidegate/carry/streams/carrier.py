"""Promises kept by Stream Manager: each becomes a task in one of the source's streams.

A lane is such a stream. The number of a task in its stream is the receipt. What became of the task
comes through one status stream for all, or is found by `audit` when a message was lost.

Streams are never deleted at start: they hold work. A stream is given up only when it is missing, or when
its first task fails for ever in silence and holds up all others, or when it is full of tasks that are done
with; then a new one with the next generation number takes its place, so that a (stream, number) pair never
means two tasks.
"""

from __future__ import annotations

import logging
import re
from contextlib import suppress
from typing import TYPE_CHECKING

from tidegate.carry import News
from tidegate.carry.streams import statuses
from tidegate.carry.streams.client import CONNECT_SECONDS, REQUEST_SECONDS, Client, Full, Missing, serialized
from tidegate.carry.streams.full import FullStreams
from tidegate.carry.streams.stall import Stalls
from tidegate.errors import Refused, Unavailable
from tidegate.model import State

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from tidegate.carry import Answer
    from tidegate.carry.streams.client import Description
    from tidegate.config import StreamManager
    from tidegate.ledger import Ledger
    from tidegate.model import Outcome, Transfer

COMPONENT = "io.tidegate.S3Agent"
READ_LIMIT = 1000
POLL_SECONDS = 1.0

log = logging.getLogger(__name__)

_PLAIN_PATH = re.compile(r"[A-Za-z0-9/._,@=+-]+")


class Streams:
    """Hands uploads to Stream Manager, which keeps them across restarts."""

    name = "streams"
    depth = 128

    def __init__(
        self,
        settings: StreamManager,
        ledger: Ledger,
        *,
        links: Path,
        steady: Callable[[], float],
        wall: Callable[[], float],
        poll_seconds: float = POLL_SECONDS,
        request_seconds: float = REQUEST_SECONDS,
        connect_seconds: float = CONNECT_SECONDS,
    ) -> None:
        """`links` is a folder of ours for links to files whose names cannot stand in a URL."""
        self._settings = settings
        self._ledger = ledger
        self._links = links
        self._wall = wall
        self._poll_seconds = poll_seconds
        seconds = {"request_seconds": request_seconds, "connect_seconds": connect_seconds}
        self._writer = Client(settings, steady, **seconds)
        self._reader = Client(settings, steady, **seconds)
        self._stalls = Stalls(steady)
        self._full = FullStreams(steady)
        self._ready: dict[str, list[str]] = {}
        self._connections = 0
        self._status = f"{COMPONENT}.status"
        self._sweep_links()

    def wake(self) -> None:
        """See Carrier. It is Stream Manager that lets us wait, so we hang up."""
        self._reader.close()

    def close(self) -> None:
        """Hang up. What was handed over stays handed over."""
        self._writer.close()
        self._reader.close()

    def lanes(self, source: str) -> Sequence[str]:
        """See Carrier. Streams that are missing are created; that takes back what waited in them."""
        if not self._writer.connected or self._connections != self._writer.connections:
            self._ready.clear()  # a new connection may lead to a Stream Manager that has lost everything
        lanes = self._ready.get(source)
        if lanes is None:
            lanes = self._ready[source] = self._prepare(source)
            self._connections = self._writer.connections
        willing = [lane for lane in lanes if self._full.may_be_tried(lane)]
        if not willing:
            reason = self._full.troubles().get(lanes[0], "")
            raise Unavailable(f"no stream of {source} takes messages: {reason}")
        return willing

    def start(self, tasks: Sequence[tuple[Transfer, str]]) -> Sequence[Answer]:
        """See Carrier."""
        payloads = [self._payload(transfer) for transfer, _ in tasks]
        messages = [
            (lane, payload)
            for (_, lane), payload in zip(tasks, payloads, strict=True)
            if isinstance(payload, bytes)
        ]
        numbers = iter(self._writer.append(messages))
        answers = [payload if isinstance(payload, Refused) else next(numbers) for payload in payloads]
        for (transfer, lane), answer in zip(tasks, answers, strict=True):
            if isinstance(answer, Missing):
                self._ready.pop(transfer.source, None)
            elif isinstance(answer, Full):
                self._full.refused(transfer.source, lane, str(answer))
            elif isinstance(answer, int):
                self._full.accepted(lane)
        return answers

    def _payload(self, transfer: Transfer) -> bytes | Refused:
        metadata = {**transfer.metadata, statuses.ID_METADATA: transfer.id.hex()}
        try:
            payload = serialized(self._url(transfer), transfer.target.bucket, transfer.target.key, metadata)
        except Refused as err:
            return err
        if len(payload) > self._settings.stream_max_bytes:
            return Refused(f"its task takes {len(payload)} bytes, more than StreamMaxBytes")
        return payload

    def news(self, position: int) -> News:
        """See Carrier."""
        try:
            messages = self._reader.read(
                self._status, position, limit=READ_LIMIT, wait_seconds=self._poll_seconds
            )
        except Missing:
            self._ready.clear()
            raise
        outcomes, garbled = [], 0
        for number, payload in messages:
            try:
                found = statuses.outcome(payload)
            except ValueError as err:
                garbled += 1
                log.warning("status message %d passed over: %s", number, err)
            else:
                if found is not None:
                    outcomes.append(found)
        return News(outcomes, messages[-1][0] + 1 if messages else None, garbled)

    def audit(self) -> Iterator[Sequence[Outcome]]:
        """See Carrier. Compares what the ledger believes to be queued with what Stream Manager has."""
        status = self._describe(self._status)
        if status is None:
            return
        self._check_position(status)
        position = self._ledger.position(self.name)
        busy = {*self._ledger.busy_lanes(), *self._full.lanes()}
        for source, lane in sorted(busy):
            # First the ledger: what is appended while we ask is then merely unknown here, not missing there.
            waiting = self._ledger.waiting_in(lane)
            description = self._describe(lane)
            if description is None:
                self._ledger.abandon_lane(lane, "its stream was lost", now=self._wall())
                self._full.forget(lane)
                continue
            report = self._stalls.examine(lane, description, waiting, read_up=position > status.newest)
            yield report.outcomes
            if report.give_up:
                log.warning("%s: stream %s is stuck and is replaced: %s", source, lane, description.error)
                self._replace(source, lane, "its stream was stuck")
            elif not waiting and self._full.is_spent(lane, description):
                log.warning("%s: stream %s is full of finished tasks and is replaced", source, lane)
                self._replace(source, lane, "its stream was full")
        self._stalls.keep({lane for _, lane in busy})

    def away(self, source: str) -> str:  # noqa: ARG002 - what was handed over got through
        """See Carrier."""
        return ""

    def troubles(self) -> dict[str, str]:
        """What Stream Manager says about each stream that does not get on."""
        return self._full.troubles() | self._stalls.troubles()

    def finished(self, transfer: Transfer) -> None:
        """See Carrier."""
        if not _PLAIN_PATH.fullmatch(transfer.body.path):
            self._link(transfer).unlink(missing_ok=True)

    def _prepare(self, source: str) -> list[str]:
        existing = set(self._writer.streams())
        if self._status not in existing:
            self._ledger.rewind(self.name)
            self._create(lambda: self._writer.create_status_stream(self._status))
        elif (status := self._describe(self._status)) is not None:
            self._check_position(status)  # before anything is sent whose news might be passed over
        generations = self._ledger.lanes(source)
        return [
            self._prepare_lane(source, slot, generations.get(slot), existing)
            for slot in range(1, self._settings.streams + 1)
        ]

    def _prepare_lane(self, source: str, slot: int, generation: int | None, existing: set[str]) -> str:
        stem = f"{COMPONENT}.{source}.{slot}."
        found = [int(name[len(stem) :]) for name in existing if re.fullmatch(re.escape(stem) + r"\d+", name)]
        if generation is None:  # a new ledger: go on with what an earlier one left, if anything
            generation = max(found, default=0)
            self._ledger.use_lane(source, slot, generation)
        for older in sorted(found):
            if older < generation and not self._ledger.waiting_in(f"{stem}{older}"):
                log.warning("%s: stream %s%d is left over, nobody waits for it: deleted", source, stem, older)
                self._writer.delete(f"{stem}{older}")
        lane = f"{stem}{generation}"
        return lane if lane in existing else self._next_generation(source, slot, lane)

    def _next_generation(self, source: str, slot: int, lane: str) -> str:
        stem, _, generation = lane.rpartition(".")
        taken_back = self._ledger.abandon_lane(lane, "its stream was lost", now=self._wall())
        if taken_back:
            log.warning("%s: stream %s is gone; %d files are sent again", source, lane, taken_back)
        self._ledger.use_lane(source, slot, int(generation) + 1)
        following = f"{stem}.{int(generation) + 1}"
        self._create(lambda: self._writer.create_task_stream(following, self._status))
        return following

    def _replace(self, source: str, lane: str, why: str) -> None:
        """Send all that waits in the lane again, by another one, and delete the stream."""
        self._ready.pop(source, None)  # lanes() finds the stream missing, and makes the next generation
        self._ledger.abandon_lane(lane, why, now=self._wall())
        self._writer.delete(lane)
        self._ready.pop(source, None)  # somebody may have asked for lanes in between
        self._full.forget(lane)

    def _check_position(self, status: Description) -> None:
        """See whether the status stream has lost what was read: it numbers anew, and so must we."""
        if self._ledger.position(self.name) > status.newest + 1:
            log.warning("the status stream was started anew: reading it from its beginning")
            self._ledger.rewind(self.name)

    def _create(self, create: Callable[[], None]) -> None:
        try:
            create()
        except Unavailable as err:
            if "already exists" not in str(err):
                raise

    def _describe(self, stream: str) -> Description | None:
        try:
            return self._writer.describe(stream)
        except Missing:
            self._ready.clear()
            return None

    def _url(self, transfer: Transfer) -> str:
        """How to name the file to Stream Manager.

        Whether it decodes percent signs is not documented, and bytes that are not UTF-8 cannot be written
        at all, so a file whose path is not plain is named by a link that we keep for it.
        """
        path = transfer.body.path
        if _PLAIN_PATH.fullmatch(path):
            return f"file:{path}"
        link = self._link(transfer)
        try:
            link.parent.mkdir(parents=True, exist_ok=True)
            with suppress(FileExistsError):
                link.symlink_to(path)
        except OSError as err:  # a full disk: only delivery frees it, so the name itself must do if it can
            if not path.isprintable():
                raise Refused(f"its name needs a link, which cannot be made: {err.strerror}") from err
            return f"file:{path}"
        return f"file:{link}"

    def _sweep_links(self) -> None:
        """Remove the links of promises that need none any more: their process died before it could."""
        links = list(self._links.iterdir()) if self._links.is_dir() else []
        states = self._ledger.known([bytes.fromhex(link.name) for link in links])
        for link in links:
            if states.get(bytes.fromhex(link.name)) not in (State.READY, State.SENT):
                link.unlink(missing_ok=True)

    def _link(self, transfer: Transfer) -> Path:
        return self._links / transfer.id.hex()
