"""Objects that come in parts: whole or not at all, in any order, and across restarts."""

from __future__ import annotations

import base64
import hashlib
from typing import TYPE_CHECKING, Any

import pytest

from tests.helpers import eventually
from tidegate.routes import uploads

if TYPE_CHECKING:
    from tests.routes.rig import Rig

DATA = bytes(range(256)) * 40
SIZE = 3000
PARTS = [DATA[start : start + SIZE] for start in range(0, len(DATA), SIZE)]


def part(number: int, **more: Any) -> dict[str, Any]:
    body = base64.b64encode(PARTS[number - 1]).decode()
    return {"upload": "u-1", "part": number, "parts": len(PARTS), "bodyBase64": body, **more}


def whole(**more: Any) -> dict[str, Any]:
    return {"key": "large.bin", "sha256": hashlib.sha256(DATA).hexdigest(), **more}


def test_parts_in_any_order_become_one_object(one: Rig) -> None:
    assert len(PARTS) == 4
    first = one.ask("objects/post", part(3, **whole(metadata={"a": "b"}, contentType="image/png")))
    assert (first.status, first.body["missing"]) == (202, [1, 2, 4])
    assert one.ask("objects/post", part(1)).body["missing"] == [2, 4]
    assert one.ask("objects/post", part(1)).body["missing"] == [2, 4]  # twice does no harm
    assert one.ask("objects/post", part(4)).body["missing"] == [2]
    last = one.ask("objects/post", part(2))
    assert (last.status, last.body["key"], last.body["size"]) == (200, "large.bin", len(DATA))
    assert one.carrier.objects == {("bucket", "large.bin"): DATA}
    assert one.carrier.given[0].metadata == {"a": "b", "content-type": "image/png"}
    eventually(lambda: not list((one.work / "spool" / "uploads").iterdir()))


def test_parts_that_come_all_at_once_become_one_object(one: Rig) -> None:
    for turn in range(10):
        bodies = [
            part(1, upload=f"u{turn}"),
            part(2, upload=f"u{turn}", key=f"{turn}.bin"),
            part(3, upload=f"u{turn}", sha256=hashlib.sha256(DATA).hexdigest()),
            part(4, upload=f"u{turn}"),
        ]
        sent = [one.send("objects/post", body) for body in (*bodies, *bodies)]
        replies = [it.reply() for it in sent]
        assert {reply.status for reply in replies} <= {200, 202}, replies
        assert max(reply.status == 200 for reply in replies)
    assert len(one.carrier.given) == 10  # each once
    assert one.carrier.objects == {("bucket", f"{turn}.bin"): DATA for turn in range(10)}


def test_an_upload_goes_on_after_a_restart_and_tells_what_is_missing(one: Rig) -> None:
    one.ask("objects/post", part(1, **whole()))
    one.ask("objects/post", part(2))
    one.restart()
    assert one.ask("objects/post", {"upload": "u-1"}).body["missing"] == [3, 4]
    one.ask("objects/post", part(3))
    assert one.ask("objects/post", part(4)).status == 200
    assert one.carrier.objects == {("bucket", "large.bin"): DATA}


def test_the_last_part_may_come_again_and_gets_the_same_answer(one: Rig) -> None:
    for number in range(1, 4):
        one.ask("objects/post", part(number, **whole()))
    done = one.ask("objects/post", part(4))
    assert one.ask("objects/post", part(4)).body == done.body
    assert one.ask("objects/post", part(2)).body == done.body
    one.restart()
    assert one.ask("objects/post", {"upload": "u-1"}).body["id"] == done.body["id"]
    assert one.carrier.given == []


def test_what_is_not_what_was_meant_is_refused_whole(one: Rig) -> None:
    for number in range(1, 4):
        one.ask("objects/post", part(number, key="large.bin", sha256="0" * 64))
    reply = one.ask("objects/post", part(4))
    assert (reply.status, reply.body["code"]) == (422, "Damaged")
    assert one.carrier.given == []
    assert one.spooled() == []
    assert one.ask("objects/post", {"upload": "u-1"}).body["missingCount"] == 0  # begun anew


def test_another_part_of_the_same_number_is_refused(one: Rig) -> None:
    one.ask("objects/post", part(1, **whole()))
    reply = one.ask("objects/post", {**part(1), "bodyBase64": "AAAA"})
    assert (reply.status, reply.body["code"]) == (409, "Conflict")
    assert one.ask("objects/post", {**part(1), "parts": 9}).status == 409


def test_parts_without_a_key_wait_for_one(one: Rig) -> None:
    for number in range(1, 4):
        one.ask("objects/post", part(number))
    assert one.ask("objects/post", part(4)).status == 400
    assert one.ask("objects/post", {"upload": "u-1", **whole()}).status == 200


def test_an_upload_that_nobody_adds_to_is_forgotten_after_a_day(one: Rig) -> None:
    one.ask("objects/post", part(1, **whole()))
    folder = one.work / "spool" / "uploads"
    now = one.clock.wall()
    assert uploads.Uploads(one.work).expire(now + uploads.EXPIRE_SECONDS - 60) == 0
    assert uploads.Uploads(one.work).expire(now + uploads.EXPIRE_SECONDS + 60) == 1
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("size", [0, 1])
def test_small_objects_may_come_in_parts_too(one: Rig, size: int) -> None:
    reply = one.ask("objects/post", {"upload": "u", "part": 1, "parts": 1, "key": "a", "body": "x" * size})
    assert reply.status == 200
    assert one.carrier.objects["bucket", "a"] == b"x" * size


def test_only_so_many_uploads_are_open_at_a_time(one: Rig) -> None:
    for number in range(uploads.MOST_UPLOADS):
        (one.work / "spool" / "uploads" / str(number)).mkdir(parents=True)
    reply = one.ask("objects/post", part(1, **whole()))
    assert (reply.status, reply.body["code"]) == (503, "Unavailable")
