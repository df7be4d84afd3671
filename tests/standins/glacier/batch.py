"""S3 Batch Operations: jobs that ask for many restores, and the states they go through.

New > Preparing > Ready > Active > Completing > Complete
      Preparing > Suspended > Ready         if a job is to be confirmed
                          Active > Pausing > Paused > Active   while a more urgent job has its place
any of these > Cancelling > Cancelled       on request
Preparing or Active > Failing > Failed
"""

from __future__ import annotations

import itertools
import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tests.standins.glacier.clock import DAY
from tests.standins.glacier.errors import Refusal
from tests.standins.glacier.manifests import ARN, BadManifestError, Task, generated, tasks_of, write_generated
from tests.standins.glacier.reports import BY_SCHEMA, Report

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.standins.glacier.clock import Clock
    from tests.standins.glacier.restoring import Restorer
    from tests.standins.glacier.s3 import S3

RUNNING = ("New", "Preparing", "Suspended", "Ready", "Active", "Pausing", "Paused")
ENDING = ("Completing", "Cancelling", "Failing")
ENDED = ("Complete", "Cancelled", "Failed")
STATES = (*RUNNING, *ENDING, *ENDED)
LEAST_TASKS = 1000  # before a job may fail because of its tasks
KEPT_SECONDS = 90 * DAY
SUSPENDED_SECONDS = 30 * DAY
TIERS = {"BULK": "Bulk", "STANDARD": "Standard"}


@dataclass(slots=True)
class Pace:
    """How fast jobs go, in seconds of the stand-in's clock, and in which order reports have their columns."""

    new: float = 2.0
    prepare: float = 10.0
    ready: float = 5.0
    tasks_per_second: int = 1000  # of one job
    end: float = 2.0  # Completing, Cancelling, Failing and Pausing each
    most_active: int = 100  # jobs at a time; a more urgent one takes the place of another
    report_order: str = BY_SCHEMA


@dataclass(slots=True, eq=False)
class Job:
    """A job. `request` is what CreateJob said."""

    identifier: str
    number: int
    request: dict[str, Any]
    created: float
    priority: int
    report: Report
    status: str = "New"
    reason: str = ""
    failures: list[tuple[str, str]] = field(default_factory=list)
    total: int = 0
    succeeded: int = 0
    failed: int = 0
    active_seconds: float = 0.0
    suspended: float | None = None
    terminated: float | None = None
    generated: dict[str, Any] | None = None  # where the list of a generator was written
    tasks: Iterator[Task] = field(default_factory=lambda: iter(()))
    turn: int = 0  # what was planned for an earlier turn is void

    @property
    def end_of_failing(self) -> bool:
        return self.succeeded + self.failed >= LEAST_TASKS and self.failed > self.succeeded


class Batch:
    """All jobs. Their progress hangs on the clock."""

    def __init__(self, s3: S3, clock: Clock, restorer: Restorer) -> None:
        self.pace = Pace()
        self.jobs: dict[str, Job] = {}
        self._s3 = s3
        self._clock = clock
        self._restorer = restorer
        self._numbers = itertools.count()
        self._tokens: dict[str, Job] = {}

    def create(self, request: dict[str, Any]) -> Job:
        """Make a job; the same token with the same request is the same job."""
        token = request["ClientRequestToken"]
        known = self._tokens.get(token)
        if known is not None:
            if known.request != request:
                raise Refusal(400, "IdempotencyException", "The token was used for another job")
            return known
        report = Report(request["Report"], self.pace.report_order)
        job = Job(
            str(uuid.uuid4()),
            next(self._numbers),
            request,
            self._clock.now,
            int(request["Priority"]),
            report,
        )
        self.jobs[job.identifier] = self._tokens[token] = job
        self._then(job, self.pace.new, self._prepare)
        return job

    def find(self, identifier: str) -> Job:
        job = self.jobs.get(identifier)
        if job is None or (job.terminated is not None and self._clock.now > job.terminated + KEPT_SECONDS):
            raise Refusal(404, "NotFoundException", "The job was not found")
        return job

    def update(self, identifier: str, status: str, reason: str) -> Job:
        """Confirm or cancel a job."""
        job = self.find(identifier)
        if status == "Ready" and job.status == "Suspended":
            self._become_ready(job)
        elif status == "Cancelled" and job.status in RUNNING:
            self._turn(job, "Cancelling")
            self._then(job, self.pace.end, lambda it: self._end(it, "Cancelled"))
        else:
            raise Refusal(400, "JobStatusException", f"A job that is {job.status} cannot become {status}")
        job.reason = reason
        return job

    def prioritize(self, identifier: str, priority: int) -> Job:
        job = self.find(identifier)
        if job.status in ENDED:
            raise Refusal(400, "BadRequestException", f"The job is {job.status}")
        job.priority = priority
        self._share()
        return job

    def force(self, identifier: str, status: str, *, known: bool) -> None:
        """Put a job into any state and leave it there, whatever it was about to do."""
        if known and status not in STATES:
            raise ValueError(f"no state is called {status}")
        self._turn(self.jobs[identifier], status)

    def forget(self, identifier: str) -> None:
        """Let a job vanish, as after 90 days."""
        self.jobs[identifier].turn += 1
        del self.jobs[identifier]

    def _turn(self, job: Job, status: str) -> None:
        job.status = status
        job.turn += 1
        if status in ENDED:
            job.terminated = self._clock.now

    def _then(self, job: Job, seconds: float, step: Any) -> None:
        turn = job.turn

        def go_on() -> None:
            if job.turn == turn:
                step(job)

        self._clock.at(self._clock.now + seconds, go_on)

    def _prepare(self, job: Job) -> None:
        self._turn(job, "Preparing")
        try:
            job.total = sum(1 for _ in self._tasks(job))
            job.tasks = self._tasks(job)
            self._write_list(job)
        except BadManifestError as problem:
            self._fail(job, problem.code, str(problem))
            return
        self._then(job, self.pace.prepare, self._prepared)

    def _prepared(self, job: Job) -> None:
        if job.request.get("ConfirmationRequired") == "true":
            self._turn(job, "Suspended")
            job.suspended = self._clock.now
            self._then(
                job, SUSPENDED_SECONDS, lambda it: self._fail(it, "JobNotConfirmed", "It was not confirmed")
            )
        else:
            self._become_ready(job)

    def _tasks(self, job: Job) -> Iterator[Task]:
        if "Manifest" in job.request:
            return tasks_of(self._s3, job.request["Manifest"])
        generator = job.request["ManifestGenerator"]["S3JobManifestGenerator"]
        try:
            bucket = self._s3.bucket(generator["SourceBucket"].removeprefix(ARN))
        except Refusal as refusal:
            raise BadManifestError("SourceBucketNotFound", str(refusal)) from refusal
        return generated(bucket, generator.get("Filter") or {})

    def _write_list(self, job: Job) -> None:
        if "ManifestGenerator" not in job.request:
            return
        generator = job.request["ManifestGenerator"]["S3JobManifestGenerator"]
        if generator["EnableManifestOutput"] != "true":
            return
        stored = write_generated(self._s3, generator, job.identifier, self._tasks(job))
        output = generator["ManifestOutputLocation"]
        job.generated = {
            "Format": output["ManifestFormat"],
            "Location": {"ObjectArn": f"{output['Bucket']}/{stored.key}", "ETag": stored.etag},
        }

    def _become_ready(self, job: Job) -> None:
        self._turn(job, "Ready")
        self._then(job, self.pace.ready, lambda _: self._share())

    def _share(self) -> None:
        """Let the most urgent jobs be active, and no more than may be."""
        waiting = [it for it in self.jobs.values() if it.status in ("Ready", "Paused")]
        active = [it for it in self.jobs.values() if it.status in ("Active", "Pausing")]
        waiting.sort(key=lambda it: (-it.priority, it.number))
        for job in waiting:
            if len(active) < self.pace.most_active:
                self._turn(job, "Active")
                self._then(job, 1.0, self._work)
                active.append(job)
                continue
            least = min(
                (it for it in active if it.status == "Active"), key=lambda it: it.priority, default=None
            )
            if least is None or least.priority >= job.priority:
                return
            self._turn(least, "Pausing")
            self._then(least, self.pace.end, self._pause)

    def _pause(self, job: Job) -> None:
        self._turn(job, "Paused")
        self._share()

    def _work(self, job: Job) -> None:
        """Do the tasks of one second."""
        job.active_seconds += 1
        done = 0
        try:
            for task in itertools.islice(job.tasks, self.pace.tasks_per_second):
                done += 1
                self._do(job, task)
                if job.end_of_failing:
                    self._fail(job, "FailureThresholdExceeded", "More than half of the tasks have failed")
                    return
        except BadManifestError as problem:  # it was changed while the job went on
            self._fail(job, problem.code, str(problem))
            return
        if done == self.pace.tasks_per_second:
            self._then(job, 1.0, self._work)
            return
        self._turn(job, "Completing")
        self._then(job, self.pace.end, lambda it: self._end(it, "Complete"))

    def _do(self, job: Job, task: Task) -> None:
        operation = job.request["Operation"]["S3InitiateRestoreObject"]
        days = operation.get("ExpirationInDays")
        tier = TIERS[operation.get("GlacierJobTier", "STANDARD")]
        try:
            bucket = self._s3.bucket(task.bucket)
            stored = bucket.find(task.key, task.version or None)
            status = self._restorer.ask(
                bucket, stored, tier, None if days is None else int(days), by_batch=True
            )
        except Refusal as refusal:
            job.failed += 1
            job.report.add(task, refusal.status, refusal.code, str(refusal))
        else:
            job.succeeded += 1
            job.report.add(task, status, "", "Successful")

    def _fail(self, job: Job, code: str, reason: str) -> None:
        job.failures.append((code, reason))
        self._turn(job, "Failing")
        self._then(job, self.pace.end, lambda it: self._end(it, "Failed"))

    def _end(self, job: Job, status: str) -> None:
        """Write the report, if there was anything done, and let others go on."""
        if job.succeeded + job.failed:
            job.report.write(self._s3, job.identifier, self._clock.now)
        self._turn(job, status)
        self._share()
