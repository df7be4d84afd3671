"""Finds out what a job has to ask for, before it asks for anything. Costs one listing for 1,000 objects."""

from __future__ import annotations

import heapq
from collections import Counter
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

from tidegate.restore.decide import estimates, kind_of, state_of
from tidegate.restore.journal import SHEET, Sheet
from tidegate.restore.nouns import Kind, State

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from tidegate.restore.journal import Journal, Listed
    from tidegate.restore.look import Looker
    from tidegate.restore.nouns import Spec
    from tidegate.store.archive_calls import Found

SAMPLE = 1000
"""So many objects, drawn at random, stand for all: their share is wrong by 1.6 points (one sigma) at most."""

_MISSING = ("NoSuchKey", "there is no such object")


@dataclass(slots=True)
class Plan:
    """What was found: how many objects and bytes stand where, and where they are archived."""

    objects: Counter[State] = field(default_factory=Counter)
    bytes: Counter[State] = field(default_factory=Counter)
    kinds: Counter[Kind] = field(default_factory=Counter)
    classes: Counter[str] = field(default_factory=Counter)
    pages: int = 0
    heads: int = 0

    def as_json(self, rate: float) -> dict[str, Any]:
        """Tell it, with an estimate of the seconds it takes by tier."""
        return {
            "objects": sum(self.objects.values()),
            "bytes": sum(self.bytes.values()),
            "byState": {
                state.name.lower(): {"objects": self.objects[state], "bytes": self.bytes[state]}
                for state in State
                if self.objects[state]
            },
            "byClass": dict(self.classes),
            "requests": self.objects[State.WANTED],
            "seconds": estimates(self.kinds, self.objects[State.WANTED], rate) if self.kinds else {},
            "listings": self.pages,
            "heads": self.heads,
        }


class Draw:
    """Draws a sample of what goes by: the same for the same `salt`, and each object as likely as any."""

    def __init__(self, salt: str) -> None:
        self._salt = salt.encode()[:64]
        self._heap: list[tuple[int, str, str, str]] = []

    def offer(self, bucket: str, key: str, version: str) -> None:
        """Let one go by."""
        name = f"{bucket}\0{key}\0{version}".encode()
        lot = -int.from_bytes(blake2b(name, digest_size=8, key=self._salt).digest(), "big")
        if len(self._heap) < SAMPLE:
            heapq.heappush(self._heap, (lot, bucket, key, version))
        elif lot > self._heap[0][0]:
            heapq.heapreplace(self._heap, (lot, bucket, key, version))

    def drawn(self) -> list[tuple[str, str, str]]:
        """The sample, in the order of listings."""
        return sorted(row[1:] for row in self._heap)


def plan(
    spec: Spec,
    journal: Journal,
    looker: Looker,
    listed: Listed | None,
    *,
    now: float,
    check: Callable[[], None] = lambda: None,
) -> Plan:
    """Look at every object of the selection and write down where it stands.

    What an earlier plan wrote is forgotten: nothing was asked for by it. `check` is called with each page,
    and what it raises ends the plan. Raises what asking S3 raises.
    """
    journal.forget_plan()
    made, draw = Plan(), Draw(spec.id)
    pending: list[Sheet] = []
    for number, (bucket, group) in enumerate(_groups(spec, looker, listed)):
        check()
        rows = []
        for key, version, found in group:
            row = _judged(key, version, found, spec, now, made)
            rows.append(row)
            if row[2] in (State.WANTED, State.ALREADY):
                draw.offer(bucket, key, version)
        sheet = Sheet.make(number, bucket, rows)
        for position in sheet.where(State.FAILED):
            sheet.set(position, State.FAILED, _MISSING)
        pending.append(sheet)
        if len(pending) == 20:
            journal.add(pending)
            pending.clear()
    journal.add(pending)
    journal.draw(draw.drawn())
    made.pages, made.heads = looker.pages, looker.heads
    return made


def _judged(
    key: str, version: str, found: Found | None, spec: Spec, now: float, made: Plan
) -> tuple[str, str, State, Kind]:
    """Decide about one object, and count it."""
    if found is None:
        made.objects[State.FAILED] += 1
        return key, version, State.FAILED, Kind.GLACIER
    state, kind = state_of(found, now=now, days=spec.days, speed_up=spec.speed_up)
    made.objects[state] += 1
    made.bytes[state] += found.size
    made.classes[found.storage] += 1
    if kind_of(found) is not None and state in (State.WANTED, State.ALREADY):
        made.kinds[kind] += 1
    return key, version, state, kind


def _groups(
    spec: Spec, looker: Looker, listed: Listed | None
) -> Iterator[tuple[str, list[tuple[str, str, Found | None]]]]:
    """Tell of all objects that are meant, in groups of up to 1,000 of one bucket."""
    if listed is None:
        objects = (
            found for page in looker.scan(spec.bucket, spec.prefix, spec.filter.takes) for found in page
        )
        for group in _by(SHEET, objects):
            yield spec.bucket, [(found.key, found.version, found) for found in group]
        return
    for page in listed.pages(SHEET):
        bucket, wanted = page[0][0], [(key, version) for _, key, version in page]
        rows = [(*wanted[at], found) for at, found in looker.look(bucket, wanted)]
        if all(found is None for _, _, found in rows):
            looker.prove(bucket)
        yield bucket, rows


def _by(size: int, objects: Iterable[Found]) -> Iterator[list[Found]]:
    group: list[Found] = []
    for found in objects:
        group.append(found)
        if len(group) == size:
            yield group
            group = []
    if group:
        yield group
