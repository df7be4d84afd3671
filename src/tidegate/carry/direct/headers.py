"""What S3 is told about an object beside its bytes: class, encryption, type, tags and metadata."""

from __future__ import annotations

import functools
import mimetypes
import posixpath
from typing import TYPE_CHECKING
from urllib.parse import urlencode

from tidegate.config import Compress
from tidegate.policy import TYPE_METADATA

if TYPE_CHECKING:
    from collections.abc import Callable

    from tidegate.config import Source
    from tidegate.model import Transfer

_TYPES = mimetypes.MimeTypes()  # the table that comes with Python: the same on every device
_PACKED = {Compress.GZIP: "application/gzip", Compress.ZSTD: "application/zstd"}
_META = "x-amz-meta-"


def headers_for(source: Source, thing: str) -> Callable[[Transfer], dict[str, str]]:
    """Prepare what all objects of a source have in common; the result makes the headers of one."""
    own = source.attributes
    common = {
        "x-amz-storage-class": own.storage_class,
        "x-amz-server-side-encryption": own.encryption,
        "x-amz-server-side-encryption-aws-kms-key-id": own.kms_key_id,
        "x-amz-tagging": urlencode(own.tags) or None,
        "x-amz-acl": own.acl,
        "cache-control": own.cache_control,
        "content-type": own.content_type or _PACKED.get(own.compress),
        **{_META + name.lower(): value for name, value in own.metadata},
        f"{_META}source": source.name,
        f"{_META}thing": thing,
    }
    fixed = {name: value for name, value in common.items() if value}

    def headers(transfer: Transfer) -> dict[str, str]:
        made = dict(fixed)
        if "content-type" not in made:
            made["content-type"] = _guess(posixpath.splitext(transfer.body.path)[1])
        seconds, nanoseconds = divmod(transfer.body.fingerprint.mtime_ns, 1_000_000_000)
        made[f"{_META}mtime"] = f"{seconds}.{nanoseconds:09}"
        for name, value in transfer.metadata.items():
            made[name if name == TYPE_METADATA else _META + name] = value
        return made

    return headers


@functools.lru_cache(maxsize=256)
def _guess(suffix: str) -> str:
    guessed, encoding = _TYPES.guess_type(f"file{suffix}")
    return "application/octet-stream" if encoding or not guessed else guessed
