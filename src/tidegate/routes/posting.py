"""objects/post, as it is written: what may stand in a request, and what it comes to."""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tidegate.config.schema import Key, Kind, pairs, show, text, whole
from tidegate.config.values import content_type, user_metadata
from tidegate.policy import TYPE_METADATA
from tidegate.routes.wire import SECONDS, SOURCE, TOKEN, Rejected, fields_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

WAIT_SECONDS = 10
MOST_OBJECTS = 100
MOST_PARTS = 10_000


def _key(value: str) -> str:
    if value.startswith("/") or value.endswith("/") or "\0" in value or not value.strip("/"):
        raise ValueError("is no key; write a name such as reports/today.json, without slashes at its ends")
    if any(part in {"", ".", ".."} for part in value.split("/")):
        raise ValueError(
            "has an empty or dotted part between slashes; write a name such as reports/today.json"
        )
    return value


def _base64(value: str) -> bytes:
    try:
        return base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError) as err:
        raise ValueError('is not Base64; write for example "eyJhIjogMX0="') from err


def _utf8(value: str) -> bytes:
    try:
        return value.encode()
    except UnicodeEncodeError as err:
        raise ValueError("holds half a character (a lone surrogate); write it as bodyBase64") from err


def _path(value: str) -> str:
    if not value.startswith("/") or "\0" in value:
        raise ValueError("is no absolute path; write for example /data/a.csv")
    return value


def _upload(value: str) -> str:
    if not 0 < len(value) <= 64 or not value.isprintable():
        raise ValueError("is no name for an upload; write up to 64 printable characters")
    return value


def _sha256(value: str) -> str:
    found = value.strip().lower()
    if len(found) != 64 or not all(letter in "0123456789abcdef" for letter in found):
        raise ValueError("is no SHA-256; write its 64 hexadecimal digits")
    return found


def _list(value: object) -> object:
    if not isinstance(value, (list, tuple)):
        raise ValueError('is not a list; write for example [{"key": "a", "body": "1"}]')  # noqa: TRY004
    if not 0 < len(value) <= MOST_OBJECTS:
        raise ValueError(f"has {len(value)} entries; write 1 to {MOST_OBJECTS}")
    return value


_NUMBER = whole("number of a part", "1", 1, MOST_PARTS)
_OBJECT = (
    Key("key", "key", text("key", _key), None, "What the object is called."),
    Key("body", "body", text("text", _utf8), None, "What it holds, as text."),
    Key("bodyBase64", "base64", text("Base64", _base64), None, "What it holds, as bytes."),
    Key("contentType", "type", text("media type", content_type), None, "What that is."),
    Key("metadata", "metadata", pairs("map of texts", user_metadata), None, "What S3 keeps beside it."),
    Key("path", "path", text("path", _path), None, "A file under a source, to go now."),
    SOURCE,
)
_REQUEST = (
    *_OBJECT,
    TOKEN,
    Key("waitSeconds", "wait", SECONDS, WAIT_SECONDS, "How long to wait for it to be stored."),
    Key("objects", "objects", Kind(words="list of objects", read=_list), None, "Several objects."),
    Key("upload", "upload", text("name of an upload", _upload), None, "What parts belong to."),
    Key("part", "part", _NUMBER, None, "Which part this is."),
    Key("parts", "parts", _NUMBER, None, "How many there are."),
    Key("sha256", "sha256", text("SHA-256", _sha256), None, "Of the whole object."),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """One object: bytes and a key, or the path of a file. `source` is as the caller wrote it, if at all."""

    key: str = ""
    data: bytes | None = None
    path: str = ""
    metadata: Mapping[str, str]
    source: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One part of a large object, or with no data the question which parts are there."""

    upload: str
    number: int | None
    count: int | None
    sha256: str | None
    data: bytes | None
    wanted: Wanted | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Posting:
    """A request to store objects, or (`part`) a part of one."""

    wanted: Sequence[Wanted]
    wait: float
    part: Part | None = None


def posting_of(raw: Mapping[str, Any]) -> Posting:
    """Read a request. Raises Rejected."""
    fields = fields_of(_verbatim(raw), _REQUEST)
    wait = WAIT_SECONDS if fields["wait"] is None else fields["wait"]
    if fields["upload"] is not None:
        return Posting(wanted=(), wait=wait, part=_part(fields))
    for name in ("part", "parts", "sha256"):
        if fields[name] is not None:
            raise _bad(
                f"{name}: {show(raw.get(name))} has no use without upload; write upload, or leave it out"
            )
    if fields["objects"] is None:
        return Posting(wanted=[_wanted(fields, "")], wait=wait)
    wanted = []
    for number, one in enumerate(fields["objects"]):
        where = f"objects[{number}]"
        if not isinstance(one, dict):
            raise _bad(f'{where}: {show(one)} is not a map; write {{"key": "a", "body": "1"}}')
        found = fields_of(_verbatim(one), _OBJECT, where)
        found["source"] = found["source"] or fields["source"]
        wanted.append(_wanted(found, f"{where}."))
    return Posting(wanted=wanted, wait=wait)


class _Verbatim(str):
    """A text that counts as given whatever it holds: of others, "" and "null" mean that they are not."""

    __slots__ = ()

    def strip(self, chars: str | None = None, /) -> str:  # noqa: ARG002
        """Show who looks for nothing that there is something."""
        return f"{self}."


def _verbatim(raw: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: _Verbatim(value) if name.lower() in {"body", "bodybase64"} and isinstance(value, str) else value
        for name, value in raw.items()
    }


def _wanted(fields: Mapping[str, Any], where: str) -> Wanted:
    data = _data(fields, where)
    metadata = dict(fields["metadata"] or ())
    if fields["type"]:
        metadata[TYPE_METADATA] = fields["type"]
    if fields["path"] is not None:
        if data is not None or fields["key"] is not None or metadata:
            raise _bad(
                f"{where}path: {show(fields['path'])} names a file; leave out key, body and what goes with it"
            )
        return Wanted(path=fields["path"], metadata={}, source=fields["source"])
    if fields["key"] is None:
        raise _bad(f"{where}key: is missing; write what the object is called, for example reports/today.json")
    if data is None:
        raise _bad(f"{where}body: is missing; write body, bodyBase64 or, instead of a key, path")
    return Wanted(key=fields["key"], data=data, metadata=metadata, source=fields["source"])


def _data(fields: Mapping[str, Any], where: str) -> bytes | None:
    if fields["body"] is not None and fields["base64"] is not None:
        raise _bad(f"{where}bodyBase64: stands beside body; write one of the two")
    if fields["body"] is not None:
        return bytes(fields["body"])
    if fields["base64"] is not None:
        return bytes(fields["base64"])
    return None


def _part(fields: Mapping[str, Any]) -> Part:
    data = _data(fields, "")
    if fields["objects"] is not None or fields["path"] is not None:
        raise _bad("upload: is for one object with a body; leave out objects and path")
    number, count = fields["part"], fields["parts"]
    if data is not None and (number is None or count is None):
        raise _bad("part: is missing; write part and parts with each body, for example 1 and 3")
    if number is not None and count is not None and number > count:
        raise _bad(f"part: {number} is more than parts, {count}; write a number from 1 to {count}")
    wanted = None
    if fields["key"] is not None:
        metadata = dict(fields["metadata"] or ())
        if fields["type"]:
            metadata[TYPE_METADATA] = fields["type"]
        wanted = Wanted(key=fields["key"], metadata=metadata, source=fields["source"])
    return Part(
        upload=fields["upload"],
        number=number,
        count=count,
        sha256=fields["sha256"],
        data=data,
        wanted=wanted,
    )


def _bad(message: str) -> Rejected:
    return Rejected(400, "BadRequest", message)
