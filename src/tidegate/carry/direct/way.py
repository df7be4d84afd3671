"""The way of one source to its bucket: the client, the proof, the headers, and whether it is open."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tidegate.carry.direct.proof import etag_of
from tidegate.config import After, OnConflict
from tidegate.errors import Refused
from tidegate.store.errors import Kind, S3Error

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tidegate.carry.direct.outage import Outage
    from tidegate.carry.direct.proof import Prover
    from tidegate.config import Source
    from tidegate.model import Transfer
    from tidegate.store.checksum import Digest
    from tidegate.store.s3 import S3
    from tidegate.store.stored import Stored

_UNLESS_THERE = {"if-none-match": "*"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """What all transfers of a source share."""

    source: Source
    s3: S3
    prover: Prover
    outage: Outage
    headers: Callable[[Transfer], dict[str, str]]

    @property
    def looks_first(self) -> bool:
        """Whether files are kept, so that they may well be in the bucket: then it is asked before all else."""
        return self.source.after is After.KEEP and not self.source.force

    def write(
        self,
        transfer: Transfer,
        descriptor: int,
        sizes: Sequence[int],
        send: Callable[[dict[str, str]], Stored],
        digest: Callable[[], Digest],
        *,
        in_parts: bool,
    ) -> str:
        """Make the object by `send`, which takes headers for a condition; return its ETag once it is proven.

        An object that is there already is replaced, or not, as OnConflict says; one with the same bytes
        is as good as ours: an answer to us may have been lost. Raises what `send` and `Prover` raise.
        """

        def by_etag() -> Digest:
            return etag_of(descriptor, sizes, in_parts=in_parts)

        if self.source.on_conflict is OnConflict.OVERWRITE:
            stored = send({})
        else:
            try:
                stored = send(_UNLESS_THERE)
            except S3Error as error:
                if error.kind is not Kind.CONFLICT or error.status != 412:
                    raise
                if self.prover.holds(transfer.target, digest(), by_etag):
                    return ""  # S3 has it, and nobody told us
                self._may_replace(transfer)
                stored = send({})
        self.prover.prove(transfer.target, stored, digest(), by_etag)
        return stored.etag

    def _may_replace(self, transfer: Transfer) -> None:
        if self.source.on_conflict is OnConflict.FAIL:
            raise Refused("another object of this name is there already, and OnConflict is Fail")
        found = self.s3.head(transfer.target.bucket, transfer.target.key)
        if found is not None and found.version_id in ("", "null"):
            raise Refused(
                "another object of this name is there already; OnConflict is Version; the bucket keeps none"
            )


@dataclass(frozen=True, slots=True)
class Small:
    """A file that is uploaded with one request."""

    transfer: Transfer
    way: Way
