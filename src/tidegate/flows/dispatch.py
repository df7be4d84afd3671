"""From promises to carriers: claim what may be sent, see that it is still there, hand it over."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tidegate.disk.walk import is_current
from tidegate.errors import Refused, Unavailable
from tidegate.logs import about
from tidegate.model import State

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from tidegate.carry import Answer, Carrier
    from tidegate.ledger import Ledger
    from tidegate.model import Transfer

BATCH = 512

log = logging.getLogger(__name__)


@dataclass(slots=True)
class _HandedOver:
    """What became of each promise of a batch."""

    taken: int = 0
    receipts: list[tuple[bytes, str, int]] = field(default_factory=list)
    refused: list[tuple[bytes, str]] = field(default_factory=list)
    left: list[tuple[bytes, str]] = field(default_factory=list)
    unavailable: Unavailable | None = None


def dispatch(source: str, carrier: Carrier, ledger: Ledger, *, now: float, newest_first: bool = False) -> int:
    """Hand over one batch of the source's promises. Returns how many were dealt with.

    Raises `Unavailable` when the carrier takes nothing; the promises then stay as they were.
    """
    lanes = carrier.lanes(source)
    waiting = ledger.in_flight(source)
    room = sum(max(0, carrier.depth - waiting.get(lane, (0, 0))[0]) for lane in lanes)
    limit = min(room, BATCH)
    claimed = (
        ledger.claim(source, carrier.name, limit=limit, now=now, newest_first=newest_first) if limit else []
    )
    transfers = _still_there(claimed, ledger, now)
    if not transfers:
        return len(claimed)
    result = _hand_over(carrier, _spread(transfers, lanes, waiting, carrier.depth))
    if result.receipts:
        ledger.sent(result.receipts)
    if result.left:
        ledger.give_back(result.left, now=now)
    for transfer, state, note in ledger.refuse(result.refused, now=now) if result.refused else ():
        log_broken(transfer, state, note)
    if result.unavailable and not result.taken:
        raise result.unavailable
    return len(claimed)


def log_broken(transfer: Transfer, state: State, note: str) -> None:
    """Tell of a promise that was refused, once for each time."""
    fate = "goes to quarantine" if state is State.FAILED else "is tried again"
    event = "quarantined" if state is State.FAILED else "refused"
    log.warning("%s %s: %s", transfer.body.path, fate, note, extra=about(event, transfer, reason=note))


def _still_there(claimed: Sequence[Transfer], ledger: Ledger, now: float) -> list[Transfer]:
    """Drop those whose file is not what was promised any more: a scan promises what is there instead."""
    current, dropped, unsure = [], [], []
    for transfer in claimed:
        try:
            if is_current(transfer.body):
                current.append(transfer)
            else:
                dropped.append((transfer, "files_dropped", "changed or gone before it was sent"))
        except OSError as err:
            unsure.append((transfer.id, f"cannot be looked at: {err.strerror}"))
    if dropped:
        ledger.drop(dropped, now=now)
    if unsure:
        ledger.refuse(unsure, now=now)
    return current


def _spread(
    transfers: Iterable[Transfer], lanes: Sequence[str], waiting: dict[str, tuple[int, int]], depth: int
) -> list[tuple[Transfer, str]]:
    """Give each promise the lane in which the fewest bytes wait, so that small files pass large ones."""
    loads = {lane: list(waiting.get(lane, (0, 0))) for lane in lanes}
    tasks = []
    for transfer in transfers:
        free = [lane for lane in lanes if loads[lane][0] < depth]
        lane = min(free, key=lambda lane: loads[lane][1])
        loads[lane][0] += 1
        loads[lane][1] += transfer.body.fingerprint.size + 4096  # an empty file takes its time, too
        tasks.append((transfer, lane))
    return tasks


def _hand_over(carrier: Carrier, tasks: Sequence[tuple[Transfer, str]]) -> _HandedOver:
    result = _HandedOver()
    for (transfer, lane), answer in zip(tasks, _answers(carrier, tasks), strict=True):
        if answer is None or isinstance(answer, int):
            result.taken += 1
        if isinstance(answer, int):
            result.receipts.append((transfer.id, lane, answer))
        elif isinstance(answer, Refused):
            result.refused.append((transfer.id, str(answer)))
        elif isinstance(answer, Unavailable):
            result.unavailable = answer
            result.left.append((transfer.id, str(answer)))
    return result


def _answers(carrier: Carrier, tasks: Sequence[tuple[Transfer, str]]) -> Sequence[Answer]:
    try:
        return carrier.start(tasks)
    except Exception as err:  # a bug: no promise may stand as if it were under way, no other suffer for it
        if len(tasks) > 1:
            return [answer for task in tasks for answer in _answers(carrier, [task])]
        log.exception("%s could not be handed over", tasks[0][0].body.path)
        return [Refused(f"could not be handed over: {err!r}")]
