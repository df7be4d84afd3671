"""All streams of the Stream Manager stand-in, and what it will not let be done to them."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING, Any

from tests.standins.stream import FILE, Refusal, Stream, executors_of, file_name

if TYPE_CHECKING:
    from pathlib import Path

DEFAULTS = {"maxSize": 268435456, "streamSegmentSize": 16777216, "persistence": FILE, "flushOnWrite": False}


class Store:
    """The streams by name. A directory without a definition is what is left of a deleted stream."""

    def __init__(self, data_dir: Path) -> None:
        self.data_dir = data_dir
        self.streams: dict[str, Stream] = {}
        data_dir.mkdir(parents=True, exist_ok=True)
        for definition in sorted(data_dir.glob("*/definition.json")):
            stream = Stream(json.loads(definition.read_text()), definition.parent)
            self.streams[stream.name] = stream

    def find(self, name: str) -> Stream:
        stream = self.streams.get(name)
        if stream is None:
            raise Refusal(5, f"there is no stream named {name}")
        return stream

    def create(self, definition: dict[str, Any]) -> Stream:
        definition = DEFAULTS | definition
        name = definition["name"]
        if name in self.streams:
            raise Refusal(3, f"a stream named {name} already exists")
        self._check(definition)
        directory = self.data_dir / file_name(name)
        if directory.exists():
            shutil.rmtree(directory)
        stream = Stream(definition, directory)
        self.streams[name] = stream
        return stream

    def check_update(self, definition: dict[str, Any]) -> dict[str, Any]:
        """Return the definition an update would set: what was left out falls back to its default."""
        definition = DEFAULTS | definition
        stream = self.find(definition["name"])
        if definition["persistence"] != stream.definition["persistence"]:
            raise Refusal(17, "the persistence of a stream cannot be changed")
        if definition["maxSize"] < stream.total_bytes:
            raise Refusal(3, "maxSize is less than what the stream holds")
        self._check(definition)
        return definition

    def delete(self, name: str) -> None:
        self.find(name).delete()
        del self.streams[name]

    def close(self) -> None:
        for stream in self.streams.values():
            stream.close()

    def _check(self, definition: dict[str, Any]) -> None:
        if definition["maxSize"] < definition["streamSegmentSize"]:
            raise Refusal(3, "maxSize is less than streamSegmentSize")
        for executor in executors_of(definition).values():
            status = executor.get("statusConfig")
            if status is not None and status["statusStreamName"] not in self.streams:
                raise Refusal(3, f"the status stream {status['statusStreamName']} does not exist")
