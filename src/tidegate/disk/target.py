"""The folder that objects are brought to. Whatever a path says, nothing outside of it is touched.

Folders are opened one inside the other, and links among them are not followed.
"""

from __future__ import annotations

import errno
import os
import stat
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, BinaryIO

from tidegate.errors import Unavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class Target:
    """One folder. Paths are relative to it. Any thread may use it; each path is for one at a time."""

    def __init__(self, root: str, parts: str) -> None:
        """`parts` is the name of the folder below `root` for what is not whole yet."""
        self.root = root
        self._parts_name = parts

    def prepare(self) -> None:
        """Make the folder, if it is not there. Raises Unavailable where that cannot be done."""
        try:
            os.makedirs(f"{self.root}/{self._parts_name}", mode=0o755, exist_ok=True)
            with self._parts():
                pass
        except OSError as error:
            raise Unavailable(f"{self.root} cannot be used: {error.strerror}") from error

    @contextmanager
    def part(self, name: str, *, more: bool = False) -> Iterator[BinaryIO]:
        """Open a file that is not whole yet: an empty one, or with `more` to add to what there is."""
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC | (os.O_APPEND if more else os.O_TRUNC)
        with self._parts() as folder:
            try:
                descriptor = os.open(name, flags, 0o644, dir_fd=folder)
            except OSError as error:
                if error.errno != errno.ELOOP:
                    raise
                os.unlink(name, dir_fd=folder)  # a link, which nobody of us has made
                descriptor = os.open(name, flags | os.O_EXCL, 0o644, dir_fd=folder)
        with os.fdopen(descriptor, "a+b" if more else "w+b") as file:
            yield file

    def begun(self, name: str) -> int:
        """Return how many bytes of a part are there."""
        with suppress(FileNotFoundError), self._parts() as folder:
            return os.stat(name, dir_fd=folder, follow_symlinks=False).st_size
        return 0

    def throw_away(self, name: str) -> None:
        """Delete a part."""
        with self._parts() as folder:
            os.unlink(name, dir_fd=folder)

    def mark(self, path: str) -> str:
        """Return how the file is known again; "" if there is none. Raises OSError for what is no file."""
        try:
            with self._above(path, make=False) as (folder, name):
                return mark_of(os.stat(name, dir_fd=folder, follow_symlinks=False))
        except FileNotFoundError:
            return ""

    @contextmanager
    def opened(self, path: str) -> Iterator[int]:
        """Open the file for reading."""
        with self._above(path, make=False) as (folder, name):
            descriptor = os.open(name, _FILE, dir_fd=folder)
        try:
            yield descriptor
        finally:
            os.close(descriptor)

    def place(self, part: str, path: str) -> None:
        """Give a file that is whole its name, durably, in place of what has that name."""
        with self._parts() as parts, self._above(path, make=True) as (folder, name):
            os.rename(part, name, src_dir_fd=parts, dst_dir_fd=folder)
            os.fsync(folder)

    def remove(self, path: str, is_ours: Callable[[str], bool]) -> bool:
        """Delete the file if it is ours. Tells whether it was."""
        with suppress(FileNotFoundError), self._above(path, make=False) as (folder, name):
            status = os.stat(name, dir_fd=folder, follow_symlinks=False)
            if stat.S_ISREG(status.st_mode) and is_ours(mark_of(status)):
                os.unlink(name, dir_fd=folder)
                return True
        return False

    def tidy(self, is_wanted: Callable[[str], bool]) -> None:
        """Delete the parts that nobody goes on with."""
        with self._parts() as folder:
            for name in os.listdir(folder):
                if not is_wanted(name):
                    with suppress(IsADirectoryError):  # somebody else's
                        os.unlink(name, dir_fd=folder)

    @contextmanager
    def _parts(self) -> Iterator[int]:
        """Open the folder for what is not whole."""
        with self._above(f"{self._parts_name}/", make=False) as (folder, _):
            yield folder

    @contextmanager
    def _above(self, path: str, *, make: bool) -> Iterator[tuple[int, str]]:
        """Open the folder that the file is in."""
        *folders, name = path.split("/")
        current = os.open(self.root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            for folder in folders:
                if make:
                    with suppress(FileExistsError):
                        os.mkdir(folder, 0o755, dir_fd=current)
                        os.fsync(current)
                following = os.open(folder, _FOLDER, dir_fd=current)
                os.close(current)
                current = following
            yield current, name
        finally:
            os.close(current)


def mark_of(status: os.stat_result) -> str:
    """Return what tells this file from others of its name, also after it was moved."""
    if not stat.S_ISREG(status.st_mode):
        return "no file"
    return f"{status.st_ino}:{status.st_size}:{status.st_mtime_ns}"
