"""What can go wrong, as a caller needs to know it.

Two questions decide what happens to a promise: does trying again help (`Unavailable`), or does it
not (`Refused`)? Foreign exceptions are translated into one of the two in the only module that imports
their library. The rest of this tree is about starting up.

    TidegateError
    ├── Unavailable        try again later; costs no attempt
    ├── Refused            trying again is unlikely to help; costs an attempt
    │   └── NotAllowed     for want of a right that a deployment may yet give
    ├── ConfigFaults       the configuration is wrong, with all faults listed
    ├── Locked             another agent owns this work directory
    ├── NucleusGone        what started us cannot be reached; only another process can
    └── LedgerLost         the ledger cannot be read or written any more
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


class TidegateError(Exception):
    """Any failure that tidegate expects."""


class Unavailable(TidegateError):  # noqa: N818 - the vocabulary of the project
    """Something is away or busy. The promise stays as it is and is tried again without end."""


class Refused(TidegateError):  # noqa: N818 - the vocabulary of the project
    """Something said no. A few more tries, then quarantine."""


class NoRoom(Refused):
    """It does not fit on the disk, or in a folder, at the moment."""


class NotAllowed(Refused):
    """Somebody has not given us the right. It may come with the next deployment."""


class ConfigFaults(TidegateError):  # noqa: N818 - it holds several
    """Everything that is wrong with a configuration, one sentence each.

    Each sentence names the key path, the value and the remedy.
    """

    def __init__(self, faults: Sequence[str]) -> None:
        super().__init__("\n".join(faults))
        self.faults = tuple(faults)


class Locked(TidegateError):  # noqa: N818 - it is a state, not a mishap
    """Another agent owns the work directory."""


class NucleusGone(TidegateError):  # noqa: N818 - it is a state, not a mishap
    """The connection to the nucleus is lost, and our token void: only another process gets another."""


class LedgerLost(TidegateError):  # noqa: N818 - it is a state, not a mishap
    """The ledger is damaged or its disk is full. `damaged` tells the two apart."""

    def __init__(self, reason: str, *, damaged: bool) -> None:
        super().__init__(reason)
        self.damaged = damaged
