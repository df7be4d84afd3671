"""What tests of several parts need: files, sources and moments, and waiting that ends as soon as it can."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from tidegate.config import Source, parse
from tidegate.model import Candidate, Fingerprint, Moment, ObjectRef, Transfer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

PATIENCE = 10.0
MEMORY = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
"""Where temporary folders are in memory, if there is such a place; dying processes lose nothing there either."""
FOREVER = float("inf")


def eventually(condition: Callable[[], Any], seconds: float = PATIENCE) -> Any:
    """Return the first true result of `condition`."""
    deadline = time.monotonic() + seconds
    pause = threading.Event()
    while not (result := condition()):
        assert time.monotonic() < deadline, f"not within {seconds} seconds"
        pause.wait(0.01)
    return result


@contextmanager
def no_more_descriptors() -> Iterator[None]:
    """Let this process open nothing for a while; what is open stays.

    A call that waits for more descriptors than the limit fails, in threads of others, too: so it is not 0.
    """
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def the_source(root: Path | str, pattern: str = "*.csv", **keys: object) -> Source:
    """Parse the only source of a configuration that watches `pattern` below `root`."""
    raw = {"PathName": f"{root}/{pattern}", "BucketName": "bucket", **keys}
    (source,) = parse(raw).sources
    return source


def later(seconds: float = 60, *, trusted_for: float = FOREVER, steady: float = 0.0) -> Moment:
    """Make the moment so many seconds from now: files that a test just made are that old then."""
    return Moment(time.time() + seconds, steady + seconds, trusted_for)


def write(path: Path, content: str = "1,2,3\n", *, age: float | None = None) -> Path:
    """Write a file; `age` sets its modification time to so many seconds ago (its ctime stays now)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content, encoding="utf-8")
    if age is not None:
        stamp = time.time() - age
        os.utime(path, (stamp, stamp))
    return path


def version_of(path: Path) -> Candidate:
    return Candidate(str(path), Fingerprint.of(path.stat()))


def transfer(
    name: str = "a.csv",
    *,
    version: int = 1,
    source: str = "default",
    bucket: str = "bucket",
    key: str | None = None,
    size: int = 10,
    mtime_ns: int | None = None,
) -> Transfer:
    """Make a promise about a file that need not exist."""
    mtime_ns = version if mtime_ns is None else mtime_ns
    candidate = Candidate(f"/data/{name}", Fingerprint(1, 1, size, mtime_ns, version))
    return Transfer(
        id=candidate.identity(source),
        source=source,
        carrier="streams",
        body=candidate,
        target=ObjectRef(bucket, name if key is None else key),
    )


_WRITERS = {
    "open": "held = open(path, 'r+b')",
    "append": "held = open(path, 'ab')",
    "map": (
        "import mmap, os; file = open(path, 'r+b'); held = mmap.mmap(file.fileno(), 0); file.close();"
        # Python's own map keeps a second descriptor: only without it is the map alone what writes.
        " folder = '/proc/self/fd'; names = os.listdir(folder);"
        " [os.close(int(it)) for it in names if os.path.realpath(f'{folder}/{it}') == os.path.realpath(path)]"
    ),
}


@contextmanager
def writing(path: Path, how: str = "open") -> Iterator[subprocess.Popen[str]]:
    """Have another process hold the file open for writing: "open", "append", or only through a "map"."""
    code = f"import sys; path = sys.argv[1]; {_WRITERS[how]}; print('ready', flush=True); sys.stdin.read()"
    with python(["-c", code, str(path)]) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        yield process


@contextmanager
def python(arguments: Sequence[str]) -> Iterator[subprocess.Popen[str]]:
    """Run another Python until the block ends; it reads its standard input to know when."""
    process = subprocess.Popen(
        [sys.executable, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment(),
    )
    with process:
        try:
            yield process
        finally:
            process.kill()


def environment() -> dict[str, str]:
    """Make the environment of a process that can import what this one can."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}


def unprivileged(command: str, path: Path) -> Any:
    """Have a process without rights do one thing: see tests.parts.unprivileged."""
    run = subprocess.run(
        [sys.executable, "-m", "tests.parts.unprivileged", command, str(path)],
        capture_output=True,
        text=True,
        check=False,
        env=environment(),
    )
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout)
