"""The configuration as frozen values, parsed from any mapping of plain values. Opens none of its files."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

from tidegate.config.back import RESTORE, RestoreSettings, restore_of
from tidegate.config.draft import (
    DEFAULTS,
    ONLY_DIRECT,
    ONLY_DIRECT_S3,
    S3_DEFAULTS,
    Draft,
    check,
    check_archives,
    check_moves,
)
from tidegate.config.home import HOME, home_of
from tidegate.config.inward import (
    Download,
    Socket,
    check_targets,
    download_of,
    kind_of,
    socket_of,
)
from tidegate.config.keys import (
    AGENT,
    ATTRIBUTES,
    EVENTS,
    OBJECTS,
    S3,
    SOURCE,
    STREAM_MANAGER,
    After,
    Archive,
    Evict,
    HoldBack,
    Layout,
    Mode,
)
from tidegate.config.naming import THING_AND_TIME
from tidegate.config.pattern import Glob
from tidegate.config.places import DOWNLOAD, SOCKET
from tidegate.config.rules import CUSTOMIZER, RULE, read_customizer, read_rules
from tidegate.config.schema import defaults, entries, fault, join, read
from tidegate.errors import ConfigFaults

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from tidegate.config.bandwidth import Bandwidth
    from tidegate.config.home import HomeSettings
    from tidegate.config.keys import (
        CarrierChoice,
        Compress,
        OnConflict,
        UploadOrder,
        Verify,
    )
    from tidegate.config.naming import KeyTemplate, NameEscaping
    from tidegate.config.pattern import Excludes
    from tidegate.config.rules import Customizer, Rule
    from tidegate.config.schedule import Schedule
    from tidegate.config.values import DiskLimit, Pairs

OBJECTS_NAME = "objects"
"""What the way of posted objects is called that name no source. No source may be."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
_HOMES = (
    ("at the top", AGENT),
    ("at the top or in a source", SOURCE),
    ("under StreamManager", STREAM_MANAGER),
    ("under S3", S3),
    ("under Events", EVENTS),
    ("in a rule", RULE),
    ("under Customizer", CUSTOMIZER),
    ("under Home", HOME),
    ("under Restore", RESTORE),
    ("in a source with Direction: Download", DOWNLOAD),
    ("in a source with Socket", SOCKET),
)
_POSTED = {
    # What is posted is a body of ours: nobody else writes it, and nobody misses it when it is stored.
    "glob": Glob.parse("/*"),
    "mode": Mode.CONTINUOUS,
    "schedule": None,
    "archive": Archive.NONE,
    "remove_prefix": "",
    "rules": (),
    "customizer": None,
    "delay_seconds": 0.0,
    "force": False,
    "layout": DEFAULTS["layout"],
    "after": After.DELETE,
    "delete_after_seconds": 0.0,
    "disk_limit": None,
    "evict": Evict.NEVER,
}


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
    most urgent. Cycles begin by `schedule` or, where that is None, each `interval_seconds`.
    """

    name: str
    glob: Glob
    exclude: Excludes
    bucket: str
    prefix: str
    key: KeyTemplate
    remove_prefix: str
    rules: tuple[Rule, ...]
    customizer: Customizer | None
    layout: Layout
    escaping: NameEscaping
    mode: Mode
    interval_seconds: float
    schedule: Schedule | None
    archive: Archive
    hold_back: HoldBack
    quiet_seconds: float
    delay_seconds: float
    max_hold_seconds: float
    after: After
    move_to: str | None
    delete_after_seconds: float
    follow_symlinks: bool
    include_hidden: bool
    force: bool
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
class EventSettings:
    """What is told unasked. `stored` is "All", "Posted" or "None"; `carriers` means down as well as up."""

    stored: Literal["All", "Posted", "None"]
    failed: bool
    quarantined: bool
    held_too_long: bool
    configuration_rejected: bool
    cycle_finished: bool
    carriers: bool
    restores: bool
    held_seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Everything a user can say. `thing` is None when it is for the environment to say.

    `objects` is the way of posted objects that name no source; None: there is none. With a `home` there
    may be no sources yet.

    A `bandwidth` of None is no limit, a `time_zone` of None that of the system. Of topics that are None
    there are none; `{thing}` in them is for who uses them. `file` names where some of this stood.
    """

    sources: tuple[Source, ...]
    downloads: tuple[Download, ...]
    sockets: tuple[Socket, ...]
    objects: Source | None
    events: EventSettings
    home: HomeSettings | None
    restore: RestoreSettings | None
    thing: str | None
    log_level: str
    log_format: str
    max_concurrent: int
    bandwidth: Bandwidth | None
    time_zone: str | None
    local_topics: str | None
    cloud_topics: str | None
    metrics: bool
    metrics_namespace: str
    metrics_seconds: float
    iot_jobs: bool
    heartbeat_seconds: float | None
    shadow: str | None
    file: str | None
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
    events = read(top.pop("events", {}), EVENTS, "Events", faults, foreign=_FOREIGN)
    home = read(top.get("home", {}), HOME, "Home", faults, foreign=_FOREIGN)
    settings = home_of(home, faults) if "home" in top else None
    restore = _restore(top, faults)
    objects = _objects(top, faults)
    drafts = list(_drafts(top, faults, restores=restore is not None))
    downloads, sockets = _inward(top, faults)
    for draft in (*drafts, *sockets):
        check(draft, faults)
    check_targets(downloads, drafts, faults)
    check_moves(drafts, faults)
    check_archives(drafts, faults)
    if faults:
        raise ConfigFaults(tuple(dict.fromkeys(faults)))  # what stands at the top is at fault only once
    agent = defaults(AGENT) | {key.field: top[key.field] for key in AGENT if key.field in top}
    agent["sources"] = tuple(map(_source, drafts))
    agent["downloads"] = tuple(map(_download, downloads))
    agent["sockets"] = tuple(map(_socket, sockets))
    agent["objects"] = _source(objects) if objects else None
    agent["events"] = EventSettings(**(defaults(EVENTS) | events))
    agent["home"] = settings
    agent["restore"] = restore
    agent["stream_manager"] = StreamManager(**(defaults(STREAM_MANAGER) | streams))
    return Config(**agent)


def _restore(top: dict[str, Any], faults: list[str]) -> RestoreSettings | None:
    own = read(top.get("restore", {}), RESTORE, "Restore", faults, foreign=_FOREIGN)
    draft = Draft(name="restore", where="Restore", own={}, shared=top)
    return restore_of(own, lambda: S3Settings(**{key.field: draft.get_s3(key.field) for key in S3}), faults)


def _drafts(top: dict[str, Any], faults: list[str], *, restores: bool) -> Iterator[Draft]:
    """Find the source that the top level describes, if it does, and those with a name."""
    given = {key.field: top[key.field] for key in SOURCE if key.field in top}
    shorthand = "glob" in given
    if shorthand:
        yield Draft(name="default", where="", own=given, shared={})
    shared = {name: value for name, value in given.items() if name != "glob"}
    before = len(faults)
    named = entries(top.get("sources", {}), "Sources", faults)
    alone = restores or {"objects", "home"} & top.keys()  # enough without any source
    if not shorthand and not named and not alone and len(faults) == before:
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
        if name.lower() == OBJECTS_NAME:
            fault(faults, where, "is what posted objects are called; choose another name")
        if shorthand and name.lower() == "default":
            fault(
                faults, where, "is what the source made by PathName at the top is called; choose another name"
            )
        if kind_of(value, where, faults):
            continue
        own = read(value, SOURCE, where, faults, foreign=_FOREIGN | {"direction": ""})
        _read_s3(own, where, faults)
        yield Draft(name=name, where=where, own=own, shared=shared)


def _inward(top: dict[str, Any], faults: list[str]) -> tuple[list[Draft], list[Draft]]:
    """Find the sources that do not watch a folder: downloads and sockets."""
    shared = {key.field: top[key.field] for key in SOURCE if key.field in top and key.field != "glob"}
    downloads, sockets = [], []
    for name, value in entries(top.get("sources", {}), "Sources", []):
        where = join("Sources", name)
        kind = kind_of(value, where, [])
        if kind == "download":
            downloads.append(download_of(name, where, value, shared, faults))
            _read_s3(downloads[-1].own, where, faults)
        elif kind == "socket":
            draft = socket_of(name, where, value, shared, faults)
            _read_s3(draft.own, where, faults)
            sockets.append(replace(draft, own=draft.own | _POSTED))
    return downloads, sockets


def _download(draft: Draft) -> Download:
    own = {key.field: draft.own[key.field] for key in DOWNLOAD if key.field != "direction"}
    shared = {field: draft.get(field) for field in ("bucket", "interval_seconds", "priority", "verify")}
    s3 = S3Settings(**{key.field: draft.get_s3(key.field) for key in S3})
    return Download(name=draft.name, s3=s3, **own, **shared)


def _socket(draft: Draft) -> Socket:
    own = {key.field: draft.own[key.field] for key in SOCKET}
    return Socket(way=_source(draft), **own)


def _objects(top: dict[str, Any], faults: list[str]) -> Draft | None:
    """Find where objects go that are posted; nowhere, if no bucket is known and none was asked for."""
    if "objects" not in top and "bucket" not in top:
        return None
    own = read(top.get("objects", {}), OBJECTS, "Objects", faults, foreign=_FOREIGN)
    _read_s3(own, "Objects", faults)
    shared = {key.field: top[key.field] for key in SOURCE if key.field in top and key.field != "glob"}
    draft = Draft(name=OBJECTS_NAME, where="Objects", own=own | _POSTED, shared=shared)
    check(draft, faults)
    return draft


def _read_s3(values: dict[str, Any], where: str, faults: list[str]) -> None:
    """Put in the place of the map S3 what it says, and the same for rules and a customizer."""
    if "s3" in values:
        values["s3"] = read(values["s3"], S3, join(where, "S3"), faults, foreign=_FOREIGN)
    if "rules" in values:
        values["rules"] = read_rules(values["rules"], join(where, "Rules"), faults, foreign=_FOREIGN)
    if "customizer" in values:
        given, place = values["customizer"], join(where, "Customizer")
        values["customizer"] = read_customizer(given, place, faults, foreign=_FOREIGN)


def _source(draft: Draft) -> Source:
    values = {key.field: draft.get(key.field) for key in SOURCE}
    values["glob"] = Glob.parse(values["glob"].text, hidden=values["include_hidden"])
    # What the top says about deleting, moving or a key does not concern a source that has its own way.
    if values["after"] is not After.MOVE:
        values["move_to"] = None
    if values["after"] is After.KEEP:
        values["delete_after_seconds"] = 0.0
    if values["mode"] is Mode.CONTINUOUS:
        values |= {"schedule": None, "archive": Archive.NONE}
    else:
        if values["layout"] is Layout.THING_AND_TIME and not draft.sets_aside("layout", "key"):
            values["key"] = THING_AND_TIME
        if not draft.gives("hold_back"):  # what a cycle finds is what is meant to go
            values["hold_back"] = HoldBack.NONE
    if draft.sets_aside("kms_key_id", "encryption"):
        values["kms_key_id"] = None
    made = {"escaping": values["escaping"], "suffix": values["compress"].suffix}
    values["key"] = replace(values["key"], **made)
    values["rules"] = tuple(
        replace(rule, key=rule.key and replace(rule.key, **made)) for rule in values["rules"]
    )
    if values["after"] is not After.KEEP:
        values["force"] = False
    values["s3"] = S3Settings(**{key.field: draft.get_s3(key.field) for key in S3})
    attributes = {key.field: values.pop(key.field) for key in ATTRIBUTES}
    attributes |= {name: attributes[name] or () for name in ("tags", "metadata")}
    return Source(name=draft.name, attributes=Attributes(**attributes), **values)
