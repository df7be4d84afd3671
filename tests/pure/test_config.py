"""The configuration: what is taken, what is refused, and how a user is told."""

from __future__ import annotations

import dataclasses
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from stream_manager.data import S3ExportTaskDefinition
from stream_manager.exceptions import ValidationException
from stream_manager.util import Util

from tidegate.config import (
    KEYS,
    After,
    Attributes,
    Bandwidth,
    CarrierChoice,
    Compress,
    Config,
    DiskLimit,
    Evict,
    HoldBack,
    NameEscaping,
    OnConflict,
    S3Settings,
    Source,
    StreamManager,
    UploadOrder,
    Verify,
    only_direct,
    parse,
)
from tidegate.config.keys import AGENT, ATTRIBUTES, S3, SOURCE, STREAM_MANAGER
from tidegate.config.schema import defaults
from tidegate.errors import ConfigFaults

MINIMAL = {"PathName": "/data/*.csv", "BucketName": "my-bucket"}
ROLE = "arn:aws:iam::123456789012:role/uploads"
MORE_THAN_STREAM_MANAGER_CAN_DO = [
    {"Verify": "Head"},
    {"OnConflict": "Fail"},
    {"OnConflict": "Version"},
    {"StorageClass": "STANDARD"},
    {"ServerSideEncryption": "AES256"},
    {"Tags": {"line": "7"}},
    {"ContentType": "text/csv"},
    {"CacheControl": "no-store"},
    {"Acl": "private"},
    {"Compress": "Gzip"},
    {"S3": {"Region": "eu-central-1"}},
    {"S3": {"EndpointUrl": "http://127.0.0.1:9000"}},
    {"S3": {"AddressingStyle": "Virtual"}},
    {"S3": {"UseDualstack": True}},
    {"S3": {"UseFips": True}},
    {"S3": {"CaBundle": "/etc/ssl/store.pem"}},
    {"S3": {"Proxy": "Direct"}},
    {"S3": {"RoleArn": ROLE}},
]


def faults_of(raw: object) -> tuple[str, ...]:
    with pytest.raises(ConfigFaults) as caught:
        parse(raw)
    return caught.value.faults


def fault_of(raw: object) -> str:
    (fault,) = faults_of(raw)
    return fault


def outcome(raw: object) -> Config | tuple[str, ...]:
    try:
        return parse(raw)
    except ConfigFaults as err:
        return err.faults


def only(raw: dict[str, object]) -> Source:
    (source,) = parse(raw).sources
    return source


def test_two_keys_are_enough_and_the_rest_has_its_documented_default() -> None:
    config = parse(MINIMAL)
    (source,) = config.sources
    assert (source.name, source.glob.text, source.glob.root) == ("default", "/data/*.csv", "/data")
    assert (source.bucket, source.prefix, source.key.text) == ("my-bucket", "", "{prefix}/{path}")
    assert (source.interval_seconds, source.quiet_seconds, source.max_hold_seconds) == (10, 2, 3600)
    assert (source.hold_back, source.after, source.escaping) == (
        HoldBack.NEWEST,
        After.DELETE,
        NameEscaping.PORTABLE,
    )
    assert (source.move_to, source.delete_after_seconds, bool(source.exclude)) == (None, 0, False)
    assert (source.follow_symlinks, source.include_hidden, source.prune_empty_directories) == (False,) * 3
    assert (config.thing, config.log_level, config.log_format) == (None, "INFO", "Text")
    assert config.stream_manager == StreamManager(
        host="127.0.0.1",
        port=None,
        streams=4,
        stream_max_bytes=268_435_456,
        persistence="File",
        flush_on_write=True,
        multipart_threshold=5_242_880,
    )


def test_what_the_direct_carrier_is_told_has_its_documented_default() -> None:
    config = parse(MINIMAL)
    (source,) = config.sources
    assert (config.max_concurrent, config.bandwidth, config.time_zone) == (10, None, None)
    assert (source.carrier, source.verify, source.on_conflict) == (
        CarrierChoice.AUTO,
        Verify.CHECKSUM,
        OnConflict.OVERWRITE,
    )
    assert (source.order, source.priority, source.disk_limit, source.evict) == (
        UploadOrder.OLDEST_FIRST,
        5,
        None,
        Evict.NEVER,
    )
    assert source.attributes == Attributes(
        storage_class=None,
        encryption=None,
        kms_key_id=None,
        tags=(),
        metadata=(),
        content_type=None,
        cache_control=None,
        acl=None,
        compress=Compress.NONE,
    )
    assert source.s3 == S3Settings(
        region=None,
        endpoint_url=None,
        addressing="auto",
        dualstack=False,
        fips=False,
        ca_bundle=None,
        proxy=None,
        connect_seconds=10,
        read_seconds=60,
        role_arn=None,
        multipart_threshold=16_777_216,
        part_size=8_388_608,
    )


def test_every_key_fills_a_field_of_the_same_table() -> None:
    for keys, value, extra in [
        (AGENT, Config, {"downloads", "sockets"}),
        (tuple(key for key in SOURCE if key not in ATTRIBUTES), Source, {"name", "attributes"}),
        (ATTRIBUTES, Attributes, set()),
        (STREAM_MANAGER, StreamManager, set()),
        (S3, S3Settings, set()),
    ]:
        assert {key.field for key in keys} | extra == {field.name for field in dataclasses.fields(value)}
        assert defaults(keys).keys() == {key.field for key in keys}


def test_no_two_keys_of_one_table_are_alike_but_for_case() -> None:
    for keys in (AGENT + SOURCE, STREAM_MANAGER, S3):
        assert len({key.name.lower() for key in keys}) == len(keys)


def test_keys_are_taken_in_any_case() -> None:
    assert parse({"pathname": "/data/*.csv", "BUCKETNAME": "my-bucket"}) == parse(MINIMAL)
    assert parse(MINIMAL | {"streammanager": {"STREAMS": 2}}).stream_manager.streams == 2
    assert only(MINIMAL | {"s3": {"ENDPOINTURL": "https://a"}}).s3.endpoint_url == "https://a"


def test_a_local_deployment_that_makes_strings_of_everything_means_the_same() -> None:
    typed = MINIMAL | {
        "Interval": 2.5,
        "IncludeHidden": True,
        "MoveTo": None,
        "Exclude": ["*.tmp"],
        "StreamManager": {"Streams": 8, "FlushOnWrite": False, "Port": None},
    }
    strings = MINIMAL | {
        "Interval": "2.5",
        "IncludeHidden": "true",
        "MoveTo": "null",
        "Exclude": "*.tmp",
        "StreamManager": {"Streams": "8.0", "FlushOnWrite": "False", "Port": ""},
    }
    assert parse(typed) == parse(strings)
    assert parse(typed) != parse(MINIMAL)


@pytest.mark.parametrize("nothing", [None, "", "null", " ", "NULL"])
def test_a_value_of_nothing_means_not_given(nothing: object) -> None:
    raw = MINIMAL | {
        key.name: nothing
        for key in KEYS
        if key.name not in MINIMAL and key not in STREAM_MANAGER and key not in S3
    }
    assert parse(raw) == parse(MINIMAL)
    assert parse(MINIMAL | {"S3": {key.name: nothing for key in S3}}) == parse(MINIMAL)
    assert parse(MINIMAL | {"Tags": {"line": nothing}, "Metadata": {"a": nothing}}) == parse(MINIMAL)


def test_a_source_of_nothing_is_no_source() -> None:
    config = parse({"Sources": {"a": MINIMAL, "b": None, "c": "null"}})
    assert [source.name for source in config.sources] == ["a"]


def test_words_are_taken_in_any_case() -> None:
    source = only(MINIMAL | {"HoldBack": "newestperdirectory", "After": "KEEP", "NameEscaping": "portable"})
    assert (source.hold_back, source.after) == (HoldBack.NEWEST_PER_DIRECTORY, After.KEEP)
    assert only(MINIMAL | {"HoldBack": "None"}).hold_back is HoldBack.NONE
    config = parse(
        MINIMAL | {"LogLevel": "warn", "LogFormat": "JSON", "StreamManager": {"Persistence": "memory"}}
    )
    assert (config.log_level, config.log_format, config.stream_manager.persistence) == (
        "WARNING",
        "Json",
        "Memory",
    )


def test_hidden_files_are_matched_only_by_a_source_that_asks_for_them() -> None:
    assert not only(MINIMAL).glob.match_path("/data/.a.csv")
    assert only(MINIMAL | {"IncludeHidden": "true"}).glob.match_path("/data/.a.csv")


def test_named_sources_take_over_what_stands_at_the_top() -> None:
    config = parse(
        {
            "BucketName": "shared",
            "Interval": 60,
            "ObjectKeyPrefix": "fleet",
            "Sources": {
                "logs": {"PathName": "/logs/*"},
                "data": {"PathName": "/data/*", "BucketName": "own-bucket", "ObjectKeyPrefix": "/"},
            },
        }
    )
    logs, data = config.sources
    assert (logs.name, logs.bucket, logs.interval_seconds, logs.prefix) == ("logs", "shared", 60, "fleet")
    assert (data.name, data.bucket, data.interval_seconds, data.prefix) == ("data", "own-bucket", 60, "")


def test_the_shorthand_and_named_sources_count_both() -> None:
    config = parse(MINIMAL | {"Sources": {"logs": {"PathName": "/logs/*", "BucketName": "other"}}})
    assert [(source.name, source.bucket) for source in config.sources] == [
        ("default", "my-bucket"),
        ("logs", "other"),
    ]


def test_a_source_that_says_what_becomes_of_its_files_sets_aside_what_the_top_says() -> None:
    moving = {"After": "Move", "MoveTo": "/sent", "DeleteAfterMinutes": 5, "BucketName": "my-bucket"}
    config = parse(
        moving | {"Sources": {"a": {"PathName": "/a/*", "After": "Keep"}, "b": {"PathName": "/b/*"}}}
    )
    kept, moved = config.sources
    assert (kept.after, kept.move_to, kept.delete_after_seconds) == (After.KEEP, None, 0)
    assert (moved.after, moved.move_to, moved.delete_after_seconds) == (After.MOVE, "/sent", 300)


def test_minutes_become_seconds() -> None:
    assert only(MINIMAL | {"DeleteAfterMinutes": "1.5"}).delete_after_seconds == 90


def test_stored_files_may_be_moved_below_the_watched_folder() -> None:
    assert only(MINIMAL | {"After": "Move", "MoveTo": "/data//sent/"}).move_to == "/data/sent"


def test_what_greengrass_puts_beside_our_keys_is_ignored() -> None:
    assert parse(MINIMAL | {"accessControl": {"aws.greengrass.ipc.pubsub": {}}}) == parse(MINIMAL)
    assert parse(MINIMAL | {"ACCESSCONTROL": 5}) == parse(MINIMAL)


def test_all_faults_are_told_at_once() -> None:
    faults = faults_of(
        {
            "Interval": "soon",
            "Colour": "red",
            "Sources": {"logs": {"PathName": "logs", "QuietSeconds": -1}},
            "StreamManager": {"Streams": 0},
        }
    )
    assert [fault.partition(":")[0] for fault in faults] == [
        "Interval",
        "Colour",
        "StreamManager.Streams",
        "Sources.logs.PathName",
        "Sources.logs.QuietSeconds",
        "Sources.logs.BucketName",
    ]


def test_a_fault_at_the_top_is_told_once_however_many_sources_it_concerns() -> None:
    sources = {name: {"PathName": f"/{name}/*"} for name in "abc"}
    assert len(faults_of({"BucketName": "my-bucket", "MoveTo": "/sent", "Sources": sources})) == 1
    assert len(faults_of({"BucketName": "BAD", "Sources": sources})) == 1


def test_a_fault_names_key_value_and_remedy() -> None:
    raw = {"Sources": {"logs": MINIMAL | {"interval": "soon"}}}
    assert fault_of(raw) == 'Sources.logs.Interval: "soon" is not a number of seconds; write for example 10'


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("PathName", "data/*.csv", '"data/*.csv" is not an absolute path; write for example /data/**/*.csv'),
        (
            "PathName",
            "/data/",
            '"/data/" names a folder; write /data/* for its files or /data/** for all files below it',
        ),
        ("PathName", "/data/../x/*", "goes up with ..; write the folder it leads to"),
        ("PathName", 5, "5 is not text; put it in quotes"),
        (
            "BucketName",
            "My_Bucket",
            '"My_Bucket" is not the name of a bucket; write 3 to 63 lower-case letters',
        ),
        ("BucketName", "arn:aws:s3:::x", "is not the name of a bucket"),
        ("BucketName", 12345, "put it in quotes"),
        ("ObjectKeyPrefix", "a b", 'holds " ", which Stream Manager refuses in a key; leave it out'),
        ("ObjectKeyPrefix", "../a", "has a folder . or .."),
        ("ObjectKey", "{prefix}/{pth}", "has an unknown field {pth}; did you mean {path}?"),
        ("ObjectKey", "{mtime:%G}/{path}", "write %Y"),
        ("NameEscaping", "URL", '"URL" is not among the words taken here; write Portable or None'),
        ("MaxConcurrent", 0, "0 is less than 1; write a number from 1 to 256"),
        ("MaxConcurrent", 257, "257 is more than 256"),
        ("BandwidthLimit", "fast", '"fast" is not a number of bytes per second; write for example 512k'),
        ("BandwidthLimit", 1000000, "1000000 is not text; put it in quotes"),
        ("TimeZone", "Mars/Base", '"Mars/Base" is not a time zone'),
        ("TimeZone", "Europe", '"Europe" is not a time zone'),
        ("TimeZone", "../../etc/passwd", "is not a time zone"),
        ("Carrier", "Pigeon", "write StreamManager, Direct or Auto"),
        ("Verify", "Trust", "write Checksum or Head"),
        ("OnConflict", "Ask", "write Overwrite, Fail or Version"),
        ("UploadOrder", "Random", "write OldestFirst or NewestFirst"),
        ("Priority", 0, "0 is less than 1; write a number from 1 to 9"),
        ("Priority", 10, "10 is more than 9"),
        ("Priority", "high", '"high" is not a whole number; write for example 5'),
        ("DiskLimit", 90, "90 is not text; put it in quotes"),
        (
            "DiskLimit",
            "90",
            '"90" is not a limit; write for example 90% (used at most) or 2G (free at least)',
        ),
        ("DiskLimit", "0.5%", '"0.5%" is not between 1% and 99%; write for example 90%'),
        ("DiskLimit", "100%", '"100%" is not between 1% and 99%'),
        ("DiskLimit", "0G", '"0G" is no room that a file system could have; write for example 2G'),
        ("DiskLimit", "8388608T", "is no room that a file system could have"),
        ("DiskLimit", "2GB", '"2GB" is not a limit'),
        ("Evict", "All", "write Never, LowestPriorityFirst or OldestFirst"),
        ("StorageClass", "COLD", "write STANDARD, STANDARD_IA, ONEZONE_IA"),
        ("ServerSideEncryption", "aes", "write AES256, aws:kms or aws:kms:dsse"),
        ("KmsKeyId", "my key", '"my key" is not a KMS key; write its id, its ARN, or an alias'),
        ("Tags", ["a"], 'a list is not a map of texts; write for example {line: "7"}'),
        ("Tags", {"line": 7}, "a map cannot be read; line: 7 is not text; put it in quotes"),
        ("Tags", {"line": "1", "Line": "2"}, "Line: differs from line only in case; keep one of the two"),
        ("Tags", {7: "line"}, "a map cannot be read; the key 7 is not text; put it in quotes"),
        ("Tags", {f"t{n}": "x" for n in range(11)}, "a map has 11 tags, and S3 takes 10 for an object"),
        ("Tags", {"AWS:x": "1"}, 'has the tag "AWS:x", and aws: is reserved; choose another name'),
        ("Tags", {"x" * 129: "1"}, "write a name of up to 128 characters and a value of up to 256"),
        ("Tags", {"x": "1" * 257}, "has a tag too long for S3"),
        ("Tags", {"x": "a&b"}, 'has a tag that S3 does not take, "x"; write letters, digits, spaces and +'),
        ("Metadata", "a", '"a" is not a map of texts'),
        ("Metadata", {"a_b": "1"}, 'a map has the name "a_b"; write letters, digits and hyphens'),
        ("Metadata", {"Tidegate-x": "1"}, 'has the name "Tidegate-x", which tidegate uses itself'),
        ("Metadata", {"Mtime": "1"}, "choose another"),
        ("Metadata", {"original-name": "1"}, "choose another"),
        ("Metadata", {"source": "1"}, "choose another"),
        ("Metadata", {"THING": "1"}, "choose another"),
        ("Metadata", {"a": "é"}, 'has under "a" what no header can hold; write printable ASCII'),
        ("Metadata", {"a": "x\r\nb: y"}, "what no header can hold"),
        ("Metadata", {"a": " x"}, "without spaces at its ends"),
        ("Metadata", {"ab": "x" * 767}, "a map takes 769 bytes; write 768 at most: S3 takes 2 KB"),
        ("ContentType", "csv", '"csv" is not a media type; write for example text/csv'),
        ("ContentType", "text/csv; a=\nb", "is not a media type"),
        ("CacheControl", "a\nb", "is not printable ASCII of up to 255 characters; write for example max-age"),
        ("Acl", "open", "write private, public-read"),
        ("Compress", "Zip", "write None, Gzip or Zstd"),
        ("S3", "on", '"on" is not a map; write keys with their values'),
        ("Interval", True, "true is not a number of seconds"),
        ("Interval", 0, "0 is less than 0.1; write a number from 0.1 to 31536000"),
        ("Interval", math.nan, "nan is not a number of seconds"),
        ("Interval", "inf", '"inf" is not a number of seconds'),
        ("Interval", "-1e999", "is not a number of seconds"),
        ("Interval", 10**400, "a number of very many digits is more than 31536000"),
        ("Interval", [1], "a list is not a number of seconds"),
        ("QuietSeconds", {}, "a map is not a number of seconds"),
        ("MaxHoldSeconds", "1h", '"1h" is not a number of seconds; write for example 10'),
        ("DeleteAfterMinutes", -1, "-1 is less than 0"),
        ("HoldBack", "Latest", "write Newest, NewestPerDirectory or None"),
        ("HoldBack", False, "false is not among the words"),
        ("After", "Remove", "write Delete, Keep or Move"),
        ("IncludeHidden", "maybe", "write true or false"),
        ("FollowSymlinks", 1, "1 is not among the words taken here; write true or false"),
        ("Exclude", 5, '5 is not a list of texts; write for example ["*.tmp", "old/"]'),
        ("Exclude", ["*.tmp", 5], "a list is not a list of texts"),
        ("Exclude", ["*.tmp", "/x"], 'holds "/x", which begins with a slash'),
        ("MoveTo", "sent", "is not an absolute path; write for example /data/sent"),
        ("MoveTo", "/", "is the root of the file system"),
        ("ThingName", "my thing", "is not the name of a thing"),
        ("LogLevel", "loud", "write DEBUG, INFO, WARNING, ERROR, CRITICAL or WARN"),
        ("LogFormat", "xml", "write Text or Json"),
        ("Sources", ["a"], "a list is not a map; write keys with their values"),
        ("StreamManager", "on", '"on" is not a map; write keys with their values'),
        ("Intervall", 5, "there is no such key here; did you mean Interval?"),
        ("xyzzy", "secret", "there is no such key here; did you mean "),
    ],
)
def test_a_wrong_value_is_refused_by_name_and_with_a_remedy(key: str, value: object, words: str) -> None:
    fault = fault_of(MINIMAL | {key: value})
    assert fault.startswith(f"{key}: ")
    assert words in fault


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("Host", "a host", "is not a host"),
        ("Port", 0, "0 is less than 1; write a number from 1 to 65535"),
        ("Port", 80.5, "80.5 is not a port number; write for example 8088"),
        ("Streams", 65, "65 is more than 64; write a number from 1 to 64"),
        ("Streams", "four", '"four" is not a whole number; write for example 4'),
        ("StreamMaxBytes", 1023, "1023 is less than 1024"),
        ("StreamMaxBytes", 2**63, "is more than 9223372036854775807"),
        ("Persistence", "Disk", "write File or Memory"),
        ("FlushOnWrite", "perhaps", "write true or false"),
        ("MultipartThreshold", 5_242_879, "5242879 is less than 5242880"),
        ("Streem", 1, "there is no such key here; did you mean Streams?"),
    ],
)
def test_a_wrong_value_for_stream_manager_is_refused_too(key: str, value: object, words: str) -> None:
    fault = fault_of(MINIMAL | {"StreamManager": {key: value}})
    assert fault.startswith(f"StreamManager.{key}: ")
    assert words in fault


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("Region", "eu central", '"eu central" is not the name of a region; write for example eu-central-1'),
        ("EndpointUrl", "store:9000", '"store:9000" is not the URL of a server; write for example https://'),
        ("EndpointUrl", "ftp://store", "is not the URL of a server"),
        ("EndpointUrl", "https://", "is not the URL of a server"),
        ("EndpointUrl", "https://store:0", "is not the URL of a server"),
        ("EndpointUrl", "https://store:port", "is not the URL of a server"),
        ("EndpointUrl", "https://[::1", "is not the URL of a server"),
        ("EndpointUrl", "https://a b", "is not the URL of a server"),
        ("EndpointUrl", "https://störe", "is not the URL of a server"),
        ("EndpointUrl", "https://store?x=1", "has more than a server and a path"),
        ("EndpointUrl", "https://store/#", "has more than a server and a path"),
        ("AddressingStyle", "Host", "write Auto, Path or Virtual"),
        ("UseDualstack", "maybe", "write true or false"),
        ("UseFips", 1, "write true or false"),
        (
            "CaBundle",
            "store.pem",
            '"store.pem" is not an absolute path; write for example /etc/ssl/store.pem',
        ),
        ("CaBundle", "/etc/ssl/", '"/etc/ssl/" is a folder; write a file, for example /etc/ssl/store.pem'),
        (
            "Proxy",
            "socks5://proxy:1080",
            "is not an HTTP proxy; write for example http://proxy.example.com:3128",
        ),
        ("Proxy", "https://proxy", "is not an HTTP proxy"),
        ("Proxy", "http://proxy/path", "is not an HTTP proxy"),
        ("ConnectTimeout", 0, "0 is less than 0.1; write a number from 0.1 to 3600"),
        ("ReadTimeout", 3601, "3601 is more than 3600"),
        ("RoleArn", "uploads", f'"uploads" is not the ARN of a role; write for example {ROLE}'),
        ("RoleArn", "arn:aws:iam::12345:role/x", "is not the ARN of a role"),
        ("RoleArn", "arn:aws:iam::123456789012:user/x", "is not the ARN of a role"),
        ("MultipartThreshold", 5_242_879, "is less than 5242880"),
        ("MultipartThreshold", 5_000_000_001, "is more than 5000000000"),
        ("PartSize", 5_242_879, "is less than 5242880"),
        ("PartSize", 5 * 1024**3 + 1, "is more than 5368709120"),
        ("EndpointURI", "x", "there is no such key here; did you mean EndpointUrl?"),
    ],
)
def test_a_wrong_value_for_s3_is_refused_wherever_it_stands(key: str, value: object, words: str) -> None:
    at_top, in_source = (
        fault_of(MINIMAL | {"S3": {key: value}}),
        fault_of({"Sources": {"a": MINIMAL | {"S3": {key: value}}}}),
    )
    assert at_top.startswith(f"S3.{key}: ")
    assert words in at_top
    assert in_source == f"Sources.a.{at_top}"


@pytest.mark.parametrize("key", ["EndpointUrl", "Proxy"])
@pytest.mark.parametrize(
    "value", ["socks://joe:pa@ss/hunter2@host", "https://joe:hunter2@host", "hunter2@host"]
)
def test_a_password_is_not_repeated(key: str, value: str) -> None:
    fault = fault_of(MINIMAL | {"S3": {key: value}})
    assert fault.startswith(f'S3.{key}: "…@host" ')
    assert "hunter2" not in fault


def test_a_password_that_is_taken_is_not_shown_either() -> None:
    raw = MINIMAL | {"S3": {"Proxy": "http://joe:hunter2@proxy:3128/"}}
    assert only(raw).s3.proxy == "http://joe:hunter2@proxy:3128"
    assert "hunter2" not in repr(parse(raw))
    assert "hunter2" not in fault_of(raw | {"Carrier": "StreamManager"})


def test_every_value_of_s3_is_taken_over() -> None:
    source = only(
        MINIMAL
        | {
            "S3": {
                "Region": "eu-central-1",
                "AddressingStyle": "path",
                "UseDualstack": "true",
                "UseFips": True,
                "CaBundle": "/etc//ssl/store.pem",
                "Proxy": "DIRECT",
                "ConnectTimeout": "0.5",
                "ReadTimeout": 3600,
                "RoleArn": ROLE,
                "MultipartThreshold": 5 * 10**9,
                "PartSize": "5368709120",
            }
        }
    )
    assert source.s3 == S3Settings(
        region="eu-central-1",
        endpoint_url=None,
        addressing="path",
        dualstack=True,
        fips=True,
        ca_bundle="/etc/ssl/store.pem",
        proxy="direct",
        connect_seconds=0.5,
        read_seconds=3600,
        role_arn=ROLE,
        multipart_threshold=5 * 10**9,
        part_size=5 * 1024**3,
    )


@pytest.mark.parametrize(
    ("written", "taken"),
    [
        ("http://127.0.0.1:9000", "http://127.0.0.1:9000"),
        ("https://[::1]:9000/", "https://[::1]:9000"),
        ("https://store.example.com/storage/s3/", "https://store.example.com/storage/s3"),
    ],
)
def test_an_endpoint_may_have_a_port_and_a_path(written: str, taken: str) -> None:
    assert only(MINIMAL | {"S3": {"EndpointUrl": written}}).s3.endpoint_url == taken


def test_each_key_of_s3_is_taken_over_from_the_top_by_itself() -> None:
    raw = {
        "BucketName": "my-bucket",
        "S3": {"Region": "eu-central-1", "ReadTimeout": 5, "UseFips": True},
        "Sources": {
            "a": {"PathName": "/a/*"},
            "b": {"PathName": "/b/*", "S3": {"Region": "us-east-1", "UseFips": False, "PartSize": None}},
        },
    }
    a, b = (source.s3 for source in parse(raw).sources)
    assert (a.region, a.read_seconds, a.fips, a.connect_seconds) == ("eu-central-1", 5, True, 10)
    assert (b.region, b.read_seconds, b.fips, b.connect_seconds) == ("us-east-1", 5, False, 10)
    (shorthand, named) = parse(raw | MINIMAL | {"Sources": {"b": raw["Sources"]["b"]}}).sources
    assert (shorthand.s3, named.s3) == (a, b)


def test_what_s3_keeps_with_an_object_is_taken_over() -> None:
    source = only(
        MINIMAL
        | {
            "StorageClass": "glacier_ir",
            "ServerSideEncryption": "AWS:KMS",
            "KmsKeyId": "alias/uploads",
            "Tags": {"Line": "7", "Werk Süd": "a+b=c/d@e"},
            "Metadata": {"Plant": "north", "a": "x" * 757},
            "ContentType": "text/csv; charset=utf-8",
            "CacheControl": "max-age=3600, private",
            "Acl": "bucket-owner-full-control",
            "Compress": "zstd",
        }
    )
    assert source.attributes == Attributes(
        storage_class="GLACIER_IR",
        encryption="aws:kms",
        kms_key_id="alias/uploads",
        tags=(("Line", "7"), ("Werk Süd", "a+b=c/d@e")),
        metadata=(("plant", "north"), ("a", "x" * 757)),
        content_type="text/csv; charset=utf-8",
        cache_control="max-age=3600, private",
        acl="bucket-owner-full-control",
        compress=Compress.ZSTD,
    )


def test_tags_of_a_source_replace_those_of_the_top_as_a_whole() -> None:
    raw = {"Tags": {"a": "1", "b": "2"}, "Sources": {"x": MINIMAL | {"Tags": {"b": "3"}}}}
    assert only(raw).attributes.tags == (("b", "3"),)


@pytest.mark.parametrize(
    ("written", "limit"),
    [
        ("90%", DiskLimit(percent_used=90.0)),
        (" 99 % ", DiskLimit(percent_used=99.0)),
        ("500M", DiskLimit(free_bytes=500 * 1024**2)),
        ("1.5g", DiskLimit(free_bytes=3 * 1024**3 // 2)),
        ("1k", DiskLimit(free_bytes=1024)),
        ("8388607T", DiskLimit(free_bytes=8_388_607 * 1024**4)),
    ],
)
def test_a_limit_of_the_disk_is_a_share_used_or_room_left(written: str, limit: DiskLimit) -> None:
    assert only(MINIMAL | {"DiskLimit": written}).disk_limit == limit


def test_how_fast_and_how_urgently_files_go_is_taken_over() -> None:
    raw = {"MaxConcurrent": "256", "BandwidthLimit": "08:00,512k 19:00,off", "TimeZone": "Europe/Berlin"}
    config = parse(MINIMAL | raw | {"Priority": "1", "UploadOrder": "newestfirst", "Verify": "head"})
    assert config.max_concurrent == 256
    assert config.bandwidth == Bandwidth.parse("08:00,512k 19:00,off")
    assert config.time_zone == "Europe/Berlin"
    (source,) = config.sources
    assert (source.priority, source.order, source.verify) == (1, UploadOrder.NEWEST_FIRST, Verify.HEAD)


def test_a_long_number_in_quotes_loses_no_digit() -> None:
    raw = MINIMAL | {"StreamManager": {"StreamMaxBytes": "9223372036854775807"}}
    assert parse(raw).stream_manager.stream_max_bytes == 2**63 - 1


def test_an_unknown_key_is_told_without_its_value() -> None:
    assert "hunter2" not in fault_of(MINIMAL | {"AwsSecretKey": "hunter2"})


def test_a_key_that_stands_in_the_wrong_place_is_shown_the_right_one() -> None:
    assert (
        fault_of(MINIMAL | {"Streams": 2})
        == "Streams: there is no such key here; write it under StreamManager"
    )
    assert fault_of(MINIMAL | {"EndpointUrl": "https://a"}).endswith("no such key here; write it under S3")
    assert fault_of(MINIMAL | {"MultipartThreshold": 2}).endswith(
        "no such key here; write it under StreamManager or under S3"
    )
    assert fault_of(MINIMAL | {"S3": {"BucketName": "a"}}).endswith("write it at the top or in a source")
    assert fault_of({"Sources": {"a": MINIMAL | {"LogLevel": "INFO"}}}).endswith(
        "no such key here; write it at the top"
    )
    assert fault_of(MINIMAL | {"StreamManager": {"interval": 5}}).endswith(
        "write it at the top or in a source"
    )
    assert fault_of({"Sources": {"a": MINIMAL | {"accessControl": {}}}}).startswith(
        "Sources.a.accessControl: "
    )


def test_keys_that_differ_only_in_case_are_refused() -> None:
    assert (
        fault_of(MINIMAL | {"bucketname": "x"})
        == "bucketname: differs from BucketName only in case; keep one of the two"
    )
    raw = {"Sources": {"logs": MINIMAL, "Logs": MINIMAL}}
    assert fault_of(raw) == "Sources.Logs: differs from logs only in case; keep one of the two"


def test_a_key_that_is_not_text_is_refused() -> None:
    assert fault_of(MINIMAL | {True: 1}) == "the configuration: the key true is not text; put it in quotes"
    assert fault_of({"Sources": {7: MINIMAL}}) == "Sources: the key 7 is not text; put it in quotes"


def test_without_a_source_there_is_nothing_to_do() -> None:
    for raw in ({}, {"BucketName": "my-bucket"}, {"Sources": {}}, {"Sources": {"a": None}}):
        assert fault_of(raw).startswith("PathName: is missing; write for example PathName: /data/*.csv")


def test_what_a_source_must_have_is_told_when_it_is_missing() -> None:
    assert faults_of({"Sources": {"logs": {"Interval": 5}}}) == (
        "Sources.logs.PathName: is missing; write which files to send, for example PathName: /data/*.csv",
        "Sources.logs.BucketName: is missing; write where to send the files, for example BucketName: my-bucket",
    )
    assert fault_of({"PathName": "/data/*"}).startswith("BucketName: is missing")


def test_a_pattern_at_the_top_is_not_taken_over_by_named_sources() -> None:
    assert fault_of(MINIMAL | {"Sources": {"logs": {"Interval": 5}}}).startswith(
        "Sources.logs.PathName: is missing"
    )


@pytest.mark.parametrize("name", ["", "-a", "a b", "a.b", "ä", "x" * 65, "a/b"])
def test_a_source_needs_a_plain_name(name: str) -> None:
    assert f"Sources.{name}: is no name for a source" in fault_of({"Sources": {name: MINIMAL}})


def test_the_longest_plain_name_is_taken() -> None:
    name = "A" + "b_-9" * 15 + "xyz"
    assert only({"Sources": {name: MINIMAL}}).name == name


def test_only_one_source_can_be_called_default() -> None:
    assert "choose another name" in fault_of(MINIMAL | {"Sources": {"Default": MINIMAL}})
    assert only({"Sources": {"default": MINIMAL}}).name == "default"


def test_a_folder_to_move_to_goes_with_moving_and_with_nothing_else() -> None:
    assert fault_of(MINIMAL | {"After": "Move"}).startswith("MoveTo: is missing, and After: Move needs it")
    assert "has no use with After: Delete; write After: Move" in fault_of(MINIMAL | {"MoveTo": "/sent"})
    assert "has no use with After: Keep" in fault_of(MINIMAL | {"MoveTo": "/sent", "After": "Keep"})
    named = fault_of({"Sources": {"a": MINIMAL | {"MoveTo": "/sent", "After": "Keep"}}})
    assert named.startswith("Sources.a.MoveTo: ")


def test_a_delay_goes_with_deleting_or_moving() -> None:
    fault = fault_of(MINIMAL | {"After": "Keep", "DeleteAfterMinutes": 90})
    assert fault.startswith("DeleteAfterMinutes: 90 has no use with After: Keep")
    assert only(MINIMAL | {"After": "Keep", "DeleteAfterMinutes": 0}).after is After.KEEP


def test_a_wrong_word_for_after_draws_no_further_faults() -> None:
    assert fault_of(MINIMAL | {"After": "Mov", "MoveTo": "/sent"}).startswith("After: ")
    assert fault_of(MINIMAL | {"After": "Move", "MoveTo": "sent"}).startswith("MoveTo: ")
    assert fault_of(MINIMAL | {"MoveTo": "sent"}).startswith("MoveTo: ")
    assert fault_of(MINIMAL | {"After": "Keep", "DeleteAfterMinutes": "x"}).startswith("DeleteAfterMinutes: ")


@pytest.mark.parametrize("asked", MORE_THAN_STREAM_MANAGER_CAN_DO, ids=str)
def test_what_stream_manager_cannot_do_needs_the_direct_carrier(asked: dict[str, object]) -> None:
    fault = fault_of(MINIMAL | asked | {"Carrier": "StreamManager"})
    ((name, value),) = asked.items()
    place = f"S3.{next(iter(value))}" if name == "S3" and isinstance(value, dict) else name
    assert fault.startswith(f"{place}: ")
    assert fault.endswith(" is more than Stream Manager can do; write Carrier: Direct, or leave it out")
    assert only_direct(only(MINIMAL | asked)) == f"{place} is set"
    assert only(MINIMAL | asked | {"Carrier": "Direct"}).carrier is CarrierChoice.DIRECT
    in_source = {
        "BucketName": "my-bucket",
        "Sources": {"a": {"PathName": "/a/*", "Carrier": "StreamManager"}},
    }
    assert fault_of(in_source | asked) == fault  # and taken over from the top it is at fault there


def test_a_key_for_encryption_asks_for_the_direct_carrier_too() -> None:
    raw = MINIMAL | {"ServerSideEncryption": "aws:kms", "KmsKeyId": "alias/a", "Carrier": "StreamManager"}
    assert [fault.partition(":")[0] for fault in faults_of(raw)] == ["ServerSideEncryption", "KmsKeyId"]


def test_what_both_carriers_can_do_asks_for_neither() -> None:
    raw = MINIMAL | {
        "Metadata": {"plant": "north"},
        "Tags": {},
        "Priority": 1,
        "UploadOrder": "NewestFirst",
        "DiskLimit": "90%",
        "Evict": "OldestFirst",
        "MaxConcurrent": 2,
        "BandwidthLimit": "10M",
        "Verify": "Checksum",
        "OnConflict": "Overwrite",
        "Compress": "None",
        "S3": {
            "AddressingStyle": "Auto",
            "UseFips": False,
            "ConnectTimeout": 5,
            "ReadTimeout": 5,
            "MultipartThreshold": 5 * 1024**2,
            "PartSize": 5 * 1024**2,
        },
    }
    assert only_direct(only(raw)) == ""
    assert only(raw | {"Carrier": "StreamManager"}).carrier is CarrierChoice.STREAM_MANAGER


def test_of_several_reasons_for_the_direct_carrier_the_first_is_told() -> None:
    raw = MINIMAL | {"S3": {"RoleArn": ROLE, "Region": "us-east-1"}, "Acl": "private"}
    assert only_direct(only(raw)) == "Acl is set"
    assert only_direct(only(MINIMAL | {"S3": raw["S3"]})) == "S3.Region is set"


@pytest.mark.parametrize("carrier", ["Auto", "StreamManager"])
def test_names_as_they_are_go_with_the_direct_carrier_only(carrier: str) -> None:
    raw = MINIMAL | {"NameEscaping": "None"}
    assert fault_of(raw | {"Carrier": carrier}) == (
        'NameEscaping: "None" makes keys that Stream Manager refuses, and Carrier is '
        f"{carrier}; write Carrier: Direct, or NameEscaping: Portable"
    )
    source = only(raw | {"Carrier": "Direct"})
    assert (source.escaping, source.key.escaping) == (NameEscaping.NONE, NameEscaping.NONE)


@pytest.mark.parametrize(("word", "suffix"), [("None", ""), ("Gzip", ".gz"), ("Zstd", ".zst")])
def test_keys_of_compressed_files_tell_how(word: str, suffix: str) -> None:
    assert only(MINIMAL | {"Compress": word}).key.suffix == suffix


@pytest.mark.parametrize("flag", ["UseDualstack", "UseFips"])
def test_the_endpoints_of_aws_do_not_go_with_an_endpoint_of_your_own(flag: str) -> None:
    source = {"PathName": "/a/*", "BucketName": "my-bucket", "S3": {"EndpointUrl": "https://a"}}
    raw = {"S3": {flag: True}, "Sources": {"a": source}}
    assert fault_of(raw).startswith(f"S3.{flag}: true has no use with EndpointUrl")
    source["S3"] = {"EndpointUrl": "https://a", flag: True}
    assert fault_of(raw).startswith(f"Sources.a.S3.{flag}: true has no use")
    source["S3"] = {"EndpointUrl": "https://a", flag: False}
    assert only(raw).s3.endpoint_url == "https://a"


def test_a_key_for_encryption_goes_with_an_encryption_that_has_one() -> None:
    raw = MINIMAL | {"KmsKeyId": "alias/a"}
    sentence = (
        'KmsKeyId: "alias/a" has no use without ServerSideEncryption: aws:kms; write that, or leave it out'
    )
    assert fault_of(raw) == sentence
    assert fault_of(raw | {"ServerSideEncryption": "AES256"}) == sentence
    assert only(raw | {"ServerSideEncryption": "aws:kms:dsse"}).attributes.kms_key_id == "alias/a"


def test_a_source_with_an_encryption_of_its_own_sets_aside_the_key_of_the_top() -> None:
    raw = {
        "ServerSideEncryption": "aws:kms",
        "KmsKeyId": "alias/a",
        "Sources": {"a": MINIMAL | {"ServerSideEncryption": "AES256"}, "b": MINIMAL},
    }
    assert [source.attributes.kms_key_id for source in parse(raw).sources] == [None, "alias/a"]


def test_files_are_given_up_only_for_a_limit() -> None:
    assert fault_of(MINIMAL | {"Evict": "OldestFirst"}) == (
        'Evict: "OldestFirst" has no use without DiskLimit; write for example DiskLimit: 90%, or Evict: Never'
    )
    source = only(MINIMAL | {"Evict": "LowestPriorityFirst", "DiskLimit": "90%"})
    assert source.evict is Evict.LOWEST_PRIORITY_FIRST
    assert only(MINIMAL | {"DiskLimit": "90%"}).evict is Evict.NEVER


def test_a_wrong_word_for_the_carrier_draws_no_further_faults() -> None:
    raw = MINIMAL | {"NameEscaping": "None", "Acl": "private", "Carrier": "Pigeon"}
    assert fault_of(raw).startswith("Carrier: ")
    assert fault_of(MINIMAL | {"Evict": "OldestFirst", "DiskLimit": "x"}).startswith("DiskLimit: ")
    assert fault_of(MINIMAL | {"KmsKeyId": "alias/a", "ServerSideEncryption": "x"}).startswith("Server")
    assert fault_of(MINIMAL | {"Carrier": "StreamManager", "Acl": "x"}).startswith("Acl: ")
    bad_url = MINIMAL | {"Carrier": "StreamManager", "S3": {"EndpointUrl": "x"}}
    assert fault_of(bad_url).startswith("S3.EndpointUrl: ")


@pytest.mark.parametrize("move_to", ["/data/in", "/data"])
def test_files_are_not_moved_to_where_watched_folders_lie(move_to: str) -> None:
    mover = {"PathName": "/spool/*", "BucketName": "my-bucket", "After": "Move", "MoveTo": move_to}
    raw = {"Sources": {"mover": mover, "other": MINIMAL | {"PathName": "/data/in/*"}}}
    fault = fault_of(raw)
    assert fault.startswith("Sources.mover.MoveTo: ")
    assert "holds /data/in, which other watches" in fault


def test_folders_that_only_begin_alike_do_not_hold_each_other() -> None:
    assert only(MINIMAL | {"After": "Move", "MoveTo": "/dat"}).move_to == "/dat"


def test_a_fault_is_one_printable_line() -> None:
    for fault in faults_of(
        {"a\nb\ud800": 1, "Sources": {"x\x1b": {"Interval": "1\n2\ud800"}}, "Exclude": ["/\n"]}
    ):
        assert fault.isprintable()
        fault.encode()


def test_values_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        parse(MINIMAL).log_level = "DEBUG"


@given(
    st.text("ab0.-A_", min_size=1, max_size=8)
    | st.from_regex(r"[a-z0-9.-]{2,65}")
    | st.from_regex(r"\d+\.\d+")
)
@settings(max_examples=400)
def test_the_names_of_buckets_are_those_that_stream_manager_takes(name: str) -> None:
    task = S3ExportTaskDefinition(input_url="file:/a", bucket=name, key="a")
    try:
        Util.validate_and_serialize_to_json_bytes(task)
    except ValidationException:
        assert "BucketName: " in fault_of(MINIMAL | {"BucketName": name})
    else:
        assert only(MINIMAL | {"BucketName": name}).bucket == name


WORDS = st.sampled_from(
    [key.name for key in KEYS]
    + [
        "interval",
        "LOGLEVEL",
        "Intervl",
        "true",
        "null",
        "Move",
        "Keep",
        "Memory",
        "/data/*",
        "/data",
        "my-bucket",
        "{path}",
        "10",
        "nan",
    ]
)
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | WORDS
    | st.binary(max_size=3)
    | st.dates()
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS | SCALARS, inner, max_size=4),
    max_leaves=8,
)


@given(VALUES | st.dictionaries(WORDS, VALUES, max_size=8))
@settings(max_examples=600, deadline=None)
def test_whatever_is_given_it_is_a_configuration_or_a_list_of_faults(raw: object) -> None:
    result = outcome(raw)
    if isinstance(result, Config):
        assert result.sources or result.restore or result.objects or result.home
    else:
        assert result
        assert all(": " in fault and fault.isprintable() for fault in result)


@given(
    st.fixed_dictionaries(
        {}, optional={key.name: VALUES for key in (*AGENT, *SOURCE) if key.name not in MINIMAL}
    )
)
@settings(max_examples=400, deadline=None)
def test_whatever_is_given_beside_what_must_be_there_the_faults_name_it(extra: dict[str, object]) -> None:
    result = outcome(MINIMAL | extra)
    if isinstance(result, Config):
        assert result.sources[0].bucket == "my-bucket"
    else:
        named = {fault.partition(":")[0].partition(".")[0] for fault in result}
        assert named <= extra.keys() | {"MoveTo"}


def test_objects_have_a_way_of_their_own_that_takes_over_what_stands_at_the_top() -> None:
    raw = {
        **MINIMAL,
        "ObjectKeyPrefix": "top",
        "After": "Move",
        "MoveTo": "/sent",
        "S3": {"Region": "eu-west-1"},
    }
    (source,), objects = parse(raw).sources, parse(raw).objects
    assert objects is not None
    assert (objects.bucket, objects.prefix, objects.s3.region) == (source.bucket, "top", "eu-west-1")
    assert (objects.after, objects.move_to) == (After.DELETE, None)
    own = parse(
        {**raw, "Objects": {"BucketName": "reports", "ObjectKeyPrefix": "/", "S3": {"Region": "eu-north-1"}}}
    )
    assert own.objects is not None
    assert (own.objects.bucket, own.objects.prefix, own.objects.s3.region) == ("reports", "", "eu-north-1")
    assert own.sources == (source,)


def test_without_a_bucket_objects_have_no_way_of_their_own() -> None:
    raw = {"Sources": {"logs": MINIMAL}}
    assert parse(raw).objects is None
    with pytest.raises(ConfigFaults, match=r"Objects\.BucketName: is missing"):
        parse({**raw, "Objects": {"ObjectKeyPrefix": "a"}})


def test_keys_of_files_have_no_place_under_objects_and_no_source_may_be_called_so() -> None:
    with pytest.raises(ConfigFaults, match=r"Objects\.HoldBack: there is no such key here"):
        parse({**MINIMAL, "Objects": {"HoldBack": "None"}})
    with pytest.raises(ConfigFaults, match=r"Sources\.Objects: is what posted objects are called"):
        parse({"Sources": {"Objects": MINIMAL}})


def test_events_are_switched_one_by_one() -> None:
    events = parse({**MINIMAL, "Events": {"Stored": "false", "failed": False, "HeldSeconds": "60"}}).events
    assert (events.stored, events.failed, events.quarantined, events.held_seconds) == (
        "None",
        False,
        True,
        60.0,
    )
    assert parse({**MINIMAL, "Events": {"Stored": True}}).events.stored == "All"
    with pytest.raises(ConfigFaults, match=r"Events\.Stored: .*write true, Posted or false"):
        parse({**MINIMAL, "Events": {"Stored": "maybe"}})
