"""Reads the completion report of a batch job: a manifest.json, and CSV with one row for each task."""

from __future__ import annotations

import csv
import io
import json
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import unquote_plus

from tidegate.errors import Unavailable

if TYPE_CHECKING:
    from collections.abc import Iterator
    from io import RawIOBase

_FIELDS = 7


class Row(NamedTuple):
    """One task. `code` is S3's word for why it failed, empty for one that did not."""

    bucket: str
    key: str
    version: str
    is_failed: bool
    code: str
    status: str
    message: str


def results(manifest: bytes) -> list[tuple[str, str]]:
    """Name bucket and key of each file. Raises `Unavailable` for what is not a report."""
    try:
        said = json.loads(manifest)
        return [(it["Bucket"], it["Key"]) for it in said.get("Results") or ()]
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise Unavailable(f"the report of the batch job cannot be read: {error!r}") from error


def rows(stream: RawIOBase) -> Iterator[Row]:
    """Read the tasks of one file, which may be of any size.

    The schema that reports name says TaskStatus, ErrorCode, HTTPStatusCode; rows that AWS shows have the
    status before the code. It is the number of the two.
    """
    lines = io.TextIOWrapper(io.BufferedReader(stream, 2**20), "utf-8", newline="")
    for row in csv.reader(lines):
        if len(row) < _FIELDS - 1:
            continue
        bucket, key, version, outcome, one, other = (field.strip() for field in row[:6])
        status, code = (one, other) if one.isdigit() and not other.isdigit() else (other, one)
        message = row[6].strip() if len(row) > 6 else ""
        yield Row(bucket, unquote_plus(key), version, outcome.lower() == "failed", code, status, message)
