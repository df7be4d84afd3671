"""The one open descriptor that a file is read through, and the certainty that it stays the same version."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from tidegate.model import Fingerprint
from tidegate.store.body import BodyChanged

if TYPE_CHECKING:
    from types import TracebackType

    from typing_extensions import Self

    from tidegate.model import Candidate


class Fence:
    """An open file. The kernel marks every change of an inode in its ctime, also that it was replaced.

    Opening and `check` raise `BodyChanged` when it is not the promised version, or no more; OSError when it
    cannot be looked at.
    """

    __slots__ = ("_mark", "descriptor")

    def __init__(self, body: Candidate) -> None:
        self._mark = body.fingerprint
        try:  # a pipe of that name would block for ever
            self.descriptor = os.open(body.path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except (FileNotFoundError, NotADirectoryError) as error:
            raise BodyChanged("it is gone") from error
        try:
            self.check()
        except BaseException:
            os.close(self.descriptor)
            raise

    def check(self) -> None:
        """See that it is still that version. Costs two microseconds."""
        status = os.fstat(self.descriptor)
        mark = self._mark
        if (
            status.st_ctime_ns != mark.ctime_ns
            or status.st_size != mark.size
            or status.st_mtime_ns != mark.mtime_ns
            or status.st_ino != mark.inode
            or status.st_dev != mark.device
        ):
            raise BodyChanged(_difference(mark, Fingerprint.of(status)))

    def close(self) -> None:
        """Let go of the file."""
        os.close(self.descriptor)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _difference(promised: Fingerprint, found: Fingerprint) -> str:
    if (found.device, found.inode) != (promised.device, promised.inode):
        return "another file has taken its place"
    if found.size != promised.size:
        return f"it had {promised.size} bytes and has {found.size}"
    return "it was written to, renamed or replaced"
