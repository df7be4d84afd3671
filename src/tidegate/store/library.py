"""What is asked of S3 by who wants objects here: which there are, what they are, and their bytes.

Every method raises what `Caller.call` raises.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import unquote_plus

from tidegate.errors import Unavailable
from tidegate.store.archive_calls import Archive
from tidegate.store.s3 import NONE, Text
from tidegate.store.sigv4 import EMPTY_SHA256, encode_query
from tidegate.store.stored import document, stored_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from xml.etree.ElementTree import Element

    from tidegate.store.answers import Answer
    from tidegate.store.calls import Caller
    from tidegate.store.stored import Stored

_NOTHING = Text(b"")
_CHECKED = {"x-amz-checksum-mode": "ENABLED"}


@dataclass(frozen=True, slots=True)
class Listed:
    """One object of a listing. `etag` is without quotes."""

    key: str
    etag: str
    size: int


class Library:
    """Reads from buckets. Any number of threads may use one."""

    def __init__(self, caller: Caller) -> None:
        self._caller = caller
        self.archive = Archive(caller)

    def pages(self, bucket: str, prefix: str) -> Iterator[list[Listed]]:
        """List all objects with keys that begin with the prefix, up to 1,000 at a time."""
        more: dict[str, str] = {}
        while True:
            asked = {"list-type": "2", "encoding-type": "url", "prefix": prefix, **more}
            root = document(self._get(bucket, "", encode_query(asked.items()), NONE), "ListBucketResult")
            is_encoded = root.findtext("EncodingType") == "url"
            yield [_listed(item, is_encoded=is_encoded) for item in root.iter("Contents")]
            token = root.findtext("NextContinuationToken", "")
            if root.findtext("IsTruncated", "").lower() != "true":
                return
            if not token or token == more.get("continuation-token"):
                raise Unavailable("the listing is cut, and does not say where it goes on")
            more = {"continuation-token": token}

    def stored(self, bucket: str, key: str) -> Stored:
        """Tell of one object, with its checksums. Raises `S3Error` if there is none."""
        return self.archive.stored(bucket, key)

    def whole(self, bucket: str, key: str, etag: str) -> tuple[Stored, bytes]:
        """Read an object of a few MiB at most, if it still has this ETag."""
        answer = self._get(bucket, key, "", {**_CHECKED, "if-match": f'"{etag}"'})
        return stored_of(answer, size=len(answer.body)), answer.body

    def close(self) -> None:
        """Hang up: requests under way fail with `Unavailable`, and so do later ones."""
        self._caller.close()

    def _get(self, bucket: str, key: str, query: str, headers: Mapping[str, str]) -> Answer:
        return self._caller.call(
            "GET", bucket, key, query=query, headers=headers, content=_NOTHING, payload=EMPTY_SHA256
        )


def _listed(item: Element, *, is_encoded: bool) -> Listed:
    key, size = item.findtext("Key"), item.findtext("Size", "")
    if key is None or not size.isdigit():
        raise Unavailable("the listing has an entry that cannot be read")
    return Listed(unquote_plus(key) if is_encoded else key, item.findtext("ETag", "").strip('"'), int(size))
