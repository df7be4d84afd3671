"""What is asked of S3 about archived objects: whether they are, whether they come back, and that they shall.

Listings name 1,000 objects and cost about twelve times a single question, so who asks for many decides
which to use (`tidegate.restore.look`). Every method raises what `Caller.call` raises.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from email.utils import parsedate_to_datetime
from hashlib import sha256
from typing import TYPE_CHECKING
from urllib.parse import unquote_plus

from tidegate.errors import Unavailable
from tidegate.store.s3 import NONE, Text
from tidegate.store.sigv4 import EMPTY_SHA256, encode_query
from tidegate.store.stored import document, stored_of

if TYPE_CHECKING:
    from collections.abc import Mapping
    from xml.etree.ElementTree import Element

    from tidegate.store.answers import Answer
    from tidegate.store.calls import Caller
    from tidegate.store.stored import Stored

INTELLIGENT = "INTELLIGENT_TIERING"
PAGE = 1000

_WITH_RESTORE = {"x-amz-optional-object-attributes": "RestoreStatus"}
_RESTORE = re.compile(r'ongoing-request="(true|false)"(?:,\s*expiry-date="([^"]+)")?')
_NOTHING = Text(b"")


@dataclass(frozen=True, slots=True)
class Found:
    """One object or version, as S3 tells of it.

    `ongoing` tells that a restore is under way, `expires` until when (seconds since 1970) a restored copy
    stays; both are not set for what was never restored. `tier` is the archive tier that an object in
    Intelligent-Tiering is in, where that was asked for. `modified` is in seconds since 1970.
    """

    key: str
    version: str
    storage: str
    size: int
    modified: float
    ongoing: bool = False
    expires: float | None = None
    tier: str = ""


@dataclass(frozen=True, slots=True)
class Page:
    """A part of a listing, in the order of UTF-8. `more` is where the next one begins: key and version."""

    found: list[Found]
    more: tuple[str, str] | None


@dataclass(frozen=True, slots=True)
class Order:
    """A request to restore, ready to be sent with any number of keys."""

    content: Text
    digest: str

    @classmethod
    def of(cls, tier: str, days: int | None) -> Order:
        """`tier` is S3's word. `days` are for how long the copy stays; None with Intelligent-Tiering."""
        lasting = "" if days is None else f"<Days>{days}</Days>"
        text = (
            '<RestoreRequest xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
            f"{lasting}<GlacierJobParameters><Tier>{tier}</Tier></GlacierJobParameters></RestoreRequest>"
        ).encode()
        return cls(Text(text), sha256(text).hexdigest())


class Archive:
    """Questions and requests about archived objects. Any number of threads may use one."""

    def __init__(self, caller: Caller) -> None:
        self._caller = caller

    def page(self, bucket: str, *, prefix: str = "", after: str = "") -> Page:
        """List up to 1,000 objects with keys behind `after`."""
        asked = {"list-type": "2", "encoding-type": "url", "prefix": prefix, "start-after": after}
        root = document(self._get(bucket, asked), "ListBucketResult")
        found = [_listed(item) for item in root.iter("Contents")]
        is_cut = root.findtext("IsTruncated", "").lower() == "true" and found
        return Page(found, (found[-1].key, "") if is_cut else None)

    def version_page(self, bucket: str, *, after: tuple[str, str] = ("", "")) -> Page:
        """List up to 1,000 versions behind this key, or behind this version of it. No delete markers."""
        asked = {"versions": "", "encoding-type": "url", "key-marker": after[0]}
        if after[1]:
            asked["version-id-marker"] = after[1]
        root = document(self._get(bucket, asked), "ListVersionsResult")
        found = [_listed(item) for item in root.iter("Version")]
        if root.findtext("IsTruncated", "").lower() != "true":
            return Page(found, None)
        key, version = root.findtext("NextKeyMarker", ""), root.findtext("NextVersionIdMarker", "")
        return Page(found, (unquote_plus(key), version))

    def head(self, bucket: str, key: str, version: str = "") -> Found | None:
        """Tell of one object; None if there is none, or it is deleted. Costs one request, not a listing."""
        from tidegate.store.errors import S3Error  # noqa: PLC0415

        try:
            answer = self._ask("HEAD", bucket, key, version)
        except S3Error as error:
            if error.status in (404, 405):
                return None
            raise
        return _headed(key, version, answer)

    def stored(self, bucket: str, key: str, version: str = "", part: int | None = None) -> Stored:
        """Tell of one object, or of one part of it, with its checksums. Raises `S3Error` if it is gone."""
        query = {} if part is None else {"partNumber": str(part)}
        answer = self._ask("HEAD", bucket, key, version, query, {"x-amz-checksum-mode": "ENABLED"})
        return stored_of(answer, size=int(answer.headers.get("content-length", "0")))

    def restore(self, bucket: str, key: str, version: str, order: Order) -> int:
        """Ask for an object to be restored: 202 it will be, 200 it was already and stays longer now."""
        query = "restore="
        if version:
            query = encode_query((("restore", ""), ("versionId", version)))
        return self._caller.call(
            "POST", bucket, key, query=query, headers=NONE, content=order.content, payload=order.digest
        ).status

    def piece(self, bucket: str, key: str, version: str, etag: str, start: int, end: int) -> bytes:
        """Read the bytes from `start` to before `end`, if the object still has this ETag."""
        fields = {"range": f"bytes={start}-{end - 1}", "if-match": f'"{etag}"'}
        answer = self._ask("GET", bucket, key, version, headers=fields)
        if len(answer.body) != end - start:
            raise Unavailable(f"S3 sent {len(answer.body)} bytes of {end - start}")
        return answer.body

    def close(self) -> None:
        """Hang up: requests under way fail with `Unavailable`, and so do later ones."""
        self._caller.close()

    def _get(self, bucket: str, query: Mapping[str, str]) -> Answer:
        return self._caller.call(
            "GET",
            bucket,
            "",
            query=encode_query(query.items()),
            headers=_WITH_RESTORE,
            content=_NOTHING,
            payload=EMPTY_SHA256,
        )

    def _ask(
        self,
        method: str,
        bucket: str,
        key: str,
        version: str,
        query: Mapping[str, str] = NONE,
        headers: Mapping[str, str] = NONE,
    ) -> Answer:
        pairs = {**query, "versionId": version} if version else query
        return self._caller.call(
            method,
            bucket,
            key,
            query=encode_query(pairs.items()) if pairs else "",
            headers=headers,
            content=_NOTHING,
            payload=EMPTY_SHA256,
        )


def _listed(item: Element) -> Found:
    """Read one entry of a listing."""
    texts = {child.tag: child.text or "" for child in item}
    status = item.find("RestoreStatus")
    ongoing, expires = False, None
    if status is not None:
        ongoing = status.findtext("IsRestoreInProgress", "").lower() == "true"
        until = status.findtext("RestoreExpiryDate", "")
        expires = _seconds(until) if until and not ongoing else None
    try:
        return Found(
            unquote_plus(texts["Key"]),
            texts.get("VersionId", ""),
            texts.get("StorageClass") or "STANDARD",
            int(texts["Size"]),
            _seconds(texts["LastModified"]),
            ongoing,
            expires,
        )
    except (KeyError, ValueError) as error:
        raise Unavailable(f"the listing has an entry that cannot be read: {error!r}") from error


def _headed(key: str, version: str, answer: Answer) -> Found:
    """Read the headers of one object."""
    said = _RESTORE.match(answer.headers.get("x-amz-restore", ""))
    ongoing = said is not None and said[1] == "true"
    until = said[2] if said is not None and not ongoing else None
    try:
        return Found(
            key,
            version,
            answer.headers.get("x-amz-storage-class", "STANDARD"),
            int(answer.headers.get("content-length", "0")),
            _date(answer.headers.get("last-modified")),
            ongoing,
            _date(until) if until else None,
            answer.headers.get("x-amz-archive-status", ""),
        )
    except ValueError as error:
        raise Unavailable(f"the answer has a header that cannot be read: {error!r}") from error


def _seconds(text: str) -> float:
    """Read a time as listings have it."""
    return datetime.fromisoformat(f"{text[:19]}+00:00").timestamp()


def _date(text: str | None) -> float:
    """Read a time as headers have it; 0 for none."""
    return parsedate_to_datetime(text).timestamp() if text else 0.0
