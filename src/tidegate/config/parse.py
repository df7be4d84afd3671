"""The configuration as frozen values, parsed from any mapping of plain values. Reads no file itself."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tidegate.config.keys import AGENT, SOURCE, STREAM_MANAGER, After, HoldBack, NameEscaping
from tidegate.config.pattern import Excludes, Glob
from tidegate.config.schema import FAULTY, defaults, entries, fault, join, read
from tidegate.errors import ConfigFaults

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from tidegate.config.naming import KeyTemplate

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
_HOMES = (
    ("at the top", AGENT),
    ("at the top or in a source", SOURCE),
    ("under StreamManager", STREAM_MANAGER),
)
_FOREIGN = {key.name.lower(): f"write it {home}" for home, keys in _HOMES for key in keys}
_FOREIGN_AT_TOP = _FOREIGN | {"accesscontrol": ""}  # Greengrass puts it there for every component


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Files of one kind and where they go. Times are in seconds; a `max_hold_seconds` of 0 is for ever."""

    name: str
    glob: Glob
    exclude: Excludes
    bucket: str
    prefix: str
    key: KeyTemplate
    escaping: NameEscaping
    interval_seconds: float
    hold_back: HoldBack
    quiet_seconds: float
    max_hold_seconds: float
    after: After
    move_to: str | None
    delete_after_seconds: float
    follow_symlinks: bool
    include_hidden: bool
    prune_empty_directories: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamManager:
    """How Stream Manager is reached and used. A `port` of None is the environment's or the default one."""

    host: str
    port: int | None
    streams: int
    stream_max_bytes: int
    persistence: str
    flush_on_write: bool
    multipart_threshold: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Everything a user can say. `thing` is None when it is for the environment to say."""

    sources: tuple[Source, ...]
    thing: str | None
    log_level: str
    log_format: str
    stream_manager: StreamManager


@dataclass(frozen=True, slots=True, kw_only=True)
class _Draft:
    """A source as far as it was given: what it says itself, and what it takes over from the top."""

    name: str
    where: str
    own: dict[str, Any]
    shared: dict[str, Any]

    def get(self, field: str) -> Any:
        return self.own.get(field, self.shared.get(field, _SOURCE_DEFAULTS[field]))

    def path_of(self, field: str) -> str:
        """Where the value of this field stands, or would have to."""
        at_top = field not in self.own and field in self.shared
        return join("" if at_top else self.where, _SOURCE_NAMES[field])

    def overrules(self, field: str) -> bool:
        """Whether the source has its own `After`, which sets aside what the top says for this field."""
        return "after" in self.own and field not in self.own


_SOURCE_DEFAULTS = defaults(SOURCE)
_SOURCE_NAMES = {key.field: key.name for key in SOURCE}


def parse(raw: Mapping[str, object]) -> Config:
    """Make a configuration of a mapping. Raises ConfigFaults with all that is wrong with it."""
    faults: list[str] = []
    top = read(raw, (*AGENT, *SOURCE), "", faults, foreign=_FOREIGN_AT_TOP)
    streams = read(top.pop("stream_manager", {}), STREAM_MANAGER, "StreamManager", faults, foreign=_FOREIGN)
    drafts = list(_drafts(top, faults))
    for draft in drafts:
        _check(draft, faults)
    _check_moves(drafts, faults)
    if faults:
        raise ConfigFaults(tuple(dict.fromkeys(faults)))  # what stands at the top is at fault only once
    agent = defaults(AGENT) | {key.field: top[key.field] for key in AGENT if key.field in top}
    agent["sources"] = tuple(map(_source, drafts))
    agent["stream_manager"] = StreamManager(**(defaults(STREAM_MANAGER) | streams))
    return Config(**agent)


def _drafts(top: dict[str, Any], faults: list[str]) -> Iterator[_Draft]:
    """Find the source that the top level describes, if it does, and those with a name."""
    given = {field: top[field] for field in _SOURCE_NAMES if field in top}
    shorthand = "glob" in given
    if shorthand:
        yield _Draft(name="default", where="", own=given, shared={})
    shared = {field: value for field, value in given.items() if field != "glob"}
    before = len(faults)
    named = entries(top.get("sources", {}), "Sources", faults)
    if not shorthand and not named and len(faults) == before:
        fault(
            faults,
            "PathName",
            "is missing; write for example PathName: /data/*.csv, or name sources under Sources",
        )
    for name, value in named:
        where = join("Sources", name)
        if not _NAME.fullmatch(name):
            fault(
                faults,
                where,
                "is no name for a source; write up to 64 letters, digits, hyphens and underscores",
            )
        if shorthand and name.lower() == "default":
            fault(
                faults, where, "is what the source made by PathName at the top is called; choose another name"
            )
        yield _Draft(
            name=name, where=where, own=read(value, SOURCE, where, faults, foreign=_FOREIGN), shared=shared
        )


def _check(draft: _Draft, faults: list[str]) -> None:
    """Find what is missing, and keys that do not go together."""
    for key in SOURCE:
        if key.missing and key.field not in draft.own and key.field not in draft.shared:
            fault(faults, join(draft.where, key.name), key.missing)
    after, move_to, delay = (draft.get(field) for field in ("after", "move_to", "delete_after_seconds"))
    if after is FAULTY:
        return
    if after is After.MOVE and move_to is None:
        fault(
            faults,
            draft.path_of("move_to"),
            "is missing, and After: Move needs it; write for example /data/sent",
        )
    if after is not After.MOVE and move_to not in {None, FAULTY} and not draft.overrules("move_to"):
        sentence = f'"{move_to}" has no use with After: {after.value}; write After: Move, or leave it out'
        fault(faults, draft.path_of("move_to"), sentence)
    if after is After.KEEP and delay not in {0, FAULTY} and not draft.overrules("delete_after_seconds"):
        sentence = f"{delay / 60:g} has no use with After: Keep; write After: Delete, or leave it out"
        fault(faults, draft.path_of("delete_after_seconds"), sentence)


def _check_moves(drafts: list[_Draft], faults: list[str]) -> None:
    """Moved files are never looked at again, so a folder for them must not hold what is to be watched."""
    for draft in drafts:
        move_to = draft.get("move_to")
        if draft.get("after") is not After.MOVE or not isinstance(move_to, str):
            continue
        for other in drafts:
            glob = other.get("glob")
            if isinstance(glob, Glob) and f"{glob.root}/".startswith(f"{move_to}/"):
                sentence = f'"{move_to}" holds {glob.root}, which {other.name} watches; write another folder'
                fault(faults, draft.path_of("move_to"), sentence)


def _source(draft: _Draft) -> Source:
    values = {field: draft.get(field) for field in _SOURCE_NAMES}
    values["glob"] = Glob.parse(values["glob"].text, hidden=values["include_hidden"])
    # What the top says about deleting or moving does not concern a source that says it does neither.
    if values["after"] is not After.MOVE:
        values["move_to"] = None
    if values["after"] is After.KEEP:
        values["delete_after_seconds"] = 0.0
    return Source(name=draft.name, **values)
