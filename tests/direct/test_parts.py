"""Large files: sent in parts, taken up where they were, and no upload is forgotten."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from tests.helpers import eventually
from tests.standins.faulty_s3 import CRC, Fault, Held, error, reply
from tidegate.carry.direct.parts import MOST_PARTS, part_size_for
from tidegate.ledger import OpenUpload
from tidegate.model import State

MIB, GIB, TIB = 2**20, 2**30, 2**40
SIZE = 2300  # six parts
PARTS = 6


def numbers(server):
    return sorted(int(seen.query["partNumber"]) for seen in server.seen if seen.kind == "part")


def count(server, kind):
    return sum(seen.kind == kind for seen in server.seen)


def interrupted(on_faulty):
    """A depot that was killed when parts 1 to 3 of its file were stored."""
    gate, content = threading.Event(), os.urandom(SIZE)

    def script(seen):
        if seen.kind == "part" and int(seen.query["partNumber"]) > 3 and not gate.is_set():
            return Fault(error(503, "SlowDown"), wait=gate)
        return None

    depot, server = on_faulty(script, workers=2)
    transfer = depot.send("file", content)
    depot.hand_over()
    eventually(lambda: numbers(server) == [1, 2, 3, 4])
    eventually(lambda: [len(parts) for _, _, parts in server.uploads.values()] == [3])
    depot.close()
    gate.set()
    server.seen.clear()
    return depot, server, transfer, content


@pytest.mark.parametrize(
    ("size", "wanted", "made"),
    [
        (17 * MIB, 8 * MIB, 8 * MIB),
        (10_000 * 8 * MIB, 8 * MIB, 8 * MIB),
        (10_000 * 8 * MIB + 1, 8 * MIB, 9 * MIB),
        (5 * TIB, 8 * MIB, 525 * MIB),
        (5 * TIB, GIB, GIB),
    ],
)
def test_parts_are_as_large_as_wanted_or_so_large_that_they_are_not_too_many(size, wanted, made):
    assert part_size_for(size, wanted) == made
    assert -(-size // made) <= MOST_PARTS


def test_a_killed_upload_is_taken_up_and_only_what_is_missing_is_sent(on_faulty):
    depot, server, transfer, content = interrupted(on_faulty)
    depot.restart()
    depot.settle()
    assert numbers(server) == [4, 5, 6]
    assert count(server, "create") == count(server, "put") == 0
    assert server.objects["bucket/file"].body == content
    assert server.uploads == {}
    assert depot.ledger.uploads.of(transfer.id) is None


def test_a_part_that_is_not_what_the_file_holds_there_is_sent_again(on_faulty):
    depot, server, _, content = interrupted(on_faulty)
    ((_, _, parts),) = server.uploads.values()
    parts[2] = Held(b"x" * 400)
    depot.restart()
    depot.settle()
    assert numbers(server) == [2, 4, 5, 6]
    assert server.objects["bucket/file"].body == content


def test_an_upload_that_is_gone_begins_anew_and_costs_no_attempt(on_faulty):
    depot, server, transfer, content = interrupted(on_faulty)
    server.uploads.clear()
    depot.restart()
    depot.settle()
    assert numbers(server) == [1, 2, 3, 4, 5, 6]
    assert server.objects["bucket/file"].body == content
    assert depot.entry(transfer).attempts == 0
    assert "refusals" not in depot.counters()


def test_an_upload_that_goes_away_while_it_is_sent_begins_anew_and_costs_no_attempt(on_faulty):
    def script(seen):
        if seen.kind == "part" and seen.number == 3:
            server.uploads.clear()

    depot, server = on_faulty(script)
    content = os.urandom(SIZE)
    transfer = depot.send("file", content)
    depot.settle()
    assert server.objects["bucket/file"].body == content
    assert count(server, "create") == 2
    assert depot.entry(transfer).attempts == 0
    assert server.uploads == {}


def test_a_completion_whose_answer_was_lost_is_found_by_looking_and_nothing_is_sent_twice(on_faulty):
    lost = Fault(cut=0)
    depot, server = on_faulty(lambda seen: lost if seen.kind == "complete" else None)
    transfer = depot.send("file", os.urandom(SIZE))
    depot.settle()
    assert depot.tally() == {State.STORED: 1}
    assert (count(server, "create"), count(server, "complete"), count(server, "put")) == (1, 1, 0)
    assert numbers(server) == [1, 2, 3, 4, 5, 6]
    assert depot.entry(transfer).attempts == 0


def test_a_completion_whose_answer_was_lost_by_a_kill_is_found_by_looking(on_faulty):
    gate = threading.Event()
    depot, server = on_faulty(lambda seen: Fault(wait=gate) if seen.kind == "complete" else None)
    depot.send("file", os.urandom(SIZE))
    depot.hand_over()
    eventually(lambda: server.objects)
    depot.restart()
    depot.settle()
    assert depot.tally() == {State.STORED: 1}
    assert (count(server, "create"), count(server, "complete"), count(server, "put")) == (1, 1, 0)
    gate.set()


def test_a_small_file_whose_answer_was_lost_by_a_kill_is_found_by_looking(on_faulty):
    gate = threading.Event()
    depot, server = on_faulty(lambda seen: Fault(wait=gate) if seen.kind == "put" else None)
    depot.send("file", b"content")
    depot.hand_over()
    eventually(lambda: server.objects)
    depot.restart()
    depot.settle()
    assert depot.tally() == {State.STORED: 1}
    assert (count(server, "put"), count(server, "head")) == (1, 1)
    gate.set()


def test_an_upload_that_was_begun_and_not_written_down_is_aborted(on_faulty):
    gate = threading.Event()
    depot, server = on_faulty(
        lambda seen: Fault(wait=gate) if seen.kind == "create" and seen.number == 1 else None
    )
    content = os.urandom(SIZE)
    depot.send("file", content)
    depot.hand_over()
    (begun,) = eventually(lambda: list(server.uploads))
    depot.restart()
    depot.settle()
    assert [seen.query["uploadId"] for seen in server.seen if seen.kind == "abort"] == [begun]
    assert server.objects["bucket/file"].body == content
    assert server.uploads == {}
    gate.set()


def test_uploads_to_other_keys_are_left_alone_when_one_is_aborted(on_faulty):
    gate = threading.Event()
    depot, server = on_faulty(
        lambda seen: Fault(wait=gate) if seen.kind == "create" and seen.number == 1 else None
    )
    depot.send("file", os.urandom(SIZE))
    depot.hand_over()
    eventually(lambda: server.uploads)
    server.uploads["theirs"] = ("bucket/file-of-somebody", {}, {})
    depot.restart()
    depot.settle()
    assert list(server.uploads) == ["theirs"]
    gate.set()


def test_an_upload_to_another_key_is_aborted_before_a_new_one_is_begun(on_faulty):
    depot, server = on_faulty()
    server.uploads["old"] = ("bucket/old-key", {}, {})
    transfer = depot.send("file", os.urandom(SIZE))
    depot.ledger.uploads.note(
        OpenUpload(
            promise=transfer.id,
            source="default",
            bucket="bucket",
            key="old-key",
            upload_id="old",
            part_size=400,
        )
    )
    depot.settle()
    assert list(server.objects) == ["bucket/file"]
    assert server.uploads == {}


def test_the_upload_of_a_file_that_vanished_while_the_agent_was_dead_is_aborted(on_faulty):
    depot, server, transfer, _ = interrupted(on_faulty)
    Path(transfer.body.path).unlink()
    depot.restart()
    depot.run_for(100, tick=20)
    assert depot.tally() == {State.DROPPED: 1}
    eventually(lambda: not server.uploads)
    eventually(lambda: depot.ledger.uploads.of(transfer.id) is None)


def test_a_quarantined_file_leaves_no_upload_open(on_faulty):
    refusal = Fault(error(400, "InvalidTag"))
    depot, server = on_faulty(lambda seen: refusal if seen.kind == "complete" else None)
    depot.send("file", os.urandom(SIZE))
    depot.settle(tick=5)
    assert depot.tally() == {State.FAILED: 1}
    depot.run_for(200, tick=20)
    eventually(lambda: not server.uploads)


def test_a_part_that_arrived_as_something_else_never_becomes_a_part_of_the_object(on_faulty):
    other = Fault(reply(200, {"ETag": '"x"', CRC: "AAAAAAAAAAA="}))
    depot, server = on_faulty(lambda seen: other if seen.kind == "part" and seen.number == 2 else None)
    content = os.urandom(SIZE)
    transfer = depot.send("file", content)
    depot.settle()
    assert (count(server, "create"), count(server, "abort"), count(server, "complete")) == (2, 1, 1)
    assert server.objects["bucket/file"].body == content
    assert depot.entry(transfer).attempts == 0
