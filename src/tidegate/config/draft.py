"""A source as far as it was given, and which of its keys do not go together."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tidegate.config.keys import S3, SOURCE, After, Archive, CarrierChoice, Evict, Layout, Mode
from tidegate.config.naming import NameEscaping
from tidegate.config.pattern import Glob
from tidegate.config.schema import FAULTY, defaults, fault, join, show

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tidegate.config.schema import Key

DEFAULTS = defaults(SOURCE)
S3_DEFAULTS = defaults(S3)
_KEYS = {key.field: key for key in SOURCE}
_S3_KEYS = {key.field: key for key in S3}

ONLY_DIRECT = (
    *("verify", "on_conflict", "storage_class", "encryption", "kms_key_id", "tags"),
    *("content_type", "cache_control", "acl", "compress"),
)
"""Fields of a source that ask for more than Stream Manager can do, unless they have their default."""

ONLY_DIRECT_S3 = (
    *("region", "endpoint_url", "addressing", "dualstack", "fips", "ca_bundle", "proxy", "role_arn"),
)
"""The same for S3: where and how it is reached. Time-outs and sizes of parts ask for nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """A source as far as it was given: what it says itself, and what it takes over from the top."""

    name: str
    where: str
    own: dict[str, Any]
    shared: dict[str, Any]

    def get(self, field: str) -> Any:
        """The value of a field, or FAULTY."""
        return self.own.get(field, self.shared.get(field, DEFAULTS[field]))

    def get_s3(self, field: str) -> Any:
        """The value of a field of S3, or FAULTY: each is taken over by itself."""
        mine, others = self.own.get("s3", {}), self.shared.get("s3", {})
        return mine.get(field, others.get(field, S3_DEFAULTS[field]))

    def path_of(self, field: str) -> str:
        """Where the value of this field stands, or would have to."""
        at_top = field not in self.own and field in self.shared
        return join("" if at_top else self.where, _KEYS[field].name)

    def path_of_s3(self, field: str) -> str:
        """Where the value of this field of S3 stands, or would have to."""
        at_top = field not in self.own.get("s3", {}) and field in self.shared.get("s3", {})
        return join(join("" if at_top else self.where, "S3"), _S3_KEYS[field].name)

    def gives(self, field: str) -> bool:
        """Whether the field is given, here or at the top."""
        return field in self.own or field in self.shared

    def sets_aside(self, field: str, by: str) -> bool:
        """Whether the source has its own `by`, which sets aside what the top says for this field."""
        return by in self.own and field not in self.own


def check(draft: Draft, faults: list[str]) -> None:
    """Find what is missing, and keys of one source that do not go together."""
    for key in SOURCE:
        if key.missing and key.field not in draft.own and key.field not in draft.shared:
            fault(faults, join(draft.where, key.name), key.missing)
    _check_after(draft, faults)
    _check_cycles(draft, faults)
    _check_policies(draft, faults)
    _check_carrier(draft, faults)
    _check_companions(draft, faults)


def _check_after(draft: Draft, faults: list[str]) -> None:
    after, move_to, delay = (draft.get(field) for field in ("after", "move_to", "delete_after_seconds"))
    if after is FAULTY:
        return
    if after is After.MOVE and move_to is None:
        fault(
            faults,
            draft.path_of("move_to"),
            "is missing, and After: Move needs it; write for example /data/sent",
        )
    if after is not After.MOVE and move_to not in {None, FAULTY} and not draft.sets_aside("move_to", "after"):
        sentence = f'"{move_to}" has no use with After: {after.value}; write After: Move, or leave it out'
        fault(faults, draft.path_of("move_to"), sentence)
    if (
        after is After.KEEP
        and delay not in {0, FAULTY}
        and not draft.sets_aside("delete_after_seconds", "after")
    ):
        sentence = f"{delay / 60:g} has no use with After: Keep; write After: Delete, or leave it out"
        fault(faults, draft.path_of("delete_after_seconds"), sentence)


def _check_cycles(draft: Draft, faults: list[str]) -> None:
    mode, layout, archive = (draft.get(field) for field in ("mode", "layout", "archive"))
    if FAULTY in {mode, layout, archive}:
        return
    if mode is Mode.CYCLE:
        if draft.get("schedule") is None and not draft.gives("interval_seconds"):
            sentence = 'is missing, and Mode: Cycle needs it or Interval; write for example "0 2 * * *"'
            fault(faults, draft.path_of("schedule"), sentence)
        if archive is not Archive.NONE and draft.get("after") is After.KEEP:
            sentence = f'"{archive.value}" cannot go with After: Keep, or all would be packed again'
            fault(faults, draft.path_of("archive"), f"{sentence}; write After: Delete or After: Move")
    else:
        for field in ("schedule", "archive", "layout"):
            value = draft.get(field)
            if value not in {DEFAULTS[field], FAULTY} and not draft.sets_aside(field, "mode"):
                shown = getattr(value, "value", None) or value.text
                sentence = f'"{shown}" has no use with Mode: Continuous; write Mode: Cycle, or leave it out'
                fault(faults, draft.path_of(field), sentence)
        key = draft.get("key")
        if key not in {None, FAULTY} and "cycle" in key.fields and not draft.sets_aside("key", "mode"):
            sentence = f'"{key.text}" has {{cycle}}, and Mode is Continuous; write Mode: Cycle, or {{now:%Y}}'
            fault(faults, draft.path_of("key"), sentence)
    both_at_one_place = ("layout" in draft.own) == ("key" in draft.own)
    if layout is Layout.THING_AND_TIME and draft.gives("key") and both_at_one_place:
        sentence = '"ThingAndTime" says what objects are called, and so does ObjectKey; write one of the two'
        fault(faults, draft.path_of("layout"), sentence)


def _check_policies(draft: Draft, faults: list[str]) -> None:
    """Find rules, customizers and the like that have no use, or that cannot be kept."""
    is_of_use = draft.get("after") in {After.KEEP, FAULTY} or draft.sets_aside("force", "after")
    if draft.get("force") is True and not is_of_use:
        sentence = "true has no use without After: Keep; write that, or leave it out"
        fault(faults, draft.path_of("force"), sentence)
    if draft.get("archive") not in {Archive.NONE, FAULTY}:
        for field in ("rules", "customizer", "remove_prefix"):
            if draft.get(field) not in {DEFAULTS[field], FAULTY} and not draft.sets_aside(field, "archive"):
                sentence = "names files, and Archive packs folders; write one of the two"
                fault(faults, draft.path_of(field), sentence)
    if draft.get("mode") is Mode.CONTINUOUS and isinstance(draft.get("rules"), tuple):
        for rule in draft.get("rules"):
            if rule.key and "cycle" in rule.key.fields and not draft.sets_aside("rules", "mode"):
                sentence = f'"{rule.key.text}" has {{cycle}}, and Mode is Continuous; write {{now:%Y}}'
                fault(faults, join(draft.path_of("rules"), f"{rule.name}.Key"), sentence)


def _check_carrier(draft: Draft, faults: list[str]) -> None:
    """Find what Stream Manager is asked for and cannot do. With Auto it is not asked."""
    carrier = draft.get("carrier")
    if draft.get("escaping") is NameEscaping.NONE and carrier not in {CarrierChoice.DIRECT, FAULTY}:
        sentence = (
            f'"None" makes keys that Stream Manager refuses, and Carrier is {carrier.value}; '
            "write Carrier: Direct, or NameEscaping: Portable"
        )
        fault(faults, draft.path_of("escaping"), sentence)
    if carrier is CarrierChoice.STREAM_MANAGER:
        for where, shown in _beyond_stream_manager(draft):
            sentence = "is more than Stream Manager can do; write Carrier: Direct, or leave it out"
            fault(faults, where, f"{shown} {sentence}")


def _beyond_stream_manager(draft: Draft) -> Iterator[tuple[str, str]]:
    """Name the places of what only the direct carrier does, and show the values."""
    for field in ONLY_DIRECT:
        value = draft.get(field)
        if value not in {DEFAULTS[field], FAULTY, ()} and not _is_set_aside(draft, field):
            yield draft.path_of(field), _shown(value, _KEYS[field])
    for field in ONLY_DIRECT_S3:
        value = draft.get_s3(field)
        if value not in {S3_DEFAULTS[field], FAULTY}:
            yield draft.path_of_s3(field), _shown(value, _S3_KEYS[field])


def _is_set_aside(draft: Draft, field: str) -> bool:
    return field == "kms_key_id" and draft.sets_aside(field, "encryption")


def _check_companions(draft: Draft, faults: list[str]) -> None:
    """Find keys that have no use without others, or with others."""
    key, encryption = draft.get("kms_key_id"), draft.get("encryption")
    is_of_use = key in {None, FAULTY} or encryption not in {None, "AES256"}
    if not is_of_use and not _is_set_aside(draft, "kms_key_id"):
        sentence = "has no use without ServerSideEncryption: aws:kms; write that, or leave it out"
        fault(faults, draft.path_of("kms_key_id"), f"{show(key)} {sentence}")
    evict = draft.get("evict")
    if evict not in {Evict.NEVER, FAULTY} and draft.get("disk_limit") is None:
        sentence = (
            f'"{evict.value}" has no use without DiskLimit; write for example DiskLimit: 90%, or Evict: Never'
        )
        fault(faults, draft.path_of("evict"), sentence)
    if isinstance(draft.get_s3("endpoint_url"), str):
        for field in ("dualstack", "fips"):
            if draft.get_s3(field) is True:
                sentence = "true has no use with EndpointUrl, which says where S3 is; write one of the two"
                fault(faults, draft.path_of_s3(field), sentence)


def check_moves(drafts: list[Draft], faults: list[str]) -> None:
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


def check_archives(drafts: list[Draft], faults: list[str]) -> None:
    """What is in an archive is let go with it, so no other source may be waiting to send it."""
    for draft in drafts:
        glob, archive = draft.get("glob"), draft.get("archive")
        if archive in {Archive.NONE, FAULTY} or draft.get("mode") is not Mode.CYCLE:
            continue
        for other in drafts:
            others = other.get("glob")
            if other is draft or not (isinstance(glob, Glob) and isinstance(others, Glob)):
                continue
            mine, its = (f"{one.root.rstrip('/')}/" for one in (glob, others))
            if mine.startswith(its) or its.startswith(mine):
                sentence = f'"{archive.value}" packs files of {glob.root}, and {other.name} sends them, too'
                fault(faults, draft.path_of("archive"), f"{sentence}; write folders apart from each other")


def _shown(value: Any, key: Key) -> str:
    if isinstance(value, enum.Enum):
        return f'"{value.value}"'
    return "a map" if isinstance(value, tuple) else show(value, login=key.kind.login)
