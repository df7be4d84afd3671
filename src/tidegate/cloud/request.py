"""What is asked of the cloud app: the body of `POST /create-job`, checked before anything is done."""

from __future__ import annotations

import base64
import binascii
import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from tidegate.errors import ConfigFaults
from tidegate.restore.jobs import MOST_DAYS

if TYPE_CHECKING:
    from collections.abc import Mapping

TIERS = ("STANDARD", "BULK")
_KEYS = ("bucket", "key", "tier", "expiration_days", "client_tag", "clientToken")
_TEXT_LENGTH = 256
_KEY_BYTES = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """A manifest, and how its objects are to come back. The same `token` is the same order."""

    bucket: str
    key: str
    tier: str
    days: int
    tag: str
    token: str

    def as_json(self) -> str:
        """Write it down, so that two can be compared."""
        return json.dumps(asdict(self), sort_keys=True)


def body_of(event: Mapping[str, Any]) -> Any:
    """Read the JSON that API Gateway hands over. Raises `ConfigFaults`."""
    text = event.get("body") or ""
    try:
        if event.get("isBase64Encoded"):
            text = base64.b64decode(text, validate=True)
        return json.loads(text)
    except (ValueError, binascii.Error, RecursionError) as error:
        raise ConfigFaults([f"the body is not JSON: {error}"]) from error


def order_of(body: Any) -> Order:
    """Check an order. Raises `ConfigFaults` with all that is wrong with it."""
    if not isinstance(body, dict):
        raise ConfigFaults(['the body is no map; write {"bucket": …, "key": …, "tier": …, …}'])
    faults = [
        f"{name[:80]}: there is no such key; write some of {', '.join(_KEYS)}"
        for name in body
        if name not in _KEYS
    ]
    bucket, key = _text(body, "bucket", faults), _text(body, "key", faults, most=_KEY_BYTES)
    tier = _text(body, "tier", faults).upper()
    if tier and tier not in TIERS:
        faults.append(f"tier: S3 Batch Operations have no {tier[:80]}; write {' or '.join(TIERS)}")
    days = body.get("expiration_days")
    if not isinstance(days, int) or isinstance(days, bool) or not 1 <= days <= MOST_DAYS:
        faults.append(f"expiration_days: write a number of days from 1 to {MOST_DAYS}")
        days = 0
    tag = _text(body, "client_tag", faults, needed=False)
    token = _text(body, "clientToken", faults, needed=False)
    if faults:
        raise ConfigFaults(faults)
    return Order(bucket=bucket, key=key, tier=tier, days=days, tag=tag, token=token)


def _text(
    body: Mapping[str, Any], name: str, faults: list[str], *, needed: bool = True, most: int = _TEXT_LENGTH
) -> str:
    value = body.get(name)
    if value is None and not needed:
        return ""
    if not isinstance(value, str) or (needed and not value):
        faults.append(f"{name}: is missing, or no text")
        return ""
    if len(value.encode("utf-8", "surrogatepass")) > most or not value.isprintable():
        faults.append(f"{name}: write up to {most} bytes that can be printed")
        return ""
    return value
