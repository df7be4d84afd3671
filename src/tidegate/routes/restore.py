"""restore/post, get, list and cancel: objects come back from an archive because somebody asks for it."""

from __future__ import annotations

from contextlib import suppress
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from tidegate.config.schema import YES_OR_NO, Key, number, text, texts, whole
from tidegate.config.values import bucket_name
from tidegate.errors import ConfigFaults, NotAllowed, TidegateError
from tidegate.routes.wire import CURSOR, TOKEN, Rejected, cut, paged, stamp

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from tidegate.restoring import Restoring
    from tidegate.routes.site import Site

MOST_KEYS = 1000
_DAYS = 1
_TAG_LENGTH = 256
_WORDS = 300
_SHOWN = 3
_MORE_THAN_FIT = 60  # into an answer: a job takes at least 150 bytes there
_BYTES = number("number of bytes", "1048576", 0, 2**63)


def _tag(value: str) -> str:
    if len(value) > _TAG_LENGTH:
        raise ValueError(f"is too long; write up to {_TAG_LENGTH} characters")
    return value


def _manifest(value: str) -> str:
    bucket, _, key = value.removeprefix("s3://").partition("/")
    if not value.startswith("s3://") or not bucket or not key:
        raise ValueError("is no object; write for example s3://my-bucket/manifest.csv")
    return value


def _moment(value: str) -> float:
    try:
        found = datetime.fromisoformat(value.replace("Z", "+00:00"))
    except ValueError:
        raise ValueError("is not a time; write for example 2024-01-31T00:00:00Z") from None
    return (found if found.tzinfo else found.replace(tzinfo=timezone.utc)).timestamp()


def _keys(values: tuple[str, ...]) -> tuple[str, ...]:
    if len(values) > MOST_KEYS:
        raise ValueError(f"has {len(values)} keys; write up to {MOST_KEYS}, or a manifest")
    return values


_KEYS: Callable[[tuple[str, ...]], object] = _keys
_TEXTS: Callable[[tuple[str, ...]], object] = tuple

POST = (
    TOKEN,
    Key("bucket", "bucket", text("name of a bucket", bucket_name), None, "Where the objects are."),
    Key("prefix", "prefix", text("prefix"), None, "What their keys begin with."),
    Key("keys", "keys", texts("list of keys", _KEYS), None, "Their keys."),
    Key("manifest", "manifest", text("object", _manifest), None, "CSV that names them."),
    Key("tier", "tier", text("tier"), None, "How fast."),
    Key("days", "days", whole("number of days", "7", 1, 36_500), None, "How long their copies stay."),
    Key("tag", "tag", text("text", _tag), None, "Comes back with each event."),
    Key("classes", "classes", texts("list of classes", _TEXTS), None, "Only of these storage classes."),
    Key("suffixes", "suffixes", texts("list of suffixes", _TEXTS), None, "Only with one of these suffixes."),
    Key("smallest", "smallest", _BYTES, None, "Only of so many bytes or more."),
    Key("largest", "largest", _BYTES, None, "Only of so many bytes or fewer."),
    Key("after", "after", text("time", _moment), None, "Only what was stored then or later."),
    Key("before", "before", text("time", _moment), None, "Only what was stored then or before."),
    Key("speedUp", "speed_up", YES_OR_NO, None, "Ask again for what is under way, in this tier."),
    Key("fetch", "fetch", YES_OR_NO, None, "Download what comes back."),
)
ABOUT_JOB = (
    TOKEN,
    Key("job", "job", text("name of a job"), None, "Which job.", "is missing; write its name"),
)
LIST = (TOKEN, CURSOR)
_FILTERS = ("classes", "suffixes", "smallest", "largest", "after", "before")


def post(site: Site, fields: Mapping[str, Any]) -> dict[str, Any]:
    """Write a job down; it is run soon."""
    from tidegate.restore.nouns import Filter  # noqa: PLC0415 - few want it
    from tidegate.restoring import Different, Wanted  # noqa: PLC0415
    from tidegate.store.errors import S3Error  # noqa: PLC0415

    jobs = _jobs(site)
    if (fields["bucket"] is None) == (fields["manifest"] is None):
        raise Rejected(400, "BadRequest", "bucket: write either this, with prefix or keys, or manifest")
    listed = fields["keys"] or fields["manifest"]
    chosen = {name: fields[name] for name in _FILTERS if fields[name] is not None}
    if listed and (chosen or fields["prefix"]):
        name = next(iter(chosen), "prefix")
        raise Rejected(400, "BadRequest", f"{name}: has no use with keys or a manifest; leave it out")
    if fields["manifest"] and fields["keys"]:
        raise Rejected(400, "BadRequest", "keys: has no use with manifest; write one of the two")
    wanted = Wanted(
        bucket=fields["bucket"] or "",
        prefix=fields["prefix"] or "",
        keys=fields["keys"] or (),
        manifest=fields["manifest"] or "",
        filter=Filter(**chosen),
        tier=(fields["tier"] or "").capitalize(),
        days=fields["days"] or _DAYS,
        tag=fields["tag"] or "",
        speed_up=bool(fields["speed_up"]),
        fetch=bool(fields["fetch"]),
        token=fields["token"] or "",
    )
    try:
        return {"job": jobs.order(wanted)}
    except ConfigFaults as err:
        raise Rejected(400, "BadRequest", str(err)) from err
    except NotAllowed as err:
        raise Rejected(403, "NotAllowed", str(err)) from err
    except S3Error as err:
        code = {403: "NotAllowed", 404: "NotFound"}.get(err.status, "BadRequest")
        status = err.status if err.status in (403, 404) else 400
        raise Rejected(status, code, f"manifest: S3 says {err}") from err
    except Different as err:
        raise Rejected(409, "Conflict", str(err)) from err


def get(site: Site, fields: Mapping[str, Any]) -> dict[str, Any]:
    """Tell how far a job is."""
    said = _found(site, fields["job"])
    failed = [
        {name: cut(str(one[name]), _WORDS) for name in ("bucket", "key", "version", "code", "message")}
        for one in said["failed"][:_SHOWN]
    ]
    plan = said["plan"] or {}
    return _row(said) | {
        "phase": said["phase"],
        "days": said["days"],
        "tag": said["tag"],
        "bytes": plan.get("bytes"),
        "counts": said["counts"],
        "failures": dict(list(said["failures"].items())[:10]),
        "failed": failed,
        "namedTwice": said["namedTwice"],
        "trouble": cut(said["trouble"], _WORDS),
        "reason": cut(said["reason"], _WORDS),
    }


def listed(site: Site, fields: Mapping[str, Any]) -> dict[str, Any]:
    """Name the jobs, the oldest first. One that cannot be read is left out."""
    jobs, first = _jobs(site), fields["cursor"] or ""
    rows: list[tuple[str, dict[str, Any]]] = []
    for place, name in enumerate(jobs.names()):
        if (key := f"{place:06}") >= first and len(rows) < _MORE_THAN_FIT:
            with suppress(TidegateError):
                rows.append((key, _row(jobs.show(name))))
    return paged({}, "jobs", rows, first)


def cancel(site: Site, fields: Mapping[str, Any]) -> dict[str, Any]:
    """Have a job end. What S3 was asked for is restored all the same."""
    _found(site, fields["job"])
    return {"job": fields["job"], "was": _jobs(site).cancel(fields["job"])}


def _jobs(site: Site) -> Restoring:
    if site.restoring is None:
        raise Rejected(
            403, "NotAllowed", "nothing is restored here; Restore.Enabled in the configuration would allow it"
        )
    return site.restoring


def _found(site: Site, name: str) -> dict[str, Any]:
    from tidegate.restore.jobs import NoSuchJob  # noqa: PLC0415 - few want it

    try:
        return _jobs(site).show(name)
    except NoSuchJob as err:
        shown = cut(name, 80)
        raise Rejected(404, "NotFound", f'job: "{shown}" is not known (any more); ask restore/list') from err


def _row(said: Mapping[str, Any]) -> dict[str, Any]:
    counts = said["counts"]
    return {
        "job": said["id"],
        "state": said["status"],
        "percent": said["percent"],
        "objects": counts["total"],
        "failedObjects": counts["failed"],
        "etaSeconds": said["etaSeconds"],
        "tier": said["tier"],
        "selection": cut(said["selection"], _WORDS),
        "created": stamp(said["created"]),
    }
