"""S3 Control: the jobs of S3 Batch Operations. Requests are signed as for S3, and written in XML.

Shapes: Amazon S3 API reference, "CreateJob", "DescribeJob", "UpdateJobStatus"; the order of elements is free.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from xml.sax.saxutils import escape

from tidegate.store.calls import Caller
from tidegate.store.endpoints import Endpoint
from tidegate.store.s3 import Text
from tidegate.store.sigv4 import encode_query
from tidegate.store.stored import document

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from xml.etree.ElementTree import Element

    from tidegate.store.answers import Answer
    from tidegate.store.calls import Identity
    from tidegate.store.wire import Address, Manner

_API = "v20180820"
_SPACE = "http://awss3control.amazonaws.com/doc/2018-08-20/"


@dataclass(frozen=True, slots=True)
class BatchJob:
    """What DescribeJob says: its state in S3's word, tasks, and for one that failed, why."""

    status: str
    total: int = 0
    succeeded: int = 0
    failed: int = 0
    reasons: tuple[str, ...] = field(default=())


class Control:
    """Batch jobs of one account in one region. Raises what `Caller.call` raises."""

    def __init__(
        self,
        *,
        account: str,
        region: str,
        url: str | None,
        identity: Identity,
        manner: Callable[[Address], Manner],
        wall: Callable[[], float],
    ) -> None:
        """Without a `url`, S3 Control is where AWS has it."""
        suffix = "amazonaws.com.cn" if region.startswith("cn-") else "amazonaws.com"
        place = url or f"https://{account}.s3-control.{region}.{suffix}"
        endpoint = Endpoint(region=region, url=place, addressing="path")
        self._caller = Caller(endpoint, identity, manner=manner, clock=wall)
        self._account = {"x-amz-account-id": account}

    def create(self, job: Mapping[str, Any]) -> str:
        """Make a job of nested values named as in the API, and return its id.

        The same ClientRequestToken makes no second one.
        """
        body = f'<CreateJobRequest xmlns="{_SPACE}">{xml(job)}</CreateJobRequest>'.encode()
        root = document(self._ask("POST", "jobs", content=body), "CreateJobResult")
        return root.findtext("JobId", "")

    def describe(self, job_id: str) -> BatchJob:
        """Tell how far a job is. Raises `S3Error` (404) if there is none: S3 keeps them 90 days."""
        root = document(self._ask("GET", f"jobs/{job_id}"), "DescribeJobResult")
        job = root.find("Job")
        if job is None:
            return BatchJob("")
        reasons = [
            f"{it.findtext('FailureCode', '')}: {it.findtext('FailureReason', '')}"
            for it in job.iterfind("FailureReasons/member")
        ]
        summary = job.find("ProgressSummary")
        return BatchJob(
            job.findtext("Status", ""),
            _number(summary, "TotalNumberOfTasks"),
            _number(summary, "NumberOfTasksSucceeded"),
            _number(summary, "NumberOfTasksFailed"),
            tuple(reasons),
        )

    def update(self, job_id: str, status: str) -> None:
        """Ask for a job to be `Ready` (confirmed) or `Cancelled`."""
        query = encode_query([("requestedJobStatus", status)])
        self._ask("POST", f"jobs/{job_id}/status", query=query)

    def close(self) -> None:
        """Hang up."""
        self._caller.close()

    def _ask(self, method: str, path: str, *, query: str = "", content: bytes = b"") -> Answer:
        return self._caller.call(
            method,
            _API,  # stands where a bucket would: both come first in the path
            path,
            query=query,
            headers=self._account,
            content=Text(content),
            payload=hashlib.sha256(content).hexdigest(),
        )


def xml(value: Any) -> str:
    """Write nested values: mappings are elements, lists have `member`s, and None is left out."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (list, tuple)):
        return "".join(f"<member>{xml(item)}</member>" for item in value)
    if hasattr(value, "items"):
        return "".join(f"<{name}>{xml(item)}</{name}>" for name, item in value.items() if item is not None)
    return escape(str(value), {"\r": "&#13;"})


def _number(element: Element | None, name: str) -> int:
    return int(element.findtext(name, "0")) if element is not None else 0
