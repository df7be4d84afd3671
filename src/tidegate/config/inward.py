"""Sources that do not watch a folder: objects that are brought here, and sockets that are read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tidegate.config.draft import Draft
from tidegate.config.keys import OBJECTS, SOURCE
from tidegate.config.pattern import Glob
from tidegate.config.places import DOWNLOAD, SOCKET, Direction
from tidegate.config.schema import defaults, entries, fault, join, read, show

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tidegate.config.keys import Verify
    from tidegate.config.parse import S3Settings, Source
    from tidegate.config.places import Framing, SocketAddress
    from tidegate.config.schema import Key

_SHARED = ("bucket", "s3", "interval_seconds", "priority", "verify")
_OF_DOWNLOADS = (*DOWNLOAD, *(key for key in SOURCE if key.field in _SHARED))
_OF_SOCKETS = (*SOCKET, *OBJECTS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Download:
    """Objects that are brought to `folder`: those with these `keys`, or all `below` (None: keys are given).

    `below` is a prefix without the slash that follows it; "" is the whole bucket. A `priority` of 1 is the
    most urgent.
    """

    name: str
    bucket: str
    folder: str
    keys: tuple[str, ...]
    below: str | None
    delete_unlisted: bool
    interval_seconds: float
    priority: int
    verify: Verify
    s3: S3Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class Socket:
    """A socket whose lines or blocks become objects. `way` says what they are called and where they go.

    A batch ends with `batch_bytes` or after `batch_seconds`, whichever comes first. After `silence_seconds`
    without a byte the connection is made anew; 0 is never. `replies`: who sends is told what is on the disk.
    """

    way: Source
    address: SocketAddress
    framing: Framing
    batch_bytes: int
    batch_seconds: float
    skip_repeats: bool
    replies: bool
    silence_seconds: float
    suffix: str


def kind_of(value: object, where: str, faults: list[str]) -> str:
    """Tell what a source is: a "download", a "socket", or "" for a folder to watch."""
    if not isinstance(value, Mapping):
        return ""
    given = {name.lower(): said for name, said in entries(value, where, [])}
    direction = given.get("direction", Direction.UPLOAD.value)
    words = {word.value.lower() for word in Direction}
    if not isinstance(direction, str) or direction.lower() not in words:
        sentence = f"{show(direction)} is not among the words taken here; write Upload or Download"
        fault(faults, join(where, "Direction"), sentence)
        return ""
    if direction.lower() == Direction.DOWNLOAD.value.lower():
        return "download"
    return "socket" if "socket" in given else ""


def download_of(name: str, where: str, value: object, shared: Mapping[str, Any], faults: list[str]) -> Draft:
    """Read a download, as far as it is given."""
    foreign = _elsewhere(_OF_DOWNLOADS, "a source with Direction: Download")
    own = defaults(DOWNLOAD) | read(value, _OF_DOWNLOADS, where, faults, foreign=foreign)
    draft = Draft(name=name, where=where, own=own, shared={it: shared[it] for it in _SHARED if it in shared})
    _require(draft, DOWNLOAD, faults)
    if not draft.gives("bucket"):
        sentence = "is missing; write where the objects are, for example BucketName: my-bucket"
        fault(faults, join(where, "BucketName"), sentence)
    if own["keys"] == () and own["below"] is None:
        fault(
            faults, join(where, "ObjectKeys"), "is missing; write which objects to bring, or ObjectsBelow: /"
        )
    elif own["keys"] != () and own["below"] is not None:
        sentence = "has no use with ObjectsBelow, which brings everything below; write one of the two"
        fault(faults, join(where, "ObjectKeys"), sentence)
    return draft


def socket_of(name: str, where: str, value: object, shared: Mapping[str, Any], faults: list[str]) -> Draft:
    """Read a socket, as far as it is given."""
    foreign = _elsewhere(_OF_SOCKETS, "a source with Socket") | {"direction": ""}
    own = defaults(SOCKET) | read(value, _OF_SOCKETS, where, faults, foreign=foreign)
    return Draft(name=name, where=where, own=own, shared=dict(shared))


def check_targets(downloads: Sequence[Draft], watched: Sequence[Draft], faults: list[str]) -> None:
    """What is brought here must not be sent again, nor be brought to one place by two sources."""
    for number, draft in enumerate(downloads):
        folder = draft.own.get("folder")
        if not isinstance(folder, str):
            continue
        where = join(draft.where, "TargetFolder")
        for other in watched:
            glob = other.get("glob")
            if isinstance(glob, Glob) and _may_hold(glob, folder):
                sentence = f'"{folder}" is watched by {other.name}, which would send it back; write another'
                fault(faults, where, sentence)
        for other in downloads[:number]:
            its = other.own.get("folder")
            if isinstance(its, str) and (
                f"{its}/".startswith(f"{folder}/") or f"{folder}/".startswith(f"{its}/")
            ):
                sentence = (
                    f'"{folder}" is shared with {other.name}, which brings files there; write another folder'
                )
                fault(faults, where, sentence)


def _may_hold(glob: Glob, folder: str) -> bool:
    """Whether the pattern can match a file that is brought to the folder, or below it."""
    base = f"{glob.root.rstrip('/')}/"
    if base.startswith(f"{folder}/"):
        return True
    if not folder.startswith(base):
        return False
    positions = glob.start
    for name in folder[len(base) :].split("/"):
        positions = glob.below(positions, name)
    return bool(positions)


def _elsewhere(keys: Sequence[Key], what: str) -> dict[str, str]:
    """Say of the keys of other sources that they have no use here."""
    known = {key.name.lower() for key in keys}
    others = (*SOURCE, *DOWNLOAD, *SOCKET)
    return {
        key.name.lower(): f"{what} does not take it; leave it out"
        for key in others
        if key.name.lower() not in known
    }


def _require(draft: Draft, keys: Sequence[Key], faults: list[str]) -> None:
    for key in keys:
        if key.missing and draft.own.get(key.field) is None:
            fault(faults, join(draft.where, key.name), key.missing)
