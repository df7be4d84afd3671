"""A stand-in for Glacier, a work directory, and jobs that run in the stand-in's time."""

from __future__ import annotations

import time
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from tests.standins.glacier import ACCOUNT, GlacierStandIn
from tidegate.model import Moment
from tidegate.restore.jobs import Jobs
from tidegate.restore.nouns import Counts, Spec

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from tidegate.restore.run import Run


ODD = (
    "a,b.bin",
    'q"uote.bin',
    "sp ace.bin",
    "pl+us.bin",
    "per%20cent.bin",
    "é.bin",
    "new\nline.bin",
    "x\x0by\x85z.bin",
)


class VirtualClock:
    """The wall clock of the stand-in, and the steady one of this machine: threads wait in real time."""

    def __init__(self, glacier: GlacierStandIn) -> None:
        self._glacier = glacier

    def now(self) -> Moment:
        return Moment(self.wall(), self.steady(), float("inf"))

    def wall(self) -> float:
        return self._glacier.clock.now

    def steady(self) -> float:
        return time.monotonic()


class Rig:
    def __init__(self, glacier: GlacierStandIn, folder: Path) -> None:
        self.glacier = glacier
        self.folder = folder
        self.environment = {"AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing"}
        self.jobs = Jobs(folder, environment=self.environment, clock=VirtualClock(glacier))
        self.waited = 0.0
        self._s3: Any = None

    def order(
        self, name: str = "job", rows: Iterable[tuple[str, str, str]] | None = None, **fields: Any
    ) -> int:
        spec = Spec(
            id=name,
            tier="Standard",
            days=3,
            created=self.glacier.clock.now,
            bucket="" if rows is not None else "bucket",
            listed=rows is not None,
            rate=5000.0,
            settings={
                "endpoint_url": self.glacier.endpoint,
                "control_url": self.glacier.endpoint,
                "account": ACCOUNT,
                "proxy": "direct",
            },
        )
        return self.jobs.create(replace(spec, **fields), rows)

    @property
    def s3(self) -> Any:
        """An unmodified boto3."""
        if self._s3 is None:
            self._s3 = self.glacier.client("s3")
        return self._s3

    def run(self, name: str = "job", *, until: str = "", most: int = 2000) -> str:
        """Run a job to its end, or into a phase; while it waits, the stand-in's time goes on."""
        with self.jobs.running(name, slice_seconds=0.3) as run:
            for _ in range(most):
                with self.jobs.journal(name) as journal:
                    if until and journal.phase().value == until:
                        return until
                wait = self.step(run)
                if wait is None:
                    break
        return self.status(name)

    def step(self, run: Run) -> float | None:
        wait = run.step()
        if wait:
            self.glacier.clock.advance(wait)
            self.waited += wait
        return wait

    def status(self, name: str = "job") -> str:
        with self.jobs.journal(name) as journal:
            return str(journal.notes().get("status", ""))

    def notes(self, name: str = "job") -> dict[str, Any]:
        with self.jobs.journal(name) as journal:
            return journal.notes()

    def counts(self, name: str = "job") -> Counts:
        with self.jobs.journal(name) as journal:
            return journal.counts()

    def events(self, name: str = "job") -> list[dict[str, Any]]:
        with self.jobs.journal(name) as journal:
            return [event for _, event in journal.events()]

    def failures(self, name: str = "job") -> list[dict[str, str]]:
        with self.jobs.journal(name) as journal:
            return journal.failures()


@contextmanager
def rigged(folder: Path, **fields: Any) -> Iterator[Rig]:
    with GlacierStandIn(**fields) as glacier:
        glacier.faults.restore_rate = None
        rig = Rig(glacier, folder)
        yield rig
        if rig._s3 is not None:
            rig._s3.close()
