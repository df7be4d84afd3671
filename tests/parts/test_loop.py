"""Loops go on whatever happens in them, and end when they are told to."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import tidegate
from tests.helpers import PATIENCE, eventually
from tidegate.errors import LedgerLost, Unavailable
from tidegate.loop import Loop, Nudge

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class Recorder:
    """A step that does what it is told to, round after round, and the listeners of its loop."""

    def __init__(self, *rounds: float | Exception, then: float = 3600) -> None:
        self._rounds = list(rounds)
        self._then = then
        self.done = 0
        self.troubles: list[str | None] = []
        self.lost: list[LedgerLost] = []
        self.loop = Loop("test", self.step, trouble=self._trouble, lost=self.lost.append)

    def step(self) -> float:
        result = self._rounds[self.done] if self.done < len(self._rounds) else self._then
        self.done += 1
        if isinstance(result, Exception):
            raise result
        return result

    def _trouble(self, name: str, error: Unavailable | None) -> None:
        self.troubles.append(None if error is None else f"{name}: {error}")


@pytest.fixture
def started() -> Iterator[Callable[..., Recorder]]:
    recorders: list[Recorder] = []

    def start(*rounds: float | Exception, **keys: float) -> Recorder:
        recorder = Recorder(*rounds, **keys)
        recorders.append(recorder)
        recorder.loop.start()
        return recorder

    yield start
    for recorder in recorders:
        recorder.loop.stop()
        assert recorder.loop.join(PATIENCE)


def test_a_step_is_repeated_after_the_pause_that_it_asks_for(started: Callable[..., Recorder]) -> None:
    recorder = started(0, 0.01, 0)
    eventually(lambda: recorder.done == 4)


def test_a_nudge_brings_the_next_round_forward(started: Callable[..., Recorder]) -> None:
    recorder = started()
    eventually(lambda: recorder.done == 1)
    recorder.loop.nudge()
    eventually(lambda: recorder.done == 2)


def test_a_nudge_that_comes_while_the_step_works_is_not_lost() -> None:
    entered, go_on = threading.Event(), threading.Event()
    rounds: list[int] = []

    def step() -> float:
        rounds.append(len(rounds))
        entered.set()
        assert go_on.wait(PATIENCE)
        return 3600

    loop = Loop("test", step, trouble=lambda *_: None, lost=lambda _: None)
    loop.start()
    assert entered.wait(PATIENCE)
    loop.nudge()
    go_on.set()
    eventually(lambda: len(rounds) == 2)
    loop.stop()
    assert loop.join(PATIENCE)


def test_what_is_unavailable_is_told_and_tried_again(started: Callable[..., Recorder]) -> None:
    recorder = started(Unavailable("away"), 3600)
    eventually(lambda: recorder.troubles)
    recorder.loop.nudge()
    eventually(lambda: recorder.troubles == ["test: away", None])


def test_what_is_unavailable_because_of_the_end_is_no_trouble() -> None:
    entered, go_on = threading.Event(), threading.Event()
    troubles: list[object] = []

    def step() -> float:
        entered.set()
        assert go_on.wait(PATIENCE)
        raise Unavailable("hung up")

    loop = Loop("test", step, trouble=lambda *told: troubles.append(told))
    loop.start()
    assert entered.wait(PATIENCE)
    loop.stop()
    go_on.set()
    assert loop.join(PATIENCE)
    assert troubles == []


def test_a_bug_in_a_step_is_logged_with_its_place_and_ends_nothing(
    started: Callable[..., Recorder], caplog: pytest.LogCaptureFixture
) -> None:
    recorder = started(ZeroDivisionError("oops"))
    eventually(lambda: caplog.records)
    recorder.loop.nudge()
    eventually(lambda: recorder.done == 2)
    assert "test failed and is tried again in 2 seconds" in caplog.text
    assert "ZeroDivisionError: oops" in caplog.text


def test_a_lost_ledger_ends_the_loop_and_is_told(started: Callable[..., Recorder]) -> None:
    recorder = started(LedgerLost("full", damaged=False))
    assert recorder.loop.join(PATIENCE)
    assert [str(error) for error in recorder.lost] == ["full"]


def test_a_loop_that_waits_for_an_hour_ends_at_once_when_told(started: Callable[..., Recorder]) -> None:
    recorder = started()
    eventually(lambda: recorder.done == 1)
    recorder.loop.stop()
    assert recorder.loop.join(1)
    assert recorder.done == 1


def test_a_loop_whose_step_hangs_is_not_waited_for() -> None:
    hanging = threading.Event()
    loop = Loop("test", lambda: float(hanging.wait(PATIENCE)), trouble=lambda *_: None, lost=lambda _: None)
    loop.start()
    loop.stop()
    assert not loop.join(0.01)
    hanging.set()
    assert loop.join(PATIENCE)


def test_a_loop_that_never_began_has_ended() -> None:
    """An agent whose ledger is lost before its loops begin must be able to stop them all the same."""
    recorder = Recorder()
    recorder.loop.stop()
    assert recorder.loop.join(1)
    assert recorder.done == 0


def test_a_wait_tells_whether_a_nudge_came() -> None:
    nudge = Nudge()
    nudge()
    assert nudge.wait(0) is True
    assert nudge.wait(0) is False


SIGNALLED = """
import signal, threading
from tidegate.loop import obey
woken = threading.Event()
count = 0
def wake():
    global count
    count += 1
    if count == 1:
        raise RuntimeError("the others are obeyed all the same")
    woken.set()
obey({signal.SIGALRM: wake})
signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.0005)
while count < 1000:
    woken.wait(0.0001)
    woken.clear()
signal.setitimer(signal.ITIMER_REAL, 0)
"""
"""Is interrupted again and again where it holds the very lock that it is to be woken by."""


def test_a_signal_that_comes_while_its_thread_holds_a_lock_is_obeyed_all_the_same() -> None:
    environment = os.environ | {"PYTHONPATH": str(Path(tidegate.__file__).parents[1])}
    subprocess.run([sys.executable, "-c", SIGNALLED], env=environment, check=True, timeout=30)
