"""What a mothership may say. Everything it says is looked at before any of it counts.

A reply is taken whole or not at all: what is half right was half meant.
"""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

from tidegate.errors import Refused

if TYPE_CHECKING:
    from collections.abc import Mapping

REPLY_BYTES = 262_144
COOKIE_BYTES = 32_768
"""Of what a mothership has us keep for itself, as JSON."""

CONFIGURED = "configured"
UNREGISTERED = "unregistered"
ERROR = "error"
"""State of a device that cannot read what it had kept."""

LONGEST_LIFE_SECONDS = 36 * 3600.0
"""Credentials that are good for longer are no short-lived ones, and are not taken."""

_ITS = ("aws_keys", "config", "rev", "action", "action_id", "reply_to")
_OURS = ("version", "info", "result", "error", "rejected", "message_id", "credentials")
"""What only a device says: no mothership can have it say something else."""

_WORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:+-]{0,127}")
_DEEPEST = 32


@dataclass(frozen=True, slots=True)
class Keys:
    """Short-lived credentials, and when they end, in seconds since 1970."""

    access_key_id: str
    secret_access_key: str = field(repr=False)
    session_token: str = field(repr=False)
    expires: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """A reply that makes sense. `cookie` is what we keep and send back unread, `state` within.

    `rev` names the configuration, and `action_id` the action; both are None where nobody named them.
    """

    cookie: Mapping[str, Any]
    config: Mapping[str, Any] | None = None
    rev: int | str | None = None
    action: str | None = None
    action_id: str | None = None
    keys: Keys | None = None

    @classmethod
    def of(cls, body: bytes, *, now: float) -> Said | None:
        """Read a reply; None: it says nothing. Raises Refused, with what is wrong with it."""
        if len(body) > REPLY_BYTES:
            raise Refused(f"it is longer than {REPLY_BYTES} bytes")
        if not body.strip():
            return None
        try:
            found = plain(body)
        except (ValueError, RecursionError) as err:
            raise Refused(f"it is not JSON: {str(err)[:80]}") from None
        if not isinstance(found, dict):
            raise Refused("it is not a map")
        if not found:
            return None
        cookie = {name: value for name, value in found.items() if name not in _ITS + _OURS}
        if len(json.dumps(cookie)) > COOKIE_BYTES:
            raise Refused(f"it wants us to keep more than {COOKIE_BYTES} bytes")
        if "state" in cookie:
            _word(cookie, "state")
        config = found.get("config")
        if config is not None and not isinstance(config, dict):
            raise Refused("its config is not a map")
        return cls(
            cookie=cookie,
            config=config,
            rev=_rev(found.get("rev")),
            action=_word(found, "action"),
            action_id=_word(found, "action_id"),
            keys=_keys(found.get("aws_keys"), now),
        )


def plain(body: bytes) -> Any:
    """Read JSON that can be written again: no number is beyond all others, and nothing is very deep.

    Raises ValueError, and RecursionError for what is far too deep.
    """
    found = json.loads(body, parse_constant=_number, parse_float=_number)
    _check_depth(found, _DEEPEST)
    return found


def _number(written: str) -> float:
    found = float(written)
    if not math.isfinite(found):
        raise ValueError(f"{written[:20]} is no number")
    return found


def _check_depth(value: object, left: int) -> None:
    if left < 0:
        raise ValueError(f"it is deeper than {_DEEPEST} maps and lists")
    if isinstance(value, dict):
        for one in value.values():
            _check_depth(one, left - 1)
    elif isinstance(value, list):
        for one in value:
            _check_depth(one, left - 1)


def _word(found: Mapping[str, Any], name: str) -> str | None:
    value = found.get(name)
    if value is None or value == "":
        return None
    if not isinstance(value, str) or not _WORD.fullmatch(value):
        raise Refused(f"its {name} is no word")
    return value


def _rev(value: object) -> int | str | None:
    if isinstance(value, str) and _WORD.fullmatch(value):
        return value
    fits = isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**63
    if value is not None and not fits:
        raise Refused("its rev is neither a number nor a word")
    return value  # type: ignore[return-value]


def _keys(value: object, now: float) -> Keys | None:
    if value is None:
        return None
    names = ("access_key_id", "secret_access_key", "session_token", "expiration")
    if not isinstance(value, dict) or not all(_is_key(value.get(name)) for name in names):
        raise Refused(f"its aws_keys are not short-lived credentials: {', '.join(names)}")
    *keys, expiration = (value[name] for name in names)
    try:
        expires = datetime.fromisoformat(expiration.replace("Z", "+00:00"))
    except ValueError:
        raise Refused("the expiration of its aws_keys is no time") from None
    if expires.tzinfo is None or not 0 < expires.timestamp() - now <= LONGEST_LIFE_SECONDS:
        raise Refused("its aws_keys have expired, or last too long to be short-lived")
    return Keys(keys[0], keys[1], keys[2], expires.timestamp())


def _is_key(value: object) -> bool:
    return isinstance(value, str) and 0 < len(value) <= 8192 and value.isascii() and value.isprintable()
