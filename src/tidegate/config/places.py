"""The keys of sources that do not watch a folder: objects to bring here, and sockets to read from."""

from __future__ import annotations

import enum
import re
from dataclasses import dataclass

from tidegate.config.pattern import split_path
from tidegate.config.schema import YES_OR_NO, Key, choice, number, text, texts, whole
from tidegate.config.values import folder

MOST_KEYS = 1000
_MAX_KEY_BYTES = 1024
_HOST = re.compile(r"[A-Za-z0-9._-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\]")
_REMEDY = "write for example tcp://10.0.0.7:9000 or unix:/run/meter.sock"
_LONGEST_UNIX = 107  # bytes; what the kernel takes


class Direction(enum.Enum):
    """Whether files go to the bucket, or objects come here."""

    UPLOAD = "Upload"
    DOWNLOAD = "Download"


class Framing(enum.Enum):
    """What of a socket belongs together: lines, of which many become an object; or what came at a time."""

    LINES = "Lines"
    BLOCKS = "Blocks"


@dataclass(frozen=True, slots=True)
class SocketAddress:
    """Where somebody listens: a `path`, or else `host` and `port`."""

    path: str = ""
    host: str = ""
    port: int = 0

    @classmethod
    def parse(cls, text: str) -> SocketAddress:
        """Read `tcp://HOST:PORT` or `unix:PATH`."""
        scheme, colon, rest = text.partition(":")
        if colon and scheme.lower() == "unix":
            path = "/" + "/".join(split_path(re.sub("^//+", "/", rest), "unix:/run/meter.sock"))
            if not 1 < len(path.encode("utf-8", "surrogateescape")) <= _LONGEST_UNIX:
                raise ValueError(f"is no path that a socket can have; {_REMEDY}")
            return cls(path=path)
        host, _, port = rest.removeprefix("//").rstrip("/").rpartition(":")
        if scheme.lower() != "tcp" or not rest.startswith("//") or not _HOST.fullmatch(host):
            raise ValueError(f"is not the address of a socket; {_REMEDY}")
        if not re.fullmatch(r"[0-9]{1,5}", port, re.ASCII) or not 1 <= int(port) <= 65_535:
            raise ValueError(f"has no port from 1 to 65535; {_REMEDY}")
        return cls(host=host.strip("[]"), port=int(port))

    def __str__(self) -> str:
        if self.path:
            return f"unix:{self.path}"
        return f"tcp://[{self.host}]:{self.port}" if ":" in self.host else f"tcp://{self.host}:{self.port}"


def object_keys(keys: tuple[str, ...]) -> tuple[str, ...]:
    """Take keys whose last names differ, for these are what the files are called."""
    if len(keys) > MOST_KEYS:
        raise ValueError(f"has {len(keys)} keys; write {MOST_KEYS} at most, or ObjectsBelow")
    names: dict[str, str] = {}
    for key in keys:
        name = key.rpartition("/")[2]
        if not name or not _fits(key):
            raise ValueError(f'holds "{key[:80]}", which is no key of a file; leave it out')
        if key != (other := names.setdefault(name, key)):
            raise ValueError(f'holds "{other[:80]}" and "{key[:80]}", which would be one file; leave one out')
    return tuple(dict.fromkeys(keys))


def object_folder(text: str) -> str:
    """Take what keys begin with up to a slash; a slash alone means the whole bucket, and becomes ""."""
    name = text.strip("/")
    if not _fits(name):
        raise ValueError("is nothing that keys begin with; write for example models/press-7")
    return name


def _fits(key: str) -> bool:
    try:
        return len(key.encode()) <= _MAX_KEY_BYTES and "\0" not in key
    except UnicodeEncodeError:
        return False


def _suffix(text: str) -> str:
    if not re.fullmatch(r"(\.[A-Za-z0-9]{1,16})+", text):
        raise ValueError("is no end of a name; write for example .csv")
    return text


_NO_SOCKET = "is missing; write where somebody listens, for example Socket: tcp://10.0.0.7:9000"
_NO_TARGET = "is missing; write where the files are to be, for example TargetFolder: /srv/models"
_BATCH = whole("whole number of bytes", "1048576", 1, 64 * 2**20)
_SECONDS = number("number of seconds", "60", 0.1, 86_400)
_SILENCE = number("number of seconds", "15", 0, 86_400)
_DIRECTIONS = choice({word.value: word for word in Direction})
_FRAMINGS = choice({word.value: word for word in Framing})

DOWNLOAD = (
    Key("Direction", "direction", _DIRECTIONS, "Upload", "Whether files go, or objects come here."),
    Key("TargetFolder", "folder", text("absolute folder", folder), None, "Where to.", _NO_TARGET),
    Key("ObjectKeys", "keys", texts("list of keys", object_keys), (), "Which objects to bring."),
    Key(
        "ObjectsBelow", "below", text("text", object_folder), None, "What the keys of all of them begin with."
    ),
    Key("DeleteUnlisted", "delete_unlisted", YES_OR_NO, "false", "Delete what is not there any more."),
)
"""Keys of a source with Direction: Download that no other has."""

SOCKET = (
    Key("Socket", "address", text("address", SocketAddress.parse), None, "Where to read.", _NO_SOCKET),
    Key("Framing", "framing", _FRAMINGS, "Lines", "What of it belongs together."),
    Key("BatchBytes", "batch_bytes", _BATCH, 2**20, "How large an object becomes."),
    Key("BatchSeconds", "batch_seconds", _SECONDS, 60, "How long an object is waited for."),
    Key("BatchSuffix", "suffix", text("end of a name", _suffix), ".txt", "What names of objects end with."),
    Key("SkipRepeats", "skip_repeats", YES_OR_NO, "false", "Leave out what is as the one before."),
    Key("Replies", "replies", YES_OR_NO, "false", "Tell who sends what is on the disk."),
    Key("SilenceSeconds", "silence_seconds", _SILENCE, 0, "When to connect anew."),
)
"""Keys of a source with Socket that no other has."""
