"""Letting go of files that are proven stored, and of nothing else.

The file is first renamed into a private folder beside it, where no program will look for it, then
checked once more, and only then deleted or moved. What is found changed goes back to its place. A
process that dies in between leaves the file in the private folder, and `put_back` returns it.

What remains: where no lease can be had (see writers), a program that keeps the file open and writes
between the last check and the deletion, a few milliseconds, loses what it wrote. `HoldBack` and
`QuietSeconds` are the remedy.
"""

from __future__ import annotations

import enum
import errno
import filecmp
import hashlib
import itertools
import os
import shutil
import stat
from collections import deque
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tidegate.disk.walk import PRIVATE_FOLDER, fsync_folder, is_version
from tidegate.disk.writers import lease_holds, open_to_read, opened, processes_writing, take_lease
from tidegate.model import Fingerprint

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from tidegate.model import Candidate


ASIDE = 64
"""Files that stand in private folders at the same time, each with a descriptor open."""


class Fate(enum.Enum):
    """What became of a file that was to be released."""

    RELEASED = "released"
    GONE = "already gone"
    CHANGED = "changed since it was stored"
    OPEN = "a process has it open for writing"
    FAILED = "could not be released"


@dataclass(frozen=True, slots=True)
class Released:
    """The fate of one file, and more about it where the fate alone does not tell."""

    candidate: Candidate
    fate: Fate
    note: str = ""


@dataclass(slots=True)
class _Aside:
    """A file that stands in the private folder."""

    candidate: Candidate
    private: str
    descriptor: int
    leased: bool
    moved: Fingerprint


_Folders = dict[str, set[str] | None]
"""Private folders in use: all that is in one that we have made, or None for one that was there before."""


def release(candidates: Iterable[Candidate], dispose: Callable[[str, str], None]) -> list[Released]:
    """Let go of the files that are still the version given; leave the others as they are.

    `dispose(private_path, original_path)` does away with one file.
    """
    left = iter(candidates)
    results: list[Released] = []
    while some := list(itertools.islice(left, ASIDE)):
        results += _release_some(some, dispose)
    return results


def _release_some(candidates: Iterable[Candidate], dispose: Callable[[str, str], None]) -> list[Released]:
    results: list[Released] = []
    aside: deque[_Aside] = deque()
    folders: _Folders = {}
    try:
        for candidate in candidates:
            try:
                taken = _take_aside(candidate, folders)
            except FileNotFoundError:
                results.append(Released(candidate, Fate.GONE))
            except OSError as err:
                results.append(Released(candidate, Fate.FAILED, str(err)))
            else:
                if isinstance(taken, _Aside):
                    aside.append(taken)
                else:
                    results.append(Released(candidate, taken))
        while aside:
            results.append(_finish(aside.popleft(), dispose))
    finally:
        for one in aside:
            os.close(one.descriptor)
    for folder in folders:
        with suppress(OSError):  # not empty: something in it could not be dealt with, and stays for put_back
            os.rmdir(folder)
    return results


def delete(private: str, _original: str) -> None:
    """Delete the file: `dispose` for After: Delete."""
    os.unlink(private)


def move_to(target: str, root: str) -> Callable[[str, str], None]:
    """Make the `dispose` that moves files below `root` to the same place below `target`."""

    def dispose(private: str, original: str) -> None:
        wanted = os.path.join(target, os.path.relpath(original, root))
        os.makedirs(os.path.dirname(wanted), exist_ok=True)
        try:
            _rename_to_free_name(private, wanted)
        except OSError as err:
            if err.errno != errno.EXDEV:
                raise
            _copy_across(private, wanted)

    return dispose


def put_back(folder: str) -> list[str]:
    """Return what a dead process left in a private folder to its place. Returns the paths it has now.

    What cannot go back stays and keeps no other; the error is raised when nothing else could go back.
    """
    paths = []
    failure: OSError | None = None
    for name in os.listdir(folder):
        private = os.path.join(folder, name)
        try:
            paths.append(_rename_to_free_name(private, os.path.join(os.path.dirname(folder), name)))
        except OSError as err:
            failure = err
    with suppress(OSError):
        os.rmdir(folder)
    if failure and not paths:
        raise failure
    return paths


def _take_aside(candidate: Candidate, folders: _Folders) -> _Aside | Fate:
    path, mark = candidate.path, candidate.fingerprint
    try:
        descriptor = open_to_read(path, follow=False)
    except OSError as err:
        if err.errno == errno.ELOOP and os.path.islink(path):
            return _release_link(candidate, folders)
        raise
    aside = None
    try:
        leased = take_lease(descriptor)
        if not is_version(os.fstat(descriptor), mark):
            return Fate.CHANGED
        if leased is False or (leased is None and processes_writing(mark.device, mark.inode)):
            return Fate.OPEN
        private = _move_aside(path, folders)
        moved = Fingerprint.of(os.stat(private, follow_symlinks=False))
        aside = _Aside(candidate, private, descriptor, bool(leased), moved)
        return aside
    finally:
        if aside is None:  # a file that stays is closed at once: its writers must not wait for our lease
            os.close(descriptor)


def _move_aside(path: str, folders: _Folders) -> str:
    """Give the file a name in the private folder beside it, which is made for the first; return the name."""
    above, name = os.path.split(path)
    folder = os.path.join(above, PRIVATE_FOLDER)
    private = os.path.join(folder, name)
    if folder not in folders:
        try:
            os.mkdir(folder, 0o700)
            folders[folder] = set()
        except FileExistsError:
            folders[folder] = None
    names = folders[folder]
    if (name in names) if names is not None else os.path.lexists(private):
        raise FileExistsError(
            errno.EEXIST, "a file of that name was left there and is not yet put back", private
        )
    os.rename(path, private)
    if names is not None:
        names.add(name)
    return private


def _finish(one: _Aside, dispose: Callable[[str, str], None]) -> Released:
    path = one.candidate.path
    try:
        moved, mark = one.moved, one.candidate.fingerprint
        taken_whole = (moved.inode, moved.size, moved.mtime_ns) == (mark.inode, mark.size, mark.mtime_ns)
        if (
            taken_whole
            and is_version(os.fstat(one.descriptor), moved)
            and (not one.leased or lease_holds(one.descriptor))
        ):
            dispose(one.private, path)
            return Released(one.candidate, Fate.RELEASED)
        place = _rename_to_free_name(one.private, path)
    except OSError as err:
        with suppress(OSError):
            _rename_to_free_name(one.private, path)
        return Released(one.candidate, Fate.FAILED, str(err))
    finally:
        os.close(one.descriptor)
    return Released(one.candidate, Fate.CHANGED, "" if place == path else f"its place was taken: now {place}")


def _release_link(candidate: Candidate, folders: _Folders) -> Fate:
    """Remove a link whose target is what was stored. The target itself is never touched."""
    path = candidate.path
    link = os.lstat(path)
    if Fingerprint.of(os.stat(path)) != candidate.fingerprint:
        return Fate.CHANGED
    private = _move_aside(path, folders)
    fate = Fate.RELEASED
    if os.path.samestat(link, os.lstat(private)):
        os.unlink(private)
    else:  # a file has taken the place of the link meanwhile
        _rename_to_free_name(private, path)
        fate = Fate.CHANGED
    return fate


def _rename_to_free_name(old: str, wanted: str) -> str:
    """Give the file the name wanted, or one like it if that is taken: never replace another file."""
    name = wanted
    for attempt in range(1, 1000):
        try:
            os.link(old, name, follow_symlinks=False)
        except FileExistsError:
            if not _is_same_file(old, name):  # else: this file, linked by one who died before the next line
                name = _kept_name(wanted, attempt)
                continue
        except OSError as err:
            if err.errno not in (errno.EPERM, errno.ENOTSUP, errno.EMLINK, errno.ENOSYS):
                raise
            if os.path.lexists(name):  # a file system without hard links: the next best
                name = _kept_name(wanted, attempt)
                continue
            os.rename(old, name)
            return name
        os.unlink(old)
        return name
    raise FileExistsError(errno.EEXIST, "a thousand files of that name are there already", wanted)


def _kept_name(wanted: str, attempt: int) -> str:
    """Return another name for a file whose own is taken, cut to the 255 bytes that a name may have."""
    folder, name = os.path.split(wanted)
    stem, extension = os.path.splitext(name)
    ending = f".kept-{attempt}{extension if len(extension) < 32 else ''}"
    room = 255 - len(os.fsencode(ending))
    return os.path.join(folder, os.fsdecode(os.fsencode(stem)[:room]) + ending)


def _is_same_file(path: str, other: str) -> bool:
    try:
        return os.path.samestat(os.lstat(path), os.lstat(other))
    except FileNotFoundError:
        return False


def _copy_across(private: str, wanted: str) -> None:
    """Move to another file system: the copy is durable before the original goes.

    One who died here may have left a part, which has the same name each time, or the whole copy.
    """
    folder = os.path.dirname(wanted)
    mark = hashlib.blake2b(os.fsencode(wanted), digest_size=16).hexdigest()
    part = os.path.join(folder, f".tidegate-{mark}.part")
    with suppress(FileNotFoundError):
        os.unlink(part)
    try:
        if not _is_copy(private, wanted):
            shutil.copy2(private, part)
            with opened(part) as descriptor:
                os.fsync(descriptor)
            _rename_to_free_name(part, wanted)
        fsync_folder(folder)
    except BaseException:
        with suppress(FileNotFoundError):
            os.unlink(part)
        raise
    os.unlink(private)


def _is_copy(path: str, other: str) -> bool:
    try:
        return stat.S_ISREG(os.lstat(other).st_mode) and filecmp.cmp(path, other, shallow=False)
    except FileNotFoundError:
        return False
