"""The agent as the component that it is: a real process, started and configured by a nucleus' stand-in."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import yaml

from tests.helpers import eventually, write
from tests.standins.faulty_s3 import FaultyS3
from tests.standins.nucleus import CLASSIC, LITE, IpcError
from tests.whole.component import SECONDS, TOLD, Device, accepted, ask, events, is_open, stopped
from tidegate import __version__
from tidegate.doors.asking import ask as ask_by_socket

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.slow

GONE = 6


@pytest.fixture(params=[LITE, CLASSIC])
def device(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Device]:
    with FaultyS3() as s3:
        one = Device(tmp_path, s3, request.param)
        yield one
        one.close()


def test_a_component_is_configured_delivers_follows_a_merge_survives_a_bad_one_and_stops(device) -> None:
    process = device.start()
    device.delivers("first.csv", "first.csv")
    assert (device.work / "ledger.db").exists()
    device.nucleus.configure({"ObjectKeyPrefix": "site"})
    device.says("is used from now on")
    device.delivers("second.csv", "site/second.csv")
    device.nucleus.configure({"Interval": "often", "Nonsense": "1", "ObjectKeyPrefix": "lost"})
    device.says("the last good one is: Nonsense")
    device.says("the last good one is: Interval")
    device.delivers("third.csv", "site/third.csv")
    device.nucleus.configure({"Interval": 1, "ObjectKeyPrefix": "better"}, reset=["/Nonsense"])
    eventually(lambda: device._log.read_text().count("is used from now on") == 2, SECONDS)
    device.delivers("fourth.csv", "better/fourth.csv")
    assert stopped(process) == TOLD


def test_a_deployment_on_classic_learns_what_is_wrong_before_anything_changes(device) -> None:
    process = device.start()
    device.delivers("first.csv", "first.csv")
    verdict, message = device.deploy({"Interval": "often"})
    if device.nucleus.lite:
        assert (verdict, message) == ("UNASKED", "")
    else:
        assert verdict == "REJECTED"
        assert "Interval: " in message
    assert device.deploy({"Interval": "1", "ObjectKeyPrefix": "site"})[0] != "REJECTED"
    device.says("is used from now on")
    device.delivers("second.csv", "site/second.csv")
    assert stopped(process) == TOLD


def test_a_component_that_is_not_configured_waits_for_it_and_can_be_stopped_meanwhile(device) -> None:
    device.nucleus.configure({"PathName": "", "LogLevel": "Loud"})
    process = device.start()
    device.says("waiting for a better configuration: PathName: is missing")
    device.says("waiting for a better configuration: LogLevel: ")
    assert stopped(process) == TOLD
    process = device.start()
    device.nucleus.configure({"PathName": f"{device.data}/*.csv", "LogLevel": "INFO"})
    device.delivers("first.csv", "first.csv")
    assert stopped(process) == TOLD


def test_a_component_that_was_never_configured_well_tells_whoever_asks_until_an_agent_takes_over(
    device,
) -> None:
    device.nucleus.configure({"PathName": "", "LogLevel": "Loud"})
    process = device.start()
    for cloud in (False, True):
        verdict, told = ask(device, "statistics/get", cloud=cloud)
        assert (verdict, told["sources"], told["configuration"]["count"]) == ("accepted", [], 2)
        assert told["version"] == __version__
        verdict, told = ask(device, "scan/post", cloud=cloud)
        assert (verdict, told["status"], told["code"]) == ("rejected", 503, "NotConfigured")
        assert "PathName: is missing" in told["message"]
        assert "LogLevel: " in told["message"]
        (event,) = eventually(lambda c=cloud: events(device, "configuration-rejected", cloud=c), SECONDS)
        assert event["count"] == 2
    assert ask_by_socket(device.work, "configuration/get", {}, seconds=SECONDS)["configuration"]["count"] == 2
    device.nucleus.configure({"PathName": f"{device.data}/*.csv", "LogLevel": "INFO"})
    device.delivers("first.csv", "first.csv")
    told = accepted(device, "statistics/get")
    assert (told["configuration"]["count"], len(told["sources"])) == (0, 1)
    assert accepted(device, "statistics/get", cloud=True)["thing"] == device.nucleus.thing_name
    assert ask_by_socket(device.work, "scan/post", {}, seconds=SECONDS)["status"] == 200
    assert stopped(process) == TOLD


def test_a_lost_connection_ends_the_process_once_with_its_own_code_and_a_new_one_goes_on(device) -> None:
    process = device.start()
    device.delivers("first.csv", "first.csv")
    device.nucleus.restart()
    assert process.wait(SECONDS) == GONE
    device.says("the connection to the nucleus is lost")
    process = device.start()
    device.delivers("second.csv", "second.csv")
    eventually(lambda: accepted(device, "statistics/get")["totals"]["uploaded"] == 2, SECONDS)
    assert stopped(process) == TOLD


def test_a_connection_that_is_lost_while_waiting_for_a_configuration_ends_it_too(device) -> None:
    device.nucleus.configure({"PathName": ""})
    process = device.start()
    device.says("waiting for a better configuration")
    device.nucleus.drop_connections()
    assert process.wait(SECONDS) == GONE


def test_the_commands_work_inside_a_component_as_elsewhere(device) -> None:
    assert device.start("status").wait(SECONDS) == 3
    device.says("no agent ever ran in")
    assert device.start("--help").wait(SECONDS) == 0
    device.says("As a Greengrass component it needs no command")


@pytest.mark.parametrize("cloud", [False, True], ids=["local", "cloud"])
def test_a_component_is_asked_how_things_go_and_answers(device, cloud) -> None:
    process = device.start()
    device.delivers("first.csv", "first.csv")
    eventually(lambda: accepted(device, "statistics/get", cloud=cloud)["totals"]["uploaded"] == 1, SECONDS)
    verdict, body = ask(device, "nonsense/get", cloud=cloud)
    assert (verdict, body["status"]) == ("rejected", 404)
    assert stopped(process) == TOLD


def test_a_bad_configuration_is_told_in_the_log_in_statistics_and_as_an_event_and_a_restart_keeps_the_last_good(
    device,
) -> None:
    process = device.start()
    device.delivers("first.csv", "first.csv")
    device.nucleus.configure({"Interval": "often", "Nonsense": "1"})
    device.says("the last good one is: Interval")
    eventually(lambda: accepted(device, "statistics/get")["configuration"]["count"] == 2, SECONDS)
    for cloud in (False, True):
        (event,) = eventually(lambda c=cloud: events(device, "configuration-rejected", cloud=c), SECONDS)
        assert event["count"] == 2
    assert stopped(process) == TOLD
    process = device.start()  # as lite does with each deployment that changes the configuration
    device.delivers("second.csv", "second.csv")
    eventually(lambda: accepted(device, "statistics/get")["configuration"]["count"] == 2, SECONDS)
    device.nucleus.configure({"Interval": "1", "ObjectKeyPrefix": "site"}, reset=["/Nonsense"])
    device.says("is used from now on")
    device.delivers("third.csv", "site/third.csv")
    assert accepted(device, "statistics/get")["configuration"]["count"] == 0
    assert stopped(process) == TOLD


def test_what_the_nucleus_cannot_carry_comes_from_a_file(device, tmp_path) -> None:
    exclude = [f"pattern-{number:04}-*.csv" for number in range(200)]
    if device.nucleus.lite:
        with pytest.raises(IpcError):
            device.nucleus.configure({"Exclude": exclude})
    file = tmp_path / "more.yaml"
    file.write_text(yaml.safe_dump({"Exclude": exclude, "ObjectKeyPrefix": "site"}))
    device.nucleus.configure({"ConfigurationFile": str(file)})
    process = device.start()
    device.delivers("first.csv", "site/first.csv")
    write(device.data / "pattern-0001-x.csv")
    file.write_text(yaml.safe_dump({"Exclude": exclude, "ObjectKeyPrefix": "other"}))
    device.says("is used from now on")
    device.delivers("second.csv", "other/second.csv")
    assert (device.data / "pattern-0001-x.csv").exists()
    assert stopped(process) == TOLD


def test_another_agent_in_the_work_directory_is_waited_for_not_crashed_about(device) -> None:
    with device.lock():
        process = device.start()
        device.says("waiting for the work directory: ")
        assert stopped(process) == TOLD
        process = device.start()
        device.says("belongs to an agent that runs")
        assert process.poll() is None
    device.delivers("first.csv", "first.csv")
    assert stopped(process) == TOLD


@pytest.mark.parametrize("device", [LITE], indirect=True)
def test_a_message_that_kills_a_subscription_keeps_requests_away_only_for_a_while(device) -> None:
    process = device.start()
    assert accepted(device, "statistics/get")
    device.nucleus.publish("tidegate/anything/post", {"list": list(range(60))})
    assert not is_open(device, "tidegate")
    eventually(lambda: is_open(device, "tidegate"), 60.0)
    assert accepted(device, "statistics/get")
    assert stopped(process) == TOLD


def test_offline_a_component_delivers_tells_what_it_can_and_catches_up_later(device) -> None:
    process = device.start()
    device.nucleus.go_offline()
    device.delivers("first.csv", "first.csv")
    device.nucleus.configure({"Interval": "often"})
    eventually(lambda: events(device, "configuration-rejected"), SECONDS)
    assert not events(device, "configuration-rejected", cloud=True)
    device.nucleus.go_online()
    eventually(lambda: events(device, "configuration-rejected", cloud=True), 60.0)
    assert stopped(process) == TOLD


def test_a_nucleus_that_says_nothing_any_more_does_not_keep_a_component_from_stopping_in_time(device) -> None:
    process = device.start()
    assert accepted(device, "statistics/get")
    assert accepted(device, "statistics/get", cloud=True)
    device.nucleus.silent_on.add("*")
    path = write(device.data / "a.csv", "1")
    eventually(lambda: not path.exists(), SECONDS)  # files go on
    device.nucleus.kill_subscriptions()
    assert stopped(process) == TOLD


def test_topics_follow_the_configuration(device) -> None:
    process = device.start()
    assert accepted(device, "statistics/get")
    rights = {"operations": ["*"], "resources": ["line/7/*"]}
    access = {"aws.greengrass.ipc.pubsub": {"tidegate:pubsub:other": rights}}
    device.nucleus.configure({"LocalTopicBase": "line/7", "CloudTopicBase": "None", "accessControl": access})
    eventually(lambda: is_open(device, "line/7"), SECONDS)
    eventually(lambda: not is_open(device, "tidegate"), SECONDS)
    eventually(lambda: not is_open(device, f"tidegate/{device.nucleus.thing_name}"), SECONDS)
    assert stopped(process) == TOLD


def test_cloudwatch_is_told_when_that_is_wanted(device) -> None:
    process = device.start()
    assert accepted(device, "configuration/get")["agent"]["CloudWatchMetrics"] is False
    device.nucleus.configure({"CloudWatchMetrics": "true", "MetricsInterval": "10"})
    eventually(
        lambda: [one for one in device.nucleus.published if one.topic == "cloudwatch/metric/put"], SECONDS
    )
    eventually(
        lambda: str(accepted(device, "configuration/get")["agent"]["CloudWatchMetrics"]).lower() == "true",
        SECONDS,
    )
    assert stopped(process) == TOLD


def test_an_update_of_components_is_not_held_up_when_nothing_is_let_go(device) -> None:
    process = device.start()
    device.delivers("first.csv", "first.csv")
    device.can_be_asked("SubscribeToComponentUpdates")
    if device.nucleus.lite:
        assert device.nucleus.ask_to_update() is None
    else:
        # The step that has let go of the file may not be over yet.
        eventually(lambda: device.nucleus.ask_to_update(seconds=5)["recheckAfterMs"] == 0, SECONDS)
    assert stopped(process) == TOLD
