"""Every key of the configuration, one row each. The parser, the reference and `check-config` share it.

A new key is one row here, one field of the value in `config` that it fills, and one row in the reference.
"""

from __future__ import annotations

import enum

from tidegate.config.back import RESTORE
from tidegate.config.bandwidth import Bandwidth, zone_name
from tidegate.config.home import HOME
from tidegate.config.naming import KeyTemplate, NameEscaping, literal
from tidegate.config.pattern import Excludes, Glob
from tidegate.config.places import DOWNLOAD, SOCKET
from tidegate.config.rules import CUSTOMIZER, RULE, RULES, remove_prefix
from tidegate.config.schedule import Schedule
from tidegate.config.schema import MAP, YES_OR_NO, Key, Kind, choice, number, pairs, text, texts, whole
from tidegate.config.values import (
    DiskLimit,
    bucket_name,
    cache_control,
    content_type,
    endpoint_url,
    file,
    folder,
    host,
    kms_key,
    metrics_namespace,
    proxy_url,
    region_name,
    role_arn,
    shadow,
    tags,
    thing,
    topic_base,
    user_metadata,
)


class Mode(enum.Enum):
    """Whether files go one by one as they come, or all that is there at certain times."""

    CONTINUOUS = "Continuous"
    CYCLE = "Cycle"


class Archive(enum.Enum):
    """How a cycle packs each folder at the root of a source into one object."""

    NONE = "None"
    ZIP = "Zip"
    TAR_ZSTD = "TarZstd"

    @property
    def suffix(self) -> str:
        """What the names of archives end with."""
        return {"Zip": ".zip", "TarZstd": ".tar.zst"}.get(self.value, "")


class Layout(enum.Enum):
    """What objects are called: as ObjectKey says, or by thing and by time of the cycle."""

    OBJECT_KEY = "ObjectKey"
    THING_AND_TIME = "ThingAndTime"


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


class CarrierChoice(enum.Enum):
    """Who uploads. AUTO: Stream Manager where it can do what the source asks and is there, else we do."""

    STREAM_MANAGER = "StreamManager"
    DIRECT = "Direct"
    AUTO = "Auto"


class Verify(enum.Enum):
    """What proves that S3 holds a file."""

    CHECKSUM = "Checksum"
    HEAD = "Head"


class OnConflict(enum.Enum):
    """What becomes of an object that is there already, with other bytes."""

    OVERWRITE = "Overwrite"
    FAIL = "Fail"
    VERSION = "Version"


class UploadOrder(enum.Enum):
    """Which of the files that wait goes next, among those of one priority."""

    OLDEST_FIRST = "OldestFirst"
    NEWEST_FIRST = "NewestFirst"


class Compress(enum.Enum):
    """How files are compressed on their way."""

    NONE = "None"
    GZIP = "Gzip"
    ZSTD = "Zstd"

    @property
    def suffix(self) -> str:
        """What keys of compressed objects end with."""
        return {"Gzip": ".gz", "Zstd": ".zst"}.get(self.value, "")


class Evict(enum.Enum):
    """Which files that are not stored yet may be given up when the disk is full."""

    NEVER = "Never"
    LOWEST_PRIORITY_FIRST = "LowestPriorityFirst"
    OLDEST_FIRST = "OldestFirst"


_YEAR = 31_536_000
_HOUR = 3600
_MIB = 1_048_576
_GIB = 1024 * _MIB
_LEVELS = {level: level for level in ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")} | {"WARN": "WARNING"}
_FORMATS = {"Text": "Text", "Json": "Json"}
_MEMORIES = {"File": "File", "Memory": "Memory"}
_STORED = {"true": "All", "Posted": "Posted", "false": "None"}
_ADDRESSING = {"Auto": "auto", "Path": "path", "Virtual": "virtual"}
_CLASSES = (
    *("STANDARD", "STANDARD_IA", "ONEZONE_IA", "INTELLIGENT_TIERING"),
    *("GLACIER_IR", "GLACIER", "DEEP_ARCHIVE", "REDUCED_REDUNDANCY"),
)
_ENCRYPTIONS = ("AES256", "aws:kms", "aws:kms:dsse")
_ACLS = (
    *("private", "public-read", "public-read-write", "authenticated-read"),
    *("aws-exec-read", "bucket-owner-read", "bucket-owner-full-control"),
)


def _one_of(words: type[enum.Enum]) -> Kind:
    return choice({member.value: member for member in words})


def _words(*words: str) -> Kind:
    return choice({word: word for word in words})


PATTERN = text("absolute pattern", Glob.parse)
PATTERNS = texts("list of patterns", Excludes.parse)
TEMPLATE = text("key template", KeyTemplate.parse)
SECONDS = number("number of seconds", "10", 0, _YEAR)
PAUSE = number("number of seconds", "10", 0.1, _YEAR)  # between rounds: with 0 the agent would only spin
TIMEOUT = number("number of seconds", "10", 0.1, _HOUR)
MINUTES = number("number of minutes", "60", 0, 10 * _YEAR / 60, scale=60)
PORT = whole("port number", "8088", 1, 65_535)
STREAMS = whole("whole number", "4", 1, 64)
STREAM_BYTES = whole("whole number of bytes", "268435456", 1024, 2**63 - 1)
PART_BYTES = whole("whole number of bytes", "5242880", 5 * _MIB, 2**63 - 1)
THRESHOLD = whole("whole number of bytes", "16777216", 5 * _MIB, 5 * 10**9)  # what S3 takes in one request
PART_SIZE = whole("whole number of bytes", "8388608", 5 * _MIB, 5 * _GIB)
CONCURRENT = whole("whole number", "10", 1, 256)
PRIORITY = whole("whole number", "5", 1, 9)
CRON = text("cron expression", Schedule.parse)
RATES = text("rate or timetable", Bandwidth.parse)
TOPICS = text("beginning of topics", topic_base)
NAMESPACE = text("name", metrics_namespace)
BEAT = number("number of seconds", "60", 10, _YEAR)
METRICS = number("number of seconds", "60", 10, _HOUR)
PROXY = text("URL of a proxy", proxy_url, login=True)
URL = text("URL of a server", endpoint_url, login=True)
TAGS = pairs("map of texts", tags)
METADATA = pairs("map of texts", user_metadata)
NO_PATH = "is missing; write which files to send, for example PathName: /data/*.csv"
NO_BUCKET = "is missing; write where to send the files, for example BucketName: my-bucket"

AGENT = (
    Key("ThingName", "thing", text("name of a thing", thing), None, "Stands for {thing} in keys."),
    Key("LogLevel", "log_level", choice(_LEVELS), "INFO", "The least important messages to log."),
    Key("LogFormat", "log_format", choice(_FORMATS), "Text", "How a line of the log looks."),
    Key("MaxConcurrent", "max_concurrent", CONCURRENT, 10, "How many uploads of ours run at a time."),
    Key("BandwidthLimit", "bandwidth", RATES, None, "How many bytes a second we upload, and when."),
    Key("TimeZone", "time_zone", text("name of a time zone", zone_name), None, "Whose clocks count."),
    Key("LocalTopicBase", "local_topics", TOPICS, "tidegate", "What local topics of ours begin with."),
    Key("CloudTopicBase", "cloud_topics", TOPICS, "tidegate/{thing}", "The same for those of IoT Core."),
    Key("CloudWatchMetrics", "metrics", YES_OR_NO, "false", "Tell the component of CloudWatch metrics."),
    Key("MetricsNamespace", "metrics_namespace", NAMESPACE, "Tidegate", "Where CloudWatch shows them."),
    Key("MetricsInterval", "metrics_seconds", METRICS, 60, "Seconds from one report to the next."),
    Key("IotJobs", "iot_jobs", YES_OR_NO, "false", "Do what IoT Jobs of ours ask for."),
    Key("HeartbeatSeconds", "heartbeat_seconds", BEAT, None, "How often IoT Core is told how things go."),
    Key("Shadow", "shadow", text("name of a shadow", shadow), None, "A shadow that is told, too."),
    Key("ConfigurationFile", "file", text("absolute file", file), None, "A file with more of these keys."),
    Key("Sources", "sources", MAP, None, "Folders to watch: names, each with the keys of a source."),
    Key("StreamManager", "stream_manager", MAP, None, "How Stream Manager is reached and used."),
    Key("Objects", "objects", MAP, None, "Where objects go that are posted, not watched for."),
    Key("Events", "events", MAP, None, "What is told unasked."),
    Key("Home", "home", MAP, None, "A mothership, and what it may do."),
    Key("Restore", "restore", MAP, None, "What may be brought back from an archive by request."),
)
"""Keys that stand at the top."""

ATTRIBUTES = (
    Key("StorageClass", "storage_class", _words(*_CLASSES), None, "The class that S3 keeps objects in."),
    Key("ServerSideEncryption", "encryption", _words(*_ENCRYPTIONS), None, "How S3 encrypts objects."),
    Key("KmsKeyId", "kms_key_id", text("KMS key", kms_key), None, "The key that S3 encrypts them with."),
    Key("Tags", "tags", TAGS, None, "Tags of every object."),
    Key("Metadata", "metadata", METADATA, None, "Metadata of every object, beside ours."),
    Key("ContentType", "content_type", text("media type", content_type), None, "What all files hold."),
    Key("CacheControl", "cache_control", text("text", cache_control), None, "What caches are told."),
    Key("Acl", "acl", _words(*_ACLS), None, "Who may read the objects."),
    Key("Compress", "compress", _one_of(Compress), "None", "How files are compressed on their way."),
)
"""Keys of one source about what S3 keeps with an object."""

SOURCE = (
    Key("PathName", "glob", PATTERN, None, "Which files to send.", NO_PATH),
    Key("BucketName", "bucket", text("name of a bucket", bucket_name), None, "Where they go.", NO_BUCKET),
    Key("ObjectKeyPrefix", "prefix", text("text", literal), "", "Stands for {prefix} in keys."),
    Key("ObjectKey", "key", TEMPLATE, "{prefix}/{path}", "What the object is called."),
    Key("RemovePrefix", "remove_prefix", text("text", remove_prefix), "", "What {path} goes without."),
    Key("Rules", "rules", RULES, (), "Which files get other keys, or none."),
    Key("Customizer", "customizer", MAP, None, "Code that gives files their keys."),
    Key("Layout", "layout", _one_of(Layout), "ObjectKey", "A ready-made way to call the objects."),
    Key("NameEscaping", "escaping", _one_of(NameEscaping), "Portable", "How unfit characters are written."),
    Key("Mode", "mode", _one_of(Mode), "Continuous", "Whether files go as they come, or in cycles."),
    Key("Interval", "interval_seconds", PAUSE, 10, "Seconds between two scans of the folder, or cycles."),
    Key("Schedule", "schedule", CRON, None, "When cycles begin."),
    Key("Archive", "archive", _one_of(Archive), "None", "How cycles pack the folders at the root."),
    Key("Exclude", "exclude", PATTERNS, (), "What to leave out."),
    Key("IncludeHidden", "include_hidden", YES_OR_NO, "false", "Let wildcards match a leading dot."),
    Key("FollowSymlinks", "follow_symlinks", YES_OR_NO, "false", "Follow links that stay in the folder."),
    Key("HoldBack", "hold_back", _one_of(HoldBack), "Newest", "Which file is taken to be still in use."),
    Key("QuietSeconds", "quiet_seconds", SECONDS, 2, "How long a file must not have changed."),
    Key("DelayUploadSeconds", "delay_seconds", SECONDS, 0, "How old a file must be to go."),
    Key("MaxHoldSeconds", "max_hold_seconds", SECONDS, 3600, "When the newest file goes after all."),
    Key("After", "after", _one_of(After), "Delete", "What becomes of a file once it is stored."),
    Key("MoveTo", "move_to", text("absolute folder", folder), None, "Where stored files are moved to."),
    Key("DeleteAfterMinutes", "delete_after_seconds", MINUTES, 0, "How long a stored file stays."),
    Key("Force", "force", YES_OR_NO, "false", "Send what is kept again and again, unasked."),
    Key("PruneEmptyDirectories", "prune_empty_directories", YES_OR_NO, "false", "Delete emptied folders."),
    Key("Carrier", "carrier", _one_of(CarrierChoice), "Auto", "Who uploads the files."),
    Key("S3", "s3", MAP, None, "How S3 is reached and used without Stream Manager."),
    Key("Verify", "verify", _one_of(Verify), "Checksum", "What proves that a file is stored."),
    Key("OnConflict", "on_conflict", _one_of(OnConflict), "Overwrite", "What becomes of other objects."),
    Key("UploadOrder", "order", _one_of(UploadOrder), "OldestFirst", "Which file goes next."),
    Key("Priority", "priority", PRIORITY, 5, "How urgent the files are; 1 is the most urgent."),
    Key("DiskLimit", "disk_limit", text("limit", DiskLimit.parse), None, "How full the disk may be."),
    Key("Evict", "evict", _one_of(Evict), "Never", "Which unsent files a full disk may cost."),
    *ATTRIBUTES,
)
"""Keys of one source. At the top they hold for every source, and with PathName for the source `default`."""

STREAM_MANAGER = (
    Key("Host", "host", text("host", host), "127.0.0.1", "The address of Stream Manager."),
    Key("Port", "port", PORT, None, "Its port. Without it, $STREAM_MANAGER_SERVER_PORT, else 8088."),
    Key("Streams", "streams", STREAMS, 4, "How many streams carry files at the same time."),
    Key("StreamMaxBytes", "stream_max_bytes", STREAM_BYTES, 256 * _MIB, "How large a stream may grow."),
    Key("Persistence", "persistence", choice(_MEMORIES), "File", "Where Stream Manager keeps its tasks."),
    Key("FlushOnWrite", "flush_on_write", YES_OR_NO, "true", "Have each task on disk at once."),
    Key("MultipartThreshold", "multipart_threshold", PART_BYTES, 5 * _MIB, "Larger files go in parts."),
)
"""Keys under StreamManager."""

S3 = (
    Key("Region", "region", text("name of a region", region_name), None, "The region of the bucket."),
    Key("EndpointUrl", "endpoint_url", URL, None, "Where S3 is, if not at AWS."),
    Key("AddressingStyle", "addressing", choice(_ADDRESSING), "Auto", "Where a URL names the bucket."),
    Key("UseDualstack", "dualstack", YES_OR_NO, "false", "Reach AWS by IPv6, too."),
    Key("UseFips", "fips", YES_OR_NO, "false", "Reach AWS by its FIPS endpoints."),
    Key("CaBundle", "ca_bundle", text("absolute file", file), None, "The certificates to trust."),
    Key("Proxy", "proxy", PROXY, None, "The way to S3. Without it, the environment says."),
    Key("ConnectTimeout", "connect_seconds", TIMEOUT, 10, "Seconds that a connection may take."),
    Key("ReadTimeout", "read_seconds", TIMEOUT, 60, "Seconds that S3 may be silent."),
    Key("RoleArn", "role_arn", text("ARN of a role", role_arn), None, "The role to upload in."),
    Key("MultipartThreshold", "multipart_threshold", THRESHOLD, 16 * _MIB, "Larger files go in parts."),
    Key("PartSize", "part_size", PART_SIZE, 8 * _MIB, "How large the parts are."),
)
"""Keys under S3."""

OBJECTS = tuple(
    key
    for key in SOURCE
    if key.field
    in (
        *("bucket", "prefix", "key", "escaping", "carrier", "s3"),
        *("verify", "on_conflict", "order", "priority"),
        *(one.field for one in ATTRIBUTES),
    )
)
"""Keys under Objects: those of a source that do not speak of files. What is not given holds from the top."""

EVENTS = (
    Key("Stored", "stored", choice(_STORED), "Posted", "A file, or only a posted object, is stored."),
    Key("Failed", "failed", YES_OR_NO, "true", "A file was refused, or is gone, and was not stored."),
    Key("Quarantined", "quarantined", YES_OR_NO, "true", "A file was refused for the third time."),
    Key("HeldTooLong", "held_too_long", YES_OR_NO, "true", "A file is held back for long."),
    Key("ConfigurationRejected", "configuration_rejected", YES_OR_NO, "true", "A change was faulty."),
    Key("CycleFinished", "cycle_finished", YES_OR_NO, "true", "A sync cycle is over."),
    Key("Carriers", "carriers", YES_OR_NO, "true", "A way to S3 does not work, or does again."),
    Key("Restores", "restores", YES_OR_NO, "true", "A job that brings objects back gets on, or ends."),
    Key("HeldSeconds", "held_seconds", SECONDS, 3600, "How long counts as too long."),
)
"""Keys under Events."""

KEYS = (
    *(*AGENT, *SOURCE, *STREAM_MANAGER, *S3, *EVENTS, *HOME, *RESTORE),
    *(*DOWNLOAD, *SOCKET, *RULE, *CUSTOMIZER),
)
