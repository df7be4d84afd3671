"""How fast files get their names: by a template, rules, expressions, and customizers in both engines.

    python bench/customize.py [--files 20000] [--rounds 3] [--write]

Names are asked for in batches of 500, as a scan does. Workers run beside us, so what counts is the time that
passes; their memory is that of the process. Last, a customizer is asked for one file at a time, and started anew.
"""

from __future__ import annotations

import argparse
import hashlib
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from common import ROOT, machine, peak_mb, write_section

sys.path[:0] = [str(ROOT / "src")]

from tidegate.config import parse  # noqa: E402
from tidegate.customize import Namer, Shelf  # noqa: E402
from tidegate.model import Candidate, Fingerprint, Moment  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Callable

BATCH = 500
GOAL = 5000
EXAMPLES = ROOT / "examples" / "policies"
RULES = [
    {"Match": "*.tmp", "Ignore": True},
    *({"Match": f"other-{number}/**", "Ignore": True} for number in range(7)),
    {"Match": "{line}/**/{product}-*.csv", "Key": "{prefix}/{product}/{line}/{mtime:%Y/%m/%d}/{name}"},
]
EXPRESSIONS = [
    {"Match": r"re:(?P<line>\w+)/.*/(?P<product>[a-z]+)-\d+\.csv", "Key": "{product}/{line}/{name}"}
]


def main() -> None:
    """Measure, print, and write if asked."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--files", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--write", action="store_true", help="put the table into bench/RESULTS.md")
    options = parser.parse_args()
    files = [
        Candidate(f"/data/a/shift-{n % 3}/flow-{n}.csv", Fingerprint(1, n, 10, 1_735_599_600 * 10**9, n))
        for n in range(options.files)
    ]
    with tempfile.TemporaryDirectory(prefix="tidegate-bench-") as scratch:
        lines = [
            measure(what, keys, files, options.rounds, Path(scratch))
            for what, keys in {
                "nine rules": {"Rules": RULES},
                "one expression": {"Rules": EXPRESSIONS},
                "customizer in Starlark": {"Customizer": customizer("names.star", lines={"a/shift-1": "7"})},
                "customizer in JavaScript": {"Customizer": customizer("names.js", site="north")},
            }.items()
        ]
    facts = (
        f"`python bench/customize.py --files {options.files} --rounds {options.rounds} --write` on {machine()};"
        f" medians. The goal is {GOAL:,} files a second."
    )
    head = "| names by | files/s | one at a time, µs | start, ms | worker, MB |\n|---|---|---|---|---|"
    text = "\n".join([facts, "", head, *lines])
    print(text)
    if options.write:
        write_section("customize", text)


def customizer(name: str, **settings: Any) -> dict[str, Any]:
    path = EXAMPLES / name
    return {"File": str(path), "Sha256": hashlib.sha256(path.read_bytes()).hexdigest(), "Settings": settings}


def measure(what: str, keys: dict[str, Any], files: list[Candidate], rounds: int, scratch: Path) -> str:
    """Measure one way, and return a line of the table."""
    (source,) = parse({"PathName": "/data/**", "BucketName": "bench", **keys}).sources
    namer = Namer(source, "thing", Shelf(scratch / what, lambda *_: b""))
    moment = Moment(time.time(), 0.0, 0.0)
    start = seconds(lambda: namer.names(files[:1], moment=moment))
    rates, singles = [], []
    for _ in range(rounds):
        took = seconds(
            lambda: [namer.names(files[at : at + BATCH], moment=moment) for at in range(0, len(files), BATCH)]
        )
        rates.append(len(files) / took)
        singles.append(seconds(lambda: [namer.names([one], moment=moment) for one in files[:500]]) / 500)
    worker = namer._worker or namer._expressions  # noqa: SLF001
    process = worker._process if worker else None  # noqa: SLF001
    memory = f"{peak_mb(process.pid):.0f}" if process else "-"
    namer.close()
    rate = statistics.median(rates)
    assert rate > GOAL, f"{what}: {rate:.0f} files a second"
    return (
        f"| {what} | {rate:,.0f} | {1e6 * statistics.median(singles):.0f}"
        f" | {1000 * start if process else 0:.0f} | {memory} |"
    )


def seconds(work: Callable[[], object]) -> float:
    """Measure how long it takes."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
