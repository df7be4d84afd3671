"""The cloud app without a cloud: moto makes its stack and plays DynamoDB, SNS and SQS, a stand-in plays S3.

What is called are the functions that the Lambdas call, with the environment that the stack gives them.
"""

from __future__ import annotations

import json
import os
import subprocess
import uuid
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3

from tests.helpers import eventually
from tests.restore.rig import VirtualClock
from tests.standins.glacier import GlacierStandIn
from tidegate.cloud.handlers import Lambdas

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
TEMPLATE = ROOT / "cloud" / "template.yaml"
BIN = ROOT / ".venv-sam" / "bin"
REGION = "us-east-1"
KEYS = {"AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing", "AWS_DEFAULT_REGION": REGION}
HOUR = 3600.0
SIX = {
    *("SNSTopic", "SQSQueue", "ReportBucket"),
    *("BulkJobId", "TotalFilesRequested", "BatchOperation"),
}
FIVE = ("JobId", "BatchJobId", "Status", "ProgressPercent", "FailedBatchFiles")


def tool(name: str) -> str:
    """Return the path of a program of .venv-sam."""
    path = BIN / name
    assert path.exists(), f"{path} is missing: `make .venv-sam/ready` makes it, for which it needs PyPI once"
    return str(path)


@lru_cache
def translated() -> dict[str, Any]:
    """The template as CloudFormation gets it: all resources in `whole`, `template` without the API."""
    command = [tool("python3"), str(ROOT / "tests" / "cloud" / "translate.py"), str(TEMPLATE)]
    done = subprocess.run(command, env=os.environ | KEYS, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


class Context:
    """What Lambda hands over beside the event."""

    def __init__(self, left: int = 900_000) -> None:
        self.left = left

    def get_remaining_time_in_millis(self) -> int:
        return self.left


class Moto:
    """A server of moto, and one unmodified client of boto3 for each of its services."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._session = boto3.session.Session("testing", "testing", region_name=REGION)
        self._clients: dict[str, Any] = {}

    def client(self, service: str) -> Any:
        if service not in self._clients:
            self._clients[service] = self._session.client(service, endpoint_url=self.url)
        return self._clients[service]

    def close(self) -> None:
        for client in self._clients.values():
            client.close()


class App:
    """One stack, its buckets, and who calls it."""

    def __init__(self, moto: Moto, glacier: GlacierStandIn, *, notify: bool) -> None:
        self._moto = moto
        self.client = moto.client
        self._s3: Any = None
        self.glacier = glacier
        self.lambdas = Lambdas(VirtualClock(glacier))  # type: ignore[arg-type]
        name = f"app-{uuid.uuid4().hex[:8]}"
        parameters = {"Buckets": "archive,other", "NotifyEventBridge": "true" if notify else "false"}
        self.client("cloudformation").create_stack(
            StackName=name,
            TemplateBody=json.dumps(translated()["template"]),
            Parameters=[{"ParameterKey": key, "ParameterValue": it} for key, it in parameters.items()],
            Capabilities=["CAPABILITY_IAM"],
        )
        self.functions = {
            it["Handler"].rpartition(".")[2]: it
            for it in self.client("lambda").list_functions()["Functions"]
            if it["FunctionName"].startswith(name)
        }
        self.variables = self.functions["change"]["Environment"]["Variables"]
        glacier.bucket(self.variables["REPORTS"])
        glacier.bucket("archive")
        queue = self.variables["QUEUE"].rpartition(":")[2]
        self.queue = self.client("sqs").get_queue_url(QueueName=queue)["QueueUrl"]
        self.client("sns").subscribe(  # moto makes no subscriptions of templates
            TopicArn=self.variables["TOPIC"],
            Protocol="sqs",
            Endpoint=self.variables["QUEUE"],
            Attributes={"RawMessageDelivery": "true"},
        )

    @property
    def s3(self) -> Any:
        """An unmodified boto3, at the stand-in."""
        if self._s3 is None:
            self._s3 = self.glacier.client("s3")
        return self._s3

    def close(self) -> None:
        self.lambdas.close()
        if self._s3 is not None:
            self._s3.close()

    # Called as Lambda and API Gateway call it

    def call(self, function: str, event: dict[str, Any], context: Context | None = None) -> Any:
        """Call one Lambda, with the environment that the stack gives it."""
        surroundings = {
            **KEYS,
            **self.functions[function]["Environment"]["Variables"],
            "AWS_REGION": REGION,
            "AWS_ENDPOINT_URL": self._moto.url,
            "AWS_ENDPOINT_URL_S3": self.glacier.endpoint,
            "AWS_ENDPOINT_URL_S3_CONTROL": self.glacier.endpoint,
            "NO_PROXY": "127.0.0.1",
        }
        before = dict(os.environ)
        os.environ.update(surroundings)
        try:
            return getattr(self.lambdas, function)(event, context or Context())
        finally:
            os.environ.clear()
            os.environ.update(before)

    def ask(self, method: str, resource: str, body: Any = None, **parameters: str) -> tuple[int, Any]:
        function = "change" if method == "POST" else "read"
        event = {
            "httpMethod": method,
            "resource": resource,
            "pathParameters": {"id": parameters["id"]} if "id" in parameters else None,
            "queryStringParameters": {"next": parameters["next"]} if "next" in parameters else None,
            "body": body if body is None or isinstance(body, str) else json.dumps(body),
            "isBase64Encoded": False,
        }
        answer = self.call(function, event)
        return answer["statusCode"], json.loads(answer["body"])

    def order(self, rows: str | bytes, **fields: Any) -> dict[str, Any]:
        """Put a manifest there, and order what it names. Returns the answer, which must be good."""
        content = rows if isinstance(rows, bytes) else rows.encode()
        self.glacier.put("archive", "manifest.csv", storage_class="STANDARD", body=content)
        status, answer = self.ask("POST", "/create-job", body_for(**fields))
        assert status == 200, answer
        return dict(answer)

    def tick(self) -> int:
        return int(self.call("tick", {})["advanced"])

    def pass_time(self, seconds: float, step: float = 120.0) -> None:
        """Let time pass, with a tick every two minutes."""
        for _ in range(int(seconds / step)):
            self.glacier.clock.advance(step)
            self.tick()

    def job(self, name: str) -> dict[str, Any]:
        status, answer = self.ask("GET", "/jobs/{id}", id=name)
        assert status == 200, answer
        return dict(answer)

    def ends(self, name: str, *, hours: float = 60, step: float = 1800.0) -> dict[str, Any]:
        """Let time pass until a job has ended, and return what is told of it."""
        for _ in range(int(hours * HOUR / step)):
            self.glacier.clock.advance(step)
            self.tick()
            if (job := self.job(name))["Status"] != "Restoring":
                return job
        raise AssertionError(f"{name} has not ended: {job}")

    def events(self, name: str = "") -> list[dict[str, Any]]:
        """Take what is in the queue."""
        found: list[dict[str, Any]] = []
        client = self.client("sqs")
        while messages := client.receive_message(QueueUrl=self.queue, MaxNumberOfMessages=10).get("Messages"):
            found += [json.loads(it["Body"]) for it in messages]
            for it in messages:
                client.delete_message(QueueUrl=self.queue, ReceiptHandle=it["ReceiptHandle"])
        return [it for it in found if not name or it["JobId"] == name]

    def item(self, name: str) -> dict[str, Any]:
        key = {"JobId": {"S": name}}
        table = self.variables["JOBS_TABLE"]
        return dict(self.client("dynamodb").get_item(TableName=table, Key=key)["Item"])

    def copies(self, name: str, count: int) -> list[str]:
        """Write the row of a job again and again, each time with another name, and return these."""
        row, names = self.item(name), [f"{name}-{number}" for number in range(count)]
        for start in range(0, count, 25):  # DynamoDB takes no more at once
            puts = [{"PutRequest": {"Item": row | {"JobId": {"S": it}}}} for it in names[start : start + 25]]
            self.client("dynamodb").batch_write_item(RequestItems={self.variables["JOBS_TABLE"]: puts})
        return names

    def items(self) -> list[dict[str, Any]]:
        return list(self.client("dynamodb").scan(TableName=self.variables["JOBS_TABLE"])["Items"])


def body_for(**fields: Any) -> dict[str, Any]:
    """The body of the sample, with these fields."""
    return {
        "bucket": "archive",
        "key": "manifest.csv",
        "tier": "STANDARD",
        "expiration_days": 1,
        "client_tag": "client_tag",
        **fields,
    }


@contextmanager
def moto() -> Iterator[Moto]:
    """Run moto's server, of .venv-sam."""
    from tests.fleet.rig import free_port  # noqa: PLC0415

    port = free_port()
    command = [tool("moto_server"), "-H", "127.0.0.1", "-p", str(port)]
    process = subprocess.Popen(
        command, env=os.environ | KEYS, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    made = Moto(f"http://127.0.0.1:{port}")
    try:
        eventually(lambda: _answers(made.url), 30)
        s3 = made.client("s3")
        s3.create_bucket(Bucket="code")
        s3.put_object(Bucket="code", Key="code.zip", Body=b"PK\x05\x06" + bytes(18))  # an empty archive
        yield made
    finally:
        made.close()
        process.kill()
        process.wait()


def _answers(url: str) -> bool:
    import requests  # noqa: PLC0415

    try:
        return requests.get(f"{url}/moto-api/data.json", timeout=5).status_code == 200
    except requests.ConnectionError:
        return False


@contextmanager
def app(moto: Moto, *, notify: bool = False) -> Iterator[App]:
    with GlacierStandIn() as glacier:
        glacier.faults.restore_rate = None
        made = App(moto, glacier, notify=notify)
        try:
            yield made
        finally:
            made.close()
