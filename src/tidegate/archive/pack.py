"""From members to an archive: each is read through one descriptor, and must stay the listed version."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, BinaryIO

from tidegate.archive.tar import TarZstd
from tidegate.archive.zip import Zip
from tidegate.config import Archive
from tidegate.config.naming import escape
from tidegate.disk.walk import is_version, relative
from tidegate.disk.writers import open_to_read

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from tidegate.model import Candidate

CHUNK = 256 * 1024
OVERHEAD = 4096
"""Bytes that a member takes beside its content, at most: headers, and its name several times."""

_LOOKS_ESCAPED = re.compile(r"=[0-9A-F]{2}")


class MemberChanged(Exception):  # noqa: N818 - it is what happened
    """A member is not the version that was listed, or no more. `path` says which."""

    def __init__(self, path: str) -> None:
        super().__init__(f"{path} changed while it was packed")
        self.path = path


class Halted(Exception):  # noqa: N818 - it is no mishap
    """We were told to stop."""


def room_for(count: int, size: int) -> int:
    """Return how many bytes an archive of so many members and bytes takes at most."""
    return size + size // 200 + count * OVERHEAD + OVERHEAD


def pack(
    how: Archive,
    members: Iterable[Candidate],
    file: BinaryIO,
    *,
    root: str,
    odd_names: bool,
    folder: Path,
    halted: Callable[[], bool],
) -> None:
    """Write an archive of the members. Their names in it are what follows `root`.

    `odd_names`: some are not UTF-8. Then those are escaped, and those that look as if they were, so that all
    stay apart. Raises MemberChanged or Halted, and OSError when a member cannot be read; what was written
    is then of no use. `folder` is one for an unnamed file.
    """
    with Zip(file, folder) if how is Archive.ZIP else TarZstd(file) as archive:
        for member in members:
            mark = member.fingerprint
            name = _name(relative(member.path, root), odd_names=odd_names)
            archive.add(name, mark.size, mark.mtime_ns, _read(member, halted))
        archive.close()


def is_odd(path: str) -> bool:
    """Whether a path holds bytes that are not UTF-8."""
    return any("\ud800" <= character <= "\udfff" for character in path)


def _name(path: str, *, odd_names: bool) -> bytes:
    if odd_names and (is_odd(path) or _LOOKS_ESCAPED.search(path)):
        path = escape(path)
    return path.encode()


def _read(member: Candidate, halted: Callable[[], bool]) -> Iterator[bytes]:
    """Yield the bytes of this very version."""
    try:
        descriptor = open_to_read(member.path)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise MemberChanged(member.path) from error
    try:
        left = member.fingerprint.size
        while True:
            if not is_version(os.fstat(descriptor), member.fingerprint):
                raise MemberChanged(member.path)
            if halted():
                raise Halted
            if not left:
                return
            chunk = os.read(descriptor, min(CHUNK, left))
            if not chunk:  # cut short since a line ago
                raise MemberChanged(member.path)
            left -= len(chunk)
            yield chunk
    finally:
        os.close(descriptor)
