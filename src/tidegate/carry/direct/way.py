"""The way of one source to its bucket: the client, the proof, the headers, and whether it is open."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tidegate.carry.direct.proof import etag_of
from tidegate.config import After, OnConflict
from tidegate.errors import Refused
from tidegate.model import Effect
from tidegate.store.body import CHUNK_BYTES
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

UNLESS_THERE = {"if-none-match": "*"}


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
        """Whether files are kept, so that they may well be in the bucket: then that is found out first."""
        return self.source.after is After.KEEP and not self.source.force

    def asks_by_writing(self, size: int) -> bool:
        """Whether a file is sent on the condition that nothing is there: that takes no request of its own."""
        return self.looks_first and self.prover.takes_conditions and size <= CHUNK_BYTES

    def write(
        self,
        transfer: Transfer,
        descriptor: int,
        sizes: Sequence[int],
        send: Callable[[dict[str, str]], Stored],
        digest: Callable[[], Digest],
        *,
        in_parts: bool,
        asks: bool = False,
    ) -> tuple[str, Effect]:
        """Make the object by `send`, which takes headers for a condition; return its ETag once it is proven.

        An object that is there already is replaced, or not, as OnConflict says; one with the same bytes
        is as good as ours: an answer to us may have been lost. With `asks` it is found out whether there is
        one, whatever OnConflict says. Raises what `send` and `Prover` raise.
        """
        replaces = self.source.on_conflict is OnConflict.OVERWRITE
        effect = Effect.ADDED

        def by_etag() -> Digest:
            return etag_of(descriptor, sizes, in_parts=in_parts)

        if replaces and not asks:
            stored = send({})
        else:
            try:
                stored = send(UNLESS_THERE)
            except S3Error as error:
                if asks and replaces and error.code == "NotImplemented":
                    self.prover.takes_conditions = False
                elif error.kind is not Kind.CONFLICT or error.status != 412:
                    raise
                same = self.prover.compare(transfer.target, digest().size, digest, by_etag)
                if same:  # S3 has it, and perhaps nobody told us
                    return "", Effect.SKIPPED if self.looks_first else Effect.ADDED
                if not replaces:
                    self._may_replace(transfer)
                effect = Effect.ADDED if same is None else Effect.UPDATED
                stored = send({})
        self.prover.prove(transfer.target, stored, digest(), by_etag)
        return stored.etag, effect

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
