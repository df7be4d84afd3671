"""Finds what is wrong with what the kit is told: gdk-config.json, and the recipe it goes with."""

from __future__ import annotations

import json
import re
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

NEEDED = ("**/.*", "**/__pycache__", "tests/**")
"""With options of any kind the kit forgets what it leaves out by itself, and then packs these."""

SHIPPED = ("install.sh", "requirements.txt", "LICENSE", "src", "src/**", "wheels", "wheels/**")


def gdk_faults(kit: str, recipe: str) -> list[str]:
    """Return a sentence for each fault; `kit` and `recipe` are the texts of the two files."""
    try:
        told = json.loads(kit)
    except ValueError as err:
        return [f"gdk-config.json is no JSON: {err}"]
    components = told.get("component")
    if not isinstance(components, dict) or len(components) != 1:
        return ["gdk-config.json: component has to hold exactly one component"]
    ((name, component),) = components.items()
    faults = [*_component(name, component)]
    if not re.fullmatch(r"\d+\.\d+\.\d+", str(told.get("gdk_version"))):
        faults.append("gdk-config.json: gdk_version is missing")
    build = component.get("build", {})
    if build.get("build_system") != "zip":
        return [*faults, "gdk-config.json: build_system has to be zip"]
    return [*faults, *_options(build.get("options"), recipe)]


def _component(name: str, component: Any) -> Iterator[str]:
    if not re.fullmatch(r"[A-Za-z0-9._-]{1,128}", name):
        yield f"gdk-config.json: {name} is no name of a component"
    if not re.fullmatch(r"\d{1,6}\.\d{1,6}\.\d{1,6}", str(component.get("version"))):
        yield "gdk-config.json: version has to be fixed, such as 1.2.3; NEXT_PATCH stays as it is"
    if not component.get("author"):
        yield "gdk-config.json: author is missing"
    if not {"bucket", "region"} <= component.get("publish", {}).keys():
        yield "gdk-config.json: publish needs bucket and region"


def _options(options: Any, recipe: str) -> Iterator[str]:
    if not isinstance(options, dict) or not options.get("zip_name"):
        yield "gdk-config.json: options.zip_name is missing; then the zip is called as the folder is"
        return
    zip_name = f"{options['zip_name']}.zip"
    for uri in re.findall(r"Uri: \"?(s3://[^\s\"]+)", recipe):
        if (wanted := PurePosixPath(uri).name) != zip_name:
            yield f"gdk-config.json: zip_name makes {zip_name}, and the recipe wants {wanted}"
    excludes = options.get("excludes", [])
    for needed in NEEDED:
        if needed not in excludes:
            yield f"gdk-config.json: excludes lacks {needed}; with options the kit has no defaults"
    if "**/test*" in excludes:
        yield "gdk-config.json: excludes **/test* takes away sources whose names begin with test, too"
    for shipped in SHIPPED:
        if shipped in excludes:
            yield f"gdk-config.json: excludes {shipped}, which the component needs"
