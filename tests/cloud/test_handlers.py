"""The Lambdas from end to end: what is ordered comes back, is counted truly, and each job tells its end once.

S3 and S3 Batch Operations are played by a stand-in that does what AWS documents, all else by moto.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.cloud.rig import ACCOUNT, FIVE

if TYPE_CHECKING:
    from tests.cloud.rig import App


def test_a_job_is_answered_with_the_six_fields_and_comes_back_with_true_progress(cloud: App) -> None:
    cloud.glacier.populate("archive", 300, prefix="a/")
    names = [f"archive,{key}" for key in keys(cloud, "a/")]
    answer = cloud.order("\r\n".join(names))
    assert set(answer) == {
        *("SNSTopic", "SQSQueue", "ReportBucket"),
        *("BulkJobId", "TotalFilesRequested", "BatchOperation"),
    }
    assert answer["SNSTopic"] == cloud.variables["TOPIC"]
    assert answer["SQSQueue"] == cloud.variables["QUEUE"]
    assert answer["ReportBucket"] == cloud.variables["REPORTS"]
    assert answer["TotalFilesRequested"] == 300
    assert answer["BatchOperation"]["JobId"] in cloud.glacier.jobs
    name = answer["BulkJobId"]
    job = cloud.ends(name)
    assert {field: job[field] for field in FIVE} == {
        "JobId": name,
        "BatchJobId": answer["BatchOperation"]["JobId"],
        "Status": "Complete",
        "ProgressPercent": "100",
        "FailedBatchFiles": "0",
    }
    told = cloud.events(name)
    assert [it["Status"] for it in told if it["Status"] != "Restoring"] == ["Complete"]
    assert told[-1]["Status"] == "Complete"
    assert all(isinstance(it[field], str) for it in told for field in FIVE)
    shown = [int(it["ProgressPercent"]) for it in told]
    assert shown == sorted(shown)
    assert len({it for it in shown if 0 < it < 100}) > 3
    assert cloud.glacier.restores("archive") == 300


def keys(cloud: App, prefix: str) -> list[str]:
    client = cloud.glacier.client("s3")
    pages = client.get_paginator("list_objects_v2").paginate(Bucket="archive", Prefix=prefix)
    found = [it["Key"] for page in pages for it in page.get("Contents", ())]
    client.close()
    return found


__all__ = ["ACCOUNT"]
