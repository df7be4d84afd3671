"""Children that die at the step they are told to: a process forks one for each order, and does nothing else.

So each child starts from the same clean state, with everything imported. `Mother` is the side of the test,
`obey_orders` that of the process. An order is a JSON object; its `fuse` is for the bomb (tests.whole.bomb).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tidegate

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).parents[1]


class Mother:
    """Runs a module that calls `obey_orders`."""

    def __init__(self, module: str) -> None:
        package = Path(tidegate.__file__).parents[1]
        self._process = subprocess.Popen(
            [sys.executable, "-m", module],
            cwd=ROOT,
            env=os.environ | {"PYTHONPATH": f"{package}:{ROOT}"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def run(self, order: dict[str, Any]) -> tuple[int, list[str]]:
        """Have a child of it carry the order out. Returns how it ended, and its steps."""
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        answer = json.loads(self._process.stdout.readline())
        return answer["code"], answer["steps"]

    def close(self) -> None:
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.close()
        self._process.wait(timeout=10)
        self._process.stdout.close()


def obey_orders(carry_out: Callable[[dict[str, Any], int], None]) -> None:
    """Fork a child for each order on standard input, and tell how it ended and the steps that it wrote.

    `carry_out` gets the order and the descriptor to write steps to, as one JSON list.
    """
    for line in sys.stdin:
        print(json.dumps(_obey(carry_out, json.loads(line))), flush=True)


def _obey(carry_out: Callable[[dict[str, Any], int], None], order: dict[str, Any]) -> dict[str, Any]:
    reader, writer = os.pipe()
    process = os.fork()
    if process == 0:
        os.close(reader)
        _live(carry_out, order, writer)
    os.close(writer)
    with os.fdopen(reader, encoding="utf-8") as pipe:
        steps = json.loads(pipe.read() or "[]")
    _, status = os.waitpid(process, 0)
    return {"code": os.waitstatus_to_exitcode(status), "steps": steps}


def _live(carry_out: Callable[[dict[str, Any], int], None], order: dict[str, Any], report: int) -> None:
    code = 1
    try:
        carry_out(order, report)
        code = 0
    except BaseException:  # noqa: BLE001 - it is told, whatever it is
        os.write(report, json.dumps([traceback.format_exc()]).encode())
    finally:
        os._exit(code)
