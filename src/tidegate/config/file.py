"""Reading a configuration file. Only YAML's syntax is looked at here; what it says is for `config`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import yaml

from tidegate.errors import ConfigFaults

if TYPE_CHECKING:
    from pathlib import Path


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


class Watched:
    """A configuration file that may be edited while it is in use."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._mark = self._look()

    def changed(self) -> dict[str, object] | None:
        """Read it if it is another version than the last one looked at; else None. Raises ConfigFaults."""
        mark = self._look()
        if mark is None or mark == self._mark:  # gone: an editor may just be replacing it
            return None
        self._mark = mark
        return load(self._path)

    def _look(self) -> tuple[int, int, int] | None:
        try:
            status = self._path.stat()
        except OSError:
            return None
        return status.st_ino, status.st_size, status.st_mtime_ns


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
