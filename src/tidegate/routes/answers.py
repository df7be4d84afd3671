"""explain/get and configuration/get: why a file has not gone, and what the agent was told."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict
from dataclasses import fields as fields_of
from typing import TYPE_CHECKING, Any

from tidegate.config import Download
from tidegate.config.home import HOME
from tidegate.config.keys import AGENT, EVENTS, OBJECTS, S3, SOURCE, STREAM_MANAGER
from tidegate.config.places import DOWNLOAD, SOCKET
from tidegate.config.schema import YES_OR_NO, Key, entries, text
from tidegate.routes.orders import PATH
from tidegate.routes.wire import CURSOR, TOKEN, Rejected, cut, fitting, packed, paged, stamp
from tidegate.view.explain import explain as findings_about
from tidegate.view.render import explanation

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from tidegate.routes.site import Site

_LONGEST = 600
_WORDS = (_LONGEST, 200, 80)
_VALUES = (400, 150, 50)
"""How long a text may be; the shorter ones are for when there is much to tell."""

_EXPLAINED_BYTES = 3500
_ROW_BYTES = 2500
_LOGIN = re.compile(r"//[^/@]*@")
_SECRET = re.compile(r"secret|password|passwd|token|credential|(api|private|access)[-_ ]?key", re.IGNORECASE)
_SECTIONS = ("Sources", "StreamManager", "Objects", "Events", "Home")
_DOWNLOAD = (*DOWNLOAD, *(key for key in SOURCE if key.field in {one.name for one in fields_of(Download)}))
_SOCKET = (*SOCKET, *OBJECTS)


def _id(value: str) -> bytes:
    try:
        found = bytes.fromhex(value)
    except ValueError as err:
        raise ValueError("is no id; write the one that objects/post has answered") from err
    if len(found) != 16:
        raise ValueError("is no id; write the one that objects/post has answered")
    return found


EXPLAIN = (TOKEN, PATH, CURSOR, Key("id", "id", text("id", _id), None, "Which promise is meant."))
CONFIGURATION = (TOKEN, CURSOR)


def explain(site: Site, fields: Mapping[str, Any]) -> dict[str, Any]:
    """Tell why a file has not gone yet, or what became of it, or of a promise by its id."""
    path, id_ = fields["path"], fields["id"]
    if (path is None) == (id_ is None):
        raise Rejected(
            400, "BadRequest", "path: is missing; write the path of a file, or the id of a promise"
        )
    moment = site.clock.now()
    if id_ is not None:
        promises = site.books.promise(id_)
        if not promises:
            raise Rejected(404, "NotFound", f'id: "{id_.hex()}" is not known (any more); write another')
        path, findings = promises[0].path, []
    else:
        promises = site.books.promises(path)
        findings = findings_about(
            path,
            site.config,
            choose=site.choose,
            thing=site.thing,
            never=site.never,
            moment=moment,
            archives=site.archives,
            namers=site.agent.namers,
        )
    snapshot = site.agent.snapshot()
    reports = {name: asdict(report) for name, report in snapshot.sources.items()}
    seen = {"troubles": snapshot.troubles, "lanes": snapshot.lanes, "sources": reports}
    found = explanation(path, findings, promises, site.books, seen, now=moment.wall)
    head = fitting(lambda words: _explained(site, found, words), _EXPLAINED_BYTES, _WORDS)
    rows = [(f"{number:04}", _promise(site, one)) for number, one in enumerate(found["promises"])]
    return paged(head, "promises", rows, fields["cursor"])


def _explained(site: Site, found: Mapping[str, Any], words: int) -> dict[str, Any]:
    sources = [
        _short(one, words)
        | {
            "paused": site.ledger.orders.is_paused(one["source"]),
            "nextCycle": stamp(found["cycles"].get(one["source"], {}).get("next_at")),
        }
        for one in found["sources"][:4]
    ]
    buckets = list(found["paused"].items())[:2]
    return {
        "path": cut(found["path"], words),
        "exists": found["exists"],
        "at": stamp(found["at"]),
        "sources": sources,
        "troubles": [cut(str(one["reason"]), words // 2) for one in found["troubles"].values()][:2],
        "bucketsPaused": {bucket: cut(note, words // 2) for bucket, note in buckets},
    }


def _promise(site: Site, one: Mapping[str, Any]) -> dict[str, Any]:
    shown = {
        name: one[name] for name in ("source", "state", "means", "target", "size", "carrier", "attempts")
    }
    return _short(shown, _LONGEST) | {
        "since": stamp(one["changed_at"]),
        "due": stamp(one["due"]) if one["due"] else None,
        "note": cut(one["note"] or "", _LONGEST),
        "paused": site.ledger.orders.is_paused(one["source"]),
    }


def _short(values: Mapping[str, Any], words: int) -> dict[str, Any]:
    return {name: cut(value, words) if isinstance(value, str) else value for name, value in values.items()}


def configuration(site: Site, fields: Mapping[str, Any]) -> dict[str, Any]:
    """Show what holds: what was given, and the default of what was not. Logins and secrets are not shown."""
    raw, config = _given(site.raw), site.config
    head = {
        "thing": cut(site.thing, _VALUES[0]),
        "agent": _effective(AGENT, [raw], skip=_SECTIONS),
        "streamManager": _effective(STREAM_MANAGER, [_given(raw.get("streammanager"))]),
        "events": _effective(EVENTS, [_given(raw.get("events"))]),
    }
    if config.home:
        head["home"] = _effective(HOME, [_given(raw.get("home"))], skip=("Commands",), most=_VALUES[-1])
    kinds: list[tuple[Sequence[Key], Iterable[str]]] = [
        (SOURCE, [source.name for source in config.sources]),
        (_DOWNLOAD, [download.name for download in config.downloads]),
        (_SOCKET, [socket.way.name for socket in config.sockets]),
    ]
    shared = {name: value for name, value in raw.items() if name != "pathname"}
    rows = []
    for keys, names in kinds:
        for name in names:
            own = _named(raw.get("sources"), name)
            rows.append((name, _source(name, keys, [raw if own is None else own, shared])))
    if config.objects:
        rows.append(("objects", _source("objects", OBJECTS, [_given(raw.get("objects")), shared])))
    return paged(head, "sources", sorted(rows), fields["cursor"])


def _source(name: str, keys: Sequence[Key], homes: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Show one source; where there is much to show, each value is cut shorter."""
    s3 = [_given(home.get("s3")) for home in homes]

    def shown(most: int) -> dict[str, Any]:
        values = _effective(keys, homes, skip=("S3",), most=most)
        return {"name": name, **values, "S3": _effective(S3, s3, most=most)}

    return fitting(shown, _ROW_BYTES, _VALUES)


def _effective(
    keys: Sequence[Key], homes: Sequence[Mapping[str, Any]], skip: Sequence[str] = (), most: int = _VALUES[0]
) -> dict[str, Any]:
    """Return each key with its value in the first home that gives one, else its default."""
    values = {}
    for key in keys:
        if key.name in skip:
            continue
        given = [home[key.name.lower()] for home in homes if key.name.lower() in home]
        value = given[0] if given else _default(key)
        if value not in (None, (), ""):
            values[key.name] = _shown(value, login=key.kind.login, most=most)
    return values


def _default(key: Key) -> object:
    return key.default == "true" if key.kind is YES_OR_NO else key.default


def _shown(value: object, *, login: bool, most: int) -> object:
    if isinstance(value, str):
        return cut(_LOGIN.sub("//…@", value) if login else value, most)
    value = _masked(value)
    return value if len(packed(value)) <= most else cut(str(value), most)


def _masked(value: object) -> object:
    """Leave out what a map calls a secret: settings of customizers may hold some."""
    if isinstance(value, Mapping):
        return {name: "…" if _SECRET.search(name) else _masked(one) for name, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_masked(one) for one in value]
    return value


def _given(raw: object) -> dict[str, Any]:
    """Return what a mapping gives, by key in lower case."""
    return {name.lower(): value for name, value in entries(raw, "", [])} if raw is not None else {}


def _named(sources: object, name: str) -> dict[str, Any] | None:
    found = _given(sources).get(name.lower())
    return None if found is None else _given(found)
