"""Run a command and write down what it cost: python bench/rusage.py RESULT COMMAND …

RESULT gets JSON: seconds of wall time and of processor time (user and system), and the peak RSS in MB of the
largest process, of the command and all its children that it waited for. A process of its own, because the
kernel counts into a new process's peak what the one that started it had resident: so this one is small.
"""

from __future__ import annotations

import json
import os
import sys
import time


def main() -> None:
    result, *command = sys.argv[1:]
    began = time.perf_counter()
    _, status, usage = os.wait4(os.posix_spawn(command[0], command, os.environ), 0)
    cost = {
        "wall": time.perf_counter() - began,
        "cpu": usage.ru_utime + usage.ru_stime,
        "rss": usage.ru_maxrss / 1024,
    }
    with open(result, "w", encoding="ascii") as file:
        json.dump(cost, file)
    sys.exit(os.waitstatus_to_exitcode(status))


if __name__ == "__main__":
    main()
