"""Decisions: which files may go, and when to try again. Pure functions of values and the moment."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tidegate.config.naming import original_name
from tidegate.errors import Refused
from tidegate.model import Candidate, Fingerprint, Moment, ObjectRef, Transfer

if TYPE_CHECKING:
    from tidegate.config import Source

MAX_ATTEMPTS = 3
"""Refusals after which a file goes to quarantine."""

LONGEST_WAIT_SECONDS = 3600.0
"""No wait of ours is longer, so one that seems to be was computed by a clock that has since been set back."""

SETTLE_TICK_SECONDS = 0.05
"""A file changed this recently may change again without its time stamps showing it (kernel tick, 1-10 ms)."""

CLOCK_SLACK_SECONDS = 2.0
"""A time stamp this little ahead of the clock (another host's, or a clock being slewed) counts as now."""

NAME_METADATA = "original-name"
"""Object metadata that holds the name a file had, percent-encoded, where the key had to differ from it."""


TYPE_METADATA = "content-type"
"""Metadata of a promise that says what its bytes are, where somebody has said so. Not kept as metadata."""


class Hold(enum.Enum):
    """Why a file may not go yet."""

    OPEN = "a process has it open for writing"
    QUIET = "changed too recently"
    NEWEST = "newest of its group"
    YOUNG = "younger than DelayUploadSeconds"
    UNNAMED = "no key could be found for it"
    TAKEN = "another version of it has gone in this cycle"
    CHANGED = "changed while it was packed"


@dataclass(frozen=True, slots=True)
class Held:
    """A file that may not go yet, and for how many more seconds; None: until something else happens."""

    path: str
    why: Hold
    seconds: float | None


def retry_seconds(attempts: int, jitter: float) -> float:
    """Return the wait after the given number of refusals: 2, 10, 50, 250 seconds and so on, at most 300."""
    return float(min(300.0, 2 * 5 ** (attempts - 1)) * (0.75 + jitter / 2))


def pause_seconds(failures: int, jitter: float) -> float:
    """Return the pause of a bucket after so many refusals in a row: 5, 10, 20, 40, then about 60 seconds."""
    return float(min(60.0, 5 * 2 ** min(failures - 1, 4)) * (0.75 + jitter / 2))


def again_seconds(failures: int, jitter: float) -> float:
    """Return the wait of a file after failures that were not its fault: 1, 2, 4 to about 40 seconds."""
    return float(min(40.0, 2 ** min(failures - 1, 6)) * (0.75 + jitter / 2))


def outage_seconds(rounds: int, jitter: float) -> float:
    """Return until when a destination is left alone: 2, 4, 8 to about 40 seconds, never more than 50."""
    return float(min(40.0, 2 ** min(rounds, 6)) * (0.75 + jitter / 2))


def rank(mark: Fingerprint, moment: Moment) -> tuple[bool, int, int, int]:
    """Order versions of files by how new they are; the greatest is the newest.

    A file dated in the future says nothing true about its age, so it never outranks one with a believable
    date: otherwise it would be held for ever and the file in use would be let go.
    """
    believable = mark.mtime_ns <= (moment.wall + CLOCK_SLACK_SECONDS) * 1e9
    return believable, mark.mtime_ns, mark.ctime_ns, mark.inode


def unchanged_seconds(mark: Fingerprint, moment: Moment, first_seen: float | None) -> float:
    """Return for how long this version is known to have been left alone.

    The kernel stamps ctime at each change, so the age of the later of mtime and ctime is the answer as
    long as the clock can be believed. Where it cannot (the stamp lies in the future, or the clock jumped
    a moment ago) only what we saw ourselves counts: `first_seen` on the steady clock, or None.
    """
    seen = moment.steady - first_seen if first_seen is not None else 0.0
    changed_ns = mark.ctime_ns
    if mark.mtime_ns <= (moment.wall + CLOCK_SLACK_SECONDS) * 1e9:
        changed_ns = max(changed_ns, mark.mtime_ns)
    age = moment.wall - changed_ns / 1e9
    if age < 0:
        return max(seen, 0.0)
    return max(min(age, moment.trusted_for), seen)


def path_in_keys(source: Source, candidate: Candidate) -> str:
    """Return the path below the root, without what RemovePrefix says; never an empty one."""
    path = candidate.path[len(source.glob.root) :].lstrip("/")
    return path.removeprefix(source.remove_prefix).lstrip("/") or path if source.remove_prefix else path


def plan(
    source: Source,
    candidate: Candidate,
    *,
    carrier: str,
    thing: str,
    now: float,
    cycle: float | None = None,
    key: str = "",
) -> tuple[Transfer, str]:
    """Decide, once, where a file goes. The text, if any, says why it cannot go there.

    `now`, and when the `cycle` began, are in wall-clock seconds. A `key` is what it is called already.
    """
    path = path_in_keys(source, candidate)
    refusal = ""
    try:
        key = key or source.key.render(
            prefix=source.prefix,
            thing=thing,
            source=source.name,
            path=path,
            mtime_ns=candidate.fingerprint.mtime_ns,
            now=now,
            cycle=cycle,
        )
    except Refused as err:
        key, refusal = "", str(err)
    transfer = Transfer(
        id=candidate.identity(source.name),
        source=source.name,
        carrier=carrier,
        body=candidate,
        target=ObjectRef(source.bucket, key),
        metadata={NAME_METADATA: original_name(path)} if source.key.alters(path) else {},
    )
    return transfer, refusal
