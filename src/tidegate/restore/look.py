"""Looks at many objects with as few and as cheap requests as it can.

A listing tells of 1,000 neighbours at once and costs about twelve single questions. So keys that lie close
together are found in listings, which begin right before the next key that is wanted; where a page held too
few of them, the next keys are asked for one by one, and then listing is tried again.
"""

from __future__ import annotations

import threading
from bisect import bisect_left, bisect_right
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Protocol, TypeVar

from tidegate.errors import Unavailable
from tidegate.restore.decide import needs_head
from tidegate.store.errors import Kind, S3Error

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from tidegate.store.archive_calls import Found, Page

FEW = 12
"""A page with fewer wanted keys than this was dearer than asking for each."""

_ALONE_AT_FIRST, _ALONE_AT_MOST = 64, 1024
_HANDS = 16
_TRIES = 5
_TRIES_AT_FIRST = 3  # nothing is lost yet, and somebody may wait to hear what is wrong
_PAUSE_SECONDS = 0.1  # before the second try; four times as long before each next one

_T = TypeVar("_T")


class Store(Protocol):
    """What is asked about objects; `tidegate.store.archive_calls.Archive` answers."""

    def page(self, bucket: str, *, prefix: str = "", after: str = "") -> Page:
        """List up to 1,000 objects."""

    def version_page(self, bucket: str, *, after: tuple[str, str] = ("", "")) -> Page:
        """List up to 1,000 versions."""

    def head(self, bucket: str, key: str, version: str = "") -> Found | None:
        """Tell of one object."""


class Looker:
    """Looks, and counts what that took: `pages` and `heads`."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._tries = _TRIES_AT_FIRST
        self._there: set[str] = set()
        self.pages = 0
        self.heads = 0

    def prove(self, bucket: str) -> None:
        """Raise `S3Error` if there is no such bucket: a question for one object does not tell that."""
        if bucket not in self._there:
            self.pages += 1
            try:
                self._patiently(lambda: self._store.page(bucket))
            except S3Error as error:
                if error.status == 404:  # who may not list cannot know more
                    raise
            self._there.add(bucket)

    def scan(self, bucket: str, prefix: str, takes: Callable[[Found], bool]) -> Iterator[list[Found]]:
        """Tell of all objects with a prefix that it `takes`, page by page, in the order of listings."""
        after: str | None = ""
        while after is not None:
            start = after
            page = self._patiently(lambda: self._store.page(bucket, prefix=prefix, after=start))  # noqa: B023 - at once
            self.pages += 1
            after = page.more[0] if page.more else None
            yield self.complete(bucket, [it for it in page.found if takes(it)])

    def complete(self, bucket: str, found: Sequence[Found]) -> list[Found]:
        """Ask for each of those that a listing does not tell all about. What is gone is left out."""
        vague = [it for it in found if needs_head(it)]
        if not vague:
            return list(found)
        asked = self.ask(bucket, [(it.key, it.version) for it in vague])
        told = dict(zip(map(id, vague), asked, strict=True))
        answers = (told.get(id(it), it) for it in found)
        return [it for it in answers if it is not None]

    def ask(self, bucket: str, wanted: Sequence[tuple[str, str]]) -> list[Found | None]:
        """Ask for each object (key and version), several at a time."""
        self.heads += len(wanted)
        if not wanted:
            return []
        hands = ThreadPoolExecutor(min(_HANDS, len(wanted)), "look")  # many jobs may wait: none keeps them
        try:
            return list(hands.map(lambda it: self._patiently(lambda: self._store.head(bucket, *it)), wanted))
        finally:
            hands.shutdown(cancel_futures=True)

    def look(self, bucket: str, wanted: Sequence[tuple[str, str]]) -> Iterator[tuple[int, Found | None]]:
        """Tell of each of these objects by its position; None if it is not there.

        `wanted` are key and version, in the order of listings; the version is empty for the latest.
        """
        at, alone = 0, _ALONE_AT_FIRST
        while at < len(wanted):
            if len(wanted) - at < FEW:
                yield from enumerate(self.ask(bucket, wanted[at:]), at)
                return
            before = at
            for position, found in self._list(bucket, wanted, at):
                yield position, found
                at = position + 1
            if at - before >= FEW or _turns(wanted, before, at):
                alone = _ALONE_AT_FIRST
                continue
            yield from enumerate(self.ask(bucket, wanted[at : at + alone]), at)
            at, alone = at + alone, min(2 * alone, _ALONE_AT_MOST)

    def _list(
        self, bucket: str, wanted: Sequence[tuple[str, str]], at: int
    ) -> Iterator[tuple[int, Found | None]]:
        """List one page from `wanted[at]` on, and tell of what lies within it."""
        self.pages += 1
        by_version = bool(wanted[at][1])
        after = before(wanted[at][0])
        page = self._patiently(
            lambda: (
                self._store.version_page(bucket, after=(after, ""))
                if by_version
                else self._store.page(bucket, after=after)
            )
        )
        end = len(wanted)
        if page.more is not None:
            # Of the last key of a page, there may be more versions on the next one.
            cut = bisect_left if by_version else bisect_right
            end = cut(wanted, page.more[0], lo=at, key=lambda it: it[0])
        some = wanted[at:end]
        # Versions and latest objects are in different listings: another page is for the others.
        turn = (number for number, (_, version) in enumerate(some) if bool(version) != by_version)
        some = some[: next(turn, len(some))]
        names = set(some)
        held = [it for it in page.found if (it.key, it.version) in names]
        told = {(it.key, it.version): it for it in self.complete(bucket, held)}
        for position, name in enumerate(some, at):
            yield position, told.get(name)

    def _patiently(self, ask: Callable[[], _T]) -> _T:
        """Ask a few times: one answer that does not come should not cost the thousand before it."""
        number = 1
        while True:
            try:
                answer = ask()
            except Unavailable:
                if number >= self._tries:
                    raise
            except S3Error as error:
                if error.kind is not Kind.AGAIN or number >= self._tries:
                    raise
            else:
                self._tries = _TRIES
                return answer
            threading.Event().wait(_PAUSE_SECONDS * 4 ** (number - 1))
            number += 1


def _turns(wanted: Sequence[tuple[str, str]], last: int, at: int) -> bool:
    """Whether the page ended early only because the other kind of listing tells of many that follow."""
    few = [bool(version) for _, version in wanted[at : at + FEW]]
    return len(few) == FEW and all(it != bool(wanted[last][1]) for it in few)


def before(key: str) -> str:
    """A text that comes before the key in listings, and behind nearly everything else that does."""
    last = ord(key[-1]) - 1
    if last < 0:
        return key[:-1]
    if 0xD800 <= last <= 0xDFFF:  # no characters, but halves of some
        last = 0xD7FF
    text = key[:-1] + chr(last)
    return text + "\U0010fffd" if len(text.encode()) <= 1000 else text
