"""What the tests of names share: files, namers and code."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

from tests.helpers import later, the_source
from tidegate.customize import Namer, Shelf
from tidegate.model import Candidate, Fingerprint

if TYPE_CHECKING:
    from pathlib import Path

    from tidegate.config import Source
    from tidegate.customize import Name

DECEMBER = 1_735_599_600  # 2024-12-30T23:00:00Z
STAR = "def customize(name, settings, stat):\n"
JS = "module.exports = function (name, settings, stat) {"


def candidate(path: str, *, mtime: int = DECEMBER, version: int = 1) -> Candidate:
    return Candidate(f"/data/{path}", Fingerprint(1, 1, 10, mtime * 10**9, version))


def sha256(content: str) -> str:
    return hashlib.sha256(content.encode()).hexdigest()


def no_bucket(*_: Any) -> bytes:
    raise AssertionError("nothing is to be fetched")


def source_with(file: Path, code: str, *, settings: dict[str, Any] | None = None, **keys: Any) -> Source:
    """Write the code to the file, and configure it."""
    file.write_text(code, encoding="utf-8")
    customizer = {"File": str(file), "Sha256": sha256(code), "Settings": settings or {}}
    return the_source("/data", "**", Customizer=customizer, **keys)


def names(namer: Namer, *paths: str, steady: float = 0.0, **keys: Any) -> list[Name]:
    return namer.names([candidate(path) for path in paths], moment=later(steady=steady), **keys)


def namer_of(source: Source, folder: Path) -> Namer:
    return Namer(source, "press-7", Shelf(folder / "shelf", no_bucket))
