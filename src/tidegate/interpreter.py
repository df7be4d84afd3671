"""How Python is set up for an agent: many threads, much that stays, quick answers; and how it ends."""

from __future__ import annotations

import gc
import os
import signal
import sys

TURN_SECONDS = 0.0005
"""How long a thread keeps Python to itself. With the usual 5 ms an answer waits long behind uploads."""

COLLECT_AFTER = (10_000, 10, 100)
"""New objects until Python looks for garbage among them; then how many such looks until one goes further."""


def take_short_turns() -> None:
    """Have threads take turns often."""
    sys.setswitchinterval(TURN_SECONDS)


def spare_the_collector() -> None:
    """Let Python not look for garbage among what is here to stay, and less often among the rest.

    All threads stand still meanwhile: 50 ms and more, when an answer takes 2.
    """
    if gc.get_freeze_count():  # an agent before this one may be garbage by now
        gc.unfreeze()
        gc.collect()
    gc.freeze()
    gc.set_threshold(*COLLECT_AFTER)


def end_as_told() -> None:
    """End the process by the signal that asked for it. The ledger must be closed.

    The classic nucleus takes code 0 as the end of our work and never starts us again; systemd, under
    nucleus lite, takes any other code as a failure. Who ends by SIGTERM is understood by both.
    """
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    os.kill(os.getpid(), signal.SIGTERM)
