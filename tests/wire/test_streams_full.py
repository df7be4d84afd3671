"""Streams that are full: there may be work in them, or only tasks that are done with, which may never go."""

from __future__ import annotations

import contextlib

import pytest

from tests.depot import all_arrived
from tests.standins.stream import Refusal
from tidegate.model import State


def fill(sm, stream):
    """Put tasks into the stream until it takes no more."""
    with contextlib.suppress(Refusal):
        while True:
            sm.inject_status(stream, b"{}" * 50)


SMALL = {"StreamMaxBytes": 16384, "Streams": 1}


@pytest.mark.parametrize(
    "makes_room",
    [
        pytest.param(True, marks=pytest.mark.rig(free_exported=True, settings=SMALL)),
        pytest.param(False, marks=pytest.mark.rig(free_exported=False, settings=SMALL)),
        pytest.param(False, marks=pytest.mark.rig(free_exported=False, settings=SMALL, full_status=1)),
    ],
)
def test_a_full_stream_is_waited_for_or_replaced_and_nothing_is_lost(rig, depot, makes_room):
    rig.hold()
    depot.send_many(100)
    depot.run_until(lambda: depot.unavailable, tick=0)
    lanes = rig.lanes()
    appends, sent = rig.sm.counters.appends, depot.tally()[State.SENT]
    assert 10 < sent < 100
    for _ in range(5):
        depot.round(tick=0)
    assert rig.sm.counters.appends == appends  # it is left alone
    depot.run_for(60, tick=6)
    assert depot.tally() == {State.SENT: sent, State.READY: 100 - sent}
    assert any("full" in reason for reason in depot.carrier.troubles().values())
    assert rig.lanes() == lanes  # there is work in it
    rig.let_go()
    depot.settle()
    all_arrived(depot, 100)
    assert len(rig.lanes()) == 1
    assert (rig.lanes() == lanes) is makes_room
    depot.audit()
    assert depot.carrier.troubles() == {}


@pytest.mark.rig(settings={"StreamMaxBytes": 16384, "Streams": 2})
def test_a_full_stream_does_not_stop_the_streams_beside_it(rig, depot):
    depot.send_many(4)
    depot.settle()
    rig.hold()
    fill(rig.sm, rig.lanes()[0])
    rig.let_go()
    depot.send_many(20, "more")
    depot.settle(tick=0)
    all_arrived(depot, 24)


@pytest.mark.rig(settings={"StreamMaxBytes": 1024, "Streams": 1})
def test_a_task_that_no_stream_can_hold_is_refused_and_delays_nobody(depot):
    depot.send("n" * 200 + "/" + " " * 250, modified=1_000_000_000)
    depot.send_many(3)
    depot.settle()
    assert depot.tally() == {State.STORED: 3, State.FAILED: 1}
