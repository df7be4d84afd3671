"""The token exchange: the server on this device, or beside this container, that gives out credentials.

Form and names: AWS SDKs reference guide, "Container credential provider". Greengrass calls it TES.
"""

from __future__ import annotations

import calendar
import ipaddress
import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from tidegate.errors import Unavailable
from tidegate.store.http import Connection, Request
from tidegate.store.sigv4 import Credentials
from tidegate.store.wire import Address, Manner, trust

if TYPE_CHECKING:
    from collections.abc import Mapping

RELATIVE_HOST = "http://169.254.170.2"
_KNOWN_HOSTS = frozenset(("localhost", "169.254.170.2", "169.254.170.23", "fd00:ec2::23"))
_EXCHANGE_MANNER = Manner(connect_seconds=3.0, read_seconds=10.0)
_TOKEN_FILE = "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"  # noqa: S105 - the name of a variable


@dataclass(frozen=True, slots=True)
class Issued:
    """Credentials, and when they expire (seconds since 1970); None for those that do not."""

    credentials: Credentials
    expires: float | None = None


def ask_exchange(url: str, environment: Mapping[str, str]) -> Issued:
    """Ask the token exchange, as the SDKs do. Raises `Unavailable` for all that is not credentials."""
    address = Address.of(url)
    if address.scheme != "https" and not _is_near(address.host):
        raise Unavailable(f"the token exchange at {address} is not on this device, and without TLS")
    token, file = environment.get("AWS_CONTAINER_AUTHORIZATION_TOKEN"), environment.get(_TOKEN_FILE)
    if file:
        token = Path(file).read_text(encoding="utf-8").strip()
    head = f"accept: application/json\r\nhost: {address.authority}\r\n"
    head += f"authorization: {token}\r\n" if token else ""
    parts = urlsplit(url)
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    context = trust(None) if address.scheme == "https" else None
    connection = Connection(address, _EXCHANGE_MANNER, context)
    try:
        request = Request(method="GET", target=target, head=head)
        answer = connection.exchange(f"GET {target} HTTP/1.1\r\n{head}\r\n".encode("latin-1"), request)
    finally:
        connection.close()
    if answer.status != 200:
        raise Unavailable(f"the token exchange at {address} answered with status {answer.status}")
    return _read(answer.body, address)


def _is_near(host: str) -> bool:
    if host in _KNOWN_HOSTS:
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _read(body: bytes, address: Address) -> Issued:
    try:
        said = json.loads(body)
        return issued_of(
            said["AccessKeyId"], said["SecretAccessKey"], said.get("Token") or "", said.get("Expiration")
        )
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        # Nucleus lite answers `null` with status 200 when the cloud gives it none.
        what = "null" if body.strip() == b"null" else f"something else ({error!r})"
        raise Unavailable(
            f"the token exchange at {address} has no credentials to give: it answered {what}"
        ) from error


def issued_of(key: str, secret: str, token: str, expires: Any) -> Issued:
    """`expires` is a time with its zone, or as the exchange writes it, or None."""
    if isinstance(expires, str):
        expires = calendar.timegm(time.strptime(expires[:19], "%Y-%m-%dT%H:%M:%S"))
    elif expires is not None:
        expires = expires.timestamp()
    return Issued(Credentials(access_key=str(key), secret_key=str(secret), token=token), expires)
