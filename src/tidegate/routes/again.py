"""restart: the agent is started anew, on the same ledger and in the same process. No nucleus counts that."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tidegate.routes.wire import TOKEN

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tidegate.routes.site import Site

RESTART = (TOKEN,)


def restart(site: Site, _: Mapping[str, Any]) -> dict[str, Any]:
    """End this agent once all is answered; another one takes its place."""
    site.agent.is_over = True
    site.agent.woken.set()
    return {}
