"""The requests of S3 that a restore needs: buckets, objects, versions, parts, listings and RestoreObject."""

from __future__ import annotations

import base64
import uuid
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET
from xml.sax.saxutils import escape

from awscrt.checksums import crc64nvme

from tests.standins.glacier.clock import http_date
from tests.standins.glacier.errors import Refusal
from tests.standins.glacier.http import Reply
from tests.standins.glacier.listing import Lister, page, text
from tests.standins.glacier.notifications import Rules
from tests.standins.glacier.objects import Bucket, Stored
from tests.standins.glacier.restoring import State, headers_of, invalid_state, state_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.standins.glacier.clock import Clock
    from tests.standins.glacier.faults import Faults
    from tests.standins.glacier.http import Request
    from tests.standins.glacier.notifications import Notifier
    from tests.standins.glacier.restoring import Restorer

XML = {"Content-Type": "application/xml"}
KEPT = ("content-type", "content-encoding", "content-disposition", "cache-control")
CRC = "x-amz-checksum-crc64nvme"
OF_BUCKETS = {  # by method and the part of the query that says what is asked for
    ("PUT", "versioning"): "PutBucketVersioning",
    ("GET", "versioning"): "GetBucketVersioning",
    ("PUT", "notification"): "PutBucketNotificationConfiguration",
    ("GET", "notification"): "GetBucketNotificationConfiguration",
    ("GET", "location"): "GetBucketLocation",
    ("GET", "versions"): "ListObjectVersions",
    ("GET", "list-type"): "ListObjectsV2",
    ("PUT", ""): "CreateBucket",
    ("HEAD", ""): "HeadBucket",
}
OF_OBJECTS = {
    ("POST", "restore"): "RestoreObject",
    ("POST", "uploads"): "CreateMultipartUpload",
    ("PUT", "uploadId"): "UploadPart",
    ("POST", "uploadId"): "CompleteMultipartUpload",
    ("DELETE", "uploadId"): "AbortMultipartUpload",
    ("PUT", ""): "PutObject",
    ("GET", ""): "GetObject",
    ("HEAD", ""): "HeadObject",
    ("DELETE", ""): "DeleteObject",
}


def operation_of(request: Request, *, is_object: bool) -> str:
    table = OF_OBJECTS if is_object else OF_BUCKETS
    for (method, part), name in table.items():
        if method == request.method and (not part or part in request.query):
            return name
    return ""


class S3:
    """Buckets, and what can be asked of them."""

    def __init__(self, clock: Clock, faults: Faults, restorer: Restorer, notifier: Notifier) -> None:
        self.buckets: dict[str, Bucket] = {}
        self.region = ""
        self._clock = clock
        self._faults = faults
        self._restorer = restorer
        self._notifier = notifier
        self._uploads: dict[str, tuple[Stored, dict[int, bytes]]] = {}
        self._of_buckets: dict[str, Callable[[Bucket, Request], Reply]] = {
            "HeadBucket": lambda *_: Reply(headers={"x-amz-bucket-region": self.region}),
            "GetBucketLocation": lambda *_: Reply(
                body=page("LocationConstraint", "" if self.region == "us-east-1" else self.region)
            ),
            "PutBucketVersioning": self._put_versioning,
            "GetBucketVersioning": self._get_versioning,
            "PutBucketNotificationConfiguration": self._put_notification,
            "GetBucketNotificationConfiguration": self._get_notification,
            "ListObjectsV2": lambda *it: Reply(body=self._lister(*it).objects(), headers=XML),
            "ListObjectVersions": lambda *it: Reply(body=self._lister(*it).versions(), headers=XML),
        }
        self._of_objects: dict[str, Callable[[Bucket, str, Request], Reply]] = {
            "RestoreObject": self._restore,
            "HeadObject": self._get,
            "GetObject": self._get,
            "PutObject": self._put,
            "DeleteObject": self._delete,
            "CreateMultipartUpload": self._create_upload,
            "UploadPart": lambda _, *it: self._upload_part(*it),
            "CompleteMultipartUpload": self._complete_upload,
            "AbortMultipartUpload": lambda *it: self._abort_upload(it[-1]),
        }

    def bucket(self, name: str) -> Bucket:
        try:
            return self.buckets[name]
        except KeyError:
            details = {"BucketName": name}
            message = "The specified bucket does not exist"
            raise Refusal(404, "NoSuchBucket", message, details=details) from None

    def make(self, name: str) -> Bucket:
        """Find a bucket, or make it."""
        return self.buckets.setdefault(name, Bucket(name))

    def answer(self, operation: str, bucket_name: str, key: str, request: Request) -> Reply:
        if operation == "CreateBucket":
            self.make(bucket_name)
            return Reply(headers={"Location": f"/{bucket_name}"})
        if operation == "RestoreObject":
            self._faults.check_rate()
        bucket = self.bucket(bucket_name)
        if key:
            return self._of_objects[operation](bucket, key, request)
        return self._of_buckets[operation](bucket, request)

    def store(self, bucket: Bucket, key: str, body: bytes) -> Stored:
        """Store what AWS writes itself: reports and lists."""
        return bucket.put(Stored(key, len(body), self._clock.now, body=body))

    def _lister(self, bucket: Bucket, request: Request) -> Lister:
        return Lister(bucket, request, self._faults, self._clock.now)

    def _restore(self, bucket: Bucket, key: str, request: Request) -> Reply:
        stored = bucket.find(key, request.query.get("versionId"))
        tier, days = read_restore(request.body)
        return Reply(self._restorer.ask(bucket, stored, tier, days))

    def _get(self, bucket: Bucket, key: str, request: Request) -> Reply:
        """Answer a HEAD, or a GET if the bytes can be read now."""
        now = self._clock.now
        stored = bucket.find(key, request.query.get("versionId"))
        is_get = request.method == "GET"
        if is_get and state_of(stored, now) in (State.ARCHIVED, State.ONGOING):
            raise invalid_state(stored, "The operation is not valid for the object's storage class")
        headers = {
            "ETag": f'"{stored.etag}"',
            "Last-Modified": http_date(stored.modified),
            "Accept-Ranges": "bytes",
            "Content-Type": "binary/octet-stream",
            **stored.headers,
            **headers_of(stored, now),
        }
        if bucket.versioning:
            headers["x-amz-version-id"] = stored.version
        if not _precondition_holds(stored, request):
            raise Refusal(412, "PreconditionFailed", "At least one of the pre-conditions did not hold")
        start, end = _range_of(stored, request)
        status = 200
        if (start, end) != (0, stored.size):
            status = 206
            headers["Content-Range"] = f"bytes {start}-{end - 1}/{stored.size}"
        elif request.headers.get("x-amz-checksum-mode", "").upper() == "ENABLED" and stored.checksummed:
            headers[CRC] = base64.b64encode(crc64nvme(stored.content).to_bytes(8, "big")).decode()
            headers["x-amz-checksum-type"] = "FULL_OBJECT"
        if "partNumber" in request.query and stored.parts:
            headers["x-amz-mp-parts-count"] = str(len(stored.parts))
        return Reply(status, stored.cut(start, end) if is_get else b"", headers, length=end - start)

    def _put(self, bucket: Bucket, key: str, request: Request) -> Reply:
        stored = self._new(key, request)
        stored.body, stored.size = request.body, len(request.body)
        return self._stored(bucket, bucket.put(stored))

    def _new(self, key: str, request: Request) -> Stored:
        headers = {
            name: value
            for name, value in request.headers.items()
            if (name in KEPT or name.startswith("x-amz-meta-")) and value != "aws-chunked"
        }
        storage_class = request.headers.get("x-amz-storage-class", "STANDARD")
        return Stored(key, 0, self._clock.now, storage_class, headers=headers)

    def _stored(self, bucket: Bucket, stored: Stored) -> Reply:
        version = {"x-amz-version-id": stored.version} if bucket.versioning else {}
        self._notifier.created(bucket, stored)
        return Reply(headers={"ETag": f'"{stored.etag}"', **version})

    def _delete(self, bucket: Bucket, key: str, request: Request) -> Reply:
        gone = bucket.delete(key, request.query.get("versionId"), self._clock.now)
        headers = {"x-amz-version-id": gone.version} if gone is not None and bucket.versioning else {}
        if gone is not None and gone.is_marker:
            headers["x-amz-delete-marker"] = "true"
        return Reply(204, headers=headers)

    def _create_upload(self, bucket: Bucket, key: str, request: Request) -> Reply:
        upload = uuid.uuid4().hex
        self._uploads[upload] = (self._new(key, request), {})
        content = f"<Bucket>{bucket.name}</Bucket><Key>{text(key)}</Key><UploadId>{upload}</UploadId>"
        return Reply(body=page("InitiateMultipartUploadResult", content), headers=XML)

    def _upload(self, request: Request) -> tuple[Stored, dict[int, bytes]]:
        upload = self._uploads.get(request.query["uploadId"])
        if upload is None:
            raise Refusal(404, "NoSuchUpload", "The specified upload does not exist.")
        return upload

    def _upload_part(self, key: str, request: Request) -> Reply:
        _, parts = self._upload(request)
        parts[int(request.query["partNumber"])] = request.body
        part = Stored(key, len(request.body), 0, body=request.body)
        return Reply(headers={"ETag": f'"{part.etag}"'})

    def _complete_upload(self, bucket: Bucket, key: str, request: Request) -> Reply:
        stored, parts = self._upload(request)
        bodies = [parts[number] for number in sorted(parts)]
        stored.body, stored.parts = b"".join(bodies), tuple(map(len, bodies))
        stored.size, stored.modified = len(stored.body), self._clock.now
        del self._uploads[request.query["uploadId"]]
        reply = self._stored(bucket, bucket.put(stored))
        content = f"<Bucket>{bucket.name}</Bucket><Key>{text(key)}</Key><ETag>{escape(reply.headers.pop('ETag'))}</ETag>"
        reply.body = page("CompleteMultipartUploadResult", content)
        return reply

    def _abort_upload(self, request: Request) -> Reply:
        self._upload(request)
        del self._uploads[request.query["uploadId"]]
        return Reply(204)

    def _put_versioning(self, bucket: Bucket, request: Request) -> Reply:
        bucket.versioning = read(request.body).findtext("{*}Status") or ""
        return Reply()

    def _get_versioning(self, bucket: Bucket, _: Request) -> Reply:
        content = f"<Status>{bucket.versioning}</Status>" if bucket.versioning else ""
        return Reply(body=page("VersioningConfiguration", content), headers=XML)

    def _put_notification(self, bucket: Bucket, request: Request) -> Reply:
        bucket.rules = Rules.read(read(request.body))
        bucket.notification = request.body
        self._notifier.test(bucket)
        return Reply()

    def _get_notification(self, bucket: Bucket, _: Request) -> Reply:
        return Reply(body=bucket.notification or page("NotificationConfiguration", ""), headers=XML)


def read(body: bytes) -> ET.Element:
    try:
        return ET.fromstring(body)
    except ET.ParseError as error:
        raise Refusal(400, "MalformedXML", "The XML you provided was not well-formed") from error


def read_restore(body: bytes) -> tuple[str, int | None]:
    """Read tier and days of a RestoreRequest; no tier is Standard."""
    root = read(body)
    days = root.findtext("{*}Days")
    tier = root.findtext("{*}GlacierJobParameters/{*}Tier") or root.findtext("{*}Tier") or "Standard"
    try:
        return tier, None if days is None else int(days)
    except ValueError as error:
        raise Refusal(400, "MalformedXML", "Days is no number") from error


def _precondition_holds(stored: Stored, request: Request) -> bool:
    wanted = request.headers.get("if-match")
    return wanted is None or wanted.strip('"') == stored.etag


def _range_of(stored: Stored, request: Request) -> tuple[int, int]:
    """Return start and end of what is asked for: a part, a range, or everything."""
    if "partNumber" in request.query:
        sizes = stored.parts or (stored.size,)
        number = int(request.query["partNumber"])
        if not 1 <= number <= len(sizes):
            raise Refusal(416, "InvalidPartNumber", "The requested partnumber is not satisfiable")
        return sum(sizes[: number - 1]), sum(sizes[:number])
    unit, _, wanted = request.headers.get("range", "").partition("=")
    if unit != "bytes":
        return 0, stored.size
    first, _, last = wanted.partition("-")
    start = int(first) if first else max(stored.size - int(last), 0)
    end = min(int(last) + 1, stored.size) if first and last else stored.size
    if start >= end:
        raise Refusal(416, "InvalidRange", "The requested range is not satisfiable")
    return start, end
