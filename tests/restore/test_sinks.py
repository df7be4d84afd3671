"""Events reach whoever wants them, signed, in order, and each only once as far as one can tell."""

from __future__ import annotations

import hashlib
import hmac
import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import TYPE_CHECKING, Any

import boto3
import pytest

from tests.standins.s3 import serving
from tidegate.errors import ConfigFaults, Unavailable
from tidegate.store.messages import _region_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

FIVE = ["JobId", "BatchJobId", "Status", "ProgressPercent", "FailedBatchFiles"]


class Hook:
    """A web server that keeps what it is sent; it refuses the next `refusals`."""

    def __init__(self) -> None:
        self.got: list[tuple[dict[str, str], bytes]] = []
        self.refusals = 0
        hook = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                refused = hook.refusals > 0
                hook.refusals -= refused
                if not refused:
                    hook.got.append(({name.lower(): value for name, value in self.headers.items()}, body))
                self.send_response(503 if refused else 204)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self._server = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/hook?x=1"
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@pytest.fixture
def hook() -> Iterator[Hook]:
    hook = Hook()
    yield hook
    hook.close()


@pytest.fixture(scope="module")
def moto() -> Iterator[str]:
    with serving() as url:
        yield url


class Ours:
    """A sink that somebody else attaches; it does not take the first event at once."""

    def __init__(self, failures: int = 0) -> None:
        self.got: list[dict[str, Any]] = []
        self.failures = failures

    def send(self, event: Mapping[str, Any]) -> None:
        if self.failures and event["detail"]["eventId"].endswith("-1"):
            self.failures -= 1
            raise Unavailable("not now")
        self.got.append(dict(event))


class Broken:
    """A sink with a fault of its own."""

    def send(self, event: Mapping[str, Any]) -> None:
        raise IndexError(event["JobId"])


def restored(rig, others: dict[str, Any] | None = None, **fields: object) -> list[dict[str, Any]]:
    rig.glacier.populate("bucket", 5)
    rig.order(tier="Expedited", tag="mine", **fields)
    with rig.jobs.running("job", others) as run:
        while rig.step(run) is not None:
            pass
    assert rig.status() == "Complete"
    return rig.events()


def test_an_event_is_five_texts_as_ever_and_a_detail(rig, tmp_path):
    path = tmp_path / "events.jsonl"
    events = restored(rig, sinks=({"kind": "file", "target": str(path)},))
    assert [json.loads(line) for line in path.read_text().splitlines()] == events
    for event in events:
        assert list(event) == [*FIVE, "detail"]
        assert all(isinstance(event[name], str) for name in FIVE)
        assert event["detail"]["clientTag"] == "mine"
    ids = [event["detail"]["eventId"] for event in events]
    assert len(set(ids)) == len(ids)
    assert [event["Status"] in ("Complete", "Failed", "Cancelled", "Timeout") for event in events].count(
        True
    ) == 1


def test_a_webhook_gets_each_event_signed_and_again_when_it_refuses(rig, hook, tmp_path):
    secret = tmp_path / "secret"
    secret.write_bytes(b"a secret\n")
    hook.refusals = 3
    events = restored(rig, sinks=({"kind": "webhook", "target": hook.url, "secret": str(secret)},))
    assert [json.loads(body) for _, body in hook.got] == events
    for headers, body in hook.got:
        text = headers["x-tidegate-timestamp"].encode() + b"." + body
        assert (
            headers["x-tidegate-signature"]
            == f"sha256={hmac.digest(b'a secret', text, hashlib.sha256).hex()}"
        )


def test_a_webhook_without_its_secret_is_refused_before_anything_runs(rig, tmp_path):
    rig.glacier.populate("bucket", 5)
    rig.order(sinks=({"kind": "webhook", "target": "http://127.0.0.1:1/", "secret": str(tmp_path / "none")},))
    with pytest.raises(ConfigFaults), rig.jobs.running("job"):
        pass


def test_a_topic_and_a_queue_get_each_event_in_order(rig, moto):
    session = boto3.session.Session("testing", "testing", region_name="us-east-1")
    sqs, sns = (session.client(it, endpoint_url=moto) for it in ("sqs", "sns"))
    urls = [sqs.create_queue(QueueName=name)["QueueUrl"] for name in ("direct", "by-topic")]
    topic = sns.create_topic(Name="told")["TopicArn"]
    sns.subscribe(
        TopicArn=topic,
        Protocol="sqs",
        Endpoint="arn:aws:sqs:us-east-1:123456789012:by-topic",
        Attributes={"RawMessageDelivery": "true"},
    )
    events = restored(
        rig,
        sinks=({"kind": "sqs", "target": urls[0]}, {"kind": "sns", "target": topic}),
        settings={"endpoint_url": rig.glacier.endpoint, "messages_url": moto, "proxy": "direct"},
    )
    for url in urls:
        got = []
        while found := sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10).get("Messages"):
            got += [json.loads(message["Body"]) for message in found]
        assert got == events
    for client in (sqs, sns):
        client.close()


def test_a_sink_that_others_attach_gets_what_it_missed_in_order(rig):
    ours, other = Ours(failures=20), Ours()
    events = restored(rig, {"ipc": ours, "iot": other}, sinks=({"kind": "ipc"}, {"kind": "iot"}))
    assert ours.got == events
    assert other.got == events  # a sink that fails holds no other up


def test_a_sink_that_breaks_holds_no_other_up(rig):
    other = Ours()
    rig.glacier.populate("bucket", 5)
    rig.order(tier="Expedited", sinks=({"kind": "ipc"}, {"kind": "iot"}))
    with rig.jobs.running("job", {"ipc": Broken(), "iot": other}) as run:
        while rig.status() != "Complete":
            rig.step(run)
    assert other.got == rig.events()


@pytest.mark.parametrize("target", ["bar", "http:/x", ""])
def test_what_is_no_url_of_a_queue_has_the_usual_region(target):
    assert _region_of(target, "eu-west-1") == "eu-west-1"


def test_a_sink_that_nobody_attaches_is_named(rig):
    rig.glacier.populate("bucket", 5)
    rig.order(sinks=({"kind": "ipc"},))
    with pytest.raises(ConfigFaults) as caught, rig.jobs.running("job"):
        pass
    assert "'ipc'" in caught.value.faults[0]


def test_what_was_not_told_before_a_kill_is_told_by_the_next_process(rig, tmp_path: Path):
    ours = Ours(failures=10**6)
    rig.glacier.populate("bucket", 5)
    rig.order(tier="Expedited", sinks=({"kind": "ipc"},))
    with rig.jobs.running("job", {"ipc": ours}) as run:
        while rig.status() != "Complete":
            rig.step(run)
        assert rig.step(run) is not None
    ours.failures = 0
    with rig.jobs.running("job", {"ipc": ours}) as run:
        assert rig.step(run) is None
    assert ours.got == rig.events()


def test_an_empty_secret_is_none(rig, tmp_path):
    secret = tmp_path / "secret"
    secret.write_text("\n")
    rig.glacier.populate("bucket", 1)
    rig.order(sinks=({"kind": "webhook", "target": "http://127.0.0.1:1/", "secret": str(secret)},))
    with pytest.raises(ConfigFaults, match="the secret is empty"), rig.jobs.running("job"):
        pass
