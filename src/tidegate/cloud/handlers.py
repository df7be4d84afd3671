"""The Lambdas, by the names that cloud/template.yaml has for them."""

from __future__ import annotations

import json
import logging
import os
from typing import TYPE_CHECKING, Any

from tidegate.clock import Clock
from tidegate.cloud.request import body_of, order_of
from tidegate.cloud.table import Table
from tidegate.cloud.work import Conflict, NoSuchJob, Settings, Work
from tidegate.errors import ConfigFaults

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from tidegate.cloud.table import Row

Event = dict[str, Any]
SPARE_MILLISECONDS = 300_000
"""A tick begins with no job when it has less than this left."""

log = logging.getLogger(__name__)


class Lambdas:
    """What is called, in the time of a clock."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._made: tuple[dict[str, str], Work] | None = None
        logging.getLogger().setLevel(logging.INFO)

    def change(self, event: Event, _context: Any) -> Event:
        """POST /create-job and POST /jobs/{id}/cancel."""
        if event["resource"] == "/create-job":
            return _answered(lambda: self._work.create(order_of(body_of(event))))
        return _answered(lambda: _shown(self._work.cancel(event["pathParameters"]["id"])))

    def read(self, event: Event, _context: Any) -> Event:
        """GET /jobs and GET /jobs/{id}."""
        if event["resource"] == "/jobs":
            after = (event.get("queryStringParameters") or {}).get("next")
            return _answered(lambda: self._listed(after))
        return _answered(lambda: _shown(self._work.show(event["pathParameters"]["id"])))

    def tick(self, _event: Event, context: Any) -> Event:
        """Every two minutes. Costs one query when nothing is to be done."""
        return {
            "advanced": self._work.tick(lambda: context.get_remaining_time_in_millis() > SPARE_MILLISECONDS)
        }

    def receive(self, event: Event, _context: Any) -> Event:
        """Take events of EventBridge from their queue. What cannot be read is left alone: they are hints."""
        buckets: set[str] = set()
        for record in event["Records"]:
            try:
                buckets.add(json.loads(record["body"])["detail"]["bucket"]["name"])
            except (ValueError, KeyError, TypeError):
                log.warning("this is no event of a bucket: %.200s", record.get("body"))
        self._work.hint(buckets)
        return {"batchItemFailures": []}

    def close(self) -> None:
        """Hang up. What is asked next dials anew."""
        if self._made is not None:
            self._made[1].close()
        self._made = None

    def _listed(self, after: str | None) -> Event:
        rows, more = self._work.page(after)
        return {"jobs": [_shown(row) for row in rows], **({"next": more} if more else {})}

    @property
    def _work(self) -> Work:
        """All jobs. Made once, for as long as the environment stays as it is."""
        environment = dict(os.environ)
        if self._made is None or self._made[0] != environment:
            self.close()
            table = Table(environment["JOBS_TABLE"])
            self._made = environment, Work(_settings(environment), table, environment, self._clock)
        return self._made[1]


def _settings(environment: Mapping[str, str]) -> Settings:
    return Settings(
        topic=environment.get("TOPIC", ""),
        queue=environment.get("QUEUE", ""),
        reports=environment.get("REPORTS", ""),
        role=environment.get("BATCH_ROLE", ""),
        account=environment.get("ACCOUNT", ""),
        buckets=frozenset(one.strip() for one in environment.get("BUCKETS", "").split(",")),
        notify=environment.get("NOTIFY") == "true",
    )


def _shown(row: Row) -> Event:
    """What is told of a job: the five texts of its events, and what else is known."""
    said = json.loads(row["State"] or "{}")
    return {
        "JobId": row["JobId"],
        "BatchJobId": row["BatchJobId"],
        "Status": row["Status"],
        "ProgressPercent": str(said.get("percent", 0)),
        "FailedBatchFiles": str(said.get("counts", {}).get("failed", 0)),
        "TotalFilesRequested": row["Total"],
        "Created": row["Created"],
        "detail": said,
    }


def _answered(do: Callable[[], Event]) -> Event:
    try:
        return _reply(200, do())
    except ConfigFaults as error:
        return _reply(400, {"Error": str(error)})
    except NoSuchJob as error:
        return _reply(404, {"Error": str(error)})
    except Conflict as error:
        return _reply(409, {"Error": str(error)})
    except Exception:
        log.exception("a request failed")
        return _reply(500, {"Error": "it failed for a reason that is logged"})


def _reply(status: int, body: Event) -> Event:
    headers = {"content-type": "application/json"}
    return {"statusCode": status, "headers": headers, "body": json.dumps(body)}


_lambdas = Lambdas(Clock())
change, read, tick, receive = _lambdas.change, _lambdas.read, _lambdas.tick, _lambdas.receive
