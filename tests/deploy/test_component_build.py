"""What `make component` writes is what the kit would: laid out so, small, the same each time, complete."""

from __future__ import annotations

import hashlib
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

from tests.deploy.test_install import HERE, wheel
from tidegate import __version__
from tools.component import LARGEST_ZIP, BuildError, build, main, write_zip
from tools.recipe_lint import recipe_faults
from tools.wheelhouse import Target, missing_for

ROOT = Path(__file__).parent.parent.parent
NAME = "io.tidegate.S3Agent"
PLACEHOLDER = "s3://BUCKET_NAME/COMPONENT_NAME/COMPONENT_VERSION/tidegate.zip"
SOURCES = (
    "recipe.yaml",
    "gdk-config.json",
    "install.sh",
    "requirements.txt",
    "LICENSE",
    "README.md",
    "Makefile",
)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A copy of what is needed to build, and some things that must not come along."""
    root = tmp_path / "checkout [1]"
    root.mkdir()
    for name in SOURCES:
        shutil.copy(ROOT / name, root / name)
    shutil.copytree(ROOT / "src", root / "src")
    for name in (
        *(
            "tests/test_a.py",
            "docs/a.md",
            "examples/a.yaml",
            "bench/a.py",
            "tools/a.py",
            ".venv/lib/a.py",
            ".git/a",
        ),
        *(
            "src/tidegate/__pycache__/a.pyc",
            "src/tidegate/.a.swp",
            "src/tidegate.egg-info/a",
            "zip-build/a/a",
        ),
        *("greengrass-build/artifacts/a", "demo-data/a.csv"),
    ):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text("not for devices")
    return root


def run(project: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "tools.component", "--root", str(project), *arguments],
        cwd=ROOT,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def test_it_is_laid_out_as_by_the_kit_and_holds_what_a_device_needs_and_nothing_else(project: Path) -> None:
    recipe, archive = build(project)
    written = {
        str(it.relative_to(project)) for it in (project / "greengrass-build").rglob("*") if it.is_file()
    }
    assert written == {
        "greengrass-build/recipes/recipe.yaml",
        f"greengrass-build/artifacts/{NAME}/{__version__}/tidegate.zip",
    }
    assert {str(recipe.relative_to(project)), str(archive.relative_to(project))} == written
    modules = {
        str(it.relative_to(ROOT))
        for it in (ROOT / "src").rglob("*")
        if it.suffix in {".py", ".sql", ".typed", ".html", ".css"}
    }
    with zipfile.ZipFile(archive) as file:
        names = {name for name in file.namelist() if not name.endswith("/")}
    assert names == {"LICENSE", "install.sh", "requirements.txt"} | modules
    assert archive.stat().st_size <= LARGEST_ZIP == 1_048_576


def test_the_same_files_make_the_same_zip_whatever_their_dates_and_order(project: Path) -> None:
    digests = []
    for seconds in (1_000_000_000, 1_700_000_000):
        for path in sorted(project.rglob("*"), reverse=bool(digests)):
            os.utime(path, (seconds, seconds))
        _, archive = build(project)
        digests.append(hashlib.sha256(archive.read_bytes()).hexdigest())
    assert len(set(digests)) == 1
    files = {name: project / name for name in ("LICENSE", "install.sh")}
    for name, order in (("a", files), ("b", dict(reversed(files.items())))):
        write_zip(project / name, order)
    assert (project / "a").read_bytes() == (project / "b").read_bytes()


def test_of_modes_only_that_something_is_run_comes_along(project: Path) -> None:
    (project / "LICENSE").chmod(0o600)
    (project / "install.sh").chmod(0o700)
    _, archive = build(project)
    with zipfile.ZipFile(archive) as file:
        modes = {entry.filename: entry.external_attr >> 16 for entry in file.infolist()}
    assert (modes["LICENSE"], modes["install.sh"], modes["src/"]) == (0o100644, 0o100755, 0o40755)


def test_the_recipe_is_filled_in_and_otherwise_what_it_was(project: Path) -> None:
    recipe, _ = build(project)
    text = recipe.read_text()
    assert recipe_faults(text, built=True) == []
    source, built = yaml.safe_load((ROOT / "recipe.yaml").read_text()), yaml.safe_load(text)
    filled = {"ComponentName": NAME, "ComponentVersion": __version__, "ComponentPublisher": "tidegate"}
    assert built == source | filled
    assert list(built) == list(source)
    assert (
        built["Manifests"][0]["Artifacts"][0]["Uri"] == PLACEHOLDER
    )  # as the kit leaves it until it publishes


def test_with_a_bucket_the_recipe_says_where_the_zip_will_be(project: Path) -> None:
    done = run(project, "--bucket", "my-artifacts")
    assert done.returncode == 0, done.stderr
    recipe: dict[str, Any] = yaml.safe_load((project / "greengrass-build/recipes/recipe.yaml").read_text())
    (artifact,) = recipe["Manifests"][0]["Artifacts"]
    assert artifact["Uri"] == f"s3://my-artifacts/{NAME}/{__version__}/tidegate.zip"


@pytest.mark.parametrize("bucket", ["s3://my-artifacts", "My Bucket", "my-artifacts/", "a"])
def test_what_is_not_the_name_of_a_bucket_is_refused_before_anything_is_built(
    project: Path, capsys: pytest.CaptureFixture[str], bucket: str
) -> None:
    assert main(["--root", str(project), "--bucket", bucket]) == 1
    assert f'BUCKET (--bucket): "{bucket}" is not the name of a bucket; write' in capsys.readouterr().err
    assert not (project / "greengrass-build/recipes").exists()


def test_a_recipe_with_a_mistake_is_not_built(project: Path) -> None:
    recipe = project / "recipe.yaml"
    recipe.write_text(recipe.read_text().replace('runtime: "*"', "architecture: arm"))
    done = run(project)
    assert done.returncode == 1
    assert "runtime has to be" in done.stderr
    assert list(project.rglob("tidegate.zip")) == []


def test_what_is_too_large_is_not_built_and_named(project: Path) -> None:
    (project / "src/tidegate/film.bin").write_bytes(os.urandom(LARGEST_ZIP))
    with pytest.raises(BuildError, match=r"(?s)more than 1048576 bytes.*1048576  src/tidegate/film\.bin"):
        build(project)


@pytest.mark.slow
def test_make_component_builds_without_a_network(project: Path) -> None:
    made = subprocess.run(
        ["make", "--no-print-directory", "-C", str(ROOT), "component", f"FLAGS=--root '{project}'"],
        env=os.environ | {"http_proxy": "http://127.0.0.1:9", "https_proxy": "http://127.0.0.1:9"},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert made.returncode == 0, made.stderr
    assert re.search(r"^ +\d+  .*/greengrass-build/recipes/recipe\.yaml$", made.stdout, re.MULTILINE)


# Wheels. The registry is a folder.


@pytest.fixture
def registry(tmp_path: Path, project: Path) -> Path:
    folder = tmp_path / "registry"
    wheel(folder, "tidegate_probe", "1.0")
    (project / "requirements.txt").write_text("# all\ntidegate_probe>=1,<2\n")
    return folder


def from_folder(registry: Path) -> dict[str, str]:
    return {"PIP_CONFIG_FILE": os.devnull, "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(registry)}


def test_wheels_for_several_targets_come_along_and_are_named(project: Path, registry: Path) -> None:
    done = run(project, "--wheels", f"cp310-aarch64 {HERE}", **from_folder(registry))
    assert done.returncode == 0, done.stderr
    with zipfile.ZipFile(project / f"greengrass-build/artifacts/{NAME}/{__version__}/tidegate.zip") as file:
        wheels = {name for name in file.namelist() if name.startswith("wheels/")}
        assert file.read("wheels/targets").decode() == f"cp310-aarch64\n{HERE}\n"
    assert wheels == {"wheels/", "wheels/targets", "wheels/tidegate_probe-1.0-py3-none-any.whl"}


def test_a_registry_without_a_wheel_is_said(project: Path, registry: Path) -> None:
    (project / "requirements.txt").write_text("tidegate_probe>=2\n")
    done = run(project, "--wheels", "cp311-aarch64", **from_folder(registry))
    assert done.returncode == 1
    assert "pip found no wheels of everything in requirements.txt for cp311-aarch64" in done.stderr


@pytest.mark.parametrize("text", ["cp27-aarch64", "cp311", "cp311-sparc", "cp39-aarch64", "py311-aarch64"])
def test_a_target_that_there_is_not_is_said(project: Path, text: str) -> None:
    done = run(project, "--wheels", text)
    assert done.returncode == 1
    assert f"{text} is no target; write for example cp311-aarch64" in done.stderr


def wheel_of(folder: Path, name: str, *needs: str) -> None:
    """Write an empty wheel of this file name, with requirements of its own."""
    folder.mkdir(exist_ok=True)
    project, version = name.split("-")[:2]
    with zipfile.ZipFile(folder / f"{name}.whl", "w") as file:
        lines = ["Metadata-Version: 2.1", f"Name: {project}", f"Version: {version}"]
        file.writestr(
            f"{project}-{version}.dist-info/METADATA",
            "\n".join([*lines, *(f"Requires-Dist: {need}" for need in needs), "", ""]),
        )
        tag = name.split("-", 2)[2]
        file.writestr(f"{project}-{version}.dist-info/WHEEL", f"Wheel-Version: 1.0\nTag: {tag}\n")


def test_a_wheelhouse_is_complete_only_with_what_wheels_need_for_that_python_and_machine(
    tmp_path: Path,
) -> None:
    wheels, requirements = tmp_path / "wheels", tmp_path / "requirements.txt"
    requirements.write_text("agent>=1\n")
    needs = (
        'crt; python_version >= "3.11"',
        'old; python_version < "3.11"',
        'win; sys_platform == "win32"',
        'arm; platform_machine == "aarch64"',
        'nice; extra == "nice"',
    )
    wheel_of(wheels, "agent-1.0-py3-none-any", *needs)
    wheel_of(wheels, "crt-1.0-cp311-abi3-manylinux2014_aarch64.manylinux_2_17_aarch64")
    wheel_of(wheels, "old-1.0-cp310-cp310-manylinux_2_28_x86_64")
    new, old = Target.parse("cp312-aarch64"), Target.parse("cp310-x86_64")
    assert list(missing_for(new, requirements, wheels)) == ['arm; platform_machine == "aarch64"']
    wheel_of(wheels, "arm-1.0-py2.py3-none-any")
    assert list(missing_for(new, requirements, wheels)) == []
    assert list(missing_for(old, requirements, wheels)) == []
    assert list(missing_for(Target.parse("cp310-aarch64"), requirements, wheels)) == [needs[1]]
    assert list(missing_for(Target.parse("cp311-x86_64"), requirements, wheels)) == [needs[0]]


def test_wheels_that_pip_leaves_out_because_it_asks_its_own_python_are_missed(
    project: Path, registry: Path
) -> None:
    other = f"3.{sys.version_info[1] + 1}"
    wheel_of(registry, "tidegate_probe-1.1-py3-none-any", f'tidegate_more; python_version >= "{other}"')
    target = f"cp{other.replace('.', '')}-aarch64"
    done = run(project, "--wheels", target, **from_folder(registry))
    assert done.returncode == 1
    assert f"for {target} these are missing: tidegate_more" in done.stderr
