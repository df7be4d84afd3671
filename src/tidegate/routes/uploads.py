"""Objects that are larger than a message: they come in parts, in any order, and may go on after a restart."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
from typing import TYPE_CHECKING, Any

from tidegate.disk.walk import fsync_folder
from tidegate.errors import Unavailable
from tidegate.routes.posting import Wanted
from tidegate.routes.wire import Rejected
from tidegate.spool import Spool

if TYPE_CHECKING:
    from pathlib import Path
    from typing import BinaryIO

    from tidegate.routes.posting import Part

EXPIRE_SECONDS = 86_400.0
"""Incomplete uploads that nobody adds to are forgotten after a day."""

MOST_UPLOADS = 100
SHOWN = 50
_WANTED = "wanted"
_CHUNK = 1 << 20

log = logging.getLogger(__name__)


class Upload:
    """One upload: a folder with a file for each part that came, and one that says what it is to become."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._spool = Spool(folder)

    def add(self, part: Part) -> None:
        """Keep what came. The same part may come twice. Raises Rejected, and Unavailable without room."""
        kept = self._kept()
        for name, value in (("parts", part.count), ("sha256", part.sha256), ("wanted", _written(part))):
            if value is not None and kept.get(name) not in (None, value):
                raise Rejected(
                    409,
                    "Conflict",
                    f'upload: "{part.upload}" has come with other {name} before; write another',
                )
        new = {"parts": part.count, "sha256": part.sha256, "wanted": _written(part)}
        merged = kept | {name: value for name, value in new.items() if value is not None}
        if merged != kept:
            self._spool.remove(_WANTED)
            self._write(_WANTED, json.dumps(merged).encode("ascii"))
            if not kept:
                fsync_folder(str(self.folder.parent))
        if part.data is None or part.number is None:
            return
        name = f"{part.number:05}"
        if not self._spool.path(name).exists():
            self._write(name, part.data)
        elif self._spool.path(name).read_bytes() != part.data:
            raise Rejected(
                409, "Conflict", f"part: {part.number} has come with other bytes; name another upload"
            )

    def missing(self) -> list[int]:
        """List the parts that have not come. None of them is known before the first has."""
        there = {int(name) for name in self._spool.names() if name.isdigit()}
        return [number for number in range(1, (self._kept().get("parts") or 0) + 1) if number not in there]

    def is_begun(self) -> bool:
        """Whether anything has come."""
        return bool(self._kept().get("parts"))

    def whole(self) -> tuple[Wanted, int]:
        """Return what it is to become, and its size in bytes. Raises Rejected if nobody said."""
        kept = self._kept()
        if kept.get("wanted") is None:
            raise Rejected(400, "BadRequest", "key: is missing; write it with any part, or without one")
        size = sum(self._spool.path(name).stat().st_size for name in self._spool.names() if name.isdigit())
        return Wanted(**kept["wanted"]), size

    def copy(self, file: BinaryIO) -> None:
        """Write the parts behind each other. Raises Rejected if they are not what was meant."""
        digest = hashlib.sha256()
        for name in self._spool.names():
            if name.isdigit():
                with self._spool.path(name).open("rb") as part:
                    while data := part.read(_CHUNK):
                        digest.update(data)
                        file.write(data)
        wanted = self._kept().get("sha256")
        if wanted and digest.hexdigest() != wanted:
            self.remove()
            raise Rejected(
                422, "Damaged", f'sha256: "{wanted}" is not that of the parts; send all of them anew'
            )

    def remove(self) -> None:
        """Forget it."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _write(self, name: str, data: bytes) -> None:
        with self._spool.body(name, size=len(data)) as file:
            file.write(data)

    def _kept(self) -> dict[str, Any]:
        try:
            found = json.loads(self._spool.path(_WANTED).read_bytes())
        except (OSError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}


class Uploads:
    """The folder of uploads that are not complete."""

    def __init__(self, work: Path) -> None:
        self._folder = work / "spool" / "uploads"

    def of(self, name: str) -> Upload:
        """Return the upload of this name, begun or not. Raises Unavailable when too many are open."""
        folder = self._folder / hashlib.blake2b(name.encode(), digest_size=16).hexdigest()
        if not folder.exists() and len(self._names()) >= MOST_UPLOADS:
            raise Unavailable(f"{MOST_UPLOADS} uploads are open already; finish one first")
        return Upload(folder)

    def expire(self, now: float) -> int:
        """Forget those that nobody has added to for long. Returns how many."""
        count = 0
        for name in self._names():
            folder = self._folder / name
            if now - folder.stat().st_mtime > EXPIRE_SECONDS:
                log.warning("an upload that was begun a day ago and never finished is given up")
                Upload(folder).remove()
                count += 1
        return count

    def _names(self) -> list[str]:
        try:
            return os.listdir(self._folder)  # noqa: PTH208 - names, not paths
        except FileNotFoundError:
            return []


def _written(part: Part) -> dict[str, Any] | None:
    if part.wanted is None:
        return None
    return {
        "key": part.wanted.key,
        "metadata": dict(part.wanted.metadata),
        "source": part.wanted.source,
    }
