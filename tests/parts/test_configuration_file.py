"""The file that a configuration names: what is put together of the two, and how changes are noticed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import yaml

from tidegate.config import parse
from tidegate.config.file import Extension, Watched
from tidegate.errors import ConfigFaults

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def more(tmp_path: Path) -> Path:
    return tmp_path / "more.yaml"


def named(more: Path, **keys: object) -> dict[str, object]:
    return {"ConfigurationFile": str(more), **keys}


def test_without_a_file_the_configuration_is_what_it_says() -> None:
    assert Extension().expand({"Interval": 5}) == {"Interval": 5}
    assert not Extension().has_changed()


def test_maps_are_put_together_and_what_the_file_says_counts_in_any_spelling(more: Path) -> None:
    more.write_text(yaml.safe_dump({"interval": 9, "Sources": {"a": {"BucketName": "x"}, "b": {}}}))
    raw = named(more, Interval=5, LogLevel="INFO", sources={"a": {"PathName": "/a/*", "BucketName": "y"}})
    assert Extension().expand(raw) == named(
        more, interval=9, LogLevel="INFO", Sources={"a": {"PathName": "/a/*", "BucketName": "x"}, "b": {}}
    )


def test_a_list_is_replaced_and_a_map_takes_the_place_of_a_text(more: Path) -> None:
    more.write_text(yaml.safe_dump({"Exclude": ["b"], "S3": {"Region": "eu-central-1"}}))
    found = Extension().expand(named(more, Exclude=["a"], S3=""))
    assert found["Exclude"] == ["b"]
    assert found["S3"] == {"Region": "eu-central-1"}


@pytest.mark.parametrize("content", [None, "nonsense", "a: [", "ConfigurationFile: /other.yaml"])
def test_a_file_that_is_missing_or_wrong_is_a_fault_that_names_it(more: Path, content: str | None) -> None:
    if content is not None:
        more.write_text(content)
    with pytest.raises(ConfigFaults, match=r"more\.yaml"):
        Extension().expand(named(more))


def test_what_is_no_path_is_left_for_the_parser_to_judge() -> None:
    with pytest.raises(ConfigFaults, match="ConfigurationFile: "):
        parse(Extension().expand({"ConfigurationFile": "relative.yaml", "PathName": "/a/*"}))


def test_a_file_that_stays_away_is_told_once_and_read_when_it_is_back(tmp_path: Path) -> None:
    main = tmp_path / "main.yaml"
    main.write_text("Interval: 5")
    watched = Watched(main)
    watched.load()
    main.rename(tmp_path / "away.yaml")
    assert [watched.changed() for _ in range(9)] == [None] * 9
    with pytest.raises(ConfigFaults, match=r"main\.yaml is gone; put it back"):
        watched.changed()
    assert [watched.changed() for _ in range(20)] == [None] * 20
    (tmp_path / "away.yaml").rename(main)
    assert watched.changed() == {"Interval": 5}
    assert watched.changed() is None


def test_a_change_of_either_file_is_noticed_once(tmp_path: Path, more: Path) -> None:
    main = tmp_path / "main.yaml"
    main.write_text(yaml.safe_dump(named(more, PathName="/data/*", BucketName="bucket")))
    more.write_text("Interval: 5")
    watched = Watched(main)
    assert parse(watched.load()).sources[0].interval_seconds == 5
    assert watched.changed() is None
    more.write_text("Interval: 77")
    assert (watched.changed() or {})["Interval"] == 77
    assert watched.changed() is None
    main.write_text(yaml.safe_dump(named(more, PathName="/other/*", BucketName="bucket")))
    assert (watched.changed() or {})["PathName"] == "/other/*"
    more.unlink()  # an editor may just be replacing it
    assert watched.changed() is None
    more.write_text("Interval: 8")
    assert (watched.changed() or {})["Interval"] == 8
