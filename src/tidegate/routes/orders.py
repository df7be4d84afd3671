"""retry, scan, pause and resume: what the agent is told to do. Each may come twice without harm."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from tidegate.config.schema import Key, text
from tidegate.ledger.orders import EVERYTHING
from tidegate.routes.bodies import posted_name
from tidegate.routes.targets import unknown
from tidegate.routes.wire import SOURCE, TOKEN, Rejected

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tidegate.routes.site import Site


def _path(value: str) -> str:
    if not value.startswith("/") or "\0" in value:
        raise ValueError("is no absolute path; write for example /data/a.csv")
    return os.path.normpath(value)


PATH = Key("path", "path", text("path", _path), None, "Which file is meant.")
RETRY = (TOKEN, PATH)
ABOUT_SOURCE = (TOKEN, SOURCE)


def retry(site: Site, fields: Mapping[str, Any]) -> dict[str, Any]:
    """Try a file in quarantine again, or all of them, and let nothing wait any longer."""
    count = site.ledger.retry(fields["path"], now=site.clock.wall())
    site.agent.send_now()
    return {"files": count}


def scan(site: Site, fields: Mapping[str, Any]) -> dict[str, Any]:
    """Look for files now."""
    names = _names(site, fields["source"])
    for name in names:
        site.agent.scan_now(name)
    return {"sources": len(names)}


def pause(site: Site, fields: Mapping[str, Any]) -> dict[str, Any]:
    """Send nothing more, until told to resume. What is under way is finished."""
    names = _names(site, fields["source"])
    site.ledger.orders.pause(_with_objects(names) if fields["source"] else [EVERYTHING])
    return _paused(site)


def resume(site: Site, fields: Mapping[str, Any]) -> dict[str, Any]:
    """Send again."""
    if fields["source"] is None:
        site.ledger.orders.resume(None)
    else:
        names = _names(site, fields["source"])
        if EVERYTHING in site.ledger.orders.paused:
            raise Rejected(
                409,
                "Conflict",
                f'source: "{names[0]}" is paused with all others; leave source out to resume all',
            )
        site.ledger.orders.resume(_with_objects(names))
    site.agent.send_now()
    site.agent.scan_now()
    return _paused(site)


def _names(site: Site, source: str | None) -> list[str]:
    if source is None:
        return [one.name for one in site.config.sources]
    for one in site.all_sources():
        if one.name.lower() == source.lower():
            return [one.name]
    raise unknown(site, source)


def _with_objects(names: list[str]) -> list[str]:
    """A source is paused with the objects that are posted for it."""
    return [*names, *(posted_name(name) for name in names)]


def _paused(site: Site) -> dict[str, Any]:
    paused = site.ledger.orders.paused
    known = [one.name for one in site.all_sources()]
    names = known if EVERYTHING in paused else [name for name in known if name in paused]
    return {"paused": names[:20], "all": EVERYTHING in paused}
