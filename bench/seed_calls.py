"""The requests that AWS's sample `s3-glacier-bulk-retrieval` makes to know how far a job is, made and counted.

    python bench/seed_calls.py [--objects 1000 5000]

It is no copy of the sample, but makes the calls that the sample makes, in its numbers: a row for each object in
batches of 25, all of them indexed whole by their job; an event of S3 for each restored object, through a queue, in
Lambda calls of up to ten; one update of a row for each; and every two minutes a tick that asks for the job, and
queries the first page of the rows twice. moto plays DynamoDB and SQS, the stand-in of tests/standins/glacier plays
S3 and its batch jobs; counted is what they answered.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "src"), str(ROOT)]

import boto3  # noqa: E402
from moto import mock_aws  # noqa: E402

from tests.standins.glacier import ACCOUNT, HOUR, GlacierStandIn  # noqa: E402

TICK_SECONDS = 120
HOURS = 12  # that a Bulk restore may take
ROWS_IN_A_BATCH, MESSAGES_IN_A_CALL = 25, 10
PAGE_BYTES = 2**20


class Seed:
    """The sample's calls. `counts` are by operation; `bytes_read` are those of queried rows."""

    def __init__(self, glacier: GlacierStandIn) -> None:
        self.counts: Counter[str] = Counter()
        self.bytes_read = 0
        self._glacier = glacier
        self._s3, self._control = glacier.client("s3"), glacier.client("s3control")
        session = boto3.session.Session("testing", "testing", region_name="us-east-1")
        self._table, self._queue = session.client("dynamodb"), session.client("sqs")
        for client in (self._table, self._queue):
            client.meta.events.register("after-call", self._count)
        text = {"AttributeType": "S"}
        names = [{"AttributeName": it, **text} for it in ("Bucket", "Key", "JobId")]
        self._table.create_table(
            TableName="files",
            BillingMode="PAY_PER_REQUEST",
            AttributeDefinitions=names,
            KeySchema=[
                {"AttributeName": "Bucket", "KeyType": "HASH"},
                {"AttributeName": "Key", "KeyType": "RANGE"},
            ],
            GlobalSecondaryIndexes=[
                {
                    "IndexName": "jobs",
                    "KeySchema": [{"AttributeName": "JobId", "KeyType": "HASH"}],
                    "Projection": {"ProjectionType": "ALL"},
                }
            ],
        )
        self._url = self._queue.create_queue(QueueName="events")["QueueUrl"]
        self.counts.clear()

    def _count(self, model: Any, **_: Any) -> None:
        self.counts[model.name] += 1

    def order(self, keys: list[str]) -> str:
        """What `POST /create-job` does: a batch job, and a row for each object."""
        self.counts["Lambda"] += 1
        manifest = "".join(f"archive,{key}\n" for key in keys).encode()
        etag = self._s3.put_object(Bucket="reports", Key="manifest.csv", Body=manifest)["ETag"]
        job = self._control.create_job(
            AccountId=ACCOUNT,
            ConfirmationRequired=False,
            Operation={"S3InitiateRestoreObject": {"ExpirationInDays": 7, "GlacierJobTier": "BULK"}},
            Report={"Enabled": False},
            ClientRequestToken="seed",
            Manifest={
                "Spec": {"Format": "S3BatchOperations_CSV_20180820", "Fields": ["Bucket", "Key"]},
                "Location": {"ObjectArn": "arn:aws:s3:::reports/manifest.csv", "ETag": etag.strip('"')},
            },
            Priority=10,
            RoleArn="arn:aws:iam::123456789012:role/batch",
        )["JobId"]
        for first in range(0, len(keys), ROWS_IN_A_BATCH):
            rows = [
                {
                    "Bucket": {"S": "archive"},
                    "Key": {"S": key},
                    "JobId": {"S": job},
                    "Restored": {"BOOL": False},
                    "TTL": {"N": "1795274528"},
                }
                for key in keys[first : first + ROWS_IN_A_BATCH]
            ]
            self._table.batch_write_item(
                RequestItems={"files": [{"PutRequest": {"Item": it}} for it in rows]}
            )
            self.counts["rows written"] += len(rows)
        return str(job)

    def tell(self, record: dict[str, Any]) -> None:
        """What S3 does when an object is there: a message to the queue, which its owner pays for."""
        if record["eventName"].startswith("ObjectRestore:Completed"):
            self._queue.send_message(QueueUrl=self._url, MessageBody=json.dumps({"Records": [record]}))

    def take(self) -> bool:
        """One Lambda call by the queue: an update for each message. Tells whether there was any."""
        got = self._queue.receive_message(QueueUrl=self._url, MaxNumberOfMessages=MESSAGES_IN_A_CALL)
        messages = got.get("Messages", [])
        if not messages:
            return False
        self.counts["Lambda"] += 1
        for message in messages:
            (record,) = json.loads(message["Body"])["Records"]
            self._table.update_item(
                TableName="files",
                Key={"Bucket": {"S": "archive"}, "Key": {"S": record["s3"]["object"]["key"]}},
                UpdateExpression="SET Restored = :yes",
                ExpressionAttributeValues={":yes": {"BOOL": True}},
            )
            self.counts["rows written"] += 1
        entries = [{"Id": str(n), "ReceiptHandle": it["ReceiptHandle"]} for n, it in enumerate(messages)]
        self._queue.delete_message_batch(QueueUrl=self._url, Entries=entries)
        return True

    def tick(self, job: str) -> None:
        """What happens every two minutes: how is the job, how many rows are there, how many still wait."""
        self.counts["Lambda"] += 1
        self._control.describe_job(AccountId=ACCOUNT, JobId=job)
        for wanted in (None, False):
            more: dict[str, Any] = {"ExpressionAttributeValues": {":job": {"S": job}}}
            if wanted is not None:
                more["FilterExpression"] = "Restored = :wanted"
                more["ExpressionAttributeValues"][":wanted"] = {"BOOL": wanted}
            found = self._table.query(
                TableName="files", IndexName="jobs", KeyConditionExpression="JobId = :job", **more
            )
            # moto counts no capacity by size; a row here is as large as the names and values in it.
            self.bytes_read += min(PAGE_BYTES, found["ScannedCount"] * self.row_bytes)

    row_bytes = (
        sum(map(len, ("Bucket", "archive", "Key", "0000000", "JobId", "Restored", "TTL"))) + 36 + 1 + 6
    )

    def close(self) -> None:
        for client in (self._s3, self._control, self._table, self._queue):
            client.close()


def count(objects: int, ticks: int = 5) -> dict[str, float]:
    """Run a job of so many objects, and count. Only some of its ticks are made: each does the same."""
    with mock_aws(), GlacierStandIn() as glacier:
        glacier.faults.restore_rate = None
        glacier.bucket("reports")
        keys = [f"{number:07}" for number in range(objects)]
        for key in keys:
            glacier.put("archive", key)
        seed = Seed(glacier)
        told: list[dict[str, Any]] = []
        glacier.listen(told.append)
        job = seed.order(keys)
        for _ in range(5):
            glacier.clock.advance(2.5 * HOUR)
        glacier.flush()
        for record in told:
            seed.tell(record)
        while seed.take():
            pass
        made = Counter(seed.counts)
        for _ in range(ticks):
            seed.tick(job)
        each = (seed.counts - made)["Lambda"] / ticks
        all_ticks = HOURS * 3600 / TICK_SECONDS
        read = seed.bytes_read / ticks  # of the two queries of a tick
        requests = sum(made[it] for it in ("SendMessage", "ReceiveMessage", "DeleteMessageBatch"))
        seed.close()
    assert made["rows written"] == 2 * objects
    return {
        "BatchWriteItem": made["BatchWriteItem"],
        "UpdateItem": made["UpdateItem"],
        "WRU": 2 * made["rows written"],  # the index holds each row again
        "SQS": requests,
        "Lambda": made["Lambda"] + each * all_ticks,
        "Query": (seed.counts - made)["Query"] / ticks * all_ticks,
        "RRU": read / 4096 / 2 * all_ticks,  # eventually consistent: half a unit for 4 KiB
    }


def scaled(counted: dict[int, dict[str, float]], objects: int) -> dict[str, float]:
    """Tell the requests for so many objects from those that were counted for three sizes or more.

    Raises ValueError unless all counts lie on one line, give or take one request.
    """
    (first, low), (last, high) = min(counted.items()), max(counted.items())
    found = {}
    for name, begun in low.items():
        each = (high[name] - begun) / (last - first)
        for size, said in counted.items():
            if abs(begun + each * (size - first) - said[name]) > 1:
                raise ValueError(f"{name} is not linear: {said[name]} for {size} objects")
        found[name] = begun + each * (objects - first)
    pages = HOURS * 3600 / TICK_SECONDS * 2  # a query reads no more than its first page
    found["RRU"] = min(found["RRU"], pages * PAGE_BYTES / 4096 / 2)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--objects", type=int, nargs="+", default=[1000, 5000])
    for objects in parser.parse_args().objects:
        print(objects, json.dumps(count(objects)), flush=True)


if __name__ == "__main__":
    main()
