"""From stored promises to free disk space: delete, move or keep the files, each only if it is unchanged."""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING

from tidegate.config import After
from tidegate.disk.release import Fate, Released, delete, move_to, put_back, release
from tidegate.disk.walk import is_current, relative
from tidegate.flows.archives import let_go_archives, prune
from tidegate.flows.manifest import let_go
from tidegate.logs import about
from tidegate.model import State

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from tidegate.config import Source
    from tidegate.ledger import Ledger
    from tidegate.model import Candidate, Transfer

BATCH = 512


log = logging.getLogger(__name__)


def release_stored(
    source: Source,
    ledger: Ledger,
    *,
    others: Iterable[Source] = (),
    ignores: Callable[[Source, Candidate], bool] = lambda *_: False,
    now: float,
) -> int:
    """Deal with one batch of the source's stored files. Returns how many there were.

    A file that is meant for `others`, too, stays until each of them has stored it, but those that ignore it.
    """
    if source.after is After.KEEP and source.disk_limit is None:
        return ledger.kept(source.name, limit=BATCH, now=now)
    stored = ledger.stored(source.name, retention_seconds=source.delete_after_seconds, limit=BATCH, now=now)
    transfers = let_go_archives(source, let_go(stored, ledger, now=now), ledger, now=now)
    if not transfers:
        return len(stored)
    if source.after is After.KEEP:
        ledger.done([(transfer, "files_kept", "") for transfer in transfers], now=now)
        return len(stored)
    near = [other for other in others if _overlap(source, other)]
    free = _not_needed(transfers, near, ledger, ignores, now)
    dispose = move_to(source.move_to, source.glob.root) if source.move_to else delete
    released = release([transfer.body for transfer in free], dispose)
    _write_down(source, ledger, {transfer.body: transfer for transfer in free}, released, now)
    if source.prune_empty_directories:
        prune({os.path.dirname(transfer.body.path) for transfer in free}, source.glob.root)
    return len(stored)


def return_leftovers(folders: Iterable[str]) -> int:
    """Put back what a process that died left in private folders. Returns how many files."""
    returned = 0
    for folder in folders:
        try:
            paths = put_back(folder)
        except FileNotFoundError:
            continue  # it was in use when it was seen
        except OSError as err:
            log.warning("%s holds files that cannot be put back: %s", folder, err)
            continue
        for path in paths:
            log.warning("%s is back in its place: the agent had died while releasing it", path)
        returned += len(paths)
    return returned


def _not_needed(
    transfers: Sequence[Transfer],
    others: Sequence[Source],
    ledger: Ledger,
    ignores: Callable[[Source, Candidate], bool],
    now: float,
) -> Sequence[Transfer]:
    """Leave out what another source is yet to store: that is looked at again later."""
    if not others:
        return transfers
    free = []
    for transfer in transfers:
        body = transfer.body
        ids = {body.identity(other.name): other for other in others if _means(other, body.path)}
        states = ledger.known(list(ids))
        missing = [
            id_
            for id_, other in ids.items()
            if states.get(id_) not in (State.STORED, State.DONE)
            and (id_ in states or not ignores(other, body))
        ]
        if not missing or not _is_there(body):
            free.append(transfer)
            continue
        under_way = all(states.get(id_) in (State.READY, State.SENT) for id_ in missing)
        names = ", ".join(ids[id_].name for id_ in missing)
        ledger.not_released([(transfer.id, f"source {names} has not stored it yet")], now=now, soon=under_way)
    return free


def _is_there(candidate: Candidate) -> bool:
    try:
        return is_current(candidate)
    except OSError:  # the release finds out why, and tells
        return False


def _overlap(source: Source, other: Source) -> bool:
    roots = [f"{one.glob.root.rstrip('/')}/" for one in (source, other)]
    return roots[0].startswith(roots[1]) or roots[1].startswith(roots[0])


def _means(source: Source, path: str) -> bool:
    below = relative(path, source.glob.root)
    return source.glob.match_path(path) and not source.exclude.which_on_the_way(below)


def _write_down(
    source: Source,
    ledger: Ledger,
    transfers: dict[object, Transfer],
    released: Iterable[Released],
    now: float,
) -> None:
    done, again = [], []
    for one in released:
        transfer = transfers[one.candidate]
        note = one.note or one.fate.value
        if one.fate in (Fate.FAILED, Fate.OPEN):
            again.append((transfer.id, note))
            extra = about("not_released", transfer, reason=note)
            log.warning("%s is stored but cannot be let go yet: %s", one.candidate.path, note, extra=extra)
            continue
        done.append((transfer, _counter(one.fate, source.after), note))
        if one.fate is Fate.CHANGED:
            extra = about("changed", transfer)
            log.info(
                "%s has changed since it was stored and goes again %s", transfer.body.path, note, extra=extra
            )
    if done:
        ledger.done(done, now=now)
    if again:
        ledger.not_released(again, now=now)


def _counter(fate: Fate, after: After) -> str:
    if fate is Fate.RELEASED:
        return "files_moved" if after is After.MOVE else "files_deleted"
    return "files_gone" if fate is Fate.GONE else "files_changed"
