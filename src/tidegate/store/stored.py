"""What S3 tells of objects, parts and multipart uploads, and how it is told about parts."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import unquote_plus

from tidegate.errors import Unavailable
from tidegate.store.checksum import CRC64NVME, MD5, Digest
from tidegate.store.errors import parse_xml

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from xml.etree.ElementTree import Element

    from tidegate.store.answers import Answer

_CHECKSUM_HEADER = "x-amz-checksum-"
_NO_CHECKSUMS = ("x-amz-checksum-type", "x-amz-checksum-algorithm")
_CHECKSUM_ELEMENT = "Checksum"
_MD5_ETAG = re.compile(r"[0-9a-f]{32}(-[0-9]+)?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """What the store says it holds: an object or a part.

    `checksums` are by algorithm, as text; `size` is None where it was not said. `headers` is all that
    was said.
    """

    etag: str
    checksums: Mapping[str, str] = field(default_factory=dict)
    size: int | None = None
    version_id: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)

    def proves(self, digest: Digest) -> bool | None:
        """Whether these are the bytes of the digest. None: the store said nothing to tell that by."""
        if self.size is not None and self.size != digest.size:
            return False
        said = self.checksums.get(digest.algorithm)
        if said is not None:
            return said == digest.text
        # With KMS, or a key of the customer, the ETag is not an MD5 and may still look like one.
        encrypted = "kms" in self.headers.get("x-amz-server-side-encryption", "")
        customer = "x-amz-server-side-encryption-customer-algorithm" in self.headers
        if digest.algorithm == MD5 and _MD5_ETAG.fullmatch(self.etag) and not encrypted and not customer:
            return self.etag == digest.etag
        return None


@dataclass(frozen=True, slots=True)
class Part:
    """A part that is to be in the object. Numbers begin with 1."""

    number: int
    etag: str
    digest: Digest


@dataclass(frozen=True, slots=True)
class Upload:
    """A multipart upload that was begun and neither completed nor aborted. `initiated` is as S3 writes it."""

    key: str
    upload_id: str
    initiated: str


def checksum_headers(digest: Digest) -> dict[str, str]:
    """Announce the checksum of a body or an object."""
    if digest.algorithm == MD5:
        return {"content-md5": digest.text}
    return {
        f"{_CHECKSUM_HEADER}{digest.algorithm.lower()}": digest.text,
        "x-amz-sdk-checksum-algorithm": digest.algorithm,
    }


def upload_headers(algorithm: str) -> dict[str, str]:
    """Announce how the parts of an upload will be checked."""
    if algorithm == MD5:
        return {}
    kind = "FULL_OBJECT" if algorithm == CRC64NVME else "COMPOSITE"
    return {f"{_CHECKSUM_HEADER}algorithm": algorithm, f"{_CHECKSUM_HEADER}type": kind}


def stored_of(answer: Answer, *, size: int | None = None) -> Stored:
    """Read the headers of an answer to a PUT or HEAD. Raises `Unavailable` if S3 did not write them."""
    etag = answer.headers.get("etag")
    if not etag:
        raise Unavailable("the answer has no ETag, so it is not from S3; is there a log-in page on the way?")
    return Stored(
        etag=etag.strip('"'),
        checksums={
            name[len(_CHECKSUM_HEADER) :].upper(): value
            for name, value in answer.headers.items()
            if name.startswith(_CHECKSUM_HEADER) and name not in _NO_CHECKSUMS
        },
        size=size,
        version_id=answer.headers.get("x-amz-version-id", ""),
        headers=answer.headers,
    )


def completed_of(root: Element, answer: Answer) -> Stored:
    """Read the answer to the completion of an upload."""
    return Stored(
        etag=_text(root, "ETag").strip('"'),
        checksums=_checksums(root),
        version_id=answer.headers.get("x-amz-version-id", ""),
        headers=answer.headers,
    )


def upload_id_of(root: Element) -> str:
    """Read the answer to the beginning of an upload."""
    return _text(root, "UploadId")


def parts_of(root: Element) -> dict[int, Stored]:
    """Read a page of parts."""
    return {
        int(_text(part, "PartNumber")): Stored(
            etag=_text(part, "ETag").strip('"'), checksums=_checksums(part), size=int(_text(part, "Size"))
        )
        for part in root.iter("Part")
    }


def uploads_of(root: Element) -> list[Upload]:
    """Read a page of uploads."""
    encoded = root.findtext("EncodingType") == "url"
    return [
        Upload(
            unquote_plus(_text(upload, "Key")) if encoded else _text(upload, "Key"),
            _text(upload, "UploadId"),
            _text(upload, "Initiated"),
        )
        for upload in root.iter("Upload")
    ]


def following(root: Element, markers: Mapping[str, str]) -> dict[str, str] | None:
    """Make the query for the next page: `markers` maps its names to elements. None at the end."""
    if root.findtext("IsTruncated", "").lower() != "true":
        return None
    encoded = root.findtext("EncodingType") == "url"
    texts = {name: _text(root, element) for name, element in markers.items()}
    return {name: unquote_plus(text) if encoded and "key" in name else text for name, text in texts.items()}


def document(answer: Answer, tag: str) -> Element:
    """Parse the body of an answer. Raises `Unavailable` if that is not the document it should be."""
    try:
        root = parse_xml(answer.body)
    except ValueError as error:
        raise Unavailable(str(error)) from error
    if root.tag not in (tag, f"{tag[:-6]}Response"):  # moto calls some of them so
        raise Unavailable(f"the answer is {root.tag} instead of {tag}")
    return root


def completion(parts: Sequence[Part]) -> bytes:
    """Write down which parts are the object."""
    pieces = ['<CompleteMultipartUpload xmlns="http://s3.amazonaws.com/doc/2006-03-01/">']
    for part in sorted(parts, key=lambda part: part.number):
        etag = part.etag.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
        pieces.append(f'<Part><PartNumber>{part.number}</PartNumber><ETag>"{etag}"</ETag>')
        if part.digest.algorithm != MD5:
            name = _CHECKSUM_ELEMENT + part.digest.algorithm
            pieces.append(f"<{name}>{part.digest.text}</{name}>")
        pieces.append("</Part>")
    pieces.append("</CompleteMultipartUpload>")
    return "".join(pieces).encode()


def _text(element: Element, name: str) -> str:
    text = element.findtext(name)
    if text is None:
        raise Unavailable(f"the answer has no {name} in its {element.tag}")
    return text


def _checksums(element: Element) -> dict[str, str]:
    return {
        child.tag[len(_CHECKSUM_ELEMENT) :]: child.text or ""
        for child in element
        if child.tag.startswith(_CHECKSUM_ELEMENT) and child.tag not in ("ChecksumType", "ChecksumAlgorithm")
    }
