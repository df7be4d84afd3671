"""Why a file has not gone yet, or what became of it. Looks at the file now; changes nothing."""

from __future__ import annotations

import dataclasses
import os
import stat
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tidegate.archive.members import SUFFIX, read
from tidegate.config import Archive, HoldBack, Mode
from tidegate.config.pattern import Glob
from tidegate.customize import Namers
from tidegate.disk.walk import Walk, inside, lies_in, relative
from tidegate.disk.writers import has_writer, processes_writing
from tidegate.fetch.names import key_of
from tidegate.model import Candidate, Fingerprint
from tidegate.policy import SETTLE_TICK_SECONDS, plan, rank, unchanged_seconds

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tidegate.config import Config, Download, Source
    from tidegate.model import Moment


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What one source has to do with a file: whether it matches, and if so what holds it back and its key.

    `chosen` is why `carrier` would take it if it were promised now.
    `seconds` is for how much longer it is held; None: until something else changes. `cycle`: it goes in
    a cycle. `ignored`: a rule or the customizer says that it never goes. `archive` is the body of ours that
    this version is packed in, if it is.
    """

    source: str
    matches: bool
    because: str
    held: str | None = None
    seconds: float | None = None
    target: str | None = None
    refused: str | None = None
    carrier: str | None = None
    chosen: str | None = None
    cycle: bool = False
    archive: str | None = None
    ignored: bool = False
    brought: str | None = None


def explain(
    path: str,
    config: Config,
    *,
    choose: Callable[[Source], tuple[str, str]],
    thing: str,
    never: frozenset[str],
    moment: Moment,
    archives: Path | None = None,
    namers: Namers | None = None,
) -> list[Finding]:
    """Ask every source about one absolute path. `choose` names a source's carrier, and why it is that.

    `archives` is our folder for bodies of archives. Without `namers` rules and customizers are not asked.
    """
    found = [_about(path, source, choose, thing, never, moment, archives) for source in config.sources]
    return [
        *(
            _named(one, path, source, namers or Namers(thing), moment)
            for one, source in zip(found, config.sources, strict=True)
        ),
        *(_brought(path, download) for download in config.downloads),
    ]


def _brought(path: str, download: Download) -> Finding:
    """Say whether a download brings this file, and from where; that is in `brought`."""
    key = key_of(download, path)
    if key is None:
        reason = f"it is none of the files that come to {download.folder}"
        return Finding(source=download.name, matches=False, because=reason)
    target = f"s3://{download.bucket}/{key}"
    return Finding(source=download.name, matches=True, because=f"it comes from {target}", brought=target)


def _named(found: Finding, path: str, source: Source, namers: Namers, moment: Moment) -> Finding:
    """Put in what rules and the customizer of the source say."""
    namer = namers.of(source) if found.matches else None
    if namer is None:
        return found
    body = Candidate(path, Fingerprint.of(os.stat(path)))  # noqa: PTH116 - what the fingerprint is taken of
    (name,) = namer.names([body], moment=moment)
    if name.problem:
        return dataclasses.replace(found, target=None, refused=None, held=found.held or name.problem)
    if name.ignored:
        return dataclasses.replace(found, target=None, refused=None, ignored=True)
    return dataclasses.replace(found, target=f"s3://{source.bucket}/{name.key}", refused=None)


def _about(
    path: str,
    source: Source,
    choose: Callable[[Source], tuple[str, str]],
    thing: str,
    never: frozenset[str],
    moment: Moment,
    archives: Path | None,
) -> Finding:
    reason = _mismatch(path, source, never)
    if reason:
        return Finding(source=source.name, matches=False, because=reason)
    status = os.stat(path)  # noqa: PTH116 - what the fingerprint is taken of
    mark = Fingerprint.of(status)
    carrier, chosen = choose(source)
    folder = _packed_folder(path, source)
    named = Candidate(f"{folder}{source.archive.suffix}" if folder else path, mark)
    transfer, refusal = plan(source, named, carrier=carrier, thing=thing, now=moment.wall)
    held, seconds = _held(path, mark, source, never, moment)
    if folder and not held:
        held, seconds = _held_beside(folder, source, never, moment)
    archive = _archive_of(Candidate(path, mark), archives) if folder and archives else None
    return Finding(
        source=source.name,
        matches=True,
        because=f"PathName {source.glob.text} matches",
        held=held,
        seconds=seconds,
        target=None if refusal else str(transfer.target),
        refused=refusal or None,
        carrier=carrier,
        chosen=chosen,
        cycle=source.mode is Mode.CYCLE,
        archive=archive,
    )


def _packed_folder(path: str, source: Source) -> str | None:
    """Name the folder right below the root that the file is packed with; None: it goes by itself."""
    top, _, below = relative(path, source.glob.root).partition("/")
    if source.archive is Archive.NONE or not below:
        return None
    return f"{source.glob.root.rstrip('/')}/{top}"


def _held_beside(
    folder: str, source: Source, never: frozenset[str], moment: Moment
) -> tuple[str | None, float | None]:
    """Why a folder waits though the file asked for could go: the first of its files that cannot."""
    start = folder, source.glob.below(source.glob.start, os.path.basename(folder))  # noqa: PTH119
    for found in Walk(source, never, lambda _: None, start=start):
        reason, seconds = _held(found.path, Fingerprint.of(found.stat), source, never, moment)
        if reason:
            return f"its folder waits because of {found.path}: {reason}", seconds
    return None, None


def _archive_of(member: Candidate, archives: Path) -> str | None:
    """Name the archive under way that holds this version of a file, if any."""
    for listed in sorted(archives.glob(f"*{SUFFIX}")):
        with suppress(OSError, ValueError):  # let go, or written, just now
            if any(one == member for one in read(listed)):
                return str(listed).removesuffix(SUFFIX)
    return None


def _mismatch(path: str, source: Source, never: frozenset[str]) -> str:
    """Why the source has nothing to do with the file; empty: it has."""
    root = source.glob.root
    if lies_in(path, never):
        return "it lies in a folder of the agent's own, which is never scanned"
    if not f"{path}/".startswith(f"{root.rstrip('/')}/"):
        return f"it is not below {root}"
    if not source.glob.match_path(path):
        if Glob.parse(source.glob.text, hidden=True).match_path(path):
            return "it is hidden, and IncludeHidden is false"
        return f"PathName {source.glob.text} does not match"
    pattern = source.exclude.which_on_the_way(relative(path, root)) if source.exclude else None
    if pattern is not None:
        return f"Exclude {pattern} leaves it out"
    try:
        mode = os.lstat(path).st_mode
    except OSError as err:
        return f"it cannot be looked at: {err.strerror}"
    if stat.S_ISLNK(mode):
        if not source.follow_symlinks:
            return "it is a symbolic link, and FollowSymlinks is false"
        if not inside(path, root):
            return "it is a symbolic link that leads outside the source's folder, or nowhere"
        mode = os.stat(path).st_mode  # noqa: PTH116
    return "" if stat.S_ISREG(mode) else "it is not a regular file"


def _held(
    path: str, mark: Fingerprint, source: Source, never: frozenset[str], moment: Moment
) -> tuple[str | None, float | None]:
    try:
        written = has_writer(path)
    except OSError as err:
        return f"it cannot be read: {err.strerror}", None
    if written:
        pids = processes_writing(mark.device, mark.inode)
        who = f"process {', '.join(map(str, pids))} has" if pids else "a process has"
        return f"{who} it open for writing", None
    alone = unchanged_seconds(mark, moment, None)
    quiet = max(source.quiet_seconds, SETTLE_TICK_SECONDS)
    if alone < quiet:
        return (
            f"it changed {alone:.0f} seconds ago, and QuietSeconds is {source.quiet_seconds:g}",
            quiet - alone,
        )
    if source.hold_back is HoldBack.NONE or _packed_folder(path, source):
        return None, None
    if not _is_newest(path, source, never, moment):
        return None, None
    if not source.max_hold_seconds:
        return f"it is the newest file (HoldBack {source.hold_back.value}), and MaxHoldSeconds is 0", None
    if alone < source.max_hold_seconds:
        reason = f"it is the newest file (HoldBack {source.hold_back.value})"
        return reason, source.max_hold_seconds - alone
    return None, None


def _is_newest(path: str, source: Source, never: frozenset[str], moment: Moment) -> bool:
    per_folder = source.hold_back is HoldBack.NEWEST_PER_DIRECTORY
    group = [
        found
        for found in Walk(source, never, lambda _: None)
        if not per_folder or found.folder == os.path.dirname(path)  # noqa: PTH120
    ]
    newest = max(group, key=lambda found: rank(Fingerprint.of(found.stat), moment), default=None)
    return newest is not None and newest.path == path
