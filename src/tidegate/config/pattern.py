"""Which files a source means, as text alone: nothing here may look at a disk.

A walker goes down from `Glob.root` level by level. In each folder it knows which positions of the pattern
it has reached; from them it asks which sub-folders to enter (`below`) and gets one compiled expression for
all the files of the folder (`file_matcher`). So every name is looked at once, and a folder that cannot hold
a match is never opened.
"""

from __future__ import annotations

import fnmatch
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

Positions: TypeAlias = "tuple[int, ...]"
_WILD = re.compile(r"[*?\[]")


@dataclass(frozen=True, slots=True)
class Glob:
    """An absolute pattern: `**` is any number of folders, the other wildcards stay within one name.

    `root` is the fixed folder it begins with, without a slash at its end unless it is "/". `folders` are
    the steps from there down (None stands for `**`), `file` is what the name of a file must match. A
    position is an index into the steps, and `len(folders)` is the position of the file. Two globs are
    equal when their texts and their treatment of hidden names are.
    """

    text: str
    hidden: bool
    root: str = field(compare=False)
    folders: tuple[re.Pattern[str] | None, ...] = field(compare=False, repr=False)
    file: re.Pattern[str] = field(compare=False, repr=False)

    @classmethod
    def parse(cls, text: str, *, hidden: bool = False) -> Glob:
        """Compile `text`. With `hidden`, wildcards match names with a leading dot too.

        Raises ValueError with what is wrong, worded to follow the text: "is not an absolute path; …".
        """
        names = split_path(text, "/data/**/*.csv")
        if text.endswith(("/", "/.")):
            folder = "/" + "".join(f"{name}/" for name in names)
            raise ValueError(
                f"names a folder; write {folder}* for its files or {folder}** for all files below it"
            )
        if names[-1] == "**":
            names.append("*")
        fixed = 0
        while fixed < len(names) - 1 and not _WILD.search(names[fixed]):
            fixed += 1
        folders: list[re.Pattern[str] | None] = []
        for name in names[fixed:-1]:
            if name != "**":
                folders.append(_compile(name, hidden=hidden))
            elif not folders or folders[-1] is not None:  # `**/**` says no more than `**`
                folders.append(None)
        root = "/" + "/".join(names[:fixed])
        return cls(text, hidden, root, tuple(folders), _compile(names[-1], hidden=hidden))

    @property
    def start(self) -> Positions:
        """The positions of a walker that stands in `root`."""
        return self._reach(0)

    def below(self, positions: Positions, name: str) -> Positions:
        """The positions inside the sub-folder `name`; empty when no file below it can match."""
        reached: set[int] = set()
        for position in positions:
            if position == len(self.folders):
                continue
            step = self.folders[position]
            if step is None:
                if self.hidden or not name.startswith("."):
                    reached.update(self._reach(position))
            elif step.match(name):
                reached.update(self._reach(position + 1))
        return tuple(sorted(reached))

    def file_matcher(self, positions: Positions) -> Callable[[str], object]:
        """What to call with the name of each file of a folder: a true answer is a match.

        Ask once per folder. Only the last step of a pattern names files, so there are two answers: that
        step's own `match`, or a function that refuses every name.
        """
        return self.file.match if len(self.folders) in positions else _no_file

    def matches(self, positions: Positions, name: str) -> bool:
        """Whether the file `name` in a folder with these positions is meant."""
        return bool(self.file_matcher(positions)(name))

    def match_path(self, path: str) -> bool:
        """Whether the file at this absolute path is meant, however it is reached."""
        base = self.root.rstrip("/") + "/"
        if not path.startswith(base):
            return False
        *folders, name = path[len(base) :].split("/")
        if not {"", ".", ".."}.isdisjoint((*folders, name)):
            return False
        positions = self.start
        for folder in folders:
            positions = self.below(positions, folder)
        return self.matches(positions, name)

    def _reach(self, position: int) -> Positions:
        # `**` may stand for no folder at all: who reaches it has reached what follows it, too.
        passable = position < len(self.folders) and self.folders[position] is None
        return (position, position + 1) if passable else (position,)


@dataclass(frozen=True, slots=True)
class Excludes:
    """What to leave out, by patterns relative to the root of a source. False when there are none.

    A pattern without a slash means that name at any depth, file or folder. With a slash it means the whole
    path below the root. A slash at its end means folders only. Wildcards match hidden names, too.
    """

    texts: tuple[str, ...] = ()
    _globs: tuple[Glob, ...] = field(default=(), compare=False, repr=False)
    _names: re.Pattern[str] | None = field(default=None, compare=False, repr=False)

    @classmethod
    def parse(cls, texts: Iterable[str]) -> Excludes:
        """Compile the patterns. Raises ValueError with the first wrong one and what is wrong with it."""
        kept = tuple(texts)
        globs = tuple(map(_exclusion, kept))
        # One expression for the last names of all patterns: most entries are let through by one call.
        names = re.compile("|".join(glob.file.pattern for glob in globs)) if globs else None
        return cls(kept, globs, names)

    def __bool__(self) -> bool:
        return bool(self.texts)

    def which(self, relative_path: str, *, folder: bool) -> str | None:
        """The first pattern that hits this very entry, or None.

        The folders it lies in are not looked at: a walker never enters one that is hit. For a path that
        comes from elsewhere there is `which_on_the_way`.
        """
        if self._names is None or not self._names.match(relative_path.rpartition("/")[2]):
            return None
        for text, glob in zip(self.texts, self._globs, strict=True):
            if (folder or not text.endswith("/")) and glob.match_path(f"/{relative_path}"):
                return text
        return None

    def which_on_the_way(self, relative_path: str) -> str | None:
        """The pattern that hits this file or, before it, one of the folders that lead to it."""
        cuts = (place for place, character in enumerate(relative_path) if character == "/")
        hits = (self.which(relative_path[:cut], folder=True) for cut in cuts)
        return next(filter(None, hits), None) or self.which(relative_path, folder=False)


def split_path(text: str, example: str) -> list[str]:
    """Split an absolute path into its names. Raises ValueError, worded to follow the text."""
    if not text.startswith("/"):
        raise ValueError(f"is not an absolute path; write for example {example}")
    names = [name for name in text.split("/") if name not in {"", "."}]
    if ".." in names:
        raise ValueError("goes up with ..; write the folder it leads to")
    if "\0" in text:
        raise ValueError("holds a zero byte, which no file name can; leave it out")
    try:
        text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        raise ValueError("holds half a character, which no file name can; leave it out") from None
    return names


def _compile(name: str, *, hidden: bool) -> re.Pattern[str]:
    # A dot that is written out is meant; one that a wildcard would have to stand for is not.
    guard = "" if hidden or name.startswith(".") else r"(?!\.)"
    try:
        return re.compile(guard + fnmatch.translate(name))
    except re.error:  # early releases of Python 3.10 do not mend [z-a]
        raise ValueError("has brackets with a range that runs backwards; write it as [a-z]") from None


def _exclusion(text: str) -> Glob:
    body = text.rstrip("/")
    if not body:
        raise ValueError(f'holds "{text}", which names nothing; leave it out')
    if body.startswith("/"):
        raise ValueError(
            f'holds "{text}", which begins with a slash; write it relative to the watched folder'
        )
    try:
        return Glob.parse(f"/{body}" if "/" in body else f"/**/{body}", hidden=True)
    except ValueError as err:
        raise ValueError(f'holds "{text}", which {err}') from None


def _no_file(_name: str) -> bool:
    return False
