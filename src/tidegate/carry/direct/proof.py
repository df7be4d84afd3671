"""Whether the store holds the bytes that were sent: nothing is called stored without it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tidegate.config import Verify
from tidegate.errors import Refused
from tidegate.store.body import Body
from tidegate.store.checksum import CRC64NVME, MD5, best, combine
from tidegate.store.errors import Kind, S3Error

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tidegate.model import ObjectRef
    from tidegate.store.checksum import Digest
    from tidegate.store.s3 import S3
    from tidegate.store.stored import Stored

_UNKNOWN_CHECKSUM = ("NotImplemented", "InvalidRequest", "InvalidArgument")
_NO_PROOF = (
    "the store answers with neither a checksum nor an ETag that is one, so nothing proves what it holds;"
    " write Verify: Head to be content with the size"
)


class Prover:
    """Compares, for one destination, and remembers which kind of checksum its store can be compared by."""

    def __init__(self, s3: S3, verify: Verify) -> None:
        self._s3 = s3
        self._verify = verify
        self.algorithm = best()
        self.is_settled = False
        self.takes_conditions = True
        """Whether the store understands If-None-Match. One that does not, and is silent, replaces objects."""

    def prove(self, target: ObjectRef, stored: Stored, digest: Digest, by_etag: Callable[[], Digest]) -> None:
        """Return if the object is what was sent. Raises `Refused` if it is not, or if nothing tells.

        `by_etag` reads the bytes once more, for what a store without checksums answers.
        """
        found: Stored | None = stored
        proven = stored.proves(digest)
        if proven is None or self._verify is Verify.HEAD:
            found = self._s3.head(target.bucket, target.key)
            if found is None:
                raise Refused("it was uploaded, and is not there")
            proven = found.proves(digest)
            if proven is None and self._verify is Verify.HEAD:
                proven = found.size == digest.size
        if proven is None and digest.algorithm != MD5:
            proven = (found or stored).proves(by_etag())
            if proven:
                self.algorithm = MD5
            elif not self.is_settled:
                raise S3Error(Kind.BLOCKED, 200, "NoProof", _NO_PROOF, "")
        if not proven:
            raise Refused("what the store holds is not what was sent: its checksum or size differs")
        self.is_settled = True

    def holds(self, target: ObjectRef, digest: Digest, by_etag: Callable[[], Digest]) -> bool:
        """Whether the object is there already, with these bytes, as far as S3 lets us know.

        Who may not list the bucket is told 403 where there is no object (Amazon S3 API reference,
        HeadObject).
        """
        try:
            found = self._s3.head(target.bucket, target.key)
        except S3Error:
            return False  # writing it brings to light what is the matter
        if found is None or (found.size is not None and found.size != digest.size):
            return False
        proven = found.proves(digest)
        return bool(found.proves(by_etag()) if proven is None and digest.algorithm != MD5 else proven)

    def compare(
        self, target: ObjectRef, size: int, measure: Callable[[], Digest], by_etag: Callable[[], Digest]
    ) -> bool | None:
        """Whether the object that is there has these bytes; None: none is there, as far as we may know.

        They are read only where that can tell: if the sizes are the same.
        """
        try:
            found = self._s3.head(target.bucket, target.key)
        except S3Error:
            return None
        if found is None:
            return None
        if found.size is not None and found.size != size:
            return False
        digest = measure()
        proven = found.proves(digest)
        return bool(found.proves(by_etag()) if proven is None and digest.algorithm != MD5 else proven)

    def gives_in(self, error: S3Error) -> bool:
        """Whether the store may only not know our kind of checksum: from now on it gets another one."""
        if self.is_settled or self.algorithm != CRC64NVME or error.code not in _UNKNOWN_CHECKSUM:
            return False
        self.algorithm = MD5
        return True


def etag_of(descriptor: int, sizes: Sequence[int], *, in_parts: bool) -> Digest:
    """Compute what the ETag of these bytes is in a plain store, sent at once or as parts of these sizes."""
    digests, offset = [], 0
    for size in sizes:
        digests.append(Body(descriptor, size, offset=offset).measure(MD5)[0])
        offset += size
    return combine(digests) if in_parts else digests[0]
