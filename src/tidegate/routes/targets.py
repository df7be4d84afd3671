"""Where a posted object goes, and whether a file may go now."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

from tidegate.config.naming import original_name
from tidegate.config.schema import show
from tidegate.disk.walk import inside, lies_in, relative
from tidegate.disk.writers import has_writer
from tidegate.errors import Refused
from tidegate.model import Candidate, Fingerprint, ObjectRef
from tidegate.policy import NAME_METADATA, plan
from tidegate.routes.bodies import Body, posted_name
from tidegate.routes.wire import Rejected

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import BinaryIO

    from tidegate.config import Source
    from tidegate.model import Transfer
    from tidegate.routes.posting import Wanted
    from tidegate.routes.site import Site


def body_of(site: Site, wanted: Wanted, *, size: int, write: Callable[[BinaryIO], object]) -> Body:
    """Decide what an object is called. Raises Rejected."""
    way = way_of(site, wanted.source)
    now = site.clock.wall()
    try:
        key = way.key.render(
            prefix=way.prefix,
            thing=site.thing,
            source=way.name.removesuffix(".objects"),
            path=wanted.key,
            mtime_ns=int(now * 1e9),
            now=now,
            cycle=now,
        )
    except Refused as err:
        raise Rejected(
            400, "BadRequest", f"key: {show(wanted.key)} cannot be used: {err}; write another"
        ) from err
    natural = {NAME_METADATA: original_name(wanted.key)} if way.key.alters(wanted.key) else {}
    return Body(
        source=way,
        target=ObjectRef(way.bucket, key),
        size=size,
        write=write,
        metadata=natural | dict(wanted.metadata),
    )


def way_of(site: Site, source: str | None) -> Source:
    """Find the way of an object: that of the source it names, else Objects, else the only source's."""
    ways = {way.name.lower(): way for way in site.posted}
    if source is not None:
        way = ways.get(posted_name(source).lower())
        if way is None:
            raise unknown(site, source)
        return way
    if site.config.objects:
        return ways[site.config.objects.name]
    if len(ways) == 1:
        return next(iter(ways.values()))
    names = ", ".join(one.name for one in site.config.sources)
    raise Rejected(
        400, "BadRequest", f"source: is missing; write one of {names}, or configure Objects with a BucketName"
    )


def unknown(site: Site, source: str) -> Rejected:
    """Say that there is no such source."""
    names = ", ".join(one.name for one in site.config.sources) or "none, for there are no sources"
    return Rejected(404, "NotFound", f'source: "{source[:80]}" is not configured; write one of {names}')


def files_of(site: Site, wanted: Wanted) -> list[Transfer]:
    """Promise a file to each source that it belongs to, or to the one that is named. Raises Rejected.

    It need not have been left alone for any time, but nobody may have it open for writing.
    """
    path = os.path.normpath(wanted.path)  # without following links
    if wanted.source is not None and site.source(wanted.source) is None:
        raise unknown(site, wanted.source)
    named = [
        source
        for source in site.config.sources
        if wanted.source is None or source.name.lower() == wanted.source.lower()
    ]
    sources = [source for source in named if _belongs(path, source) and not lies_in(path, site.never)]
    if not sources:
        raise Rejected(
            404,
            "NotFound",
            f'path: "{path[:200]}" belongs to no source: explain says why; or post its bytes',
        )
    try:
        mark = _look(path, sources[0])
        if has_writer(path):
            raise Rejected(
                409, "Conflict", f'path: "{path[:200]}" is open for writing; post it again when it is closed'
            )
    except OSError as err:
        raise Rejected(
            404, "NotFound", f'path: "{path[:200]}" cannot be read: {err.strerror}; write another'
        ) from err
    transfers = []
    now = site.clock.wall()
    for source in sources:
        transfer, refusal = plan(
            source,
            Candidate(path, mark),
            carrier=site.choose(source)[0],
            thing=site.thing,
            now=now,
            cycle=now,
        )
        if refusal:
            raise Rejected(400, "BadRequest", f'path: "{path[:200]}" can never be sent: {refusal}; rename it')
        transfers.append(transfer)
    return transfers


def _belongs(path: str, source: Source) -> bool:
    return source.glob.match_path(path) and not source.exclude.which_on_the_way(
        relative(path, source.glob.root)
    )


def _look(path: str, source: Source) -> Fingerprint:
    status = os.lstat(path)
    if stat.S_ISLNK(status.st_mode) and source.follow_symlinks and inside(path, source.glob.root):
        status = os.stat(path)  # noqa: PTH116
    if not stat.S_ISREG(status.st_mode):
        raise Rejected(
            400, "BadRequest", f'path: "{path[:200]}" is not a regular file; write the path of one'
        )
    return Fingerprint.of(status)
