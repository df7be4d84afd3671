"""The list of what is in an archive: one version of a file a line, in the order of their paths.

Lists are read and written line by line, so that they may be long: a hundred thousand members take no more
memory than ten. A line is JSON, ASCII only: names may be any bytes.
"""

from __future__ import annotations

import heapq
import json
import os
import tempfile
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from tidegate.model import Candidate, Fingerprint

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from typing_extensions import Self

SUFFIX = ".members"
"""What the name of a list ends with; before it stands the name of its archive."""

_CHUNK = 5000
_LINE = 200  # beside the path, of which each character is written as six at most


def line_of(member: Candidate) -> bytes:
    """Write a member."""
    return json.dumps([member.path, str(member.fingerprint)]).encode("ascii") + b"\n"


def read(path: str | Path) -> Iterator[Candidate]:
    """Read a list back, line by line. Raises OSError when there is none."""
    with Path(path).open("rb") as file:
        yield from map(_member, file)


def without(members: Iterable[Candidate], others: Sequence[Iterable[Candidate]]) -> Iterator[Candidate]:
    """Leave out what is in any of the other lists, in that very version. All of them are in order."""
    marked = (
        [((member, True) for member in members)],
        [((member, False) for member in other) for other in others],
    )
    merged = heapq.merge(*marked[0], *marked[1], key=lambda pair: _rank(pair[0]))
    for member, same in groupby(merged, key=lambda pair: pair[0]):
        if all(is_mine for _, is_mine in same):
            yield member


class Sorter:
    """Takes members in any order and gives them back in theirs. What it cannot hold lies in unnamed files."""

    def __init__(self, folder: Path) -> None:
        """`folder` is one for the unnamed files."""
        self._folder = folder
        self._chunk: list[Candidate] = []
        self._runs: list[BinaryIO] = []
        self.room = 0
        """How many bytes the list takes at most."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for run in self._runs:
            run.close()

    def add(self, member: Candidate) -> None:
        """Take one in."""
        self._chunk.append(member)
        self.room += _LINE + 6 * len(member.path)
        if len(self._chunk) == _CHUNK:
            self._spill()

    def __iter__(self) -> Iterator[Candidate]:
        """Give all of them back, once."""
        for run in self._runs:
            run.seek(0)
        return heapq.merge(
            *(map(_member, run) for run in self._runs), sorted(self._chunk, key=_rank), key=_rank
        )

    def _spill(self) -> None:
        run = tempfile.TemporaryFile(dir=self._folder)  # noqa: SIM115 - closed with the sorter
        self._runs.append(run)
        for member in sorted(self._chunk, key=_rank):
            run.write(line_of(member))
        self._chunk.clear()


def _member(line: bytes) -> Candidate:
    path, mark = json.loads(line)
    return Candidate(path, Fingerprint.parse(mark))


def _rank(member: Candidate) -> tuple[bytes, str]:
    return os.fsencode(member.path), str(member.fingerprint)
