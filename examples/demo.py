#!/usr/bin/env python3
"""See tidegate work, on this machine alone: `make demo`.

A small data logger writes CSV files, one after the other. The agent, a component of the nucleus stand-in of
the tests, sends each closed file to a local S3 server (moto) by way of the Stream Manager stand-in, and deletes
it once it is stored. In the end it is asked for its statistics by a local message, and every object is
compared with what the logger wrote.

With --config FILE the agent runs on your own configuration instead, with the Stream Manager and the
bucket that it names. Nothing is a stand-in then.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "src"), str(ROOT)]

from tests.standins.s3 import client  # noqa: E402
from tidegate.app import default_work_dir  # noqa: E402
from tidegate.errors import TidegateError  # noqa: E402
from tidegate.ledger import Books  # noqa: E402
from tidegate.view.render import size, state  # noqa: E402
from tidegate.view.snapshot import read  # noqa: E402
from tidegate.workdir import ledger_path  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Mapping

BUCKET = "demo-bucket"
PREFIX = "demo"
MAX_HOLD_SECONDS = 7  # long enough for the view, every two seconds, to show why the last file waits
ROTATE_SECONDS = 0.45
ROW_SECONDS = 0.02
START_SECONDS = 60.0
PATIENCE_SECONDS = 90.0
"""How long what is left at the end may take, before the demo is called a failure."""

LAST_WORD_SECONDS = 5.0
STOP_SECONDS = 10.0
UNSETTLED = ("held", "waiting", "in flight")
INTERRUPTED = 130
LOG_LINES = 12
PYTHONPATH = os.pathsep.join([str(ROOT / "src"), str(ROOT)])
REQUEST = "tidegate/statistics/get"


class DemoError(Exception):
    """The demo failed, for this reason."""


class DataLogger:
    """Writes one CSV file after the other, and remembers every byte that it wrote."""

    def __init__(self, folder: Path) -> None:
        self.written: dict[str, bytes] = {}
        self.current = ""
        self._folder = folder
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="logger", daemon=True)

    def start(self) -> None:
        """Begin to write."""
        self._thread.start()

    def stop(self) -> None:
        """Close the file that is being written, and write no other."""
        self._stopping.set()
        self._thread.join()

    def _run(self) -> None:
        number = 0
        while not self._stopping.is_set():
            number += 1
            self._write_file(f"measurements-{number:04}.csv")

    def _write_file(self, name: str) -> None:
        self.current = name
        self.written[name] = b""
        end = time.monotonic() + ROTATE_SECONDS
        with (self._folder / name).open("xb", buffering=0) as file:
            self._write(file, name, b"time,channel,value\n")
            while time.monotonic() < end and not self._stopping.wait(ROW_SECONDS):
                now = time.time()
                rows = [f"{now:.6f},{channel},{hash((now, channel)) % 10_000}\n" for channel in range(8)]
                self._write(file, name, "".join(rows).encode())
        self.current = ""

    def _write(self, file: Any, name: str, data: bytes) -> None:
        file.write(data)
        self.written[name] += data


class Processes:
    """The processes of the demo. What it started it ends, by process id, the last one first."""

    def __init__(self, logs: Path) -> None:
        self._logs = logs
        self._running: list[tuple[str, subprocess.Popen[bytes]]] = []

    def start(self, name: str, *arguments: str, **variables: str) -> int:
        """Start `python -m …`, with its output in a file. Returns the process id."""
        with self.log(name).open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-u", "-m", *arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, "PYTHONPATH": PYTHONPATH, **variables},
            )
        self._running.append((name, process))
        return process.pid

    def log(self, name: str) -> Path:
        """Where the output of a process is."""
        return self._logs / f"{name.replace(' ', '-')}.log"

    def address(self, name: str) -> str:
        """Wait until a stand-in says where it listens."""
        end = time.monotonic() + START_SECONDS
        while time.monotonic() < end:
            self.check()
            for line in self.log(name).read_text(errors="replace").splitlines():
                if line.startswith("listening on "):
                    return line.split()[-1]
            time.sleep(0.05)
        raise DemoError(f"{name} did not start within {START_SECONDS:.0f} seconds")

    def exports(self, name: str, last: str) -> dict[str, str]:
        """Wait until a stand-in has said which variables a component needs, up to the `last` one."""
        found: dict[str, str] = {}
        end = time.monotonic() + START_SECONDS
        while last not in found:
            if time.monotonic() > end:
                raise DemoError(f"{name} did not start within {START_SECONDS:.0f} seconds")
            self.check()
            time.sleep(0.05)
            for line in self.log(name).read_text(errors="replace").splitlines():
                if line.startswith("export "):
                    variable, _, value = line.removeprefix("export ").partition("=")
                    found[variable] = "".join(shlex.split(value))
        return found

    def check(self) -> None:
        """Raise DemoError if one of them has ended by itself."""
        for name, process in self._running:
            if process.poll() is not None:
                raise DemoError(f"{name} ended by itself, with code {process.returncode}\n{self.tail(name)}")

    def tail(self, name: str) -> str:
        """Return the last lines of its output."""
        lines = self.log(name).read_text(errors="replace").splitlines()[-LOG_LINES:]
        return "\n".join(f"  {name}: {line}" for line in lines)

    def stop(self) -> dict[str, int]:
        """End all of them. Returns their exit codes."""
        codes = {}
        while self._running:
            name, process = self._running.pop()
            process.terminate()
            try:
                codes[name] = process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                codes[name] = process.wait()
        return codes


class View:
    """Shows how far things are: redrawn in place on a terminal, else one line every two seconds."""

    def __init__(self, work_dir: Path, data_logger: DataLogger | None) -> None:
        self._work_dir = work_dir
        self._logger = data_logger
        self._began = time.monotonic()
        self._books: Books | None = None
        self._live = sys.stdout.isatty()
        self._drawn = 0
        self._next_line = 0.0
        self.phase = ""

    def close(self) -> None:
        """Leave what is on the screen there."""
        if self._books:
            self._books.close()

    def show(self) -> None:
        """Draw, if it is time."""
        found = self._state()
        if self._live:
            self._redraw(found)
        elif time.monotonic() >= self._next_line:
            self._next_line = time.monotonic() + 2.0
            print(self._line(found), flush=True)

    def show_last(self) -> None:
        """Draw once more, when the agent has told of the last scan and of the last deletion."""
        end = time.monotonic() + LAST_WORD_SECONDS
        while self._unsettled() and time.monotonic() < end:
            time.sleep(0.1)
        self._next_line = 0.0
        self.show()

    def _unsettled(self) -> bool:
        return any(count for what, count, _ in self._numbers(self._state()) if what in UNSETTLED)

    def say(self, phase: str) -> None:
        """Tell what happens from now on."""
        self.phase = phase
        if not self._live:
            print(phase, flush=True)

    def _state(self) -> dict[str, Any]:
        """What `tidegate status --json` would say: empty as long as the agent has said nothing."""
        snapshot = read(self._work_dir)
        try:
            if snapshot and self._books is None:
                self._books = Books(ledger_path(self._work_dir))
            return state(snapshot, self._books, now=time.time()) if self._books else {}
        except TidegateError as err:  # a ledger that is just being set aside, say
            return {"troubles": {"the view": {"reason": str(err)}}}

    def _numbers(self, found: Mapping[str, Any]) -> list[tuple[str, int, str]]:
        """Rows of the view: what, how many files, and more about them."""
        sources = list(found.get("sources", {}).values())
        holds: dict[str, int] = {}
        for source in sources:
            for why, count in source["holds"].items():
                holds[why] = holds.get(why, 0) + count

        def standing(which: str) -> int:
            return sum(source[which]["files"] for source in sources)

        def counted(which: str) -> int:
            return sum(source["counters"].get(which, 0) for source in sources)

        rows = [
            ("held", sum(holds.values()), ", ".join(f"{count} {why}" for why, count in holds.items())),
            ("waiting", standing("waiting"), ""),
            ("in flight", standing("in_flight"), ""),
            ("stored", counted("files_stored"), size(counted("bytes_stored"))),
            ("deleted", counted("files_deleted"), ""),
        ]
        if quarantined := standing("quarantined"):
            rows.append(("quarantined", quarantined, ""))
        if self._logger:
            about = f"{self._logger.current} is being written" if self._logger.current else ""
            rows.insert(0, ("written", len(self._logger.written), about))
        return rows

    def _line(self, found: Mapping[str, Any]) -> str:
        cells = [
            f"{what} {count}" + (f" ({more})" if more and what == "held" else "")
            for what, count, more in self._numbers(found)
        ]
        return f"{time.monotonic() - self._began:4.0f} s  " + "  ".join([*cells, *_troubles(found)])

    def _redraw(self, found: Mapping[str, Any]) -> None:
        lines = [f"tidegate demo, {time.monotonic() - self._began:.0f} s", ""]
        lines += [f"  {what:12}{count:6}   {more}" for what, count, more in self._numbers(found)]
        width = shutil.get_terminal_size().columns - 1  # a line that wraps would be two to go up
        lines += ["", *_troubles(found), *textwrap.wrap(self.phase, width)]
        up = f"\x1b[{self._drawn}A" if self._drawn else ""
        print(f"{up}\x1b[J" + "\n".join(line[:width] for line in lines), flush=True)
        self._drawn = len(lines)


def _troubles(found: Mapping[str, Any]) -> list[str]:
    return list(dict.fromkeys(trouble["reason"] for trouble in found.get("troubles", {}).values()))


def ask(socket: Path) -> dict[str, Any]:
    """Ask the agent for its statistics as another component would, by a local message."""
    run = subprocess.run(
        [sys.executable, "-m", "tests.standins.nucleus", "request", REQUEST, "{}", "--socket", str(socket)],
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE_SECONDS,
        env={**os.environ, "PYTHONPATH": PYTHONPATH},
    )
    if run.returncode:
        raise DemoError(f"{REQUEST} was not answered: {run.stdout}{run.stderr}")
    answer: dict[str, Any] = json.loads(run.stdout)
    return answer


def in_short(answer: Mapping[str, Any]) -> str:
    """Show of an answer what fits on a screen."""
    source = answer["sources"][0]
    shown = {key: answer[key] for key in ("status", "clientToken", "totals", "backlog")}
    shown["sources"] = [{key: source[key] for key in ("name", "last", "held")}]
    lines = [f"  {key}: {json.dumps(value)}" for key, value in shown.items()]
    return "\n".join([f"Request on the local topic {REQUEST}, answer on {REQUEST}/accepted:", *lines])


def differences(written: Mapping[str, bytes], stored: Mapping[str, bytes]) -> list[str]:
    """Compare what was written with what is stored, byte for byte. Empty: they are the same."""
    return (
        [f"{name} is not in S3" for name in sorted(written.keys() - stored.keys())]
        + [f"{name} is in S3, and nobody wrote it" for name in sorted(stored.keys() - written.keys())]
        + [
            f"{name} differs: {len(written[name])} bytes written, {len(stored[name])} stored"
            for name in sorted(written.keys() & stored.keys())
            if written[name] != stored[name]
        ]
    )


def demo_configuration(data: Path, stream_manager: str) -> dict[str, Any]:
    """Make a configuration that does in seconds what others do in minutes."""
    host, _, port = stream_manager.rpartition(":")
    return {
        "PathName": f"{data}/*.csv",
        "BucketName": BUCKET,
        "ObjectKeyPrefix": PREFIX,
        "Interval": 1,
        "QuietSeconds": 0.5,
        "MaxHoldSeconds": MAX_HOLD_SECONDS,
        "Carrier": "StreamManager",
        "StreamManager": {"Host": host, "Port": int(port)},
    }


def run_demo(seconds: float, folder: Path, cleanup: ExitStack) -> str:
    """Run all of it. Returns the verdict; raises DemoError when it is a bad one."""
    data, work_dir = folder / "data", folder / "work"
    data.mkdir()
    processes = Processes(folder)
    cleanup.callback(processes.stop)
    pid = processes.start("S3 server", "tests.standins.s3", "--port", "0")
    s3_url = processes.address("S3 server")
    print(f"A local S3 server is at {s3_url} (process {pid}).")
    s3 = client(s3_url)
    s3.create_bucket(Bucket=BUCKET)
    options = ("--port", "0", "--s3-endpoint", s3_url, "--data-dir", str(folder / "streams"))
    pid = processes.start("Stream Manager", "tests.standins.streammanager", *options)
    stream_manager = processes.address("Stream Manager")
    print(f"The Stream Manager stand-in is at {stream_manager} (process {pid}).")
    config, socket = folder / "demo.yaml", folder / "ipc"
    config.write_text(yaml.safe_dump(demo_configuration(data, stream_manager), sort_keys=False))
    options = ("--mode", "lite", "--config", str(config), "--socket", str(socket))
    pid = processes.start("nucleus", "tests.standins.nucleus", *options)
    access = processes.exports("nucleus", "AWS_DEFAULT_REGION")
    print(f"The Greengrass nucleus stand-in is at {socket} (process {pid}).")
    pid = processes.start("agent", "tidegate", TIDEGATE_WORK_DIR=str(work_dir), **access)
    print(f"The agent, its component, watches {data}/*.csv (process {pid}).\n", flush=True)

    data_logger = DataLogger(data)
    view = View(work_dir, data_logger)
    cleanup.callback(view.close)
    view.say(f"The logger writes for {seconds:g} seconds. The file that it has open is held back.")
    data_logger.start()
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        processes.check()
        view.show()
        time.sleep(0.1)
    data_logger.stop()

    view.say(
        "The logger has stopped. Its last file is the newest and might still be in use:"
        f" it goes when MaxHoldSeconds ({MAX_HOLD_SECONDS}) are over."
    )
    end = time.monotonic() + PATIENCE_SECONDS
    while left := sorted(path.name for path in data.iterdir()):
        if time.monotonic() > end:
            raise DemoError(f"{len(left)} files are still here: {', '.join(left)}\n{processes.tail('agent')}")
        processes.check()
        view.show()
        time.sleep(0.1)
    view.show_last()
    print(f"\n{in_short(ask(socket))}\n", flush=True)

    stored = {}
    for page in s3.get_paginator("list_objects_v2").paginate(Bucket=BUCKET):
        for entry in page.get("Contents", []):
            body = s3.get_object(Bucket=BUCKET, Key=entry["Key"])["Body"].read()
            stored[entry["Key"].removeprefix(f"{PREFIX}/")] = body
    wrong = differences(data_logger.written, stored)
    if wrong:
        raise DemoError("\n".join([*wrong, processes.tail("agent")]))
    code = processes.stop()["agent"]
    if code != -signal.SIGTERM:  # a component ends as it was told to, never with 0
        raise DemoError(f"the agent ended with code {code}\n{processes.tail('agent')}")
    return f"{len(data_logger.written)} files written, {len(stored)} stored, every byte equal, 0 left."


def run_own(config: Path, logs: Path, cleanup: ExitStack) -> None:
    """Run the agent on the user's configuration until it is interrupted. Raises DemoError."""
    work_dir = default_work_dir()
    processes = Processes(logs)
    cleanup.callback(processes.stop)
    print(f"The agent runs on {config}, with the Stream Manager and the buckets that are named there.")
    print(f"Its own folder is {work_dir}. Stop it with Ctrl-C: nothing is lost by it.\n", flush=True)
    processes.start("agent", "tidegate", "run", "--config", str(config), "--work-dir", str(work_dir))
    view = View(work_dir, None)
    cleanup.callback(view.close)
    while True:
        processes.check()
        view.show()
        time.sleep(0.1)


def main() -> int:
    """Run the demo. Returns the exit code."""
    parser = argparse.ArgumentParser(description="See tidegate work, on this machine alone.")
    parser.add_argument("--seconds", type=float, default=20.0, help="how long the logger writes (20)")
    parser.add_argument("--config", type=Path, metavar="FILE", help="run the agent on this, until Ctrl-C")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    os.environ["NO_PROXY"] = os.environ["no_proxy"] = "127.0.0.1"  # the stand-ins are on this machine
    with ExitStack() as cleanup:
        folder = Path(cleanup.enter_context(tempfile.TemporaryDirectory(prefix="tidegate-demo-")))
        try:
            if options.config:
                run_own(options.config, folder, cleanup)
            else:
                print(run_demo(options.seconds, folder, cleanup))
        except DemoError as err:
            print(f"\nThe demo failed: {err}", file=sys.stderr)
            return 1
        except KeyboardInterrupt:
            signal.signal(signal.SIGINT, signal.SIG_IGN)  # a second one must not leave processes behind
            print("\nInterrupted: what was started is ended.", file=sys.stderr)
            return 0 if options.config else INTERRUPTED
    return 0


if __name__ == "__main__":
    sys.exit(main())
