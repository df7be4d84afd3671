"""From promises to carriers: claim what may be sent, see that it is still there, hand it over."""

from __future__ import annotations

import logging
import threading
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tidegate.disk.walk import is_current
from tidegate.errors import Refused, Unavailable
from tidegate.logs import about
from tidegate.model import State

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from tidegate.carry import Carrier
    from tidegate.ledger import Ledger
    from tidegate.model import Transfer

DEPTH = 128
"""Promises in one lane at a time: enough to keep the carrier busy, few to wait behind a large file."""

BATCH = 256
HANDS = 8
"""Threads that hand over. The carrier's answer takes a millisecond or so; meanwhile the others go on."""

log = logging.getLogger(__name__)


@dataclass(slots=True)
class _HandedOver:
    """What became of each promise of a batch."""

    receipts: list[tuple[bytes, str, int]] = field(default_factory=list)
    refused: list[tuple[bytes, str]] = field(default_factory=list)
    left: list[tuple[bytes, str]] = field(default_factory=list)
    unavailable: Unavailable | None = None


def dispatch(source: str, carrier: Carrier, ledger: Ledger, *, now: float) -> int:
    """Hand over one batch of the source's promises. Returns how many were dealt with.

    Raises `Unavailable` when the carrier takes nothing; the promises then stay as they were.
    """
    lanes = carrier.lanes(source)
    waiting = ledger.in_flight(source)
    room = sum(max(0, DEPTH - waiting.get(lane, (0, 0))[0]) for lane in lanes)
    claimed = ledger.claim(source, limit=min(room, BATCH), now=now) if room else []
    transfers = _still_there(claimed, ledger, now)
    if not transfers:
        return len(claimed)
    result = _hand_over(carrier, _spread(transfers, lanes, waiting))
    ledger.sent(result.receipts)
    if result.left:
        ledger.give_back(result.left, now=now)
    for transfer, state, note in ledger.refuse(result.refused, now=now) if result.refused else ():
        log_broken(transfer, state, note)
    if result.unavailable and not result.receipts:
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
    transfers: Iterable[Transfer], lanes: Sequence[str], waiting: dict[str, tuple[int, int]]
) -> deque[tuple[Transfer, str]]:
    """Give each promise the lane in which the fewest bytes wait, so that small files pass large ones."""
    loads = {lane: list(waiting.get(lane, (0, 0))) for lane in lanes}
    work: deque[tuple[Transfer, str]] = deque()
    for transfer in transfers:
        free = [lane for lane in lanes if loads[lane][0] < DEPTH]
        lane = min(free, key=lambda lane: loads[lane][1])
        loads[lane][0] += 1
        loads[lane][1] += transfer.body.fingerprint.size + 4096  # an empty file takes its time, too
        work.append((transfer, lane))
    return work


def _hand_over(carrier: Carrier, work: deque[tuple[Transfer, str]]) -> _HandedOver:
    result = _HandedOver()

    def hand() -> None:
        while True:
            try:
                transfer, lane = work.popleft()
            except IndexError:
                return
            if result.unavailable:
                result.left.append((transfer.id, str(result.unavailable)))
                continue
            try:
                result.receipts.append((transfer.id, lane, carrier.start(transfer, lane)))
            except Refused as err:
                result.refused.append((transfer.id, str(err)))
            except Unavailable as err:
                result.unavailable = err
                result.left.append((transfer.id, str(err)))
            except Exception as err:  # a bug; but no promise may stand for ever as if it were under way
                log.exception("%s could not be handed over", transfer.body.path)
                result.refused.append((transfer.id, f"could not be handed over: {err!r}"))

    hands = [
        threading.Thread(target=hand, daemon=True, name="hand") for _ in range(min(HANDS, len(work)) - 1)
    ]
    for thread in hands:
        thread.start()
    hand()
    for thread in hands:
        thread.join()
    return result
