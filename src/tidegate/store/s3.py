"""Uploads to one S3, or to something that is like it. One instance serves many buckets and threads.

Nothing is retried here but a request on a connection that turned out to be closed: when to try again is
the business of those who know what else waits. Every method raises `Unavailable` when the network, the
server or the credentials fail, `Refused` for what can never be sent, and `S3Error` when S3 says no.
"""

from __future__ import annotations

import hashlib
import time
from typing import TYPE_CHECKING

from tidegate.errors import Unavailable
from tidegate.store.calls import Caller, refuse_odd_headers
from tidegate.store.checksum import CRC64NVME, combine
from tidegate.store.errors import S3Error
from tidegate.store.sigv4 import UNSIGNED, encode_query
from tidegate.store.stored import (
    Part,
    Stored,
    Upload,
    checksum_headers,
    completed_of,
    completion,
    document,
    following,
    parts_of,
    stored_of,
    upload_headers,
    upload_id_of,
    uploads_of,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from tidegate.store.answers import Answer
    from tidegate.store.body import Body
    from tidegate.store.calls import Briefing, Identity
    from tidegate.store.endpoints import Endpoint
    from tidegate.store.wire import Address, Manner

NONE: Mapping[str, str] = {}


class Text:
    """Bytes that are there already."""

    __slots__ = ("size", "text")
    to_the_end = False

    def __init__(self, text: bytes) -> None:
        self.text = text
        self.size = len(text)

    def check(self) -> None:
        """Nothing changes."""

    def chunks(self) -> tuple[bytes, ...]:
        """All of them at once."""
        return (self.text,) if self.text else ()


class S3:
    """One destination.

    `manner` is asked how to talk to an address, once for each. `clock` is what the device believes the
    time is. `sign_payload`: over plain HTTP the SHA-256 of each body is signed, which takes longer than
    sending it; False leaves the body to its checksum, as over TLS.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        identity: Identity,
        *,
        manner: Callable[[Address], Manner],
        clock: Callable[[], float] = time.time,
        sign_payload: bool = True,
    ) -> None:
        self._caller = Caller(endpoint, identity, manner=manner, clock=clock)
        self._sign_payload = sign_payload

    def brief(self, bucket: str) -> Briefing:
        """Tell a client in another process all it needs, for as long as the credentials are good."""
        return self._caller.brief(bucket, sign_payload=self._sign_payload)

    def follow(self, briefing: Briefing) -> None:
        """Be told what a client in another process knows: where the bucket is, and what time it is there."""
        self._caller.follow(briefing)

    def put(
        self,
        bucket: str,
        key: str,
        body: Body,
        *,
        headers: Mapping[str, str] = NONE,
        algorithm: str = CRC64NVME,
    ) -> Stored:
        """Store an object of up to 5 GB. `headers` are S3's, in lower case: class, metadata, condition."""
        return self._send(bucket, key, body, algorithm, headers)

    def head(self, bucket: str, key: str) -> Stored | None:
        """Tell what is stored; None if nothing is, or there is no such bucket: S3 does not say which."""
        try:
            answer = self._ask("HEAD", bucket, key, headers={"x-amz-checksum-mode": "ENABLED"})
        except S3Error as error:
            if error.status == 404:
                return None
            raise
        return stored_of(answer, size=int(answer.headers.get("content-length", "0")))

    def create_upload(
        self, bucket: str, key: str, *, headers: Mapping[str, str] = NONE, algorithm: str = CRC64NVME
    ) -> str:
        """Begin a multipart upload and return its id. It takes space until it is completed or aborted."""
        fields = {**headers, **upload_headers(algorithm)}
        answer = self._ask("POST", bucket, key, query="uploads=", headers=fields)
        return upload_id_of(document(answer, "InitiateMultipartUploadResult"))

    def upload_part(
        self, bucket: str, key: str, upload_id: str, number: int, body: Body, *, algorithm: str = CRC64NVME
    ) -> Stored:
        """Store a part, in place of the one with this number (from 1 to 10,000) if there is one."""
        query = encode_query((("partNumber", str(number)), ("uploadId", upload_id)))
        return self._send(bucket, key, body, algorithm, NONE, query)

    def list_parts(self, bucket: str, key: str, upload_id: str) -> dict[int, Stored]:
        """Tell which parts are stored, by their numbers."""
        parts: dict[int, Stored] = {}
        more: dict[str, str] | None = {}
        while more is not None:
            query = encode_query({"uploadId": upload_id, **more}.items())
            page = document(self._ask("GET", bucket, key, query=query), "ListPartsResult")
            parts |= parts_of(page)
            more = following(page, {"part-number-marker": "NextPartNumberMarker"})
        return parts

    def complete_upload(
        self,
        bucket: str,
        key: str,
        upload_id: str,
        parts: Sequence[Part],
        *,
        headers: Mapping[str, str] = NONE,
    ) -> Stored:
        """Make an object of the parts. S3 is told its checksum where it can check that, and its size."""
        whole = combine([part.digest for part in sorted(parts, key=lambda part: part.number)])
        fields = {**headers, "x-amz-mp-object-size": str(whole.size)}
        if whole.algorithm == CRC64NVME:
            fields |= checksum_headers(whole) | {"x-amz-checksum-type": "FULL_OBJECT"}
        query = encode_query([("uploadId", upload_id)])
        answer = self._ask("POST", bucket, key, query=query, headers=fields, content=completion(parts))
        return completed_of(document(answer, "CompleteMultipartUploadResult"), answer)

    def abort_upload(self, bucket: str, key: str, upload_id: str) -> None:
        """Forget an upload and its parts. It is no error if it is gone already."""
        try:
            answer = self._ask("DELETE", bucket, key, query=encode_query([("uploadId", upload_id)]))
        except S3Error as error:
            if error.code != "NoSuchUpload":
                raise
        else:
            if answer.body:
                raise Unavailable("the answer is not from S3; is there a log-in page on the way?")

    def list_uploads(self, bucket: str, prefix: str = "") -> Iterator[Upload]:
        """Tell which uploads to keys with this prefix were begun and not finished, by whomever."""
        more: dict[str, str] | None = {}
        while more is not None:
            query = encode_query({"uploads": "", "prefix": prefix, "encoding-type": "url", **more}.items())
            page = document(self._ask("GET", bucket, "", query=query), "ListMultipartUploadsResult")
            yield from uploads_of(page)
            more = following(page, {"key-marker": "NextKeyMarker", "upload-id-marker": "NextUploadIdMarker"})

    def close(self) -> None:
        """Hang up: requests under way fail with `Unavailable`, and so do later ones."""
        self._caller.close()

    def _send(
        self, bucket: str, key: str, body: Body, algorithm: str, headers: Mapping[str, str], query: str = ""
    ) -> Stored:
        signed = self._sign_payload and not self._caller.is_private(bucket)
        digest, sha256 = body.measure(algorithm, sha256=signed)
        if headers:
            refuse_odd_headers(headers)
        answer = self._caller.call(
            "PUT",
            bucket,
            key,
            query=query,
            headers={**headers, **checksum_headers(digest)},
            content=body,
            payload=sha256 or UNSIGNED,
        )
        return stored_of(answer)

    def _ask(
        self,
        method: str,
        bucket: str,
        key: str,
        *,
        query: str = "",
        headers: Mapping[str, str] = NONE,
        content: bytes = b"",
    ) -> Answer:
        refuse_odd_headers(headers)
        payload = hashlib.sha256(content).hexdigest()
        return self._caller.call(
            method, bucket, key, query=query, headers=headers, content=Text(content), payload=payload
        )
