"""The connection to the nucleus: Greengrass IPC by AWS's SDK, in whose place we wait with a limit.

A connection that is lost stays lost: after a restart of its other end our token is void, and only a new
process gets another one. So nobody connects again here; `lost` says why the process has to end.
"""

from __future__ import annotations

import concurrent.futures
import logging
import threading
from typing import TYPE_CHECKING, Any

from awscrt.exceptions import AwsCrtError  # type: ignore[import-untyped]
from awsiot.eventstreamrpc import AccessDeniedError, LifecycleHandler
from awsiot.greengrasscoreipc import connect
from awsiot.greengrasscoreipc.clientv2 import GreengrassCoreIPCClientV2
from awsiot.greengrasscoreipc.model import (
    ConfigurationValidityReport,
    GreengrassCoreIPCError,
    ResourceNotFoundError,
)
from awsiot.greengrasscoreipc.model import ConfigurationValidityStatus as Verdict

from tidegate.errors import NucleusGone, Refused, Unavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

CONNECT_PAUSES = (1.0, 2.0, 4.0, 8.0, 15.0)
"""Between attempts to connect. A process that ends soon and often is given up by the nucleus."""

CALL_SECONDS = 10.0
LONGEST_MESSAGE = 6_000
"""Characters of a verdict; a connection may carry little more."""

_AWAY = (AwsCrtError, RuntimeError)
"""What the SDK raises when nobody has answered; its errors for what is closed are RuntimeErrors."""

log = logging.getLogger(__name__)


class Nucleus:
    """One connection, as the component that the token belongs to. Safe to use from any thread.

    Every call, and each attempt to connect, ends within `limit` seconds. A call raises `Unavailable` (no
    answer) or `Refused` (an error as the answer; lite also says so of operations that it does not have).
    """

    def __init__(
        self,
        path: str,
        token: str,
        *,
        pauses: Sequence[float] = CONNECT_PAUSES,
        limit: float = CALL_SECONDS,
    ) -> None:
        """Connect to the socket at `path`. Raises `NucleusGone` when that fails again and again."""
        core, self._watcher = _connect(path, token, pauses, limit)
        self._limit = limit
        self._client = GreengrassCoreIPCClientV2(client=core, executor=None)
        self._validator = concurrent.futures.ThreadPoolExecutor(1, thread_name_prefix="ipc-validation")
        self._updates: Any = None

    @property
    def lost(self) -> str | None:
        """Why the connection has ended; None while it is there."""
        return self._watcher.reason

    def configuration(self) -> dict[str, object]:
        """Read the whole configuration of this component; empty when it has none."""
        try:
            value: dict[str, object] = self._call("get_configuration", key_path=[]).value
        except _NotFound:
            return {}
        return value

    def follow_configuration(self, changed: Callable[[], None]) -> None:
        """Have `changed` called when a value was written; it must not block. Again: begin anew.

        An event says neither the value nor that it is the last one, and subscriptions die in silence.
        Beginning anew is not for every minute: lite does not confirm the end of the old one, and for what
        is not confirmed the SDK keeps 6 KB.
        """
        before = self._updates
        self._updates = self._subscribe("configuration_update", lambda _: changed(), key_path=[])
        if before is not None:
            before.close()

    def answer_validation(self, faults: Callable[[Mapping[str, object]], Sequence[str]]) -> None:
        """Answer each question whether a configuration is good by the faults that it has.

        A deployment waits for the answer, and fails without one: so it is given in a thread that does
        nothing else. Should the judge fail, the configuration is accepted; it is judged again when read.
        """

        def answer(event: Any) -> None:
            asked = event.validate_configuration_update_event
            try:
                found = faults(asked.configuration)
            except Exception:
                log.exception("a configuration could not be judged, and is accepted")
                found = ()
            report = ConfigurationValidityReport(
                status=Verdict.REJECTED if found else Verdict.ACCEPTED,
                deployment_id=asked.deployment_id,
                message="\n".join(found)[:LONGEST_MESSAGE] or None,
            )
            try:
                self._call("send_configuration_validity_report", configuration_validity_report=report)
            except (Unavailable, Refused) as err:
                log.warning("the nucleus asked for a verdict on a configuration and did not take it: %s", err)

        self._subscribe("validate_configuration_updates", lambda event: self._validator.submit(answer, event))

    def close(self) -> None:
        """Hang up."""
        self._validator.shutdown(wait=False)
        concurrent.futures.wait([self._client.close()], self._limit)

    def _call(self, operation: str, **arguments: Any) -> Any:
        return self._result(operation, lambda: getattr(self._client, f"{operation}_async")(**arguments))

    def _subscribe(self, what: str, heard: Callable[[Any], object], **arguments: Any) -> Any:
        """Return the stream. `heard` is called in the SDK's thread, which must not be held up."""
        name = f"subscribe_to_{what}"
        streams: list[Any] = []

        def begin() -> concurrent.futures.Future[Any]:
            response, stream = getattr(self._client, f"{name}_async")(on_stream_event=heard, **arguments)
            streams.append(stream)
            return response  # type: ignore[no-any-return]

        self._result(name, begin)
        return streams[0]

    def _result(self, name: str, begin: Callable[[], concurrent.futures.Future[Any]]) -> Any:
        try:
            return begin().result(self._limit)
        except concurrent.futures.TimeoutError as err:
            raise Unavailable(f"the nucleus has not answered {name} in {self._limit:g} seconds") from err
        except ResourceNotFoundError as err:
            raise _NotFound(_said(name, err)) from err
        except GreengrassCoreIPCError as err:
            raise Refused(_said(name, err)) from err
        except _AWAY as err:
            raise Unavailable(_said(name, err)) from err


class _NotFound(Refused):
    """What was asked for is not there."""


class _Watcher(LifecycleHandler):  # type: ignore[misc]
    """Remembers why the connection ended."""

    reason: str | None = None

    def on_disconnect(self, reason: Exception | None) -> None:
        """See LifecycleHandler."""
        self.reason = f"the connection to the nucleus is lost: {reason}"


def _connect(path: str, token: str, pauses: Sequence[float], limit: float) -> tuple[Any, _Watcher]:
    rest = iter(pauses)
    while True:
        watcher = _Watcher()  # for each its own: one that came too late may end later
        try:
            core = connect(ipc_socket=path, authtoken=token, lifecycle_handler=watcher, timeout=limit)
        except (concurrent.futures.TimeoutError, *_AWAY) as err:
            reason = _said("connecting to it", err)
            pause = next(rest, None)
            if pause is None or isinstance(err, AccessDeniedError):  # the token will not become a good one
                raise NucleusGone(reason) from err
            log.warning("%s; trying again in %.0f seconds", reason, pause)
            threading.Event().wait(pause)
        else:
            return core, watcher


def _said(name: str, error: Exception) -> str:
    """Make a sentence of an error; those of nucleus lite have no text but their name."""
    text = getattr(error, "message", None) or str(error)
    return f"the nucleus failed in {name}: {type(error).__name__}{f' ({text})' if text else ''}"
