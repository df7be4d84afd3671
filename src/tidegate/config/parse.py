"""The configuration as frozen values, parsed from any mapping of plain values. Opens none of its files."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

from tidegate.config.draft import (
    DEFAULTS,
    ONLY_DIRECT,
    ONLY_DIRECT_S3,
    S3_DEFAULTS,
    Draft,
    check,
    check_moves,
)
from tidegate.config.keys import AGENT, ATTRIBUTES, S3, SOURCE, STREAM_MANAGER, After
from tidegate.config.pattern import Glob
from tidegate.config.schema import defaults, entries, fault, join, read
from tidegate.errors import ConfigFaults

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from tidegate.config.bandwidth import Bandwidth
    from tidegate.config.keys import (
        CarrierChoice,
        Compress,
        Evict,
        HoldBack,
        OnConflict,
        UploadOrder,
        Verify,
    )
    from tidegate.config.naming import KeyTemplate, NameEscaping
    from tidegate.config.pattern import Excludes
    from tidegate.config.values import DiskLimit, Pairs

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
_HOMES = (
    ("at the top", AGENT),
    ("at the top or in a source", SOURCE),
    ("under StreamManager", STREAM_MANAGER),
    ("under S3", S3),
)


def _signposts() -> dict[str, str]:
    """Say of every key, in lower case, where it belongs."""
    homes: dict[str, str] = {}
    for home, keys in _HOMES:
        for key in keys:
            others = homes.get(key.name.lower())
            homes[key.name.lower()] = f"{others} or {home}" if others else f"write it {home}"
    return homes


_FOREIGN = _signposts()
_FOREIGN_AT_TOP = _FOREIGN | {"accesscontrol": ""}  # Greengrass puts it there for every component


@dataclass(frozen=True, slots=True, kw_only=True)
class S3Settings:
    """How S3 is reached and used without Stream Manager.

    Without an `endpoint_url` S3 is where AWS has it. `addressing` is "auto", "path" or "virtual". A `proxy`
    of None is for the environment to say, and "direct" is none, whatever that says. A `ca_bundle` is an
    absolute path that nobody looked at yet. Sizes are in bytes.
    """

    region: str | None
    endpoint_url: str | None
    addressing: Literal["auto", "path", "virtual"]
    dualstack: bool
    fips: bool
    ca_bundle: str | None
    proxy: str | None = field(repr=False)  # it may hold a password
    connect_seconds: float
    read_seconds: float
    role_arn: str | None
    multipart_threshold: int
    part_size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Attributes:
    """What S3 keeps with an object. None is for S3 to say; a `content_type` of None is to be guessed."""

    storage_class: str | None
    encryption: str | None
    kms_key_id: str | None
    tags: Pairs
    metadata: Pairs
    content_type: str | None
    cache_control: str | None
    acl: str | None
    compress: Compress


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Files of one kind and where they go. Times are in seconds; a `max_hold_seconds` of 0 is for ever.

    `key` makes keys with this `escaping` and with the suffix of compressed files. A `priority` of 1 is the
    most urgent.
    """

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
    carrier: CarrierChoice
    s3: S3Settings
    verify: Verify
    on_conflict: OnConflict
    order: UploadOrder
    priority: int
    disk_limit: DiskLimit | None
    evict: Evict
    attributes: Attributes


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
    """Everything a user can say. `thing` is None when it is for the environment to say.

    A `bandwidth` of None is no limit, a `time_zone` of None that of the system.
    """

    sources: tuple[Source, ...]
    thing: str | None
    log_level: str
    log_format: str
    max_concurrent: int
    bandwidth: Bandwidth | None
    time_zone: str | None
    stream_manager: StreamManager


def only_direct(source: Source) -> str:
    """Say what Stream Manager cannot do of what the source asks: the first such thing, or ""."""
    for key in SOURCE:
        home = source.attributes if key in ATTRIBUTES else source
        if key.field in ONLY_DIRECT and getattr(home, key.field) not in {DEFAULTS[key.field], ()}:
            return f"{key.name} is set"
    for key in S3:
        if key.field in ONLY_DIRECT_S3 and getattr(source.s3, key.field) != S3_DEFAULTS[key.field]:
            return f"S3.{key.name} is set"
    return ""


def parse(raw: Mapping[str, object]) -> Config:
    """Make a configuration of a mapping. Raises ConfigFaults with all that is wrong with it."""
    faults: list[str] = []
    top = read(raw, (*AGENT, *SOURCE), "", faults, foreign=_FOREIGN_AT_TOP)
    _read_s3(top, "", faults)
    streams = read(top.pop("stream_manager", {}), STREAM_MANAGER, "StreamManager", faults, foreign=_FOREIGN)
    drafts = list(_drafts(top, faults))
    for draft in drafts:
        check(draft, faults)
    check_moves(drafts, faults)
    if faults:
        raise ConfigFaults(tuple(dict.fromkeys(faults)))  # what stands at the top is at fault only once
    agent = defaults(AGENT) | {key.field: top[key.field] for key in AGENT if key.field in top}
    agent["sources"] = tuple(map(_source, drafts))
    agent["stream_manager"] = StreamManager(**(defaults(STREAM_MANAGER) | streams))
    return Config(**agent)


def _drafts(top: dict[str, Any], faults: list[str]) -> Iterator[Draft]:
    """Find the source that the top level describes, if it does, and those with a name."""
    given = {key.field: top[key.field] for key in SOURCE if key.field in top}
    shorthand = "glob" in given
    if shorthand:
        yield Draft(name="default", where="", own=given, shared={})
    shared = {name: value for name, value in given.items() if name != "glob"}
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
        own = read(value, SOURCE, where, faults, foreign=_FOREIGN)
        _read_s3(own, where, faults)
        yield Draft(name=name, where=where, own=own, shared=shared)


def _read_s3(values: dict[str, Any], where: str, faults: list[str]) -> None:
    """Put in the place of the map S3 what it says."""
    if "s3" in values:
        values["s3"] = read(values["s3"], S3, join(where, "S3"), faults, foreign=_FOREIGN)


def _source(draft: Draft) -> Source:
    values = {key.field: draft.get(key.field) for key in SOURCE}
    values["glob"] = Glob.parse(values["glob"].text, hidden=values["include_hidden"])
    # What the top says about deleting, moving or a key does not concern a source that has its own way.
    if values["after"] is not After.MOVE:
        values["move_to"] = None
    if values["after"] is After.KEEP:
        values["delete_after_seconds"] = 0.0
    if draft.sets_aside("kms_key_id", "encryption"):
        values["kms_key_id"] = None
    values["key"] = replace(values["key"], escaping=values["escaping"], suffix=values["compress"].suffix)
    values["s3"] = S3Settings(**{key.field: draft.get_s3(key.field) for key in S3})
    attributes = {key.field: values.pop(key.field) for key in ATTRIBUTES}
    attributes |= {name: attributes[name] or () for name in ("tags", "metadata")}
    return Source(name=draft.name, attributes=Attributes(**attributes), **values)
