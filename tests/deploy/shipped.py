"""The packages of this machine as the wheels they came from, and a nucleus that installs and runs a component."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import zipfile
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from packaging.requirements import Requirement

if TYPE_CHECKING:
    from collections.abc import Mapping

SECONDS = 300


def repack(requirements: Path, folder: Path) -> None:
    """Write a wheel of each package that the requirements need, made of what is installed here."""
    folder.mkdir()
    waiting = [
        Requirement(line) for line in requirements.read_text().splitlines() if line[:1] not in {"", "#"}
    ]
    done: set[str] = set()
    while waiting:
        wanted = waiting.pop()
        if wanted.name.lower() in done or (wanted.marker and not wanted.marker.evaluate({"extra": ""})):
            continue
        done.add(wanted.name.lower())
        package = metadata.distribution(wanted.name)
        waiting += [Requirement(line) for line in package.requires or ()]
        _write(package, folder)


def _write(package: metadata.Distribution, folder: Path) -> None:
    tags = re.findall(r"^Tag: (\S+)$", package.read_text("WHEEL") or "", re.MULTILINE)
    name = re.sub(r"[-_.]+", "_", package.metadata["Name"])
    python, abi, platform = zip(*(tag.split("-") for tag in tags), strict=True)
    tag = "-".join(".".join(dict.fromkeys(part)) for part in (python, abi, platform))
    with zipfile.ZipFile(folder / f"{name}-{package.version}-{tag}.whl", "w") as file:
        for one in package.files or ():
            path = Path(str(one.locate()))
            left_out = one.suffix == ".pyc" or ".." in one.parts or one.name in {"INSTALLER", "REQUESTED"}
            if not left_out and path.exists():
                file.write(path, str(one))


class Device:
    """Does with a built component what a nucleus does: unpacks it, puts in the variables, runs its steps."""

    def __init__(self, root: Path, recipe: Path, archive: Path) -> None:
        self._recipe: dict[str, Any] = yaml.safe_load(recipe.read_text())
        name, version = self._recipe["ComponentName"], self._recipe["ComponentVersion"]
        unpacked = root / "packages/artifacts-unarchived" / name / version
        self.work = root / "work" / name
        self.work.mkdir(parents=True)
        # nucleus lite writes both with a slash at their end
        self._variables = {"artifacts:decompressedPath": f"{unpacked}/", "work:path": f"{self.work}/"}
        self.artifacts = unpacked / archive.stem
        with zipfile.ZipFile(archive) as file:
            file.extractall(self.artifacts)
        (self._manifest,) = self._recipe["Manifests"]

    @property
    def defaults(self) -> dict[str, Any]:
        configuration: dict[str, Any] = self._recipe["ComponentConfiguration"]["DefaultConfiguration"]
        return configuration

    def install(self, environment: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["/bin/sh", "-c", self._script("install")],
            cwd=self.work,
            env=dict(environment),
            capture_output=True,
            text=True,
            check=False,
            timeout=SECONDS,
        )

    def run(self, environment: Mapping[str, str], log: Path) -> subprocess.Popen[bytes]:
        step = self._manifest["Lifecycle"]["run"]
        setenv = {name: self._filled(value) for name, value in step["Setenv"].items()}
        with log.open("ab") as output:
            return subprocess.Popen(
                ["/bin/sh", "-c", self._script("run")],
                cwd=self.work,
                env=dict(environment) | setenv,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )

    def _script(self, step: str) -> str:
        return self._filled(self._manifest["Lifecycle"][step]["Script"])

    def _filled(self, text: str) -> str:
        return re.sub(r"\{([^{}]+)\}", lambda found: self._variables[found[1]], text)


def bare_environment(folder: Path) -> dict[str, str]:
    """What a component user has: a Python, the tools of the system, and nothing of this checkout."""
    folder.mkdir()
    (folder / "python3").symlink_to(os.path.realpath(sys.executable))
    for tool in ("ln", "rm", "sh"):
        (folder / tool).symlink_to(f"/bin/{tool}")
    return {"PATH": str(folder), "HOME": str(folder), "PIP_CONFIG_FILE": os.devnull, "PIP_NO_INDEX": "1"}
