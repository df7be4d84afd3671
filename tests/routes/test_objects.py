"""objects/post: durable before it is answered, stored once, and told in the end, whatever happens in between."""

from __future__ import annotations

import base64
import json
import os
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.helpers import environment, eventually, write, writing
from tests.routes.rig import rig

if TYPE_CHECKING:
    from tests.routes.rig import Rig


def test_an_object_is_answered_when_it_is_stored(one: Rig) -> None:
    reply = one.ask("objects/post", {"key": "reports/today.json", "body": '{"a": 1}', "clientToken": "c-1"})
    assert reply.status == 200
    assert reply.body["clientToken"] == "c-1"
    assert (reply.body["bucket"], reply.body["key"]) == ("bucket", "reports/today.json")
    assert reply.body["ETag"] == "etag-1"
    assert reply.body["state"] == "stored"
    assert one.carrier.objects == {("bucket", "reports/today.json"): b'{"a": 1}'}
    assert one.events("stored") == []  # who waited knows
    eventually(lambda: [name for name in one.spooled() if not name.endswith(".list")] == [])


def test_bytes_type_and_metadata_go_along(one: Rig) -> None:
    data = bytes(range(256))
    wanted = {
        "key": "picture.bin",
        "bodyBase64": base64.b64encode(data).decode(),
        "contentType": "image/png",
        "metadata": {"Camera": "7"},
    }
    assert one.ask("objects/post", wanted).status == 200
    assert one.carrier.objects["bucket", "picture.bin"] == data
    assert one.carrier.given[0].metadata == {"camera": "7", "content-type": "image/png"}


@pytest.mark.parametrize("body", ["", "null", "  ", "ü\n"])
def test_a_body_is_taken_as_it_is_also_one_that_means_nothing_elsewhere(one: Rig, body: str) -> None:
    assert one.ask("objects/post", {"key": "a", "body": body}).status == 200
    assert one.carrier.objects["bucket", "a"] == body.encode()


def test_several_objects_are_one_request_and_answered_together(one: Rig) -> None:
    objects = [{"key": f"k{number}", "body": str(number)} for number in range(5)]
    reply = one.ask("objects/post", {"objects": objects})
    assert reply.status == 200
    assert [(it["key"], it["state"]) for it in reply.body["objects"]] == [
        (f"k{n}", "stored") for n in range(5)
    ]
    assert len(one.carrier.objects) == 5


def test_very_many_objects_are_told_by_their_ids_where_there_is_no_room_for_more(one: Rig) -> None:
    objects = [{"key": f"{'long/' * 50}{number}", "body": "x"} for number in range(100)]
    reply = one.ask("objects/post", {"objects": objects})
    assert reply.status == 200
    assert len(reply.body["objects"]) == 100
    assert set(reply.body["objects"][0]) == {"id", "state"}


def test_what_cannot_be_stored_in_time_is_answered_with_202_and_told_by_an_event(one: Rig) -> None:
    one.carrier.hold()
    reply = one.ask("objects/post", {"key": "a", "body": "x", "waitSeconds": 1, "clientToken": "c-2"})
    assert reply.status == 202
    assert reply.body["state"] in {"waiting", "inFlight"}
    assert one.ask("explain/get", {"id": reply.body["id"]}).body["promises"][0]["state"] in {"READY", "SENT"}
    one.carrier.let_go()
    (event,) = eventually(lambda: one.events("stored"))
    assert (event["id"], event["clientToken"], event["key"]) == (reply.body["id"], "c-2", "a")
    assert event["ETag"] == "etag-1"


def test_nobody_waits_who_does_not_want_to(one: Rig) -> None:
    one.carrier.hold()
    assert one.ask("objects/post", {"key": "a", "body": "x", "waitSeconds": 0}, seconds=2).status == 202


def test_the_same_token_twice_stores_once_and_gets_the_same_answer(one: Rig) -> None:
    wanted = {"key": "a", "body": "x", "clientToken": "c-3"}
    first = one.ask("objects/post", wanted)
    assert one.ask("objects/post", wanted).body == first.body
    one.restart()
    again = one.ask("objects/post", wanted)
    assert (again.status, again.body["id"]) == (200, first.body["id"])
    assert one.carrier.given == []


def test_twins_that_come_together_are_stored_once(one: Rig) -> None:
    wanted = {"key": "a", "body": "x", "clientToken": "c-4"}
    answers = [one.send("objects/post", wanted) for _ in range(20)]
    assert {it.reply().body["id"] for it in answers} == {answers[0].reply().body["id"]}
    assert one.carrier.stored == 1


def test_what_had_to_wait_for_a_busy_ledger_is_one_object(one: Rig) -> None:
    one.ledger._database._connection.execute("PRAGMA busy_timeout = 200")
    with closing(sqlite3.connect(one.work / "ledger.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        sent = [one.send("objects/post", {"key": f"{number}.txt", "body": "1"}) for number in range(6)]
        eventually(lambda: len([name for name in one.spooled() if name.endswith(".list")]) > 2)
        other.execute("ROLLBACK")
    replies = [it.reply() for it in sent]
    assert {reply.status for reply in replies} <= {200, 507}
    stored = [reply.body["key"] for reply in replies if reply.accepted]
    assert stored
    assert sorted(transfer.target.key for transfer in one.carrier.given) == sorted(stored)


def test_a_ledger_that_is_lost_is_told_as_what_will_pass(one: Rig) -> None:
    one.ledger._database._connection.execute("PRAGMA max_page_count = 1")
    body = one.ask("objects/post", {"key": "a.txt", "body": "1" * 5000, "metadata": {"a": "b" * 700}}).body
    while body["status"] == 200:  # there was a page left
        body = one.ask("objects/post", {"key": "a.txt", "body": "1", "metadata": {"a": "b" * 700}}).body
    assert (body["status"], body["code"]) == (503, "Unavailable")


def test_a_token_that_was_used_for_something_else_is_refused(one: Rig) -> None:
    one.ask("objects/post", {"key": "a", "body": "x", "clientToken": "c-5"})
    reply = one.ask("objects/post", {"key": "a", "body": "y", "clientToken": "c-5"})
    assert (reply.status, reply.body["code"]) == (409, "Conflict")
    assert 'clientToken: "c-5"' in reply.body["message"]


def test_a_refused_object_is_told_and_can_be_tried_again(one: Rig) -> None:
    one.carrier.refused.add("a")
    wanted = {"key": "a", "body": "x", "waitSeconds": 60}
    answer = one.send("objects/post", wanted)
    eventually(lambda: one.events("quarantined") or one.ask("retry/post") is None, seconds=20)
    assert answer.reply().status == 502
    assert "never that" in answer.reply().body["message"]
    one.carrier.refused.clear()
    eventually(lambda: one.ask("retry/post") and one.carrier.objects.get(("bucket", "a")) == b"x")
    (event,) = eventually(lambda: one.events("stored"))
    assert event["id"] == answer.reply().body["id"]


def test_what_waits_is_still_there_after_a_restart_and_told_then(one: Rig) -> None:
    one.carrier.hold()
    ids = [
        one.ask("objects/post", {"key": f"k{number}", "body": "x" * number, "waitSeconds": 0}).body["id"]
        for number in range(3)
    ]
    one.restart()
    eventually(lambda: one.carrier.stored == 3)
    assert {
        event["id"] for event in eventually(lambda: len(one.events("stored")) == 3 and one.events("stored"))
    } == {*ids}
    assert one.carrier.objects["bucket", "k2"] == b"xx"


def test_who_waits_when_the_agent_ends_is_answered(one: Rig) -> None:
    one.carrier.hold()
    answer = one.send("objects/post", {"key": "a", "body": "x", "waitSeconds": 600})
    eventually(lambda: one.carrier.given)
    one.stop()
    one.routes.give_up()
    assert answer.reply(0.1).status == 202


def test_a_wait_outlives_an_agent_that_is_started_anew_for_another_configuration(one: Rig) -> None:
    one.carrier.hold()
    answer = one.send("objects/post", {"key": "a", "body": "x", "waitSeconds": 60})
    eventually(lambda: one.carrier.given)
    one.stop()
    one.start()
    one.carrier.let_go()
    assert answer.reply().status == 200


def test_what_was_accepted_is_not_lost_with_the_ledger(one: Rig) -> None:
    one.carrier.hold()
    one.ask("objects/post", {"key": "a/b.json", "body": "kept", "waitSeconds": 0, "metadata": {"x": "1"}})
    one.close()
    for path in one.work.glob("ledger.db*"):
        path.unlink()
    one.restart()
    eventually(lambda: one.carrier.objects.get(("bucket", "a/b.json")) == b"kept")
    assert one.carrier.given[0].metadata == {"x": "1"}


def test_lists_go_when_nothing_of_them_is_left(one: Rig) -> None:
    one.ask("objects/post", {"key": "a", "body": "x"})
    eventually(lambda: len(one.spooled()) == 1)
    one.routes._notices._tidy_due = 0.0
    one.routes.step()
    assert one.spooled() == []


def test_a_full_disk_is_told_and_nothing_of_the_object_is_left(tmp_path: Path) -> None:
    with rig(tmp_path, DiskLimit="999999T", Evict="Never") as one:
        reply = one.ask("objects/post", {"key": "a", "body": "x"})
        assert (reply.status, reply.body["code"]) == (507, "NoRoom")
        assert one.spooled() == []


# Where they go


def test_an_object_goes_the_way_of_the_source_it_names_or_else_that_of_objects(tmp_path: Path) -> None:
    sources = {
        "press": {"PathName": f"{tmp_path}/p/*", "BucketName": "presses", "ObjectKeyPrefix": "north"},
        "oven": {
            "PathName": f"{tmp_path}/o/*",
            "BucketName": "ovens",
            "ObjectKey": "{thing}/{source}/{path}",
        },
    }
    objects = {"BucketName": "reports", "ObjectKeyPrefix": "all"}
    with rig(tmp_path, PathName=None, BucketName=None, Sources=sources, Objects=objects) as one:
        for source in ("press", "OVEN", None):
            one.ask("objects/post", {"key": "a.txt", "body": "x", **({"source": source} if source else {})})
        expected = {("presses", "north/a.txt"), ("ovens", "press-7/oven/a.txt"), ("reports", "all/a.txt")}
        assert set(one.carrier.objects) == expected


def test_without_a_way_it_is_told_what_to_write(tmp_path: Path) -> None:
    sources = {name: {"PathName": f"{tmp_path}/{name}/*", "BucketName": "bucket"} for name in ("a", "b")}
    with rig(tmp_path, PathName=None, BucketName=None, Sources=sources) as one:
        reply = one.ask("objects/post", {"key": "a.txt", "body": "x"})
        assert reply.status == 400
        assert "write one of a, b, or configure Objects" in reply.body["message"]
        assert one.ask("objects/post", {"key": "k", "body": "x", "source": "c"}).status == 404


def test_an_agent_for_objects_alone_needs_no_folder_to_watch(tmp_path: Path) -> None:
    objects = {"BucketName": "reports"}
    with rig(tmp_path, PathName=None, BucketName=None, Objects=objects) as one:
        assert one.ask("objects/post", {"key": "a", "body": "x"}).status == 200
        assert set(one.carrier.objects) == {("reports", "a")}


def test_a_key_that_must_be_escaped_keeps_its_name_in_the_metadata(one: Rig) -> None:
    reply = one.ask("objects/post", {"key": "größe #1.txt", "body": "x"})
    assert reply.status == 200
    assert reply.body["key"] != "größe #1.txt"
    assert "original-name" in one.carrier.given[0].metadata


# Files


def test_a_file_goes_now_though_it_would_be_held_back(tmp_path: Path) -> None:
    with rig(tmp_path, QuietSeconds=3600, HoldBack="Newest") as one:
        path = write(tmp_path / "data" / "a.csv", "now")
        assert one.ask("objects/post", {"path": str(path)}).status == 200
        assert one.carrier.objects == {("bucket", "a.csv"): b"now"}
        eventually(lambda: not path.exists())


def test_a_file_that_is_being_written_is_left_alone(tmp_path: Path) -> None:
    with rig(tmp_path, QuietSeconds=3600) as one:
        path = write(tmp_path / "data" / "a.csv")
        with writing(path):
            reply = one.ask("objects/post", {"path": str(path)})
        assert (reply.status, reply.body["code"]) == (409, "Conflict")
        assert one.carrier.objects == {}


def test_a_file_of_no_source_is_refused(one: Rig, tmp_path: Path) -> None:
    foreign = write(tmp_path / "foreign.csv")
    inside = write(tmp_path / "data" / "a.txt")
    link = tmp_path / "data" / "link.csv"
    link.symlink_to("/etc/passwd")
    for path in (foreign, inside, link, one.work / "ledger.db", tmp_path / "data" / ".." / "foreign.csv"):
        reply = one.ask("objects/post", {"path": str(path)})
        assert reply.status in {400, 404}, path
        assert "path: " in reply.body["message"]
    assert one.carrier.objects == {}


def test_a_file_that_changes_before_it_is_sent_ends_the_wait(tmp_path: Path) -> None:
    with rig(tmp_path, QuietSeconds=3600) as one:
        one.ask("pause/post")
        path = write(tmp_path / "data" / "a.csv", "old")
        answer = one.send("objects/post", {"path": str(path), "waitSeconds": 60})
        eventually(lambda: one.ledger.known([]) == {} and one.source("default")["backlog"]["files"] == 1)
        write(path, "newer")
        one.ask("resume/post")
        assert (answer.reply().status, answer.reply().body["code"]) == (409, "NotStored")


def test_the_agents_own_folders_are_not_sent(tmp_path: Path) -> None:
    with rig(tmp_path, PathName=f"{tmp_path}/**/*.csv") as one:
        assert one.ask("objects/post", {"path": str(write(one.work / "a.csv"))}).status == 404
        assert one.ask("objects/post", {"path": str(write(tmp_path / "data" / "a.csv"))}).status == 200


# Killed

KILLED = """
import json, os, signal, sys
from pathlib import Path
from tests.routes.rig import Rig
raw = json.loads(sys.argv[2])
one = Rig(Path(sys.argv[1]), raw)
one.carrier.hold()
one.start()
for number in range(1000):
    reply = one.ask("objects/post", {"key": f"k{number}", "body": "x" * 2000, "waitSeconds": 0})
    assert reply.status == 202
    print(number, flush=True)
"""


def test_nothing_that_was_answered_is_lost_by_a_kill(tmp_path: Path) -> None:
    raw = {"Objects": {"BucketName": "bucket"}}
    command = [sys.executable, "-c", KILLED, str(tmp_path), json.dumps(raw)]
    root = Path(__file__).parents[2]
    env = environment() | {"PYTHONPATH": os.pathsep.join([str(root / "src"), str(root)])}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=env, cwd=root) as process:
        assert process.stdout
        told = [process.stdout.readline() for _ in range(60)]
        process.send_signal(signal.SIGKILL)
        told += process.stdout.readlines()
    numbers = {int(line) for line in told if line.endswith("\n")}
    assert len(numbers) >= 60
    with rig(tmp_path, PathName=None, BucketName=None, **raw) as one:
        eventually(lambda: {f"k{number}" for number in numbers} <= {key for _, key in one.carrier.objects})
