"""The CRCs of awscrt, without what else that library begins with.

Who imports awscrt has it start a source of randomness of its own: 36 to 58 ms of a desktop's processor, in
each of our processes, before the first byte can be sent. Of the versions that were tried, the functions
behind `awscrt.checksums` are therefore called where they stand in its extension, which needs none of that.
Every other version is imported whole. docs/decisions/0018 says more.
"""

from __future__ import annotations

import ctypes
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable

    from tidegate.store.body import Buffer

TRIED = ("0.36.1", "0.37.0", "0.38.1")

_SAMPLE, _CRC64NVME, _CRC32C = b"123456789", 0xAE8B14860A799888, 0xE3069283
"""The check values of both in the catalogue of parametrised CRC algorithms (reveng)."""


class Checksums(NamedTuple):
    """A CRC takes bytes and the CRC of what was before them, 0 at first, and returns that of both.

    `combine_crc64nvme` takes the CRCs of two pieces and the length of the second, and returns that of both.
    """

    crc64nvme: Callable[[Buffer, int], int]
    crc32c: Callable[[Buffer, int], int]
    combine_crc64nvme: Callable[[int, int, int], int]

    def are_right(self) -> bool:
        """Whether they compute what is known of them."""
        halves = self.crc64nvme(_SAMPLE[:4], 0), self.crc64nvme(_SAMPLE[4:], 0)
        both = self.crc64nvme(_SAMPLE, 0), self.combine_crc64nvme(*halves, len(_SAMPLE) - 4)
        return both == (_CRC64NVME, _CRC64NVME) and self.crc32c(_SAMPLE, 0) == _CRC32C


def load() -> Checksums | None:
    """Return the CRCs; None where awscrt is not installed, as where there is no wheel of it."""
    found = find_spec("_awscrt")
    made = direct(Path(found.origin)) if found and found.origin else None
    try:
        return made or whole()
    except ImportError:
        return None


def direct(extension: Path) -> Checksums | None:
    """Take them out of this file; None where it is of a version that was not tried, or differs after all."""
    if not any((extension.parent / f"awscrt-{version}.dist-info").is_dir() for version in TRIED):
        return None
    try:
        library = ctypes.PyDLL(str(extension))
        made = Checksums(*(_function(library, name) for name in ("crc64nvme", "crc32c", "crc64nvme_combine")))
    except (OSError, AttributeError):
        return None
    return made if made.are_right() else None


def whole() -> Checksums:
    """Take them from the library as it is meant to be used."""
    from awscrt import checksums  # type: ignore[import-untyped]  # noqa: PLC0415 - what is not to be paid for

    return Checksums(checksums.crc64nvme, checksums.crc32c, checksums.combine_crc64nvme)


def _function(library: ctypes.PyDLL, name: str) -> Callable[..., int]:
    """Make a function of one that the extension has for Python: it ignores its first argument."""
    function: Any = getattr(library, f"aws_py_checksums_{name}")
    function.restype = ctypes.py_object
    function.argtypes = [ctypes.py_object, ctypes.py_object]
    return lambda *given: function(None, given)
