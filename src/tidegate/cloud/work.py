"""What the Lambdas do: take orders, and bring jobs on, each a few steps at a time.

A job is brought on by whoever has its lease: its file is fetched, steps are done, the file is stored under
another name, and the row is made to name that. Only then are new events published, and noted; one that is
published and not noted because of a crash comes again, with the same `eventId`.
"""

from __future__ import annotations

import contextlib
import io
import json
import logging
import tempfile
import uuid
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tidegate.cloud.table import KEPT_SECONDS, add_event_bridge
from tidegate.errors import ConfigFaults, Refused, TidegateError, Unavailable
from tidegate.restore.connect import connect
from tidegate.restore.jobs import Jobs, check
from tidegate.restore.nouns import Phase, Spec, Status
from tidegate.restore.render import state
from tidegate.restore.selection import ObjectStream, manifest
from tidegate.restore.sinks import Topic
from tidegate.store.body import Body
from tidegate.store.checksum import best
from tidegate.store.errors import S3Error

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from tidegate.clock import Clock
    from tidegate.cloud.request import Order
    from tidegate.cloud.table import Row, Table

SOON = 20_000
"""Up to so many objects are planned while the caller waits; API Gateway waits 29 seconds."""

LEASE_SECONDS = 960
"""Longer than a Lambda can run."""

MANIFEST_BYTES = 2**28
HINT_SECONDS = 300
HOPELESS_SECONDS = 6 * 86_400
"""A job has five days; one that cannot be run has ended after a sixth."""

_AGAIN_SECONDS = 60
_PIECE = 8 * 2**20
_SHOWN = 5
_NOT_THERE = 404

log = logging.getLogger(__name__)


class Conflict(TidegateError):  # noqa: N818 - it is an answer
    """What has this token is another order."""


class NoSuchJob(TidegateError):  # noqa: N818 - it is an answer
    """There is no row of this job."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What the template says. `topic` and `queue` are ARNs; `notify`: have buckets tell EventBridge.

    `buckets` are those that may be read and restored, and no others.
    """

    topic: str
    queue: str
    reports: str
    role: str
    account: str
    buckets: frozenset[str]
    notify: bool


class Work:
    """All jobs of one app. Raises what AWS raises, beside what is said."""

    def __init__(
        self, settings: Settings, table: Table, environment: Mapping[str, str], clock: Clock
    ) -> None:
        self._settings = settings
        self._table = table
        self._environment = environment
        self._clock = clock
        self._ways = connect({}, environment, wall=clock.wall)

    def close(self) -> None:
        """Hang up."""
        self._ways.close()
        self._table.close()

    def create(self, order: Order) -> dict[str, Any]:
        """Take an order, and answer as soon as it is written down; small ones are begun, too.

        Raises `ConfigFaults` before anything is done, and `Conflict`.
        """
        mark = blake2b(order.token.encode(), digest_size=16).digest()
        name = str(uuid.UUID(bytes=mark) if order.token else uuid.uuid4())
        row = self._table.get(name)
        if row is None:
            self._add(order, name)
            row = self._table.get(name)
        if row is None or row["Order"] != order.as_json():
            raise Conflict("clientToken: it was that of another order; write a new one")
        return {
            "SNSTopic": self._settings.topic,
            "SQSQueue": self._settings.queue,
            "ReportBucket": self._settings.reports,
            "BulkJobId": name,
            "TotalFilesRequested": row["Total"],
            "BatchOperation": {"JobId": row["BatchJobId"]},
        }

    def cancel(self, name: str) -> Row:
        """Have a job end, now if nobody works at it, and return its row. Raises `NoSuchJob`."""
        if self._table.wish(name, self._now()):
            self.advance(name)
        return self.show(name)

    def show(self, name: str) -> Row:
        """Return the row of a job. Raises `NoSuchJob`."""
        row = self._table.get(name)
        if row is None:
            raise NoSuchJob(f"there is no job {name[:80]} (any more)")
        return row

    def page(self, after: str | None) -> tuple[list[Row], str | None]:
        """Return some rows, and where the next ones begin; None after the last."""
        return self._table.page(after)

    def tick(self, has_time: Callable[[], bool]) -> int:
        """Bring on all jobs that are due, as long as there is time. Returns how many were."""
        done = 0
        for row in self._table.due(self._now()):
            if not has_time():
                break
            done += self.advance(row["JobId"])
        return done

    def hint(self, buckets: set[str]) -> None:
        """Something was restored in these buckets: have a look at their jobs soon, if there are any."""
        now = self._now()
        for row in self._table.due(2**53):
            if buckets & set(row["Buckets"]):
                self._table.hint(row["JobId"], now, now - HINT_SECONDS)

    def advance(self, name: str) -> bool:
        """Bring one job on. Tells whether it was ours to do that. Whatever goes wrong is logged."""
        now = self._now()
        row = self._table.lease(name, now, now + LEASE_SECONDS)
        if row is None:
            return False
        with self._sparing(row), tempfile.TemporaryDirectory() as folder:
            restore = Path(folder) / "restore"
            restore.mkdir()
            self._fetch(row["Journal"], restore / f"{name}.job")
            if row["Listed"]:
                self._fetch(row["Listed"], restore / f"{name}.keys")
            self._bring_on(row, Path(folder))
        return True

    @contextlib.contextmanager
    def _sparing(self, row: Row) -> Iterator[None]:
        """Let what goes wrong with one job harm nobody else, and have it tried again."""
        try:
            yield
        except Exception:
            log.exception("the job %s cannot be brought on, and is tried again", row["JobId"])
            if self._now() > row["Created"] + HOPELESS_SECONDS:
                self._give_up(row)
            else:
                self._table.commit(row, {"Lease": 0, "Due": self._now() + _AGAIN_SECONDS})

    def _give_up(self, row: Row) -> None:
        """End a job that nobody could run for longer than it had time. Its end is told all the same."""
        told = json.loads(row["State"] or "{}")
        detail = {"eventId": f"{row['JobId']}-lost", "reason": "it could not be run; the log says why"}
        event = {
            "JobId": row["JobId"],
            "BatchJobId": row["BatchJobId"],
            "Status": Status.TIMEOUT.value,
            "ProgressPercent": str(told.get("percent", 0)),
            "FailedBatchFiles": str(told.get("counts", {}).get("failed", 0)),
            "detail": detail,
        }
        _, is_stuck = self._publish([(row["Told"] + 1, event)], row["Told"])
        changes: Row = {"Lease": 0, "Due": self._now() + _AGAIN_SECONDS}
        if not is_stuck:
            changes |= {"Status": Status.TIMEOUT.value, "Expires": self._now() + KEPT_SECONDS}
        self._table.commit(row, changes, ends=not is_stuck)

    def _add(self, order: Order, name: str) -> None:
        """Write a job down, and begin with it if it is small."""
        spec = self._spec(order, name)
        check(spec)
        self._check_buckets("bucket: the manifest is", {order.bucket})
        with tempfile.TemporaryDirectory() as folder:
            jobs = self._jobs(Path(folder))
            buckets: set[str] = set()
            count = 0

            def rows() -> Iterator[tuple[str, str, str]]:
                nonlocal count
                for found in manifest(self._stream(order)):
                    buckets.add(found[0])
                    count += 1
                    yield found

            twice = jobs.create(spec, rows())
            count -= twice
            if not count:
                raise ConfigFaults(["key: the manifest names no object"])
            self._check_buckets("key: the manifest names objects", buckets)
            if self._settings.notify:
                for bucket in sorted(buckets):
                    add_event_bridge(bucket)
            now = self._now()
            row: Row = {
                "JobId": name,
                "Order": order.as_json(),
                "Created": now,
                "Buckets": sorted(buckets)[:100],
                "Total": count,
                "Journal": self._keep(name, Path(folder) / "restore" / f"{name}.job"),
                "Listed": self._keep(name, Path(folder) / "restore" / f"{name}.keys"),
                "Status": Status.RESTORING.value,
                "Active": "yes",
                "Due": now,
                **dict.fromkeys(("BatchJobId", "State", "Wish"), ""),
                **dict.fromkeys(("Told", "Hint", "Hinted"), 0),
                "Lease": now + LEASE_SECONDS if count <= SOON else 0,
            }
            if self._table.add(row) and row["Lease"]:
                with self._sparing(row):
                    self._bring_on(row, Path(folder))

    def _check_buckets(self, what: str, buckets: set[str]) -> None:
        """Refuse what S3 would not let us have. Raises `ConfigFaults`."""
        foreign = sorted(buckets - self._settings.buckets)
        if foreign:
            ours = ", ".join(sorted(self._settings.buckets))
            where = ", ".join(foreign[:_SHOWN])
            raise ConfigFaults(
                [f"{what} in {where}, which this app may not read; its parameter Buckets names {ours}"]
            )

    def _stream(self, order: Order) -> Any:
        """Open the manifest. Raises `ConfigFaults` if that cannot be."""
        try:
            stream = ObjectStream(self._ways.archive, order.bucket, order.key)
        except S3Error as error:
            what = f"s3://{order.bucket}/{order.key}"
            if error.status == _NOT_THERE:  # the answer to a HEAD has no body that would say more
                fault = f"key: {what} cannot be read: there is no such object, or no such bucket"
            else:
                fault = f"key: {what} cannot be read: {error}"
            raise ConfigFaults([fault]) from error
        if stream.size > MANIFEST_BYTES:
            raise ConfigFaults([f"key: the manifest has {stream.size} bytes; {MANIFEST_BYTES} are the most"])
        return io.BufferedReader(stream, 2**20)

    def _bring_on(self, row: Row, folder: Path) -> None:
        """Do what is due for a job whose file is in the folder, and whose lease is ours."""
        name, jobs = row["JobId"], self._jobs(folder)
        if row["Wish"]:
            jobs.cancel(name)
        with jobs.running(name) as run, jobs.journal(name, read_only=False) as journal:
            if row["Hint"] > row["Hinted"] and journal.phase() is Phase.WAITING:
                journal.note({"look": self._clock.wall()})
            while (wait := run.step()) == 0:
                pass
            said, phase = state(journal), journal.phase()
            events = journal.events(row["Told"])
        is_over = wait is None
        changes = {
            "Journal": self._keep(name, folder / "restore" / f"{name}.job"),
            "Listed": row["Listed"] if phase in (Phase.READING, Phase.PLANNING) else "",
            "Status": said["status"],
            "BatchJobId": ",".join(it["id"] for it in said["batchJobs"] if it["id"]),
            "State": json.dumps(said),
            "Due": self._now() + int(wait or 0),
        }
        new = self._table.commit(row, changes)
        if new is None:
            log.warning("somebody else has taken over the job %s", name)
            return
        told, is_stuck = self._publish(events, row["Told"])
        last: Row = {"Told": told, "Lease": 0, "Hinted": row["Hint"]}
        if is_stuck:
            last["Due"] = self._now() + _AGAIN_SECONDS
        elif new["Wish"] != row["Wish"]:  # it came while we were at it
            last["Due"] = self._now()
        if is_over and not is_stuck:
            last["Expires"] = self._now() + KEPT_SECONDS
        self._table.commit(row, last, ends=is_over and not is_stuck)

    def _publish(self, events: list[tuple[int, dict[str, Any]]], told: int) -> tuple[int, bool]:
        """Publish events in their order. Returns the number of the last one, and whether some are left."""
        topic = Topic(self._ways.messages, self._settings.topic)
        for number, event in events:
            try:
                topic.send(event)
            except (Refused, Unavailable) as error:
                log.warning("an event could not be published, and is kept: %s", error)
                return told, True
            told = number
        return told, False

    # The files of jobs

    def _keep(self, name: str, path: Path) -> str:
        """Store a file under a new name, which is returned."""
        key = f"jobs/{name}/{uuid.uuid4().hex}{path.suffix}"
        with path.open("rb") as file:
            body = Body(file.fileno(), path.stat().st_size)
            self._ways.s3.put(self._settings.reports, key, body, algorithm=best())
        return key

    def _fetch(self, key: str, path: Path) -> None:
        bucket = self._settings.reports
        stored = self._ways.archive.stored(bucket, key)
        size = stored.size or 0
        with path.open("wb") as file:
            for start in range(0, size, _PIECE):
                end = min(size, start + _PIECE)
                file.write(self._ways.archive.piece(bucket, key, "", stored.etag, start, end))

    # Parts

    def _spec(self, order: Order, name: str) -> Spec:
        return Spec(
            id=name,
            tier=order.tier.capitalize(),
            days=order.days,
            created=self._clock.wall(),
            listed=True,
            engine="batch",
            tag=order.tag,
            settings={"account": self._settings.account},
            batch={
                "role": self._settings.role,
                "report": f"s3://{self._settings.reports}/batch",
                "tags": {"client_tag": order.tag} if order.tag else {},
            },
        )

    def _jobs(self, folder: Path) -> Jobs:
        return Jobs(folder, environment=self._environment, clock=self._clock)

    def _now(self) -> int:
        return int(self._clock.wall())
