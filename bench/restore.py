"""What a bulk retrieval costs: requests a second, CPU, memory, bytes of journal, requests to look how far it is.

    python bench/restore.py [--objects 100000] [--million] [--write]
    python bench/restore.py --costs [--million] [--write]

S3 is the stand-in of tests/standins/glacier, in a process of its own on the same processors: the figures show
what tidegate adds, not how fast S3 is. With `--million` a job of 1,000,000 objects is run, too, which takes some
minutes. `--costs` counts requests only, ours and those of AWS's sample (see seed_calls.py): a busy machine does them
no harm. Prices are written below, with where they are from.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "src"), str(ROOT)]

from bench.common import machine, write_section  # noqa: E402
from tidegate.restore.jobs import Jobs  # noqa: E402
from tidegate.restore.journal import Journal, Sheet  # noqa: E402
from tidegate.restore.nouns import Kind, Phase, Spec, State  # noqa: E402
from tidegate.restore.plan import Draw  # noqa: E402

PRICES = {  # dollars for a million, us-east-1
    "LIST": 5.0,  # aws.amazon.com/s3/pricing
    "HEAD": 0.4,  # the same
    "WRU": 0.625,  # aws.amazon.com/dynamodb/pricing/on-demand
    "RRU": 0.125,  # the same
    "Lambda": 0.2,  # aws.amazon.com/lambda/pricing, requests alone
    "SQS": 0.4,  # aws.amazon.com/sqs/pricing
}
KEYS = {"AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing"}
SEED_SIZES = (250, 500, 1000)  # of jobs whose requests are counted; three, to see that they lie on a line


class Glacier:
    """The stand-in in another process. As a clock, it is the stand-in's for the wall and ours for waiting."""

    def __init__(self, objects: int) -> None:
        command = [
            sys.executable,
            "-m",
            "tests.standins.glacier",
            "serve",
            "--port=0",
            f"--populate=bucket={objects}",
        ]
        self._process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
        lines = iter(self._process.stdout.readline, "")
        self.endpoint = next(it for it in lines if it.startswith("# listening on ")).split()[-1]
        self._say("set", of="faults", restore_rate=None)
        self._say("bucket", name="reports")
        self._now = self._say()["now"]

    def advance(self, seconds: float) -> None:
        self._say("advance", seconds=seconds)
        self._now = self._say()["now"]

    def counters(self) -> dict[str, int]:
        return self._say()["counters"]

    def wall(self) -> float:
        return self._now

    def steady(self) -> float:
        return time.monotonic()

    def close(self) -> None:
        self._process.terminate()
        self._process.wait()
        self._process.stdout.close()

    def _say(self, action: str = "", **fields: object) -> dict:
        body = json.dumps(fields).encode() if action else None
        with urllib.request.urlopen(f"{self.endpoint}/_standin/{action}", body) as answer:
            return json.load(answer)


def journal_of_a_million(folder: Path) -> dict[str, float]:
    """Write and read a journal whose keys look like those of a fleet."""
    path = folder / "million.job"
    journal = Journal(path)
    draw = Draw("salt")
    began = time.perf_counter()
    for first in range(0, 1_000_000, 20_000):
        sheets = []
        for number in range(first // 1000, first // 1000 + 20):
            rows = [
                (
                    f"site-{at // 50_000:02}/device-{at // 500:05}/2024/{at % 500:03}-telemetry.parquet",
                    "",
                    State.WANTED,
                    Kind.GLACIER,
                )
                for at in range(number * 1000, number * 1000 + 1000)
            ]
            for key, version, _, _ in rows:
                draw.offer("bucket", key, version)
            sheets.append(Sheet.make(number, "bucket", rows))
        journal.add(sheets)
    journal.draw(draw.drawn())
    written = time.perf_counter() - began
    journal.close()
    size = sum(os.path.getsize(it) for it in folder.glob("million.job*"))
    began = time.perf_counter()
    journal = Journal(path)
    count = sum(len(sheet.where(State.WANTED)) for sheet in journal.sheets(State.WANTED))
    loaded = time.perf_counter() - began
    journal.close()
    assert count == 1_000_000
    return {"written": written, "loaded": loaded, "size": size / 1e6}


def job(objects: int, folder: Path, engine: str) -> dict[str, float]:
    """Run a job to its end, and tell what each part of it took."""
    glacier = Glacier(objects)
    try:
        jobs = Jobs(folder, environment=KEYS, clock=glacier)
        settings = {
            "endpoint_url": glacier.endpoint,
            "control_url": glacier.endpoint,
            "account": "123456789012",
        }
        jobs.create(
            Spec(
                id="job",
                tier="Bulk",
                days=7,
                created=glacier.wall(),
                bucket="bucket",
                engine=engine,
                rate=5000.0,
                settings={**settings, "proxy": "direct"},
                batch={"role": "arn:role", "report": "s3://reports/here"},
            )
        )
        with jobs.running("job") as run, jobs.journal("job") as journal:
            wall, cpu = time.perf_counter(), time.process_time()
            run.step()
            found = {"plan": time.perf_counter() - wall, "plan cpu": time.process_time() - cpu}
            wall, cpu = time.perf_counter(), time.process_time()
            while journal.phase() is Phase.REQUESTING:
                if wait := run.step():
                    glacier.advance(wait)
            found["rate"] = objects / (time.perf_counter() - wall)
            found["cpu"] = (time.process_time() - cpu) / objects * 1000
            wall, looks = time.perf_counter(), 0
            while (wait := run.step()) is not None:
                if wait:
                    glacier.advance(wait)
                    looks += 1
            found |= {"watch": time.perf_counter() - wall, "looks": looks}
            assert journal.notes()["status"] == "Complete", journal.notes()
            assert journal.counts().ready == objects
            found["events"] = len(journal.events())
        counters = glacier.counters()
        found |= {"LIST": counters.get("ListObjectsV2", 0), "HEAD": counters.get("HeadObject", 0)}
        found["journal"] = sum(it.stat().st_size for it in (folder / "restore").iterdir()) / 1e6
        return found | {"rss": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}
    finally:
        glacier.close()


def apart(objects: int, engine: str) -> dict[str, float]:
    """Run a job in a process of its own, so that its memory is its own."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, __file__, "--alone", str(objects), engine, folder]
        done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout)


_HEAD = (
    *("objects", "sample", "BatchWriteItem, UpdateItem", "WRU", "Query, RRU", "Lambda", "SQS", "dollars"),
    *("ours", "LIST", "HEAD", "events", "dollars"),
)


def dollars(counts: dict[str, float]) -> float:
    """What these requests cost; names without a price cost nothing."""
    return sum(PRICES.get(name, 0.0) * number / 1e6 for name, number in counts.items())


def costs(jobs: dict[int, dict[str, float]]) -> str:
    """Put the requests of the sample beside ours."""
    from bench import seed_calls  # noqa: PLC0415 - moto is large, and the memory of our jobs is measured

    counted = {size: seed_calls.count(size) for size in SEED_SIZES}
    lines = [
        f"| {' | '.join(_HEAD)} |",
        f"|{'---|' * len(_HEAD)}",
    ]
    for size in sorted({*jobs, SEED_SIZES[-1]}):
        seed = counted.get(size) or seed_calls.scaled(counted, size)
        ours = jobs[size]
        cells = [
            f"{size:,}",
            "counted" if size in counted else "scaled",
            f"{seed['BatchWriteItem']:,.0f}, {seed['UpdateItem']:,.0f}",
            f"{seed['WRU']:,.0f}",
            f"{seed['Query']:,.0f}, {seed['RRU']:,.0f}",
            f"{seed['Lambda']:,.0f}",
            f"{seed['SQS']:,.0f}",
            f"{dollars(seed):.4f}",
            "counted",
            f"{ours['LIST']:,}",
            f"{ours['HEAD']:,}",
            f"{ours['events']}",
            f"{dollars({name: ours[name] for name in ('LIST', 'HEAD')}):.4f}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def report(
    objects: int, direct: dict[str, float], journal: dict[str, float], jobs: dict[int, dict[str, float]]
) -> str:
    rows = [
        ("what", "measured", "goal", "met"),
        ("---", "---", "---", "---"),
        (
            f"requests a second through the direct engine, {objects:,} objects",
            f"{direct['rate']:,.0f}",
            "≥ 600",
            yes(direct["rate"] >= 600),
        ),
        ("our CPU for each", f"{direct['cpu']:.2f} ms", "≤ 1.5 ms", yes(direct["cpu"] <= 1.5)),
        (
            f"plan pass of {objects:,} keys ({direct['plan cpu']:.1f} s of it our CPU)",
            f"{direct['plan']:.1f} s",
            "≤ 15 s for 100,000",
            yes(direct["plan"] <= 15 * objects / 100_000),
        ),
        (
            "journal of 1,000,000 objects, keys of 48 bytes",
            f"{journal['size']:.1f} MB",
            "≤ 25 MB",
            yes(journal["size"] <= 25),
        ),
        ("… written", f"{journal['written']:.1f} s", "-", "-"),
        ("… loaded", f"{journal['loaded']:.1f} s", "≤ 3 s", yes(journal["loaded"] <= 3)),
    ]
    for count, found in jobs.items():
        rows.append(
            (
                f"peak RSS of a whole job of {count:,} objects",
                f"{found['rss']:.0f} MB",
                "≤ 100 MB",
                yes(found["rss"] <= 100),
            )
        )
    lines = [
        f"Measured on {time.strftime('%Y-%m-%d')} on {machine()}, with a stand-in for S3 on the same processors.",
        "",
    ]
    lines += [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join(lines)


def yes(met: object) -> str:
    return "yes" if met else "no"


def main() -> None:
    if sys.argv[1:2] == ["--alone"]:
        print(json.dumps(job(int(sys.argv[2]), Path(sys.argv[4]), sys.argv[3])))
        return
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--objects", type=int, default=100_000)
    parser.add_argument("--million", action="store_true")
    parser.add_argument("--write", action="store_true", help="into bench/RESULTS.md")
    parser.add_argument("--costs", action="store_true", help="count requests, and measure nothing")
    asked = parser.parse_args()
    if asked.costs:
        jobs = {1000: apart(1000, "direct"), asked.objects: apart(asked.objects, "direct")}
        if asked.million:
            jobs[1_000_000] = apart(1_000_000, "batch")
        text = costs(jobs)
        print(text)
        if asked.write:
            write_section("restore-costs", text)
        return
    with tempfile.TemporaryDirectory() as folder:
        journal = journal_of_a_million(Path(folder))
    direct = apart(asked.objects, "direct")
    jobs = {1000: apart(1000, "direct"), asked.objects: direct}
    if asked.million:
        jobs[1_000_000] = apart(1_000_000, "batch")
    text = report(asked.objects, direct, journal, jobs)
    print(text)
    if asked.write:
        write_section("restore", text)


if __name__ == "__main__":
    main()
