"""Finds out how far restores are: by a sample while they are under way, by looking at all before the end."""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING

from tidegate.restore.nouns import WAITING, State
from tidegate.restore.plan import Draw

if TYPE_CHECKING:
    from collections.abc import Callable

    from tidegate.restore.journal import Journal
    from tidegate.restore.look import Looker
    from tidegate.store.archive_calls import Found


GONE = ("NoSuchKey", "the object was deleted after it was asked for")
_SAVE_EACH = 20


def share(journal: Journal, looker: Looker, judge: Callable[[Found | None, State], State]) -> float:
    """Ask for each object of the sample that was not there yet, and return the part that is there now.

    Costs as many requests at most as the sample is large, however many objects there are.
    """
    ready, others = journal.sample()
    if not ready and not others:
        return 0.0
    seen = []
    for bucket, rows in groupby(others, key=lambda row: row[1]):
        some = list(rows)
        found = looker.ask(bucket, [(key, version) for _, _, key, version in some])
        seen += [
            row[0]
            for row, it in zip(some, found, strict=True)
            if judge(it, State.ASKED) in (State.READY, State.FAILED)
        ]
    journal.sampled(seen)
    return (ready + len(seen)) / (ready + len(others))


def exact(
    journal: Journal,
    looker: Looker,
    judge: Callable[[Found | None, State], State],
    *,
    salt: str,
    check: Callable[[], None],
) -> None:
    """Look at every object under way, write down where it stands, and draw a new sample of what is left.

    `check` is called now and then, and what it raises ends it: what was seen until then is kept.
    """
    draw = Draw(salt)
    changed = []
    for sheet in journal.sheets(*WAITING):
        check()
        places = sheet.where(*WAITING)
        wanted = [(sheet.keys[at], sheet.version(at)) for at in places]
        for number, found in looker.look(sheet.bucket, wanted):
            at = places[number]
            state = judge(found, sheet.state(at))
            if state in WAITING:
                draw.offer(sheet.bucket, *wanted[number])
            else:
                sheet.set(at, state, GONE)
        changed.append(sheet)
        if len(changed) == _SAVE_EACH:
            journal.save(changed)
            changed.clear()
    journal.save(changed)
    journal.draw(draw.drawn())


def give_up(journal: Journal, why: tuple[str, str]) -> None:
    """Let everything that is WANTED have failed."""
    for sheet in journal.sheets(State.WANTED):
        for at in sheet.where(State.WANTED):
            sheet.set(at, State.FAILED, why)
        journal.save([sheet])
