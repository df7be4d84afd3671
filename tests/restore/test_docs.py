"""docs/RESTORE.md says what the command does."""

from __future__ import annotations

import argparse
import json
import re
from pathlib import Path

import pytest

from tidegate import restore_cli

TEXT = (Path(__file__).parents[2] / "docs" / "RESTORE.md").read_text(encoding="utf-8")


def parsers() -> dict[str, argparse.ArgumentParser]:
    top = argparse.ArgumentParser()
    restore_cli.add(top.add_subparsers(), argparse.ArgumentParser(add_help=False))
    restore = top._subparsers._group_actions[0].choices["restore"]
    return restore._subparsers._group_actions[0].choices


def test_every_option_that_is_named_exists_and_each_is_named():
    there = {
        option
        for parser in parsers().values()
        for action in parser._actions
        if action.help != argparse.SUPPRESS
        for option in action.option_strings
        if option.startswith("--") and option not in ("--help", "--json", "--all")
    }
    named = set(re.findall(r"(--[a-z][a-z-]+)", re.sub(r"<!--.*?-->", "", TEXT)))
    assert named - there == set()
    # What says all about itself is left to --help.
    plain = {"--id", "--tag", "--null", "--poll", "--detach", "--account", "--region", "--endpoint-url"}
    assert there - named - plain == {"--addressing", "--ca-bundle", "--proxy", "--assume-role"}


def test_the_exit_codes_are_those_of_the_help():
    said = dict(re.findall(r"^  (\d+) +(.+)$", restore_cli.EXIT_CODES, re.MULTILINE))
    section = TEXT.partition("## Exit codes")[2].partition("\n## ")[0]
    assert [row[0] for row in re.findall(r"^\| (\d+) \| (.+) \|$", section, re.MULTILINE)] == list(said)


@pytest.mark.parametrize("block", re.findall(r"```json\n(.*?)```", TEXT, re.DOTALL))
def test_every_example_in_json_is_json(block):
    json.loads(block)


def test_the_example_of_an_event_has_the_fields_of_an_event():
    (block,) = [it for it in re.findall(r"```json\n(.*?)```", TEXT, re.DOTALL) if "JobId" in it]
    said = json.loads(block)
    assert list(said) == ["JobId", "BatchJobId", "Status", "ProgressPercent", "FailedBatchFiles", "detail"]
    assert sum(number for name, number in said["detail"]["counts"].items() if name != "total") == 100
