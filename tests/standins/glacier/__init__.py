"""A stand-in for S3's archive classes and for S3 Batch Operations. For tests, benchmarks and by hand; never shipped.

It stands for AWS, and nothing in it was compared with AWS: it does what AWS's documentation says, and where
that says nothing, what is written here. Only a test with a real account shows more.

    with GlacierStandIn() as glacier:
        glacier.put("bucket", "a.bin", size=1000, storage_class="DEEP_ARCHIVE")
        glacier.client("s3").restore_object(Bucket="bucket", Key="a.bin", RestoreRequest={"Days": 3})
        glacier.clock.advance(12 * 3600)

Time stands still until it is advanced (or flows with `speed`). Only throttling and the faults that wait go
by the real clock.

Clients. Any S3 client works with `endpoint_url=glacier.endpoint`; addresses are path-style. The client for
`s3control` puts the account before the host name, whatever its configuration says, and such a name leads
nowhere; so it goes by way of a proxy, which is this stand-in again: `client("s3control")`, or in the
environment of another process what `environment()` returns. Requests without that prefix are served too.

Documented: which requests are answered with 202, 200, 403, 404, 409 and 503; tiers and their longest times;
the midnight at which a copy expires; x-amz-restore, x-amz-archive-status and RestoreStatus; 1,000 restore
requests in a second; the faster tier for a running restore; Intelligent-Tiering without days; the shape of
events; states of a batch job, its idempotence, the failure of a job with more than half of 1,000 tasks failed;
the report and that schema and sample rows of it contradict each other (`pace.report_order`).

Guesses: the shortest times of tiers other than Expedited; 503 as the status of ThrottlingException
(`faults.throttle_status`); the codes of 400s (but for Expedited on DEEP_ARCHIVE); the texts; 202 for a restore
that is sped up; that expiry counts from the end of the restore; that a listing says nothing about restores of
Intelligent-Tiering (`faults.list_tiering_status`); that a batch job whose manifest is missing, changed or
unreadable is made and then fails; that "+" in a manifest is a space; that keys in reports are URL-encoded; how
fast batch jobs go (`pace`); FailureCodes.

Left out: signatures and policies are not looked at; a listing is always up to date; batch jobs use up none of
the 1,000 requests in a second; nothing goes back into an archive tier; copies, tags, locks and encryption.
"""

from __future__ import annotations

from tests.standins.glacier.clock import DAY, HOUR, MINUTE, Clock
from tests.standins.glacier.faults import Fault, Faults
from tests.standins.glacier.standin import ACCOUNT, REGION, GlacierStandIn

__all__ = [
    "ACCOUNT",
    "DAY",
    "HOUR",
    "MINUTE",
    "REGION",
    "Clock",
    "Fault",
    "Faults",
    "GlacierStandIn",
]
