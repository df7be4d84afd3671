"""What a request looks like, what an answer looks like, and how large it may be."""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from tidegate.config.schema import Key, fault, read, show, text, whole
from tidegate.errors import LedgerLost, TidegateError, Unavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

log = logging.getLogger(__name__)

REPLY_BYTES = 6000
"""No answer and no event is larger, as JSON: more than about 7,200 kills the connection to a nucleus."""

REQUEST_BYTES = 1_048_576
"""No request may be larger. Most doors take less."""

TOKEN_LENGTH = 64


class Rejected(TidegateError):  # noqa: N818 - the vocabulary of the doors
    """A request that is not done, and why: key, value and remedy."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code


@dataclass(frozen=True, slots=True)
class Reply:
    """The answer. `status` is one of HTTP's; below 400 the request was accepted.

    `body` holds `status`, the caller's `clientToken`, and for a rejected one `code` and `message`. As JSON it
    has at most `REPLY_BYTES`.
    """

    status: int
    body: Mapping[str, Any] = field(default_factory=dict)

    @property
    def accepted(self) -> bool:
        """Whether the request was, or will be, done."""
        return self.status < 400

    def json(self) -> bytes:
        """Write it down."""
        return packed(self.body)


def _token(value: str) -> str:
    if len(value) > TOKEN_LENGTH or not value.isprintable():
        raise ValueError(f"is no token; write up to {TOKEN_LENGTH} printable characters")
    return value


TOKEN = Key("clientToken", "token", text("token", _token), None, "Comes back with the answer.")
CURSOR = Key("cursor", "cursor", text("cursor"), None, "Where the last page ended.")
SOURCE = Key("source", "source", text("name of a source"), None, "Which source is meant.")
SECONDS = whole("number of seconds", "10", 0, 600)


def failure(error: Exception) -> Rejected:
    """Say what went wrong, as an answer: what will pass, that it is worth asking again; a fault is logged."""
    if isinstance(error, Rejected):
        return error
    if isinstance(error, Unavailable):
        return Rejected(503, "Unavailable", f"{error}; ask again later")
    if isinstance(error, LedgerLost):
        return Rejected(503, "Unavailable", f"the ledger cannot be used: {error}; ask again in a minute")
    log.error("a request failed", exc_info=error)
    return Rejected(500, "Failed", f"it failed for a reason that is logged: {type(error).__name__}")


def payload_of(payload: bytes) -> dict[str, Any]:
    """Read a payload. Nothing at all is an empty map. Raises Rejected."""
    if len(payload) > REQUEST_BYTES:
        raise Rejected(
            413, "TooLarge", f"the request has {len(payload)} bytes; write at most {REQUEST_BYTES}, in parts"
        )
    try:
        found = json.loads(payload) if payload.strip() else {}
    except (ValueError, RecursionError) as err:  # JSON and UTF-8
        raise Rejected(400, "BadRequest", f"the request is not JSON: {str(err)[:200]}; write a map") from err
    if not isinstance(found, dict):
        raise Rejected(400, "BadRequest", f'the request is {show(found)}; write a map: {{"key": "value"}}')
    return found


def fields_of(raw: Mapping[str, Any], keys: Iterable[Key], where: str = "") -> dict[str, Any]:
    """Read what was given of these keys, by field; what was not given is None. Raises Rejected.

    All faults are told, each with key, value and remedy.
    """
    keys = tuple(keys)
    faults: list[str] = []
    values = read(raw, keys, where, faults, foreign={})
    for key in keys:
        if key.missing and key.field not in values:
            fault(faults, f"{where}.{key.name}" if where else key.name, key.missing)
    if faults:
        lines = [line.replace("the configuration: ", "the request: ") for line in faults]
        raise Rejected(400, "BadRequest", "\n".join(lines))
    return {key.field: values.get(key.field) for key in keys}


def token_of(raw: Mapping[str, Any]) -> str:
    """Return the token of a request that may be faulty otherwise; empty: none, or none that can be used."""
    value = raw.get("clientToken")
    return value if isinstance(value, str) and len(value) <= TOKEN_LENGTH and value.isprintable() else ""


def accepted(body: Mapping[str, Any], token: str = "", status: int = 200) -> Reply:
    """Make the answer to a request that was done."""
    return Reply(status, _head(status, token) | dict(body))


def rejected(error: Rejected, token: str = "", more: Mapping[str, Any] | None = None) -> Reply:
    """Make the answer to one that was not."""
    words = {"code": error.code, "message": cut(str(error), 1000)}
    return Reply(error.status, _head(error.status, token) | words | dict(more or {}))


def _head(status: int, token: str) -> dict[str, Any]:
    return {"status": status, **({"clientToken": token} if token else {})}


def paged(
    head: Mapping[str, Any], name: str, rows: Sequence[tuple[str, Mapping[str, Any]]], cursor: str | None
) -> dict[str, Any]:
    """Put as many of the rows below `name` as there is room for beside the head, from the cursor on.

    Each row has a key, in order; if some are left, `cursor` of the result is the key of the first of them.
    A row that does not fit alone is left out, with a word instead of it.
    """
    room = REPLY_BYTES - 200 - TOKEN_LENGTH * 12 - len(packed(head))  # what _head adds, and the cursor
    body: dict[str, Any] = {**head, name: []}
    listed: list[Any] = body[name]
    for key, row in rows:
        if cursor is not None and key < cursor:
            continue
        size = len(packed(row)) + 2
        if size > room and listed:
            body["cursor"] = key
            break
        listed.append(row if size <= room else {"name": key, "message": "too much to tell"})
        room -= size
    return body


def fitting(make: Callable[[int], dict[str, Any]], most: int, words: Sequence[int]) -> dict[str, Any]:
    """Make it with texts so short that it takes no more than so many bytes, or as short as they get."""
    for length in words:
        made = make(length)
        if len(packed(made)) <= most:
            break
    return made


def packed(value: object) -> bytes:
    """Write as JSON, without blanks. Odd file names become escapes."""
    return json.dumps(value, ensure_ascii=True, separators=(",", ":")).encode("ascii")


def cut(words: str, most: int) -> str:
    """Shorten a text to so many characters of JSON."""
    if len(packed(words)) <= most + 2:
        return words
    while len(packed(words)) > most - 4:
        words = words[: max(0, min(len(words) - 1, len(words) * most // len(packed(words))))]
    return f"{words}…"


def stamp(seconds: float | None) -> str | None:
    """Write a moment on the wall clock as ISO 8601 in UTC, to the millisecond."""
    if seconds is None:
        return None
    moment = datetime.fromtimestamp(seconds, timezone.utc)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
