"""What the Streams carrier costs: speed, processor time and memory, against the stand-in's no-op exporter.

    python bench/streams.py [--quick] [--only NAME …]     prints a table, and with --write puts it into bench/RESULTS.md

Everything measured is the real agent as its own process (or, where said, one of its parts), the unmodified
Stream Manager SDK, and the stand-in as another process on the same machine. Processor time is the
agent's own, as the kernel counts it; the stand-in's is not in it, though it shares the processors.
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

from common import ROOT, cpu_seconds, machine, pause, peak_mb, wait, write_section

sys.path[:0] = [str(ROOT / "src"), str(ROOT)]

from tests.standins.streammanager import StreamManagerStandIn  # noqa: E402
from tidegate.carry.streams import Streams  # noqa: E402
from tidegate.clock import Clock  # noqa: E402
from tidegate.config import parse  # noqa: E402
from tidegate.flows.collect import collect  # noqa: E402
from tidegate.flows.scan import Scanner  # noqa: E402
from tidegate.ledger import Ledger  # noqa: E402
from tidegate.model import Candidate, Fingerprint, ObjectRef, Transfer  # noqa: E402
from tidegate.view import snapshot  # noqa: E402


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    what: str
    measured: str
    goal: str
    met: bool


def many_small_files(folder: Path, *, count: int = 10_000, runs: int = 3) -> list[Row]:
    """Files of 4 KiB, from the start of the agent to the deletion of the last, and the agent's own CPU."""
    rates, costs, peaks = [], [], []
    for run in range(runs):
        here = folder / f"small{run}"
        _fill(here / "data", count, 4096)
        with _stand_in(here) as port:
            config = _configuration(here, port, HoldBack="None", QuietSeconds=0)
            began = time.perf_counter()
            agent = _agent(here, config, "--once")
            _, status, usage = os.wait4(agent.pid, 0)
            seconds = time.perf_counter() - began
        assert os.waitstatus_to_exitcode(status) == 0, (here / "log").read_text()[-2000:]
        assert not os.listdir(here / "data")
        rates.append(count / seconds)
        costs.append((usage.ru_utime + usage.ru_stime) * 1000 / count)
        peaks.append(usage.ru_maxrss / 1024)
        shutil.rmtree(here)
    rate, cost = statistics.median(rates), statistics.median(costs)
    return [
        Row(
            f"{count:,} files of 4 KiB, start to last deletion",
            f"{rate:,.0f} files/s",
            "≥ 1,000 files/s",
            rate >= 1000,
        ),
        Row("the agent's own CPU for each of them", f"{cost:.2f} ms", "≤ 0.8 ms", cost <= 0.8),
        Row(
            "peak RSS meanwhile",
            f"{statistics.median(peaks):.0f} MB",
            "≤ 60 MB",
            statistics.median(peaks) <= 60,
        ),
    ]


def status_messages(folder: Path, *, count: int = 100_000) -> list[Row]:
    """Half of them start, half success; read, written down and committed by `collect`."""
    files = count // 2
    clock = Clock()
    here = folder / "statuses"
    here.mkdir()
    config = parse({"PathName": "/nowhere/*", "BucketName": "bench"})
    with StreamManagerStandIn(
        data_dir=here / "sm", s3_endpoint="http://127.0.0.1:1", noop_exporter=True
    ) as server:
        server.pause()
        settings = parse(
            {"PathName": "/x/*", "BucketName": "bench", "StreamManager": {"Port": server.port}}
        ).stream_manager
        ledger = Ledger(here / "ledger.db", jitter=lambda: 0.5)
        carrier = Streams(settings, ledger, links=here / "links", steady=clock.steady, wall=clock.wall)
        lanes = carrier.lanes("default")
        transfers = [_transfer(number) for number in range(files)]
        for start in range(0, files, 1000):
            ledger.offer([(transfer, "") for transfer in transfers[start : start + 1000]], now=clock.wall())
        while claimed := ledger.claim("default", "streams", limit=1000, now=clock.wall()):
            tasks = list(_spread(claimed, lanes))
            answers = carrier.start(tasks)
            ledger.sent(
                [(one.id, lane, receipt) for (one, lane), receipt in zip(tasks, answers, strict=True)]
            )
        server.resume()
        wait(lambda: len(server.exported) >= files, 120)
        began, cpu = time.perf_counter(), time.thread_time()
        while ledger.position(carrier.name) < count:
            collect(carrier, ledger, now=clock.wall())
        seconds = time.perf_counter() - began
        cpu = time.thread_time() - cpu
        carrier.close()
        stored = len(ledger.stored("default", retention_seconds=0, limit=files + 1, now=clock.wall()))
        ledger.close()
    assert stored == files, (stored, config)
    rate = count / seconds
    return [Row(f"{count:,} status messages read and settled", f"{rate:,.0f}/s", "≥ 5,000/s", rate >= 5000)]


def known_files(folder: Path, *, count: int = 100_000) -> list[Row]:
    """A scan of files that are all promised already, as in a folder that is kept."""
    here = folder / "known"
    _fill(here / "data", count, 0)
    clock = Clock()
    (source,) = parse(
        {"PathName": f"{here}/data/*.csv", "BucketName": "bench", "QuietSeconds": 0, "After": "Keep"}
    ).sources
    ledger = Ledger(here / "ledger.db", jitter=lambda: 0.5)
    scanner = Scanner(source, ledger, carrier="streams", thing="bench", never=frozenset())
    first = scanner.scan(clock.now())
    costs = [scanner.scan(clock.now()).cpu_seconds for _ in range(5)]
    ledger.close()
    shutil.rmtree(here)
    cost = statistics.median(costs)
    return [
        Row(f"a scan of {count:,} known unchanged files", f"{cost:.2f} s CPU", "≤ 0.6 s CPU", cost <= 0.6),
        Row(
            f"the first scan of {count:,} new files, all promised",
            f"{first.cpu_seconds:.2f} s CPU",
            "-",
            True,
        ),
    ]


def idle(folder: Path, *, count: int = 100_000, seconds: float = 180) -> list[Row]:
    """All files are held back (QuietSeconds is a day); the agent runs at Interval 60 and has nothing to do."""
    here = folder / "idle"
    _fill(here / "data", count, 0)
    with _stand_in(here) as port:
        agent = _agent(here, _configuration(here, port, QuietSeconds=86_400, Interval=60))
        wait(lambda: _found(here) == count, 60)
        before, began = cpu_seconds(agent.pid), time.perf_counter()
        pause(seconds)
        share = (cpu_seconds(agent.pid) - before) / (time.perf_counter() - began)
        agent.terminate()
        agent.wait()
    shutil.rmtree(here)
    return [
        Row(f"idle with {count:,} held files at Interval 60", f"{share:.2%} of a CPU", "< 1 %", share < 0.01)
    ]


def waiting(folder: Path, *, count: int, limit: int, goal: str = "") -> list[Row]:
    """Stream Manager is away, so every file waits in the ledger; then it comes, and the first goes."""
    here = folder / f"waiting{count}"
    _fill(here / "data", count, 0)
    with _stand_in(here) as port:
        pass  # only to find a free port
    agent = _agent(here, _configuration(here, port, HoldBack="None", QuietSeconds=0, After="Keep"))
    began = time.perf_counter()
    wait(lambda: _found(here) == count, 600)
    scanned = time.perf_counter() - began
    peak = peak_mb(agent.pid)
    agent.terminate()
    agent.wait()
    rows = [
        Row(
            f"peak RSS with {count:,} files waiting (scanned in {scanned:.0f} s)",
            f"{peak:.0f} MB",
            f"≤ {limit} MB",
            peak <= limit,
        )
    ]
    if goal:
        with _stand_in(here, port) as port:
            began = time.perf_counter()
            agent = _agent(here, here / "config.yaml")
            wait(lambda: " is stored as " in (here / "log").read_text(), 120)
            first = time.perf_counter() - began
            agent.terminate()
            agent.wait()
        rows.append(
            Row(f"first upload after start with {count:,} waiting", f"{first:.1f} s", goal, first <= 60)
        )
    shutil.rmtree(here)
    return rows


def measures(*, quick: bool) -> dict[str, Callable[[Path], list[Row]]]:
    """What can be measured, by name."""
    return {
        "small": lambda folder: many_small_files(folder, runs=1 if quick else 5),
        "statuses": status_messages,
        "known": known_files,
        "idle": lambda folder: idle(folder, seconds=61 if quick else 180),
        "waiting": lambda folder: waiting(folder, count=10_000, limit=60),
    } | (
        {}
        if quick
        else {"million": lambda folder: waiting(folder, count=1_000_000, limit=120, goal="≤ 60 s")}
    )


def main() -> None:
    """Measure, print, and write if asked."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="fewer runs, and not the million")
    parser.add_argument(
        "--only", nargs="+", metavar="NAME", help=f"some of {', '.join(measures(quick=False))}"
    )
    parser.add_argument("--write", action="store_true", help="put the table into bench/RESULTS.md")
    options = parser.parse_args()
    rows: list[Row] = []
    folder = Path(tempfile.mkdtemp(prefix="tidegate-bench-"))
    try:
        for name, measure in measures(quick=options.quick).items():
            if not options.only or name in options.only:
                print(f"measuring {name} …", file=sys.stderr)
                rows += measure(folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    table = _table(rows)
    print(table)
    if options.write:
        write_section("streams", table)
    sys.exit(0 if all(row.met for row in rows) else 1)


def _table(rows: list[Row]) -> str:
    lines = ["| what | measured | goal | met |", "|---|---|---|---|"]
    lines += [f"| {row.what} | {row.measured} | {row.goal} | {'yes' if row.met else 'NO'} |" for row in rows]
    lines += [
        "| the seed uploader, for comparison: files acknowledged (5 status messages an interval, 2 a file) | at most 2.5 files per interval | - | - |"
    ]
    today = time.strftime("%Y-%m-%d", time.gmtime())
    return "\n".join([f"Measured on {today} on {machine()}.", "", *lines])


def _fill(folder: Path, count: int, size: int) -> None:
    """Make files, each with bytes of its own."""
    folder.mkdir(parents=True)
    body = os.urandom(size)
    for number in range(count):
        with open(folder / f"log-{number:07d}.csv", "wb") as file:
            file.write(number.to_bytes(8, "big") + body[8:] if size else b"")


def _transfer(number: int) -> Transfer:
    body = Candidate(f"/nowhere/{number}", Fingerprint(1, number, 4096, number, number))
    return Transfer(
        id=body.identity("default"),
        source="default",
        carrier="streams",
        body=body,
        target=ObjectRef("bench", f"device/{number}.csv"),
    )


def _spread(transfers: list[Transfer], lanes: list[str]) -> Iterator[tuple[Transfer, str]]:
    for number, transfer in enumerate(transfers):
        yield transfer, lanes[number % len(lanes)]


@contextmanager
def _stand_in(folder: Path, port: int = 0) -> Iterator[int]:
    command = [
        sys.executable,
        "-m",
        "tests.standins.streammanager",
        "--noop",
        "--s3-endpoint",
        "http://127.0.0.1:1",
    ]
    process = subprocess.Popen(
        [*command, "--port", str(port), "--data-dir", str(folder / "sm")],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout
        yield int(process.stdout.readline().rpartition(":")[2])
    finally:
        process.terminate()
        process.wait()


def _configuration(folder: Path, port: int, **keys: object) -> Path:
    lines = [f"PathName: {folder}/data/*.csv", "BucketName: bench", f"StreamManager: {{Port: {port}}}"]
    path = folder / "config.yaml"
    path.write_text("\n".join([*lines, *(f"{key}: {value}" for key, value in keys.items())]), "utf-8")
    return path


def _agent(folder: Path, config: Path, *flags: str) -> subprocess.Popen[bytes]:
    command = [
        sys.executable,
        "-m",
        "tidegate",
        "run",
        "--config",
        str(config),
        "--work-dir",
        str(folder / "work"),
        *flags,
    ]
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src")}
    with open(folder / "log", "wb") as log:
        return subprocess.Popen(command, env=environment, stdout=log, stderr=subprocess.STDOUT)


def _found(folder: Path) -> int:
    seen = snapshot.read(folder / "work")
    return seen["sources"]["default"]["found"] if seen else 0


if __name__ == "__main__":
    resource.setrlimit(resource.RLIMIT_NOFILE, (1024, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    main()
