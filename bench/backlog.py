"""What one file costs the Direct carrier while many wait: it should not matter how many.

The promises are put straight into the ledger; only the files that are due first, which are the oldest, exist. The agent
watches an empty folder, so no scan is in the figures: that has rows of its own with the Streams carrier.
"""

from __future__ import annotations

import itertools
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from chart import Line, draw
from common import ROOT, cpu_seconds, peak_mb, wait
from peers import BUCKET, Job, configuration, environment

sys.path[:0] = [str(ROOT / "src")]

from tidegate import workdir  # noqa: E402
from tidegate.ledger import Ledger  # noqa: E402
from tidegate.model import Candidate, Fingerprint, ObjectRef, Transfer  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

COUNTS = (1000, 10_000, 100_000, 1_000_000)
MEASURED = 5000
"""The files that are measured, and as many more exist as the agent may take up meanwhile."""


@dataclass(frozen=True)
class Sample:
    """Seconds of wall time and processor time from the start to the first object; then what each file took."""

    first: float
    first_cpu: float
    wall_ms: float
    cpu_ms: float
    peak_mb: float


def measure(
    scratch: Path, serve: Callable[[], AbstractContextManager[str]], *, quick: bool
) -> tuple[str, str, bool]:
    """Return the table, the picture, and whether the cost is flat: at most 1.3 times from end to end."""
    runs = 1 if quick else 3
    lines = [
        (
            f"**A file while many wait.** Files of 1 byte; medians of {runs}. CPU and time for each of the first"
            f" {MEASURED:,} that are stored, and what it takes from the start of the agent to the first."
        ),
        "",
        "| waiting | CPU ms a file | wall ms a file | first after s | CPU s until then | peak RSS MB |",
        "|---|---|---|---|---|---|",
    ]
    costs: dict[int, float] = {}
    for count in COUNTS[:2] if quick else COUNTS:
        print(f"measuring with {count:,} files waiting …", file=sys.stderr)
        samples = list(_samples(scratch / "backlog", serve, count, runs=runs))
        middle = {
            name: statistics.median(getattr(sample, name) for sample in samples)
            for name in Sample.__dataclass_fields__
        }
        costs[count] = middle["cpu_ms"]
        lines.append(
            f"| {count:,} | {middle['cpu_ms']:.2f} | {middle['wall_ms']:.2f} | {middle['first']:.2f}"
            f" | {middle['first_cpu']:.2f} | {middle['peak_mb']:.0f} |"
        )
    least, most = min(costs), max(costs)
    ratio = costs[most] / costs[least]
    lines += [
        "",
        (
            f"With {most:,} waiting a file costs {ratio:.2f} times what it costs with {least:,}"
            f" (goal: flat, at most 1.3: {'yes' if ratio <= 1.3 else 'NO'})."
        ),
        "",
        "![CPU for each file stored, by how many wait](cost.svg)",
    ]
    picture = draw(
        "CPU for each file stored, by how many wait",
        across="files waiting",
        up="ms of CPU a file",
        lines=[Line("tidegate, Direct", list(costs.items()))],
    )
    return "\n".join(lines), picture, ratio <= 1.3


def _samples(
    here: Path, serve: Callable[[], AbstractContextManager[str]], count: int, *, runs: int
) -> Iterator[Sample]:
    """Write the ledger once, and let an agent begin with a copy of it each time."""
    (here / "empty").mkdir(parents=True)
    (here / "data").mkdir()
    _promise(here / "ledger.db", _waiting(here / "data", count))
    for _ in range(runs):
        with serve() as url:
            yield _sample(here, url, min(count, MEASURED))
    shutil.rmtree(here)


def _waiting(folder: Path, count: int) -> Iterator[Transfer]:
    """Promises for files, the oldest first; only the first of them are there."""
    real = min(count, 2 * MEASURED)
    for number in range(count):
        path = folder / f"file-{number:07d}.bin"
        if number < real:
            path.write_bytes(b"x")
            os.utime(path, (number, number))
            mark = Fingerprint.of(path.stat())
        else:
            mark = Fingerprint(1, number, 1, number * 10**9, number)
        body = Candidate(str(path), mark)
        yield Transfer(
            id=body.identity("default"),
            source="default",
            carrier="direct",
            body=body,
            target=ObjectRef(BUCKET, f"backlog/{path.name}"),
        )


def _promise(path: Path, transfers: Iterator[Transfer]) -> None:
    ledger = Ledger(path, jitter=lambda: 0.5)
    while batch := list(itertools.islice(transfers, 10_000)):
        ledger.offer([(transfer, "") for transfer in batch], now=time.time())
    ledger.close()


def _sample(here: Path, url: str, files: int) -> Sample:
    """Run an agent until so many files are stored, and look at it when a tenth of them are, and at the end."""
    job = Job(here / "empty", "backlog", url, here / "tool")
    job.scratch.mkdir()
    variables = environment(job)
    work = Path(variables["TIDEGATE_WORK_DIR"])
    work.mkdir()
    shutil.copy(here / "ledger.db", workdir.ledger_path(work))
    (job.scratch / "config.yaml").write_text(f"{configuration(job)}\nInterval: 86400\n", "utf-8")
    command = [sys.executable, "-m", "tidegate", "run", "--config", str(job.scratch / "config.yaml")]
    os.sync()
    with open(job.scratch / "log", "wb") as log:
        began = time.perf_counter()
        agent = subprocess.Popen(command, env=variables, stdout=log, stderr=log)
    try:

        def reach(stored: int) -> tuple[float, float, int]:
            wait(lambda: agent.poll() is not None or _stored(url) >= stored, 120, every=0.005)
            assert agent.poll() is None, (job.scratch / "log").read_text()[-3000:]
            return time.perf_counter() - began, cpu_seconds(agent.pid), _stored(url)

        first, early, late = reach(1), reach(files // 10), reach(files)
        peak = peak_mb(agent.pid)
    finally:
        agent.terminate()
        agent.wait()
    shutil.rmtree(job.scratch)
    each = 1000 / (late[2] - early[2])
    return Sample(first[0], first[1], (late[0] - early[0]) * each, (late[1] - early[1]) * each, peak)


def _stored(url: str) -> int:
    with urllib.request.urlopen(f"{url}/-/counters", timeout=30) as answer:
        puts: int = json.load(answer)["puts"]
    return puts
