"""The completion report of a batch job, in either order of its columns."""

from __future__ import annotations

import csv
import hashlib
import io
import json
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from tests.standins.glacier.clock import iso
from tests.standins.glacier.manifests import ARN

if TYPE_CHECKING:
    from tests.standins.glacier.manifests import Task
    from tests.standins.glacier.s3 import S3

SCHEMA = "Bucket, Key, VersionId, TaskStatus, ErrorCode, HTTPStatusCode, ResultMessage"
BY_SCHEMA = "schema"  # as ReportSchema says
BY_SAMPLE = "sample"  # as the rows in AWS's documentation are: first the HTTP status, then the code


class Report:
    """Gathers the results of tasks, and writes them into the bucket at the end."""

    def __init__(self, wanted: dict[str, Any], order: str) -> None:
        self._wanted = wanted
        self._is_enabled = wanted.get("Enabled") == "true"
        self._is_by_sample = order == BY_SAMPLE
        self._files = {"succeeded": io.StringIO(newline=""), "failed": io.StringIO(newline="")}
        self._writers = {name: csv.writer(file, lineterminator="\n") for name, file in self._files.items()}

    def add(self, task: Task, status: int, code: str, message: str) -> None:
        """Note what became of a task; without a `code` it succeeded."""
        if not self._is_enabled:
            return
        outcome = "failed" if code else "succeeded"
        if not code and self._wanted.get("ReportScope") == "FailedTasksOnly":
            return
        middle = (status, code) if self._is_by_sample else (code, status)
        key = quote(task.key, safe="/")
        self._writers[outcome].writerow((task.bucket, key, task.version, outcome, *middle, message))

    def write(self, s3: S3, job: str, now: float) -> None:
        if not self._is_enabled:
            return
        bucket = s3.make(self._wanted["Bucket"].removeprefix(ARN))
        folder = "/".join(filter(None, (self._wanted.get("Prefix", "").strip("/"), f"job-{job}")))
        results = []
        for outcome, file in self._files.items():
            body = file.getvalue().encode()
            if not body:
                continue
            key = f"{folder}/results/{hashlib.sha1(body).hexdigest()}.csv"
            s3.store(bucket, key, body)
            results.append(
                {
                    "TaskExecutionStatus": outcome,
                    "Bucket": bucket.name,
                    "MD5Checksum": hashlib.md5(body).hexdigest(),
                    "Key": key,
                }
            )
        manifest = {
            "Format": "Report_CSV_20180820",
            "ReportCreationDate": iso(now),
            "Results": results,
            "ReportSchema": SCHEMA,
        }
        s3.store(bucket, f"{folder}/manifest.json", json.dumps(manifest).encode())
