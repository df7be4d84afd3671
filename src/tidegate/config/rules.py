"""Rules that give files their keys, and customizers, as a user writes them. Nothing is run here.

A pattern of ours is matched in a time that grows with the name and no faster. A regular expression may take
for ever, whoever wrote it: it is only compiled here, and is run elsewhere, against a clock.
"""

from __future__ import annotations

import enum
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tidegate.config.naming import FIELDS, KeyTemplate, literal
from tidegate.config.schema import FAULTY, YES_OR_NO, Key, Kind, choice, entries, fault, join, read, text
from tidegate.config.values import bucket_name

if TYPE_CHECKING:
    from collections.abc import Iterator

EXPRESSION = "re:"
MOST_RULES = 1000
_NAME = re.compile(r"[a-z][a-z0-9_]{0,31}")
_TOKEN = re.compile(r"\{([^{}]*)\}|\[(!?)(\]?[^\]]*)\]|([*?])|([{}])")
_DIGITS = re.compile(r"(\d+)")


class Engine(enum.Enum):
    """What runs a customizer."""

    STARLARK = "Starlark"
    JAVASCRIPT = "JavaScript"


@dataclass(frozen=True, slots=True)
class Match:
    """Which files a rule is for: a pattern below the root, or a regular expression for that whole path.

    `names` are the parts of the path that it gives to the key. `expression` is None for a pattern. Two are
    equal when their texts are.
    """

    text: str
    names: frozenset[str] = field(compare=False)
    is_wild: bool = field(compare=False)
    expression: str | None = field(compare=False, default=None)
    _steps: tuple[re.Pattern[str] | None, ...] = field(compare=False, repr=False, default=())

    @classmethod
    def parse(cls, written: str) -> Match:
        """Compile it. Raises ValueError, worded to follow the text, with what is wrong."""
        if written.startswith(EXPRESSION):
            return _expression(written)
        steps: list[re.Pattern[str] | None] = []
        names: list[str] = []
        folders = written.split("/")
        if "" in folders or not {".", ".."}.isdisjoint(folders):
            raise ValueError(
                "is no pattern below the folder of the source; write for example *.tmp or logs/**/*.csv"
            )
        if len(folders) == 1 or folders[-1] == "**":  # at any depth; and all that is below
            folders = ["**", *folders] if len(folders) == 1 else [*folders, "*"]
        for name in folders:
            if name == "**":
                if not steps or steps[-1] is not None:
                    steps.append(None)
            else:
                steps.append(_step(name, names))
        return cls(written, frozenset(names), len(_TOKEN.findall(written)) > 0, None, tuple(steps))

    def parts(self, path: str) -> dict[str, str] | None:
        """Return what the names stand for in a path below the root; None: a pattern does not match it."""
        names = path.split("/")
        found: dict[int, re.Match[str]] = {}
        step = at = begun = 0
        free = -1
        while at < len(names):
            pattern = self._steps[step] if step < len(self._steps) else None
            if step < len(self._steps) and pattern is None:
                free, begun = step, at
                step += 1
            elif pattern and (matched := pattern.match(names[at])):
                found[step] = matched
                step, at = step + 1, at + 1
            elif free >= 0:
                begun += 1
                step, at = free + 1, begun
            else:
                return None
        if any(one is not None for one in self._steps[step:]):
            return None
        return {
            name: value
            for matched in found.values()
            for name, value in matched.groupdict().items()
            if name in self.names
        }


@dataclass(frozen=True, slots=True)
class Rule:
    """What becomes of files that match: they get this key, or None: they are ignored."""

    name: str
    match: Match
    key: KeyTemplate | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Customizer:
    """A file that gives files their keys. It is used only as it was meant: with this SHA-256, in hex.

    Without a `bucket` it is an absolute `file` on the device; else the object `key` there. `settings` are
    JSON.
    """

    file: str
    sha256: str
    engine: Engine
    settings: str
    bucket: str | None
    prefix: str | None

    @property
    def key(self) -> str:
        """What the object is called, if it is one."""
        return "/".join(part for part in (self.prefix, self.file) if part)


def _file(written: str) -> str:
    parts = written.strip("/").split("/")
    if "" in parts or not {".", ".."}.isdisjoint(parts) or not written.isprintable() or len(written) > 500:
        raise ValueError("is no file; write for example /opt/plant/names.star")
    return written


def _sha256(written: str) -> str:
    if not re.fullmatch(r"[0-9a-fA-F]{64}", written):
        raise ValueError("is no SHA-256; write the 64 hexadecimal digits that sha256sum shows")
    return written.lower()


def _settings(value: object) -> str:
    if not isinstance(value, Mapping):
        raise ValueError("is not a map; write for example {line: 7}")  # noqa: TRY004 - as readers do
    try:
        made = json.dumps(value, sort_keys=True, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ValueError("holds what JSON cannot; write texts, numbers, lists and maps") from error
    if len(made) > 65_536:
        raise ValueError("takes more than 64 KiB as JSON; write less")
    return made


def remove_prefix(written: str) -> str:
    """Take what paths below the root may begin with."""
    if written.startswith("/") or not {".", ".."}.isdisjoint(written.split("/")):
        raise ValueError("is no beginning of paths below the folder of the source; write for example out/")
    return written


NO_MATCH = "is missing; write which files the rule is for, for example Match: *.tmp"
NO_FILE = "is missing; write where the code is, for example File: /opt/plant/names.star"
NO_SHA256 = "is missing; write what sha256sum shows for the file, or it will not be run"

RULE = (
    Key("Match", "match", text("pattern", Match.parse), None, "Which files the rule is for.", NO_MATCH),
    Key("Key", "key", text("key template"), None, "What their objects are called."),
    Key("Ignore", "ignore", YES_OR_NO, "false", "Leave them where they are."),
)
"""Keys of a rule."""

CUSTOMIZER = (
    Key("File", "file", text("file", _file), None, "The file with the code.", NO_FILE),
    Key("Sha256", "sha256", text("SHA-256", _sha256), None, "What the file must be.", NO_SHA256),
    Key(
        "Engine",
        "engine",
        choice({engine.value: engine for engine in Engine}),
        None,
        "What runs it. Without it, the ending of File says.",
    ),
    Key("Settings", "settings", Kind(words="map", read=_settings), None, "What the code is told."),
    Key("FromBucket", "bucket", text("name of a bucket", bucket_name), None, "The bucket that has it."),
    Key("FromPrefix", "prefix", text("text", literal), None, "What its key there begins with."),
)
"""Keys under Customizer."""


def _all_of(value: object) -> object:
    if not isinstance(value, (Mapping, list, tuple)):
        raise ValueError(  # noqa: TRY004 - as readers do
            "is neither a list nor a map of rules; write for example [{Match: *.tmp, Ignore: true}]"
        )
    return value


RULES = Kind(words="list or map of rules", read=_all_of)


def read_rules(raw: Any, where: str, faults: list[str], *, foreign: Mapping[str, str]) -> Any:
    """Read a list of rules in its order, or a map in that of its names; 9 comes before 10. FAULTY is kept."""
    if raw is FAULTY:
        return FAULTY
    if isinstance(raw, Mapping):
        listed = sorted(entries(raw, where, faults), key=lambda one: _natural(one[0]))
    else:
        listed = [(str(number), value) for number, value in enumerate(raw, 1)]
    if len(listed) > MOST_RULES:
        fault(faults, where, f"has {len(listed)} rules; write {MOST_RULES} at most, or a customizer")
        return FAULTY
    found = [_rule(name, value, join(where, name), faults, foreign) for name, value in listed]
    return FAULTY if None in found else tuple(found)


def read_customizer(raw: Any, where: str, faults: list[str], *, foreign: Mapping[str, str]) -> Any:
    """Read what stands under Customizer: a Customizer, or FAULTY."""
    before = len(faults)
    values = read(raw, CUSTOMIZER, where, faults, foreign=foreign)
    _miss(values, CUSTOMIZER, where, faults)
    file = values.get("file", FAULTY)
    engine = values.get("engine") or (file is not FAULTY and _engine_of(file))
    if file is not FAULTY and not engine:
        fault(
            faults,
            join(where, "Engine"),
            f'is missing, and "{file}" does not end with .star or .js; write it',
        )
    if file is not FAULTY and "bucket" not in values:
        if not file.startswith("/"):
            sentence = f'"{file}" is no absolute path; write one, or FromBucket for a file in a bucket'
            fault(faults, join(where, "File"), sentence)
        if "prefix" in values:
            fault(
                faults,
                join(where, "FromPrefix"),
                "has no use without FromBucket; write that, or leave it out",
            )
    if len(faults) > before or not isinstance(engine, Engine):
        return FAULTY
    return Customizer(
        file=file.strip("/") if "bucket" in values else file,
        sha256=values["sha256"],
        engine=engine,
        settings=values.get("settings", "{}"),
        bucket=values.get("bucket"),
        prefix=values.get("prefix"),
    )


def _rule(name: str, raw: object, where: str, faults: list[str], foreign: Mapping[str, str]) -> Rule | None:
    before = len(faults)
    values = read(raw, RULE, where, faults, foreign=foreign)
    _miss(values, RULE, where, faults)
    match, ignore, template = values.get("match"), values.get("ignore", False), values.get("key")
    if FAULTY not in {ignore, template} and bool(ignore) == isinstance(template, str):
        fault(faults, where, "needs one of the two: Key, a template, or Ignore: true")
    key = None
    if isinstance(template, str) and isinstance(match, Match):
        try:
            key = KeyTemplate.parse(template, names=match.names, one_file=not match.is_wild)
        except ValueError as error:
            fault(faults, join(where, "Key"), f'"{template[:80]}" {error}')
    return Rule(name, match, key) if isinstance(match, Match) and len(faults) == before else None


def _miss(values: Mapping[str, Any], keys: tuple[Key, ...], where: str, faults: list[str]) -> None:
    for key in keys:
        if key.missing and key.field not in values:
            fault(faults, join(where, key.name), key.missing)


def _natural(name: str) -> list[tuple[int, str]]:
    """Order names as people do: runs of digits by their value."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in _DIGITS.split(name) if part]


def _engine_of(file: str) -> Engine | None:
    endings = {".star": Engine.STARLARK, ".js": Engine.JAVASCRIPT}
    return next((engine for ending, engine in endings.items() if file.endswith(ending)), None)


def _expression(written: str) -> Match:
    try:
        compiled = re.compile(written[len(EXPRESSION) :])
    except (re.error, OverflowError, RecursionError) as error:
        raise ValueError(
            f"is no regular expression: {error}; write for example re:(?P<day>\\d+)/.*"
        ) from error
    for name in compiled.groupindex:
        _check_name(name)
    return Match(written, frozenset(compiled.groupindex), True, compiled.pattern)  # noqa: FBT003 - it may be anything


def _check_name(name: str) -> None:
    if not _NAME.fullmatch(name):
        raise ValueError(f'names a part "{name[:40]}"; write small letters, digits and _, such as {{line}}')
    if name in FIELDS:
        raise ValueError(
            f"names a part {{{name}}}, which stands for something else in keys; choose another name"
        )


def _step(name: str, names: list[str]) -> re.Pattern[str]:
    """Compile what one folder, or the name of a file, must match.

    Each wildcard takes as little as it can and is not asked again (what stands in a look-ahead is not): so
    the time does not multiply with the number of wildcards. As after the last one the name must end, nothing
    is missed by that.
    """
    pieces = list(_pieces(name, names))
    made = [pieces[0][1]]
    for number, (wild, fixed) in enumerate(pieces[1:], 1):
        last = number == len(pieces) - 1
        made.append(f"{wild}{fixed}" if last else f"(?=(?P<_{number}>{wild}{fixed}))(?P=_{number})")
    try:
        return re.compile(f"(?s:{''.join(made)})\\Z")
    except re.error as error:
        raise ValueError(f"is no pattern: {error}; write for example logs/**/*.csv") from error


def _pieces(name: str, names: list[str]) -> Iterator[tuple[str, str]]:
    """Split a name into pairs: a wildcard of any length, and what is fixed after it. The first has none."""
    wild, fixed, at = "", "", 0
    for token in _TOKEN.finditer(name):
        fixed += re.escape(name[at : token.start()])
        at = token.end()
        part, negated, members, sign, brace = token.groups()
        if brace:
            raise ValueError("has a brace without its partner; write a part such as {line}")
        if sign == "?":
            fixed += "."
        elif members:
            inside = members.replace("\\", "\\\\").replace("^", "\\^").replace("]", "\\]").replace("[", "\\[")
            fixed += f"[{'^' if negated else ''}{inside}]"
        elif sign == "*" or part is not None:
            yield wild, fixed
            if part is None:
                wild, fixed = ".*?", ""
                continue
            _check_name(part)
            if part in names:
                raise ValueError(f"names two parts {{{part}}}; choose another name for one of them")
            names.append(part)
            wild, fixed = f"(?P<{part}>.+?)", ""
        else:
            fixed += re.escape(token[0])
    yield wild, fixed + re.escape(name[at:])
