"""Reading Stream Manager's status messages, and what its errors are about. Pure functions.

The shape of a status message is documented; the wording of its errors is not, so the words below are
S3's own error codes and the usual phrases of the AWS SDK for Java.
"""

from __future__ import annotations

import json
import re
from typing import Any

from tidegate.model import Outcome, Verdict

ID_METADATA = "tidegate-id"
"""Object metadata that names the promise. The status message echoes it."""

_SUCCESS, _FAILURE, _IN_PROGRESS, _WARNING, _CANCELED = range(5)

_WHOLE_BUCKET = re.compile(
    r"NoSuchBucket|bucket does not exist|AccessDenied|access denied|AllAccessDisabled|InvalidAccessKeyId"
    r"|SignatureDoesNotMatch|ExpiredToken|InvalidToken|token .*(expired|invalid)|credential|Forbidden|\b403\b"
    r"|PermanentRedirect|AuthorizationHeaderMalformed|KMS|RequestTimeTooSkewed"
    r"|SlowDown|Throttl|TooManyRequests|ServiceUnavailable|InternalError|\b50[0234]\b|RequestTimeout"
    r"|Unable to execute HTTP request|UnknownHost|time[d]?.?out|Connection|unreachable|resolve"
    r"|EndpointConnectionError|Could not connect",
    re.IGNORECASE,
)


def is_about_bucket(error: str) -> bool:
    """Tell whether an error is about the bucket or the way to it, and not about one file."""
    return bool(_WHOLE_BUCKET.search(error))


def outcome(payload: bytes) -> Outcome | None:
    """Read one status message; None when it brings no news (started, warning).

    Raises ValueError for what is no status message of an upload.
    """
    try:
        message = json.loads(payload)
        context = message["statusContext"]
        lane, receipt = context["streamName"], context["sequenceNumber"]
        status = message["status"]
        task = context.get("s3ExportTaskDefinition")
        # Half a surrogate pair, which JSON can hold and a ledger cannot, becomes a question mark.
        note = str(message.get("message") or "").encode(errors="replace").decode()
        if not isinstance(lane, str) or not isinstance(receipt, int) or not isinstance(status, int):
            raise ValueError("fields of the wrong type")  # noqa: TRY004 - one kind of error for all of it
        if not lane.isascii() or not 0 <= receipt < 2**63:
            raise ValueError("no stream of ours has such a name, or such a number")
        promise = _promise(task)
    except (KeyError, TypeError, AttributeError, RecursionError) as err:
        raise ValueError(f"not a status message: {err!r}") from err
    if status == _SUCCESS:
        verdict = Verdict.STORED
    elif status == _FAILURE:
        verdict = Verdict.BLOCKED if is_about_bucket(note) else Verdict.REFUSED
        note = f"Stream Manager reports failure: {note or 'no reason given'}"
    elif status == _CANCELED:
        verdict = Verdict.AGAIN
        note = f"Stream Manager canceled it: {note or 'no reason given'}"
    elif status in (_IN_PROGRESS, _WARNING):
        return None
    else:
        raise ValueError(f"unknown status {status}")
    return Outcome(lane=lane, receipt=receipt, verdict=verdict, note=note[:500], promise=promise)


def _promise(task: Any) -> bytes | None:
    """Which promise the echoed task was for; None when the message does not echo it."""
    if task is None:
        return None
    try:
        return bytes.fromhex((task.get("userMetadata") or {}).get(ID_METADATA, ""))
    except ValueError:
        return b""
