"""AWS Signature Version 4 as S3 wants it. Pure functions: nothing here knows the time or a secret of its own.

S3 differs from other services: the path is encoded once and never normalised, so `//` and `..` stay as
they are, and the hash of the payload travels in a header (Amazon S3 API reference, "Authenticating
Requests: Using the Authorization Header").
"""

from __future__ import annotations

import functools
import hashlib
import hmac
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import quote

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

UNSIGNED = "UNSIGNED-PAYLOAD"
EMPTY_SHA256 = hashlib.sha256(b"").hexdigest()
_UNRESERVED = "-_.~"


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """Who signs. `token` is empty for credentials that never expire."""

    access_key: str
    secret_key: str = field(repr=False)
    token: str = field(default="", repr=False)


def encode_key(key: str) -> str:
    """Encode a key for the path of a request: every byte but letters, digits and `-_.~/`.

    Raises UnicodeEncodeError for a key that is not text: S3 keeps keys in UTF-8.
    """
    return quote(key, safe="/" + _UNRESERVED)


def encode_query(pairs: Iterable[tuple[str, str]]) -> str:
    """Encode and sort a query; what is sent is what is signed."""
    encoded = sorted((quote(name, safe=_UNRESERVED), quote(value, safe=_UNRESERVED)) for name, value in pairs)
    return "&".join(f"{name}={value}" for name, value in encoded)


@functools.lru_cache(maxsize=4)
def amz_date(now: int) -> str:
    """Write a time (seconds since 1970) the way signatures have it."""
    return time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(now))


def sign(
    *,
    method: str,
    path: str,
    query: str,
    headers: Mapping[str, str],
    payload: str,
    credentials: Credentials,
    region: str,
) -> str:
    """Return the Authorization header of a request to S3.

    `path` and `query` are encoded, as they are sent. `headers` are all that is to be signed, named in
    lower case; among them must be `host`, `x-amz-date` and every other `x-amz-` header of the request,
    `x-amz-security-token` included. `payload` is the SHA-256 of the body in hex, or `UNSIGNED`.
    """
    names = sorted(headers)
    signed = ";".join(names)
    lines = "".join([f"{name}:{_collapse(headers[name])}\n" for name in names])
    canonical = f"{method}\n{path}\n{query}\n{lines}\n{signed}\n{payload}"
    date = headers["x-amz-date"]
    scope = f"{date[:8]}/{region}/s3/aws4_request"
    digest = hashlib.sha256(canonical.encode()).hexdigest()
    key = _derived_key(credentials.secret_key, date[:8], region)
    signature = hmac.digest(key, f"AWS4-HMAC-SHA256\n{date}\n{scope}\n{digest}".encode(), "sha256").hex()
    return (
        f"AWS4-HMAC-SHA256 Credential={credentials.access_key}/{scope},"
        f" SignedHeaders={signed}, Signature={signature}"
    )


def _collapse(value: str) -> str:
    """White space counts once, and not at all at the ends."""
    return " ".join(value.split()) if " " in value else value


@functools.lru_cache(maxsize=16)
def _derived_key(secret: str, day: str, region: str) -> bytes:
    """Derive the key of one day. Four rounds of HMAC, the same for every request of that day."""
    key = b"AWS4" + secret.encode()
    for part in (day, region, "s3", "aws4_request"):
        key = hmac.digest(key, part.encode(), "sha256")
    return key
