"""From carriers back to the ledger: write down what became of each promise."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from tidegate.flows.dispatch import log_broken
from tidegate.logs import about

if TYPE_CHECKING:
    from collections.abc import Collection

    from tidegate.carry import Carrier
    from tidegate.ledger import Ledger
    from tidegate.model import Outcome

log = logging.getLogger(__name__)


def collect(carrier: Carrier, ledger: Ledger, *, now: float) -> int:
    """Write down one batch of the carrier's news. Returns how many pieces there were.

    Waits a moment for news. Raises `Unavailable` when the carrier cannot be asked.
    """
    news = carrier.news(ledger.position(carrier.name))
    if news.position is None and not news.outcomes:
        return 0
    _settle(carrier, ledger, news.outcomes, position=news.position, now=now)
    if news.garbled:
        ledger.add({"statuses_garbled": news.garbled})
    return len(news.outcomes)


def audit(carrier: Carrier, ledger: Ledger, *, now: float) -> int:
    """Find promises that will get no news, and make them good. Returns how many there were."""
    found = 0
    for outcomes in carrier.audit():
        if outcomes:
            found += len(outcomes)
            _settle(carrier, ledger, outcomes, position=None, now=now)
            ledger.add({"statuses_missed": len(outcomes)})
    return found


def _settle(
    carrier: Carrier, ledger: Ledger, outcomes: Collection[Outcome], *, position: int | None, now: float
) -> None:
    settled = ledger.settle(carrier.name, outcomes, position=position, now=now)
    for transfer in settled.stored:
        carrier.finished(transfer)
        if log.isEnabledFor(logging.INFO):
            log.info(
                "%s is stored as %s (%d bytes)",
                transfer.body.path,
                transfer.target,
                transfer.body.fingerprint.size,
                extra=about("stored", transfer),
            )
    for transfer, note in settled.changed:
        log.warning(
            "%s changed while it was uploaded, nothing of it was stored; its new version goes next: %s",
            transfer.body.path,
            note,
            extra=about("changed_during_upload", transfer, reason=note),
        )
    for transfer, state, note in settled.broken:
        log_broken(transfer, state, note)
    for bucket, note in settled.blocked.items():
        log.error("bucket %s refuses everything and is paused, nothing is lost: %s", bucket, note)
    for bucket in settled.resumed:
        log.warning("bucket %s works again", bucket)
