"""The only durable memory of the agent: where each promise stands, in one SQLite file."""

from tidegate.ledger.cycles import Cycle
from tidegate.ledger.downloads import Brought, Downloads
from tidegate.ledger.events import Event, Events
from tidegate.ledger.posts import Post
from tidegate.ledger.promises import Ledger
from tidegate.ledger.queries import Books, Entry, Pause
from tidegate.ledger.settling import Settled
from tidegate.ledger.uploads import OpenUpload

__all__ = [
    "Books",
    "Brought",
    "Cycle",
    "Downloads",
    "Entry",
    "Event",
    "Events",
    "Ledger",
    "OpenUpload",
    "Pause",
    "Post",
    "Settled",
]
