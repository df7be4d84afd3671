"""Posted objects while they wait: each body a file in the spool, each batch with a list of where they go.

The list is there so that nothing is lost with a ledger: what was accepted is promised again from it.
"""

from __future__ import annotations

import json
import logging
import os
import posixpath
import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from tidegate.config import After, Evict, HoldBack
from tidegate.config.pattern import Glob
from tidegate.model import ObjectRef, State, Transfer
from tidegate.spool import Spool

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path
    from typing import BinaryIO

    from tidegate.config import Config, Source
    from tidegate.ledger import Ledger
    from tidegate.model import Candidate

WRITERS = 4
"""Bodies of a batch that are written at a time: a disk makes several durable for the price of one."""

_LIST = ".list"
_SUFFIX = re.compile(r"\.[A-Za-z0-9]{1,16}")

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Body:
    """One object: how its bytes are written, what it is to be called, and what goes with it."""

    source: Source
    target: ObjectRef
    size: int
    write: Callable[[BinaryIO], object]
    metadata: Mapping[str, str]


def folder_of(work: Path) -> Path:
    """Where posted bodies are."""
    return work / "spool" / "objects"


def posted_sources(config: Config, work: Path) -> tuple[Source, ...]:
    """Make the ways of posted objects: `objects`, where there is one, and one beside each source.

    The latter is called as the source with `.objects` behind, which no name of a user's can be.
    """
    ways = [(config.objects, config.objects.name)] if config.objects else []
    ways += [(source, posted_name(source.name)) for source in config.sources]
    return tuple(_posted(source, name, work) for source, name in ways)


def posted_name(source: str) -> str:
    """Return what the way of objects is called that are posted for a source."""
    return f"{source}.objects"


def _posted(source: Source, name: str, work: Path) -> Source:
    return replace(
        source,
        name=name,
        glob=Glob.parse(f"{folder_of(work)}/*"),
        hold_back=HoldBack.NONE,
        after=After.DELETE,
        move_to=None,
        delete_after_seconds=0.0,
        prune_empty_directories=False,
        disk_limit=None,
        evict=Evict.NEVER,
    )


class Bodies:
    """The folder of posted bodies. What `keep` returned is on the disk."""

    def __init__(self, work: Path, config: Config) -> None:
        limits = {source.glob.root: source.disk_limit for source in config.sources if source.disk_limit}
        self._spool = Spool(folder_of(work), limits=limits)

    def keep(self, bodies: Sequence[Body]) -> list[Candidate]:
        """Write a batch. Raises Unavailable where there is no room for it: then there is nothing of it."""
        batch = os.urandom(12).hex()
        names = [f"{batch}-{number}{_suffix(body.target.key)}" for number, body in enumerate(bodies)]
        listed = json.dumps([_entry(name, body) for name, body in zip(names, bodies, strict=True)]).encode()
        try:
            # The room for all of it is asked for once, and what makes the list durable does so for the names.
            with self._spool.body(
                f"{batch}{_LIST}", size=len(listed) + sum(body.size for body in bodies)
            ) as file:
                self._write_all(names, bodies)
                file.write(listed)
        except BaseException:
            for name in names:
                self._spool.remove(name)
            raise
        return [self._spool.candidate(name) for name in names]

    def _write_all(self, names: Sequence[str], bodies: Sequence[Body]) -> None:
        if len(bodies) < WRITERS:
            list(map(self._write, names, bodies))
            return
        with ThreadPoolExecutor(WRITERS) as pool:
            list(pool.map(self._write, names, bodies))

    def _write(self, name: str, body: Body) -> None:
        with self._spool.path(name).open("xb") as file:
            body.write(file)
            file.flush()
            os.fsync(file.fileno())

    def recover(self, ledger: Ledger, ways: Sequence[Source], carrier: Mapping[str, str], now: float) -> int:
        """Promise what was kept and is not promised; forget lists that nothing is left of. Returns how many.

        For the start. Bodies that are in no list were never accepted, and are deleted.
        """
        known = {way.name for way in ways}
        listed: set[str] = set()
        count = 0
        for name in self._spool.names():
            if not name.endswith(_LIST):
                continue
            entries = [one for one in self._read(name) if self._spool.path(one["name"]).exists()]
            listed.update(one["name"] for one in entries)
            if not entries:
                self._spool.remove(name)
                continue
            listed.add(name)
            mine = [one for one in entries if one["source"] in known]
            for one in entries:
                if one["source"] not in known:
                    log.error(
                        "%s waits for the source %s, which is not configured", one["key"], one["source"]
                    )
            transfers = [_transfer_of(self._spool.candidate(one["name"]), one, carrier) for one in mine]
            stand = ledger.known([transfer.id for transfer in transfers])
            new = [one for one in transfers if stand.get(one.id, State.DROPPED) is State.DROPPED]
            count += ledger.offer([(transfer, "") for transfer in new], now=now)
        self._spool.sweep(listed.__contains__)
        return count

    def tidy(self) -> int:
        """Delete the lists of which nothing is left. Returns how many."""
        lists = [name for name in self._spool.names() if name.endswith(_LIST)]
        left = {name.partition("-")[0] for name in self._spool.names()}  # later: bodies are older than lists
        over = [name for name in lists if name.removesuffix(_LIST) not in left]
        for name in over:
            self._spool.remove(name)
        return len(over)

    def _read(self, name: str) -> Iterator[dict[str, Any]]:
        try:
            yield from json.loads(self._spool.path(name).read_bytes())
        except (OSError, ValueError) as err:
            log.error("the list %s of posted objects cannot be read: %s", name, err)  # noqa: TRY400


def as_promised(kept: Candidate, body: Body, carrier: str) -> Transfer:
    """Make the promise about a body that was kept."""
    return Transfer(
        id=kept.identity(body.source.name),
        source=body.source.name,
        carrier=carrier,
        body=kept,
        target=body.target,
        metadata=body.metadata,
    )


def _transfer_of(body: Candidate, one: Mapping[str, Any], carrier: Mapping[str, str]) -> Transfer:
    """Make the promise about a body that a list speaks of."""
    return Transfer(
        id=body.identity(one["source"]),
        source=one["source"],
        carrier=carrier[one["source"]],
        body=body,
        target=ObjectRef(one["bucket"], one["key"]),
        metadata=one["metadata"],
    )


def _entry(name: str, body: Body) -> dict[str, Any]:
    target = body.target
    return {
        "name": name,
        "source": body.source.name,
        "bucket": target.bucket,
        "key": target.key,
        "metadata": dict(body.metadata),
    }


def _suffix(key: str) -> str:
    """Return the end of a key by which the type of the content is guessed."""
    suffix = posixpath.splitext(key)[1]
    return suffix if _SUFFIX.fullmatch(suffix) and suffix != _LIST else ""
