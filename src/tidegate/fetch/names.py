"""What a file is called that an object becomes, and which keys can be none. Pure functions of text."""

from __future__ import annotations

import posixpath
from typing import TYPE_CHECKING

from tidegate.disk.walk import PRIVATE_FOLDER
from tidegate.errors import Refused

if TYPE_CHECKING:
    from tidegate.config import Download

PARTIAL = ".tidegate-download"
"""Folder beside the files, for those that are not whole yet."""

_MAX_NAME_BYTES = 255
_MAX_PATH_BYTES = 3800  # of the 4,096 that the kernel takes; the folder needs some


def path_of(settings: Download, key: str) -> str:
    """Return where below the folder the object goes; "" for one that stands for a folder.

    Raises Refused for what would be elsewhere, or is no name of a file.
    """
    path = key.rpartition("/")[2] if settings.below is None else _below(settings.below, key)
    if not path or path.endswith("/"):
        return ""
    names = path.split("/")
    if "" in names:
        raise Refused("it would leave the folder, or has an empty name in it")
    if not {".", ".."}.isdisjoint(names):
        raise Refused("it would leave the folder: it has a name . or ..")
    if names[0] == PARTIAL or PRIVATE_FOLDER in names:
        raise Refused("it has the name of a folder that is ours")
    if any(ord(character) < 0x20 or character == "\x7f" for character in path):
        raise Refused("it has a control character, which no name should")
    try:
        sizes = [len(name.encode()) for name in names]
    except UnicodeEncodeError:
        raise Refused("it is not text") from None
    if max(sizes) > _MAX_NAME_BYTES or sum(sizes) + len(sizes) > _MAX_PATH_BYTES:
        raise Refused("it has a name longer than a file can have")
    return path


def key_of(settings: Download, path: str) -> str | None:
    """Return the key of the object that would be this file (an absolute path); None: none would."""
    base = f"{settings.folder}/"
    if not path.startswith(base):
        return None
    inside = path[len(base) :]
    if settings.below is not None:
        return posixpath.join(settings.below, inside)
    return next((key for key in settings.keys if key.rpartition("/")[2] == inside), None)


def _below(prefix: str, key: str) -> str:
    return key[len(prefix) + 1 :] if prefix else key
