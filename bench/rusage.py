"""Run a command and write down what it cost: python bench/rusage.py RESULT COMMAND …

RESULT gets JSON: seconds of wall time and of processor time (user and system) of the command and all its children
that it waited for, and the peak of resident memory in MB: that of the largest process, or more if all of them together
had more at any of the moments, some twenty a second, at which they are looked at; pages that they share count once
(PSS). A process of its own, because the kernel counts into a new process's peak what the one that started it had
resident: so this one is small.
"""

from __future__ import annotations

import json
import os
import sys
import time

LOOK_SECONDS = 0.05


def main() -> None:
    result, *command = sys.argv[1:]
    began = time.perf_counter()
    child = os.posix_spawn(command[0], command, os.environ)
    together = looks_at = 0.0
    while True:
        pid, status, usage = os.wait4(child, os.WNOHANG)
        if pid:
            break
        if looks_at <= (now := time.perf_counter()):
            looks_at = now + LOOK_SECONDS
            together = max(together, resident(child))
        time.sleep(0.005)  # so that the end is not noticed late
    cost = {
        "wall": time.perf_counter() - began,
        "cpu": usage.ru_utime + usage.ru_stime,
        "rss": max(usage.ru_maxrss / 1024, together),
    }
    with open(result, "w", encoding="ascii") as file:
        json.dump(cost, file)
    sys.exit(os.waitstatus_to_exitcode(status))


def resident(pid: int) -> float:
    """Add up the megabytes of a process and its children; what is shared is divided among those who share it."""
    try:
        with open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as file:
            own = sum(int(line.split()[1]) for line in file if line.startswith("Pss:")) / 1024
        children = []
        for task in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{task}/children", encoding="ascii") as file:
                children += map(int, file.read().split())
    except OSError:  # it has just ended
        return 0.0
    return own + sum(map(resident, children))


if __name__ == "__main__":
    main()
