"""The connection to the nucleus: Greengrass IPC by AWS's SDK, in whose place we wait with a limit.

A connection that is lost stays lost: after a restart of its other end our token is void, and only a new
process gets another one. So nobody connects again here; `lost` says why the process has to end.
"""

from __future__ import annotations

import concurrent.futures
import functools
import json
import logging
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from awscrt.exceptions import AwsCrtError  # type: ignore[import-untyped]
from awsiot.eventstreamrpc import AccessDeniedError, LifecycleHandler
from awsiot.greengrasscoreipc import connect
from awsiot.greengrasscoreipc.clientv2 import GreengrassCoreIPCClientV2
from awsiot.greengrasscoreipc.model import (
    QOS,
    BinaryMessage,
    ConfigurationValidityReport,
    GreengrassCoreIPCError,
    JsonMessage,
    PublishMessage,
    ReceiveMode,
    ResourceNotFoundError,
    UnauthorizedError,
)
from awsiot.greengrasscoreipc.model import ConfigurationValidityStatus as Verdict

from tidegate.errors import NotAllowed, NucleusGone, Refused, TidegateError, Unavailable

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

CONNECT_PAUSES = (1.0, 2.0, 4.0, 8.0, 15.0)
"""Between attempts to connect. A process that ends soon and often is given up by the nucleus."""

CALL_SECONDS = 10.0
LONGEST_MESSAGE = 6_000
"""Characters of a verdict; a connection may carry little more."""

VERDICT_SECONDS = 1.0
"""How long a configuration may be judged; a deployment waits for the answer."""

DEFER_MILLISECONDS = 2_000
LARGEST_FRAME = 9_900
"""Bytes of a publication with its frame. At 10,013 lite ends the connection, without a word."""

MOST_UNANSWERED = 256
"""Messages that were sent without waiting, and not answered yet."""

Heard = Callable[[str, bytes], None]
"""Takes the topic and the payload of a message."""

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
        self._judge = concurrent.futures.ThreadPoolExecutor(1, thread_name_prefix="ipc-judge")
        self._updates: Any = None
        self._unanswered = threading.BoundedSemaphore(MOST_UNANSWERED)
        self.busy: Callable[[], bool] = lambda: False
        """Whether an update should wait a moment. It must not block."""

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
        nothing else, and that waits a second for the judge, which may look at files. Should the judge fail
        or take longer, the configuration is accepted; it is judged again when read.
        """

        def answer(event: Any) -> None:
            asked = event.validate_configuration_update_event
            judging = self._judge.submit(faults, asked.configuration)
            try:
                found = judging.result(VERDICT_SECONDS)
            except concurrent.futures.TimeoutError:
                log.warning("a configuration could not be judged in time, and is accepted")
                found = ()
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

    def answer_updates(self) -> None:
        """Have an update wait while we are `busy`. Else it goes on at once."""

        def answer(event: Any) -> None:
            asked = event.pre_update_event
            if asked is None:
                return
            self._begin(
                "defer_component_update",
                functools.partial(log.warning, "the nucleus asked whether it may update, and: %s"),
                deployment_id=asked.deployment_id,
                recheck_after_ms=DEFER_MILLISECONDS if self.busy() else 0,
            )

        self._subscribe("component_updates", answer)

    # Messages

    def subscribe_local(self, topics: str, heard: Heard, ended: Callable[[], None]) -> Callable[[], None]:
        """Hear the messages that components publish. Returns what ends that. All of it as for IoT Core."""

        def on_event(event: Any) -> None:
            if event.binary_message is not None:
                heard(event.binary_message.context.topic, event.binary_message.message or b"")
            elif event.json_message is not None:
                heard(event.json_message.context.topic, json.dumps(event.json_message.message).encode())

        mode = ReceiveMode.RECEIVE_ALL_MESSAGES  # else classic keeps our own from us, and we need some
        return self._listen("topic", on_event, ended, topic=topics, receive_mode=mode)

    def subscribe_cloud(self, topics: str, heard: Heard, ended: Callable[[], None]) -> Callable[[], None]:
        """Hear the messages of IoT Core. Returns what ends that.

        `heard` is called in the SDK's thread and must not block; so is `ended`, when the nucleus ends it in
        good order. It can as well end in silence.
        """

        def on_event(event: Any) -> None:
            heard(event.message.topic_name, event.message.payload or b"")

        return self._listen("iot_core", on_event, ended, topic_name=topics, qos=QOS.AT_LEAST_ONCE)

    def publish_local(self, topic: str, payload: bytes) -> None:
        """Publish to components, and wait until the nucleus has it. Always as bytes, never as JSON.

        On lite a JSON message of many parts kills the subscriptions that it is for.
        """
        self._call("publish_to_topic", **_local(topic, payload))

    def publish_json(self, topic: str, message: Mapping[str, Any]) -> None:
        """Publish to components that read nothing else, and wait for the nucleus. Short ones only."""
        _check_size(topic, json.dumps(message).encode())
        publication = PublishMessage(json_message=JsonMessage(message=dict(message)))
        self._call("publish_to_topic", topic=topic, publish_message=publication)

    def publish_cloud(self, topic: str, payload: bytes, *, once: bool = False) -> None:
        """Publish to IoT Core, and wait until the nucleus has it. With `once`: now or never, not spooled."""
        self._call("publish_to_iot_core", **_cloud(topic, payload, once=once))

    def send_local(self, topic: str, payload: bytes, failed: Callable[[TidegateError], None]) -> None:
        """Publish to components without waiting. `failed` is told in any thread; it must not block."""
        self._begin("publish_to_topic", failed, **_local(topic, payload))

    def send_cloud(self, topic: str, payload: bytes, failed: Callable[[TidegateError], None]) -> None:
        """Publish to IoT Core without waiting, as `send_local` does."""
        self._begin("publish_to_iot_core", failed, **_cloud(topic, payload))

    def close(self) -> None:
        """Hang up."""
        self._validator.shutdown(wait=False)
        self._judge.shutdown(wait=False)
        concurrent.futures.wait([self._client.close()], self._limit)

    def _call(self, operation: str, **arguments: Any) -> Any:
        return self._result(operation, lambda: getattr(self._client, f"{operation}_async")(**arguments))

    def _begin(self, operation: str, failed: Callable[[TidegateError], None], **arguments: Any) -> None:
        """Call without waiting. Raises nothing; `failed` hears it all."""
        if not self._unanswered.acquire(blocking=False):
            failed(Unavailable(f"the nucleus has not answered {MOST_UNANSWERED} messages"))
            return

        def finish(done: concurrent.futures.Future[Any]) -> None:
            self._unanswered.release()
            if error := done.exception():
                failed(_translated(operation, error))

        try:
            future = getattr(self._client, f"{operation}_async")(**arguments)
        except _AWAY as err:
            self._unanswered.release()
            failed(_translated(operation, err))
        else:
            future.add_done_callback(finish)

    def _listen(
        self, what: str, heard: Callable[[Any], None], ended: Callable[[], None], **arguments: Any
    ) -> Callable[[], None]:
        """Listen; returns what ends that. To the SDK it ends also if we hang up, or were never let in."""
        listening, closed = threading.Event(), threading.Event()

        def close() -> None:
            closed.set()
            if listening.is_set():
                ended()

        def hang_up() -> None:
            listening.clear()
            stream.close()

        stream = self._subscribe(what, heard, on_stream_closed=close, **arguments)
        listening.set()
        if closed.is_set():  # before we knew that it had begun
            ended()
        return hang_up

    def _subscribe(self, what: str, heard: Callable[[Any], object], **arguments: Any) -> Any:
        """Return the stream. `heard` is called in the SDK's thread, which must not be held up."""
        name = f"subscribe_to_{what}"
        streams: list[Any] = []

        def begin() -> concurrent.futures.Future[Any]:
            response, stream = getattr(self._client, f"{name}_async")(on_stream_event=heard, **arguments)
            streams.append(stream)
            return response  # type: ignore[no-any-return]

        try:
            self._result(name, begin)
        except Unavailable:
            for stream in streams:  # what comes late is not wanted any more
                stream.close()
            raise
        return streams[0]

    def _result(self, name: str, begin: Callable[[], concurrent.futures.Future[Any]]) -> Any:
        try:
            return begin().result(self._limit)
        except concurrent.futures.TimeoutError as err:
            raise Unavailable(f"the nucleus has not answered {name} in {self._limit:g} seconds") from err
        except (GreengrassCoreIPCError, *_AWAY) as err:
            raise _translated(name, err) from err


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


def _translated(name: str, error: BaseException) -> TidegateError:
    """Make of an error of the SDK what it means to us."""
    if isinstance(error, ResourceNotFoundError):
        return _NotFound(_said(name, error))
    if isinstance(error, UnauthorizedError):
        return NotAllowed(_said(name, error))
    if isinstance(error, GreengrassCoreIPCError):
        return Refused(_said(name, error))
    return Unavailable(_said(name, error))


def _local(topic: str, payload: bytes) -> dict[str, Any]:
    _check_size(topic, payload)
    return {"topic": topic, "publish_message": PublishMessage(binary_message=BinaryMessage(message=payload))}


def _cloud(topic: str, payload: bytes, *, once: bool = False) -> dict[str, Any]:
    _check_size(topic, payload)
    return {"topic_name": topic, "payload": payload, "qos": QOS.AT_MOST_ONCE if once else QOS.AT_LEAST_ONCE}


def _check_size(topic: str, payload: bytes) -> None:
    """Raise ValueError for what would cost the connection: a caller must never make it."""
    if 4 * -(-len(payload) // 3) + len(json.dumps(topic)) + 400 > LARGEST_FRAME:
        raise ValueError(f"a message of {len(payload)} bytes is more than a nucleus takes")


def _said(name: str, error: BaseException) -> str:
    """Make a sentence of an error; those of nucleus lite have no text but their name."""
    text = getattr(error, "message", None) or str(error)
    return f"the nucleus failed in {name}: {type(error).__name__}{f' ({text})' if text else ''}"
