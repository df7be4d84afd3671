"""What S3 says no with, and what that means: one table.

Codes: Amazon S3 API reference, "Error responses"; some compatible stores add their own, for which the
status decides. What the network does to a request is `tidegate.errors.Unavailable`.
"""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

from tidegate.errors import TidegateError

if TYPE_CHECKING:
    from tidegate.store.answers import Answer


class Kind(enum.Enum):
    """What to do about an error.

    AGAIN        try again later: the store is busy, or we came with old credentials or a wrong clock
    BLOCKED      nothing will get into this bucket until somebody changes something
    REFUSED      this object is at fault, as far as one can tell
    CONFLICT     there is, or is just coming, another object of this name, and we asked not to replace it
    CLEAN_START  the multipart upload is gone or does not hold what we think: begin a new one
    """

    AGAIN = "again"
    BLOCKED = "blocked"
    REFUSED = "refused"
    CONFLICT = "conflict"
    CLEAN_START = "clean start"


_CODES = {
    Kind.AGAIN: (
        *("InternalError", "ServiceUnavailable", "ServerBusy", "SlowDown", "SlowDownRead", "SlowDownWrite"),
        *("Busy", "Throttling", "ThrottlingException", "RequestLimitExceeded", "BandwidthLimitExceeded"),
        *(
            "TooManyRequests",
            "RequestThrottled",
            "ProvisionedThroughputExceededException",
            "KMS.ThrottlingException",
        ),
        *(
            "RequestTimeout",
            "RequestTimeTooSkewed",
            "IncompleteBody",
            "OperationAborted",
            "TemporaryRedirect",
        ),
        *("ExpiredToken", "ExpiredTokenException", "TokenRefreshRequired", "RequestExpired"),
    ),
    Kind.BLOCKED: (
        *(
            "AccessDenied",
            "AllAccessDisabled",
            "AccountProblem",
            "NotSignedUp",
            "InvalidPayer",
            "InvalidSecurity",
        ),
        *(
            "InvalidAccessKeyId",
            "InvalidToken",
            "SignatureDoesNotMatch",
            "UnauthorizedAccess",
            "UnauthorizedAccessError",
        ),
        *("NoSuchBucket", "InvalidBucketName", "InvalidBucketState", "PermanentRedirect", "Redirect"),
        *("AuthorizationHeaderMalformed", "IllegalLocationConstraintException", "InvalidRegion"),
        *("InvalidStorageClass", "InvalidEncryptionAlgorithmError", "NotImplemented", "MethodNotAllowed"),
        *("AccessControlListNotSupported", "KMS.DisabledException", "KMS.NotFoundException"),
        *("KMS.KMSInvalidStateException", "KMS.InvalidKeyUsageException", "KMS.AccessDeniedException"),
    ),
    Kind.CONFLICT: ("PreconditionFailed", "ConditionalRequestConflict"),
    # A part that is too small is one that was made with another part size than the upload goes on with.
    Kind.CLEAN_START: ("NoSuchUpload", "InvalidPart", "InvalidPartOrder", "EntityTooSmall"),
    Kind.REFUSED: ("NoSuchKey", "NoSuchVersion"),
}
_KIND_OF_CODE = {code: kind for kind, codes in _CODES.items() for code in codes}
_KIND_OF_STATUS = {
    **dict.fromkeys((301, 401, 403, 404, 405, 407), Kind.BLOCKED),
    **dict.fromkeys((408, 425, 429), Kind.AGAIN),
    **dict.fromkeys((409, 412), Kind.CONFLICT),
}
# What an answer without a body may mean: those to HEAD have none.
_MUTE = {403: "a right is missing", 404: "there is no such object, or no such bucket"}
# With these, what we signed with should not be used any more.
STALE_CREDENTIALS = frozenset(
    ("ExpiredToken", "ExpiredTokenException", "TokenRefreshRequired", "InvalidToken", "InvalidAccessKeyId")
)


class S3Error(TidegateError):
    """S3 said no. `code` is its word for it, or empty; `kind` says what to do about it."""

    def __init__(self, kind: Kind, status: int, code: str, message: str, request_id: str) -> None:
        super().__init__(
            f"{code or 'status'} ({status}): {message}" + (f" [{request_id}]" if request_id else "")
        )
        self.kind = kind
        self.status = status
        self.code = code
        self.message = message
        self.request_id = request_id

    def about(self, what: str) -> S3Error:
        """The same, and its message begins with what was asked for."""
        return S3Error(self.kind, self.status, self.code, f"{what}: {self.message}", self.request_id)


def kind_of(status: int, code: str) -> Kind:
    """Look the answer up in the table: the code if it is known, else the status."""
    known = _KIND_OF_CODE.get(code) or _KIND_OF_STATUS.get(status)
    if known is not None:
        return known
    # Below 400 it is no store that speaks, but somebody on the way: a portal that wants a log-in first.
    return Kind.AGAIN if status >= 500 or status < 400 else Kind.REFUSED


def error_of(answer: Answer) -> S3Error:
    """Make the error out of an answer that is one. Its body may be anything, or nothing."""
    details = _details(answer.body)
    code, message = details.get("Code", ""), details.get("Message", "")
    region = details.get("Region") or answer.headers.get("x-amz-bucket-region", "")
    if region and (answer.status in (301, 307) or code == "AuthorizationHeaderMalformed"):
        message = f"the bucket is in the region {region}" + (f" ({message})" if message else "")
    if code == "NoSuchBucket" and (bucket := details.get("BucketName")):
        message = f"{message}: {bucket}"
    request_id = details.get("RequestId") or answer.headers.get("x-amz-request-id", "")
    message = message or _MUTE.get(answer.status, "no reason was given")
    return S3Error(kind_of(answer.status, code), answer.status, code, message, request_id)


def _details(body: bytes) -> dict[str, str]:
    """The elements of the error, or nothing if it is not written as S3 does."""
    try:
        root = parse_xml(body)
    except ValueError:
        return {}
    if root.tag != "Error":
        return {}
    return {child.tag: (child.text or "").strip() for child in root}


def parse_xml(body: bytes) -> ET.Element:
    """Parse what S3 wrote, without its namespaces. Raises ValueError for anything else.

    A document type is refused: S3 sends none, and in one of them a few bytes can become gigabytes.
    """
    if b"<!DOCTYPE" in body or b"<!ENTITY" in body:
        raise ValueError("the answer brings its own document type")
    try:
        root = ET.fromstring(body)  # noqa: S314 - without a document type there is nothing to expand
    except ET.ParseError as error:
        raise ValueError(f"the answer is not XML: {error}") from error
    for element in root.iter():
        element.tag = element.tag.rpartition("}")[2]
    return root
