"""One round of a download in a forked child that may be killed at any step.

    python -m tests.download.one_round

reads orders from standard input, one JSON object a line, and answers each with the steps that were taken and
how the child ended.
"""

from __future__ import annotations

import json
import os
import sys
import traceback
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from tests.download.rig import Desk
from tests.whole.bomb import Bomb


def child(order: dict[str, Any], report: int) -> None:
    code = 1
    try:
        work = Path(order["work"])
        bomb = Bomb([str(work)], fuse=order["fuse"], report=report)
        bomb.arm()
        desk = Desk(work, SimpleNamespace(url=order["url"]), hands=1, **order["keys"])  # type: ignore[arg-type]
        desk.round()
        desk.stop()
        bomb.step("exit")
        bomb.tell()
        code = 0
    except BaseException:  # noqa: BLE001 - it is told, whatever it is
        os.write(report, json.dumps([traceback.format_exc()]).encode())
    finally:
        os._exit(code)


def obey(order: dict[str, Any]) -> dict[str, Any]:
    reader, writer = os.pipe()
    process = os.fork()
    if process == 0:
        os.close(reader)
        child(order, writer)
    os.close(writer)
    with os.fdopen(reader, encoding="utf-8") as pipe:
        steps = json.loads(pipe.read() or "[]")
    _, status = os.waitpid(process, 0)
    return {"code": os.waitstatus_to_exitcode(status), "steps": steps}


def main() -> None:
    for line in sys.stdin:
        print(json.dumps(obey(json.loads(line))), flush=True)


if __name__ == "__main__":
    main()
