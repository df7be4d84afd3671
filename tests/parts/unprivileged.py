"""Does one thing as a user with no rights, since the tests themselves may run as root.

    python -m tests.parts.unprivileged scan FOLDER
    python -m tests.parts.unprivileged has-writer FILE
    python -m tests.parts.unprivileged release FILE

prints the answer as JSON.
"""

from __future__ import annotations

import codecs
import json
import os
import sys
from pathlib import Path
from typing import Any

from tests.helpers import later, the_source, version_of
from tidegate.disk.release import delete, release
from tidegate.disk.writers import has_writer, opened, take_lease
from tidegate.flows.scan import Scanner
from tidegate.ledger import Ledger

NOBODY = 65_534


def scan(folder: str) -> Any:
    """Scan `**/*.csv` twice; tell what was promised, and what was found wrong."""
    ledger = Ledger(None, jitter=float)
    source = the_source(folder, "**/*.csv", HoldBack="None")
    scanner = Scanner(source, ledger, carrier="streams", thing="t", never=frozenset())
    first, second = scanner.scan(later()), scanner.scan(later(120))
    return {
        "promised": sorted(one.body.path for one in ledger.claim("default", "streams", limit=100, now=0)),
        "problems": first.problems,
        "again": second.problems,
        "held": {held.path: held.why.name for held in first.held},
    }


def writer(path: str) -> Any:
    with opened(path) as descriptor:
        lease = take_lease(descriptor)
    return {"lease": lease, "writer": has_writer(path)}


def let_go(path: str) -> Any:
    (released,) = release([version_of(Path(path))], delete)
    return {"fate": released.fate.name, "note": released.note}


def main() -> None:
    command, path = sys.argv[1:]
    if os.geteuid() == 0:
        codecs.lookup("ascii")  # what is imported late must be imported while it can still be read
        Ledger(None, jitter=float).close()
        os.setegid(NOBODY)
        os.setgroups([])
        os.seteuid(NOBODY)
    print(json.dumps({"scan": scan, "has-writer": writer, "release": let_go}[command](path)))


if __name__ == "__main__":
    main()
