"""One round of a download in a forked child that may be killed at any step.

    python -m tests.download.one_round

does what orders say: see tests.mortal.
"""

from __future__ import annotations

import string
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from tests.download.rig import Desk
from tests.mortal import obey_orders
from tests.whole.bomb import Bomb


def carry_out(order: dict[str, Any], report: int) -> None:
    work = Path(order["work"])
    parts = string.hexdigits  # they are named relative to their folder, and so begin
    bomb = Bomb([str(work), *parts], fuse=order["fuse"], report=report)
    bomb.arm()
    desk = Desk(work, SimpleNamespace(url=order["url"]), hands=1, **order["keys"])  # type: ignore[arg-type]
    desk.round()
    desk.stop()
    bomb.step("exit")
    bomb.tell()


if __name__ == "__main__":
    obey_orders(carry_out)
