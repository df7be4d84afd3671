"""The nucleus stand-in itself: what a test does to it and sees of it. What it is, the package says."""

from __future__ import annotations

import asyncio
import json
import secrets
import threading
import time
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from tests.standins.nucleus.configuration import Configuration
from tests.standins.nucleus.connection import Subscription, Subscriptions
from tests.standins.nucleus.limits import with_strings
from tests.standins.nucleus.messages import IotCore, LocalBus, Message
from tests.standins.nucleus.operations import Operations
from tests.standins.nucleus.server import Server
from tests.standins.nucleus.switches import CLASSIC, LITE, Switches
from tests.standins.nucleus.topics import AccessControl

if TYPE_CHECKING:
    import concurrent.futures
    from collections import Counter
    from collections.abc import Callable, Coroutine, Mapping, Sequence

    from typing_extensions import Self

T = TypeVar("T")
CALL_SECONDS = 30.0
COMPONENT = "com.example.Component"
OPERATOR = "standin-operator"  # its name and its token
SOCKET_VARIABLE = "AWS_GG_NUCLEUS_DOMAIN_SOCKET_FILEPATH_FOR_COMPONENT"


class NucleusStandIn(Switches):
    """A running nucleus: it serves from the constructor's return until `close`.

    `component` is the one under test; its configuration is `configuration`, which may hold accessControl.
    Its switches are its attributes. Everything here may be called from any thread.
    """

    def __init__(
        self,
        *,
        socket: Path | str,
        configuration: Mapping[str, Any] | None = None,
        component: str = COMPONENT,
        thing_name: str = "thing",
        region: str = "eu-central-1",
        **switches: Any,
    ) -> None:
        super().__init__(**switches)
        if self.mode not in (LITE, CLASSIC):
            raise ValueError(f"there is no nucleus {self.mode}")
        self.socket = Path(socket)
        self.component = component
        self.thing_name = thing_name
        self._region = region
        self._tokens: dict[str, str] = {OPERATOR: OPERATOR}
        self._subscriptions = Subscriptions()
        self._configuration = Configuration(self, self._notify)
        self._local = LocalBus(self, self._subscriptions)
        self._iot_core = IotCore(self, self._subscriptions)
        self._operations = Operations(
            self,
            self._subscriptions,
            self._configuration,
            self._local,
            self._iot_core,
            AccessControl(self, thing_name),
        )
        self._server = Server(self, self._operations, self._subscriptions, self._tokens.get)
        self._configuration.merge(component, (), dict(configuration or {}), 0.0)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="nucleus")
        self._thread.start()
        try:
            self._await(self._server.start(self.socket))
        except OSError:
            self._end()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop as a nucleus that is killed does: every connection ends."""
        if self._thread.is_alive():
            self._await(self._server.stop())
            self._end()

    def restart(self) -> None:
        """Restart the IPC daemon: connections end and tokens are void. Configurations are kept."""
        self._await(self._server.stop())
        self._tokens.clear()
        self._tokens[OPERATOR] = OPERATOR
        self._await(self._server.start(self.socket))

    def environment(self, component: str | None = None) -> dict[str, str]:
        """Name the variables that a component is started with, valid until `restart`."""
        token = self._call(lambda: self._token(component or self.component))
        return {
            SOCKET_VARIABLE: str(self.socket),
            "SVCUID": token,
            "AWS_CONTAINER_AUTHORIZATION_TOKEN": token,
            "AWS_IOT_THING_NAME": self.thing_name,
            "AWS_REGION": self._region,
            "AWS_DEFAULT_REGION": self._region,
        }

    # Configuration and deployments

    def configuration(self, component: str | None = None) -> dict[str, Any]:
        """Copy the whole configuration of a component."""
        return self._call(lambda: self._configuration.whole(component or self.component))

    def configure(
        self,
        merge: Mapping[str, Any] | None = None,
        *,
        reset: Sequence[str] = (),
        component: str | None = None,
        as_strings: bool = False,
    ) -> None:
        """Reset JSON pointers, then merge, as a deployment does; watchers are told.

        `as_strings` makes every scalar a string, as lite does with a YAML recipe. What the nucleus cannot
        carry raises IpcError: such a deployment fails.
        """
        name, value = component or self.component, dict(merge or {})

        def change() -> None:
            for pointer in reset:
                path = self._configuration.reset(name, pointer)
                if self.lite:
                    self._forget_watchers((name, *path))
            self._configuration.merge(name, (), with_strings(value) if as_strings else value, time.time())

        self._call(change)

    def deploy(
        self,
        merge: Mapping[str, Any] | None = None,
        *,
        reset: Sequence[str] = (),
        seconds: float = 20.0,
    ) -> tuple[str, str]:
        """Configure as a deployment that asks first, where the component subscribed to validation.

        Return ACCEPTED or REJECTED with the component's message, TIMEOUT if it is silent for so many
        seconds, UNASKED if it did not subscribe. Only ACCEPTED and UNASKED change anything.
        """
        proposed = self.configuration()
        for pointer in reset:
            forget(proposed, pointer)
        merge_into(proposed, merge or {})
        try:
            report = self._ask(
                "validity",
                "SubscribeToValidateConfigurationUpdates",
                lambda deployment: (
                    "ValidateConfigurationUpdateEvents",
                    {
                        "validateConfigurationUpdateEvent": {
                            "configuration": proposed,
                            "deploymentId": deployment,
                        }
                    },
                ),
                seconds,
            )
        except TimeoutError:
            return "TIMEOUT", ""
        outcome = ("UNASKED", "") if report is None else (report["status"], report.get("message") or "")
        if outcome[0] != "REJECTED":
            self.configure(merge, reset=reset)
        return outcome

    def ask_to_update(self, *, restarting: bool = False, seconds: float = 60.0) -> Mapping[str, Any] | None:
        """Announce a component update and return the DeferComponentUpdate it is answered with.

        None if nobody subscribed; TimeoutError if there is no answer in so many seconds.
        """
        return self._ask(
            "update",
            "SubscribeToComponentUpdates",
            lambda deployment: (
                "ComponentUpdatePolicyEvents",
                {"preUpdateEvent": {"deploymentId": deployment, "isGgcRestarting": restarting}},
            ),
            seconds,
        )

    def finish_update(self, deployment: str) -> None:
        """Tell that an update is done."""
        event = {"postUpdateEvent": {"deploymentId": deployment}}

        def tell() -> None:
            for one in self._subscriptions.of("SubscribeToComponentUpdates"):
                one.send("ComponentUpdatePolicyEvents", event)

        self._call(tell)

    # Messages

    def publish(self, topic: str, payload: bytes | Mapping[str, Any], *, source: str = OPERATOR) -> None:
        """Publish a local message as another component: bytes as a binary message, a map as a JSON one."""
        content = payload if isinstance(payload, bytes) else dict(payload)
        self._call(lambda: self._local.publish(Message(source, topic, content)))

    def publish_iot_core(self, topic: str, payload: bytes) -> None:
        """Publish a message in the cloud."""
        self._call(lambda: self._iot_core.deliver(topic, payload))

    def request(
        self, topic: str, body: Mapping[str, Any], *, iot_core: bool = False, seconds: float = 10.0
    ) -> tuple[str, dict[str, Any]]:
        """Publish a request and return the end of the topic of its reply, and the reply.

        The reply is what comes on <topic>/accepted or /rejected with the request's clientToken, which is
        made if it is not there. TimeoutError if there is none in so many seconds.
        """
        token = body.get("clientToken") or str(uuid.uuid4())
        payload = json.dumps({**body, "clientToken": token}).encode()
        log = (self._iot_core if iot_core else self._local).log
        start = len(log.all())
        self.publish_iot_core(topic, payload) if iot_core else self.publish(topic, payload)
        reply = log.wait(
            lambda one: (
                one.topic in (f"{topic}/accepted", f"{topic}/rejected")
                and one.json().get("clientToken") == token
            ),
            start=start,
            seconds=seconds,
        )
        if reply is None:
            raise TimeoutError(f"no reply to {topic} in {seconds} seconds")
        return reply.topic.rpartition("/")[2], reply.json()

    @property
    def published(self) -> list[Message]:
        """Every local message so far, those of `publish` too."""
        return self._local.log.all()

    @property
    def iot_core_received(self) -> list[Message]:
        """Every message of a component that arrived in the cloud so far."""
        return self._iot_core.log.all()

    def go_offline(self) -> None:
        """Lose the connection to AWS IoT Core."""
        self._call(lambda: setattr(self._iot_core, "online", False))

    def go_online(self) -> None:
        """Have it back. Subscriptions are as before; classic sends what it kept."""
        self._call(self._iot_core.go_online)

    # What components did

    @property
    def requests(self) -> Counter[str]:
        """How often each operation was asked for, whatever came of it."""
        return self._server.requests

    @property
    def states(self) -> list[tuple[str, str]]:
        """Every UpdateState, as (component, state)."""
        return list(self._operations.states)

    @property
    def metrics(self) -> list[tuple[str, Mapping[str, Any]]]:
        """Every metric of PutComponentMetric, as (component, metric)."""
        return list(self._operations.metrics)

    @property
    def subscriptions(self) -> list[tuple[str, str, str | tuple[str, ...]]]:
        """What is subscribed to, as (component, operation, topic filter or (component, *path) or "")."""
        return [(one.component, one.operation, one.subject) for one in self._call(self._subscriptions.all)]

    # Faults

    def drop_connections(self, component: str | None = None) -> None:
        """End the connections of a component, or of all."""

        def drop() -> None:
            for one in tuple(self._server.connections):
                if component in (None, one.component):
                    one.drop()

        self._call(drop)

    def kill_subscriptions(self, subject: str | tuple[str, ...] | None = None) -> int:
        """Forget the subscriptions to a subject, or all, without a word. Return how many."""
        return self._call(lambda: len(self._forget(subject)))

    def end_subscriptions(self, subject: str | tuple[str, ...] | None = None) -> int:
        """Close the streams of the subscriptions to a subject, or of all, in good order. Return how many."""

        def end() -> int:
            forgotten = self._forget(subject)
            for one in forgotten:
                one.connection.end(one.stream)
            return len(forgotten)

        return self._call(end)

    def _forget(self, subject: str | tuple[str, ...] | None) -> list[Subscription]:
        forgotten = [one for one in self._subscriptions.all() if subject in (None, one.subject)]
        for one in forgotten:
            self._subscriptions.remove(one)
        return forgotten

    def _notify(self, component: str, path: tuple[str, ...]) -> None:
        self._operations.notify(component, path)

    def _forget_watchers(self, subject: tuple[str, ...]) -> None:
        for one in self._subscriptions.of("SubscribeToConfigurationUpdate"):
            if one.subject[: len(subject)] == subject:
                self._subscriptions.remove(one)

    def _token(self, component: str) -> str:
        """Find the token of a component, or make one: 16 characters."""
        known = next((token for token, name in self._tokens.items() if name == component), None)
        if known is None:
            known = secrets.token_urlsafe(12)
            self._tokens[known] = component
        return known

    def _ask(
        self,
        what: str,
        operation: str,
        make: Callable[[str], tuple[str, dict[str, Any]]],
        seconds: float,
    ) -> Mapping[str, Any] | None:
        """Send an event that wants an answer to the component's first subscription, and wait for it."""
        deployment = str(uuid.uuid4())
        key = (what, self.component, deployment)

        async def ask() -> Mapping[str, Any] | None:
            listeners = self._subscriptions.of(operation, self.component)
            if not listeners:
                return None
            answer = self._operations.awaited[key] = self._loop.create_future()
            listeners[0].send(*make(deployment))
            try:
                return await asyncio.wait_for(answer, seconds)
            except asyncio.TimeoutError:
                raise TimeoutError(f"no answer in {seconds} seconds") from None
            finally:
                self._operations.awaited.pop(key, None)

        return self._await(ask(), seconds + CALL_SECONDS)

    def _call(self, function: Callable[[], T]) -> T:
        """Run a function in the server's thread and return its result."""

        async def call() -> T:
            return function()

        return function() if threading.current_thread() is self._thread else self._await(call())

    def _await(self, work: Coroutine[Any, Any, T], seconds: float = CALL_SECONDS) -> T:
        future: concurrent.futures.Future[T] = asyncio.run_coroutine_threadsafe(work, self._loop)
        return future.result(timeout=seconds)

    def _end(self) -> None:
        async def cancel() -> None:
            others = asyncio.all_tasks() - {asyncio.current_task()}
            for task in others:
                task.cancel()
            await asyncio.gather(*others, return_exceptions=True)

        self._await(cancel())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


def merge_into(tree: dict[str, Any], value: Mapping[str, Any]) -> None:
    """Merge maps deeply and replace everything else."""
    for key, one in value.items():
        if isinstance(one, dict) and isinstance(tree.get(key), dict):
            merge_into(tree[key], one)
        else:
            tree[key] = one


def forget(tree: dict[str, Any], pointer: str) -> None:
    """Remove what a JSON pointer names, if it is there."""
    path = pointer.split("/")[1:]
    if not path:
        tree.clear()
        return
    node: Any = tree
    for key in path[:-1]:
        node = node.get(key) if isinstance(node, dict) else None
    if isinstance(node, dict):
        node.pop(path[-1], None)
