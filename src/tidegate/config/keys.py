"""Every key of the configuration, one row each. The parser, the reference and `check-config` share it.

A new key is one row here, one field of the value in `config` that it fills, and one row in the reference.
"""

from __future__ import annotations

import enum
import re

from tidegate.config.naming import KeyTemplate, literal
from tidegate.config.pattern import Excludes, Glob, split_path
from tidegate.config.schema import MAP, YES_OR_NO, Key, Kind, choice, number, text, texts, whole


class HoldBack(enum.Enum):
    """Which of the files that match are taken to be still in use, though nothing else says so."""

    NEWEST = "Newest"
    NEWEST_PER_DIRECTORY = "NewestPerDirectory"
    NONE = "None"


class After(enum.Enum):
    """What becomes of the local file once it is stored."""

    DELETE = "Delete"
    KEEP = "Keep"
    MOVE = "Move"


class NameEscaping(enum.Enum):
    """How characters that a key may not hold are written."""

    PORTABLE = "Portable"


_YEAR = 31_536_000
_MIB = 1_048_576
_BUCKET = re.compile(
    r"(?!(\d+\.)+\d+$)([a-z0-9]([a-z0-9-]*[a-z0-9])?\.)*[a-z0-9]([a-z0-9-]*[a-z0-9])?", re.ASCII
)
_LEVELS = {level: level for level in ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")} | {"WARN": "WARNING"}

_FORMATS = {"Text": "Text", "Json": "Json"}
_MEMORIES = {"File": "File", "Memory": "Memory"}


def _bucket(value: str) -> str:
    if not 3 <= len(value) <= 63 or not _BUCKET.fullmatch(value):
        raise ValueError(
            "is not the name of a bucket; write 3 to 63 lower-case letters, digits, hyphens and dots, "
            "not an ARN, an address or an access point"
        )
    return value


def _folder(value: str) -> str:
    names = split_path(value, "/data/sent")
    if not names:
        raise ValueError("is the root of the file system; write a folder, for example /data/sent")
    return "/" + "/".join(names)


def _thing(value: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9:_-]{1,128}", value):
        raise ValueError(
            "is not the name of a thing; write up to 128 letters, digits, colons, hyphens and underscores"
        )
    return value


def _host(value: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9._:-]{1,253}", value):
        raise ValueError("is not a host; write a name or an address, for example 127.0.0.1")
    return value


def _one_of(words: type[enum.Enum]) -> Kind:
    return choice({member.value: member for member in words})


PATTERN = text("absolute pattern", Glob.parse)
PATTERNS = texts("list of patterns", Excludes.parse)
TEMPLATE = text("key template", KeyTemplate.parse)
SECONDS = number("number of seconds", "10", 0, _YEAR)
PAUSE = number("number of seconds", "10", 0.1, _YEAR)  # between rounds: with 0 the agent would only spin
MINUTES = number("number of minutes", "60", 0, 10 * _YEAR / 60, scale=60)
PORT = whole("port number", "8088", 1, 65_535)
STREAMS = whole("whole number", "4", 1, 64)
STREAM_BYTES = whole("whole number of bytes", "268435456", 1024, 2**63 - 1)
PART_BYTES = whole("whole number of bytes", "5242880", 5 * _MIB, 2**63 - 1)
NO_PATH = "is missing; write which files to send, for example PathName: /data/*.csv"
NO_BUCKET = "is missing; write where to send the files, for example BucketName: my-bucket"

AGENT = (
    Key("ThingName", "thing", text("name of a thing", _thing), None, "Stands for {thing} in keys."),
    Key("LogLevel", "log_level", choice(_LEVELS), "INFO", "The least important messages to log."),
    Key("LogFormat", "log_format", choice(_FORMATS), "Text", "How a line of the log looks."),
    Key("Sources", "sources", MAP, None, "Folders to watch: names, each with the keys of a source."),
    Key("StreamManager", "stream_manager", MAP, None, "How Stream Manager is reached and used."),
)
"""Keys that stand at the top."""

SOURCE = (
    Key("PathName", "glob", PATTERN, None, "Which files to send.", NO_PATH),
    Key("BucketName", "bucket", text("name of a bucket", _bucket), None, "Where they go.", NO_BUCKET),
    Key("ObjectKeyPrefix", "prefix", text("text", literal), "", "Stands for {prefix} in keys."),
    Key("ObjectKey", "key", TEMPLATE, "{prefix}/{path}", "What the object is called."),
    Key("NameEscaping", "escaping", _one_of(NameEscaping), "Portable", "How unfit characters are written."),
    Key("Interval", "interval_seconds", PAUSE, 10, "Seconds between two scans of the folder."),
    Key("Exclude", "exclude", PATTERNS, (), "What to leave out."),
    Key("IncludeHidden", "include_hidden", YES_OR_NO, "false", "Let wildcards match a leading dot."),
    Key("FollowSymlinks", "follow_symlinks", YES_OR_NO, "false", "Follow links that stay in the folder."),
    Key("HoldBack", "hold_back", _one_of(HoldBack), "Newest", "Which file is taken to be still in use."),
    Key("QuietSeconds", "quiet_seconds", SECONDS, 2, "How long a file must not have changed."),
    Key("MaxHoldSeconds", "max_hold_seconds", SECONDS, 3600, "When the newest file goes after all."),
    Key("After", "after", _one_of(After), "Delete", "What becomes of a file once it is stored."),
    Key("MoveTo", "move_to", text("absolute folder", _folder), None, "Where stored files are moved to."),
    Key("DeleteAfterMinutes", "delete_after_seconds", MINUTES, 0, "How long a stored file stays."),
    Key("PruneEmptyDirectories", "prune_empty_directories", YES_OR_NO, "false", "Delete emptied folders."),
)
"""Keys of one source. At the top they hold for every source, and with PathName for the source `default`."""

STREAM_MANAGER = (
    Key("Host", "host", text("host", _host), "127.0.0.1", "The address of Stream Manager."),
    Key("Port", "port", PORT, None, "Its port. Without it, $STREAM_MANAGER_SERVER_PORT, else 8088."),
    Key("Streams", "streams", STREAMS, 4, "How many streams carry files at the same time."),
    Key("StreamMaxBytes", "stream_max_bytes", STREAM_BYTES, 256 * _MIB, "How large a stream may grow."),
    Key("Persistence", "persistence", choice(_MEMORIES), "File", "Where Stream Manager keeps its tasks."),
    Key("FlushOnWrite", "flush_on_write", YES_OR_NO, "true", "Have each task on disk at once."),
    Key("MultipartThreshold", "multipart_threshold", PART_BYTES, 5 * _MIB, "Larger files go in parts."),
)
"""Keys under StreamManager."""

KEYS = (*AGENT, *SOURCE, *STREAM_MANAGER)
