"""Coming over from s3-ingestor: the same keys for the same files, and no silence about what is not the same."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from tests.fleet.rig import ENVIRONMENT
from tests.helpers import later, version_of, write
from tidegate.config import parse
from tidegate.customize import Namer, Shelf
from tidegate.errors import ConfigFaults
from tidegate.importing import imported
from tidegate.view.explain import explain

if TYPE_CHECKING:
    from pathlib import Path

BUCKET = {"s3_bucket": "bucket"}


def key_of(path: Path, config: dict[str, Any], folder: Path) -> str:
    """Ask for the key that a file gets."""
    (finding,) = explain(
        str(path),
        parse(config),
        choose=lambda _: ("direct", ""),
        thing="press-7",
        never=frozenset(),
        moment=later(),
        archives=folder / "archives",
    )
    target = finding.target if hasattr(finding, "target") else finding["target"]
    return str(target).removeprefix("s3://bucket/")


def theirs(name: str, policy: dict[str, str]) -> str:
    """The key that s3-ingestor gives: its prefix, and the name as it was matched without its beginning."""
    return policy.get("output_key_prefix", "") + name.removeprefix(policy.get("input_remove_prefix", ""))


@pytest.mark.parametrize(
    "policy",
    [
        {},
        {"input_file_pattern": "data/**/*"},
        {"input_file_pattern": "data/**/*.csv", "input_remove_prefix": "data/"},
        {
            "input_file_pattern": "data/**/*.csv",
            "input_remove_prefix": "data/",
            "output_key_prefix": "plant/7/",
        },
        {"input_file_pattern": "data/**/*.csv", "output_key_prefix": "raw-"},
        {"input_file_pattern": "data/**/*.csv", "input_remove_prefix": "da", "output_key_prefix": "x/"},
        {
            "input_file_pattern": "data/**/*.csv",
            "input_remove_prefix": "data/deep/",
            "output_key_prefix": "x/",
        },
        {"input_file_pattern": "data/deep/*.csv", "input_remove_prefix": "data/"},
        {"input_file_pattern": "data/deep/*.csv", "input_remove_prefix": "other/"},
    ],
)
def test_a_file_keeps_its_key(folder: Path, policy: dict[str, str]) -> None:
    name = "data/deep/a.csv"
    path = write(folder / name, age=3600)
    made = imported({**BUCKET, "policies": [policy]}, str(folder))
    assert made.missing == []
    assert key_of(path, made.config, folder) == theirs(name, policy)


def test_what_becomes_of_files_stays_the_same(folder: Path) -> None:
    policies = [
        {"delete_after_upload": True, "delay_upload": 30},
        {"input_file_pattern": "b/*", "move_after_upload": "sent/", "force_upload": False},
        {"input_file_pattern": "c/*", "force_upload": True},
    ]
    made = imported({**BUCKET, "heartbeat_period": 60, "s3_timeout": 5000, "policies": policies}, str(folder))
    assert made.missing == []
    one, two, three = parse(made.config).sources
    assert (one.after.value, one.prune_empty_directories, one.interval_seconds) == ("Delete", True, 60)
    assert one.delay_seconds == 30
    assert (two.after.value, two.move_to) == ("Move", f"{folder}/sent")
    assert three.after.value == "Keep"
    assert three.force
    assert three.s3.read_seconds == 5
    assert {source.hold_back.value for source in (one, two, three)} == {"None"}


def test_downloads_and_sockets_come_along(folder: Path) -> None:
    policies = [
        {"handler": "download", "file_keys": ["m/a.bin", "m/b.bin"], "target_directory": "models"},
        {"handler": "socket", "socket_host": "10.0.0.7", "socket_port": 9000, "output_key_prefix": "s/"},
    ]
    made = imported({**BUCKET, "policies": policies}, str(folder))
    parse(made.config)
    download, socket = made.config["Sources"].values()
    assert download["TargetFolder"] == f"{folder}/models"
    assert socket["Socket"] == "tcp://10.0.0.7:9000"
    assert any("Redis" in sentence for sentence in made.missing)


@pytest.mark.parametrize(
    ("old", "word"),
    [
        ({"upgrade_command": "npm install"}, "never given to a shell"),
        ({"reboot_command": "reboot"}, "never given to a shell"),
        ({"qiot_account_token": "x"}, "QIoT"),
        ({"host_dns": "h", "host_service": "http"}, "token to everybody"),
        ({"whatever": 1}, "nothing like it"),
        ({"policies": [{"customizer": "names"}]}, "Sha256"),
        ({"policies": [{"handler": "ftp"}]}, "ftp"),
        ({"policies": [{"odd": 1}]}, "policy 1.odd"),
        ({"policies": [5]}, "not a map"),
        ({"policies": [{"delay_removal": 1, "delete_after_upload": True}]}, "an hour after"),
        ({"policies": [{"move_after_upload": "sent/x-"}]}, "names began with"),
        ({"policies": [{"output_key_prefix": "/x"}]}, "without the empty folder"),
        ({"policies": [{"output_key_prefix": "{x}"}]}, "refuses in a key"),
    ],
)
def test_what_has_no_equivalent_is_told(folder: Path, old: dict[str, Any], word: str) -> None:
    assert word in "\n".join(imported({**BUCKET, **old}, str(folder)).missing)


def test_a_policy_with_a_customizer_is_left_out_for_it_would_give_other_keys(folder: Path) -> None:
    lost = {"customizer": "names", "delete_after_upload": True, "delay_removal": 1}
    made = imported({**BUCKET, "policies": [{}, lost]}, str(folder))
    assert list(made.config["Sources"]) == ["policy1"]
    (said,) = made.missing
    assert said.startswith(
        "policy 2 is left out as a whole, with customizer, delay_removal, delete_after_upload: "
    )
    assert f"{folder}/customizers/names.js cannot be read (No such file or directory)" in said


@pytest.mark.parametrize(
    "policy",
    [
        {"input_file_pattern": "data/*"},
        {"handler": "download", "file_keys": ["a"]},
        {"handler": "socket", "socket_host": "10.0.0.7", "socket_port": 9000},
    ],
)
def test_a_bucket_that_only_the_mothership_knew_is_missing_and_not_that_of_a_stranger(
    folder: Path, policy: dict[str, Any]
) -> None:
    made = imported({"policies": [policy]}, str(folder))
    assert "policy 1: the mothership named the bucket; write it as BucketName" in made.missing
    with pytest.raises(ConfigFaults, match=r"Sources\.policy1\.BucketName: is missing"):
        parse(made.config)


@pytest.mark.parametrize("prefix", ["", "raw/"])
def test_a_customizer_comes_along_where_it_is_told_the_same_names(folder: Path, prefix: str) -> None:
    code = "module.exports = (name, settings) => settings.line + '/' + name;"
    write(folder / "customizers" / "names.js", code)
    path = write(folder / "data" / "deep" / "a.csv", age=3600)
    policy = {"input_file_pattern": "data/**/*.csv", "input_remove_prefix": "data/", "line": "L7"}
    more = {"customizer": "names", "output_key_prefix": prefix}
    made = imported({**BUCKET, "policies": [{**policy, **more}]}, str(folder))
    (source,) = parse(made.config).sources
    namer = Namer(source, "press-7", Shelf(folder / "shelf", lambda *_: b""))
    found = namer.names([version_of(path)], moment=later())
    namer.close()
    assert [one.key for one in found] == [f"{prefix}L7/deep/a.csv"]
    assert len(made.missing) == 1
    assert "as settings" in made.missing[0]


@pytest.mark.parametrize(
    "policy",
    [
        {"input_file_pattern": "data/*.csv"},  # it would be told the name without data/
        {"input_file_pattern": "data/*.csv", "input_remove_prefix": "data/", "output_key_prefix": "raw-"},
        {"input_file_pattern": "data/*.csv", "input_remove_prefix": "data/", "customizer": "others"},
    ],
)
def test_a_customizer_that_would_give_other_keys_or_is_not_there_is_left_out(
    folder: Path, policy: dict[str, str]
) -> None:
    write(folder / "customizers" / "names.js", "module.exports = name => name;")
    made = imported({**BUCKET, "policies": [{"customizer": "names", **policy}]}, str(folder))
    assert "Sources" not in made.config
    assert "Sha256" in "".join(made.missing)


def test_the_mothership_comes_along_but_not_its_rights(folder: Path) -> None:
    made = imported({**BUCKET, "host_dns": "home.example.com", "host_port": 8443}, str(folder))
    home = parse(made.config).home
    assert home
    assert home.url == "https://home.example.com:8443/ingestor"
    assert (home.roots, home.commands) == ((), ())


def command(path: Path) -> subprocess.CompletedProcess[str]:
    run = [sys.executable, "-m", "tidegate", "import-s3-ingestor", str(path)]
    return subprocess.run(run, capture_output=True, text=True, check=False, env=ENVIRONMENT)


def test_the_command_writes_what_the_agent_takes_and_says_what_is_missing(folder: Path) -> None:
    path = folder / "s3-ingestor.json"
    path.write_text(json.dumps({**BUCKET, "api_port": 4567, "policies": [{"input_file_pattern": "data/*"}]}))
    done = command(path)
    assert done.returncode == 1
    assert "no equivalent: api_port" in done.stderr
    assert "# api_port" in done.stdout
    assert parse(yaml.safe_load(done.stdout)).sources[0].glob.text == f"{folder}/data/*"
    path.write_text(json.dumps({**BUCKET, "policies": [{"input_file_pattern": "data/*"}]}))
    done = command(path)
    assert (done.returncode, done.stderr) == (0, "")
    path.write_text("{")
    assert command(path).returncode == 2
