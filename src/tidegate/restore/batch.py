"""Lets S3 Batch Operations ask for the objects: a manifest, a batch job for each bucket and kind, a report.

A batch job only begins restores: `Complete` says that all were asked for. It fails when more than half of
its first 1,000 tasks did, and a restore that is under way already is a failed task: so those are left out.
Objects in Intelligent-Tiering take no days and need a batch job of their own.

The notes of a job hold `batches`, one mapping each: `bucket`, `days`, `versions`, `round`, `token`,
`manifest` (how its objects are named), `sent` once it may be made, `id` and `status` of S3, and `done`.
"""

from __future__ import annotations

import csv
import io
import os
import tempfile
import time
from contextlib import ExitStack
from typing import IO, TYPE_CHECKING, Any
from urllib.parse import quote

from tidegate.restore.nouns import Kind, State
from tidegate.restore.reports import results, rows
from tidegate.restore.selection import ObjectStream
from tidegate.store.body import Body
from tidegate.store.checksum import best
from tidegate.store.errors import S3Error

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from tidegate.restore.journal import Journal, Sheet
    from tidegate.restore.nouns import Spec
    from tidegate.restore.reports import Row
    from tidegate.store.archive_calls import Archive
    from tidegate.store.control import BatchJob, Control
    from tidegate.store.s3 import S3

POLL_SECONDS = 30.0
_OPEN_SHEETS = 20
_GENERATED = "S3InventoryReport_CSV_20211130"


class Batches:
    """The batch jobs of one job. `failure` and `is_cancelled` are set when one has ended so."""

    def __init__(
        self, spec: Spec, journal: Journal, control: Control, s3: S3, archive: Archive, folder: Path
    ) -> None:
        self._spec = spec
        self._journal = journal
        self._control = control
        self._s3 = s3
        self._archive = archive
        self._folder = folder
        self.failure = ""
        self.is_cancelled = False

    def step(self, notes: Mapping[str, Any]) -> float | None:
        """Do what is due; return the seconds until the next look, None when all is asked for.

        Raises what asking AWS raises: then the step can be done again.
        """
        turn = notes.get("rounds", 0)
        all_of_them: list[dict[str, Any]] = [dict(it) for it in notes.get("batches", ())]
        mine = [it for it in all_of_them if it["round"] == turn]
        if not mine:
            mine = self._manifests(notes, turn)
            all_of_them += mine
            self._keep(all_of_them)
        for one in mine:
            if not one["id"]:
                one["sent"] = True  # it may be made, and its name lost
                self._keep(all_of_them)
                one["id"] = self._control.create(request(self._spec, one))
                self._keep(all_of_them)
            if not one["done"]:
                self._look(one)
                self._keep(all_of_them)
        return None if all(it["done"] for it in mine) else min(POLL_SECONDS, self._spec.poll or POLL_SECONDS)

    def cancel(self) -> None:
        """Cancel what is under way. What cannot be cancelled any more has ended by itself."""
        for one in self._journal.notes().get("batches", ()):
            if (one["id"] or one.get("sent")) and not one["done"]:
                try:  # with the same token, CreateJob names the one that there is
                    name = one["id"] or self._control.create(request(self._spec, one))
                    self._control.update(name, "Cancelled")
                except S3Error as error:
                    if error.status not in (400, 404, 409):
                        raise

    def _keep(self, batches: list[dict[str, Any]]) -> None:
        self._journal.note({"batches": batches})

    def _look(self, one: dict[str, Any]) -> None:
        """Find out how far a batch job is, and take over what it has done."""
        try:
            job = self._control.describe(one["id"])
        except S3Error as error:
            if error.status != 404:
                raise
            # S3 forgets them after 90 days. What it was asked for shows in the objects themselves.
            job = None
        one["status"] = job.status if job else "Vanished"
        if job is None or job.status == "Complete":
            if job is not None and job.failed:
                self._take_report(one)
            self._mark(one)
            one["done"] = True
        elif job.status == "Suspended":
            self._control.update(one["id"], "Ready")
        elif job.status == "Cancelled":
            self.is_cancelled = one["done"] = True
        elif job.status == "Failed":  # in all other states, also in one that is new, there is only waiting
            one["done"] = True
            self.failure = _why(one["id"], job)

    def _mark(self, one: Mapping[str, Any]) -> None:
        """All that have not failed were asked for."""
        for sheet in self._journal.sheets(State.WANTED):
            places = [at for at in sheet.where(State.WANTED) if _group(sheet, at) == _key_of(one)]
            for at in places:
                sheet.set(at, State.ASKED)
            if places:
                self._journal.save([sheet])

    def _take_report(self, one: Mapping[str, Any]) -> None:
        """Write down which objects could not be asked for."""
        bucket, prefix = split(self._spec.batch["report"])
        folder = "/".join(filter(None, (prefix.strip("/"), f"job-{one['id']}")))
        index = self._journal.index()
        sheets: dict[int, Sheet] = {}
        said = ObjectStream(self._archive, bucket, f"{folder}/manifest.json")
        for place in results(b"".join(iter(lambda: said.read(2**20) or b"", b""))):
            for row in rows(ObjectStream(self._archive, *place)):
                if row.is_failed:
                    self._fail(row, index, sheets)
        self._journal.save(sheets.values())

    def _fail(self, row: Row, index: list[tuple[str, str, int]], sheets: dict[int, Sheet]) -> None:
        for number in self._journal.places(index, row.bucket, row.key):
            if number not in sheets:
                if len(sheets) == _OPEN_SHEETS:
                    self._journal.save(sheets.values())
                    sheets.clear()
                sheets[number] = self._journal.sheet(number)
            sheet = sheets[number]
            at = sheet.find(row.key, row.version)
            if at is not None:
                state = State.ALREADY if row.code == "RestoreAlreadyInProgress" else State.FAILED
                sheet.set(at, state, (row.code or f"Status{row.status}", row.message))
                return

    def _manifests(self, notes: Mapping[str, Any], turn: int) -> list[dict[str, Any]]:
        """Write down for S3 what is wanted, in as many parts as there have to be batch jobs."""
        if self._can_generate(notes, turn):
            return [self._part((self._spec.bucket, True, False), turn, 0, {"generated": True})]
        with ExitStack() as stack:
            files: dict[tuple[str, bool, bool], IO[bytes]] = {}
            for sheet in self._journal.sheets(State.WANTED):
                for at in sheet.where(State.WANTED):
                    group = _group(sheet, at)
                    if group not in files:
                        files[group] = stack.enter_context(tempfile.TemporaryFile(dir=self._folder))
                    files[group].write(line(sheet.bucket, sheet.keys[at], sheet.version(at)))
            return [
                self._part(group, turn, number, self._upload(file, turn, number))
                for number, (group, file) in enumerate(sorted(files.items(), key=lambda it: it[0]))
            ]

    def _upload(self, file: IO[bytes], turn: int, number: int) -> dict[str, Any]:
        file.flush()
        bucket, prefix = split(self._spec.batch["report"])
        key = "/".join(filter(None, (prefix.strip("/"), f"{self._spec.id}-{turn}-{number}.csv")))
        body = Body(file.fileno(), os.fstat(file.fileno()).st_size)
        stored = self._s3.put(bucket, key, body, algorithm=best())
        return {"bucket": bucket, "key": key, "etag": stored.etag}

    def _part(
        self, group: tuple[str, bool, bool], turn: int, number: int, manifest: Mapping[str, Any]
    ) -> dict[str, Any]:
        bucket, days, versions = group
        token = self._spec.id if (turn, number) == (0, 0) else f"{self._spec.id}-{turn}-{number}"
        return {
            "bucket": bucket,
            "days": days,
            "versions": versions,
            "round": turn,
            "token": token,
            "manifest": dict(manifest),
            "id": "",
            "status": "",
            "done": False,
        }

    def _can_generate(self, notes: Mapping[str, Any], turn: int) -> bool:
        """Whether a filter says the same as a manifest would: nothing has to be left out by name."""
        counts, kinds = self._journal.counts(), set(notes.get("kinds", ()))
        return (
            bool(self._spec.batch.get("generator"))
            and turn == 0
            and not self._spec.listed
            and not (counts.already or counts.ready)
            and kinds <= {Kind.GLACIER, Kind.DEEP}
        )


def request(spec: Spec, one: Mapping[str, Any]) -> dict[str, Any]:
    """Write the order for one batch job, in the words of CreateJob."""
    bucket, prefix = split(spec.batch["report"])
    operation: dict[str, Any] = {"GlacierJobTier": spec.tier.upper()}
    if one["days"]:
        operation = {"ExpirationInDays": spec.days, **operation}
    manifest = one["manifest"]
    job: dict[str, Any] = {
        "ConfirmationRequired": False,
        "Operation": {"S3InitiateRestoreObject": operation},
        "Report": {
            "Bucket": arn(bucket),
            "Format": "Report_CSV_20180820",
            "Enabled": True,
            "Prefix": prefix.strip("/") or None,
            "ReportScope": "FailedTasksOnly",
        },
        "ClientRequestToken": one["token"],
        "Description": f"tidegate {spec.id}",
        "Priority": int(spec.batch.get("priority", 10)),
        "RoleArn": spec.batch["role"],
        "Tags": [{"Key": name, "Value": value} for name, value in spec.batch.get("tags", {}).items()] or None,
    }
    if manifest.get("generated"):
        return {**job, "ManifestGenerator": generator(spec)}
    fields = ["Bucket", "Key", "VersionId"] if one["versions"] else ["Bucket", "Key"]
    location = {"ObjectArn": f"{arn(manifest['bucket'])}/{manifest['key']}", "ETag": manifest["etag"]}
    form = {"Format": "S3BatchOperations_CSV_20180820", "Fields": fields}
    return {**job, "Manifest": {"Spec": form, "Location": location}}


def generator(spec: Spec) -> dict[str, Any]:
    """Write the filter of a selection for S3, which then makes the manifest itself."""
    wanted = spec.filter
    bucket, prefix = split(spec.batch["report"])
    archived = tuple(it for it in wanted.classes if it in ("GLACIER", "DEEP_ARCHIVE"))
    names = {
        "MatchAnyPrefix": [spec.prefix] if spec.prefix else None,
        "MatchAnySuffix": list(wanted.suffixes) or None,
    }
    chosen = {
        "CreatedAfter": None if wanted.after is None else _iso(wanted.after - 1),
        "CreatedBefore": None if wanted.before is None else _iso(wanted.before + 1),
        "KeyNameConstraint": names if any(names.values()) else None,
        "ObjectSizeGreaterThanBytes": wanted.smallest - 1 if wanted.smallest else None,
        "ObjectSizeLessThanBytes": None if wanted.largest is None else wanted.largest + 1,
        "MatchAnyStorageClass": list(archived or ("GLACIER", "DEEP_ARCHIVE")),
    }
    output = {
        "Bucket": arn(bucket),
        "ManifestPrefix": prefix.strip("/") or None,
        "ManifestFormat": _GENERATED,
    }
    return {
        "S3JobManifestGenerator": {
            "SourceBucket": arn(spec.bucket),
            "ManifestOutputLocation": output,
            "Filter": chosen,
            "EnableManifestOutput": True,
        }
    }


def line(bucket: str, key: str, version: str) -> bytes:
    """Write one row of a manifest. Encoded so, a key means the same whatever becomes of a + or a space."""
    fields = [bucket, quote(key, safe="/"), *([version] if version else [])]
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerow(fields)
    return text.getvalue().encode()


def split(url: str) -> tuple[str, str]:
    """Split s3://bucket/key; both may be written without the scheme."""
    bucket, _, key = url.removeprefix("s3://").partition("/")
    return bucket, key


def arn(bucket: str) -> str:
    """Name a bucket as CreateJob wants it."""
    return bucket if bucket.startswith("arn:") else f"arn:aws:s3:::{bucket}"


def _group(sheet: Sheet, at: int) -> tuple[str, bool, bool]:
    return sheet.bucket, sheet.kind(at).takes_days, bool(sheet.version(at))


def _key_of(one: Mapping[str, Any]) -> tuple[str, bool, bool]:
    return one["bucket"], one["days"], one["versions"]


def _why(name: str, job: BatchJob) -> str:
    return f"the batch job {name} has failed: {'; '.join(job.reasons) or 'no reason was given'}"


def _iso(when: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(when))
