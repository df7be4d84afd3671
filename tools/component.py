"""Builds the component as the kit of AWS does (`gdk component build`), without the kit, AWS or a network.

    python -m tools.component [--wheels "cp311-aarch64 cp312-x86_64"] [--bucket NAME]

It writes greengrass-build/recipes/recipe.yaml and greengrass-build/artifacts/NAME/VERSION/tidegate.zip. The
same files make the same zip. With --wheels the packages come along (this does need a registry); with --bucket
the recipe says where the zip will be, as `aws greengrassv2 create-component-version` wants it.
"""

from __future__ import annotations

import argparse
import glob
import json
import os
import shutil
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from tools.gdk_lint import gdk_faults
from tools.recipe_lint import BUCKET, recipe_faults
from tools.wheelhouse import MissingWheelsError, Target, collect

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

OUTPUT = "greengrass-build"
LARGEST_ZIP = 2**20
"""Bytes, without wheels."""

LONG_AGO = (1980, 1, 1, 0, 0, 0)
ALWAYS_EXCLUDED = ("gdk-config.json", OUTPUT, "recipe.yaml")


class BuildError(Exception):
    """The component cannot be built; the text says why, a line for each fault."""


def build(root: Path, *, targets: Sequence[Target] = (), bucket: str = "") -> tuple[Path, Path]:
    """Build what is in `root` and return recipe and zip. Raises BuildError, MissingWheelsError."""
    if bucket and not BUCKET.fullmatch(bucket):
        remedy = "write 3 to 63 lower-case letters, digits, hyphens and dots, for example my-artifacts"
        raise BuildError(f'BUCKET (--bucket): "{bucket}" is not the name of a bucket; {remedy}')
    recipe_text = (root / "recipe.yaml").read_text(encoding="utf-8")
    kit_text = (root / "gdk-config.json").read_text(encoding="utf-8")
    _refuse([*recipe_faults(recipe_text), *gdk_faults(kit_text, recipe_text)])
    ((name, component),) = json.loads(kit_text)["component"].items()
    options = component["build"]["options"]
    output = root / OUTPUT
    shutil.rmtree(output, ignore_errors=True)
    archive = output / "artifacts" / name / component["version"] / f"{options['zip_name']}.zip"
    archive.parent.mkdir(parents=True)
    files = packed(root, options["excludes"])
    with tempfile.TemporaryDirectory() as spare:
        wheels = Path(spare) / "wheels"
        if targets:
            collect(list(targets), root / "requirements.txt", wheels)
            files |= {f"wheels/{one.name}": one for one in wheels.iterdir()} | {"wheels/": wheels}
        write_zip(archive, files)
    if not targets and archive.stat().st_size > LARGEST_ZIP:
        raise BuildError(f"{archive} has more than {LARGEST_ZIP} bytes; what came along?\n{_largest(files)}")
    recipe = output / "recipes" / "recipe.yaml"
    recipe.parent.mkdir()
    filled = filled_in(yaml.safe_load(recipe_text), name, component, bucket)
    recipe.write_text(yaml.safe_dump(filled, sort_keys=False), encoding="utf-8")
    _refuse(recipe_faults(recipe.read_text(encoding="utf-8"), built=True))
    return recipe, archive


def filled_in(
    recipe: Mapping[str, Any], name: str, component: Mapping[str, Any], bucket: str = ""
) -> dict[str, Any]:
    """Return the recipe with what the kit puts into it, and where its artifacts are if a bucket is given."""
    filled = dict(recipe) | {
        "ComponentName": name,
        "ComponentVersion": component["version"],
        "ComponentPublisher": component["author"],
    }
    if bucket:
        for artifact in (one for manifest in filled["Manifests"] for one in manifest["Artifacts"]):
            where = f"s3://{bucket}/{name}/{component['version']}"
            artifact["Uri"] = f"{where}/{artifact['Uri'].rpartition('/')[2]}"
    return filled


def packed(root: Path, excludes: Sequence[str]) -> dict[str, Path]:
    """Return what goes into the zip, by its name there; names of folders end with a slash."""
    out = set()
    base = glob.escape(str(root))
    for pattern in (*ALWAYS_EXCLUDED, *excludes):
        paths = glob.glob(f"{base}/{pattern}", recursive=True)  # noqa: PTH207 - what the kit uses
        out |= {path.rstrip("/") for path in paths}
    found: dict[str, Path] = {}
    for folder, folders, files in os.walk(root, followlinks=True):
        folders[:] = [one for one in folders if f"{folder}/{one}" not in out]
        for one in folders:
            found[f"{os.path.relpath(f'{folder}/{one}', root)}/"] = Path(folder, one)
        for one in files:
            if f"{folder}/{one}" not in out:
                found[os.path.relpath(f"{folder}/{one}", root)] = Path(folder, one)
    return found


def write_zip(archive: Path, files: Mapping[str, Path]) -> None:
    """Write the files under these names, in one order, with one date, and of their mode only `x`."""
    with zipfile.ZipFile(archive, "w") as file:
        for name in sorted(files):
            entry = zipfile.ZipInfo(name, LONG_AGO)
            entry.create_system = 3  # Unix, so that the mode counts
            if name.endswith("/"):
                entry.external_attr = (0o40755 << 16) | 0x10
                file.writestr(entry, b"")
                continue
            mode = 0o755 if files[name].stat().st_mode & 0o100 else 0o644
            entry.external_attr = (0o100000 | mode) << 16
            entry.compress_type = zipfile.ZIP_STORED if name.endswith(".whl") else zipfile.ZIP_DEFLATED
            file.writestr(entry, files[name].read_bytes(), compresslevel=9)


def _refuse(faults: list[str]) -> None:
    if faults:
        raise BuildError("\n".join(faults))


def _largest(files: Mapping[str, Path]) -> str:
    sizes = sorted(((path.stat().st_size, name) for name, path in files.items()), reverse=True)
    return "\n".join(f"{size:>10}  {name}" for size, name in sizes[:5])


def main(arguments: Sequence[str] | None = None) -> int:
    """Build, and say what was made. Returns 1 after telling what is wrong."""
    parser = argparse.ArgumentParser(description="Build the Greengrass component.")
    parser.add_argument(
        "--wheels", default="", metavar="TARGETS", help='such as "cp311-aarch64 cp312-x86_64"'
    )
    parser.add_argument("--bucket", default="", metavar="NAME", help="where the artifact will be")
    parser.add_argument("--root", type=Path, default=Path.cwd(), help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    try:
        targets = [Target.parse(one) for one in options.wheels.split()]
        recipe, archive = build(options.root.resolve(), targets=targets, bucket=options.bucket)
    except (BuildError, MissingWheelsError, ValueError) as err:
        print(err, file=sys.stderr)
        return 1
    for made in (recipe, archive):
        print(f"{made.stat().st_size:>10}  {made}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
