"""Who has a file open for writing? Asks the kernel; changes nothing.

A read lease (fcntl F_SETLEASE, Linux) is granted only while nobody has the file open for writing, not
even through a memory map, and answers in microseconds. It needs ownership of the file or CAP_LEASE,
and a local file system. Where it cannot be had, the open files of all processes that we may look at
are searched; where that shows nothing either, nobody knows.

A lease is kept for microseconds, or (release) milliseconds. A program that opens the file for writing
meanwhile waits that long; only one that opens it with O_NONBLOCK is turned away.
"""

from __future__ import annotations

import errno
import fcntl
import os
import signal
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_READ = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC
_WRITE_MODES = os.O_WRONLY | os.O_RDWR


def ignore_lease_signals() -> None:
    """The kernel announces writers that wait for our leases by SIGIO, which would otherwise end us."""
    signal.signal(signal.SIGIO, signal.SIG_IGN)


def open_to_read(path: str, *, follow: bool = True) -> int:
    """Open for reading, without blocking on what is not a regular file. The caller closes it."""
    return os.open(path, _READ if follow else _READ | os.O_NOFOLLOW)


@contextmanager
def opened(path: str) -> Iterator[int]:
    """Keep it open for reading as long as the block lasts."""
    descriptor = open_to_read(path)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def take_lease(descriptor: int) -> bool | None:
    """Take a read lease, until the file is closed.

    True: nobody writes; False: somebody does; None: no lease to be had here.
    """
    try:
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_RDLCK)
    except OSError as err:
        return False if err.errno in (errno.EAGAIN, errno.EBUSY) else None
    return True


def lease_holds(descriptor: int) -> bool:
    """Tell whether still nobody has opened, or waits to open, the leased file for writing."""
    return fcntl.fcntl(descriptor, fcntl.F_GETLEASE) == fcntl.F_RDLCK


def has_writer(path: str) -> bool | None:
    """Tell whether a process has the file open for writing; None when that cannot be known.

    Raises OSError when the file cannot be opened for reading.
    """
    descriptor = open_to_read(path)
    try:
        free = take_lease(descriptor)
        if free is not None:
            return not free
        status = os.fstat(descriptor)
    finally:
        os.close(descriptor)
    return True if processes_writing(status.st_dev, status.st_ino) else None


def processes_writing(device: int, inode: int) -> list[int]:
    """List the processes that have the file open for writing, as far as we may look into them."""
    return sorted({pid for pid, number in _descriptors() if _writes(pid, number, device, inode)})


def _descriptors() -> Iterator[tuple[int, str]]:
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            numbers = os.listdir(f"/proc/{pid}/fd")
        except OSError:
            continue  # ended meanwhile, or another user's
        for number in numbers:
            yield int(pid), number


def _writes(pid: int, number: str, device: int, inode: int) -> bool:
    try:
        status = os.stat(f"/proc/{pid}/fd/{number}")
        if (status.st_dev, status.st_ino) != (device, inode):
            return False
        with open(f"/proc/{pid}/fdinfo/{number}", encoding="ascii") as file:
            flags = next(line.split()[1] for line in file if line.startswith("flags:"))
    except (OSError, StopIteration):
        return False
    return bool(int(flags, 8) & _WRITE_MODES)
