"""What the benchmarks share: the machine, other processes, and their sections of bench/RESULTS.md."""

from __future__ import annotations

import os
import platform
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
RESULTS = HERE / "RESULTS.md"


def machine() -> str:
    """Name what figures depend on."""
    return f"{os.cpu_count()} x {platform.machine()}, Linux {platform.release()}, Python {platform.python_version()}"


def write_section(name: str, text: str) -> None:
    """Put the text between the marks of this name in bench/RESULTS.md."""
    begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    before, rest = RESULTS.read_text("utf-8").split(begin)
    RESULTS.write_text(f"{before}{begin}\n{text}\n{end}{rest.split(end)[1]}", "utf-8")


def cpu_seconds(pid: int) -> float:
    """Processor time of a running process, to a hundredth of a second."""
    fields = Path(f"/proc/{pid}/stat").read_text("ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def peak_mb(pid: int) -> float:
    """The most memory that a running process ever had resident."""
    lines = Path(f"/proc/{pid}/status").read_text("ascii").splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) / 1024


def wait(condition: Callable[[], bool], seconds: float, *, every: float = 0.1) -> None:
    """Return when it is so; fail when that takes too long."""
    end = time.perf_counter() + seconds
    while not condition():
        assert time.perf_counter() < end, "it took too long"
        pause(every)


def pause(seconds: float) -> None:
    time.sleep(seconds)
