"""The recipe goes with the agent: its defaults, its policies and what the kit is told."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.standins.nucleus import CLASSIC, LITE, IpcError
from tests.standins.nucleus.switches import Switches
from tests.standins.nucleus.topics import MQTT_PROXY, PUBSUB, AccessControl
from tidegate import __version__
from tidegate.carry.streams.carrier import COMPONENT
from tidegate.config import parse
from tidegate.config.keys import AGENT, SOURCE
from tidegate.errors import ConfigFaults
from tools.gdk_lint import gdk_faults
from tools.recipe_lint import objects, recipe_faults

ROOT = Path(__file__).parent.parent
TEXT = (ROOT / "recipe.yaml").read_text(encoding="utf-8")
RECIPE: dict[str, Any] = yaml.safe_load(TEXT)
DEFAULTS: dict[str, Any] = RECIPE["ComponentConfiguration"]["DefaultConfiguration"]
KIT = (ROOT / "gdk-config.json").read_text(encoding="utf-8")
GDK: dict[str, Any] = json.loads(KIT)
(MANIFEST,) = RECIPE["Manifests"]
STEPS: dict[str, dict[str, Any]] = MANIFEST["Lifecycle"]
BY_NAME = {key.name: key for key in (*AGENT, *SOURCE)}


def test_the_recipe_and_what_the_kit_is_told_have_no_faults() -> None:
    assert recipe_faults(TEXT) == []
    assert gdk_faults(KIT, TEXT) == []


def test_the_recipe_leaves_most_of_what_a_nucleus_carries_to_the_configuration_of_users() -> None:
    assert objects(DEFAULTS) < 100  # of the 255 that the whole configuration may have when it is read on lite


def test_stream_manager_may_come_and_go_and_the_credentials_come_first() -> None:
    types = {name: one["DependencyType"] for name, one in RECIPE["ComponentDependencies"].items()}
    assert types == {"aws.greengrass.StreamManager": "SOFT", "aws.greengrass.TokenExchangeService": "HARD"}


def test_the_run_step_starts_the_agent_in_what_the_install_step_has_made() -> None:
    assert STEPS["run"]["Script"] == "exec '{work:path}/venv/bin/python3' -u -m tidegate"  # and no command
    assert STEPS["run"]["Setenv"]["PYTHONPATH"].endswith("/src")
    assert "/install.sh' " in STEPS["install"]["Script"]


def test_every_default_stands_with_the_description_that_the_agent_has_of_its_key() -> None:
    described = dict(re.findall(r"^    (\w+): \"[^\"]*\"  # (.*)$", TEXT, re.MULTILINE))
    assert described.keys() == DEFAULTS.keys() - {"accessControl"}
    assert described == {name: BY_NAME[name].meaning for name in described}


def test_the_defaults_are_those_of_the_agent() -> None:
    for name, value in DEFAULTS.items():
        if value and name != "accessControl":
            key = BY_NAME[name]
            assert key.kind.read(value) == key.kind.read(key.default)


def test_with_a_path_and_a_bucket_the_defaults_are_a_good_configuration() -> None:
    (source,) = parse(DEFAULTS | {"PathName": "/data/*.csv", "BucketName": "my-bucket"}).sources
    assert source.bucket == "my-bucket"


@pytest.mark.parametrize("carrier", ["Auto", "Direct", "StreamManager"])
@pytest.mark.parametrize("after", [{"After": "Keep"}, {"After": "Move", "MoveTo": "/sent"}])
def test_the_defaults_forbid_nothing_that_could_be_merged(after: dict[str, str], carrier: str) -> None:
    given = {"PathName": "/data/*", "BucketName": "my-bucket", "Carrier": carrier, "MaxConcurrent": "20"}
    assert parse(DEFAULTS | given | after).sources


def test_the_defaults_forbid_no_cycles() -> None:
    cycle = {"Mode": "Cycle", "Schedule": "0 3 * * *", "Archive": "Zip", "Layout": "ThingAndTime"}
    (source,) = parse(DEFAULTS | {"PathName": "/data/*", "BucketName": "my-bucket"} | cycle).sources
    assert source.schedule


ALLOWED = [
    (PUBSUB, "SubscribeToTopic", "tidegate/+/+"),
    (PUBSUB, "SubscribeToTopic", "tidegate/+/+/post"),
    (PUBSUB, "PublishToTopic", "tidegate/objects/post/accepted"),
    (PUBSUB, "PublishToTopic", "tidegate/statistics/get/rejected"),
    (PUBSUB, "PublishToTopic", "tidegate/events/stored"),
    (PUBSUB, "PublishToTopic", "tidegate/pulse/12ab"),
    (PUBSUB, "PublishToTopic", "cloudwatch/metric/put"),
    (MQTT_PROXY, "SubscribeToIoTCore", "tidegate/press-7/+/+"),
    (MQTT_PROXY, "SubscribeToIoTCore", "tidegate/press-7/+/+/post"),
    (MQTT_PROXY, "PublishToIoTCore", "tidegate/press-7/objects/post/accepted"),
    (MQTT_PROXY, "PublishToIoTCore", "tidegate/press-7/statistics/get/rejected"),
    (MQTT_PROXY, "PublishToIoTCore", "tidegate/press-7/events/stored"),
    (MQTT_PROXY, "PublishToIoTCore", "tidegate/press-7/pulse/12ab"),
]
REFUSED = [
    (PUBSUB, "SubscribeToTopic", "#"),
    (PUBSUB, "SubscribeToTopic", "other/+/+"),
    (PUBSUB, "PublishToTopic", "tidegate/objects/post"),  # nobody asks himself
    (PUBSUB, "PublishToTopic", "cloudwatch/metric/other"),
    (MQTT_PROXY, "SubscribeToIoTCore", "#"),
    (MQTT_PROXY, "SubscribeToIoTCore", "$aws/things/press-7/shadow/get"),
    (MQTT_PROXY, "PublishToIoTCore", "tidegate/press-7/objects/post"),
    (MQTT_PROXY, "PublishToIoTCore", "other/press-7/events/stored"),
]


@pytest.mark.parametrize("mode", [LITE, CLASSIC])
def test_the_policies_allow_our_topics_and_no_others(mode: str) -> None:
    access = AccessControl(Switches(mode=mode), "press-7")
    for service, operation, topic in ALLOWED:
        access.check(DEFAULTS["accessControl"], service, operation, topic)
    for service, operation, topic in REFUSED:
        with pytest.raises(IpcError, match="not authorized"):
            access.check(DEFAULTS["accessControl"], service, operation, topic)


def test_the_defaults_leave_room_for_sources() -> None:
    sources = {"Sources": {"logs": {"PathName": "/logs/*", "BucketName": "my-bucket"}}}
    assert [source.name for source in parse(DEFAULTS | sources).sources] == ["logs"]


@pytest.mark.parametrize(
    ("given", "missing"),
    [({}, "PathName"), ({"BucketName": "my-bucket"}, "PathName"), ({"PathName": "/data/*"}, "BucketName")],
)
def test_a_deployment_that_was_not_configured_is_told_what_is_missing(
    given: dict[str, str], missing: str
) -> None:
    with pytest.raises(ConfigFaults) as caught:
        parse(DEFAULTS | given)
    (sentence,) = caught.value.faults
    assert sentence.startswith(f"{missing}: is missing; write ")


def test_the_kit_builds_this_version_of_this_component() -> None:
    assert list(GDK["component"]) == [COMPONENT]
    assert GDK["component"][COMPONENT]["version"] == __version__
