"""What the stand-in for S3's archive classes tells of restores, and to whom."""

from __future__ import annotations

import json
import uuid
from typing import TYPE_CHECKING, Any

import boto3
import pytest

from tests.standins.glacier import ACCOUNT, DAY, HOUR, MINUTE, REGION, GlacierStandIn
from tests.standins.glacier.http import Reply, Request, Server
from tests.standins.s3 import serving

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

KEY = "odd key+é,.bin"
RESTORES = ["s3:ObjectRestore:*"]


class Moto:
    """Queues and topics to deliver to, and what has come there."""

    def __init__(self, url: str) -> None:
        session = boto3.session.Session("testing", "testing", region_name=REGION)
        self.sqs, self.sns = (session.client(it, endpoint_url=url) for it in ("sqs", "sns"))
        name = f"restores-{uuid.uuid4()}"  # moto keeps its queues as long as the process lives
        self.url = self.sqs.create_queue(QueueName=name)["QueueUrl"]
        self.arn = f"arn:aws:sqs:{REGION}:{ACCOUNT}:{name}"

    def received(self) -> list[dict[str, Any]]:
        """Take the messages out of the queue."""
        found: list[dict[str, Any]] = []
        while messages := self.sqs.receive_message(QueueUrl=self.url, MaxNumberOfMessages=10).get("Messages"):
            for message in messages:
                self.sqs.delete_message(QueueUrl=self.url, ReceiptHandle=message["ReceiptHandle"])
                found.append(json.loads(message["Body"]))
        return found

    def close(self) -> None:
        for client in (self.sqs, self.sns):
            client.close()


@pytest.fixture(scope="module")
def servers() -> Iterator[str]:
    with serving() as url:
        yield url


@pytest.fixture
def moto(servers: str, glacier: GlacierStandIn) -> Iterator[Moto]:
    moto = Moto(servers)
    glacier.deliver_to(servers)
    yield moto
    moto.close()
    assert glacier.delivery.undelivered == []


@pytest.fixture
def heard(glacier: GlacierStandIn) -> list[dict[str, Any]]:
    """All records of events, in the order in which they come."""
    records: list[dict[str, Any]] = []
    glacier.listen(records.append)
    return records


def ask(s3: Any, key: str = KEY, days: int = 2, tier: str = "Standard") -> None:
    wanted = {"Days": days, "GlacierJobParameters": {"Tier": tier}}
    s3.restore_object(Bucket="bucket", Key=key, RestoreRequest=wanted)


def told(records: list[dict[str, Any]]) -> list[tuple[str, str]]:
    return [(it["eventName"].removeprefix("ObjectRestore:"), it["s3"]["object"]["key"]) for it in records]


def test_a_restore_is_told_when_it_begins_ends_and_expires(
    glacier: GlacierStandIn, s3: Any, heard: list[dict[str, Any]]
) -> None:
    glacier.put("bucket", KEY, size=7)
    ask(s3)
    glacier.flush()
    key = "odd+key%2B%C3%A9%2C.bin"
    assert told(heard) == [("Post", key)]
    assert "glacierEventData" not in heard[0]
    glacier.clock.advance(5 * HOUR)
    assert told(heard) == [("Post", key), ("Completed", key)]
    assert heard[1]["glacierEventData"]["restoreEventData"] == {
        "lifecycleRestorationExpiryTime": "2026-01-18T00:00:00.000Z",
        "lifecycleRestoreStorageClass": "GLACIER",
    }
    assert heard[1]["s3"]["object"]["size"] == 7
    assert "2026-01-15T13:30" <= heard[1]["eventTime"] <= "2026-01-15T15:30"
    glacier.clock.advance(2 * DAY)
    assert told(heard)[2:] == []
    glacier.clock.advance(DAY)
    assert told(heard)[2:] == [("Delete", key)]
    assert heard[2]["eventTime"] == "2026-01-18T00:00:00.000Z"
    assert "glacierEventData" not in heard[2]


def test_what_is_sped_up_or_lengthened_is_told_once_and_at_its_new_time(
    glacier: GlacierStandIn, s3: Any, heard: list[dict[str, Any]]
) -> None:
    glacier.put("bucket", "a")
    ask(s3, "a", tier="Bulk")
    ask(s3, "a", tier="Expedited")
    glacier.clock.advance(5 * MINUTE)
    assert told(heard) == [("Post", "a"), ("Completed", "a")]
    ask(s3, "a", days=4)
    ask(s3, "a", days=4)
    glacier.clock.advance(4 * DAY)
    assert told(heard)[2:] == []
    glacier.clock.advance(4 * DAY)
    assert told(heard)[2:] == [("Delete", "a")]
    assert heard[2]["eventTime"] == "2026-01-20T00:00:00.000Z"


def test_a_restore_that_a_faster_tier_does_not_speed_up_is_told_once_too(
    glacier: GlacierStandIn, s3: Any, heard: list[dict[str, Any]]
) -> None:
    glacier.put("bucket", "a")
    ask(s3, "a", tier="Bulk")
    ready = glacier.ready_at("bucket", "a")
    assert ready is not None
    glacier.clock.advance(ready - glacier.clock.now - 1)
    ask(s3, "a", tier="Standard")
    glacier.clock.advance(1)
    assert told(heard) == [("Post", "a"), ("Completed", "a")]


def test_intelligent_tiering_is_told_without_an_expiry(
    glacier: GlacierStandIn, s3: Any, heard: list[dict[str, Any]]
) -> None:
    glacier.put("bucket", "a", storage_class="INTELLIGENT_TIERING", access_tier="ARCHIVE_ACCESS")
    s3.restore_object(Bucket="bucket", Key="a", RestoreRequest={})
    glacier.clock.advance(100 * DAY)
    assert told(heard) == [("Post", "a"), ("Completed", "a")]
    assert "lifecycleRestorationExpiryTime" not in heard[1]["glacierEventData"]["restoreEventData"]


def many_restores(glacier: GlacierStandIn, s3: Any) -> None:
    glacier.populate("bucket", 12, prefix="k")
    for number in range(12):
        ask(s3, f"k{number:02d}", tier="Expedited")
    glacier.clock.advance(5 * MINUTE)


@pytest.mark.parametrize(
    ("switch", "check"),
    [
        ({}, lambda found, every: found == every),
        ({"duplicate": 4}, lambda found, every: len(found) == 30 and set(found) == set(every)),
        ({"reorder": 5}, lambda found, every: found != every and sorted(found) == sorted(every)),
        ({"lose": 6}, lambda found, every: len(found) == 20 and set(found) < set(every)),
    ],
)
def test_events_come_twice_or_shuffled_or_not_at_all_on_command(
    glacier: GlacierStandIn,
    s3: Any,
    heard: list[dict[str, Any]],
    switch: dict[str, int],
    check: Callable[[list[tuple[str, str]], list[tuple[str, str]]], bool],
) -> None:
    for name, value in switch.items():
        setattr(glacier.delivery, name, value)
    many_restores(glacier, s3)
    keys = [f"k{number:02d}" for number in range(12)]
    ends = sorted(keys, key=lambda key: glacier.ready_at("bucket", key) or 0)
    every = [("Post", key) for key in keys] + [("Completed", key) for key in ends]
    assert check(told(heard), every)


def test_events_come_late_on_command(glacier: GlacierStandIn, s3: Any, heard: list[dict[str, Any]]) -> None:
    glacier.delivery.delay = HOUR
    glacier.put("bucket", "a")
    ask(s3, "a", tier="Expedited")
    glacier.clock.advance(HOUR - 1)
    assert told(heard) == []
    glacier.clock.advance(5 * MINUTE)
    assert told(heard) == [("Post", "a"), ("Completed", "a")]
    assert heard[0]["eventTime"] == "2026-01-15T10:30:00.000Z"


def test_a_queue_gets_the_events_of_its_rule(glacier: GlacierStandIn, s3: Any, moto: Moto) -> None:
    for key in ("in/a.bin", "out/a.bin", "in/a.txt"):
        glacier.put("bucket", key)
    rules = [{"Name": "prefix", "Value": "in/"}, {"Name": "suffix", "Value": ".bin"}]
    queue = {
        "Id": "mine",
        "QueueArn": moto.arn,
        "Events": ["s3:ObjectRestore:Completed"],
        "Filter": {"Key": {"FilterRules": rules}},
    }
    s3.put_bucket_notification_configuration(
        Bucket="bucket", NotificationConfiguration={"QueueConfigurations": [queue]}
    )
    assert s3.get_bucket_notification_configuration(Bucket="bucket")["QueueConfigurations"] == [queue]
    glacier.flush()
    (test,) = moto.received()
    assert (test["Event"], test["Bucket"]) == ("s3:TestEvent", "bucket")
    for key in ("in/a.bin", "out/a.bin", "in/a.txt"):
        ask(s3, key)
    glacier.clock.advance(5 * HOUR)
    (message,) = moto.received()
    assert told(message["Records"]) == [("Completed", "in/a.bin")]
    assert message["Records"][0]["s3"]["configurationId"] == "mine"


def test_a_topic_gets_events_and_passes_them_on(glacier: GlacierStandIn, s3: Any, moto: Moto) -> None:
    glacier.put("bucket", "a")
    topic = moto.sns.create_topic(Name="restores")["TopicArn"]
    moto.sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=moto.arn)
    wanted = {"TopicConfigurations": [{"TopicArn": topic, "Events": RESTORES}]}
    s3.put_bucket_notification_configuration(Bucket="bucket", NotificationConfiguration=wanted)
    ask(s3, "a")
    glacier.clock.advance(5 * DAY)
    messages = [json.loads(it["Message"]) for it in moto.received()]
    records = [record for it in messages for record in it.get("Records", ())]
    assert sorted(told(records)) == [("Completed", "a"), ("Delete", "a"), ("Post", "a")]


def test_event_bridge_gets_events_in_a_shape_of_its_own(glacier: GlacierStandIn, s3: Any) -> None:
    # moto's would pass events on only with a library that nothing else here needs: this one listens.
    entries: list[dict[str, Any]] = []

    def take(request: Request) -> Reply:
        assert request.headers["x-amz-target"] == "AWSEvents.PutEvents"
        entries.extend(json.loads(request.body)["Entries"])
        return Reply(body=b'{"FailedEntryCount": 0, "Entries": [{"EventId": "1"}]}')

    listener = Server(take, 0)
    glacier.deliver_to(f"http://127.0.0.1:{listener.port}")
    glacier.put("bucket", KEY)
    s3.put_bucket_notification_configuration(
        Bucket="bucket", NotificationConfiguration={"EventBridgeConfiguration": {}}
    )
    ask(s3)
    glacier.clock.advance(5 * DAY)
    listener.stop()
    assert glacier.delivery.undelivered == []
    assert {it["Source"] for it in entries} == {"aws.s3"}
    found = {it["DetailType"]: json.loads(it["Detail"]) for it in entries}
    assert list(found) == ["Object Restore Initiated", "Object Restore Completed", "Object Restore Expired"]
    completed = found["Object Restore Completed"]
    assert completed["object"]["key"] == KEY
    assert completed["source-storage-class"] == "GLACIER"
    assert completed["restore-expiry-time"] == "2026-01-18T00:00:00.000Z"
    assert completed["object"]["etag"]


def test_a_target_that_is_away_holds_nobody_up(glacier: GlacierStandIn, s3: Any) -> None:
    glacier.put("bucket", "a")
    wanted = {"QueueConfigurations": [{"QueueArn": "arn:aws:sqs:eu-central-1:1:none", "Events": RESTORES}]}
    s3.put_bucket_notification_configuration(Bucket="bucket", NotificationConfiguration=wanted)
    ask(s3, "a")
    glacier.clock.advance(5 * HOUR)
    assert glacier.state("bucket", "a") == "restored"
    assert len(glacier.delivery.undelivered) == 3
