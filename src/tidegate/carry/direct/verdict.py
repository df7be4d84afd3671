"""What a failed upload means for its promise: one table, behind the one of `store.errors`."""

from __future__ import annotations

from tidegate.errors import Refused, Unavailable
from tidegate.model import Verdict
from tidegate.store.body import BodyChanged
from tidegate.store.errors import Kind, S3Error

_OF_KIND = {
    Kind.AGAIN: Verdict.AGAIN,
    Kind.BLOCKED: Verdict.BLOCKED,
    Kind.REFUSED: Verdict.REFUSED,
    Kind.CONFLICT: Verdict.AGAIN,  # 409: somebody else is just writing there
    Kind.CLEAN_START: Verdict.AGAIN,
}


def verdict_of(error: Exception) -> tuple[Verdict, str, bool]:
    """Return the verdict, the reason, and whether nothing got through to the destination."""
    if isinstance(error, S3Error):
        return _OF_KIND[error.kind], str(error), error.kind is Kind.AGAIN
    if isinstance(error, Unavailable):
        return Verdict.AGAIN, str(error), True
    if isinstance(error, BodyChanged):
        return Verdict.CHANGED, str(error), False
    if isinstance(error, Refused):
        return Verdict.REFUSED, str(error), False
    if isinstance(error, OSError):
        return Verdict.REFUSED, f"it cannot be read: {error.strerror or error}", False
    return Verdict.REFUSED, f"it could not be uploaded, for a reason nobody thought of: {error!r}", False
