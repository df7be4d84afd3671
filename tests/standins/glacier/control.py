"""S3 Control: the five requests about batch jobs, from and to XML."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any
from xml.sax.saxutils import escape

from tests.standins.glacier.batch import STATES, TIERS, Batch, Job
from tests.standins.glacier.clock import iso
from tests.standins.glacier.errors import Refusal
from tests.standins.glacier.http import Reply
from tests.standins.glacier.manifests import CSV_FORMAT, GENERATED_FORMAT, INVENTORY_FORMAT
from tests.standins.glacier.s3 import XML, read

if TYPE_CHECKING:
    from xml.etree import ElementTree as ET

    from tests.standins.glacier.http import Request

PATH = "/v20180820/jobs"
NAMESPACE = 'xmlns="http://awss3control.amazonaws.com/doc/2018-08-20/"'
LONGEST_TOKEN = 64
MOST_LISTED = 1000
FIELDS = ("Ignore", "Bucket", "Key", "VersionId")


def operation_of(request: Request) -> str:
    """Name what is asked for; "" is something else than a job."""
    parts = request.path.removeprefix(PATH).strip("/").split("/")
    if parts == [""]:
        return {"POST": "CreateJob", "GET": "ListJobs"}.get(request.method, "")
    return {
        ("GET", ""): "DescribeJob",
        ("POST", "status"): "UpdateJobStatus",
        ("POST", "priority"): "UpdateJobPriority",
    }.get((request.method, "/".join(parts[1:])), "")


class Control:
    """Answers requests about the jobs of one account."""

    def __init__(self, batch: Batch, region: str, account: str) -> None:
        self._batch = batch
        self._region = region
        self._account = account

    def answer(self, operation: str, request: Request) -> Reply:
        account = request.headers.get("x-amz-account-id", "")
        if account != self._account:
            raise Refusal(403, "AccessDenied", f"This is not account {account}")
        identifier = request.path.removeprefix(PATH).strip("/").partition("/")[0]
        if operation == "CreateJob":
            job = self._batch.create(validated(as_dict(read(request.body))))
            return reply("CreateJobResult", {"JobId": job.identifier})
        if operation == "ListJobs":
            return self._list(request)
        if operation == "DescribeJob":
            return reply("DescribeJobResult", {"Job": self._describe(self._batch.find(identifier))})
        if operation == "UpdateJobPriority":
            job = self._batch.prioritize(identifier, int(request.query["priority"]))
            return reply("UpdateJobPriorityResult", {"JobId": identifier, "Priority": job.priority})
        reason = request.query.get("statusUpdateReason", "")
        job = self._batch.update(identifier, request.query.get("requestedJobStatus", ""), reason)
        content = {"JobId": identifier, "Status": job.status, "StatusUpdateReason": reason or None}
        return reply("UpdateJobStatusResult", content)

    def _list(self, request: Request) -> Reply:
        wanted = request.every("jobStatuses")
        if set(wanted) - set(STATES):
            raise Refusal(400, "InvalidRequestException", f"There are no jobs that are {wanted}")
        most = min(int(request.query.get("maxResults", MOST_LISTED)), MOST_LISTED)
        token = request.query.get("nextToken")
        try:
            before = float("inf") if token is None else int(base64.b64decode(token, validate=True))
        except ValueError as error:
            raise Refusal(400, "InvalidNextTokenException", "The token is not one of ours") from error
        jobs = [
            it
            for it in sorted(self._batch.jobs.values(), key=lambda it: -it.number)
            if it.number < before and (not wanted or it.status in wanted)
        ]
        content: dict[str, Any] = {"Jobs": [self._summarize(it) for it in jobs[:most]]}
        if len(jobs) > most:
            content["NextToken"] = base64.b64encode(str(jobs[most - 1].number).encode()).decode()
        return reply("ListJobsResult", content)

    def _summarize(self, job: Job) -> dict[str, Any]:
        return {
            "JobId": job.identifier,
            "Description": job.request.get("Description"),
            "Operation": "S3InitiateRestoreObject",
            "Priority": job.priority,
            "Status": job.status,
            "CreationTime": iso(job.created),
            "TerminationDate": None if job.terminated is None else iso(job.terminated),
            "ProgressSummary": {
                "TotalNumberOfTasks": job.total,
                "NumberOfTasksSucceeded": job.succeeded,
                "NumberOfTasksFailed": job.failed,
                "Timers": {"ElapsedTimeInActiveSeconds": int(job.active_seconds)},
            },
        }

    def _describe(self, job: Job) -> dict[str, Any]:
        request = job.request
        return {
            **self._summarize(job),
            "Operation": request["Operation"],
            "ConfirmationRequired": request.get("ConfirmationRequired", "false"),
            "JobArn": f"arn:aws:s3:{self._region}:{self._account}:job/{job.identifier}",
            "Manifest": request.get("Manifest"),
            "ManifestGenerator": request.get("ManifestGenerator"),
            "GeneratedManifestDescriptor": job.generated,
            "Report": request["Report"],
            "RoleArn": request["RoleArn"],
            "StatusUpdateReason": job.reason or None,
            "SuspendedDate": None if job.suspended is None else iso(job.suspended),
            "SuspendedCause": "AwaitingConfirmation" if job.status == "Suspended" else None,
            "FailureReasons": [
                {"FailureCode": code, "FailureReason": reason} for code, reason in job.failures
            ],
        }


def as_dict(element: ET.Element) -> Any:
    """Read an element as text, as a list if it has members, else as what it holds by name."""
    children = list(element)
    if not children:
        return (element.text or "").strip()
    names = [it.tag.rpartition("}")[2] for it in children]
    if set(names) == {"member"}:
        return [as_dict(it) for it in children]
    return {name: as_dict(it) for name, it in zip(names, children, strict=True)}


def as_xml(value: Any) -> str:
    if isinstance(value, dict):
        return "".join(f"<{name}>{as_xml(it)}</{name}>" for name, it in value.items() if it is not None)
    if isinstance(value, list):
        return "".join(f"<member>{as_xml(it)}</member>" for it in value)
    return escape(str(value))


def reply(root: str, content: dict[str, Any]) -> Reply:
    text = f'<?xml version="1.0" encoding="UTF-8"?>\n<{root} {NAMESPACE}>{as_xml(content)}</{root}>'
    return Reply(body=text.encode(), headers=XML)


def validated(request: dict[str, Any]) -> dict[str, Any]:
    """Return the request for a job if it can be one."""

    def demand(condition: object, problem: str) -> None:
        if not condition:
            raise Refusal(400, "BadRequestException", problem)

    for name in ("Operation", "Report", "ClientRequestToken", "Priority", "RoleArn"):
        demand(request.get(name), f"{name} is missing")
    demand(len(request["ClientRequestToken"]) <= LONGEST_TOKEN, "ClientRequestToken is too long")
    demand(("Manifest" in request) != ("ManifestGenerator" in request), "One of two manifests is needed")
    demand(isinstance(request["Operation"], dict), "Operation is empty")
    operation = request["Operation"].get("S3InitiateRestoreObject")
    demand(operation is not None, "The stand-in only restores")
    request["Operation"]["S3InitiateRestoreObject"] = operation = operation or {}
    demand(operation.get("GlacierJobTier", "STANDARD") in TIERS, "GlacierJobTier is BULK or STANDARD")
    report = request["Report"]
    if report.get("Enabled") == "true":
        demand(report.get("Bucket"), "Report.Bucket is missing")
        demand(report.get("Format") == "Report_CSV_20180820", "Report.Format is not known")
        demand(report.get("ReportScope") in ("AllTasks", "FailedTasksOnly"), "Report.ReportScope is missing")
    if "Manifest" in request:
        spec = request["Manifest"].get("Spec", {})
        location = request["Manifest"].get("Location", {})
        demand(spec.get("Format") in (CSV_FORMAT, INVENTORY_FORMAT), "Manifest.Spec.Format is not known")
        demand(location.get("ObjectArn") and location.get("ETag"), "Manifest.Location is not whole")
        if spec["Format"] == CSV_FORMAT:
            fields = spec.get("Fields", [])
            demand({"Bucket", "Key"} <= set(fields) <= set(FIELDS), "Manifest.Spec.Fields are not whole")
    else:
        generator = request["ManifestGenerator"].get("S3JobManifestGenerator", {})
        demand(generator.get("SourceBucket"), "SourceBucket is missing")
        if generator.get("EnableManifestOutput") == "true":
            output = generator.get("ManifestOutputLocation", {})
            demand(output.get("Bucket"), "ManifestOutputLocation is missing")
            demand(output.get("ManifestFormat") == GENERATED_FORMAT, "ManifestFormat is not known")
    return request
