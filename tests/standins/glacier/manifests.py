"""What a batch job is to work on: a CSV manifest, an inventory report, or what a generator finds."""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import json
from datetime import datetime
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import quote, unquote_plus

from tests.standins.glacier.errors import Refusal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from tests.standins.glacier.objects import Bucket, Stored
    from tests.standins.glacier.s3 import S3

ARN = "arn:aws:s3:::"
CSV_FORMAT = "S3BatchOperations_CSV_20180820"
INVENTORY_FORMAT = "S3InventoryReport_CSV_20161130"
GENERATED_FORMAT = "S3InventoryReport_CSV_20211130"


class Task(NamedTuple):
    """One object of a job, with its key as it is, not as a manifest writes it."""

    bucket: str
    key: str
    version: str


class BadManifestError(Exception):
    """The manifest is no good: code and reason for the failure of the job."""

    def __init__(self, code: str, reason: str) -> None:
        super().__init__(reason)
        self.code = code


def tasks_of(s3: S3, manifest: dict[str, Any]) -> Iterator[Task]:
    """Yield the tasks of a manifest, without holding them all."""
    stored = _located(s3, manifest["Location"])
    spec = manifest["Spec"]
    if spec["Format"] == CSV_FORMAT:
        yield from _rows(stored.content, spec.get("Fields", []))
    else:
        yield from _inventory(s3, stored.content)


def _located(s3: S3, location: dict[str, Any]) -> Stored:
    bucket, _, key = location["ObjectArn"].removeprefix(ARN).partition("/")
    try:
        stored = s3.bucket(bucket).find(key, location.get("ObjectVersionId"))
    except Refusal as refusal:
        raise BadManifestError("ManifestNotFound", f"{location['ObjectArn']}: {refusal}") from refusal
    if stored.etag != location["ETag"].strip('"'):
        raise BadManifestError("ManifestETagMismatch", "The ETag of the manifest is not the one of the job")
    return stored


def _rows(content: bytes, fields: list[str]) -> Iterator[Task]:
    lines = io.TextIOWrapper(io.BytesIO(content), "utf-8", newline="")
    only = ""
    try:
        for number, row in enumerate(csv.reader(lines, strict=True), 1):
            if len(row) != len(fields):
                raise BadManifestError(
                    "InvalidManifest", f"line {number} has {len(row)} fields, not {len(fields)}"
                )
            named = dict(zip(fields, row, strict=True))
            only = only or named["Bucket"]
            if named["Bucket"] != only:
                raise BadManifestError("InvalidManifest", "A manifest is about the objects of one bucket")
            yield Task(only, unquote_plus(named["Key"]), named.get("VersionId", ""))
    except (csv.Error, UnicodeDecodeError) as error:
        raise BadManifestError("InvalidManifest", str(error)) from error


def _inventory(s3: S3, content: bytes) -> Iterator[Task]:
    try:
        report = json.loads(content)
        fields = [it.strip() for it in report["fileSchema"].split(",")]
        bucket = s3.bucket(report["destinationBucket"].removeprefix(ARN))
        for file in report["files"]:
            body = gzip.decompress(bucket.find(file["key"]).content)
            if hashlib.md5(body).hexdigest() != file["MD5checksum"] and (
                bucket.find(file["key"]).etag != file["MD5checksum"]
            ):
                raise BadManifestError("InvalidManifest", f"{file['key']} has another checksum")
            for row in csv.reader(io.StringIO(body.decode(), newline="")):
                named = dict(zip(fields, row, strict=True))
                yield Task(named["Bucket"], unquote_plus(named["Key"]), named.get("VersionId", ""))
    except (ValueError, KeyError, Refusal, OSError) as error:
        raise BadManifestError("InvalidManifest", repr(error)) from error


def generated(bucket: Bucket, conditions: dict[str, Any]) -> Iterator[Task]:
    """Yield the current versions that a generator's filter lets through."""
    accepts = _acceptance(conditions)
    for versions in bucket.after("", "", inclusive=True):
        stored = versions[-1]
        if not stored.is_marker and accepts(stored):
            yield Task(bucket.name, stored.key, stored.version if bucket.versioning else "")


def _acceptance(conditions: dict[str, Any]) -> Callable[[Stored], bool]:
    names = conditions.get("KeyNameConstraint") or {}
    prefixes = tuple(names.get("MatchAnyPrefix", ()))
    suffixes = tuple(names.get("MatchAnySuffix", ()))
    substrings = tuple(names.get("MatchAnySubstring", ()))
    classes = set(conditions.get("MatchAnyStorageClass", ()))
    after, before = (_time(conditions.get(f"Created{it}")) for it in ("After", "Before"))
    more, less = (conditions.get(f"ObjectSize{it}ThanBytes") for it in ("Greater", "Less"))

    def accepts(stored: Stored) -> bool:
        key, size, modified = stored.key, stored.size, stored.modified
        return (
            (not prefixes or key.startswith(prefixes))
            and (not suffixes or key.endswith(suffixes))
            and (not substrings or any(it in key for it in substrings))
            and (not classes or stored.storage_class in classes)
            and (after is None or modified > after)
            and (before is None or modified < before)
            and (more is None or size > int(more))
            and (less is None or size < int(less))
        )

    return accepts


def _time(text: str | None) -> float | None:
    return None if text is None else datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()


def write_generated(s3: S3, generator: dict[str, Any], job: str, tasks: Iterable[Task]) -> Stored:
    """Write the list of a generator as an inventory report and return its manifest."""
    output = generator["ManifestOutputLocation"]
    bucket = s3.make(output["Bucket"].removeprefix(ARN))
    folder = "/".join(filter(None, (output.get("ManifestPrefix", ""), job)))
    rows = io.StringIO(newline="")
    writer = csv.writer(rows, quoting=csv.QUOTE_ALL, lineterminator="\n")
    for task in tasks:
        writer.writerow((task.bucket, quote(task.key, safe="/"), task.version))
    body = gzip.compress(rows.getvalue().encode(), mtime=0)
    key = f"{folder}/data/{job}.csv.gz"
    s3.store(bucket, key, body)
    report = {
        "sourceBucket": generator["SourceBucket"].removeprefix(ARN),
        "destinationBucket": output["Bucket"],
        "version": "2021-11-30",
        "fileFormat": "CSV",
        "fileSchema": "Bucket, Key, VersionId",
        "files": [{"key": key, "size": len(body), "MD5checksum": hashlib.md5(body).hexdigest()}],
    }
    return s3.store(bucket, f"{folder}/manifest.json", json.dumps(report).encode())
