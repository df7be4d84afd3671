"""What the Direct carrier costs beside the tools that people would pick instead, against the same sink in the same run.

    python bench/direct.py [--quick] [--only NAME …] [--rounds 5] [--write]
    python bench/direct.py --only W1 --tools tidegate s5cmd          a closer look

Every tool runs as its own process, one after the other and in random order within each round, each time under a
prefix of its own. Ours is the whole agent with a new ledger: scan, ledger, fence, checksum, verify, delete or keep.
After each run the server is asked whether every object has arrived with every byte. The server takes its share of
the same processors, and is the same for all.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import backlog
from common import HERE, ROOT, machine, write_section
from judge import Cost, report
from peers import BUCKET, RCLONE_TUNED, TOOLS, Job, environment, install

if TYPE_CHECKING:
    from collections.abc import Iterator

MIB = 2**20


@dataclass(frozen=True)
class Workload:
    """Files and where they go. `server` is a module of the stand-ins and its arguments."""

    title: str
    count: int
    size: int
    delete: bool = False
    workers: int | None = None
    server: tuple[str, ...] = ("sink",)
    without: tuple[str, ...] = ()


SLOW = ("sink", "--latency", "0.08")
WORKLOADS = {
    "W1": Workload("10,000 files of 4 KiB", 10_000, 4096),
    "W2": Workload("1,000 files of 256 KiB", 1000, 256 * 1024),
    "W3": Workload("4 files of 256 MiB", 4, 256 * MIB),
    "W4": Workload("10,000 files of 4 KiB, deleted when they are stored", 10_000, 4096, delete=True),
    "W1-80ms": Workload(
        "2,000 files of 4 KiB, each answer 80 ms late, 64 requests at once for each tool",
        2000,
        4096,
        workers=64,
        server=SLOW,
        without=("rclone",),
    ),
    "W1-moto": Workload("500 files of 4 KiB, to moto", 500, 4096, server=("s3",)),
    "W2-moto": Workload("100 files of 256 KiB, to moto", 100, 256 * 1024, server=("s3",)),
    "W3-moto": Workload("1 file of 256 MiB, to moto", 1, 256 * MIB, server=("s3",)),
    "W4-moto": Workload("500 files of 4 KiB, deleted, to moto", 500, 4096, delete=True, server=("s3",)),
}


def main() -> None:
    """Measure, print, and write if asked."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    names = [*WORKLOADS, "backlog"]
    parser.add_argument("--quick", action="store_true", help="one round, and fewer files waiting")
    parser.add_argument(
        "--only", nargs="+", metavar="NAME", choices=names, default=names, help=", ".join(names)
    )
    parser.add_argument("--tools", nargs="+", choices=TOOLS, default=list(TOOLS))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--write", action="store_true", help="put the tables into bench/RESULTS.md")
    options = parser.parse_args()
    rounds = 1 if options.quick else options.rounds
    install()
    scratch = Path(tempfile.mkdtemp(prefix="tidegate-bench-"))
    sections = {"direct": _facts(options.tools)}
    met = True
    try:
        for name in options.only:
            if name == "backlog":
                text, picture, good = backlog.measure(scratch, lambda: _served("sink"), quick=options.quick)
                if options.write:
                    (HERE / "cost.svg").write_text(picture, "utf-8")
            else:
                workload = WORKLOADS[name]
                costs = compare(workload, options.tools, rounds, scratch)
                text, good = report(name, workload.title, costs)
            sections[name] = text
            met = met and good
            print(f"\n{text}", flush=True)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    if options.write:
        for name, text in sections.items():
            write_section(name, text)
    sys.exit(0 if met else 1)


def compare(workload: Workload, tools: list[str], rounds: int, scratch: Path) -> dict[str, list[Cost]]:
    """Run every tool once in each round."""
    costs: dict[str, list[Cost]] = {name: [] for name in tools if name not in workload.without}
    folder = scratch / "data"
    fill(folder, workload)
    with _served(*workload.server) as url:
        for name in costs:
            _run(name, _warm_up(scratch), url, scratch, "warm-up")
        for number in range(rounds):
            for name in random.sample(list(costs), len(costs)):
                if not folder.exists() or not any(folder.iterdir()):
                    fill(folder, workload)
                os.sync()  # what was written before is nobody's cost
                prefix = f"round{number}/{name.replace(' ', '-')}"
                costs[name].append(_run(name, workload, url, scratch, prefix))
                print(f"{workload.title}: round {number}: {name} {costs[name][-1]}", file=sys.stderr)
    shutil.rmtree(folder, ignore_errors=True)
    return costs


def fill(folder: Path, workload: Workload) -> None:
    """Write files with random bytes: none is like another, and none is sparse."""
    folder.mkdir(exist_ok=True)
    for number in range(workload.count):
        with open(folder / f"file-{number:06d}.bin", "wb") as file:
            left = workload.size
            while left:
                left -= file.write(os.urandom(min(left, MIB)))


def _warm_up(scratch: Path) -> Workload:
    """A few files, so that no tool pays for what is done only once on a machine."""
    workload = Workload("warm-up", 3, 10)
    shutil.rmtree(scratch / "few", ignore_errors=True)
    fill(scratch / "few", workload)
    return workload


def _run(name: str, workload: Workload, url: str, scratch: Path, prefix: str) -> Cost:
    """Let one tool send the files, and make sure that it did."""
    here = scratch / "tool"
    here.mkdir()
    folder = scratch / ("few" if workload.title == "warm-up" else "data")
    job = Job(folder, prefix, url, here, workload.delete, workload.workers)
    _ask(f"{url}/-/counters", "DELETE")
    parts = [_measured(command, environment(job), here) for command in TOOLS[name].commands(job)]
    arrived = _arrived(url, prefix)
    assert arrived == (workload.count, workload.count * workload.size), (name, arrived)
    left = sum(1 for _ in folder.iterdir()) if folder.exists() else 0
    assert left == (0 if workload.delete else workload.count), (name, left)
    shutil.rmtree(here)
    return Cost(sum(one.wall for one in parts), sum(one.cpu for one in parts), max(one.rss for one in parts))


def _measured(command: list[str], variables: dict[str, str], here: Path) -> Cost:
    shim = [sys.executable, "-I", "-S", str(HERE / "rusage.py"), str(here / "cost")]
    with open(here / "log", "wb") as log:
        done = subprocess.run([*shim, *command], env=variables, stdout=log, stderr=log, check=False)
    assert done.returncode == 0, (command, done.returncode, (here / "log").read_text()[-3000:])
    return Cost(**json.loads((here / "cost").read_text()))


@contextmanager
def _served(module: str, *arguments: str) -> Iterator[str]:
    command = [sys.executable, "-m", f"tests.standins.{module}", *arguments]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout
            url = process.stdout.readline().split()[-1]
            if module == "s3":
                _ask(f"{url}/{BUCKET}", "PUT")
            yield url
        finally:
            process.terminate()


def _arrived(url: str, prefix: str) -> tuple[int, int]:
    """How many objects there are under a prefix, and their bytes: the sink has no others."""
    said = _ask(f"{url}/-/counters", "GET")
    if said.startswith(b"{"):
        counters = json.loads(said)
        return counters["objects"], counters["object_bytes"]
    page = _ask(f"{url}/{BUCKET}?list-type=2&max-keys=1000&prefix={prefix}/", "GET")
    assert b"<IsTruncated>false" in page
    sizes = re.findall(rb"<Size>(\d+)</Size>", page)
    return len(sizes), sum(map(int, sizes))


def _ask(url: str, method: str) -> bytes:
    try:
        with urllib.request.urlopen(urllib.request.Request(url, method=method), timeout=30) as answer:
            return answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.read()  # moto has no counters


def _facts(tools: list[str]) -> str:
    versions = "; ".join(f"{name} {TOOLS[name].version()}" for name in tools if name != "rclone")
    command = shlex.join(["python", "bench/direct.py", *sys.argv[1:]])
    return (
        f"`{command}` on {machine()}. {versions}. Tuned rclone is `rclone {' '.join(RCLONE_TUNED)}`;"
        " s5cmd is called without its Python wrapper. What else is not said is as the tool comes."
    )


if __name__ == "__main__":
    main()
