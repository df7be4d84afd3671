"""Globs and exclusions, against what the standard library and wcmatch make of them."""

from __future__ import annotations

import glob as stdlib_glob
import os
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from wcmatch import glob as wcmatch_glob

from tidegate.config.pattern import Excludes, Glob

FOLDERS = ("", "a", "a/b", "a/b/a", "ab", ".h", "a/.h", "b/c", "b/.h/a")
FILES = ("a", "b", "ab.c", "a.c", ".c", ".a.c", "a\nb", "c\udcff.c", "[a]", "b]")
SEGMENTS = st.one_of(
    st.sampled_from(
        [
            "**",
            "*",
            "?",
            "a",
            "b",
            ".h",
            "*.c",
            "[ab]",
            "[!a]",
            "[a",
            "a*",
            ".*",
            "?*",
            "a**b",
            "[[]a]",
            "[.]h",
        ]
    ),
    st.text("ab.*?[]!-c\n", min_size=1, max_size=4).filter(lambda text: text not in {".", ".."}),
)
PATTERNS = st.lists(SEGMENTS, min_size=1, max_size=5).map("/".join)
FIXED = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> str:
    root = tmp_path_factory.mktemp("tree")
    for folder in FOLDERS:
        (root / folder).mkdir(parents=True, exist_ok=True)
    for folder in FOLDERS:
        for name in FILES:
            if not (root / folder / name).is_dir():
                (root / folder / name).touch()
    return str(root)


def walked(glob: Glob, folder: str | None = None, positions: tuple[int, ...] | None = None) -> set[str]:
    """Do what a walker does: go down level by level, ask each folder's matcher."""
    folder = glob.root if folder is None else folder
    positions = glob.start if positions is None else positions
    if not Path(folder).is_dir():
        return set()
    match = glob.file_matcher(positions)
    found = set()
    with os.scandir(folder) as entries:
        for entry in entries:
            below = glob.below(positions, entry.name)
            if entry.is_dir() and below:
                found |= walked(glob, entry.path, below)
            elif entry.is_file() and match(entry.name):
                found.add(entry.path)
    return found


def every_file(root: str) -> list[str]:
    return [f"{folder}/{name}" for folder, _, names in os.walk(root) for name in names]


@pytest.mark.parametrize(
    "hidden",
    [
        False,
        pytest.param(True, marks=pytest.mark.skipif(sys.version_info < (3, 11), reason="the oracle cannot")),
    ],
)
@given(pattern=PATTERNS)
@settings(FIXED, max_examples=400)
def test_a_walk_finds_what_the_standard_library_finds(*, tree: str, hidden: bool, pattern: str) -> None:
    options = {"include_hidden": True} if hidden else {}
    listed = stdlib_glob.glob(f"{tree}/{pattern}", recursive=True, **options)  # noqa: PTH207 - the oracle
    expected = {os.path.normpath(path) for path in listed if os.path.isfile(path)}  # noqa: PTH113 - "a/" is no file
    assert walked(Glob.parse(f"{tree}/{pattern}", hidden=hidden)) == expected


@given(pattern=PATTERNS, hidden=st.booleans())
@settings(FIXED, max_examples=300)
def test_a_whole_path_matches_exactly_when_a_walk_finds_it(*, tree: str, pattern: str, hidden: bool) -> None:
    glob = Glob.parse(f"{tree}/{pattern}", hidden=hidden)
    assert {path for path in every_file(tree) if glob.match_path(path)} == walked(glob)


@pytest.mark.parametrize(
    ("text", "root"),
    [
        ("/data/logs/*.csv", "/data/logs"),
        ("/data/**/x.csv", "/data"),
        ("/data//./logs/one.csv", "/data/logs"),
        ("/*", "/"),
        ("/**", "/"),
        ("/one.csv", "/"),
        ("/data/[ab]/c/*", "/data"),
        ("/data/a?/c", "/data"),
    ],
)
def test_the_root_is_the_fixed_part_before_the_last_name(text: str, root: str) -> None:
    assert Glob.parse(text).root == root


def test_a_pattern_at_the_root_of_the_file_system_matches_whole_paths() -> None:
    assert Glob.parse("/*").match_path("/a")
    assert Glob.parse("/**").match_path("/a/b")
    assert not Glob.parse("/*").match_path("/a/b")


def test_a_final_double_star_means_every_file_below() -> None:
    glob = Glob.parse("/data/**")
    assert glob.match_path("/data/a")
    assert glob.match_path("/data/a/b/c")
    assert not glob.match_path("/data")
    assert not glob.match_path("/database")


@pytest.mark.parametrize("path", ["/data/a/../a", "/data/./a", "/data//a", "/data/", "data/a", ""])
def test_a_path_that_is_not_in_its_plain_form_matches_nothing(path: str) -> None:
    assert not Glob.parse("/data/**", hidden=True).match_path(path)


def test_no_wildcard_stands_for_a_leading_dot_unless_asked() -> None:
    for text, path in [("/d/*", "/d/.a"), ("/d/?a", "/d/.a"), ("/d/[.]a", "/d/.a"), ("/d/**/a", "/d/.x/a")]:
        assert not Glob.parse(text).match_path(path), text
        assert Glob.parse(text, hidden=True).match_path(path), text


def test_a_dot_that_is_written_out_is_matched_without_asking() -> None:
    assert Glob.parse("/d/.x/*").root == "/d/.x"
    assert Glob.parse("/d/*/.x/a").match_path("/d/b/.x/a")
    assert Glob.parse("/d/.*").match_path("/d/.x")


def test_a_folder_that_cannot_hold_a_match_is_pruned() -> None:
    glob = Glob.parse("/data/2024/*/x/*.csv")
    inside = glob.below(glob.start, "a")
    assert glob.below(inside, "y") == ()
    assert not glob.file_matcher(inside)("1.csv")
    assert glob.file_matcher(glob.below(inside, "x"))("1.csv")
    assert glob.below(glob.below(inside, "x"), "deeper") == ()
    assert glob.file_matcher(())("1.csv") is False


def test_the_files_of_a_folder_are_matched_by_one_compiled_expression() -> None:
    glob = Glob.parse("/data/**/*.csv")
    assert glob.file_matcher(glob.start) == glob.file.match
    assert glob.matches(glob.start, "a.csv")
    assert not glob.matches(glob.start, "a.txt")


def test_repeated_double_stars_cost_no_more_than_one() -> None:
    assert len(Glob.parse("/data/**/**/**/*.csv").folders) == 1


def test_globs_are_equal_when_they_mean_the_same() -> None:
    assert Glob.parse("/data/*x*y*") == Glob.parse("/data/*x*y*")
    assert Glob.parse("/data/*") != Glob.parse("/data/*", hidden=True)
    assert Excludes.parse(["*a*b*"]) == Excludes.parse(["*a*b*"])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("data/*.csv", "is not an absolute path"),
        ("", "is not an absolute path"),
        ("/data/", r"write /data/\* for its files or /data/\*\* for all"),
        ("/", r"write /\* for its files"),
        ("/data/.", "names a folder"),
        ("/data/../etc/*", "goes up"),
        ("/data/..", "goes up"),
        ("/data/\0*", "zero byte"),
        ("/data/\ud800*", "half a character"),
    ],
)
def test_a_pattern_that_cannot_be_meant_is_refused_with_a_remedy(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Glob.parse(text)


EXCLUSIONS = st.lists(
    st.sampled_from(["**", "*", "?", "a", "b", ".h", "*.c", "[ab]", "a*"]), min_size=1, max_size=4
).map("/".join)
RELATIVE = st.lists(st.sampled_from(["a", "b", "ab", ".h", "a.c", ".c", "c\nd"]), min_size=1, max_size=5).map(
    "/".join
)


@given(pattern=EXCLUSIONS, path=RELATIVE, folder=st.booleans(), folders_only=st.booleans())
@settings(max_examples=600)
def test_an_exclusion_hits_what_wcmatch_says(
    *, pattern: str, path: str, folder: bool, folders_only: bool
) -> None:
    anywhere = "/" not in pattern
    flags = wcmatch_glob.GLOBSTAR | wcmatch_glob.DOTGLOB | wcmatch_glob.FORCEUNIX
    hit = wcmatch_glob.globmatch(path, f"**/{pattern}" if anywhere else pattern, flags=flags)
    text = pattern + "/" * folders_only
    expected = text if hit and (folder or not folders_only) else None
    assert Excludes.parse([text]).which(path, folder=folder) == expected


def test_an_exclusion_without_a_slash_holds_at_any_depth_for_files_and_folders() -> None:
    excludes = Excludes.parse(["*.tmp"])
    assert excludes.which("a/b/.x.tmp", folder=False) == "*.tmp"
    assert excludes.which("a.tmp", folder=True) == "*.tmp"
    assert excludes.which("a.tmp/b", folder=False) is None


def test_an_exclusion_with_a_slash_holds_for_the_whole_relative_path() -> None:
    excludes = Excludes.parse(["old/*", "x/**/y"])
    assert excludes.which("old/a", folder=False) == "old/*"
    assert excludes.which("new/old/a", folder=False) is None
    assert excludes.which("x/y", folder=False) == "x/**/y"
    assert excludes.which("x/1/2/y", folder=True) == "x/**/y"


def test_a_slash_at_the_end_means_folders_only() -> None:
    excludes = Excludes.parse(["cache/"])
    assert excludes.which("a/cache", folder=True) == "cache/"
    assert excludes.which("a/cache", folder=False) is None


def test_a_path_from_elsewhere_is_excluded_by_any_folder_that_leads_to_it() -> None:
    excludes = Excludes.parse(["cache/", "*.tmp"])
    assert excludes.which_on_the_way("a/cache/b/c") == "cache/"
    assert excludes.which_on_the_way("a/b.tmp") == "*.tmp"
    assert excludes.which_on_the_way("a/cache") is None


def test_the_first_pattern_that_hits_is_the_one_named() -> None:
    assert Excludes.parse(["b*", "*.c", "a*"]).which("a.c", folder=False) == "*.c"


def test_no_patterns_exclude_nothing_and_are_false() -> None:
    assert not Excludes()
    assert not Excludes.parse([])
    assert Excludes().which("a", folder=False) is None
    assert Excludes.parse(["a"])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("/a", "begins with a slash"),
        ("a/../b", "goes up"),
        ("", "names nothing"),
        ("/", "names nothing"),
        ("a/..", "goes up"),
        ("a\0", "holds a zero byte"),
    ],
)
def test_a_wrong_exclusion_is_named_among_the_others(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=f'holds "{text}", which {words}'):
        Excludes.parse(["fine", text])


@given(st.text("ab-![]*?^\\&~|.", max_size=12), st.text("ab-![]^\\&~|.", min_size=1, max_size=6))
def test_any_odd_pattern_compiles_and_answers(pattern: str, name: str) -> None:
    Glob.parse(f"/d/x{pattern}").match_path(f"/d/{name}")


def test_a_name_made_to_be_slow_is_matched_at_once() -> None:
    glob = Glob.parse("/d/*_*_*_*_*_*_*_*.csv")
    assert not glob.match_path("/d/" + "_" * 250)
