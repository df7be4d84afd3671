"""Decisions of the Direct carrier that need neither disk nor network."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.helpers import the_source
from tidegate.carry.choice import DIRECT, STREAMS, Choice
from tidegate.carry.direct.outage import FAILURES, Outage
from tidegate.carry.direct.verdict import verdict_of
from tidegate.config import parse
from tidegate.errors import Refused, Unavailable
from tidegate.model import Verdict
from tidegate.store.body import BodyChanged
from tidegate.store.errors import S3Error, kind_of


class Hand:
    """A clock that moves when it is told to."""

    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Hand()


@pytest.fixture
def outage(clock):
    return Outage(clock, lambda: 0.5)


def begin(outage):
    for _ in range(FAILURES):
        outage.failed("it is away")


# Outage


def test_a_few_failures_are_no_outage_if_something_works_in_between(outage):
    for _ in range(10):
        for _ in range(FAILURES - 1):
            outage.failed("it is away")
        outage.worked()
    assert not outage.lasts
    assert outage.admits()
    assert outage.admits()


def test_in_an_outage_one_at_a_time_tries_in_growing_intervals_of_less_than_a_minute(outage, clock):
    begin(outage)
    waits = []
    for _ in range(10):
        assert not outage.admits()
        assert outage.forbids()
        began = clock.now
        while not outage.admits():
            clock.now += 0.5
        assert not outage.admits()  # one is trying
        waits.append(clock.now - began)
        outage.failed("it is still away")
    assert waits == sorted(waits)
    assert waits[0] <= 2
    assert 30 < waits[-1] <= 50
    assert outage.lasts
    assert outage.reason == "it is still away"


def test_the_first_that_gets_an_answer_ends_the_outage(outage, clock):
    begin(outage)
    clock.now += 60
    assert outage.admits()
    outage.worked()
    assert not outage.lasts
    assert outage.admits()
    assert outage.admits()
    begin(outage)
    clock.now += 2.1  # it begins with short waits again
    assert outage.admits()


def test_one_who_never_came_to_try_lets_the_next_one(outage, clock):
    begin(outage)
    clock.now += 60
    assert outage.admits()
    outage.undecided()
    assert outage.lasts
    assert outage.admits()


# Verdicts


@pytest.mark.parametrize(
    ("error", "verdict", "is_outage"),
    [
        ((503, "SlowDown"), Verdict.AGAIN, True),
        ((500, ""), Verdict.AGAIN, True),
        ((403, "RequestTimeTooSkewed"), Verdict.AGAIN, True),
        ((400, "ExpiredToken"), Verdict.AGAIN, True),
        ((403, "AccessDenied"), Verdict.BLOCKED, False),
        ((404, "NoSuchBucket"), Verdict.BLOCKED, False),
        ((409, "ConditionalRequestConflict"), Verdict.AGAIN, False),
        ((404, "NoSuchUpload"), Verdict.AGAIN, False),
        ((400, "InvalidPart"), Verdict.AGAIN, False),
        ((400, "KeyTooLongError"), Verdict.REFUSED, False),
    ],
)
def test_what_s3_says_means_this_for_the_promise(error, verdict, is_outage):
    status, code = error
    found = verdict_of(S3Error(kind_of(status, code), status, code, "why", ""))
    assert (found[0], found[2]) == (verdict, is_outage)
    assert "why" in found[1]


@pytest.mark.parametrize(
    ("error", "verdict", "is_outage"),
    [
        (Unavailable("no route"), Verdict.AGAIN, True),
        (BodyChanged("it is gone"), Verdict.CHANGED, False),
        (Refused("no such key"), Verdict.REFUSED, False),
        (PermissionError(13, "Permission denied"), Verdict.REFUSED, False),
        (ZeroDivisionError("a bug"), Verdict.REFUSED, False),
    ],
)
def test_what_happens_here_means_this_for_the_promise(error, verdict, is_outage):
    found = verdict_of(error)
    assert (found[0], found[2]) == (verdict, is_outage)


# Choice


def choice_of(clock, answers, *, in_greengrass=True, **keys):
    config = parse({"PathName": "/data/*.csv", "BucketName": "bucket", **keys})
    probes = []

    def probe(_):
        probes.append(clock.now)
        return answers[0]

    return Choice(config, in_greengrass=in_greengrass, steady=clock, probe=probe), config.sources[0], probes


@pytest.mark.parametrize(
    ("keys", "in_greengrass", "answers", "carrier", "why"),
    [
        ({"Carrier": "Direct"}, True, True, DIRECT, "Carrier is Direct"),
        ({"Carrier": "StreamManager"}, False, False, STREAMS, "Carrier is StreamManager"),
        ({}, True, True, STREAMS, "can be reached"),
        ({}, True, False, DIRECT, "cannot be reached"),
        ({}, False, True, DIRECT, "not a Greengrass component"),
        ({"StorageClass": "STANDARD_IA"}, True, True, DIRECT, "which Stream Manager cannot do"),
    ],
)
def test_the_carrier_is_chosen_by_this_table(clock, keys, in_greengrass, answers, carrier, why):
    choice, source, _ = choice_of(clock, [answers], in_greengrass=in_greengrass, **keys)
    chosen, reason = choice.of(source)
    assert chosen == carrier
    assert why in reason


def test_stream_manager_may_be_away_for_a_minute_before_files_go_another_way(clock):
    answers = [True]
    choice, source, _ = choice_of(clock, answers)
    assert choice.of(source)[0] == STREAMS
    answers[0] = False
    clock.now += 59
    assert choice.of(source)[0] == STREAMS
    clock.now += 2
    assert choice.of(source)[0] == DIRECT
    answers[0] = True
    clock.now += 15
    assert choice.of(source)[0] == STREAMS


def test_stream_manager_is_not_asked_for_each_file(clock):
    choice, source, probes = choice_of(clock, [True])
    for _ in range(100):
        choice.of(source)
    assert len(probes) == 1


@pytest.mark.parametrize(
    ("keys", "in_greengrass", "may_be"),
    [
        ({}, True, True),
        ({}, False, False),
        ({"Carrier": "Direct"}, True, False),
        ({"Carrier": "StreamManager"}, False, True),
        ({"StorageClass": "STANDARD_IA"}, True, False),
    ],
)
def test_stream_manager_is_needed_only_where_it_may_be_chosen(clock, keys, in_greengrass, may_be):
    choice, _, _ = choice_of(clock, [True], in_greengrass=in_greengrass)
    assert choice.may_be_streams(the_source(Path("/data"), **keys)) is may_be
