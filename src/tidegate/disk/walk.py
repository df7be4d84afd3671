"""Finding the files of a source. Looks, and changes nothing.

Nothing in a watched folder can block it, make it spin or lead it outside: only regular files are
returned, no file is opened, and links are followed only when asked and only within the root.
"""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from tidegate.config import Source
    from tidegate.config.pattern import Positions
    from tidegate.model import Candidate, Fingerprint

PRIVATE_FOLDER = ".tidegate-release"
"""Folder beside the files, where they stand for the moment between the last check and their deletion."""


Folder = tuple[str, "Positions"]
"""A folder below a root, and the positions of a walker in it (see Glob)."""


class Found(NamedTuple):
    """One regular file that matches. A tuple, because there may be a million."""

    path: str
    stat: os.stat_result
    folder: str


class Walk:
    """One pass over a source. `problems` and `leftovers` fill while it runs.

    `never` holds absolute folders that are ours: work directory and moved-to folders.
    """

    def __init__(
        self,
        source: Source,
        never: frozenset[str],
        on_folder: Callable[[str], None],
        *,
        start: Folder | None = None,
        shallow: bool = False,
    ) -> None:
        """`on_folder` is told of each folder that is looked into.

        `start` is where to begin, if not at the root. A `shallow` walk enters no folder, and leaves in
        `folders` those that another one may start at.
        """
        self._start = start or (source.glob.root, source.glob.start)
        self._shallow = shallow
        self.folders: list[Folder] = []
        self._source = source
        self._never = never
        self._on_folder = on_folder
        self._follow = source.follow_symlinks
        self._excludes = bool(source.exclude)
        self._seen = set(_marks(never))  # by whatever name they are reached
        self.problems: dict[str, str] = {}
        self.leftovers: list[str] = []

    def __iter__(self) -> Iterator[Found]:
        glob = self._source.glob
        if lies_in(glob.root, self._never):
            self._problem(glob.root, "lies in a folder of the agent's own, which is never scanned")
            return
        stack = [self._start]
        while stack:
            folder, positions = stack.pop()
            self._on_folder(folder)
            try:
                with os.scandir(folder) as entries:
                    match = glob.file_matcher(positions)
                    for entry in entries:
                        if self._is_folder(entry):
                            if entry.name == PRIVATE_FOLDER:  # whether or not the pattern leads there
                                if not entry.is_symlink():
                                    self.leftovers.append(entry.path)
                                continue
                            below = glob.below(positions, entry.name)
                            if below and self._enter(entry):
                                (self.folders if self._shallow else stack).append((entry.path, below))
                        elif match(entry.name) and (status := self._look(entry)):
                            yield Found(entry.path, status, folder)
            except OSError as err:
                self._problem(folder, f"cannot list the folder: {err.strerror}")

    def _is_folder(self, entry: os.DirEntry[str]) -> bool:
        try:
            return entry.is_dir(follow_symlinks=self._follow)
        except OSError:
            return False

    def _enter(self, entry: os.DirEntry[str]) -> bool:
        if entry.path in self._never or (self._excludes and self._excluded(entry.path, folder=True)):
            return False
        if self._follow and not self._inside(entry):
            return False
        try:
            status = entry.stat()
        except OSError:
            return False  # gone since it was listed
        mark = status.st_dev, status.st_ino
        if mark in self._seen:
            return False
        if self._follow:
            self._seen.add(mark)
        return True

    def _look(self, entry: os.DirEntry[str]) -> os.stat_result | None:
        """Ask what the entry is; None: not a file of ours."""
        if self._excludes and self._excluded(entry.path, folder=False):
            return None
        try:
            status = entry.stat(follow_symlinks=False)
            if stat.S_ISLNK(status.st_mode):
                if not self._may_follow(entry):
                    return None
                status = entry.stat()
        except FileNotFoundError:
            return None  # gone since it was listed
        except OSError as err:
            self._problem(entry.path, f"cannot be looked at: {err.strerror}")
            return None
        if not stat.S_ISREG(status.st_mode):
            self._problem(entry.path, "is not a regular file")
            return None
        return status

    def _may_follow(self, entry: os.DirEntry[str]) -> bool:
        if not self._follow:
            self._problem(entry.path, "is a symbolic link, and FollowSymlinks is false")
            return False
        return self._inside(entry)

    def _inside(self, entry: os.DirEntry[str]) -> bool:
        if not entry.is_symlink():
            return True
        if inside(entry.path, self._source.glob.root):
            return True
        self._problem(entry.path, "is a symbolic link that leads outside the source's folder, or nowhere")
        return False

    def _excluded(self, path: str, *, folder: bool) -> bool:
        return self._source.exclude.which(relative(path, self._source.glob.root), folder=folder) is not None

    def _problem(self, path: str, what: str) -> None:
        if len(self.problems) < 1000:
            self.problems[path] = what


def lies_in(path: str, folders: Iterable[str]) -> bool:
    """Tell whether the path is, or lies below, one of the folders, all links followed."""
    real = f"{os.path.realpath(path)}/"
    return any(real.startswith(f"{os.path.realpath(folder)}/") for folder in folders)


def _marks(folders: Iterable[str]) -> Iterator[tuple[int, int]]:
    for folder in folders:
        with suppress(OSError):  # it need not exist yet
            status = os.stat(folder)
            yield status.st_dev, status.st_ino


def relative(path: str, root: str) -> str:
    """Return the part of the path below the root."""
    return path[len(root) :].lstrip("/")


def inside(path: str, root: str) -> bool:
    """Tell whether the path, all links followed, exists and lies below the root."""
    try:
        real = os.path.realpath(path, strict=True)
    except (OSError, RuntimeError):  # dangling, or links in a circle
        return False
    return real.startswith(os.path.realpath(root).rstrip("/") + "/")


def is_current(candidate: Candidate) -> bool:
    """Tell whether the file still is the version given. Raises OSError when that cannot be told."""
    try:
        return is_version(os.stat(candidate.path), candidate.fingerprint)
    except (FileNotFoundError, NotADirectoryError):
        return False


def is_version(status: os.stat_result, mark: Fingerprint) -> bool:
    """Tell whether it is the status of this version: field by field, because it is asked so often."""
    return (
        status.st_ino == mark.inode
        and status.st_ctime_ns == mark.ctime_ns
        and status.st_mtime_ns == mark.mtime_ns
        and status.st_size == mark.size
        and status.st_dev == mark.device
    )


def fsync_folder(path: str) -> None:
    """Make the names in a folder durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
