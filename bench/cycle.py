"""What a cycle costs that packs folders: 20 of them with 500 files of 20 KB each, to a sink.

    python bench/cycle.py [--quick] [--rounds 3] [--write]

Each round is a whole `tidegate run --once` as a process of its own, with a new ledger: it lists, packs, uploads,
compares checksums, deletes all members and ends. Beside it the same files are sent one by one, in a cycle without
archives. Half of each file is noise and half of it repeats itself.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import urllib.request
from pathlib import Path

from common import HERE, ROOT, machine, write_section

FOLDERS, FILES, SIZE = 20, 500, 20_000
ARCHIVES = ("Zip", "TarZstd", "None")


def main() -> None:
    """Measure, print, and write if asked."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="one round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--write", action="store_true", help="put the table into bench/RESULTS.md")
    options = parser.parse_args()
    rounds = 1 if options.quick else options.rounds
    scratch = Path(tempfile.mkdtemp(prefix="tidegate-bench-"))
    try:
        lines = [measure(archive, scratch, rounds) for archive in ARCHIVES]
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    facts = (
        f"`python bench/cycle.py --rounds {rounds} --write` on {machine()}."
        f" {FOLDERS} folders of {FILES} files of {SIZE:,} bytes; medians."
    )
    head = "| Archive | wall s | CPU s | peak RSS MB | objects | MB sent |\n|---|---|---|---|---|---|"
    text = "\n".join([facts, "", head, *lines])
    print(text)
    if options.write:
        write_section("cycle", text)


def measure(archive: str, scratch: Path, rounds: int) -> str:
    """Measure some cycles, and return a line of the table."""
    costs = [cost(archive, scratch) for _ in range(rounds)]
    wall, cpu, rss, objects, sent = (statistics.median(values) for values in zip(*costs, strict=True))
    return f"| {archive} | {wall:.1f} | {cpu:.1f} | {rss:.0f} | {objects:.0f} | {sent / 1e6:.0f} |"


def cost(archive: str, scratch: Path) -> tuple[float, float, float, int, int]:
    """Make one cycle: seconds of wall and processor, MB, objects and bytes that the sink has got."""
    data, work, result = scratch / "data", scratch / "work", scratch / "result"
    fill(data)
    sink = subprocess.Popen(
        [sys.executable, "-m", "tests.standins.sink"], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    try:
        assert sink.stdout
        url = sink.stdout.readline().split()[-1]
        config = scratch / "config.yaml"
        keys = {
            "PathName": f"{data}/**",
            "BucketName": "bench",
            "Mode": "Cycle",
            "Interval": 3600,
            "Layout": "ThingAndTime",
            "Archive": archive,
            "QuietSeconds": 0,
            "Carrier": "Direct",
            "S3": {"EndpointUrl": url},
        }
        config.write_text(json.dumps(keys))
        tidegate = [sys.executable, "-m", "tidegate", "run", "--once", "--config", str(config)]
        subprocess.run(
            [sys.executable, HERE / "rusage.py", result, *tidegate, "--work-dir", work],
            check=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=os.environ
            | {"PYTHONPATH": str(ROOT / "src"), "AWS_ACCESS_KEY_ID": "id", "AWS_SECRET_ACCESS_KEY": "key"},
        )
        with urllib.request.urlopen(f"{url}/-/counters") as answer:
            counters = json.load(answer)
    finally:
        sink.terminate()
        sink.wait()
    assert not [path for path in data.rglob("*") if path.is_file()], "a file was left"
    shutil.rmtree(work)
    spent = json.loads(result.read_text())
    objects = FOLDERS if archive != "None" else FOLDERS * FILES
    return spent["wall"], spent["cpu"], spent["rss"], objects, counters["body_bytes"]


def fill(data: Path) -> None:
    noise = random.Random(1)
    for folder in range(FOLDERS):
        (data / f"run-{folder:02d}").mkdir(parents=True, exist_ok=True)
        for number in range(FILES):
            body = noise.randbytes(SIZE // 2) + b"12.25;13.50;99.75;" * (SIZE // 36)
            (data / f"run-{folder:02d}" / f"{number:03d}.bin").write_bytes(body.ljust(SIZE))


if __name__ == "__main__":
    main()
