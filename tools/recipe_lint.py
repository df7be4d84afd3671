"""Finds what keeps a recipe from deploying, on the classic nucleus or on nucleus lite, before a device does.

    python -m tools.recipe_lint [recipe.yaml] [gdk-config.json]

Each rule is a mistake that one of the two, or the kit, answers with a deployment that fails, or worse, with
one that succeeds and does something else. It prints a sentence for each and exits with 1 if there was one.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from tools.access_lint import access_faults
from tools.gdk_lint import gdk_faults

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

LARGEST_RECIPE = 8000
"""Bytes. The cloud takes 16,000; newer sources of nucleus lite read a recipe into 8,196."""

MOST_OBJECTS = 254
MOST_OBJECTS_OF_DEFAULTS = 199  # they are one write into the configuration of nucleus lite
LARGEST_VALUE = 1020  # bytes of JSON of one value that is no map
LONGEST_SCRIPT = 10_000
DEEPEST = 15
LEAST_INSTALL_SECONDS = 600

TOP = {
    *("RecipeFormatVersion", "ComponentName", "ComponentVersion", "ComponentDescription"),
    *("ComponentPublisher", "ComponentConfiguration", "ComponentDependencies", "Manifests"),
}
MANIFEST = {"Name", "Platform", "Artifacts", "Lifecycle"}
PLATFORM = {"os", "architecture", "runtime"}
BUCKET = re.compile(
    r"(?=.{3,63}$)(?!(\d+\.)+\d+$)([a-z0-9]([a-z0-9-]*[a-z0-9])?\.)*[a-z0-9]([a-z0-9-]*[a-z0-9])?", re.ASCII
)
"""What the agent takes as the name of a bucket, too."""

ARTIFACT = {"Uri", "Unarchive", "Permission"}
PERMISSION = {"Read": {"NONE", "OWNER", "ALL"}, "Execute": {"NONE", "OWNER", "ALL"}}
STEPS = {"install", "run"}
STEP = {"Script", "Setenv", "RequiresPrivilege", "Timeout"}
EXCHANGE = "aws.greengrass.TokenExchangeService"
VARIABLES = {
    *("artifacts:path", "artifacts:decompressedPath", "work:path", "kernel:rootPath", "iot:thingName"),
}


class _Loader(yaml.SafeLoader):
    """Refuses a key that is there twice in one map, where others take the last one."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:  # noqa: FBT001, FBT002
        """See yaml.SafeLoader."""
        keys = [key.value for key, _ in node.value]
        for key in keys:
            if keys.count(key) > 1:
                raise yaml.YAMLError(f"{key} is there twice in one map")
        mapping: dict[Any, Any] = super().construct_mapping(node, deep)
        return mapping


def recipe_faults(text: str, *, built: bool = False) -> list[str]:
    """Return a sentence for each fault; in the source the kit has not filled in yet what it will."""
    try:
        recipe = yaml.load(text, _Loader)  # noqa: S506 - it is a safe one
    except yaml.YAMLError as err:
        return [f"the recipe is no YAML: {err}"]
    if not isinstance(recipe, dict):
        return ["the recipe is no map"]
    return [
        *_size(text, recipe),
        *_keys("the recipe", recipe, TOP),
        *_names(recipe, built=built),
        *_dependencies(recipe.get("ComponentDependencies")),
        *_configuration(recipe),
        *_manifests(recipe.get("Manifests"), built=built),
    ]


def objects(value: Any) -> int:
    """Count as nucleus lite does, all the way down: two for each key of a map, one for an item of a list."""
    if isinstance(value, dict):
        return 2 * len(value) + sum(map(objects, value.values()))
    return len(value) + sum(map(objects, value)) if isinstance(value, list) else 0


def depth(value: Any) -> int:
    """Count how many maps and lists are around the innermost value."""
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else None
    return 0 if inner is None else 1 + max(map(depth, inner), default=0)


def _size(text: str, recipe: Mapping[str, Any]) -> Iterator[str]:
    if (size := len(text.encode())) > LARGEST_RECIPE:
        yield f"the recipe has {size} bytes; nucleus lite may read no more than {LARGEST_RECIPE}"
    if (count := objects(recipe)) > MOST_OBJECTS:
        yield f"the recipe has {count} sub-objects; nucleus lite takes {MOST_OBJECTS}"
    if depth(recipe) > DEEPEST:
        yield f"the recipe is nested more than {DEEPEST} deep; nucleus lite takes no more"


def _keys(place: str, given: Mapping[str, Any], known: set[str]) -> Iterator[str]:
    for key in given:
        if key in known:
            continue
        meant = {one.lower(): one for one in known}.get(str(key).lower())
        hint = f"; nucleus lite wants {meant}" if meant else f"; known are {', '.join(sorted(known))}"
        yield f"{place}: {key} is not known{hint}"


def _names(recipe: Mapping[str, Any], *, built: bool) -> Iterator[str]:
    if recipe.get("RecipeFormatVersion") != "2020-01-25":
        yield 'RecipeFormatVersion: has to be "2020-01-25", in quotes'
    name, version = recipe.get("ComponentName"), recipe.get("ComponentVersion")
    if not built:
        for key, placeholder in (
            ("ComponentName", "{COMPONENT_NAME}"),
            ("ComponentVersion", "{COMPONENT_VERSION}"),
            ("ComponentPublisher", "{COMPONENT_AUTHOR}"),
        ):
            if recipe.get(key) != placeholder:
                yield f'{key}: has to be "{placeholder}"; the build fills it in'
    else:
        if not re.fullmatch(r"[A-Za-z0-9._-]{1,128}", str(name)):
            yield f"ComponentName: {name} is not of up to 128 letters, digits, dots, hyphens and underscores"
        if not is_version(version):
            yield f"ComponentVersion: {version} is no fixed version such as 1.2.3, with numbers up to 999999"
    if set(str(recipe.get("ComponentDescription", ""))) & {"\n", "\r", "\\"}:
        yield "ComponentDescription: nucleus lite cuts it at a line break or a backslash"


def is_version(version: object) -> bool:
    """Tell whether it is a version that can be deployed: semantic, 64 characters, numbers up to 999999."""
    found = re.fullmatch(r"(\d+)\.(\d+)\.(\d+)([-+][0-9A-Za-z.+-]+)?", str(version))
    return (
        found is not None and len(str(version)) <= 64 and all(int(it) <= 999_999 for it in found.groups()[:3])
    )


def _dependencies(given: Any) -> Iterator[str]:
    if not isinstance(given, dict):
        yield f"ComponentDependencies: is no map, and has to name {EXCHANGE}"
        return
    for name, one in given.items():
        place = f"ComponentDependencies.{name}"
        if not isinstance(one, dict):
            yield f"{place}: is no map"
            continue
        yield from _keys(place, one, {"VersionRequirement", "DependencyType"})
        if one.get("DependencyType") not in {"HARD", "SOFT"}:
            yield f"{place}: DependencyType has to be HARD or SOFT; nucleus lite knows no default"
        if not isinstance(one.get("VersionRequirement"), str):
            yield f"{place}: VersionRequirement is missing"
    exchange = given.get(EXCHANGE)
    if not isinstance(exchange, dict) or exchange.get("DependencyType") != "HARD":
        yield f"ComponentDependencies: {EXCHANGE} has to be there, HARD; else lite gives no credentials"
    manager = given.get("aws.greengrass.StreamManager")
    if isinstance(manager, dict) and manager.get("DependencyType") == "HARD":
        yield "ComponentDependencies: Stream Manager has to be SOFT, so that we survive its restarts"


def _configuration(recipe: Mapping[str, Any]) -> Iterator[str]:
    outer = recipe.get("ComponentConfiguration", {})
    defaults = outer.get("DefaultConfiguration", {}) if isinstance(outer, dict) else None
    if not isinstance(defaults, dict):
        yield "ComponentConfiguration: DefaultConfiguration: is no map"
        return
    yield from _keys("ComponentConfiguration", outer, {"DefaultConfiguration"})
    if (count := objects(defaults)) > MOST_OBJECTS_OF_DEFAULTS:
        limit = MOST_OBJECTS_OF_DEFAULTS
        yield f"DefaultConfiguration: has {count} sub-objects; one write of nucleus lite holds {limit}"
    yield from _values("DefaultConfiguration", defaults)
    name = str(recipe.get("ComponentName"))
    if "accessControl" not in defaults:
        yield "accessControl: is missing; without it no message goes through"
        return
    component = "io.tidegate.S3Agent" if name.startswith("{") else name
    yield from access_faults(defaults["accessControl"], component)


def _values(place: str, value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        twice = [key for key in value if [str(it).lower() for it in value].count(str(key).lower()) > 1]
        if twice:
            yield f"{place}: {' and '.join(twice)} are one key to the classic nucleus"
        for key, inner in value.items():
            yield from _values(f"{place}.{key}", inner)
        return
    if len(json.dumps(value, separators=(",", ":"))) > LARGEST_VALUE:
        yield f"{place}: nucleus lite takes {LARGEST_VALUE} bytes in one value, and a list is one"
    for one in value if isinstance(value, list) else [value]:
        if not isinstance(one, str):
            yield f"{place}: {json.dumps(one)} is no text; write it in quotes, else it changes on its way"


def _manifests(given: Any, *, built: bool) -> Iterator[str]:
    if not isinstance(given, list) or not given:
        yield "Manifests: there is none"
        return
    for number, manifest in enumerate(given):
        place = f"Manifests[{number}]"
        if not isinstance(manifest, dict):
            yield f"{place}: is no map"
            continue
        yield from _keys(place, manifest, MANIFEST)
        yield from _platform(place, manifest.get("Platform"))
        stems, faults = _artifacts(place, manifest.get("Artifacts"), built=built)
        yield from faults
        yield from _lifecycle(place, manifest.get("Lifecycle"), stems)


def _platform(place: str, given: Any) -> Iterator[str]:
    if not isinstance(given, dict):
        yield f"{place}: Platform is missing"
        return
    yield from _keys(f"{place}.Platform", given, PLATFORM)
    if given.get("runtime") != "*":
        yield f'{place}.Platform: runtime has to be "*"; without it nucleus lite passes the manifest over'
    for key, value in given.items():
        if str(value).startswith("/"):
            yield f"{place}.Platform.{key}: nucleus lite knows no regular expressions"


def _artifacts(place: str, given: Any, *, built: bool) -> tuple[set[str], list[str]]:
    """Return the names of the folders that they are unpacked to, and the faults."""
    if not isinstance(given, list):
        return set(), [f"{place}: Artifacts is missing; nucleus lite wants a list, if need be an empty one"]
    stems: set[str] = set()
    faults: list[str] = []
    for artifact in given:
        if not isinstance(artifact, dict):
            faults.append(f"{place}.Artifacts: an artifact is no map")
            continue
        faults += _keys(f"{place}.Artifacts", artifact, ARTIFACT)
        uri = str(artifact.get("Uri", ""))
        if not built and not uri.startswith("s3://BUCKET_NAME/COMPONENT_NAME/COMPONENT_VERSION/"):
            faults.append(f"{place}.Artifacts: {uri} is not what the build fills in")
        if built and not _is_in_s3(uri):
            faults.append(f"{place}.Artifacts: {uri} is no place in S3; write s3://BUCKET/KEY")
        if "Unarchive" in artifact and artifact["Unarchive"] not in {"NONE", "ZIP"}:
            faults.append(f"{place}.Artifacts: Unarchive has to be NONE or ZIP")
        if artifact.get("Unarchive") == "ZIP":
            stems.add(Path(uri).stem)
        for key, value in (artifact.get("Permission") or {}).items():
            if value not in PERMISSION.get(key, set()):
                faults.append(f"{place}.Artifacts: Permission {key}: {value} is none of NONE, OWNER, ALL")
    return stems, faults


def _is_in_s3(uri: str) -> bool:
    """Whether it names a bucket and a key, or still the place that the kit fills in when it publishes."""
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    is_bucket = bucket == "BUCKET_NAME" or BUCKET.fullmatch(bucket) is not None
    return uri.startswith("s3://") and is_bucket and bool(key)


def _lifecycle(place: str, given: Any, stems: set[str]) -> Iterator[str]:
    if not isinstance(given, dict):
        yield f"{place}: Lifecycle is missing"
        return
    yield from _keys(f"{place}.Lifecycle", given, STEPS)
    for name in sorted(STEPS - given.keys()):
        yield f"{place}.Lifecycle: there is no step {name}"
    for name, step in given.items():
        where = f"{place}.Lifecycle.{name}"
        if not isinstance(step, dict):
            yield f"{where}: write it as a map with Script"
            continue
        yield from _keys(where, step, STEP)
        yield from _step(where, name, step)
        script, environment = step.get("Script"), step.get("Setenv", {})
        if not isinstance(script, str) or not isinstance(environment, dict):
            continue
        texts = [script, *map(str, environment.values())]
        for text in texts:
            yield from _variables(where, text, stems)
        yield from _script(where, name, script)


def _step(where: str, name: str, step: Mapping[str, Any]) -> Iterator[str]:
    timeout = str(step.get("Timeout", ""))
    if timeout and not timeout.isdigit():
        yield f"{where}: Timeout has to be digits; nucleus lite reads it before it puts in variables"
    elif name == "install" and int(timeout or 120) < LEAST_INSTALL_SECONDS:
        yield f"{where}: Timeout has to be {LEAST_INSTALL_SECONDS} at least; packages come over slow lines"
    if str(step.get("RequiresPrivilege", "false")).lower() != "false":
        yield f"{where}: RequiresPrivilege makes us root, which nothing here needs"
    if not isinstance(step.get("Script"), str):
        yield f"{where}: Script has to be a text"
    environment = step.get("Setenv", {})
    if not isinstance(environment, dict):
        yield f"{where}: Setenv is no map"
        return
    for key, value in environment.items():
        if not isinstance(value, str) or not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", str(key)):
            yield f"{where}.Setenv.{key}: nucleus lite wants an identifier and a text"


def _variables(where: str, text: str, stems: set[str]) -> Iterator[str]:
    found = re.findall(r"\{([^{}]*)\}", text)
    if "{" in re.sub(r"\{[^{}]*\}", "", text) or any(":" not in one for one in found):
        yield f"{where}: a brace begins a variable; nucleus lite cuts the script off there, without an error"
    for one in found:
        if one.startswith("configuration:"):
            yield f"{where}: {{{one}}} is quoted by one nucleus and not by the other; ask over IPC"
        elif one.count(":") > 1:
            yield f"{where}: {{{one}}} is of another component, which nucleus lite cannot put in"
        elif ":" in one and one not in VARIABLES:
            yield f"{where}: {{{one}}} is no variable of a recipe"
    for rest in re.findall(r"\{artifacts:decompressedPath\}(/[^/'\"\s]*|)", text):
        if rest.lstrip("/") not in stems:
            names = ", ".join(stems) or "there is none"
            yield f"{where}: behind decompressedPath comes the name of the zip: {names}"


def _script(where: str, name: str, script: str) -> Iterator[str]:
    if len(script) > LONGEST_SCRIPT:
        yield f"{where}: nucleus lite takes {LONGEST_SCRIPT} bytes of script"
    if re.search(r"\b(pip3?|apt(-get)?|curl|wget)\b", script):
        yield f"{where}: asks the network at each start; call a script that does nothing when all is there"
    if name == "run" and not script.startswith("exec "):
        yield f"{where}: begin with exec; else the shell gets our signals, and its exit code counts"
    if re.search(r"\|\|\s*true\b|\bexit 0\b", script):
        yield f"{where}: an exit code of 0 is the end for good; let failures be seen"


def main(recipe: str = "recipe.yaml", kit: str = "gdk-config.json") -> int:
    """Check the source of a recipe, and what the kit is told about it."""
    text = Path(recipe).read_text(encoding="utf-8")
    faults = [*recipe_faults(text), *gdk_faults(Path(kit).read_text(encoding="utf-8"), text)]
    for sentence in faults:
        print(sentence, file=sys.stderr)
    return int(bool(faults))


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
