"""The only durable memory of the agent: where each promise stands, in one SQLite file."""

from tidegate.ledger.promises import Ledger
from tidegate.ledger.queries import Books, Entry, Pause
from tidegate.ledger.settling import Settled
from tidegate.ledger.uploads import OpenUpload

__all__ = ["Books", "Entry", "Ledger", "OpenUpload", "Pause", "Settled"]
