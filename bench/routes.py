"""What it takes to ask and to command the component while it works: the real process, through a nucleus' stand-in.

    python bench/routes.py [--quick] [--write]

The component is a process of its own, and so is the sink that it uploads to. This process is the nucleus' stand-in
and whoever asks: a round trip is from the publication of a request to the arrival of its answer. All of them share
the processors.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from common import ROOT, machine, pause, wait, write_section

sys.path[:0] = [str(ROOT), str(ROOT / "src")]

from tests.standins.nucleus import LITE, NucleusStandIn  # noqa: E402 - found by the line above

if TYPE_CHECKING:
    from collections.abc import Iterator

FILES, SIZE = 10_000, 4096
POSTS, POST_BYTES = 500, 2048
TICK = 0.02


class Rig:
    """A nucleus, a sink and the component."""

    def __init__(self, scratch: Path, sink: str) -> None:
        self.data = scratch / "data"
        self.data.mkdir()
        self._aside = scratch / "aside"
        self._work = scratch / "work"
        self._work.mkdir()
        self._log = scratch / "log"
        self.sink = sink
        self.nucleus = NucleusStandIn(socket=scratch / "ipc", mode=LITE)
        self.nucleus.configure(
            {
                "PathName": f"{self.data}/**",
                "BucketName": "bench",
                "Interval": 1,
                "QuietSeconds": 0,
                "HoldBack": "None",
                "Carrier": "Direct",
                "S3": {"EndpointUrl": sink},
            }
        )

    def start(self) -> None:
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tidegate"],
                cwd=self._work,
                stdout=log,
                stderr=log,
                env=os.environ
                | {"PYTHONPATH": str(ROOT / "src"), "AWS_ACCESS_KEY_ID": "id", "AWS_SECRET_ACCESS_KEY": "key"}
                | self.nucleus.environment(),
            )
        wait(lambda: any(it[2] == "tidegate/+/+" for it in self.nucleus.subscriptions), 30)
        wait(lambda: self.ask("statistics/get")["status"] == 200, 30)

    def stop(self, number: int = signal.SIGTERM) -> None:
        self._process.send_signal(number)
        self._process.wait(20)

    def close(self) -> None:
        self._process.kill()
        self._process.wait(20)
        self.nucleus.close()

    def ask(self, route: str, **body: Any) -> dict[str, Any]:
        return self.nucleus.request(f"tidegate/{route}", body, seconds=60)[1]

    def drop_files(self, name: str) -> None:
        """Have many new files appear at once."""
        self._aside.mkdir()
        for number in range(FILES):
            (self._aside / f"{number:05}").write_bytes(os.urandom(SIZE))
        self._aside.rename(self.data / name)

    def is_idle(self) -> bool:
        return not any(path.is_file() for path in self.data.rglob("*"))

    def stored(self) -> int:
        with urllib.request.urlopen(f"{self.sink}/-/counters") as answer:
            return json.load(answer)["objects"]

    def has(self, key: str) -> bool:
        request = urllib.request.Request(f"{self.sink}/bench/{key}", method="HEAD")
        try:
            with urllib.request.urlopen(request):
                return True
        except urllib.error.HTTPError:
            return False

    def resident_mb(self) -> float:
        """Memory of the component and of the processes that it has started."""
        return sum(_resident_kb(pid) for pid in _family(self._process.pid)) / 1024


def main() -> None:
    """Measure, print, and write if asked."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="one round of each, shorter")
    parser.add_argument("--write", action="store_true", help="put the table into bench/RESULTS.md")
    options = parser.parse_args()
    rounds, seconds, rest = (1, 3, 5) if options.quick else (5, 20, 30)
    rows = []
    load = os.getloadavg()[0]
    with _rig() as rig:
        rig.start()
        rows += at_rest(rig, rest)
        rows += latency(rig, rounds)
        rows += configured(rig, rounds)
        rig.stop()
    with _rig() as rig:
        rig.start()
        rows += posts(rig, seconds)
    head = (
        f"`python bench/routes.py --write` on {time.strftime('%Y-%m-%d')} on {machine()}."
        f" Load of the machine before: {load:.1f}; other work than ours slows it down for all."
    )
    text = "\n".join([head, "", "| what | measured | goal | met |", "|---|---|---|---|", *rows])
    print(text)
    if options.write:
        write_section("routes", text)


def at_rest(rig: Rig, seconds: float) -> list[str]:
    """Measure the memory of a component that has nothing to do."""
    pause(seconds)
    found = rig.resident_mb()
    return [_row("RSS at rest", f"{found:.0f} MB", "≤ 60 MB", met=found <= 60)]


def latency(rig: Rig, rounds: int) -> list[str]:
    """Ask again and again while files are uploaded."""
    taken: list[float] = []
    spent = 0.0
    for number in range(rounds):
        rig.drop_files(f"latency{number}")
        before = rig.stored()
        wait(lambda before=before: rig.stored() > before, 20, every=0.01)
        began = time.perf_counter()
        while True:
            asked = time.perf_counter()
            reply = rig.ask("statistics/get")
            taken.append(time.perf_counter() - asked)
            assert reply["status"] == 200, reply
            if rig.stored() - before >= FILES:
                break
            pause(TICK)
        spent += time.perf_counter() - began
        wait(rig.is_idle, 60)
    cuts = statistics.quantiles(taken, n=100, method="inclusive")
    p50, p99 = cuts[49] * 1000, cuts[98] * 1000
    what = (
        f"statistics/get, p99 of {len(taken)} while {rounds} times {FILES:,} files of {SIZE // 1024} KiB go"
    )
    return [
        _row(what, f"{p99:.1f} ms", "≤ 20 ms", met=p99 <= 20),
        _row("… the median; the longest", f"{p50:.1f} ms; {max(taken) * 1000:.1f} ms"),
        _row("… files that went meanwhile", f"{rounds * FILES / spent:,.0f}/s"),
    ]


def configured(rig: Rig, rounds: int) -> list[str]:
    """Merge a configuration while files are uploaded, and see when it holds."""
    taken = []
    for number in range(rounds):
        rig.drop_files(f"configured{number}")
        before = rig.stored()
        wait(lambda before=before: rig.stored() > before, 20, every=0.01)
        merged = time.perf_counter()
        rig.nucleus.configure({"ObjectKeyPrefix": f"prefix{number}"})
        wait(lambda number=number: _prefix(rig) == f"prefix{number}", 60, every=0.05)
        taken.append(time.perf_counter() - merged)
        assert not rig.is_idle(), "the files were too few to be a load"
        wait(rig.is_idle, 60)
    worst = max(taken)
    what = f"a changed configuration in use, longest of {rounds}, while {FILES:,} files go"
    return [_row(what, f"{worst:.1f} s", "≤ 10 s", met=worst <= 10)]


def posts(rig: Rig, seconds: int) -> list[str]:
    """Post at a steady rate, kill the component in the midst of it, and count what is in the store."""
    body = "x" * (POST_BYTES - 100)
    sent, answered = 0, []
    began = time.perf_counter()
    while (passed := time.perf_counter() - began) < seconds + 1:
        for number in range(sent, int(passed * POSTS)):
            fields = {"key": f"posted/{number}", "body": body, "waitSeconds": 0, "clientToken": f"t{number}"}
            rig.nucleus.publish("tidegate/objects/post", json.dumps(fields).encode())
            sent = number + 1
        if passed >= len(answered) + 1:
            answered.append((passed, len(_verdicts(rig))))
        pause(TICK)
    rig.stop(signal.SIGKILL)
    verdicts = _verdicts(rig)
    held = rig.stored()
    rig.start()
    wait(lambda: rig.ask("statistics/get")["backlog"]["files"] == 0, 120)
    accepted = [token for token, verdict in verdicts.items() if verdict == "accepted"]
    lost = [token for token in accepted if not rig.has(f"posted/{token[1:]}")]
    (first, before), (last, after) = answered[0], answered[-1]
    rate = (after - before) / (last - first)
    rejected = len(verdicts) - len(accepted)
    return [
        _row(
            f"objects/post of {POST_BYTES // 1024} KB, accepted durably for {last - first:.0f} s, uploaded meanwhile",
            f"{rate:.0f}/s",
            f"≥ {POSTS}/s",
            met=rate >= 0.99 * POSTS and not rejected,
        ),
        _row(
            "… posted; rejected; without an answer at the kill",
            f"{sent:,}; {rejected}; {sent - len(verdicts)}",
        ),
        _row("… stored before the kill", f"{held:,}"),
        _row("… accepted, and lost by kill -9", str(len(lost)), "0", met=not lost),
    ]


def _verdicts(rig: Rig) -> dict[str, str]:
    """What was answered, by the token of the request."""
    return {
        one.json()["clientToken"]: one.topic.rpartition("/")[2]
        for one in rig.nucleus.published
        if one.topic.startswith("tidegate/objects/post/")
    }


def _prefix(rig: Rig) -> str | None:
    reply = rig.ask("configuration/get")
    return reply["sources"][0].get("ObjectKeyPrefix") if reply["status"] == 200 else None


def _row(what: str, measured: str, goal: str = "-", *, met: bool | None = None) -> str:
    return f"| {what} | {measured} | {goal} | {'-' if met is None else 'yes' if met else 'NO'} |"


def _family(pid: int) -> list[int]:
    lists = [path.read_text("ascii").split() for path in Path(f"/proc/{pid}/task").glob("*/children")]
    return [pid, *(one for children in lists for child in children for one in _family(int(child)))]


def _resident_kb(pid: int) -> int:
    lines = Path(f"/proc/{pid}/status").read_text("ascii").splitlines()
    return int(next(line for line in lines if line.startswith("VmRSS")).split()[1])


@contextmanager
def _rig() -> Iterator[Rig]:
    scratch = Path(tempfile.mkdtemp(prefix="tidegate-bench-"))
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, scratch, ignore_errors=True)
        command = [sys.executable, "-m", "tests.standins.sink"]
        sink = stack.enter_context(subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True))
        stack.callback(sink.terminate)
        assert sink.stdout
        rig = Rig(scratch, sink.stdout.readline().split()[-1])
        stack.callback(rig.close)
        yield rig


if __name__ == "__main__":
    main()
