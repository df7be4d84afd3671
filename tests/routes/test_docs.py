"""What the document about routes shows is what happens."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.helpers import eventually, write
from tests.routes.rig import Rig, rig
from tidegate.ledger.events import KINDS, LIMIT
from tidegate.routes import REPLY_BYTES, Routes
from tidegate.routes.posting import MOST_OBJECTS, MOST_PARTS

DOCUMENT = (Path(__file__).parents[2] / "docs" / "ROUTES.md").read_text(encoding="utf-8")
SECTIONS = dict(re.findall(r"^## (.+?)\n(.*?)(?=^## |\Z)", DOCUMENT, re.DOTALL | re.MULTILINE))
BLOCKS = {
    route: [
        json.loads(text)
        for text in re.findall(r"^```json\n(.*?)^```$", SECTIONS[route], re.DOTALL | re.MULTILINE)
    ]
    for route in Routes.verbs
}
PAIRS = [
    (route, *pair) for route, blocks in BLOCKS.items() for pair in zip(blocks[::2], blocks[1::2], strict=True)
]


def test_every_route_is_documented_with_a_request_and_an_answer() -> None:
    assert {name for name in SECTIONS if "/" in name} == set(Routes.verbs)
    assert {route for route, _, _ in PAIRS} == set(Routes.verbs)


HERE = [pair for pair in PAIRS if not pair[0].startswith("restore/")]
"""Those of restores need an archive: see tests/restore/test_routes.py."""


@pytest.mark.parametrize(("route", "request_", "shown"), HERE)
def test_a_documented_request_gets_an_answer_such_as_is_shown(
    tmp_path: Path, route: str, request_: dict[str, Any], shown: dict[str, Any]
) -> None:
    with rig(tmp_path, BucketName="my-bucket", QuietSeconds=2) as one:
        path = write(tmp_path / "data" / Path(request_.get("path", "c.csv")).name)
        eventually(lambda: one.source("default").get("last"))
        reply = ask(one, route, request_ | ({"path": str(path)} if "path" in request_ else {}))
        assert reply["status"] == shown["status"]
        assert_alike(reply, shown, exactly=route != "configuration/get")


def ask(one: Rig, route: str, request: dict[str, Any]) -> dict[str, Any]:
    return json.loads(one.ask(route, request).json())  # type: ignore[no-any-return]


def assert_alike(found: Any, shown: Any, *, exactly: bool, where: str = "") -> None:
    """The same keys, and values of the same kind, down to the last level."""
    if isinstance(shown, dict):
        assert isinstance(found, dict), where
        if exactly and shown:
            assert set(found) == set(shown), where
        for key in shown.keys() & found.keys() if where.endswith(("agent", "streamManager")) else shown:
            assert_alike(found[key], shown[key], exactly=exactly, where=f"{where}.{key}")
    elif isinstance(shown, list):
        assert isinstance(found, list), where
        for one in found[:1]:
            for other in shown[:1]:
                assert_alike(one, other, exactly=exactly, where=f"{where}[0]")
    elif shown is not None and found is not None:
        assert isinstance(found, (int, float)) == isinstance(shown, (int, float)), where


def test_every_kind_of_event_is_documented() -> None:
    assert re.findall(r"^\| `([a-z-]+)` \| `\w+` \|", SECTIONS["Events"], re.MULTILINE) == list(KINDS)
    assert f"{LIMIT:,} wait at most" in SECTIONS["Events"]


def test_the_limits_are_those_of_the_code() -> None:
    limits = dict(re.findall(r"^\| (.+?) \| (.+) \|$", SECTIONS["Limits"], re.MULTILINE))
    assert limits["an answer, an event"] == f"{REPLY_BYTES:,} bytes"
    assert limits["objects in a request"] == str(MOST_OBJECTS)
    assert limits["parts of an upload; uploads that are open"].startswith(f"{MOST_PARTS:,}; ")
