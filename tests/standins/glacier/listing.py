"""ListObjectsV2 and ListObjectVersions."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING
from urllib.parse import quote
from xml.sax.saxutils import escape

from tests.standins.glacier.clock import iso
from tests.standins.glacier.errors import Refusal
from tests.standins.glacier.objects import TIERING
from tests.standins.glacier.restoring import State, state_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.standins.glacier.faults import Faults
    from tests.standins.glacier.http import Request
    from tests.standins.glacier.objects import Bucket, Stored

NAMESPACE = 'xmlns="http://s3.amazonaws.com/doc/2006-03-01/"'
MOST = 1000
LAST = "\U0010ffff"  # comes after every other character


def page(root: str, content: str) -> bytes:
    return f'<?xml version="1.0" encoding="UTF-8"?>\n<{root} {NAMESPACE}>{content}</{root}>'.encode()


def text(value: str) -> str:
    """Write a key in XML; what XML cannot hold at all comes as S3 writes it, and no parser takes it."""
    return escape(value, {"\r": "&#13;", "\n": "&#10;"})


def url_encoded(value: str) -> str:
    return quote(value, safe="/")


class Lister:
    """Writes pages of one bucket."""

    def __init__(self, bucket: Bucket, request: Request, faults: Faults, now: float) -> None:
        query = request.query
        self._bucket = bucket
        self._query = query
        self._now = now
        self._with_restores = "RestoreStatus" in request.headers.get("x-amz-optional-object-attributes", "")
        self._with_tiering = faults.list_tiering_status
        self._encode: Callable[[str], str] = url_encoded if query.get("encoding-type") == "url" else text
        self._prefix = query.get("prefix", "")
        self._delimiter = query.get("delimiter", "")
        try:
            self._most = min(int(query.get("max-keys", MOST)), MOST)
        except ValueError as error:
            raise Refusal(400, "InvalidArgument", "max-keys is no number") from error
        if self._most < 0:
            raise Refusal(400, "InvalidArgument", "max-keys is negative")

    def objects(self) -> bytes:
        """Write a page of ListObjectsV2."""
        token = self._query.get("continuation-token")
        after = self._query.get("start-after", "") if token is None else _decode(token)
        lines: list[str] = []
        prefixes: list[str] = []
        last, more = "", False
        for group, versions in self._groups(after):
            if not group and versions[-1].is_marker:
                continue
            if len(lines) + len(prefixes) >= self._most:
                more = True
                break
            if group:
                prefixes.append(group)
                last = group + LAST
            else:
                last = versions[-1].key
                lines.append(f"<Contents>{self._describe(versions[-1])}</Contents>")
        content = self._head(len(lines) + len(prefixes), more=more and self._most > 0)
        if "start-after" in self._query:
            content += f"<StartAfter>{self._encode(self._query['start-after'])}</StartAfter>"
        if token is not None:
            content += f"<ContinuationToken>{escape(token)}</ContinuationToken>"
        if more and last:
            content += f"<NextContinuationToken>{_encode(last)}</NextContinuationToken>"
        return page("ListBucketResult", content + "".join(lines) + self._common(prefixes))

    def versions(self) -> bytes:
        """Write a page of ListObjectVersions: the newest of each key first."""
        marker, version_marker = self._query.get("key-marker", ""), self._query.get("version-id-marker", "")
        lines: list[str] = []
        prefixes: list[str] = []
        last: tuple[str, str] = ("", "")
        more = False
        for group, stored, is_latest in self._each_version(marker, version_marker):
            if len(lines) + len(prefixes) >= self._most:
                more = True
                break
            if group:
                prefixes.append(group)
                last = (group + LAST, "")
            else:
                last = (stored.key, stored.version)
                lines.append(self._describe_version(stored, is_latest=is_latest))
        content = self._head(None, more=more and self._most > 0)
        content += f"<KeyMarker>{self._encode(marker)}</KeyMarker>"
        content += f"<VersionIdMarker>{escape(version_marker)}</VersionIdMarker>"
        if more:
            content += f"<NextKeyMarker>{self._encode(last[0])}</NextKeyMarker>"
            content += f"<NextVersionIdMarker>{last[1]}</NextVersionIdMarker>" if last[1] else ""
        return page("ListVersionsResult", content + "".join(lines) + self._common(prefixes))

    def _groups(self, after: str, *, inclusive: bool = False) -> Iterator[tuple[str, list[Stored]]]:
        """Yield a common prefix, or "" and the versions of a key."""
        while True:
            for versions in self._bucket.after(self._prefix, after, inclusive=inclusive):
                rest = versions[0].key[len(self._prefix) :]
                if self._delimiter and self._delimiter in rest:
                    group = self._prefix + rest[: rest.index(self._delimiter) + len(self._delimiter)]
                    yield group, versions
                    after, inclusive = group + LAST, False
                    break
                yield "", versions
            else:
                return

    def _each_version(self, marker: str, version_marker: str) -> Iterator[tuple[str, Stored, bool]]:
        skipping = bool(version_marker)
        for group, versions in self._groups(marker, inclusive=skipping):
            if group:
                yield group, versions[-1], True
                continue
            for stored in reversed(versions):
                if skipping and stored.key == marker:
                    skipping = stored.version != version_marker
                else:
                    yield "", stored, stored is versions[-1]

    def _head(self, count: int | None, *, more: bool) -> str:
        content = f"<Name>{self._bucket.name}</Name><Prefix>{self._encode(self._prefix)}</Prefix>"
        if self._delimiter:
            content += f"<Delimiter>{self._encode(self._delimiter)}</Delimiter>"
        if self._encode is url_encoded:
            content += "<EncodingType>url</EncodingType>"
        if count is not None:
            content += f"<KeyCount>{count}</KeyCount>"
        return content + f"<MaxKeys>{self._most}</MaxKeys><IsTruncated>{str(more).lower()}</IsTruncated>"

    def _common(self, prefixes: list[str]) -> str:
        return "".join(
            f"<CommonPrefixes><Prefix>{self._encode(it)}</Prefix></CommonPrefixes>" for it in prefixes
        )

    def _describe_version(self, stored: Stored, *, is_latest: bool) -> str:
        content = f"<VersionId>{stored.version}</VersionId><IsLatest>{str(is_latest).lower()}</IsLatest>"
        if stored.is_marker:
            content += (
                f"<Key>{self._encode(stored.key)}</Key><LastModified>{iso(stored.modified)}</LastModified>"
            )
            return f"<DeleteMarker>{content}</DeleteMarker>"
        return f"<Version>{content}{self._describe(stored)}</Version>"

    def _describe(self, stored: Stored) -> str:
        content = (
            f"<Key>{self._encode(stored.key)}</Key><LastModified>{iso(stored.modified)}</LastModified>"
            f'<ETag>"{stored.etag}"</ETag><Size>{stored.size}</Size>'
            f"<StorageClass>{stored.storage_class}</StorageClass>"
        )
        return content + self._restore_status(stored) if self._with_restores else content

    def _restore_status(self, stored: Stored) -> str:
        restore = stored.restore
        if restore is None or (stored.storage_class == TIERING and not self._with_tiering):
            return ""
        state = state_of(stored, self._now)
        if state is State.ONGOING:
            return "<RestoreStatus><IsRestoreInProgress>true</IsRestoreInProgress></RestoreStatus>"
        if state is State.RESTORED:
            expiry = f"<RestoreExpiryDate>{iso(restore.expiry)}</RestoreExpiryDate>"
            return f"<RestoreStatus><IsRestoreInProgress>false</IsRestoreInProgress>{expiry}</RestoreStatus>"
        return ""


def _encode(key: str) -> str:
    return base64.urlsafe_b64encode(key.encode()).decode()


def _decode(token: str) -> str:
    try:
        return base64.urlsafe_b64decode(token).decode()
    except ValueError as error:
        raise Refusal(400, "InvalidArgument", "The continuation token provided is incorrect") from error
