from __future__ import annotations

from tests.whole.conftest import endpoint, folder

__all__ = ["endpoint", "folder"]
