"""What status and explain say of cycles."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.cycles.rig import Shop
from tests.helpers import later, writing
from tidegate.config import parse
from tidegate.view import render
from tidegate.view.explain import explain

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SOON = {"next_at": 1528876035.0, "running": None}


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    made = Shop(tmp_path, Archive="Zip")
    yield made
    made.stop()


def told(shop: Shop, path: Path, cycles: dict[str, Any] | None = None) -> str:
    """What explain says of a file, a minute from now."""
    raw = {"PathName": f"{shop.root}/**", "BucketName": "bucket", "Mode": "Cycle", "Interval": 1000}
    findings = explain(
        str(path),
        parse(raw | {"Archive": "Zip", "Layout": "ThingAndTime"}),
        choose=lambda _: ("direct", "it is chosen"),
        thing="thing",
        never=frozenset(),
        moment=later(60),
        archives=shop.spool.folder,
    )
    snapshot = {"sources": {"default": (cycles or SOON) | {"cycles": True}}}
    entries = shop.ledger.books.promises(str(path))
    answer = render.explanation(str(path), findings, entries, None, snapshot, now=later(60).wall)
    return render.explained(answer)


def test_a_file_waits_for_the_next_cycle(shop: Shop) -> None:
    text = told(shop, shop.write("1.csv"))
    assert "it waits for the cycle at 2018-06-13T07:47:15+00:00" in text
    assert "it goes to s3://bucket/thing/{cycle}/1.csv" in text


def test_a_file_that_came_while_a_cycle_is_under_way_waits_for_the_one_after_it(shop: Shop) -> None:
    text = told(shop, shop.write("1.csv"), {"next_at": 1.0, "running": 1528876035.0})
    assert "it waits for the cycle after the one of 2018-06-13T07:47:15+00:00" in text


def test_a_member_waits_because_of_another_one(shop: Shop) -> None:
    path, other = shop.write("A/b/1.csv"), shop.write("A/2.csv")
    assert "nothing holds it back" in told(shop, path)
    with writing(other):
        text = told(shop, path)
    assert f"its folder waits because of {other}: process" in text
    assert "it has it open" not in text
    assert "s3://bucket/thing/{cycle}/A.zip" in text


def test_a_member_is_said_to_be_in_its_archive_in_that_version(shop: Shop) -> None:
    path = shop.write("A/1.csv")
    shop.step(60)
    (archive,) = (name for name in shop.spool.names() if name.endswith(".zip"))
    assert f"this version is packed in {shop.spool.path(archive)}" in told(shop, path)
    assert "waits to be sent" in told(shop, shop.spool.path(archive))
    shop.write("A/1.csv", "another version")
    assert "packed" not in told(shop, path)


def test_a_checked_configuration_says_when_cycles_begin() -> None:
    raw = {"PathName": "/data/**", "BucketName": "bucket", "Mode": "Cycle", "Archive": "Zip"}
    text = render.configuration(parse(raw | {"Schedule": "0 2 * * *", "TimeZone": "Europe/Berlin"}))
    assert "cycles    at 0 2 * * * on the clocks of Europe/Berlin; archives of folders: Zip" in text
    assert "cycles    each 60 s" in render.configuration(parse(raw | {"Interval": 60}))
    assert "cycles" not in render.configuration(parse({"PathName": "/data/**", "BucketName": "bucket"}))


def test_status_tells_the_last_cycle_and_the_next_one(shop: Shop) -> None:
    last = {
        "started": 1528876035.0,
        "finished": 1528876040.0,
        "found": 5,
        "uploaded": 3,
        "failed": 1,
        "held": 1,
    }
    report = {"last": last | {"bytes": 2048}, "cycles": True, "running": None, "next_at": 1528962435.0}
    seen = {"at": 0, "pid": 1, "sources": {"records": report, "live": {"last": last, "cycles": False}}}
    text = render.status(render.state(seen, shop.ledger.books, now=0))
    assert "cycles:\n" in text
    assert (
        "records: 2018-06-13T07:47:15+00:00 stored 3 of 5 (2.0 KiB), 1 failed, 1 left for the next one;"
        " the next one begins at 2018-06-14T07:47:15+00:00"
    ) in text
    assert "live:" not in text
    report["running"] = 1528962435.0
    text = render.status(render.state(seen, shop.ledger.books, now=0))
    assert "; 2018-06-14T07:47:15+00:00 is under way" in text
