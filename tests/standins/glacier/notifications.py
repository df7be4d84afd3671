"""Events about restores, told to functions, queues, topics and EventBridge."""

from __future__ import annotations

import itertools
import json
import queue
import random
import threading
import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import quote_plus

from tests.standins.glacier.clock import iso

if TYPE_CHECKING:
    from collections.abc import Callable
    from xml.etree import ElementTree as ET

    from tests.standins.glacier.clock import Clock
    from tests.standins.glacier.objects import Bucket, Stored

DETAIL_TYPES = {
    "ObjectRestore:Post": "Object Restore Initiated",
    "ObjectRestore:Completed": "Object Restore Completed",
    "ObjectRestore:Delete": "Object Restore Expired",
    "ObjectCreated:Put": "Object Created",
}
TARGETS = ("sqs", "sns", "events")
ELEMENTS = {"Queue": "sqs", "Topic": "sns", "CloudFunction": "lambda"}


@dataclass(frozen=True, slots=True)
class Rule:
    """Who wants to know of which events."""

    identifier: str
    service: str
    arn: str
    events: tuple[str, ...]
    prefix: str = ""
    suffix: str = ""

    def wants(self, event: str, key: str) -> bool:
        if not (key.startswith(self.prefix) and key.endswith(self.suffix)):
            return False
        return any(
            f"s3:{event}" == it or (it[-1] == "*" and f"s3:{event}".startswith(it[:-1])) for it in self.events
        )


@dataclass(frozen=True, slots=True)
class Rules:
    """A notification configuration."""

    rules: tuple[Rule, ...] = ()
    event_bridge: bool = False

    @staticmethod
    def read(root: ET.Element) -> Rules:
        rules = []
        for element, service in ELEMENTS.items():
            for one in root.findall(f"{{*}}{element}Configuration"):
                filters = {
                    (it.findtext("{*}Name") or "").lower(): it.findtext("{*}Value") or ""
                    for it in one.findall("{*}Filter/{*}S3Key/{*}FilterRule")
                }
                rules.append(
                    Rule(
                        one.findtext("{*}Id") or uuid.uuid4().hex,
                        service,
                        one.findtext(f"{{*}}{element}") or "",
                        tuple(it.text or "" for it in one.findall("{*}Event")),
                        filters.get("prefix", ""),
                        filters.get("suffix", ""),
                    )
                )
        return Rules(tuple(rules), root.find("{*}EventBridgeConfiguration") is not None)


@dataclass(slots=True)
class Delivery:
    """How events come.

    duplicate  every so many-th event comes twice; 0 is none
    reorder    so many events are collected and shuffled; those left over come when time has been advanced
    delay      seconds by the stand-in's clock
    lose       every so many-th event is lost, which AWS says does not happen; 0 is none
    """

    duplicate: int = 0
    reorder: int = 0
    delay: float = 0.0
    lose: int = 0
    undelivered: list[str] = field(default_factory=list)  # why, if a target could not be reached


class Notifier:
    """Makes events and delivers them in a thread of its own, so that no request waits for a target."""

    def __init__(self, clock: Clock, region: str, account: str, seed: int) -> None:
        self.delivery = Delivery()
        self.listeners: list[Callable[[dict[str, Any]], None]] = []
        self.clients: dict[str, Any] = {}  # of SQS, SNS and EventBridge
        self._clock = clock
        self._region = region
        self._account = account
        self._random = random.Random(seed)
        self._numbers = itertools.count(1)
        self._held: list[Callable[[], None]] = []
        self._outbox: queue.Queue[Callable[[], None] | None] = queue.Queue()
        self._thread = threading.Thread(target=self._deliver_all, name="glacier-events")

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        self._outbox.put(None)
        self._thread.join()
        for client in self.clients.values():
            client.close()

    def wants(self, bucket: Bucket) -> bool:
        return bool(self.listeners) or bucket.rules is not None

    def created(self, bucket: Bucket, stored: Stored) -> None:
        if bucket.rules is not None:
            self._tell(bucket, stored, "ObjectCreated:Put")

    def restore(self, bucket: Bucket, stored: Stored, what: str) -> None:
        """Tell of "Post", "Completed" or "Delete"."""
        if self.wants(bucket):
            self._tell(bucket, stored, f"ObjectRestore:{what}")

    def test(self, bucket: Bucket) -> None:
        """Send what S3 sends to the targets of a new configuration."""
        event = {
            "Service": "Amazon S3",
            "Event": "s3:TestEvent",
            "Time": iso(self._clock.now),
            "Bucket": bucket.name,
            "RequestId": "REQUEST",
            "HostId": "HOST",
        }
        for rule in bucket.rules.rules if bucket.rules else ():
            self._outbox.put(lambda rule=rule: self._send(rule, event))  # type: ignore[misc]

    def release(self) -> None:
        """Hand over what was collected to be shuffled."""
        with self._clock.lock:
            self._let_go()

    def deliver(self) -> None:
        """Return when everything that was handed over has been delivered."""
        self._outbox.join()

    def _tell(self, bucket: Bucket, stored: Stored, event: str) -> None:
        number = next(self._numbers)
        delivery = self.delivery
        if delivery.lose and number % delivery.lose == 0:
            return
        times = 2 if delivery.duplicate and number % delivery.duplicate == 0 else 1
        record = self._record(bucket, stored, event, number)
        detail = self._detail(bucket, stored, event, number)
        rules = bucket.rules or Rules()
        wanting = [it for it in rules.rules if it.wants(event, stored.key)]

        def deliver() -> None:
            for listener in tuple(self.listeners):
                listener(record)
            for rule in wanting:
                named = {**record, "s3": {**record["s3"], "configurationId": rule.identifier}}
                self._send(rule, {"Records": [named]})
            if rules.event_bridge and event in DETAIL_TYPES:
                self._put_event(event, bucket, detail)

        for _ in range(times):
            if delivery.delay:
                self._clock.at(self._clock.now + delivery.delay, lambda: self._hand_over(deliver))
            else:
                self._hand_over(deliver)

    def _hand_over(self, deliver: Callable[[], None]) -> None:
        self._held.append(deliver)
        if len(self._held) >= self.delivery.reorder:
            self._let_go()

    def _let_go(self) -> None:
        if self.delivery.reorder:
            self._random.shuffle(self._held)
        for deliver in self._held:
            self._outbox.put(deliver)
        self._held.clear()

    def _deliver_all(self) -> None:
        while (deliver := self._outbox.get()) is not None:
            try:
                deliver()
            except Exception as error:  # noqa: BLE001 - S3 goes on whatever happens to a target
                self.delivery.undelivered.append(repr(error))
            finally:
                self._outbox.task_done()

    def _record(self, bucket: Bucket, stored: Stored, event: str, number: int) -> dict[str, Any]:
        thing = {
            "key": quote_plus(stored.key, safe="/"),
            "size": stored.size,
            "eTag": stored.etag,
            "sequencer": f"{number:016X}",
        }
        if bucket.versioning:
            thing["versionId"] = stored.version
        record: dict[str, Any] = {
            "eventVersion": "2.1",
            "eventSource": "aws:s3",
            "awsRegion": self._region,
            "eventTime": iso(self._clock.now),
            "eventName": event,
            "userIdentity": {"principalId": "AmazonCustomer:STANDIN"},
            "requestParameters": {"sourceIPAddress": "127.0.0.1"},
            "responseElements": {"x-amz-request-id": "REQUEST", "x-amz-id-2": "HOST"},
            "s3": {
                "s3SchemaVersion": "1.0",
                "configurationId": "",
                "bucket": {
                    "name": bucket.name,
                    "ownerIdentity": {"principalId": "STANDIN"},
                    "arn": f"arn:aws:s3:::{bucket.name}",
                },
                "object": thing,
            },
        }
        if event == "ObjectRestore:Completed" and stored.restore is not None:
            data = {"lifecycleRestoreStorageClass": stored.storage_class}
            if stored.restore.days:
                data["lifecycleRestorationExpiryTime"] = iso(stored.restore.expiry)
            record["glacierEventData"] = {"restoreEventData": data}
        return record

    def _detail(self, bucket: Bucket, stored: Stored, event: str, number: int) -> dict[str, Any]:
        detail: dict[str, Any] = {
            "version": "0",
            "bucket": {"name": bucket.name},
            "object": {
                "key": stored.key,
                "size": stored.size,
                "etag": stored.etag,
                "sequencer": f"{number:016X}",
            },
            "request-id": "REQUEST",
            "requester": self._account if event == "ObjectRestore:Post" else "s3.amazonaws.com",
        }
        if bucket.versioning:
            detail["object"]["version-id"] = stored.version
        if event in ("ObjectRestore:Post", "ObjectRestore:Completed"):
            detail["source-storage-class"] = stored.storage_class
        if event == "ObjectRestore:Completed" and stored.restore is not None and stored.restore.days:
            detail["restore-expiry-time"] = iso(stored.restore.expiry)
        return detail

    def _send(self, rule: Rule, message: dict[str, Any]) -> None:
        body = json.dumps(message)
        if rule.service == "sqs":
            client, name = self.clients["sqs"], rule.arn.rpartition(":")[2]
            client.send_message(QueueUrl=client.get_queue_url(QueueName=name)["QueueUrl"], MessageBody=body)
        elif rule.service == "sns":
            self.clients["sns"].publish(TopicArn=rule.arn, Message=body, Subject="Amazon S3 Notification")
        else:
            raise NotImplementedError("functions are not called")

    def _put_event(self, event: str, bucket: Bucket, detail: dict[str, Any]) -> None:
        entry = {
            "Source": "aws.s3",
            "DetailType": DETAIL_TYPES[event],
            "Resources": [f"arn:aws:s3:::{bucket.name}"],
            "Detail": json.dumps(detail),
        }
        answer = self.clients["events"].put_events(Entries=[entry])
        if answer["FailedEntryCount"]:
            raise RuntimeError(str(answer["Entries"]))
