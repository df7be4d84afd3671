"""The install script, run as Greengrass runs it. Packages come from a folder, so that no network is needed."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

INSTALL = Path(__file__).parent.parent.parent / "install.sh"
HERE = f"cp{sys.version_info[0]}{sys.version_info[1]}-{platform.machine()}"


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
        self.wheels = self.artifacts / "wheels"
        self.registry = folder / "registry"

    def has_python(self, changes: str = "", name: str = "python3") -> None:
        """Make the Python of this test one of the device's, with something about it changed."""
        python = self.bin / name
        if not changes:
            python.symlink_to(os.path.realpath(sys.executable))
            return
        lines = ["import sys", changes, "code, sys.argv = sys.argv[2], sys.argv[2:]", "exec(code)"]
        python.write_text("\n".join([f"#!{os.path.realpath(sys.executable)}", *lines, ""]))
        python.chmod(0o755)

    def needs(self, version: str) -> None:
        wheel(self.wheels, "tidegate_probe", version)
        self.requires(version)

    def requires(self, version: str) -> None:
        (self.artifacts / "requirements.txt").write_text(f"tidegate_probe=={version}\n")

    def publish(self, version: str) -> None:
        """Have the registry offer it: a folder that pip asks as it would ask a server."""
        place = self.registry / "tidegate-probe"
        place.mkdir(parents=True, exist_ok=True)
        wheel(place, "tidegate_probe", version)
        links = "".join(f'<a href="{one.name}">{one.name}</a>' for one in place.glob("*.whl"))
        (place / "index.html").write_text(f"<!DOCTYPE html><html><body>{links}</body></html>")

    def install(self) -> subprocess.CompletedProcess[str]:
        script = ["/bin/sh", str(INSTALL), str(self.artifacts), str(self.work)]
        return subprocess.run(
            script,
            env={
                "PATH": str(self.bin),
                "PIP_CONFIG_FILE": os.devnull,
                "PIP_INDEX_URL": self.registry.as_uri(),
            },
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )

    def installed(self) -> str:
        command = [self.work / "venv/bin/python3", "-c", "import tidegate_probe as p; print(p.version)"]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


@pytest.fixture
def device(tmp_path: Path) -> Device:
    return Device(tmp_path)


def sentences(text: str) -> list[str]:
    """Return what the script itself said, without what pip said before it."""
    return [line for line in text.splitlines() if line and not line.startswith(("ERROR:", "WARNING:"))]


@pytest.mark.slow
def test_installing_again_does_nothing_and_what_is_installed_stays_until_its_successor_is_complete(
    device: Device,
) -> None:
    device.has_python()
    device.needs("1.0")
    first = device.install()
    assert first.returncode == 0, first.stderr
    assert device.installed() == "1.0"
    device.wheels.rename(device.artifacts / "no wheels")  # and no registry
    again = device.install()
    assert (again.returncode, again.stdout, again.stderr) == (0, "", "")
    (device.artifacts / "no wheels").rename(device.wheels)

    device.needs("2.0")
    (device.wheels / "tidegate_probe-2.0-py3-none-any.whl").rename(device.artifacts / "kept.whl")
    device.publish("2.0")  # is not asked where there are wheels
    failed = device.install()
    assert failed.returncode == 1
    (sentence,) = sentences(failed.stderr)
    assert sentence.endswith(f"could not be installed: are all of them in {device.wheels}?")
    assert device.installed() == "1.0"
    (device.artifacts / "kept.whl").rename(device.wheels / "tidegate_probe-2.0-py3-none-any.whl")
    second = device.install()
    assert second.returncode == 0, second.stderr
    assert device.installed() == "2.0"

    device.requires("1.0")
    shutil.rmtree(device.wheels)  # going back needs neither wheels nor a registry
    assert device.install().returncode == 0
    assert device.installed() == "1.0"
    device.needs("3.0")
    assert device.install().returncode == 0
    assert device.installed() == "3.0"
    assert len(list(device.work.iterdir())) == 3  # this environment, the one before, and the link


@pytest.mark.slow
def test_without_wheels_packages_come_from_the_registry_and_its_absence_is_said(device: Device) -> None:
    device.has_python()
    device.requires("1.0")
    offline = device.install()
    assert offline.returncode == 1
    (sentence,) = sentences(offline.stderr)
    assert sentence.endswith("could not be installed: is the device online?")
    device.publish("1.0")
    later = device.install()
    assert later.returncode == 0, later.stderr
    assert device.installed() == "1.0"


@pytest.mark.slow
def test_the_newest_python_that_will_do_and_that_the_wheels_are_for_is_taken(device: Device) -> None:
    device.has_python("sys.modules['ensurepip'] = None", "python3.13")
    device.has_python(name="python3.10")
    device.has_python()
    device.needs("1.0")
    (device.wheels / "targets").write_text("cp399-riscv64\ncp310-mips\n")
    refused = device.install()
    assert refused.returncode == 1
    assert f"the artifact has no wheels for {HERE}, but for: cp399-riscv64 cp310-mips" in refused.stderr
    (device.wheels / "targets").write_text(f"cp399-riscv64\n{HERE}\n")
    done = device.install()
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("installing with python3.10 into ")
    assert device.installed() == "1.0"


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
    (sentence,) = sentences(found.stderr)
    assert sentence.endswith("no python3")


def without_pip(device: Device) -> None:
    """A Python whose `-m venv` makes an environment that holds a Python and no pip."""
    real = os.path.realpath(sys.executable)
    python = device.bin / "python3"
    python.write_text(
        f'#!/bin/sh\n[ "$1" = -m ] || exec {real} "$@"\nshift 2\nexec {real} -m venv --without-pip "$@"\n'
    )
    python.chmod(0o755)


def test_environments_without_pip_are_named_with_the_package_to_install(device: Device) -> None:
    without_pip(device)
    device.needs("1.0")
    found = device.install()
    assert found.returncode == 1
    (sentence,) = sentences(found.stderr)
    assert "makes virtual environments without pip" in sentence
    assert "apt-get install python3-pip" in sentence


def test_an_environment_that_cannot_be_made_is_said(device: Device) -> None:
    device.has_python()
    device.needs("1.0")
    shutil.rmtree(device.work)
    device.work.write_text("no folder")
    found = device.install()
    assert found.returncode == 1
    assert "could not make a virtual environment" in found.stderr.splitlines()[-1]
