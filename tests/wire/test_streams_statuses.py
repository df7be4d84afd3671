"""Status messages that nobody can make sense of, that are about something else, or that come twice or late."""

from __future__ import annotations

import json

import pytest

from tests.contract_carrier import REFUSED
from tests.standins.switches import Status
from tidegate.carry.streams.statuses import ID_METADATA
from tidegate.model import State
from tidegate.policy import MAX_ATTEMPTS

OTHER_ID = "00112233445566778899aabbccddeeff"


@pytest.fixture
def inject(rig):
    def inject(payload: bytes | dict) -> None:
        stream = next(name for name in rig.sm.streams if name.endswith(".status"))
        rig.sm.inject_status(stream, payload if isinstance(payload, bytes) else json.dumps(payload).encode())

    return inject


@pytest.fixture
def waiting(rig, depot):
    """A promise that waits in a stream whose uploads are held."""
    rig.hold()
    transfer = depot.send("file")
    depot.hand_over()
    depot.collect()
    assert depot.tally() == {State.SENT: 1}
    return transfer


def message(entry, status: int = Status.SUCCESS, *, echo: str | None = "", **fields) -> dict:
    """A status message about a promise; `echo` is the id in the task it echoes, None for no task."""
    context = {"streamName": entry.lane, "sequenceNumber": entry.receipt, "exportIdentifier": "x"}
    if echo is not None:
        metadata = {ID_METADATA: echo} if echo else {}
        context["s3ExportTaskDefinition"] = {
            "inputUrl": "file:/x",
            "bucket": "b",
            "key": "k",
            "userMetadata": metadata,
        }
    return {"eventType": 0, "status": int(status), "statusContext": context | fields, "message": "why"}


def garbage(entry) -> list[bytes | dict]:
    """Messages that each break another rule."""
    good = message(entry)
    return [
        *(b"", b"\xff\xfe\x00", b"null", b"[]", b"7", b'"text"', b"{", b"{}", b"[" * 100_000, b"1" * 10_000),
        *({**good, "status": status} for status in (None, "0", 99, -1, 0.5, [], 2**70)),
        *({**good, "statusContext": context} for context in (None, [], "text", 5, {})),
        message(entry, sequenceNumber="0"),
        message(entry, sequenceNumber=None),
        message(entry, sequenceNumber=-1),
        message(entry, sequenceNumber=2**63, echo=None),
        message(entry, sequenceNumber=2**70, echo=None),
        message(entry, streamName=None),
        message(entry, streamName=["a"]),
        message(entry, streamName="\ud800", echo=None),
        message(entry, s3ExportTaskDefinition="text"),
        message(entry, s3ExportTaskDefinition=[1]),
        message(entry, s3ExportTaskDefinition={"userMetadata": "text"}),
        message(entry, s3ExportTaskDefinition={"userMetadata": {ID_METADATA: 5}}),
    ]


def test_messages_that_make_no_sense_are_counted_and_passed_over(rig, depot, inject, waiting):
    messages = garbage(depot.entry(waiting))
    for payload in messages:
        inject(payload)
    depot.run_until(lambda: depot.counters().get("statuses_garbled") == len(messages))
    assert depot.entry(waiting).state is State.SENT
    rig.let_go()
    depot.send("another")
    depot.settle()
    assert depot.tally() == {State.STORED: 2}
    assert depot.counters()["statuses_garbled"] == len(messages)


@pytest.mark.parametrize("echo", [OTHER_ID, "", "not hexadecimal"])
def test_a_message_about_another_task_settles_nothing_though_it_names_our_stream_and_number(
    rig, depot, inject, waiting, echo
):
    for status in Status:
        inject(message(depot.entry(waiting), status, echo=echo))
    depot.run_until(lambda: depot.collect() == 0)
    assert depot.entry(waiting).state is State.SENT
    rig.let_go()
    depot.settle()
    assert depot.entry(waiting).attempts == 0
    assert set(depot.uploads().values()) == {1}


@pytest.mark.parametrize("status", [Status.FAILURE, Status.CANCELED])
@pytest.mark.parametrize(
    "fields", [{"sequenceNumber": 5}, {"streamName": "io.tidegate.S3Agent.default.1.99"}]
)
def test_bad_news_about_an_earlier_attempt_settles_nothing(rig, depot, inject, waiting, status, fields):
    inject(message(depot.entry(waiting), status, echo=waiting.id.hex(), **fields))
    inject(message(depot.entry(waiting), status, echo=None, **fields))
    depot.run_until(lambda: depot.counters().get("statuses_foreign", 0) == 2)
    assert depot.entry(waiting).state is State.SENT
    rig.let_go()
    depot.settle()
    assert depot.entry(waiting).attempts == 0
    assert set(depot.uploads().values()) == {1}


def test_messages_about_streams_of_others_are_counted_and_settle_nothing(rig, depot, inject, waiting):
    for echo in (None, "", OTHER_ID):
        inject(message(depot.entry(waiting), echo=echo, streamName="somebody-elses"))
    depot.run_until(lambda: depot.counters().get("statuses_foreign") == 3)
    assert depot.entry(waiting).state is State.SENT
    rig.let_go()
    depot.settle()
    assert depot.tally() == {State.STORED: 1}


def test_a_message_that_echoes_no_task_is_matched_by_stream_and_number(depot, inject, waiting):
    inject(message(depot.entry(waiting), Status.FAILURE, echo=None))
    depot.run_until(lambda: depot.entry(waiting).attempts == 1, tick=0)
    assert depot.entry(waiting).note == "Stream Manager reports failure: why"


def test_a_reason_that_no_database_can_hold_is_mended(depot, inject, waiting):
    bad = message(depot.entry(waiting), Status.FAILURE, echo=waiting.id.hex())
    inject(bad | {"message": "half a pair: \ud83d"})
    depot.run_until(lambda: depot.entry(waiting).attempts == 1, tick=0)
    assert "half a pair: ?" in depot.entry(waiting).note


def test_a_task_that_was_canceled_is_sent_again_at_no_cost(rig, depot, inject, waiting):
    inject(message(depot.entry(waiting), Status.CANCELED, echo=waiting.id.hex()))
    rig.let_go()
    depot.settle()
    assert depot.tally() == {State.STORED: 1}
    assert depot.entry(waiting).attempts == 0


@pytest.mark.rig(duplicate_statuses=True, reorder_statuses=7, warning_before_success=True)
def test_messages_that_come_twice_and_in_any_order_count_once(rig, depot):
    rig.refuse(lambda key: REFUSED if key == "poison" else None)
    poison = depot.send("poison")
    depot.send_many(40)
    depot.settle()
    assert depot.tally() == {State.STORED: 40, State.FAILED: 1}
    counters = depot.counters()
    assert counters["files_stored"] == 40
    assert counters["refusals"] == depot.entry(poison).attempts == MAX_ATTEMPTS
    assert set(depot.uploads().values()) == {1}


@pytest.mark.rig(emit_canceled_on_delete=True)
def test_a_stream_that_was_deleted_behind_our_back_may_cancel_its_tasks(rig, depot):
    rig.hold()
    depot.send_many(10)
    depot.hand_over()
    for lane in rig.lanes():
        rig.sm.delete_stream(lane)
    rig.let_go()
    depot.settle()
    assert depot.tally() == {State.STORED: 10}
    assert max(depot.uploads().values()) <= 2


def test_thousands_of_messages_are_read_in_a_few_rounds(depot, inject, waiting):
    foreign = message(depot.entry(waiting), echo=OTHER_ID)
    for _ in range(1000):
        inject(foreign)
        inject(b"garbage")
    for _ in range(3):
        depot.collect()
    counters = depot.counters()
    assert counters["statuses_foreign"] == counters["statuses_garbled"] == 1000
