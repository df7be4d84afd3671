"""Where the code of customizers is kept: under its SHA-256, and which of it was good last.

Nothing is taken off the shelf, or put on it, that is not what the configuration asks for, byte for byte.
"""

from __future__ import annotations

import hashlib
import json
import os
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tidegate.customize.process import CannotLoad
from tidegate.disk.walk import fsync_folder
from tidegate.errors import TidegateError

if TYPE_CHECKING:
    from collections.abc import Callable

    from tidegate.config import Source
    from tidegate.config.rules import Customizer

LARGEST = 2**20
"""Bytes of code."""


@dataclass(frozen=True, slots=True)
class Code:
    """Code that may be run, with what it is told."""

    sha256: str
    engine: str
    text: str
    settings: Any


class Shelf:
    """A folder of ours. `fetch` gets an object of at most so many bytes; it raises what requests do.

    With `only_look` nothing is ever written. Any thread may use it.
    """

    def __init__(
        self, folder: Path, fetch: Callable[[Source, str, str, int], bytes], *, only_look: bool = False
    ) -> None:
        self._folder = folder
        self._only_look = only_look
        self._fetch = fetch
        self._lock = threading.Lock()
        self._in_use: dict[str, str] = {}

    def wanted(self, source: Source, customizer: Customizer) -> Code:
        """Get the code that the configuration asks for. Raises CannotLoad with why that cannot be."""
        with self._lock:
            self._in_use[source.name] = customizer.sha256
        found = self._taken(customizer.sha256)
        if found is None:
            found = self._brought(source, customizer)
            digest = hashlib.sha256(found).hexdigest()
            if digest != customizer.sha256:
                raise CannotLoad(
                    f"its SHA-256 is {digest}, and the configuration asks for {customizer.sha256}"
                )
            self._put(customizer.sha256, found)
        return _code(customizer.sha256, customizer.engine.value, found, json.loads(customizer.settings))

    def was_good(self, source: str, code: Code) -> None:
        """Remember what was used last for a source, and forget what none uses. Raises OSError."""
        record = json.dumps({"sha256": code.sha256, "engine": code.engine, "settings": code.settings})
        self._put(f"{source}.json", record.encode())
        if self._only_look:
            return
        with self._lock:
            used = {self._record(path).get("sha256") for path in self._folder.glob("*.json")}
            for path in self._folder.iterdir():
                if path.suffix != ".json" and path.name not in used | set(self._in_use.values()):
                    path.unlink(missing_ok=True)

    def last_good(self, source: str) -> Code | None:
        """Return what was used last for a source, if it is still there and the same."""
        record = self._record(self._folder / f"{source}.json")
        found = self._taken(str(record.get("sha256")))
        if found is None or "engine" not in record:
            return None
        return _code(str(record["sha256"]), str(record["engine"]), found, record.get("settings"))

    def _record(self, path: Path) -> dict[str, Any]:
        try:
            found = json.loads(path.read_bytes())
        except (OSError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}

    def _taken(self, sha256: str) -> bytes | None:
        try:
            found = (self._folder / sha256).read_bytes()
        except OSError:
            return None
        return found if hashlib.sha256(found).hexdigest() == sha256 else None

    def _brought(self, source: Source, customizer: Customizer) -> bytes:
        try:
            if customizer.bucket is not None:
                return self._fetch(source, customizer.bucket, customizer.key, LARGEST)
            with Path(customizer.file).open("rb") as file:
                found = file.read(LARGEST + 1)
        except OSError as error:
            raise CannotLoad(f"{customizer.file} cannot be read: {error.strerror}") from error
        except TidegateError as error:
            raise CannotLoad(
                f"s3://{customizer.bucket}/{customizer.key} cannot be fetched: {error}"
            ) from error
        if len(found) > LARGEST:
            raise CannotLoad(f"{customizer.file} has more than {LARGEST} bytes")
        return found

    def _put(self, name: str, content: bytes) -> None:
        """Have it there, whole and durable, in the place of what was there. Raises OSError."""
        if self._only_look:
            return
        part = self._folder / f"{name}.part"
        with self._lock:  # several sources may have the same code
            self._folder.mkdir(parents=True, exist_ok=True)
            with part.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            part.replace(self._folder / name)
            fsync_folder(str(self._folder))


def _code(sha256: str, engine: str, found: bytes, settings: Any) -> Code:
    try:
        return Code(sha256, engine, found.decode(), settings)
    except UnicodeDecodeError as error:
        raise CannotLoad("it is not UTF-8") from error
