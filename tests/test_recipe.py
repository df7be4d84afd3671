"""The recipe keeps the rules of both nuclei, its defaults are good, and its install script does what it says."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
import yaml

from tidegate import __version__
from tidegate.carry.streams.carrier import COMPONENT
from tidegate.config import KEYS, parse
from tidegate.errors import ConfigFaults

ROOT = Path(__file__).parent.parent
INSTALL = ROOT / "install.sh"
RECIPE: dict[str, Any] = yaml.safe_load((ROOT / "recipe.yaml").read_text(encoding="utf-8"))
DEFAULTS: dict[str, Any] = RECIPE["ComponentConfiguration"]["DefaultConfiguration"]
GDK: dict[str, Any] = json.loads((ROOT / "gdk-config.json").read_text(encoding="utf-8"))
(MANIFEST,) = RECIPE["Manifests"]
STEPS: dict[str, dict[str, Any]] = MANIFEST["Lifecycle"]
BUILD = GDK["component"][COMPONENT]["build"]


def recipe_variables(script: str) -> list[str]:
    return re.findall(r"\{[^{}]*\}", script)


def test_the_recipe_is_of_the_one_format_and_small_enough_to_be_read() -> None:
    assert RECIPE["RecipeFormatVersion"] == "2020-01-25"
    assert (ROOT / "recipe.yaml").stat().st_size < 16_000


def test_name_version_and_author_are_for_the_kit_to_fill_in() -> None:
    filled = [RECIPE[key] for key in ("ComponentName", "ComponentVersion", "ComponentPublisher")]
    assert filled == ["{COMPONENT_NAME}", "{COMPONENT_VERSION}", "{COMPONENT_AUTHOR}"]


def test_the_manifest_is_taken_by_both_nuclei() -> None:
    assert MANIFEST["Platform"] == {"os": "linux", "runtime": "*"}
    assert set(MANIFEST) == {"Name", "Platform", "Artifacts", "Lifecycle"}
    assert list(STEPS) == ["install", "run"]
    for step in STEPS.values():
        assert set(step) <= {"Script", "Setenv", "Timeout"}


def test_every_dependency_says_of_which_type_it_is() -> None:
    for dependency in RECIPE["ComponentDependencies"].values():
        assert set(dependency) == {"VersionRequirement", "DependencyType"}
        assert dependency["DependencyType"] in {"HARD", "SOFT"}


def test_the_artifact_is_the_zip_that_the_kit_builds() -> None:
    (artifact,) = MANIFEST["Artifacts"]
    assert artifact["Unarchive"] == "ZIP"
    assert (
        artifact["Uri"]
        == f"s3://BUCKET_NAME/COMPONENT_NAME/COMPONENT_VERSION/{BUILD['options']['zip_name']}.zip"
    )


def test_scripts_hold_no_brace_but_of_a_variable_and_no_configuration() -> None:
    folder = f"{{artifacts:decompressedPath}}/{BUILD['options']['zip_name']}/"
    texts = [step["Script"] for step in STEPS.values()]
    texts += [value for step in STEPS.values() for value in step.get("Setenv", {}).values()]
    for text in texts:
        assert set(recipe_variables(text)) <= {"{artifacts:decompressedPath}", "{work:path}"}
        assert "{" not in re.sub(r"\{[^{}]*\}", "", text)
        assert text.count("{artifacts:decompressedPath}") == text.count(folder[:-1])


def test_the_run_step_starts_the_agent_in_what_the_install_step_has_made() -> None:
    assert STEPS["run"]["Script"] == "exec '{work:path}/venv/bin/python3' -u -m tidegate"  # and no command
    assert STEPS["run"]["Setenv"]["PYTHONPATH"].endswith("/src")
    assert "/install.sh' " in STEPS["install"]["Script"]
    assert int(STEPS["install"]["Timeout"]) >= 600


def test_every_default_is_text() -> None:
    assert {type(value) for key, value in DEFAULTS.items() if key != "accessControl"} == {str}
    assert DEFAULTS["accessControl"] == {}


def test_the_defaults_are_those_of_the_agent() -> None:
    keys = {key.name: key for key in KEYS}
    for name, value in DEFAULTS.items():
        if value:
            assert keys[name].kind.read(value) == keys[name].kind.read(keys[name].default)


def test_with_a_path_and_a_bucket_the_defaults_are_a_good_configuration() -> None:
    (source,) = parse(DEFAULTS | {"PathName": "/data/*.csv", "BucketName": "my-bucket"}).sources
    assert source.bucket == "my-bucket"


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


def test_what_is_for_developers_only_stays_out_of_the_zip() -> None:
    excluded = set(BUILD["options"]["excludes"])
    assert {"**/.*", "**/__pycache__", "tests/**", "bench/**", "examples/**"} <= excluded
    assert not excluded & {"src/**", "install.sh", "requirements.txt", "LICENSE"}


# The install script, run as Greengrass runs it. Packages come from a folder, so that no network is needed.


def wheel(folder: Path, name: str, version: str) -> None:
    """Build the smallest package there is."""
    folder.mkdir(exist_ok=True)
    info = f"{name}-{version}.dist-info"
    with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as file:
        file.writestr(f"{name}.py", f"version = {version!r}\n")
        file.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        file.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        file.writestr(f"{info}/RECORD", "")


class Device:
    """A device with one Python and nothing else that the script could find."""

    def __init__(self, folder: Path) -> None:
        self.artifacts, self.work, self.bin = (folder / name for name in ("artifacts 1", "work 1", "bin"))
        for made in (self.artifacts, self.work, self.bin):
            made.mkdir()
        for tool in ("ln", "rm"):
            (self.bin / tool).symlink_to(str(shutil.which(tool)))

    def has_python(self, changes: str = "") -> None:
        """Make the Python of this test the device's `python3`, with something about it changed."""
        python = self.bin / "python3"
        if not changes:
            python.symlink_to(os.path.realpath(sys.executable))
            return
        lines = ["import sys", changes, "code, sys.argv = sys.argv[2], sys.argv[2:]", "exec(code)"]
        python.write_text("\n".join([f"#!{os.path.realpath(sys.executable)}", *lines, ""]))
        python.chmod(0o755)

    def needs(self, version: str) -> None:
        wheel(self.artifacts / "wheels", "tidegate_probe", version)
        (self.artifacts / "requirements.txt").write_text(f"tidegate_probe=={version}\n")

    def install(self) -> subprocess.CompletedProcess[str]:
        script = ["/bin/sh", str(INSTALL), str(self.artifacts), str(self.work)]
        return subprocess.run(
            script, env={"PATH": str(self.bin)}, capture_output=True, text=True, check=False, timeout=120
        )

    def installed(self) -> str:
        command = [self.work / "venv/bin/python3", "-c", "import tidegate_probe as p; print(p.version)"]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


@pytest.fixture
def device(tmp_path: Path) -> Device:
    return Device(tmp_path)


@pytest.mark.slow
def test_installing_again_does_nothing_and_what_is_installed_stays_until_its_successor_is_complete(
    device: Device,
) -> None:
    wheels = device.artifacts / "wheels"
    device.has_python()
    device.needs("1.0")
    first = device.install()
    assert first.returncode == 0, first.stderr
    assert device.installed() == "1.0"
    wheels.rename(device.artifacts / "no wheels")  # and no network: the probe is no package of any registry
    again = device.install()
    assert (again.returncode, again.stdout, again.stderr) == (0, "", "")
    (device.artifacts / "no wheels").rename(wheels)

    device.needs("2.0")
    (wheels / "tidegate_probe-2.0-py3-none-any.whl").rename(device.artifacts / "kept.whl")
    failed = device.install()
    assert failed.returncode == 1
    assert "could not be installed: is the device online?" in failed.stderr
    assert device.installed() == "1.0"
    (device.artifacts / "kept.whl").rename(wheels / "tidegate_probe-2.0-py3-none-any.whl")
    second = device.install()
    assert second.returncode == 0, second.stderr
    assert device.installed() == "2.0"
    assert len(list(device.work.iterdir())) == 2  # one environment, and the link to it


def test_a_python_that_is_too_old_is_named(device: Device) -> None:
    device.has_python("sys.version_info = (3, 9, 2)")
    found = device.install()
    assert found.returncode == 1
    assert "tidegate needs Python 3.10 or newer" in found.stderr
    assert "is Python 3.9, which is too old" in found.stderr


def test_a_python_without_venv_is_named_with_the_package_to_install(device: Device) -> None:
    device.has_python("sys.modules['ensurepip'] = None")
    found = device.install()
    assert found.returncode == 1
    major, minor = sys.version_info[:2]
    assert f"apt-get install python{major}.{minor}-venv" in found.stderr


def test_no_python_at_all_is_said(device: Device) -> None:
    found = device.install()
    assert found.returncode == 1
    assert "no python3" in found.stderr
