"""Lists of what was given up for want of room: written before it is, and sent to the bucket like any file.

A list stands in a folder of our own, one JSON object a line, and is promised as a file of the source
whose files it names. Once it is stored and the retention of that source is over it is deleted, whether the
source's own files are deleted, moved or kept. A line may stand in two lists, and may name a file that
was spared at the last moment.
"""

from __future__ import annotations

import dataclasses
import json
import logging
import os
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING

from tidegate.config.naming import KeyTemplate
from tidegate.disk.walk import fsync_folder
from tidegate.errors import Refused
from tidegate.model import Candidate, Fingerprint, ObjectRef, State, Transfer

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tidegate.config import Source
    from tidegate.ledger import Ledger

MARK = "tidegate-manifest"
"""Metadata by which the promise of a list is known, also in the bucket."""

GROWING_BYTES = 64 * 1024
"""A list that waits to be sent takes up the lines of the next one until it is so large."""

_KEY = KeyTemplate.parse("{prefix}/tidegate-evicted/{thing}/{name}")
_PART = ".part"

log = logging.getLogger(__name__)


class Manifests:
    """Writes the lists of one agent into its folder, which nobody else uses."""

    def __init__(self, ledger: Ledger, folder: Path, thing: str, choose: Callable[[Source], str]) -> None:
        """`choose` names the carrier of a source."""
        self._ledger = ledger
        self._choose = choose
        self._folder = folder
        self._thing = thing
        self._written = 0
        self._growing: dict[str, Transfer] = {}

    def write(self, source: Source, victims: Sequence[Transfer], reason: str, *, now: float) -> Transfer:
        """Promise a durable list of the victims; without it none may be deleted.

        Raises OSError when there is no room for it, Refused when it can have no key.
        """
        lines = "".join(_line(victim, reason, now) for victim in victims)
        before = self._take_growing(source, now)
        path = None
        try:
            if before:
                lines = Path(before.body.path).read_text("ascii") + lines
            path = self._write(lines, now)
            transfer = self._promise(source, path, now)
        except BaseException:
            if before:
                self._ledger.give_back([(before.id, "")], now=now)
            if path:
                path.unlink(missing_ok=True)
            raise
        if before:
            Path(before.body.path).unlink(missing_ok=True)
            self._ledger.evictions.replaced(before, f"goes as {transfer.target.key}", now=now)
        if len(lines) < GROWING_BYTES:
            self._growing[source.name] = transfer
        return transfer

    def _take_growing(self, source: Source, now: float) -> Transfer | None:
        """Take the last list of the source back, if it may grow and nobody sends it yet."""
        before = self._growing.pop(source.name, None)
        return before if before and self._ledger.evictions.claim([before], now=now) else None

    def adopt(self, sources: Sequence[Source], *, now: float) -> None:
        """Promise the lists that the ledger does not know: it was lost, or the process died."""
        try:
            paths = sorted(self._folder.iterdir())
        except OSError:  # there is none yet; what else is wrong with it is told when one is to be written
            return
        for path in paths:
            try:
                self._adopt(sources, path, now)
            except (OSError, ValueError, KeyError, TypeError, Refused) as err:
                log.warning("%s is no list of ours that could be sent, and stays: %r", path, err)

    def _adopt(self, sources: Sequence[Source], path: Path, now: float) -> None:
        if path.suffix == _PART:
            path.unlink()
            return
        with path.open(encoding="ascii") as file:
            listed = json.loads(file.readline())["source"]
        for source in sources:
            if source.name == listed:
                id_ = _version_of(path).identity(source.name)
                state = self._ledger.known([id_]).get(id_, State.DROPPED)
                if state is State.DROPPED:
                    self._promise(source, path, now)
                elif state is State.DONE:
                    path.unlink()

    def _write(self, lines: str, now: float) -> Path:
        """Make a durable file."""
        self._folder.mkdir(parents=True, exist_ok=True)
        self._written += 1
        moment = datetime.fromtimestamp(now, timezone.utc).strftime("%Y%m%dT%H%M%S.%fZ")
        path = self._folder / f"evicted-{moment}-{self._written}.jsonl"
        part = path.with_suffix(_PART)
        try:
            with part.open("x", encoding="ascii") as file:
                file.write(lines)
                file.flush()
                os.fsync(file.fileno())
            part.rename(path)
            fsync_folder(str(self._folder))
        except OSError:
            part.unlink(missing_ok=True)
            raise
        return path

    def _promise(self, source: Source, path: Path, now: float) -> Transfer:
        body = _version_of(path)
        template = dataclasses.replace(_KEY, escaping=source.escaping, suffix=source.key.suffix)
        key = template.render(
            prefix=source.prefix,
            thing=self._thing,
            source=source.name,
            path=path.name,
            mtime_ns=body.fingerprint.mtime_ns,
            now=now,
        )
        transfer = Transfer(
            id=body.identity(source.name),
            source=source.name,
            carrier=self._choose(source),
            body=body,
            target=ObjectRef(source.bucket, key),
            metadata={MARK: "evicted"},
        )
        self._ledger.offer([(transfer, "")], now=now)
        return transfer


def let_go(stored: Sequence[Transfer], ledger: Ledger, *, now: float) -> list[Transfer]:
    """Delete the lists among what is stored. Returns the others."""
    lists = [transfer for transfer in stored if MARK in transfer.metadata]
    for transfer in lists:
        Path(transfer.body.path).unlink(missing_ok=True)
    if lists:
        ledger.done([(transfer, "manifests_deleted", "") for transfer in lists], now=now)
    return [transfer for transfer in stored if MARK not in transfer.metadata]


def _line(victim: Transfer, reason: str, now: float) -> str:
    """Describe a file that is given up. Times are in seconds since 1970."""
    mark = victim.body.fingerprint
    told = {
        "path": victim.body.path,
        "size": mark.size,
        "mtime": mark.mtime_ns / 1e9,
        "source": victim.source,
        "bucket": victim.target.bucket,
        "key": victim.target.key,
        "reason": reason,
        "time": now,
    }
    return json.dumps(told, ensure_ascii=True) + "\n"


def _version_of(path: Path) -> Candidate:
    return Candidate(str(path), Fingerprint.of(path.stat()))
