"""The connection to the nucleus and the configuration read by it, against the stand-in of the nucleus."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from tests.helpers import eventually
from tests.standins.nucleus import CLASSIC, COMPONENT, LITE, IpcError, NucleusStandIn
from tidegate.errors import NucleusGone, Refused, Unavailable
from tidegate.ipc import Configuration, Nucleus

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

GOOD = {"PathName": "/data/*.csv", "BucketName": "bucket", "Interval": 5, "accessControl": {}}
FOLLOWING = "SubscribeToConfigurationUpdate"
LONG = 3_600.0


@pytest.fixture(params=[LITE, CLASSIC])
def standin(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[NucleusStandIn]:
    with NucleusStandIn(socket=tmp_path / "ipc", configuration=GOOD, mode=request.param) as one:
        yield one


@pytest.fixture
def connect() -> Iterator[Callable[[NucleusStandIn], Nucleus]]:
    with contextlib.ExitStack() as stack:

        def connect_one(standin: NucleusStandIn, **limits: float) -> Nucleus:
            token = standin.environment()["SVCUID"]
            nucleus = Nucleus(str(standin.socket), token, pauses=(), **limits)
            stack.callback(nucleus.close)
            return nucleus

        yield connect_one


@pytest.fixture
def follow(connect: Any) -> Iterator[Callable[..., Configuration]]:
    """Follow a configuration, by events only unless told how often to look."""
    with contextlib.ExitStack() as stack:

        def follow_one(standin: NucleusStandIn, read_again: float = LONG) -> Configuration:
            configuration = Configuration(connect(standin), read_again=read_again)
            stack.callback(configuration.close)
            return configuration

        yield follow_one


def test_the_whole_configuration_is_read(standin, connect) -> None:
    assert connect(standin).configuration() == GOOD


def test_a_component_without_configuration_has_an_empty_one(standin, connect) -> None:
    standin.errors["GetConfiguration"] = IpcError("ResourceNotFoundError")
    assert connect(standin).configuration() == {}


def test_an_error_as_the_answer_names_itself_even_without_a_message(standin, connect) -> None:
    standin.errors["GetConfiguration"] = IpcError("UnauthorizedError")
    with pytest.raises(Refused, match="get_configuration: UnauthorizedError"):
        connect(standin).configuration()


def test_no_call_waits_longer_than_it_may(standin, connect) -> None:
    standin.silent_on.add("GetConfiguration")
    nucleus = connect(standin, limit=0.2)
    began = time.monotonic()
    with pytest.raises(Unavailable, match=r"not answered get_configuration in 0.2 seconds"):
        nucleus.configuration()
    assert time.monotonic() - began < 2


def test_a_lost_connection_says_so_and_every_call_fails_at_once(standin, connect) -> None:
    nucleus = connect(standin)
    assert nucleus.lost is None
    standin.drop_connections()
    assert "connection to the nucleus is lost" in eventually(lambda: nucleus.lost)
    with pytest.raises(Unavailable):
        nucleus.configuration()


def test_a_token_that_is_refused_ends_it(standin, connect) -> None:
    standin.refuse = True
    with pytest.raises(NucleusGone, match="connecting"):
        connect(standin)


def test_a_nucleus_that_does_not_greet_is_given_up_in_time(standin, connect) -> None:
    standin.silent_connect = True
    began = time.monotonic()
    with pytest.raises(NucleusGone, match="connecting"):
        connect(standin, limit=0.2)
    assert time.monotonic() - began < 2


def test_a_nucleus_that_is_late_is_waited_for(tmp_path) -> None:
    path = tmp_path / "ipc"
    made: list[Any] = []
    pauses = (0.2,) * 50
    # The token of the operator is always good, so the process can know it before there is a nucleus.
    late = threading.Thread(
        target=lambda: made.append(Nucleus(str(path), "standin-operator", pauses=pauses)), daemon=True
    )
    late.start()
    late.join(0.5)
    assert made == []
    with NucleusStandIn(socket=path, configuration=GOOD):
        late.join(10)
        (nucleus,) = made
        assert nucleus.lost is None
        nucleus.close()


def test_a_change_is_told_by_an_event_and_handed_out_once(standin, follow) -> None:
    configuration = follow(standin)
    assert eventually(configuration.changed) == GOOD
    assert configuration.changed() is None
    standin.configure({"Interval": 7, "ObjectKeyPrefix": "site"})
    assert eventually(configuration.changed) == GOOD | {"Interval": 7, "ObjectKeyPrefix": "site"}
    assert configuration.changed() is None


def test_the_many_events_of_one_deployment_make_few_readings(standin, follow) -> None:
    configuration = follow(standin)
    eventually(configuration.changed)
    before = standin.requests["GetConfiguration"]
    for number in range(40):
        standin.configure({"Tags": {f"tag{number}": "x"}})
    eventually(lambda: len((configuration.changed() or {}).get("Tags", ())) == 40)
    assert standin.requests["GetConfiguration"] - before <= 4


def test_a_subscription_that_died_in_silence_is_made_again_and_missed_changes_are_seen(
    standin, follow
) -> None:
    configuration = follow(standin, read_again=0.5)
    eventually(configuration.changed)
    eventually(lambda: standin.kill_subscriptions((COMPONENT,)))
    standin.configure({"Interval": 7})
    assert eventually(configuration.changed)["Interval"] == 7
    eventually(lambda: [it for it in standin.subscriptions if it[1] == FOLLOWING])


def test_a_subscription_that_lives_is_not_made_again(standin, follow) -> None:
    configuration = follow(standin, read_again=0.01)
    eventually(configuration.changed)
    standin.configure({"Interval": 7})
    assert eventually(configuration.changed)["Interval"] == 7
    before = standin.requests["GetConfiguration"]
    eventually(lambda: standin.requests["GetConfiguration"] > before + 20)
    assert standin.requests[FOLLOWING] <= 2  # a reading may just be faster than its event


def test_following_again_takes_the_place_of_the_subscription_before(standin, connect) -> None:
    nucleus, first, second = connect(standin), threading.Event(), threading.Event()
    nucleus.follow_configuration(first.set)
    nucleus.follow_configuration(second.set)
    eventually(lambda: len(standin.subscriptions) == 1)
    standin.configure({"Interval": 7})
    assert second.wait(10)
    assert not first.is_set()


def test_what_cannot_be_followed_is_read_all_the_same(standin, follow) -> None:
    standin.errors[FOLLOWING] = IpcError("ServiceError")
    configuration = follow(standin, read_again=0.2)
    assert eventually(configuration.changed) == GOOD
    standin.configure({"Interval": 7})
    assert eventually(configuration.changed)["Interval"] == 7


def test_a_reading_that_fails_is_tried_again(standin, follow, caplog) -> None:
    standin.errors["GetConfiguration"] = IpcError("ServiceError", "busy")
    configuration = follow(standin, read_again=0.2)
    eventually(lambda: "tried again without end" in caplog.text)
    assert configuration.changed() is None
    standin.errors.clear()
    assert eventually(configuration.changed) == GOOD


def test_whoever_looks_for_changes_never_waits_and_hears_that_the_nucleus_is_gone(standin, follow) -> None:
    standin.silent_on.add("*")
    configuration = follow(standin)
    began = time.monotonic()
    assert configuration.changed() is None
    assert time.monotonic() - began < 0.5
    standin.drop_connections()

    def gone() -> str:
        try:
            configuration.changed()
        except NucleusGone as err:
            return str(err)
        return ""

    assert "lost" in eventually(gone)


def test_a_good_configuration_is_waited_for_and_the_faults_of_others_are_told(
    standin, follow, caplog
) -> None:
    standin.configure({"Interval": "often", "HoldBack": "Bad"})
    configuration = follow(standin)
    found: list[Any] = []
    waiting = threading.Thread(target=lambda: found.extend(configuration.first_good()), daemon=True)
    waiting.start()
    eventually(lambda: "Interval: " in caplog.text and "HoldBack: " in caplog.text)
    assert found == []
    standin.configure({"Interval": "7", "HoldBack": "None"})
    waiting.join(10)
    raw, config = found
    assert raw["Interval"] == "7"
    assert config.sources[0].interval_seconds == 7


@pytest.fixture
def classic(tmp_path: Path) -> Iterator[NucleusStandIn]:
    with NucleusStandIn(socket=tmp_path / "ipc", configuration=GOOD, mode=CLASSIC) as one:
        yield one


def asked(standin: NucleusStandIn) -> bool:
    return any(it[1] == "SubscribeToValidateConfigurationUpdates" for it in standin.subscriptions)


def test_a_deployment_that_asks_is_told_whether_its_configuration_is_good(classic, follow) -> None:
    configuration = follow(classic)
    eventually(lambda: asked(classic))
    eventually(configuration.changed)
    verdict, message = classic.deploy({"Interval": "often", "Nonsense": 1})
    assert verdict == "REJECTED"
    assert "Interval: " in message
    assert "Nonsense" in message
    assert configuration.changed() is None
    assert classic.deploy({"Interval": 7}) == ("ACCEPTED", "")
    assert eventually(configuration.changed)["Interval"] == 7


def test_the_answer_comes_in_time_while_a_reading_hangs(classic, follow) -> None:
    configuration = follow(classic)
    eventually(lambda: asked(classic))
    eventually(configuration.changed)
    classic.delays["GetConfiguration"] = 60.0
    before = classic.requests["GetConfiguration"]
    classic.configure({"Interval": 8})
    eventually(lambda: classic.requests["GetConfiguration"] > before)
    began = time.monotonic()
    assert classic.deploy({"Interval": 7}) == ("ACCEPTED", "")
    assert time.monotonic() - began < 2
    classic.drop_connections()  # or closing would wait for the reading


def test_a_judge_that_fails_accepts(classic, connect, caplog) -> None:
    def judge(raw: Any) -> list[str]:
        raise ZeroDivisionError

    connect(classic).answer_validation(judge)
    eventually(lambda: asked(classic))
    assert classic.deploy({"Interval": 7}) == ("ACCEPTED", "")
    assert "could not be judged" in caplog.text


def test_a_nucleus_that_never_asks_is_not_subscribed_to_again_and_again(tmp_path, follow, caplog) -> None:
    caplog.set_level(logging.INFO)
    with NucleusStandIn(socket=tmp_path / "ipc", configuration=GOOD, mode=LITE) as lite:
        configuration = follow(lite, read_again=0.05)
        assert eventually(configuration.changed) == GOOD
        eventually(lambda: lite.requests["GetConfiguration"] > 3)
        assert lite.requests["SubscribeToValidateConfigurationUpdates"] == 1
        assert caplog.text.count("does not ask whether a configuration is good") == 1
        assert lite.deploy({"Interval": 7}) == ("UNASKED", "")
        assert eventually(configuration.changed)["Interval"] == 7
        configuration.close()
