"""The stand-in's own requests: POST /_standin/NAME with the arguments as JSON; GET /_standin shows how it stands."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from tests.standins.glacier.clock import iso
from tests.standins.glacier.errors import Refusal
from tests.standins.glacier.http import Reply

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.standins.glacier.http import Request
    from tests.standins.glacier.standin import GlacierStandIn

PATH = "/_standin"  # no bucket can be called so


class Admin:
    """Does with the stand-in what tests do with its methods."""

    def __init__(self, standin: GlacierStandIn) -> None:
        self._standin = standin
        self._actions: dict[str, Callable[..., Any]] = {
            "advance": lambda seconds: iso(standin.clock.advance(seconds, wait=False)),
            "bucket": standin.bucket,
            "put": standin.put,
            "populate": standin.populate,
            "state": standin.state,
            "restores": standin.restores,
            "count": standin.count,
            "fault": lambda **fields: standin.faults.add(**fields) and None,
            "clear": standin.faults.clear,
            "set": self._set,
            "force-job": standin.force_job,
            "forget-job": standin.forget_job,
            "drop-connections": standin.drop_connections,
        }

    def answer(self, request: Request) -> Reply:
        name = request.path.removeprefix(PATH).strip("/")
        if not name:
            return _reply(200, self._status())
        if name not in self._actions:
            return _reply(404, {"error": f"there is no {name}; there are {', '.join(self._actions)}"})
        try:
            result = self._actions[name](**json.loads(request.body or b"{}"))
        except (TypeError, ValueError, KeyError, AttributeError, Refusal) as error:
            return _reply(400, {"error": repr(error)})
        return _reply(200, {"result": result})

    def _status(self) -> dict[str, Any]:
        standin = self._standin
        return {
            "now": standin.clock.now,
            "time": iso(standin.clock.now),
            "begun": standin.begun,
            "counters": dict(standin.counters),
            "jobs": standin.jobs,
            "undelivered": standin.delivery.undelivered,
        }

    def _set(self, of: str, **values: Any) -> None:
        """Set attributes of "faults", "delivery" or "pace"."""
        target = {
            "faults": self._standin.faults,
            "delivery": self._standin.delivery,
            "pace": self._standin.pace,
        }
        for name, value in values.items():
            if type(getattr(target[of], name)) not in (int, float, bool, str, type(None)):
                raise ValueError(f"{name} cannot be set from outside")
            setattr(target[of], name, value)


def _reply(status: int, content: object) -> Reply:
    return Reply(status, json.dumps(content).encode() + b"\n", {"Content-Type": "application/json"})
