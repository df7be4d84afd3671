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

from tidegate.config import KEYS, After, Config, HoldBack, NameEscaping, Source, StreamManager, parse
from tidegate.config.keys import AGENT, SOURCE, STREAM_MANAGER
from tidegate.config.schema import defaults
from tidegate.errors import ConfigFaults

MINIMAL = {"PathName": "/data/*.csv", "BucketName": "my-bucket"}


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


def test_every_key_fills_a_field_of_the_same_table() -> None:
    for keys, value, extra in [
        (AGENT, Config, set()),
        (SOURCE, Source, {"name"}),
        (STREAM_MANAGER, StreamManager, set()),
    ]:
        assert {key.field for key in keys} | extra == {field.name for field in dataclasses.fields(value)}
        assert defaults(keys).keys() == {key.field for key in keys}


def test_no_two_keys_of_one_table_are_alike_but_for_case() -> None:
    for keys in (AGENT + SOURCE, STREAM_MANAGER):
        assert len({key.name.lower() for key in keys}) == len(keys)


def test_keys_are_taken_in_any_case() -> None:
    assert parse({"pathname": "/data/*.csv", "BUCKETNAME": "my-bucket"}) == parse(MINIMAL)
    assert parse(MINIMAL | {"streammanager": {"STREAMS": 2}}).stream_manager.streams == 2


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
        key.name: nothing for key in KEYS if key.name not in MINIMAL and key not in STREAM_MANAGER
    }
    assert parse(raw) == parse(MINIMAL)


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
        ("NameEscaping", "None", '"None" is not among the words taken here; write Portable'),
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
        assert result.sources
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
