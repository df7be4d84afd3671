"""The one table: a row for each job, whatever the number of its objects. Each change is conditional.

`Active` is there as long as there is something to do for a job, so the index `Active` holds just those, by
when they are `Due`. Who works at a job has its `Lease`; nobody else can commit until it has run out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import boto3  # type: ignore[import-untyped]

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

Row = dict[str, Any]
KEPT_SECONDS = 90 * 86_400
"""How long a row stays after its job has ended: as long as S3 keeps batch jobs."""

_PAGE = 50


class Table:
    """Values are texts, whole numbers and lists of texts. Raises what boto3 raises."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._client = boto3.client("dynamodb")

    def close(self) -> None:
        """Hang up."""
        self._client.close()

    def add(self, row: Row) -> bool:
        """Write a new row. Tells whether there was none of this job."""
        return self._tried("put_item", Item=_written(row), ConditionExpression="attribute_not_exists(JobId)")

    def get(self, job: str) -> Row | None:
        """Read a row as it is now."""
        found = self._client.get_item(TableName=self._name, Key={"JobId": {"S": job}}, ConsistentRead=True)
        return _read(found["Item"]) if "Item" in found else None

    def page(self, after: str | None) -> tuple[list[Row], str | None]:
        """Read some rows, in no order, and where the next ones begin."""
        more = {"ExclusiveStartKey": {"JobId": {"S": after}}} if after else {}
        found = self._client.scan(TableName=self._name, Limit=_PAGE, **more)
        last = found.get("LastEvaluatedKey")
        return [_read(item) for item in found["Items"]], last["JobId"]["S"] if last else None

    def due(self, until: int) -> Iterator[Row]:
        """Name the jobs that are due by then, the longest due first, with their buckets."""
        pages = self._client.get_paginator("query").paginate(
            TableName=self._name,
            IndexName="Active",
            KeyConditionExpression="Active = :yes AND Due <= :until",
            ExpressionAttributeValues=_written({":yes": "yes", ":until": until}),
        )
        for page in pages:
            yield from map(_read, page["Items"])

    def lease(self, job: str, now: int, until: int) -> Row | None:
        """Take a job for this time, and return its row; None if it has ended, or somebody else has it."""
        return self._changed(
            job, {"Lease": until}, "attribute_exists(Active) AND Lease < :now", {":now": now}
        )

    def commit(self, row: Row, changes: Mapping[str, Any], *, ends: bool = False) -> Row | None:
        """Write down what came of working at a job; None if it is not ours any more. `ends` its activity."""
        condition, values = "Lease = :mine", {":mine": row["Lease"]}
        return self._changed(row["JobId"], changes, condition, values, ends=ends)

    def wish(self, job: str, now: int) -> bool:
        """Have a job cancelled. Tells whether it was active."""
        changes = {"Wish": "cancel", "Due": now}
        return self._changed(job, changes, "attribute_exists(Active)", {}) is not None

    def hint(self, job: str, now: int, before: int) -> None:
        """Have a job looked at now, unless that was done after `before`, or it is due anyway."""
        condition = "attribute_exists(Active) AND Due > :now AND Hint < :before"
        self._changed(job, {"Hint": now, "Due": now}, condition, {":now": now, ":before": before})

    def _changed(
        self,
        job: str,
        changes: Mapping[str, Any],
        condition: str,
        values: Mapping[str, Any],
        *,
        ends: bool = False,
    ) -> Row | None:
        """Change a row on a condition, and return it; None if that is not so."""
        names = {f"#{number}": name for number, name in enumerate(changes)}
        new = {f":{number}": value for number, value in enumerate(changes.values())}
        expression = "SET " + ", ".join(f"#{number} = :{number}" for number in range(len(changes)))
        answers: list[Any] = []
        done = self._tried(
            "update_item",
            answers,
            Key={"JobId": {"S": job}},
            UpdateExpression=expression + (" REMOVE Active" if ends else ""),
            ConditionExpression=condition,
            ExpressionAttributeNames=names,
            ExpressionAttributeValues=_written({**new, **values}),
            ReturnValues="ALL_NEW",
        )
        return _read(answers[0]["Attributes"]) if done else None

    def _tried(self, operation: str, answers: list[Any] | None = None, **fields: Any) -> bool:
        """Do something on a condition. Tells whether that held."""
        try:
            answer = getattr(self._client, operation)(TableName=self._name, **fields)
        except self._client.exceptions.ConditionalCheckFailedException:
            return False
        if answers is not None:
            answers.append(answer)
        return True


def add_event_bridge(bucket: str) -> None:
    """Have a bucket tell EventBridge what happens, and leave all else that it tells as it is."""
    client = boto3.client("s3")
    try:
        before = client.get_bucket_notification_configuration(Bucket=bucket)
        before.pop("ResponseMetadata", None)
        if "EventBridgeConfiguration" not in before:
            client.put_bucket_notification_configuration(
                Bucket=bucket, NotificationConfiguration={**before, "EventBridgeConfiguration": {}}
            )
    finally:
        client.close()


def _written(row: Mapping[str, Any]) -> dict[str, Any]:
    return {name: _value(value) for name, value in row.items()}


def _value(value: Any) -> dict[str, Any]:
    if isinstance(value, int):
        return {"N": str(value)}
    return {"S": value} if isinstance(value, str) else {"L": [{"S": one} for one in value]}


def _read(item: Mapping[str, Any]) -> Row:
    row: Row = {}
    for name, typed in item.items():
        ((kind, value),) = typed.items()
        row[name] = int(value) if kind == "N" else [it["S"] for it in value] if kind == "L" else value
    return row
