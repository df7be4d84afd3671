"""Tells on standard output, and on standard error, how far a job is."""

from __future__ import annotations

import json
import shutil
import sys
from typing import TYPE_CHECKING

from tidegate.restore import render
from tidegate.restore.nouns import Phase

if TYPE_CHECKING:
    from tidegate.restore.journal import Journal


class Teller:
    """Tells of one job what was not told yet: events as JSON lines, or a line that is drawn over itself."""

    def __init__(self, journal: Journal, *, as_json: bool) -> None:
        self._journal = journal
        self._as_json = as_json
        self._seen = 0
        self._trouble = ""

    def tell(self) -> None:
        """Print what is new."""
        said = render.state(self._journal)
        if said["trouble"] and said["trouble"] != self._trouble:
            self._trouble = said["trouble"]
            self._complain(said["id"], self._trouble)
        if self._as_json:
            self._print_events(said["id"])
            return
        columns = shutil.get_terminal_size().columns or 80  # some terminals do not know
        print(render.bar(said, columns), end="", flush=True)
        if self._journal.phase() is Phase.ENDED:
            print(f"\n{render.details(said)}")

    def _print_events(self, name: str) -> None:
        for number, event in self._journal.events(self._seen):
            sys.stdout.write(f"{json.dumps(event)}\n")  # in one piece: other jobs write, too
            sys.stdout.flush()
            self._seen = number
            if event["Status"] != "Restoring" and (reason := event["detail"].get("reason")):
                self._complain(name, reason)

    def _complain(self, name: str, what: str) -> None:
        """Tell it in whole: the line that is drawn over itself ends with the terminal."""
        if self._as_json:
            sys.stderr.write(f"the job {name}: {what}\n")
        else:
            print(render.above(what), flush=True)
