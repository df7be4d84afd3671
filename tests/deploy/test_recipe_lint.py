"""Each mistake that keeps a recipe from deploying is found: a bad example for each, made from ours."""

from __future__ import annotations

import copy
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tidegate.config.values import bucket_name
from tools.gdk_lint import gdk_faults
from tools.recipe_lint import BUCKET, recipe_faults

ROOT = Path(__file__).parent.parent.parent
RECIPE = (ROOT / "recipe.yaml").read_text(encoding="utf-8")
KIT = (ROOT / "gdk-config.json").read_text(encoding="utf-8")
NAME = "io.tidegate.S3Agent"
GONE = object()

DEPENDENCIES = ("ComponentDependencies",)
MANAGER = (*DEPENDENCIES, "aws.greengrass.StreamManager")
EXCHANGE = (*DEPENDENCIES, "aws.greengrass.TokenExchangeService")
DEFAULTS = ("ComponentConfiguration", "DefaultConfiguration")
ACCESS = (*DEFAULTS, "accessControl")
LOCAL = (*ACCESS, "aws.greengrass.ipc.pubsub", f"{NAME}:pubsub:replies")
CLOUD = (*ACCESS, "aws.greengrass.ipc.mqttproxy", f"{NAME}:mqttproxy:replies")
MANIFEST = ("Manifests", 0)
PLATFORM = (*MANIFEST, "Platform")
ARTIFACT = (*MANIFEST, "Artifacts", 0)
STEPS = (*MANIFEST, "Lifecycle")
INSTALL = (*STEPS, "install")
RUN = (*STEPS, "run")
VENV = "'{work:path}/venv/bin/python3'"


def changed(text: Any, path: tuple[Any, ...], value: Any, *, name: str = "") -> Any:
    """Change one place of a tree: another value, or `GONE`, or another `name`."""
    tree = copy.deepcopy(text)
    place = tree
    for key in path[:-1]:
        place = place[key]
    if name:
        place[name] = place.pop(path[-1])
    elif value is GONE:
        del place[path[-1]]
    else:
        place[path[-1]] = value
    return tree


def faults_of(path: tuple[Any, ...], value: Any = GONE, *, name: str = "", built: bool = False) -> list[str]:
    recipe = yaml.safe_load(RECIPE)
    if built:
        recipe |= {"ComponentName": NAME, "ComponentVersion": "1.2.3", "ComponentPublisher": "us"}
    return recipe_faults(yaml.safe_dump(changed(recipe, path, value, name=name)), built=built)


FAULTS: dict[str, tuple[tuple[Any, ...], Any, str]] = {
    # The recipe reference
    "another format": (("RecipeFormatVersion",), "2019-01-01", "RecipeFormatVersion: has to be"),
    "a name of our own": (("ComponentName",), "tidegate", "the build fills it in"),
    "a version of our own": (("ComponentVersion",), "1.0.0", "the build fills it in"),
    "a description that lite cuts": (("ComponentDescription",), "a\nb", "cuts it at a line break"),
    "a key that nobody knows": (("Configuration",), {}, "Configuration is not known"),
    "a type": (("ComponentType",), "aws.greengrass.generic", "ComponentType is not known"),
    "no dependencies": (DEPENDENCIES, GONE, "ComponentDependencies: is no map"),
    "a dependency of no type": ((*MANAGER, "DependencyType"), GONE, "HARD or SOFT"),
    "a dependency of another type": ((*MANAGER, "DependencyType"), "Soft", "HARD or SOFT"),
    "a dependency of no version": ((*MANAGER, "VersionRequirement"), GONE, "VersionRequirement is missing"),
    "a dependency that is a text": (MANAGER, "^2.0.0", "StreamManager: is no map"),
    "no credentials on lite": (EXCHANGE, GONE, "TokenExchangeService has to be there"),
    "soft credentials": ((*EXCHANGE, "DependencyType"), "SOFT", "TokenExchangeService has to be there"),
    "an end with Stream Manager": ((*MANAGER, "DependencyType"), "HARD", "Stream Manager has to be SOFT"),
    "no manifest": (("Manifests",), [], "Manifests: there is none"),
    "a manifest that is a text": (MANIFEST, "Linux", "Manifests[0]: is no map"),
    "no platform": (PLATFORM, GONE, "Platform is missing"),
    "no runtime": ((*PLATFORM, "runtime"), GONE, "runtime has to be"),
    "a runtime for lite alone": ((*PLATFORM, "runtime"), "aws_nucleus_lite", "runtime has to be"),
    "a runtime beside its platform": ((*MANIFEST, "runtime"), "*", "Manifests[0]: runtime is not known"),
    "a regular expression": ((*PLATFORM, "architecture"), "/arm|aarch64/", "no regular expressions"),
    "no artifacts": ((*MANIFEST, "Artifacts"), GONE, "Artifacts is missing"),
    "an artifact that is a text": (ARTIFACT, "s3://a/b.zip", "an artifact is no map"),
    "an artifact of another bucket": (
        (*ARTIFACT, "Uri"),
        "s3://mine/tidegate.zip",
        "not what the build fills in",
    ),
    "an archive of another kind": ((*ARTIFACT, "Unarchive"), "TAR", "Unarchive has to be NONE or ZIP"),
    "a digest by hand": ((*ARTIFACT, "Digest"), "abc", "Digest is not known"),
    "another permission": ((*ARTIFACT, "Permission", "Read"), "All", "none of NONE, OWNER, ALL"),
    # The life cycle
    "no life cycle": (STEPS, GONE, "Lifecycle is missing"),
    "no run": (RUN, GONE, "there is no step run"),
    "no install": (INSTALL, GONE, "there is no step install"),
    "a step that lite lacks": ((*STEPS, "shutdown"), {"Script": "true"}, "shutdown is not known"),
    "a condition that lite lacks": ((*INSTALL, "Skipif"), "onpath git", "Skipif is not known"),
    "a step that is a text": (RUN, "exec python3", "write it as a map with Script"),
    "no script": ((*RUN, "Script"), GONE, "Script has to be a text"),
    "a script for each system": ((*RUN, "Script"), ["all"], "Script has to be a text"),
    "an install in two minutes": ((*INSTALL, "Timeout"), GONE, "Timeout has to be 600"),
    "a timeout that is a variable": ((*INSTALL, "Timeout"), "{configuration:/t}", "Timeout has to be digits"),
    "root": ((*INSTALL, "RequiresPrivilege"), "true", "makes us root"),
    "a variable that is a number": ((*RUN, "Setenv"), {"A": 1}, "wants an identifier and a text"),
    "a variable with a hyphen": ((*RUN, "Setenv"), {"A-B": "1"}, "wants an identifier and a text"),
    "variables that are a text": ((*RUN, "Setenv"), "A=1", "Setenv is no map"),
    # Scripts
    "a brace of the shell": ((*RUN, "Script"), "exec ${HOME}/x", "cuts the script off there"),
    "an open brace": ((*RUN, "Script"), "exec x '{", "cuts the script off there"),
    "JSON": ((*RUN, "Script"), "exec x '{\"a\": {}}'", "cuts the script off there"),
    "a brace in a variable": ((*RUN, "Setenv"), {"A": "{b}"}, "cuts the script off there"),
    "configuration": ((*RUN, "Script"), "exec x {configuration:/PathName}", "ask over IPC"),
    "configuration in a variable": ((*RUN, "Setenv"), {"A": "{configuration:/A}"}, "ask over IPC"),
    "another component": ((*RUN, "Script"), "exec {a.b:artifacts:path}/x", "is of another component"),
    "an unknown variable": ((*RUN, "Script"), "exec {artifacts:folder}/x", "is no variable of a recipe"),
    "another folder": (
        (*INSTALL, "Script"),
        "sh '{artifacts:decompressedPath}/other/install.sh'",
        "comes the name of the zip: tidegate",
    ),
    "no folder": ((*RUN, "Setenv"), {"P": "{artifacts:decompressedPath}"}, "comes the name of the zip"),
    "a long script": ((*RUN, "Script"), "exec x " + "y" * 10_000, "10000 bytes of script"),
    "a shell that stays": ((*RUN, "Script"), f"{VENV} -m tidegate", "begin with exec"),
    "the network at each start": ((*INSTALL, "Script"), "pip3 install --user x", "asks the network"),
    "an end for good": ((*RUN, "Script"), f"exec {VENV} -m tidegate || true", "the end for good"),
    # What nucleus lite carries
    "a large recipe": (("ComponentDescription",), "x" * 8000, "may read no more than 8000"),
    "many sub-objects": (("Manifests",), [{"Name": "x"}] * 100, "sub-objects; nucleus lite takes 254"),
    "many defaults": ((*DEFAULTS, "Sources"), {str(it): "" for it in range(70)}, "one write of nucleus lite"),
    "a deep one": ((*DEFAULTS, "Tags"), json.loads('{"a":' * 14 + '"b"' + "}" * 14), "more than 15 deep"),
    "a long text": ((*DEFAULTS, "PathName"), "/" * 1100, "1020 bytes in one value"),
    "a long list": ((*DEFAULTS, "Exclude"), ["*.tmp"] * 150, "1020 bytes in one value"),
    # Defaults
    "a number": ((*DEFAULTS, "Interval"), 10, "Interval: 10 is no text"),
    "a true": ((*DEFAULTS, "IncludeHidden"), True, "IncludeHidden: true is no text"),
    "a null": ((*DEFAULTS, "Sources"), None, "Sources: null is no text"),
    "a number in a list": ((*DEFAULTS, "Exclude"), ["a", 1], "Exclude: 1 is no text"),
    "a key in two cases": ((*DEFAULTS, "pathname"), "", "are one key to the classic nucleus"),
    "no defaults": (DEFAULTS, GONE, "accessControl: is missing"),
    "defaults that are a text": (DEFAULTS, "none", "DefaultConfiguration: is no map"),
    # Policies
    "policies that are a text": (ACCESS, "*", "accessControl: is no map"),
    "a service of others": ((*ACCESS, "aws.greengrass.Cli"), {}, "aws.greengrass.Cli is no service of ours"),
    "policies in a list": ((*ACCESS, "aws.greengrass.ipc.pubsub"), [], "is no map of policies"),
    "a policy that is a text": (LOCAL, "*", "pubsub:replies: is no map"),
    "an id that others could have": ((*LOCAL[:-1], "pubsub:1"), {"operations": ["*"]}, "begin the id with"),
    "an id in two services": (
        (*CLOUD[:-1], LOCAL[-1]),
        {"operations": ["aws.greengrass#PublishToIoTCore"], "resources": ["a"]},
        "is there twice",
    ),
    "a key of no policy": ((*LOCAL, "effect"), "Allow", "effect: is no key of a policy"),
    "no resources": ((*LOCAL, "resources"), GONE, "resources: has to be a list of texts"),
    "resources that are a text": (
        (*LOCAL, "resources"),
        "tidegate/*",
        "resources: has to be a list of texts",
    ),
    "no operations": ((*LOCAL, "operations"), [], "operations: has to be a list of texts"),
    "all operations": ((*LOCAL, "operations"), ["*"], "* is none of"),
    "an operation of the cloud": ((*LOCAL, "operations"), ["aws.greengrass#PublishToIoTCore"], "is none of"),
    "every topic": ((*CLOUD, "resources"), ["*"], "allows every topic"),
    "a plus that is a letter": (
        (*LOCAL, "resources"),
        ["tidegate/+/accepted"],
        "are letters to local topics",
    ),
    "a hash that is a letter": ((*LOCAL, "resources"), ["tidegate/#"], "are letters to local topics"),
    "the name of the thing": ((*CLOUD, "resources"), ["a/{iot:thingName}"], "puts no variables into it"),
    "a question mark": ((*LOCAL, "resources"), ["tidegate/?"], "refuses a bare ?"),
    "a deep topic": ((*CLOUD, "resources"), ["a/b/c/d/e/f/g/h/i"], "7 slashes"),
    "a long topic": ((*CLOUD, "resources"), ["a" * 257], "256 bytes"),
    "long policies": (
        ACCESS,
        {"aws.greengrass.ipc.pubsub": {f"{NAME}:{it}": {"policyDescription": "x" * 900} for it in range(5)}},
        "reads only 4096 bytes of it",
    ),
}


@pytest.mark.parametrize("example", FAULTS)
def test_a_mistake_is_found(example: str) -> None:
    path, value, sentence = FAULTS[example]
    assert any(sentence in fault for fault in faults_of(path, value))


SPELLINGS = {
    "Run": (RUN, "nucleus lite wants run"),
    "Install": (INSTALL, "nucleus lite wants install"),
    "URI": ((*ARTIFACT, "Uri"), "nucleus lite wants Uri"),
    "UnArchive": ((*ARTIFACT, "Unarchive"), "nucleus lite wants Unarchive"),
    "lifecycle": (STEPS, "nucleus lite wants Lifecycle"),
    "manifests": (("Manifests",), "nucleus lite wants Manifests"),
    "Runtime": ((*PLATFORM, "runtime"), "nucleus lite wants runtime"),
    "script": ((*RUN, "Script"), "nucleus lite wants Script"),
    "SetEnv": ((*RUN, "Setenv"), "nucleus lite wants Setenv"),
    "timeout": ((*INSTALL, "Timeout"), "nucleus lite wants Timeout"),
    "dependencyType": ((*MANAGER, "DependencyType"), "nucleus lite wants DependencyType"),
    "defaultConfiguration": (DEFAULTS, "nucleus lite wants DefaultConfiguration"),
}


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_a_key_in_another_case_is_found(spelling: str) -> None:
    path, sentence = SPELLINGS[spelling]
    assert any(sentence in fault for fault in faults_of(path, name=spelling))


@pytest.mark.parametrize(
    ("key", "value", "sentence"),
    [
        ("ComponentName", "a name", "is not of up to 128 letters"),
        ("ComponentName", "a" * 129, "is not of up to 128 letters"),
        ("ComponentVersion", "{COMPONENT_VERSION}", "is no fixed version"),
        ("ComponentVersion", "NEXT_PATCH", "is no fixed version"),
        ("ComponentVersion", "1.0", "is no fixed version"),
        ("ComponentVersion", "1.0.1000000", "is no fixed version"),
        ("ComponentVersion", "1.0.0-" + "a" * 64, "is no fixed version"),
    ],
)
def test_a_mistake_in_what_is_filled_in_is_found(key: str, value: str, sentence: str) -> None:
    assert any(sentence in fault for fault in faults_of((key,), value, built=True))
    assert faults_of((key,), "1.2.3" if key == "ComponentVersion" else NAME, built=True) == []


@pytest.mark.parametrize(
    "uri", ["s3://s3://my-artifacts/a/b.zip", "s3://My Bucket/a/b.zip", "s3://bucket", "a.zip"]
)
def test_an_artifact_of_a_built_recipe_that_is_nowhere_in_s3_is_found(uri: str) -> None:
    assert any(f"{uri} is no place in S3" in it for it in faults_of((*ARTIFACT, "Uri"), uri, built=True))
    assert faults_of((*ARTIFACT, "Uri"), "s3://my-artifacts/a/1.2.3/tidegate.zip", built=True) == []


@pytest.mark.parametrize(
    "name",
    ["my-artifacts", "a.b.c", "1.2.3.4", "a" * 63, "a" * 64, "ab", "a..b", "-ab", "A-b", "abc\n", "a:b"],
)
def test_what_is_the_name_of_a_bucket_is_what_the_agent_takes_for_one(name: str) -> None:
    try:
        is_taken = bucket_name(name) == name
    except ValueError:
        is_taken = False
    assert bool(BUCKET.fullmatch(name)) == is_taken


@pytest.mark.parametrize("text", ["a: [", "- a", "", "a: 1\na: 2\n"])
def test_what_is_no_recipe_at_all_is_said(text: str) -> None:
    assert len(recipe_faults(text)) == 1


def test_a_policy_id_that_stands_twice_in_one_map_is_found_where_others_take_the_last() -> None:
    again = f'        "{NAME}:pubsub:requests":\n          operations: ["*"]\n'
    text = RECIPE.replace(
        "      aws.greengrass.ipc.mqttproxy:\n", f"{again}      aws.greengrass.ipc.mqttproxy:\n"
    )
    assert any(f"{NAME}:pubsub:requests is there twice" in fault for fault in recipe_faults(text))


OPTIONS = ("component", NAME, "build", "options")
EXCLUDES = json.loads(KIT)["component"][NAME]["build"]["options"]["excludes"]
KIT_FAULTS: dict[str, tuple[tuple[Any, ...], Any, str]] = {
    "two components": (("component", "b"), {}, "exactly one component"),
    "a name with a blank": (("component",), {"a b": {"version": "1.0.0"}}, "a b is no name of a component"),
    "no version of the kit": (("gdk_version",), GONE, "gdk_version is missing"),
    "a version that is not fixed": (("component", NAME, "version"), "NEXT_PATCH", "version has to be fixed"),
    "no author": (("component", NAME, "author"), "", "author is missing"),
    "no bucket": (("component", NAME, "publish", "bucket"), GONE, "publish needs bucket and region"),
    "another way to build": (("component", NAME, "build", "build_system"), "maven", "has to be zip"),
    "no options": (OPTIONS, GONE, "zip_name is missing"),
    "no name of the zip": ((*OPTIONS, "zip_name"), GONE, "zip_name is missing"),
    "another name of the zip": ((*OPTIONS, "zip_name"), "agent", "makes agent.zip, and the recipe wants"),
    "hidden files": (
        (*OPTIONS, "excludes"),
        [it for it in EXCLUDES if it != "**/.*"],
        "excludes lacks **/.*",
    ),
    "compiled files": ((*OPTIONS, "excludes"), ["**/.*", "tests/**"], "excludes lacks **/__pycache__"),
    "tests": ((*OPTIONS, "excludes"), ["**/.*", "**/__pycache__"], "excludes lacks tests/**"),
    "too much": ((*OPTIONS, "excludes"), [*EXCLUDES, "**/test*"], "takes away sources"),
    "the agent": (
        (*OPTIONS, "excludes"),
        [*EXCLUDES, "src/**"],
        "excludes src/**, which the component needs",
    ),
}


@pytest.mark.parametrize("example", KIT_FAULTS)
def test_a_mistake_in_what_the_kit_is_told_is_found(example: str) -> None:
    path, value, sentence = KIT_FAULTS[example]
    kit = json.dumps(changed(json.loads(KIT), path, value))
    assert any(sentence in fault for fault in gdk_faults(kit, RECIPE))


def test_what_the_kit_is_told_in_no_json_is_said() -> None:
    (sentence,) = gdk_faults("{", RECIPE)
    assert sentence.startswith("gdk-config.json is no JSON")


def lint(*files: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tools.recipe_lint", *map(str, files)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=60)


def test_by_hand_it_says_what_is_wrong_and_ends_with_1(tmp_path: Path) -> None:
    assert lint().returncode == 0
    bad = tmp_path / "recipe.yaml"
    bad.write_text(RECIPE.replace("DependencyType: SOFT", "DependencyType: Soft"), encoding="utf-8")
    found = lint(bad)
    assert found.returncode == 1
    assert "DependencyType has to be HARD or SOFT" in found.stderr
