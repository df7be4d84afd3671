"""Which multipart uploads are open, so that none is forgotten: S3 keeps and charges parts for ever."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tidegate.ledger.database import Database

_COLUMNS = "promise, source, bucket, key, upload_id, part_size"


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenUpload:
    """One upload for one promise. An `upload_id` of None: asked for, and nobody knows whether it was made."""

    promise: bytes
    source: str
    bucket: str
    key: str
    upload_id: str | None
    part_size: int


class Uploads:
    """A part of the ledger, with its guarantees. An upload is written down before S3 is asked for it."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def note(self, upload: OpenUpload) -> None:
        """Remember it, in place of what was known of this promise's upload."""
        with self._database.transaction() as cursor:
            cursor.run(
                f"INSERT OR REPLACE INTO upload ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?)",
                (
                    upload.promise,
                    upload.source,
                    upload.bucket,
                    upload.key,
                    upload.upload_id,
                    upload.part_size,
                ),
            )

    def forget(self, promises: Iterable[bytes]) -> None:
        """These are completed or aborted."""
        with self._database.transaction() as cursor:
            cursor.run_many("DELETE FROM upload WHERE promise = ?", [(id_,) for id_ in promises])

    def of(self, promise: bytes) -> OpenUpload | None:
        """Return the upload for a promise, if one is open."""
        rows = self._database.rows(f"SELECT {_COLUMNS} FROM upload WHERE promise = ?", (promise,))
        return _as_upload(rows[0]) if rows else None

    def stale(self) -> list[OpenUpload]:
        """List those whose promise is not to be carried any more."""
        rows = self._database.rows(
            f"SELECT {_COLUMNS} FROM upload WHERE NOT EXISTS"
            " (SELECT 1 FROM promise WHERE id = upload.promise AND state IN (0, 1))"
        )
        return [_as_upload(row) for row in rows]


def _as_upload(row: tuple[Any, ...]) -> OpenUpload:
    promise, source, bucket, key, upload_id, part_size = row
    return OpenUpload(
        promise=promise, source=source, bucket=bucket, key=key, upload_id=upload_id, part_size=part_size
    )
