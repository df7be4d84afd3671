"""Object keys: what Stream Manager and S3 take, and what can be turned back into a name."""

from __future__ import annotations

import dataclasses
from datetime import datetime, timezone
from urllib.parse import unquote_to_bytes
from xml.etree import ElementTree as ET
from xml.sax.saxutils import escape as escape_xml

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from stream_manager.data import S3ExportTaskDefinition
from stream_manager.util import Util

from tidegate.config.naming import (
    DIRECTIVES,
    FIELDS,
    KeyTemplate,
    NameEscaping,
    escape,
    literal,
    natural,
    original_name,
    unescape,
)
from tidegate.errors import Refused

NAMES = st.binary(min_size=1, max_size=40).filter(
    lambda raw: raw not in {b".", b".."} and not {0, ord("/")} & set(raw)
)
PATHS = st.lists(NAMES, min_size=1, max_size=4).map(
    lambda names: b"/".join(names).decode("utf-8", "surrogateescape")
)
TEMPLATES = st.sampled_from(
    [
        "{prefix}/{path}",
        "{path}",
        "/{prefix}//{dir}/{name}/",
        "{thing}/{source}/{stem}.{ext}",
        "{ext}/{name}",
        "{name}/.{ext}",
        "year={mtime:%Y}/month={mtime:%m}/{path}",
        "{now:%Y-%m-%dT%H:%M:%S}/{prefix}{stem}",
        "{mtime:%y/%j/%f}/{name}",
    ]
)


def taken_by_stream_manager(key: str) -> bool:
    task = S3ExportTaskDefinition(input_url="file:/a", bucket="my-bucket", key=key)
    return bool(Util.validate_and_serialize_to_json_bytes(task))


def key_of(template: str, path: str = "a/b.csv", *, suffix: str = "", **given: object) -> str:
    facts = {"prefix": "", "thing": "", "source": "default", "mtime_ns": 0, "now": 0.0} | given
    return dataclasses.replace(KeyTemplate.parse(template), suffix=suffix).render(path=path, **facts)


def natural_key_of(template: str, path: str, thing: str = "") -> str:
    made = dataclasses.replace(KeyTemplate.parse(template), escaping=NameEscaping.NONE)
    return made.render(prefix="", thing=thing, source="default", path=path, mtime_ns=0, now=0.0)


def at(year: int, month: int, day: int, hour: int = 0) -> int:
    return int(datetime(year, month, day, hour, tzinfo=timezone.utc).timestamp()) * 1_000_000_000


@given(st.binary(max_size=60))
def test_any_bytes_survive_escaping_and_back(raw: bytes) -> None:
    name = raw.decode("utf-8", "surrogateescape")
    assert unescape(escape(name)) == name


@given(st.text("=0123ACFacf%é /\n\x85", max_size=12))
def test_a_name_that_looks_escaped_already_survives_escaping_and_back(name: str) -> None:
    assert unescape(escape(name)) == name


@given(st.binary(min_size=1, max_size=60))
def test_what_is_escaped_is_taken_by_stream_manager(raw: bytes) -> None:
    assert taken_by_stream_manager(escape(raw.decode("utf-8", "surrogateescape")))


def test_each_unfit_byte_becomes_an_equals_sign_and_two_hex_digits() -> None:
    assert escape("a b#%?~.csv") == "a=20b=23=25=3F=7E.csv"
    assert escape("[]{}'\"^|<>\\`") == "=5B=5D=7B=7D=27=22=5E=7C=3C=3E=5C=60"
    assert escape("\t\n\x7f\x85") == "=09=0A=7F=C2=85"
    assert escape("\udcff\udc80") == "=FF=80"
    assert escape("a=b") == "a=3Db"


def test_what_fits_is_left_alone() -> None:
    for name in ("a/b/c.csv", "2024-01-01T00:00:00+00:00_é世.csv", "a,b;c@d&e(f)!g$h*"):
        assert escape(name) == name


def test_what_does_not_look_escaped_is_left_alone() -> None:
    assert unescape("kind=log/a=2fb=3=") == "kind=log/a=2fb=3="


@given(TEMPLATES, PATHS, st.integers(-(2**63), 2**63 - 1), st.sampled_from(["", "p", "a/b/", "/x=1//y"]))
def test_every_key_is_well_formed_and_taken_by_stream_manager(
    template: str, path: str, mtime_ns: int, prefix: str
) -> None:
    key = key_of(template, path, mtime_ns=mtime_ns, prefix=prefix, thing="my thing", now=1.7e9)
    assert not {"", ".", ".."} & set(key.split("/"))
    assert taken_by_stream_manager(key)


@given(
    st.lists(
        st.lists(st.sampled_from(["a", "a=20", "a ", "=", "é"]), min_size=1, max_size=3).map("/".join),
        unique=True,
    ),
    st.sampled_from(["{prefix}/{path}", "{dir}/{name}", "{path}.gz"]),
)
def test_different_files_have_different_keys(paths: list[str], template: str) -> None:
    assert len({key_of(template, path) for path in paths}) == len(paths)


def test_the_default_template_keeps_sub_folders_below_the_prefix() -> None:
    assert key_of("{prefix}/{path}", "a/b c.csv", prefix="logs/raw") == "logs/raw/a/b=20c.csv"
    assert key_of("{prefix}/{path}", "a/b.csv", prefix="") == "a/b.csv"


@pytest.mark.parametrize(
    ("template", "key"),
    [
        ("{dir}/-/{name}", "x/y/-/a b.tar.gz"),
        ("{stem}-{ext}", "a b.tar-gz"),
        ("{thing}/{source}/{name}", "t1/s1/a b.tar.gz"),
        ("{thing}:{path}", "t1:x/y/a b.tar.gz"),
    ],
)
def test_each_field_stands_for_its_part_of_the_path(template: str, key: str) -> None:
    assert key_of(template, "x/y/a b.tar.gz", thing="t1", source="s1") == key.replace(" ", "=20")


@pytest.mark.parametrize(
    ("name", "key"), [("README", "README.-"), (".profile", ".profile.-"), ("a.", "a.-"), ("a..b", "a..b-")]
)
def test_a_name_without_an_extension_has_an_empty_one(name: str, key: str) -> None:
    assert key_of("{stem}.{ext}-", name) == key


def test_a_file_at_the_root_leaves_no_slash_for_its_missing_folder() -> None:
    assert key_of("{prefix}/{dir}/{name}", "a.csv", prefix="p") == "p/a.csv"
    assert key_of("{dir}/{name}/{ext}", "a") == "a"


def test_an_empty_field_beside_a_dot_never_makes_a_folder_of_dots() -> None:
    assert key_of(".{ext}/{name}", "a") == "=2E/a"
    assert key_of(".{prefix}./{name}", "a") == "=2E=2E/a"


def test_times_are_in_utc_and_in_calendar_years() -> None:
    new_year = at(2024, 12, 30, 23)  # belongs to week 1 of 2025
    assert key_of("{mtime:%Y/%m/%d}/{name}", "a", mtime_ns=new_year) == "2024/12/30/a"
    assert key_of("{now:%Y-%m-%dT%H}/{name}", "a", now=new_year / 1e9) == "2024-12-30T23/a"
    assert key_of("{mtime:%y-%j}/{name}", "a", mtime_ns=new_year) == "24-365/a"


def test_each_documented_directive_gives_digits_of_a_fixed_width() -> None:
    widths = {"%Y": 4, "%j": 3, "%f": 6}
    for directive in DIRECTIVES:
        for mtime_ns in (0, -(10**30), 10**30, at(2024, 2, 29)):
            shown = key_of(f"{{mtime:{directive}}}/{{name}}", "a", mtime_ns=mtime_ns).removesuffix("/a")
            assert shown.isdigit(), directive
            assert len(shown) == widths.get(directive, 2)


@pytest.mark.parametrize(
    ("mtime_ns", "year"), [(2**63 - 1, "2262"), (10**30, "9999"), (-(10**30), "0001"), (-1, "1969")]
)
def test_a_time_beyond_the_calendar_is_taken_for_its_nearest_end(mtime_ns: int, year: str) -> None:
    assert key_of("{mtime:%Y}/{name}", "a", mtime_ns=mtime_ns) == f"{year}/a"


@pytest.mark.parametrize("now", [1e30, -1e30, float("inf"), float("-inf")])
def test_a_clock_beyond_the_calendar_does_no_harm(now: float) -> None:
    assert key_of("{now:%Y}/{name}", "a", now=now) in {"9999/a", "0001/a"}


def test_text_of_template_and_prefix_keeps_the_equals_sign_and_a_name_does_not() -> None:
    key = key_of("year={mtime:%Y}/{mtime:day=%d}/{prefix}/{path}", "a=1/b", prefix="kind=log")
    assert key == "year=1970/day=01/kind=log/a=3D1/b"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{prefix}/{pth}", r"unknown field \{pth\}; did you mean \{path\}\?"),
        ("{}/{path}", r"unknown field \{\}"),
        ("{Path}", r"did you mean \{path\}"),
        ("!{timestamp:yyyy}/{path}", r"did you mean \{now:%Y/%m/%d\}"),
        ("{path", "brace without its partner"),
        ("{{path}}", "brace without its partner"),
        ("{path}}", "brace without its partner"),
        ("{path:%Y}", "which takes none"),
        ("{path:}", "which takes none"),
        ("{mtime}/{path}", "without a format"),
        ("{now:}/{path}", "without a format"),
        ("{mtime:%G}/{path}", "has %G, the year of a week.*write %Y"),
        ("{now:%g}/{path}", "has %g, the year of a week.*write %Y"),
        ("{now:%s}/{path}", "has %s, which is not among %Y"),
        ("{now:%-d}/{path}", "has %-, which is not among %Y"),
        ("{now:%%}/{path}", "has %%, which is not among %Y"),
        ("{now:%}/{path}", "has %, which is not among %Y"),
        ("{now:%\n}/{path}", "which is not among %Y"),
        ("{now:%Y %m}/{path}", 'holds " "'),
        ("a b/{path}", 'holds " "'),
        ("a\n/{path}", r'holds "\\x0a"'),
        ("a\ud800/{path}", r'holds "\\xd800"'),
        ("~/{path}", 'holds "~"'),
        ("../{path}", r"has a folder \. or \.\."),
        ("a/./{path}", r"has a folder \. or \.\."),
        ("{now:%Y/../%m}/{path}", r"has a folder \. or \.\."),
        ("{prefix}/{source}", r"every file would go to one key; add \{path\}"),
        ("{dir}/{ext}/{mtime:%f}", r"every file would go to one key; add \{path\}"),
        ("all.csv", r"every file would go to one key; add \{path\}"),
    ],
)
def test_a_faulty_template_is_refused_with_a_remedy(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        KeyTemplate.parse(text)


@given(
    st.lists(st.sampled_from([*"{}:%/. x", "{path}", "{name", "stem}", "{now:", "%Y", "%H}"])).map("".join)
    | st.text(max_size=20)
)
def test_any_text_is_a_template_or_a_value_error(text: str) -> None:
    try:
        template = KeyTemplate.parse(text)
    except ValueError:
        return
    assert template.text == text
    assert template.fields <= set(FIELDS)


def test_a_template_tells_which_fields_it_needs() -> None:
    assert KeyTemplate.parse("{thing}/{path}").fields == {"thing", "path"}
    assert KeyTemplate.parse("thing/{path}").fields == {"path"}
    assert KeyTemplate.parse("{path}") == KeyTemplate.parse("{path}")


def test_a_key_too_long_for_s3_is_refused_with_its_length() -> None:
    assert len(key_of("{path}", "é" * 512).encode()) == 1024
    with pytest.raises(Refused, match=r"^key_too_long: 1026 bytes"):
        key_of("{path}", "é" * 513)
    with pytest.raises(Refused, match=r"^key_too_long: 1026 bytes"):
        key_of("{path}", " " * 342)


@pytest.mark.parametrize(
    ("text", "kept"), [("logs/", "logs"), ("/a//b/", "a//b"), ("/", ""), ("", ""), ("kind=log", "kind=log")]
)
def test_a_prefix_loses_the_slashes_at_its_ends(text: str, kept: str) -> None:
    assert literal(text) == kept


@given(st.text(min_size=1, max_size=20))
def test_literal_text_is_taken_by_stream_manager_or_refused(text: str) -> None:
    try:
        kept = literal(text)
    except ValueError:
        return
    assume(kept)
    assert taken_by_stream_manager(kept)


@given(PATHS)
def test_the_original_name_travels_as_ascii_and_back(path: str) -> None:
    told = original_name(path)
    assert told.isascii()
    assert unquote_to_bytes(told).decode("utf-8", "surrogateescape") == path


def test_an_original_name_that_looks_encoded_already_is_not_mistaken() -> None:
    assert original_name("a/50%41 ü\udcff") == "a/50%2541%20%C3%BC%FF"


def test_of_a_path_too_long_for_metadata_only_the_last_part_travels() -> None:
    assert original_name("é/" * 250 + "b c") == "b%20c"
    assert original_name("a/" * 700 + "b") == "a/" * 700 + "b"


def test_with_few_bytes_left_for_it_only_the_last_part_of_a_name_travels() -> None:
    assert original_name("aa/bb", 5) == "aa/bb"
    assert original_name("aa/bb", 4) == "bb"


def test_names_as_they_are_stand_in_keys_as_they_are() -> None:
    for name in ("a b/c#d%20=41.csv", "[x]{y}'\"^|<>\\`~?", "müll 世.csv", "tab\tline\nend", "\x7f\x85"):
        assert natural_key_of("{path}", name) == name
    assert natural_key_of("{thing}/{stem}-{ext}", "a b.c d", thing="my thing") == "my thing/a b-c d"


@given(PATHS, PATHS)
def test_different_names_as_they_are_have_different_keys(one: str, two: str) -> None:
    try:
        keys = [natural_key_of("{prefix}/{path}", path) for path in (one, two)]
    except Refused:
        return
    assert keys == [one, two]


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("a\udcff", "byte 0xff"),
        ("a\x01", "byte 0x01"),
        ("\x1f", "byte 0x1f"),
        ("\ufffe", "character 0xfffe"),
        ("\uffff", "character 0xffff"),
    ],
)
def test_a_name_that_s3_cannot_keep_or_tell_of_is_refused_and_not_escaped(name: str, what: str) -> None:
    with pytest.raises(Refused, match=f"^name_unfit: with NameEscaping: None a key cannot hold the {what}: "):
        natural_key_of("{path}", f"x/{name}.csv")


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=20))
def test_a_name_as_it_is_can_be_told_of_in_xml(name: str) -> None:
    try:
        kept = natural(name)
    except Refused:
        return
    ET.fromstring(f"<Key>{escape_xml(kept)}</Key>")


def test_names_as_they_are_take_what_s3_takes_in_length() -> None:
    assert len(natural_key_of("{path}", " " * 1024)) == 1024
    with pytest.raises(Refused, match=r"^key_too_long: 1025 bytes"):
        natural_key_of("{path}", " " * 1025)


def test_a_template_tells_which_paths_it_alters() -> None:
    portable = KeyTemplate.parse("{path}")
    assert (portable.alters("a b"), portable.alters("a=b"), portable.alters("a/b")) == (True, True, False)
    assert not dataclasses.replace(portable, escaping=NameEscaping.NONE).alters("a b")


def test_a_suffix_ends_the_key_whatever_the_template_and_counts_for_its_length() -> None:
    assert key_of("{prefix}/{path}", "a/b.csv", suffix=".gz") == "a/b.csv.gz"
    assert key_of("{name}/", "a/b.csv", suffix=".gz") == "b.csv.gz"
    assert len(key_of("{path}", "x" * 1021, suffix=".gz")) == 1024
    with pytest.raises(Refused, match=r"^key_too_long: 1025 bytes"):
        key_of("{path}", "x" * 1022, suffix=".gz")


def test_templates_that_make_other_keys_are_not_equal() -> None:
    plain = KeyTemplate.parse("{path}")
    assert plain == KeyTemplate.parse("{path}")
    assert plain != dataclasses.replace(plain, suffix=".gz")
    assert plain != dataclasses.replace(plain, escaping=NameEscaping.NONE)
