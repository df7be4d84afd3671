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


def share(
    journal: Journal, looker: Looker, judge: Callable[[Found | None, State], State]
) -> tuple[float, bool]:
    """Ask for each object of the sample that was not there yet.

    Returns the part that is there now, and whether any is still under way: one that was refused, or whose
    request was lost, is neither. Costs as many requests at most as the sample is large, however many
    objects there are.
    """
    ready, others = journal.sample()
    seen, is_coming = [], False
    for bucket, rows in groupby(others, key=lambda row: row[1]):
        some = list(rows)
        found = looker.ask(bucket, [(key, version) for _, _, key, version in some])
        states = [judge(it, State.ASKED) for it in found]
        is_coming = is_coming or State.ASKED in states
        seen += [
            row[0] for row, state in zip(some, states, strict=True) if state in (State.READY, State.FAILED)
        ]
    journal.sampled(seen)
    return (ready + len(seen)) / max(1, ready + len(others)), is_coming


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
