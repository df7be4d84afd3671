"""What can be asked of an agent, and what it can be told to do: the same behind every door."""

from tidegate.routes.bodies import posted_sources
from tidegate.routes.routes import Routes
from tidegate.routes.site import Site
from tidegate.routes.unready import Unready
from tidegate.routes.wire import REPLY_BYTES, REQUEST_BYTES, Reply

__all__ = ["REPLY_BYTES", "REQUEST_BYTES", "Reply", "Routes", "Site", "Unready", "posted_sources"]
