"""Rules: which of them counts, what they make of a name, and that no name can stall them."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest

from tests.customize.helpers import names
from tests.helpers import the_source
from tidegate.config.rules import Match
from tidegate.errors import ConfigFaults

if TYPE_CHECKING:
    from collections.abc import Callable

    from tidegate.customize import Namer


@pytest.mark.parametrize(
    ("pattern", "path", "parts"),
    [
        ("*.tmp", "a.tmp", {}),
        ("*.tmp", "deep/er/a.tmp", {}),
        ("*.tmp", "a.tmpx", None),
        ("a?c", "abc", {}),
        ("[!x]b", "ab", {}),
        ("[!x]b", "xb", None),
        ("[[]x", "[x", {}),
        ("a/b", "a/b", {}),
        ("a/b", "x/a/b", None),
        ("logs/**", "logs/a/b", {}),
        ("logs/**", "logs", None),
        ("**/raw/*.csv", "raw/1.csv", {}),
        ("**/raw/*.csv", "a/b/raw/1.csv", {}),
        ("**/a/**/b", "a/b/a/c/b", {}),
        ("{line}/{day}.csv", "l7/2024.csv", {"line": "l7", "day": "2024"}),
        ("{line}/{day}.csv", "l7/.csv", None),
        ("{a}-{b}.csv", "x-y-z.csv", {"a": "x", "b": "y-z"}),
        ("{line}/**/{n}_*.csv", "l7/x/y/4_5_6.csv", {"line": "l7", "n": "4"}),
        ("{all}", ".hidden", {"all": ".hidden"}),
        ("a.b", "axb", None),
        ("*\n", "a\n", {}),
    ],
)
def test_a_pattern_matches_whole_paths_and_names_their_parts(
    pattern: str, path: str, parts: dict[str, str] | None
) -> None:
    assert Match.parse(pattern).parts(path) == parts


@pytest.mark.parametrize(
    ("pattern", "path"),
    [
        ("*a*a*a*a*a*a*a*a*b", "a" * 255),
        ("{a}-{b}-{c}-{d}-{e}-{f}.csv", "-" * 255),
        ("**/a/**/a/**/a/**/a/**/b", "/".join("a" * 2000)),
    ],
)
def test_no_name_can_stall_a_pattern(pattern: str, path: str) -> None:
    match, began = Match.parse(pattern), time.process_time()
    assert match.parts(path) is None
    assert time.process_time() - began < 0.25


def test_the_first_rule_that_matches_counts_and_else_objectkey(ruled: Callable[..., Namer]) -> None:
    namer = ruled(
        [
            {"Match": "*.tmp", "Ignore": True},
            {"Match": "{line}/*.csv", "Key": "{prefix}/csv/{line}/{mtime:%Y}/{name}"},
            {"Match": "l7/**", "Key": "{prefix}/line-seven/{name}"},
        ],
        ObjectKeyPrefix="p",
    )
    found = names(namer, "l7/a.tmp", "l7/a b.csv", "l7/x.log", "other/deep/x.log")
    assert found[0].ignored
    assert [one.key for one in found[1:]] == [
        "p/csv/l7/2024/a=20b.csv",
        "p/line-seven/x.log",
        "p/other/deep/x.log",
    ]


def test_a_map_of_rules_is_taken_in_the_order_of_its_names_and_nine_comes_before_ten(
    ruled: Callable[..., Namer],
) -> None:
    namer = ruled(
        {"10-all": {"Match": "*", "Key": "all/{name}"}, "9-csv": {"Match": "*.csv", "Key": "csv/{name}"}}
    )
    assert [one.key for one in names(namer, "a.csv", "b.log")] == ["csv/a.csv", "all/b.log"]


def test_expressions_and_patterns_keep_their_order(ruled: Callable[..., Namer]) -> None:
    namer = ruled(
        [
            {"Match": "keep-*", "Key": "first/{name}"},
            {"Match": r"re:(?P<year>\d{4})-(?P<rest>.*)", "Key": "{year}/{rest}"},
            {"Match": "2024-*", "Key": "third/{name}"},
            {"Match": r"re:keep-.*|.*\.old", "Ignore": True},
        ]
    )
    found = names(namer, "keep-1", "2024-a b", "2024-x.old", "y.old", "z")
    assert [one.key for one in found] == ["first/keep-1", "2024/a=20b", "2024/x.old", "", "z"]
    assert [one.ignored for one in found] == [False, False, False, True, False]


def test_an_expression_that_runs_wild_keeps_the_file_and_no_other(ruled: Callable[..., Namer]) -> None:
    namer = ruled([{"Match": "re:(?P<word>(a+)+)b", "Key": "{word}/{name}"}])
    began = time.process_time()
    wild, tame = names(namer, "a" * 60, "aab")
    assert "50 ms" in wild.problem
    assert (wild.key, wild.ignored, tame.key) == ("", False, "aa/aab")
    assert time.process_time() - began < 1


def test_parts_with_odd_folders_do_not_lead_astray(ruled: Callable[..., Namer]) -> None:
    namer = ruled([{"Match": "re:x(?P<rest>.*)", "Key": "{rest}/{name}"}])
    assert [one.key for one in names(namer, "x..", "x../../y")] == ["=2E=2E/x..", "=2E=2E/=2E=2E/y/y"]


def test_a_key_that_is_too_long_keeps_the_file(ruled: Callable[..., Namer]) -> None:
    (found,) = names(ruled([{"Match": "*", "Key": f"{'x' * 900}/{{path}}"}]), "y" * 200)
    assert found.problem.startswith("key_too_long")
    assert not found.ignored


def test_a_prefix_is_removed_from_paths_that_begin_with_it(ruled: Callable[..., Namer]) -> None:
    namer = ruled([{"Match": "l7/*.csv", "Key": "seven/{path}"}], RemovePrefix="out/")
    found = names(namer, "out/l7/a.csv", "output/b.csv", "out/c.csv")
    assert [one.key for one in found] == ["seven/l7/a.csv", "output/b.csv", "c.csv"]


@pytest.mark.parametrize(
    ("keys", "fault"),
    [
        ({"Rules": [{"Match": "*"}]}, "Rules.1: needs one of the two"),
        ({"Rules": [{"Match": "*", "Key": "{name}", "Ignore": True}]}, "Rules.1: needs one of the two"),
        ({"Rules": {"a": {"Key": "{name}"}}}, "Rules.a.Match: is missing"),
        ({"Rules": [{"Match": "re:(", "Ignore": "true"}]}, "is no regular expression"),
        ({"Rules": [{"Match": "../x", "Ignore": True}]}, "is no pattern below"),
        ({"Rules": [{"Match": "{path}", "Ignore": True}]}, "stands for something else"),
        ({"Rules": [{"Match": "{a}{a}", "Ignore": True}]}, "names two parts"),
        ({"Rules": [{"Match": "{A}", "Ignore": True}]}, "names a part"),
        ({"Rules": [{"Match": "{a", "Ignore": True}]}, "brace without its partner"),
        ({"Rules": [{"Match": "[z-a]", "Ignore": True}]}, "is no pattern"),
        ({"Rules": [{"Match": "*", "Key": "fixed"}]}, "no field that tells files apart"),
        ({"Rules": [{"Match": "*", "Key": "{lines}/{name}"}]}, "unknown field"),
        ({"Rules": [{"Match": "*", "Key": "{cycle}/{name}"}]}, "Rules.1.Key"),
        ({"Rules": 7}, "neither a list nor a map"),
        ({"Rules": [7]}, "is not a map"),
        ({"Rules": [{"Match": "*", "Ignore": True}] * 1001}, "1000 at most"),
        ({"Rules": [{"Match": "*", "Mach": "*"}]}, "did you mean Match?"),
        ({"RemovePrefix": "/data"}, "no beginning of paths"),
        ({"Force": True}, "After: Keep"),
        (
            {
                "Mode": "Cycle",
                "Schedule": "0 2 * * *",
                "Archive": "Zip",
                "Rules": [{"Match": "*", "Ignore": True}],
            },
            "Archive packs folders",
        ),
        ({"Customizer": {"File": "/x.star"}}, "Customizer.Sha256: is missing"),
        ({"Customizer": {"Sha256": "0" * 64}}, "Customizer.File: is missing"),
        ({"Customizer": {"File": "x.star", "Sha256": "0" * 64}}, "no absolute path"),
        ({"Customizer": {"File": "/x.py", "Sha256": "0" * 64}}, "Customizer.Engine: is missing"),
        ({"Customizer": {"File": "/x.star", "Sha256": "0" * 63}}, "is no SHA-256"),
        ({"Customizer": {"File": "/../x.star", "Sha256": "0" * 64}}, "is no file"),
        ({"Customizer": {"File": "/x.star", "Sha256": "0" * 64, "Engine": "Lua"}}, "Starlark or JavaScript"),
        ({"Customizer": {"File": "/x.star", "Sha256": "0" * 64, "Settings": 1}}, "is not a map"),
        ({"Customizer": {"File": "/x.star", "Sha256": "0" * 64, "FromPrefix": "p"}}, "FromBucket"),
    ],
)
def test_what_is_wrong_with_a_policy_is_told(keys: dict[str, Any], fault: str) -> None:
    with pytest.raises(ConfigFaults) as caught:
        the_source("/data", "**", **keys)
    assert any(fault in line for line in caught.value.faults), caught.value.faults


def test_a_rule_for_one_file_may_give_it_a_fixed_key(ruled: Callable[..., Namer]) -> None:
    (found,) = names(ruled([{"Match": "status.json", "Key": "latest/status"}]), "deep/status.json")
    assert found.key == "latest/status"
