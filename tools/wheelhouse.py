"""Collects the packages of a device that has no network, and makes sure that none is missing.

A target is `cp311-aarch64`: the version of CPython and the machine, as `uname -m` names it. The wheels of
several targets lie in one folder; the file `targets` beside them tells install.sh which ones they are for.
"""

from __future__ import annotations

import re
import subprocess
import sys
import zipfile
from dataclasses import dataclass
from email.parser import HeaderParser
from functools import cached_property
from typing import TYPE_CHECKING

from packaging.requirements import Requirement
from packaging.tags import Tag, compatible_tags, cpython_tags
from packaging.utils import canonicalize_name, parse_wheel_filename

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

LIBC = ((2, 17), (2, 28), (2, 31))
"""Versions of glibc that wheels may ask for; 2.31 is that of Debian 11 and Ubuntu 20.04."""

OLD_NAMES = {(2, 17): "manylinux2014"}


class MissingWheelsError(Exception):
    """Not everything that a device needs is there as a wheel; the text says what is missing."""


@dataclass(frozen=True)
class Target:
    """A CPython on a machine."""

    minor: int
    machine: str

    @classmethod
    def parse(cls, text: str) -> Target:
        """Read `cp311-aarch64`. Raises ValueError."""
        found = re.fullmatch(r"cp3(\d\d)-(aarch64|x86_64|armv7l)", text)
        if not found:
            raise ValueError(
                f"{text} is no target; write for example cp311-aarch64, or x86_64 or armv7l behind it"
            )
        return cls(int(found[1]), found[2])

    def __str__(self) -> str:
        return f"cp3{self.minor}-{self.machine}"

    @property
    def platforms(self) -> list[str]:
        """The platform tags of wheels that run there, the newest first."""
        tags = [f"manylinux_{major}_{minor}_{self.machine}" for major, minor in reversed(LIBC)]
        return [*tags, f"{OLD_NAMES[LIBC[0]]}_{self.machine}", f"linux_{self.machine}"]

    @cached_property
    def tags(self) -> frozenset[Tag]:
        """All tags of wheels that run there."""
        version = (3, self.minor)
        return frozenset(
            [
                *cpython_tags(version, platforms=self.platforms),
                *compatible_tags(version, f"cp3{self.minor}", self.platforms),
            ]
        )

    @property
    def markers(self) -> dict[str, str]:
        """What a requirement may ask about it."""
        return {
            "python_version": f"3.{self.minor}",
            "python_full_version": f"3.{self.minor}.0",
            "implementation_name": "cpython",
            "platform_python_implementation": "CPython",
            "platform_machine": self.machine,
            "platform_system": "Linux",
            "sys_platform": "linux",
            "os_name": "posix",
            "extra": "",
        }


def collect(targets: list[Target], requirements: Path, folder: Path) -> None:
    """Fill the folder with the wheels for all targets, by pip as it is set up. Raises MissingWheelsError."""
    folder.mkdir(parents=True)
    for target in targets:
        platforms = [word for tag in target.platforms for word in ("--platform", tag)]
        command = [
            *(sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"),
            *("--only-binary=:all:", "--implementation", "cp", "--python-version", f"3.{target.minor}"),
            *(*platforms, "--dest", str(folder), "--requirement", str(requirements)),
        ]
        if subprocess.run(command, check=False).returncode:  # noqa: S603 - our own words
            raise MissingWheelsError(f"pip found no wheels of everything in {requirements.name} for {target}")
        if missing := sorted(missing_for(target, requirements, folder)):
            raise MissingWheelsError(f"for {target} these are missing: {', '.join(missing)}")
    (folder / "targets").write_text("".join(f"{target}\n" for target in targets), encoding="utf-8")


def missing_for(target: Target, requirements: Path, folder: Path) -> Iterator[str]:
    """Yield each requirement that no wheel in the folder fulfils, with those of the wheels themselves.

    pip asks the Python that it runs in about the markers of requirements, not the one it downloads for.
    """
    wheels = sorted(folder.glob("*.whl"))
    lines = requirements.read_text(encoding="utf-8").splitlines()
    waiting = [Requirement(line) for line in lines if line and not line.startswith("#")]
    done: set[str] = set()
    while waiting:
        wanted = waiting.pop()
        if str(wanted) in done or (wanted.marker and not wanted.marker.evaluate(target.markers)):
            continue
        done.add(str(wanted))
        found = next((wheel for wheel in wheels if _fulfils(wheel, wanted, target)), None)
        if found is None:
            yield str(wanted)
        else:
            waiting += [Requirement(line) for line in _requirements_of(found)]


def _fulfils(wheel: Path, wanted: Requirement, target: Target) -> bool:
    name, version, _, tags = parse_wheel_filename(wheel.name)
    fits = canonicalize_name(wanted.name) == name and wanted.specifier.contains(version, prereleases=True)
    return fits and not tags.isdisjoint(target.tags)


def _requirements_of(wheel: Path) -> list[str]:
    with zipfile.ZipFile(wheel) as file:
        (name,) = (one for one in file.namelist() if re.fullmatch(r"[^/]+\.dist-info/METADATA", one))
        headers = HeaderParser().parsestr(file.read(name).decode())
    return [str(line) for line in headers.get_all("Requires-Dist", [])]
