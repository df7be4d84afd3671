"""What docs/DEPLOYING.md shows can be taken as it is: each file of examples/deploy is parsed, merged or checked."""

from __future__ import annotations

import copy
import fnmatch
import json
import re
import shlex
from pathlib import Path
from typing import Any

import botocore.session
import pytest
import yaml
from botocore import xform_name
from botocore.validate import ParamValidator

from tests.standins.nucleus.switches import CLASSIC, LITE, Switches
from tests.standins.nucleus.topics import AccessControl
from tests.test_recipe import ALLOWED, DEFAULTS
from tidegate import __version__
from tidegate.carry.streams.carrier import COMPONENT
from tidegate.config import Config, Mode, parse
from tidegate.config.file import Extension
from tidegate.errors import ConfigFaults
from tools.component import LARGEST_ZIP
from tools.recipe_lint import LARGEST_VALUE, objects

ROOT = Path(__file__).parent.parent.parent
FOLDER = ROOT / "examples" / "deploy"
DOCUMENT = (ROOT / "docs" / "DEPLOYING.md").read_text(encoding="utf-8")
FILES = sorted(FOLDER.iterdir())
COMMANDS = [
    shlex.split(line) for line in re.findall(r"^    ((?:sudo |aws |make ).*)$", DOCUMENT, re.MULTILINE)
]
CONFIGURATIONS = [path.stem.removeprefix("configuration-") for path in FOLDER.glob("configuration-*.json")]


def content(name: str) -> Any:
    text = (FOLDER / name).read_text(encoding="utf-8")
    return json.loads(text) if name.endswith(".json") else yaml.safe_load(text)


def merged(old: Any, new: Any) -> Any:
    """Merge as a nucleus does: maps key by key, everything else whole."""
    if not isinstance(old, dict) or not isinstance(new, dict):
        return copy.deepcopy(new)
    return {**old, **{key: merged(old.get(key), value) for key, value in new.items()}}


def reset(configuration: dict[str, Any], pointer: str) -> dict[str, Any]:
    """Put one place back to what the recipe says: that, or nothing at all."""
    if not pointer:
        return copy.deepcopy(DEFAULTS)
    assert pointer.startswith("/")
    result = copy.deepcopy(configuration)
    *path, last = pointer[1:].split("/")
    place: Any = result
    default: Any = DEFAULTS
    for key in path:
        place, default = place[key], default.get(key, {})
    if last in default:
        place[last] = copy.deepcopy(default[last])
    else:
        place.pop(last, None)
    return result


def deployed(configuration: dict[str, Any], update: dict[str, Any]) -> dict[str, Any]:
    """Do to a configuration what a deployment does: resets first, then the merge."""
    assert update.keys() <= {"reset", "merge"}
    for pointer in update.get("reset", ()):
        configuration = reset(configuration, pointer)
    result: dict[str, Any] = merged(configuration, update.get("merge", {}))
    return result


def after(*names: str) -> Config:
    """Deploy these one after the other onto the defaults of the recipe, and read what that gives."""
    configuration = DEFAULTS
    for name in names:
        configuration = deployed(configuration, content(f"configuration-{name}.json"))
    return parse(configuration)


def sources(config: Config) -> dict[str, Any]:
    return {source.name: source for source in config.sources}


def test_every_file_is_named_and_every_file_that_is_named_is_there() -> None:
    named = set(re.findall(r"`([\w-]+\.(?:json|yaml))`", DOCUMENT))
    assert [path.name for path in FILES if path.name not in DOCUMENT] == []
    assert named <= {path.name for path in FILES} | {"recipe.yaml", "gdk-config.json"}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_every_file_is_what_its_name_says(path: Path) -> None:
    assert content(path.name)


def test_every_json_that_is_shown_is_in_a_file_or_what_a_file_merges() -> None:
    whole = [content(path.name) for path in FILES]
    merges = [one["merge"] for one in whole if isinstance(one, dict) and "merge" in one]
    shown = re.findall(r"^ *```json\n(.*?)^ *```$", DOCUMENT, re.DOTALL | re.MULTILINE)
    assert len(shown) == 5
    for text in shown:
        assert json.loads(text) in [*whole, *merges, {"clientToken": "1"}]


# Configuration


def test_one_folder_is_configured() -> None:
    (source,) = after("one-folder").sources
    assert (source.bucket, source.prefix) == ("my-bucket", "plant-3/raw")


def test_several_sources_are_configured_added_changed_and_removed() -> None:
    assert sources(after("sources")).keys() == {"measurements", "pictures"}
    assert sources(after("sources", "add-a-source")).keys() == {"measurements", "pictures", "logs"}
    before = sources(after("sources"))["pictures"]
    changed = sources(after("sources", "change-a-source"))["pictures"]
    assert (before.after.value, changed.after.value) == ("Keep", "Delete")
    assert (before.quiet_seconds, changed.quiet_seconds) == (2, 30)
    assert sources(after("sources", "add-a-source", "remove-a-source")).keys() == {"measurements", "logs"}


def test_starting_over_leaves_nothing_of_what_was() -> None:
    assert after("sources", "metrics", "start-over") == after("start-over")


def test_cycles_are_configured() -> None:
    (source,) = after("cycles").sources
    assert source.mode is Mode.CYCLE
    assert source.schedule


def test_metrics_are_switched_on_and_need_somewhere_to_send_from() -> None:
    assert not after("one-folder").metrics
    assert after("one-folder", "metrics").metrics


def test_a_file_says_the_rest(tmp_path: Path) -> None:
    configuration = deployed(DEFAULTS, content("configuration-in-a-file.json"))
    with pytest.raises(ConfigFaults, match="cannot be read"):
        Extension().expand(configuration)  # not on this machine
    file = tmp_path / "tidegate.yaml"
    file.write_bytes((FOLDER / "tidegate.yaml").read_bytes())
    config = parse(Extension().expand(configuration | {"ConfigurationFile": str(file)}))
    assert sources(config).keys() == {"measurements", "pictures"}


@pytest.mark.parametrize("mode", [LITE, CLASSIC])
def test_other_topics_come_with_the_rights_to_them(mode: str) -> None:
    config = after("one-folder", "topics")
    assert (config.local_topics, config.cloud_topics) == ("line7/tidegate", None)
    access = AccessControl(Switches(mode=mode), "press-7")
    policies = deployed(DEFAULTS, content("configuration-topics.json"))["accessControl"]
    local = [one for one in ALLOWED if one[0].endswith("pubsub") and one[2].startswith("tidegate/")]
    assert local
    for service, operation, topic in local:
        access.check(policies, service, operation, topic.replace("tidegate/", "line7/tidegate/", 1))


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_nucleus_lite_can_carry_it(name: str) -> None:
    def values(one: Any) -> list[Any]:
        return [leaf for it in one.values() for leaf in values(it)] if isinstance(one, dict) else [one]

    merge = content(f"configuration-{name}.json").get("merge", {})
    assert objects(merge) < 200
    assert all(len(json.dumps(one)) < LARGEST_VALUE for one in values(merge))


# Deployments and commands, as AWS describes its API to its own CLI


def shape(service: str, operation: str) -> Any:
    model = botocore.session.get_session().get_service_model(service)
    (name,) = (one for one in model.operation_names if xform_name(one, "-") == operation)
    return model.operation_model(name).input_shape


@pytest.mark.parametrize("name", ["deployment", "deployment-stream-manager"])
def test_a_deployment_is_one_and_configures_this_version_well(name: str) -> None:
    deployment = content(f"{name}.json")
    report = ParamValidator().validate(deployment, shape("greengrassv2", "create-deployment"))
    assert not report.has_errors(), report.generate_report()
    ours = deployment["components"][COMPONENT]
    assert ours["componentVersion"] == __version__
    update = ours["configurationUpdate"]
    (source,) = parse(deployed(DEFAULTS, update | {"merge": json.loads(update["merge"])})).sources
    assert source.bucket == "my-bucket"
    for component in deployment["components"].values():
        assert json.loads(component["configurationUpdate"]["merge"])


def test_stream_manager_gets_a_thread_for_each_of_our_streams() -> None:
    components = content("deployment-stream-manager.json")["components"]
    manager, ours = (
        json.loads(components[name]["configurationUpdate"]["merge"])
        for name in ("aws.greengrass.StreamManager", COMPONENT)
    )
    assert manager["STREAM_MANAGER_EXPORTER_THREAD_POOL_SIZE"] == ours["StreamManager"]["Streams"]


def test_a_local_deployment_is_configured_well() -> None:
    ((name, update),) = content("local-configuration.json").items()
    assert name == COMPONENT
    assert parse(deployed(DEFAULTS, {key.lower(): value for key, value in update.items()})).sources


def test_the_commands_of_the_aws_cli_exist_with_these_options() -> None:
    shown = [command for command in COMMANDS if command[0] == "aws" and command[1] != "s3"]
    assert len(shown) == 3
    for _, service, operation, *options in shown:
        known = {f"--{xform_name(member, '-')}" for member in shape(service, operation).members}
        assert {one for one in options if one.startswith("--")} <= known | {"--cli-input-json"}
        for one in options:
            if one.startswith("file://"):
                assert (ROOT / one.removeprefix("file://")).is_file()


def test_paths_in_commands_are_those_of_this_version() -> None:
    zips = re.findall(r"greengrass-build/artifacts/(\S+?)/(\S+?)/tidegate\.zip", DOCUMENT)
    assert set(zips) == {(COMPONENT, __version__)}
    assert f"{COMPONENT}={__version__}" in DOCUMENT
    assert f"{COMPONENT}-{__version__}.yaml" in DOCUMENT
    assert {"BUCKET", "WHEELS"} == {
        it.partition("=")[0] for one in COMMANDS if one[0] == "make" for it in one[2:]
    }


# Policies


POLICIES = [
    *("token-exchange-permissions.json", "token-exchange-options.json", "iot-policy.json"),
    *("publisher-permissions.json", "token-exchange-trust.json"),
]


def statements(name: str) -> list[dict[str, Any]]:
    policy = content(name)
    assert policy.keys() == {"Version", "Statement"}
    assert policy["Version"] == "2012-10-17"
    found: list[dict[str, Any]] = policy["Statement"]
    return found


def several(value: str | list[str]) -> list[str]:
    return [value] if isinstance(value, str) else value


@pytest.mark.parametrize("name", POLICIES)
def test_a_policy_allows_certain_actions_on_certain_resources(name: str) -> None:
    for statement in statements(name):
        assert statement["Effect"] == "Allow"
        assert (
            {"Action", "Effect"} <= statement.keys() <= {"Sid", "Effect", "Action", "Resource", "Principal"}
        )
        assert all(re.fullmatch(r"[a-z0-9-]+:[A-Z]\w+", action) for action in several(statement["Action"]))
        for resource in several(statement.get("Resource", [])):
            assert resource == "*" or resource.startswith("arn:aws:")
            if resource == "*":  # where AWS knows no resources, or deployments have targets of all kinds
                assert statement["Sid"] in {
                    *("CloudWatchMetricsComponent", "MakeVersionsAndDeployments"),
                    "WhatCreateDeploymentDoesItself",
                }


def test_the_role_allows_what_the_readme_says_and_each_action_is_explained() -> None:
    allowed = {
        action for one in statements("token-exchange-permissions.json") for action in several(one["Action"])
    }
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert set(re.findall(r"`?\"?(s3:[A-Z]\w+)", readme)) <= allowed
    table = "".join(re.findall(r"^\| `s3:.*$", DOCUMENT, re.MULTILINE))
    assert all(f"`{action}`" in table for action in allowed)


def test_the_device_may_use_the_topics_that_its_recipe_uses() -> None:
    kinds = {
        "SubscribeToIoTCore": ("iot:Subscribe", "topicfilter"),
        "PublishToIoTCore": ("iot:Publish", "topic"),
    }
    used = [(kinds[operation], topic) for _, operation, topic in ALLOWED if operation in kinds]
    assert len(used) > 3
    for (action, kind), topic in [*used, (("iot:Receive", "topic"), "tidegate/press-7/objects/post")]:
        arn = f"arn:aws:iot:eu-central-1:123456789012:{kind}/{topic}"
        allowed = [
            one["Resource"] for one in statements("iot-policy.json") if action in several(one["Action"])
        ]
        assert any(fnmatch.fnmatchcase(arn, one) for one in allowed), arn


@pytest.mark.parametrize("mode", [LITE, CLASSIC])
def test_a_caller_may_ask_and_hear_the_answer(mode: str) -> None:
    access = AccessControl(Switches(mode=mode), "press-7")
    policies = content("caller-access-control.json")["accessControl"]
    service = "aws.greengrass.ipc.pubsub"
    for route in ("objects/post", "statistics/get"):
        access.check(policies, service, "PublishToTopic", f"tidegate/{route}")
        for verdict in ("accepted", "rejected"):
            access.check(policies, service, "SubscribeToTopic", f"tidegate/{route}/{verdict}")


def test_the_size_that_is_told_is_the_one_that_is_kept_to() -> None:
    (megabytes,) = re.findall(r"^\| zip \| ([\d.]+) MB;", DOCUMENT, re.MULTILINE)
    assert float(megabytes) * 2**20 <= LARGEST_ZIP
