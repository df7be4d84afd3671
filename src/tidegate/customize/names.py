"""What files are called: by the first rule that matches, else by the customizer, else by ObjectKey.

Whatever goes wrong with a file keeps it where it is, and is told. Only a rule or a customizer that says so
has a file ignored.
"""

from __future__ import annotations

import json
import logging
import re
import threading
from typing import TYPE_CHECKING, Any, NamedTuple

from tidegate.config.naming import cycle_name
from tidegate.customize.process import CannotLoad, Worker
from tidegate.errors import Refused
from tidegate.policy import path_in_keys

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tidegate.config import Source
    from tidegate.config.naming import KeyTemplate
    from tidegate.customize.process import Item
    from tidegate.customize.shelf import Code, Shelf
    from tidegate.model import Candidate, Moment

AGAIN_SECONDS = 60.0
"""After so long a file that could not be named, or code that could not be loaded, is tried once more."""

IDLE_SECONDS = 60.0
REMEMBERED = 20_000

_SURROGATE = re.compile("[\udc80-\udcff]")

log = logging.getLogger(__name__)


class Name(NamedTuple):
    """What a file is called; or that it is ignored; or what the problem is with it, and it stays."""

    key: str = ""
    ignored: bool = False
    problem: str = ""


IGNORED = Name(ignored=True)


class Namer:
    """Names the files of one source. It may be asked from any thread, but for `rest`."""

    def __init__(self, source: Source, thing: str, shelf: Shelf | None) -> None:
        self._source = source
        self._thing = thing
        self._shelf = shelf
        self._lock = threading.Lock()
        self._failed: dict[int, tuple[float, Name]] = {}
        self._worker: Worker | None = None
        self._due = 0.0
        self._asked_at = 0.0
        self.trouble = ""
        """Why the customizer that is asked for is not the one in use."""
        expressions = [
            (number, rule.match.expression)
            for number, rule in enumerate(source.rules)
            if rule.match.expression is not None
        ]
        self._first_expression = expressions[0][0] if expressions else len(source.rules)
        self._expressions = Worker("Expressions", json.dumps(expressions), None) if expressions else None

    def names(
        self, candidates: Sequence[Candidate], *, moment: Moment, cycle: float | None = None
    ) -> list[Name]:
        """Name each of these versions of files. `cycle` is when the one began that they go in."""
        self._asked_at = moment.steady
        names: list[Name | None] = [self._remembered(one, moment.steady) for one in candidates]
        paths = [path_in_keys(self._source, one) for one in candidates]
        self._by_rules(candidates, paths, names, moment.wall, cycle)
        left = [number for number, name in enumerate(names) if name is None]
        if left and self._source.customizer is not None:
            items = [self._item(candidates[number], paths[number], cycle) for number in left]
            for number, answer in zip(left, self._answers(items, moment.steady), strict=True):
                names[number] = self._made(answer)
        made = []
        for candidate, path, name in zip(candidates, paths, names, strict=True):
            plain = name or self._rendered(self._source.key, {}, candidate, path, moment.wall, cycle)
            if plain.problem:
                self._remember(candidate, plain, moment.steady)
            made.append(plain)
        return made

    def again(self) -> None:
        """Have the code, and files that could not be named, tried with the next question. Never waits."""
        self._due = float("-inf")
        self._failed.clear()

    def rest(self, steady: float) -> None:
        """End processes that nobody has asked anything for long. They begin again by themselves."""
        if steady - self._asked_at > IDLE_SECONDS:
            self.close()

    def close(self) -> None:
        """End the processes."""
        for worker in (self._worker, self._expressions):
            if worker:
                worker.close()

    # Rules

    def _by_rules(
        self,
        candidates: Sequence[Candidate],
        paths: Sequence[str],
        names: list[Name | None],
        now: float,
        cycle: float | None,
    ) -> None:
        rules = self._source.rules
        if not rules:
            return
        left = [number for number, name in enumerate(names) if name is None]
        found = {number: self._first_pattern(paths[number]) for number in left}
        if self._expressions:
            ask = [number for number in left if found[number][0] > self._first_expression]
            for number, answer in zip(ask, self._matches([paths[number] for number in ask]), strict=True):
                if isinstance(answer, str):
                    rule, parts = json.loads(answer)
                    if rule < found[number][0]:
                        found[number] = rule, parts
                elif answer is not None:
                    names[number] = Name(problem=f"a rule cannot be matched: {answer['error']}")
        for number, (which, parts) in found.items():
            if names[number] is None and which < len(rules):
                key = rules[which].key
                one = candidates[number], paths[number]
                names[number] = self._rendered(key, parts, *one, now, cycle) if key else IGNORED

    def _first_pattern(self, path: str) -> tuple[int, dict[str, str]]:
        """Find the first rule with a pattern that matches; the number after the last one: there is none."""
        for number, rule in enumerate(self._source.rules):
            if rule.match.expression is None and (parts := rule.match.parts(path)) is not None:
                return number, parts
        return len(self._source.rules), {}

    def _matches(self, paths: Sequence[str]) -> list[Any]:
        assert self._expressions is not None
        try:
            return self._expressions.ask([(path, {}) for path in paths])
        except CannotLoad as error:
            return [{"error": str(error)}] * len(paths)

    def _rendered(
        self,
        template: KeyTemplate,
        parts: dict[str, str],
        candidate: Candidate,
        path: str,
        now: float,
        cycle: float | None,
    ) -> Name:
        try:
            key = template.render(
                prefix=self._source.prefix,
                thing=self._thing,
                source=self._source.name,
                path=path,
                mtime_ns=candidate.fingerprint.mtime_ns,
                now=now,
                cycle=cycle,
                parts=parts,
            )
        except Refused as error:
            return Name(problem=str(error))
        return Name(key) if key else Name(problem="key_impossible: its rule gives it an empty key")

    # The customizer

    def _item(self, candidate: Candidate, path: str, cycle: float | None) -> Item:
        mark = candidate.fingerprint
        facts = {
            "size": mark.size,
            "mtime_ns": mark.mtime_ns,
            "time": cycle_name(mark.mtime_ns / 1e9),
            "thing": self._thing,
            "source": self._source.name,
        }
        if cycle is not None:
            facts["cycle"] = cycle_name(cycle)
        return _SURROGATE.sub(lambda match: f"={ord(match[0]) - 0xDC00:02X}", path), facts

    def _answers(self, items: Sequence[Item], steady: float) -> list[Any]:
        with self._lock:
            worker = self._current(steady)
        if worker is None:
            return [{"error": f"the customizer cannot be used: {self.trouble}"}] * len(items)
        try:
            return worker.ask(items)
        except CannotLoad as error:
            return [{"error": f"the customizer cannot be used any more: {error}"}] * len(items)

    def _made(self, answer: Any) -> Name:
        if answer is None:
            return IGNORED
        if not isinstance(answer, str):
            return Name(problem=str(answer["error"]))
        try:
            return Name(self._source.key.fit(self._source.prefix, answer))
        except Refused as error:
            return Name(problem=str(error))

    def _current(self, steady: float) -> Worker | None:
        """Return the worker with the code that is asked for, else that with the last good one, else None."""
        customizer = self._source.customizer
        assert customizer is not None
        assert self._shelf is not None
        if (self._worker and not self.trouble) or steady < self._due:
            return self._worker
        self._due = steady + AGAIN_SECONDS
        try:
            code = self._shelf.wanted(self._source, customizer)
            worker = _loaded(code)
            self._shelf.was_good(self._source.name, code)
        except (CannotLoad, OSError) as error:
            self._troubled(str(error))
            if self._worker is None:
                self._worker = self._last_good()
            return self._worker
        if self._worker:
            self._worker.close()
        self._worker, self.trouble = worker, ""
        self._failed.clear()
        return worker

    def _last_good(self) -> Worker | None:
        assert self._shelf is not None
        try:
            code = self._shelf.last_good(self._source.name)
            return _loaded(code) if code else None
        except CannotLoad:
            return None

    def _troubled(self, reason: str) -> None:
        if self.trouble != reason:
            log.error("%s: the customizer cannot be used: %s", self._source.name, reason)
        self.trouble = reason

    # What could not be named

    def _remembered(self, candidate: Candidate, steady: float) -> Name | None:
        due, name = self._failed.get(hash(candidate), (0.0, None))
        return name if steady < due else None

    def _remember(self, candidate: Candidate, name: Name, steady: float) -> None:
        if self._failed.get(hash(candidate), (steady, name))[0] <= steady:
            if len(self._failed) >= REMEMBERED:
                self._failed.clear()
            self._failed[hash(candidate)] = steady + AGAIN_SECONDS, name


class Namers:
    """The namers of all sources of an agent."""

    def __init__(self, thing: str, shelf: Shelf | None = None) -> None:
        self._thing = thing
        self._shelf = shelf
        self._namers: dict[str, Namer] = {}

    def of(self, source: Source) -> Namer | None:
        """Return the namer of a source; None: ObjectKey alone says what its files are called."""
        if not source.rules and source.customizer is None:
            return None
        if source.name not in self._namers:
            self._namers[source.name] = Namer(source, self._thing, self._shelf)
        return self._namers[source.name]

    def ignore(self, source: Source, candidate: Candidate, *, moment: Moment) -> bool:
        """Whether the source will never send this version of a file."""
        namer = self.of(source)
        return namer is not None and namer.names([candidate], moment=moment)[0].ignored

    def again(self, source: str | None = None) -> None:
        """Have what has failed of one source, or of each, tried with the next question."""
        for name, namer in list(self._namers.items()):
            if source in (None, name):
                namer.again()

    def close(self) -> None:
        """End their processes."""
        for namer in self._namers.values():
            namer.close()


def _loaded(code: Code) -> Worker:
    worker = Worker(code.engine, code.text, code.settings)
    try:
        worker.load()
    except CannotLoad:
        worker.close()
        raise
    return worker
