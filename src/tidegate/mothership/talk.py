"""One message of a device and the reply to it: what is taken from the one, and put in the other."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

from tidegate.mothership.books import EVERY, end, note

if TYPE_CHECKING:
    from tidegate.ledger.database import Cursor

LONGEST = 200
"""Characters of a word of a device that are kept."""

INFO_BYTES = 16_384
CONFIGURED = "configured"


class NotKnown(Exception):  # noqa: N818 - an answer, not a mishap
    """Nobody has this token."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """What a device said, as far as it makes sense. Whatever else it said is passed over."""

    cause: str
    version: str = ""
    rev: int | None = None
    rejected: int | None = None
    action_id: str = ""
    message_id: int | None = None
    error: str = ""
    result: Any = None
    info: Mapping[str, Any] = field(default_factory=dict)
    wants_keys: bool = False
    keys_expire: float | None = None

    @classmethod
    def of(cls, said: object) -> Call:
        """Read a body. Raises ValueError if it is no message."""
        context = said.get("context") if isinstance(said, Mapping) else None
        if not isinstance(context, Mapping):
            raise ValueError('a message is {"context": {…}}')  # noqa: TRY004 - the caller's word for all faults
        keys = context.get("credentials")
        keys = keys if isinstance(keys, Mapping) else {}
        info = context.get("info")
        return cls(
            cause=_word(context.get("action")) or "unknown",
            version=_word(context.get("version")),
            rev=_number(context.get("rev")),
            rejected=_number(context.get("rejected")),
            action_id=_word(context.get("action_id")),
            message_id=_number(context.get("message_id")),
            error=_error(context.get("error")),
            result=context.get("result"),
            info=info if isinstance(info, Mapping) else {},
            wants_keys=keys.get("wanted") is True,
            keys_expire=_time(keys.get("expires")),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Heard:
    """Who called, and what it is told."""

    device: str
    reply: dict[str, Any]


def hear(cursor: Cursor, who: bytes | str, call: Call, now: float) -> Heard:
    """Write down what a device said, and return what to tell it. Raises NotKnown.

    `who` is the hash of its token, or its name where somebody else made sure of that.
    """
    column = "token" if isinstance(who, bytes) else "name"
    rows = cursor.rows(f"SELECT name, state, error FROM devices WHERE {column} = ?", (who,))  # noqa: S608 - of two
    if not rows:
        raise NotKnown
    name, state, error_before = rows[0]
    rows = cursor.rows(
        "SELECT rev, config FROM desired WHERE device IN (?, ?) ORDER BY device DESC LIMIT 1", (name, EVERY)
    )
    if rows and state == "registered":
        state = CONFIGURED
    backlog = call.info.get("backlog")
    backlog = backlog if isinstance(backlog, Mapping) else {}
    info = json.dumps({**call.info, "result": call.result})
    cursor.run(
        "UPDATE devices SET seen = ?, state = ?, version = ?, cause = ?, rev = ?, rejected = ?, files = ?,"
        " bytes = ?, error = ?, info = CASE WHEN ? THEN ? ELSE info END WHERE name = ?",
        (
            *(now, state, call.version, call.cause, call.rev, call.rejected),
            *(_number(backlog.get("files")), _number(backlog.get("bytes")), call.error),
            *(len(info) <= INFO_BYTES, info, name),
        ),
    )
    if call.action_id:
        _end(cursor, name, call, now)
    if call.cause != "heartbeat" or call.error != error_before:
        note(cursor, name, call.cause, call.error or _told(call.result), now)
    return Heard(device=name, reply=_reply(cursor, name, state, rows, call, now))


def _reply(
    cursor: Cursor, name: str, state: str, desired: list[Any], call: Call, now: float
) -> dict[str, Any]:
    reply: dict[str, Any] = {"state": state, "mothership": "tidegate"}
    if call.message_id is not None:
        reply["reply_to"] = call.message_id
    if state == CONFIGURED and desired and desired[0][0] not in (call.rev, call.rejected):
        reply |= {"rev": desired[0][0], "config": json.loads(desired[0][1])}
    rows = cursor.rows(
        "SELECT id, action FROM actions WHERE device = ? AND ended IS NULL ORDER BY seq LIMIT 1", (name,)
    )
    if rows:
        cursor.run("UPDATE actions SET sent = ? WHERE device = ? AND id = ?", (now, name, rows[0][0]))
        reply |= {"action_id": rows[0][0], "action": rows[0][1]}
    return reply


def _end(cursor: Cursor, name: str, call: Call, now: float) -> None:
    """Write down what became of an action, and what it came to unless that is too long."""
    answer = "error" if call.cause.endswith("+error") else "ack"
    told = json.dumps(call.error or call.result)
    end(cursor, name, call.action_id, answer, told if len(told) <= INFO_BYTES else "null", now)


def _word(value: object) -> str:
    return "".join(c for c in value[:LONGEST] if c.isprintable()) if isinstance(value, str) else ""


def _number(value: object) -> int | None:
    fits = isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**63
    return value if fits else None  # type: ignore[return-value]


def _error(value: object) -> str:
    if isinstance(value, Mapping):
        return _word(": ".join(str(value[key]) for key in ("code", "message") if value.get(key)))
    return _word(value)


def _told(result: object) -> str:
    return "" if result is None else _word(json.dumps(result))


def _time(value: object) -> float | None:
    try:
        found = datetime.fromisoformat(str(value).replace("Z", "+00:00"))
    except ValueError:
        return None
    return found.timestamp() if found.tzinfo else None
