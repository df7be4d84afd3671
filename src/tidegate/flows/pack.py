"""From a folder to a promise: list what is new in it, write that into one archive of ours, and promise it.

The body of an archive and the list of its members lie side by side in a spool of their own. An archive is
named after source, cycle and folder; as long as the ledger needs it, its members are not packed again.
"""

from __future__ import annotations

import hashlib
import logging
import os
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO

from tidegate.archive.members import SUFFIX, Sorter, line_of, read, without
from tidegate.archive.pack import Halted, MemberChanged, is_odd, pack, room_for
from tidegate.config.naming import original_name
from tidegate.disk.walk import Walk, relative
from tidegate.disk.writers import has_writer
from tidegate.errors import Unavailable
from tidegate.flows.archives import MARK
from tidegate.logs import about
from tidegate.model import Candidate, Fingerprint, ObjectRef, Transfer
from tidegate.policy import NAME_METADATA, SETTLE_TICK_SECONDS, Hold, unchanged_seconds

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from tidegate.config import Source
    from tidegate.disk.walk import Folder
    from tidegate.flows.scan import Scan
    from tidegate.ledger import Cycle, Ledger
    from tidegate.model import Moment
    from tidegate.spool import Spool

log = logging.getLogger(__name__)


class Packer:
    """Packs the folders of one source. For one thread. `carrier` is who gets what is promised from now on."""

    def __init__(
        self,
        source: Source,
        ledger: Ledger,
        spool: Spool,
        *,
        thing: str,
        never: frozenset[str],
        halted: Callable[[], bool],
    ) -> None:
        """`halted` tells that it should stop; then `pack` raises Halted soon."""
        self._source = source
        self._ledger = ledger
        self._spool = spool
        self._thing = thing
        self._never = never
        self._halted = halted
        self._before: dict[str, tuple[Fingerprint, float]] = {}  # doubtful in the last cycle, since when
        self._doubtful: dict[str, tuple[Fingerprint, float]] = {}
        self.carrier = ""

    def folders(self) -> list[Folder]:
        """List the folders at the root that may hold something to be sent, by name. Once in each cycle."""
        self._before, self._doubtful = self._doubtful, {}
        walk = Walk(self._source, self._never, lambda _: None, shallow=True)
        for _ in walk:
            pass
        return sorted(walk.folders)

    def tidy(self) -> int:
        """Delete the files of this source's archives that are not needed any more. Returns how many."""
        return sweep(self._spool, self._ledger, self._source.name)

    def pack(self, folder: Folder, cycle: Cycle, scan: Scan, moment: Moment) -> None:
        """Promise an archive of what is new in the folder; or note in `scan` why it has to wait.

        Raises Unavailable where there is no room, Halted, and OSError for what cannot be read.
        """
        if not self._ledger.cycles.durable:
            raise Unavailable("archives wait until the ledger is on its disk again")
        path = folder[0]
        inside = f"{relative(path, self._source.glob.root)}{self._source.archive.suffix}"
        key = self._key(inside, cycle)
        if self._ledger.cycles.has_given(cycle, key):
            if new := self._first_new(folder, scan):
                scan.found += 1
                scan.hold(new.path, Hold.TAKEN, None)
            return
        name = f"{self._source.name}-{cycle.started}-{_digest(path)}{self._source.archive.suffix}"
        try:
            listed = self._list(name, folder, scan, moment)
            if not listed.count:
                return
            self._write(name, listed)
        except _Waits as waits:
            scan.found += 1
            scan.hold(waits.path, waits.why, waits.seconds)
            return
        except MemberChanged as err:
            scan.found += 1
            scan.hold(err.path, Hold.CHANGED, None)
            return
        scan.found += 1
        transfer = self._transfer(name, inside, key, listed.count)
        promised, _ = self._ledger.cycles.offer(cycle, [(transfer, "")], now=moment.wall, archive=name)
        scan.promised += promised
        extra = about("packed", transfer)
        log.info(
            "%d files of %s (%d bytes) go as %s",
            listed.count,
            path,
            listed.size,
            transfer.target,
            extra=extra,
        )

    def _key(self, inside: str, cycle: Cycle) -> str:
        return self._source.key.render(
            prefix=self._source.prefix,
            thing=self._thing,
            source=self._source.name,
            path=inside,
            mtime_ns=cycle.started * 10**9,
            now=cycle.started,
            cycle=cycle.started,
        )

    def _transfer(self, name: str, inside: str, key: str, count: int) -> Transfer:
        body = self._spool.candidate(name)
        named = {NAME_METADATA: original_name(inside)} if self._source.key.alters(inside) else {}
        return Transfer(
            id=body.identity(self._source.name),
            source=self._source.name,
            carrier=self.carrier,
            body=body,
            target=ObjectRef(self._source.bucket, key),
            metadata={MARK: str(count)} | named,
        )

    # Listing

    def _list(self, name: str, folder: Folder, scan: Scan, moment: Moment) -> _Listed:
        """Write down what is to be packed; there is no list of nothing. Raises _Waits."""
        others = self._packed_before(folder[0])
        with Sorter(self._spool.folder) as sorter:
            self._find(folder, sorter, scan)
            with suppress(_Nothing), self._spool.body(f"{name}{SUFFIX}", size=sorter.room) as file:
                return self._judge(without(sorter, others), file, moment)
        return _Listed()

    def _first_new(self, folder: Folder, scan: Scan) -> Candidate | None:
        """Name something in the folder that is in no archive yet, if there is anything."""
        others = self._packed_before(folder[0])
        with Sorter(self._spool.folder) as sorter:
            self._find(folder, sorter, scan)
            return next(without(sorter, others), None)

    def _find(self, folder: Folder, sorter: Sorter, scan: Scan) -> None:
        walk = Walk(self._source, self._never, lambda _: None, start=folder)
        for found in walk:
            sorter.add(Candidate(found.path, Fingerprint.of(found.stat)))
        scan.problems |= walk.problems
        scan.leftovers += walk.leftovers

    def _judge(self, members: Iterable[Candidate], file: BinaryIO, moment: Moment) -> _Listed:
        """Write the members into the list, if each may go."""
        listed, waits = _Listed(), None
        for member in members:
            left = self._seconds_left(member, moment)
            if left > 0:
                self._doubtful[member.path] = self._seen(member, moment)
                waits = waits or _Waits(member.path, Hold.QUIET, left)
            elif waits is None and (why := _written(member)):
                waits = _Waits(member.path, why, None)
            listed.add(member)
            file.write(line_of(member))
            if self._halted():
                raise Halted
        if waits:
            raise waits
        if not listed.count:
            raise _Nothing
        return listed

    def _seconds_left(self, member: Candidate, moment: Moment) -> float:
        """How much longer this file must be left alone until it counts as quiet; 0 or less: it is."""
        mark, first_seen = self._seen(member, moment)
        wanted = max(self._source.quiet_seconds, SETTLE_TICK_SECONDS)
        return wanted - unchanged_seconds(mark, moment, first_seen)

    def _seen(self, member: Candidate, moment: Moment) -> tuple[Fingerprint, float]:
        """Tell since when, on the steady clock, this version is known to us."""
        mark, first_seen = self._before.get(member.path, (None, moment.steady))
        return member.fingerprint, first_seen if mark == member.fingerprint else moment.steady

    def _packed_before(self, folder: str) -> list[Iterable[Candidate]]:
        """Open the lists of archives of this folder that are still under way, kept, or in quarantine."""
        ending = f"-{_digest(folder)}"
        return [
            _lines(self._spool.path(f"{name}{SUFFIX}"))
            for name in self._ledger.cycles.archives()
            if _owner(name) == self._source.name and name.partition(".")[0].endswith(ending)
        ]

    # Writing

    def _write(self, name: str, listed: _Listed) -> None:
        """Write the body beside its list, or neither."""
        path = self._spool.path(f"{name}{SUFFIX}")
        try:
            with self._spool.body(name, size=room_for(listed.count, listed.size)) as file:
                pack(
                    self._source.archive,
                    read(path),
                    file,
                    root=self._source.glob.root,
                    odd_names=listed.odd,
                    folder=self._spool.folder,
                    halted=self._halted,
                )
        except BaseException:
            path.unlink(missing_ok=True)
            raise


@dataclass(slots=True)
class _Listed:
    """What a list holds. `odd`: some of the names are not UTF-8."""

    count: int = 0
    size: int = 0
    odd: bool = False

    def add(self, member: Candidate) -> None:
        self.count += 1
        self.size += member.fingerprint.size
        self.odd = self.odd or is_odd(member.path)


class _Waits(Exception):  # noqa: N818 - it is no mishap
    """A member may not go yet, and so the folder waits."""

    def __init__(self, path: str, why: Hold, seconds: float | None) -> None:
        super().__init__(path)
        self.path = path
        self.why = why
        self.seconds = seconds


class _Nothing(Exception):  # noqa: N818 - it is no mishap
    """Nothing is new in the folder."""


def sweep(spool: Spool, ledger: Ledger, source: str | None = None) -> int:
    """Delete the files of archives (of one source) that the ledger does not need: somebody died, or is done.

    Of an archive that is stored only the list is needed. Not while anything is packed for these sources.
    Returns how many files went.
    """
    if not ledger.cycles.durable:  # then it cannot tell
        return 0
    needed = ledger.cycles.archives()

    def keep(name: str) -> bool:
        archive = name.removesuffix(SUFFIX)
        if source not in (None, _owner(archive)):
            return True
        return archive in needed and (archive != name or needed[archive])

    gone = [name for name in spool.names() if not keep(name)]
    for name in gone:
        spool.remove(name)
    ledger.cycles.forget_archives()
    return len(gone)


def _owner(name: str) -> str:
    """Name the source of an archive."""
    return name.rsplit("-", 2)[0]


def _digest(folder: str) -> str:
    return hashlib.blake2b(os.fsencode(folder), digest_size=8).hexdigest()


def _lines(path: Path) -> Iterator[Candidate]:
    with suppress(FileNotFoundError):  # its members have been let go since
        yield from read(path)


def _written(member: Candidate) -> Hold | None:
    """Why a quiet file may not go all the same. Raises OSError when it cannot be read."""
    try:
        return Hold.OPEN if has_writer(member.path) else None
    except FileNotFoundError:
        return Hold.CHANGED
