"""Reading a configuration file. Only YAML's syntax is looked at here; what it says is for `config`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from tidegate.errors import ConfigFaults

if TYPE_CHECKING:
    from collections.abc import Mapping

_EXTENSION = "configurationfile"
_LOOKS = 10
"""So often in a row a file has to be missing before that is told: an editor may just be replacing it."""
_MERGE = "tag:yaml.org,2002:merge"


class _Loader(yaml.SafeLoader):
    """Refuses a key that stands twice in one mapping; YAML itself would silently take the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:  # noqa: FBT001, FBT002
        """See yaml.SafeLoader."""
        names = [
            key.value for key, _ in node.value if key.tag != _MERGE
        ]  # what a merge brings may stand again
        mapping: dict[Any, Any] = super().construct_mapping(node, deep)
        for name in names:
            if names.count(name) > 1:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {name} stands twice", node.start_mark
                )
        return mapping


class Extension:
    """The file that a configuration names with `ConfigurationFile`, if it names one. It may be edited."""

    def __init__(self) -> None:
        self._path: Path | None = None
        self._mark: _Mark | None = None

    def expand(self, raw: Mapping[str, object]) -> dict[str, object]:
        """Put together what is said and what the file says, which counts. Raises ConfigFaults."""
        named = next((value for key, value in raw.items() if str(key).lower() == _EXTENSION), None)
        self._path = Path(named) if isinstance(named, str) and named.startswith("/") else None
        if self._path is None:  # what else may stand there is for `parse` to judge
            return dict(raw)
        self._mark = _look(self._path)
        more = load(self._path)
        if any(key.lower() == _EXTENSION for key in more):
            raise ConfigFaults([f"{self._path} names another ConfigurationFile; put everything into one"])
        return merged(raw, more)

    def has_changed(self) -> bool:
        """Whether the file is another version than the one that was read. One that is gone is not."""
        mark = _look(self._path) if self._path else None
        return mark is not None and mark != self._mark  # gone: an editor may just be replacing it


class Watched:
    """A configuration file that may be edited while it is in use, and the one that it may name."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._mark: _Mark | None = None
        self._missing = 0
        self._extension = Extension()

    def load(self) -> dict[str, object]:
        """Read it as it is now. Raises ConfigFaults."""
        self._mark = _look(self._path)
        return self._extension.expand(load(self._path))

    def changed(self) -> dict[str, object] | None:
        """Read it if it is another version than the last one looked at; else None.

        Raises ConfigFaults, also once if it stays away.
        """
        mark = _look(self._path)
        self._missing = 0 if mark else self._missing + 1
        if self._missing == _LOOKS:
            self._mark = None  # when it is back it is read, whatever it is
            raise ConfigFaults([f"{self._path} is gone; put it back"])
        if mark is None or (mark == self._mark and not self._extension.has_changed()):
            return None
        return self.load()


_Mark = tuple[int, int, int]


def _look(path: Path) -> _Mark | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns


def merged(raw: Mapping[str, object], more: Mapping[str, object]) -> dict[str, object]:
    """Merge maps deeply; everything else is as `more` says. Keys are the same in any case."""
    spelled = {key.lower(): key for key in more}
    found = {key: value for key, value in raw.items() if str(key).lower() not in spelled}
    for key, value in more.items():
        before = next((one for name, one in raw.items() if str(name).lower() == key.lower()), None)
        both = isinstance(before, dict) and isinstance(value, dict)
        found[key] = merged(before, {str(name): one for name, one in value.items()}) if both else value  # type: ignore[arg-type, attr-defined]
    return found


def load(path: Path) -> dict[str, object]:
    """Read a YAML file that holds one mapping. Raises ConfigFaults."""
    try:
        with path.open(encoding="utf-8") as file:
            found = yaml.load(file, _Loader)  # noqa: S506 - a SafeLoader
    except OSError as err:
        raise ConfigFaults([f"{path} cannot be read: {err.strerror}"]) from err
    except UnicodeDecodeError as err:
        raise ConfigFaults([f"{path} is not UTF-8 text: {err}"]) from err
    except yaml.YAMLError as err:
        raise ConfigFaults([f"{path} is not YAML: {' '.join(str(err).split())}"]) from err
    if not isinstance(found, dict):
        raise ConfigFaults([f"{path} holds no keys; write for example PathName: /data/*.csv"])
    return {str(key): value for key, value in found.items()}
