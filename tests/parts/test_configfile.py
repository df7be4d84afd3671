"""Reading a configuration file: whatever is wrong with it is told in one sentence that names it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tidegate.config.file import load
from tidegate.errors import ConfigFaults

if TYPE_CHECKING:
    from pathlib import Path


def read(folder: Path, text: str | bytes) -> dict[str, object]:
    path = folder / "my.yaml"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return load(path)


def fault(folder: Path, text: str | bytes) -> str:
    with pytest.raises(ConfigFaults) as caught:
        read(folder, text)
    (sentence,) = caught.value.faults
    assert "\n" not in sentence
    return sentence


def test_keys_and_values_are_read_with_their_types(tmp_path: Path) -> None:
    assert read(tmp_path, "PathName: /data/*.csv\nInterval: 5\nExclude: [a, b]\n") == {
        "PathName": "/data/*.csv",
        "Interval": 5,
        "Exclude": ["a", "b"],
    }


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Interval: 5\nInterval: 6\n", "the key Interval stands twice"),
        ("Sources:\n  a: {Interval: 1, Interval: 2}\n", "the key Interval stands twice"),
        ("Sources: [unclosed\n", "is not YAML"),
        ("\tInterval: 5\n", "is not YAML"),
        ("--- \na: 1\n--- \nb: 2\n", "is not YAML"),
        ("!!python/object/apply:os.system [ls]\n", "is not YAML"),
        ("? [a, b]\n: c\n", "is not YAML"),
        ("", "holds no keys"),
        ("- PathName\n", "holds no keys"),
        ("just text\n", "holds no keys"),
        (b"\xff\xfe\xfa", "is not UTF-8"),
        ("a: \x00\n", "is not YAML"),
    ],
)
def test_what_is_wrong_with_a_file_is_told(tmp_path: Path, text: str | bytes, words: str) -> None:
    sentence = fault(tmp_path, text)
    assert words in sentence
    assert str(tmp_path / "my.yaml") in sentence


@pytest.mark.parametrize(("name", "words"), [("missing", "No such file"), (".", "Is a directory")])
def test_a_file_that_cannot_be_read_is_told(tmp_path: Path, name: str, words: str) -> None:
    with pytest.raises(ConfigFaults, match=words):
        load(tmp_path / name)


def test_a_key_that_a_merge_brings_in_may_be_overruled(tmp_path: Path) -> None:
    text = "Base: &base {Interval: 5, After: Keep}\nSources:\n  a:\n    <<: *base\n    Interval: 9\n"
    assert read(tmp_path, text)["Sources"] == {"a": {"Interval": 9, "After": "Keep"}}
