"""The connection to the nucleus and the configuration read by it, against the stand-in of the nucleus."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from tests.helpers import eventually
from tests.standins.nucleus import CLASSIC, COMPONENT, LITE, IpcError, NucleusStandIn
from tidegate.config import parse
from tidegate.errors import ConfigFaults, NotAllowed, NucleusGone, Refused, Unavailable
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
    waiting = threading.Thread(target=lambda: found.extend(configuration.first_good(None)), daemon=True)
    waiting.start()
    eventually(lambda: "Interval: " in caplog.text and "HoldBack: " in caplog.text)
    assert found == []
    standin.configure({"Interval": "7", "HoldBack": "None"})
    waiting.join(10)
    raw, config, faults = found
    assert not faults
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


def test_a_judge_that_hangs_does_not_hold_the_answer_up(classic, connect, caplog) -> None:
    release = threading.Event()

    def judge(raw: Any) -> list[str]:
        release.wait(10)
        return ["too late"]

    connect(classic).answer_validation(judge)
    eventually(lambda: asked(classic))
    for _ in range(2):  # nor does one that still hangs
        began = time.monotonic()
        assert classic.deploy({"Interval": 7}) == ("ACCEPTED", "")
        assert time.monotonic() - began < 2
    release.set()
    assert caplog.text.count("could not be judged in time") == 2


def test_a_verdict_on_a_configuration_with_a_file_reads_that_file(classic, follow, tmp_path) -> None:
    follow(classic)
    eventually(lambda: asked(classic))
    file = tmp_path / "more.yaml"
    assert "cannot be read" in classic.deploy({"ConfigurationFile": str(file)})[1]
    file.write_text("Interval: often")
    assert "Interval: " in classic.deploy({"ConfigurationFile": str(file)})[1]
    file.write_text("Interval: 9")
    assert classic.deploy({"ConfigurationFile": str(file)}) == ("ACCEPTED", "")


def test_an_update_waits_only_while_we_are_busy(classic, connect) -> None:
    nucleus = connect(classic)
    nucleus.answer_updates()
    eventually(lambda: any(it[1] == "SubscribeToComponentUpdates" for it in classic.subscriptions))
    assert classic.ask_to_update(seconds=5)["recheckAfterMs"] == 0
    nucleus.busy = lambda: True
    assert classic.ask_to_update(seconds=5)["recheckAfterMs"] > 0
    classic.finish_update("one")  # wants no answer
    nucleus.busy = lambda: False
    assert classic.ask_to_update(seconds=5)["recheckAfterMs"] == 0


def test_an_update_is_asked_about_where_the_nucleus_knows_that(standin, follow) -> None:
    configuration = follow(standin, read_again=0.05)
    eventually(configuration.changed)
    if standin.lite:
        eventually(lambda: standin.requests["GetConfiguration"] > 3)
        assert standin.requests["SubscribeToComponentUpdates"] == 1
    else:
        eventually(lambda: any(it[1] == "SubscribeToComponentUpdates" for it in standin.subscriptions))
        assert standin.ask_to_update(seconds=5)["recheckAfterMs"] == 0


def test_a_file_that_the_configuration_names_is_read_and_followed(standin, follow, tmp_path) -> None:
    file = tmp_path / "more.yaml"
    exclude = [f"pattern-{number}-*.tmp" for number in range(200)]  # far more than lite takes as one value
    file.write_text(yaml.safe_dump({"Exclude": exclude, "interval": 9}))
    standin.configure({"ConfigurationFile": str(file)})
    configuration = follow(standin)
    raw = eventually(configuration.changed)
    assert raw["Exclude"] == exclude
    assert parse(raw).sources[0].interval_seconds == 9
    assert configuration.changed() is None
    file.write_text("Interval: 10")
    assert parse(eventually(configuration.changed)).sources[0].interval_seconds == 10


def test_a_file_that_is_not_there_is_a_fault_until_it_comes(standin, follow, tmp_path) -> None:
    file = tmp_path / "more.yaml"
    configuration = follow(standin)
    eventually(configuration.changed)
    standin.configure({"ConfigurationFile": str(file)})

    def told() -> str:
        try:
            configuration.changed()
        except ConfigFaults as err:
            return str(err)
        return ""

    assert "cannot be read" in eventually(told)
    assert configuration.changed() is None  # told once
    file.write_text("Interval: 11")
    assert eventually(configuration.changed)["Interval"] == 11


def test_a_component_that_starts_with_a_bad_configuration_goes_on_with_the_last_good_one(
    standin, follow
) -> None:
    standin.configure({"Interval": "often"})
    configuration = follow(standin)
    found: list[Any] = []
    waiting = threading.Thread(target=lambda: found.extend(configuration.first_good(GOOD)), daemon=True)
    waiting.start()
    waiting.join(10)
    raw, config, faults = found
    assert raw == GOOD
    assert config.sources[0].interval_seconds == 5
    assert "Interval: " in faults[0]


def test_what_would_cost_the_connection_is_never_sent(standin, connect) -> None:
    standin.configure(reset=["/accessControl"])
    nucleus = connect(standin)
    for publish in (nucleus.publish_local, nucleus.publish_cloud):
        publish("t" * 200, b"x" * 6_000)
        for size in (7_250, 8_000, 100_000):
            with pytest.raises(ValueError, match="more than a nucleus takes"):
                publish("t" * 200, b"x" * size)
    assert nucleus.configuration()["Interval"] == 5
    assert nucleus.lost is None


@pytest.mark.parametrize("cloud", [False, True])
def test_the_largest_message_that_is_sent_gets_through_with_the_longest_topic(
    standin, connect, cloud
) -> None:
    standin.configure(reset=["/accessControl"])
    nucleus = connect(standin)
    publish = nucleus.publish_cloud if cloud else nucleus.publish_local
    topic, size = "t" * 256, 8_000
    while True:
        try:
            publish(topic, b"x" * size)
            break
        except ValueError:
            size -= 1
    assert size > 6_000
    assert nucleus.configuration()["Interval"] == 5


def test_messages_that_are_not_waited_for_tell_when_they_failed(standin, connect) -> None:
    standin.configure(reset=["/accessControl"])
    nucleus, failures = connect(standin), []
    nucleus.send_local("a/b", b"x", failures.append)
    eventually(lambda: standin.published)
    assert failures == []
    standin.errors["PublishToTopic"] = IpcError("UnauthorizedError")
    nucleus.send_local("a/b", b"x", failures.append)
    eventually(lambda: failures)
    assert isinstance(failures[0], NotAllowed)
    standin.drop_connections()
    eventually(lambda: nucleus.lost)
    nucleus.send_cloud("a/b", b"x", failures.append)
    assert isinstance(eventually(lambda: failures[1:])[0], Unavailable)


def test_a_nucleus_that_never_asks_is_not_subscribed_to_again_and_again(tmp_path, follow, caplog) -> None:
    caplog.set_level(logging.INFO)
    with NucleusStandIn(socket=tmp_path / "ipc", configuration=GOOD, mode=LITE) as lite:
        configuration = follow(lite, read_again=0.05)
        assert eventually(configuration.changed) == GOOD
        eventually(lambda: lite.requests["GetConfiguration"] > 3)
        assert lite.requests["SubscribeToValidateConfigurationUpdates"] == 1
        assert caplog.text.count("does not ask us about validation") == 1
        assert lite.deploy({"Interval": 7}) == ("UNASKED", "")
        assert eventually(configuration.changed)["Interval"] == 7
        configuration.close()
