"""Stream Manager fails in every way it can; each file arrives all the same, and none is told stored too soon."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import pytest

from tests.contract_carrier import FORBIDDEN, REFUSED
from tests.depot import PATIENCE, all_arrived
from tests.helpers import eventually
from tests.standins.switches import Status
from tidegate.model import State
from tidegate.policy import MAX_ATTEMPTS

BOTH_POLICIES = [pytest.mark.rig(on_error="failure"), pytest.mark.rig(on_error="retry")]
both_policies = pytest.mark.parametrize(
    "policy", [pytest.param(None, marks=mark, id=mark.kwargs["on_error"]) for mark in BOTH_POLICIES]
)


# The connection


@pytest.mark.parametrize("reset", [False, True])
def test_connections_that_drop_all_the_time_lose_nothing(rig, depot, reset):
    depot.send_many(40)
    for _ in range(10):
        depot.hand_over()
        rig.sm.drop_connections(reset=reset)
        depot.collect()
    depot.settle()
    all_arrived(depot, 40)


def test_an_end_does_not_wait_for_stream_manager_to_have_news(rig, make_depot):
    rig.poll_seconds, rig.request_seconds = 3600, 7200
    depot = make_depot()
    depot.send_many(1)
    depot.hand_over()

    def read() -> None:
        while not depot.unavailable:
            depot.collect()

    reading = threading.Thread(target=read, daemon=True)
    reading.start()
    eventually(lambda: rig.sm.counters.reads >= 2)
    depot.carrier.wake()
    reading.join(PATIENCE)
    assert not reading.is_alive()


@pytest.mark.parametrize("operation", ["append", "create", "list", "describe", "read"])
def test_a_connection_that_drops_instead_of_an_answer_loses_nothing(rig, depot, operation):
    rig.sm.drop_on, rig.sm.drop_after = operation, 1
    depot.send_many(10)
    depot.round()
    depot.audit()
    depot.settle()
    assert rig.sm.drop_after is None
    all_arrived(depot, 10)


@pytest.mark.parametrize("operation", ["append", "create", "list", "describe", "read"])
def test_answers_that_come_after_the_time_out_lose_nothing(rig, make_depot, operation):
    rig.request_seconds = 0.15
    depot = make_depot()
    rig.sm.late_reply, rig.sm.late_on = (3, 0.25), operation
    depot.send_many(10)
    depot.round()
    depot.audit()
    depot.settle()
    assert rig.sm.late_reply[0] < 3
    all_arrived(depot, 10)


@pytest.mark.rig(fragment_header=True)
def test_answers_in_two_pieces_do_not_matter(rig, depot):
    depot.send_many(10)
    depot.settle()
    assert rig.sm.counters.connections == 2  # one to hand over, one to listen
    assert depot.unavailable == []
    all_arrived(depot, 10)


def test_a_server_that_falls_silent_is_waited_for(rig, make_depot):
    rig.request_seconds = rig.connect_seconds = 0.2
    depot = make_depot()
    rig.hold()
    depot.send_many(3, "before")
    depot.round()
    rig.sm.silent = True
    depot.send_many(3, "after")
    depot.round()
    depot.round()
    assert len(depot.unavailable) >= 2
    rig.sm.silent = False
    rig.let_go()
    depot.settle()
    all_arrived(depot, 6)


@pytest.mark.rig(token="right")
def test_a_token_that_is_refused_is_waited_for(depot, monkeypatch):
    depot.send_many(3)
    depot.run_for(100, tick=10)
    assert depot.tally() == {State.READY: 3}
    monkeypatch.setenv("AWS_CONTAINER_AUTHORIZATION_TOKEN", "right")
    depot.settle()
    all_arrived(depot, 3)


# Streams that are lost, or start anew


def test_streams_are_kept_when_the_agent_and_stream_manager_start_anew(rig, depot):
    rig.hold()
    depot.send_many(20)
    depot.hand_over()
    streams = rig.sm.streams
    rig.go_away()
    depot.run_for(600, tick=60)
    gate = threading.Event()
    rig.come_back(on_export=lambda _: gate.wait(PATIENCE))
    depot.restart()
    depot.run_for(60, tick=10)
    assert sorted(rig.sm.streams) == sorted(streams)
    assert rig.sm.counters.appends == 0
    gate.set()
    depot.settle()
    assert set(depot.uploads().values()) == {1}


def test_the_tasks_of_streams_that_were_wiped_are_sent_again(rig, depot):
    depot.send_many(5, "before")
    depot.settle()
    rig.hold()
    lanes = rig.lanes()
    depot.send_many(20)
    depot.round()
    assert depot.tally() == {State.STORED: 5, State.SENT: 20}
    rig.sm.wipe()
    rig.let_go()
    depot.settle()
    assert not set(rig.lanes()) & set(lanes)  # no (stream, number) means two tasks
    assert depot.tally() == {State.STORED: 25}
    assert set(depot.uploads().values()) == {1}  # all news was read from the beginning


@pytest.mark.rig(settings={"Persistence": "Memory"})
def test_the_tasks_of_streams_that_were_emptied_and_number_from_0_are_sent_again(rig, depot):
    depot.send_many(5, "before")
    depot.settle()
    rig.hold()
    depot.send_many(20)
    depot.round()
    rig.go_away()
    rig.come_back()
    assert len(rig.sm.streams) == 3
    depot.send_many(5, "after")
    depot.settle()
    assert depot.tally() == {State.STORED: 30}
    assert set(depot.uploads().values()) == {1}  # all news was read from the beginning


def test_a_status_stream_that_was_lost_with_its_news_is_made_anew_and_the_files_are_sent_again(rig, depot):
    depot.send_many(5, "before")
    depot.settle()
    depot.send_many(10)
    depot.hand_over()
    eventually(lambda: len(rig.sm.exported) == 15)
    rig.sm.delete_stream(next(name for name in rig.sm.streams if name.endswith(".status")))
    depot.settle()
    all_arrived(depot, 15)


@pytest.mark.rig(settings={"StreamMaxBytes": 16384, "Streams": 1})
def test_news_that_was_overwritten_before_it_was_read_is_noticed(rig, depot):
    transfers = depot.send_many(20)
    depot.hand_over()
    eventually(lambda: len(rig.sm.exported) == 20)
    depot.run_until(lambda: depot.collect() == 0)
    lost = [it for it in transfers if depot.entry(it).state is State.SENT]
    assert 0 < len(lost) < 20
    depot.settle()
    assert depot.counters()["statuses_missed"] == len(lost)
    all_arrived(depot, 20)


def test_a_lost_success_is_noticed_and_the_file_is_sent_once_more(rig, depot):
    to_lose = {"file003", "file007"}

    def lose(task, status):
        if status is not Status.SUCCESS or task.key not in to_lose:
            return False
        to_lose.remove(task.key)
        return True

    rig.sm.lose_statuses = lose
    depot.send_many(10)
    depot.settle()
    again = {key for key, count in depot.uploads().items() if count == 2}
    assert again == {"file003", "file007"}
    all_arrived(depot, 10)


def test_a_stream_of_an_older_generation_is_worked_off_and_then_deleted(rig, make_depot):
    depot = make_depot()
    rig.hold()
    depot.send_many(4)
    depot.hand_over()
    old = rig.lanes()
    for slot in depot.ledger.lanes("default"):
        depot.ledger.use_lane("default", slot, 5)
    depot.restart()
    depot.round()
    assert set(old) < set(rig.lanes())
    rig.let_go()
    depot.settle()
    assert set(depot.uploads().values()) == {1}
    depot.restart()
    depot.round()
    assert not set(old) & set(rig.lanes())
    assert len(rig.lanes()) == len(old)


def test_a_new_ledger_goes_on_with_the_streams_that_are_there(rig, depot):
    depot.hand_over()
    rig.sm.wipe()  # so that they are not of the first generation
    depot.send_many(4)
    depot.settle()
    lanes = rig.lanes()
    depot.close()
    (depot.root / "ledger.db").unlink()
    depot.restart()
    assert depot.tally() == {}
    depot.promise(*map(str, depot.files.iterdir()))
    depot.settle()
    assert rig.lanes() == lanes
    all_arrived(depot, 4)


# Errors that are reported, and errors that are kept quiet


@both_policies
def test_a_poison_file_neither_blocks_the_others_nor_is_lost(rig, depot, policy):
    rig.refuse(lambda key: REFUSED if key == "poison" else None)
    poison = depot.send("poison", modified=1_000_000_000)
    depot.send_many(49)
    depot.settle(tick=3)
    assert depot.tally() == {State.STORED: 49, State.FAILED: 1}
    entry = depot.entry(poison)
    assert entry.attempts == MAX_ATTEMPTS
    assert "not welcome" in entry.note
    assert Path(poison.body.path).exists()
    assert depot.carrier.troubles() == {}
    rig.refuse(None)
    depot.ledger.retry(None, now=depot.clock.wall())
    depot.settle()
    assert depot.content(poison) == b"content"


@both_policies
def test_a_file_that_vanishes_after_it_was_handed_over_delays_nobody(rig, depot, policy):
    rig.hold()
    vanishing = depot.send("vanishing", modified=1_000_000_000)
    depot.send_many(5)
    depot.hand_over()
    Path(vanishing.body.path).unlink()
    rig.let_go()
    depot.settle()
    assert depot.tally() == {State.STORED: 5, State.DROPPED: 1}
    assert depot.counters()["files_dropped"] == 1
    assert depot.counters().get("files_quarantined", 0) == 0


@pytest.mark.rig(on_error="retry")
def test_a_silent_stall_is_shown_with_its_reason_until_it_is_over(rig, depot):
    rig.refuse(lambda _: FORBIDDEN)
    depot.send_many(10)
    depot.hand_over()
    lanes = rig.lanes()
    depot.run_for(3600, tick=300)
    assert set(depot.carrier.troubles()) == set(rig.lanes())
    assert all("Status Code: 403" in reason for reason in depot.carrier.troubles().values())
    assert depot.tally() == {State.SENT: 10}
    assert rig.lanes() == lanes  # to replace them would not help
    depot.audit()
    rig.refuse(None)
    depot.settle(tick=0)  # so that no audit sees it get on
    depot.audit()
    assert depot.carrier.troubles() == {}
    all_arrived(depot, 10)


@pytest.mark.rig(on_error="retry", settings={"Streams": 1})
def test_a_task_that_nobody_waits_for_any_more_does_not_hold_up_those_behind_it(rig, depot):
    rig.hold()
    task = {"inputUrl": f"file:{depot.files}/gone", "bucket": depot.bucket, "key": "gone"}
    depot.hand_over()
    depot.carrier.lanes("default")
    rig.sm.inject_status(rig.lanes()[0], json.dumps(task).encode())
    depot.send_many(5)
    depot.hand_over()
    rig.let_go()
    depot.settle()
    all_arrived(depot, 5)
