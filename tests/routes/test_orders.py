"""What the agent is told to do: it does it, once, and still after a restart."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.helpers import eventually, transfer, write
from tests.routes.rig import rig
from tidegate.ledger.orders import ANSWERS, note_answer

if TYPE_CHECKING:
    from pathlib import Path

    from tests.routes.rig import Rig


def test_nothing_is_sent_of_a_paused_source_until_it_is_resumed(one: Rig, tmp_path: Path) -> None:
    assert one.ask("pause/post", {"source": "DEFAULT"}).body["paused"] == ["default", "default.objects"]
    write(tmp_path / "data" / "a.csv")
    eventually(lambda: one.source("default")["backlog"]["files"] == 1)
    assert one.source("default")["paused"]
    assert one.ask("objects/post", {"key": "b", "body": "x"}).status == 200  # another way
    one.restart()
    eventually(lambda: one.source("default")["paused"])
    assert one.ask("explain/get", {"path": str(tmp_path / "data" / "a.csv")}).body["promises"][0]["paused"]
    assert one.carrier.given == []
    assert one.ask("resume/post", {"source": "default"}).body == {"status": 200, "paused": [], "all": False}
    eventually(lambda: ("bucket", "a.csv") in one.carrier.objects)


def test_everything_can_be_paused_also_what_is_posted_later(one: Rig, tmp_path: Path) -> None:
    assert one.ask("pause/post").body["all"]
    assert one.ask("objects/post", {"key": "b", "body": "x", "waitSeconds": 0}).status == 202
    write(tmp_path / "data" / "a.csv")
    eventually(lambda: one.ask("statistics/get").body["backlog"]["files"] == 2)
    assert one.ask("status/get").body["paused"]
    assert one.ask("resume/post", {"source": "default"}).status == 409
    assert one.carrier.given == []
    one.ask("resume/post")
    eventually(lambda: len(one.carrier.objects) == 2)


def test_an_order_that_comes_twice_is_done_once(one: Rig) -> None:
    assert one.ask("pause/post", {"clientToken": "p"}).body["all"]
    assert not one.ask("resume/post", {"clientToken": "r"}).body["all"]
    assert one.ask("pause/post", {"clientToken": "p"}).body["all"]  # the answer of then
    assert not one.ask("status/get").body["paused"]
    one.restart()
    assert one.ask("pause/post", {"clientToken": "p"}).body["all"]
    assert not one.ask("status/get").body["paused"]
    assert one.ask("pause/post", {"clientToken": "p", "source": "default"}).status == 409


def test_orders_that_come_together_with_one_token_are_done_once(tmp_path: Path) -> None:
    with rig(tmp_path, Interval=3600) as one:  # a look for files would drop what is not there
        eventually(lambda: one.source("default").get("last"))
        for turn in range(20):
            one.ledger.offer([(transfer(f"{turn}.csv"), "never that")], now=1.0)  # into quarantine
            sent = [one.send("retry/post", {"clientToken": f"t{turn}"}) for _ in range(6)]
            assert [it.reply().body["files"] for it in sent] == [1] * 6


def test_only_the_newest_answers_are_remembered(one: Rig) -> None:
    one.ask("scan/post", {"clientToken": "first"})
    with one.ledger._database.transaction() as cursor:
        for number in range(ANSWERS):
            note_answer(cursor, f"t{number}", b"", {})
    assert one.ledger.orders.answered("first") is None
    assert one.ledger.orders.answered("t0") == (b"", {})


def test_pauses_outlive_a_ledger_that_is_lost(one: Rig) -> None:
    one.ask("pause/post", {"source": "default"})
    one.stop()
    for path in one.work.glob("ledger.db*"):
        path.unlink()
    one.mended = True
    one.start()
    assert one.source("default")["paused"]


def test_a_scan_comes_at_once(tmp_path: Path) -> None:
    with rig(tmp_path, Interval=3600) as one:
        eventually(lambda: one.source("default").get("last"))
        one.agent._watch.close()  # else the kernel tells of new files
        write(tmp_path / "data" / "a.csv")
        assert one.ask("scan/post", {"source": "default"}).body["sources"] == 1
        eventually(lambda: ("bucket", "a.csv") in one.carrier.objects)


def test_a_file_in_quarantine_is_tried_again(one: Rig, tmp_path: Path) -> None:
    one.carrier.refused.add("a.csv")
    path = write(tmp_path / "data" / "a.csv")
    eventually(lambda: one.events("quarantined") or one.ask("retry/post") is None, seconds=20)
    (told,) = eventually(lambda: one.ask("status/get").body["quarantine"])
    assert (told["path"], told["reason"]) == (str(path), "never that")
    assert one.source("default")["totals"]["failed"] >= 1
    one.carrier.refused.clear()
    eventually(lambda: one.ask("retry/post", {"path": str(path)}) and one.carrier.objects, seconds=20)
