"""How a mapping of plain values is read by a table of keys. Knows no key itself, and reads no file.

A local Greengrass deployment turns every scalar into a string, a cloud deployment keeps types, and neither
minds the case of a key: what is written here takes all of it. Whatever is wrong becomes one sentence in a
list of faults, never an exception, so that a user sees everything at once.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

_SHOWN = 80  # characters of a value that a fault repeats
_LOGIN = re.compile(r".*@", re.DOTALL)
FAULTY: Final = object()
"""Stands for a value that was given and could not be read: it is not missing, nor is it there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """What may stand as a value, in words and as a reader.

    `read` raises ValueError with a sentence that follows the value: "is not a number; write …". Where the
    value may hold a `login`, that is not told.
    """

    words: str
    read: Callable[[object], Any]
    login: bool = False


@dataclass(frozen=True, slots=True)
class Key:
    """One row of a table: a key, the field it fills, what it takes, and what it is for.

    `default` is written as a user would write it; None means that there is none. `missing` is what to
    tell a user who left out a key that must be there, and empty for all others.
    """

    name: str
    field: str
    kind: Kind
    default: object
    meaning: str
    missing: str = ""


def read(
    raw: object, keys: Iterable[Key], where: str, faults: list[str], *, foreign: Mapping[str, str]
) -> dict[str, Any]:
    """Read the given keys of one mapping into values by field, and add what is wrong to `faults`.

    Keys that are not given are left out; those that cannot be read have the value FAULTY. `foreign` tells
    of keys (in lower case) that belong elsewhere: what to do about them, or "" to pass over them.
    """
    known = {key.name.lower(): key for key in keys}
    values: dict[str, Any] = {}
    for written, value in entries(raw, where, faults):
        key = known.get(written.lower())
        if key is None:
            if remedy := foreign.get(written.lower(), f"did you mean {_nearest(written, known)}?"):
                fault(faults, join(where, written), f"there is no such key here; {remedy}")
            continue
        try:
            values[key.field] = key.kind.read(value)
        except ValueError as err:
            fault(faults, join(where, key.name), f"{show(value, login=key.kind.login)} {err}")
            values[key.field] = FAULTY
    return values


def defaults(keys: Iterable[Key]) -> dict[str, Any]:
    """Read the default of each key; one without a default gets None."""
    return {key.field: None if key.default is None else key.kind.read(key.default) for key in keys}


def entries(raw: object, where: str, faults: list[str]) -> list[tuple[str, object]]:
    """List the keys of a mapping that are given a value, each once however it is spelled."""
    if not isinstance(raw, Mapping):
        fault(faults, where, f"{show(raw)} is not a map; write keys with their values")
        return []
    seen: dict[str, str] = {}
    found = []
    for written, value in raw.items():
        if not isinstance(written, str):
            fault(faults, where, f"the key {show(written)} is not text; put it in quotes")
        elif written.lower() in seen:
            twin = seen[written.lower()]
            fault(faults, join(where, written), f"differs from {twin} only in case; keep one of the two")
        else:
            seen[written.lower()] = written
            if not (value is None or (isinstance(value, str) and value.strip().lower() in {"", "null"})):
                found.append((written, value))
    return found


def number(words: str, example: str, least: float, most: float, *, scale: float = 1) -> Kind:
    """Take a number in these bounds, and multiply it by `scale` (to make seconds of minutes, say)."""

    def read_number(value: object) -> float:
        return float(_bounded(_number(value, words, example), least, most)) * scale

    return Kind(words=words, read=read_number)


def whole(words: str, example: str, least: int, most: int) -> Kind:
    """Take a whole number in these bounds, also when it is written as 10.0."""

    def read_whole(value: object) -> int:
        found = _number(value, words, example)
        if found != int(found):
            raise ValueError(f"is not a {words}; write for example {example}")
        return int(_bounded(found, least, most))

    return Kind(words=words, read=read_whole)


def text(words: str, check: Callable[[str], object] = str, *, login: bool = False) -> Kind:
    """Take text, and what `check` makes of it. `check` raises ValueError as a reader does."""

    def read_text(value: object) -> object:
        if not isinstance(value, str):
            raise ValueError("is not text; put it in quotes")  # noqa: TRY004 - a reader raises ValueError
        return check(value)

    return Kind(words=words, read=read_text, login=login)


def pairs(words: str, check: Callable[[tuple[tuple[str, str], ...]], object]) -> Kind:
    """Take a map of texts, and what `check` makes of its pairs. A name without a value is left out."""

    def read_pairs(value: object) -> object:
        faults: list[str] = []
        found = []
        if not isinstance(value, Mapping):
            raise ValueError('is not a map of texts; write for example {line: "7"}')  # noqa: TRY004
        for name, item in entries(value, "", faults):
            if isinstance(item, str):
                found.append((name, item))
            else:
                faults.append(f"{name}: {show(item)} is not text; put it in quotes")
        if faults:
            raise ValueError(f"cannot be read; {faults[0].removeprefix('the configuration: ')}")
        return check(tuple(found))

    return Kind(words=words, read=read_pairs)


def texts(words: str, check: Callable[[tuple[str, ...]], object]) -> Kind:
    """Take a list of texts, or one text alone, and what `check` makes of them all."""

    def read_texts(value: object) -> object:
        listed = (value,) if isinstance(value, str) else value
        if not isinstance(listed, (list, tuple)) or not all(isinstance(item, str) for item in listed):
            raise ValueError('is not a list of texts; write for example ["*.tmp", "old/"]')
        return check(tuple(listed))

    return Kind(words=words, read=read_texts)


def choice(values: Mapping[str, object]) -> Kind:
    """Take one of these words, in any case."""
    *others, last = values
    words = f"{', '.join(others)} or {last}" if others else last
    folded = {word.lower(): value for word, value in values.items()}

    def read_choice(value: object) -> object:
        word = str(value).lower() if isinstance(value, (str, bool)) else None
        if word not in folded:
            raise ValueError(f"is not among the words taken here; write {words}")
        return folded[word]

    return Kind(words=words, read=read_choice)


YES_OR_NO: Final = choice({"true": True, "false": False})
MAP: Final = Kind(words="map of keys", read=lambda value: value)


def fault(faults: list[str], where: str, sentence: str) -> None:
    """Add one fault, as one line that any terminal can print."""
    line = f"{where or 'the configuration'}: {sentence}"
    if not line.isprintable():
        line = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in line)
    faults.append(line)


def join(where: str, key: str) -> str:
    """Return the path of a key inside the mapping at `where`."""
    return f"{where}.{key}" if where else key


def show(value: object, *, login: bool = False) -> str:
    """Return a value as a fault names it: short, and nothing of a login, or from inside a list or map."""
    if isinstance(value, str):
        value = _LOGIN.sub("…@", value) if login else value
        return f'"{value}"' if len(value) <= _SHOWN else f'"{value[:_SHOWN]}…"'
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return str(value)
    if isinstance(value, int):
        return str(value) if abs(value) < 10**_SHOWN else "a number of very many digits"
    if isinstance(value, Mapping):
        return "a map"
    return "a list" if isinstance(value, (list, tuple)) else f"a {type(value).__name__}"


def _nearest(written: str, known: Mapping[str, Key]) -> str:
    return known[difflib.get_close_matches(written[:_SHOWN].lower(), known, n=1, cutoff=0)[0]].name


def _number(value: object, words: str, example: str) -> float:
    """Read a finite number. A whole one stays exact, however long it is."""
    found = _parsed(value) if isinstance(value, str) else value
    if isinstance(found, bool) or not isinstance(found, (int, float)) or not _finite(found):
        raise ValueError(f"is not a {words}; write for example {example}")
    return found


def _finite(found: float) -> bool:
    return isinstance(found, int) or math.isfinite(found)  # a long int is beyond what isfinite takes


def _parsed(digits: str) -> float | None:
    with suppress(ValueError):
        return int(digits)
    with suppress(ValueError):
        return float(digits)
    return None


def _bounded(found: float, least: float, most: float) -> float:
    if found < least:
        raise ValueError(f"is less than {least}; write a number from {least} to {most}")
    if found > most:
        raise ValueError(f"is more than {most}; write a number from {least} to {most}")
    return found
