"""The stand-in as a whole."""

from __future__ import annotations

import functools
import threading
import time
from collections import Counter
from typing import TYPE_CHECKING, Any

import boto3
from botocore.config import Config

from tests.standins.glacier import admin, control, s3
from tests.standins.glacier.admin import Admin
from tests.standins.glacier.batch import Batch, Pace
from tests.standins.glacier.clock import Clock
from tests.standins.glacier.control import Control
from tests.standins.glacier.errors import Refusal
from tests.standins.glacier.faults import ANSWERS, Faults
from tests.standins.glacier.http import HOST, Reply, Server, refusal_reply
from tests.standins.glacier.notifications import TARGETS, Delivery, Notifier
from tests.standins.glacier.objects import Crowd, Stored
from tests.standins.glacier.restoring import Restorer, State, state_of
from tests.standins.glacier.s3 import S3

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from typing_extensions import Self

    from tests.standins.glacier.http import Request

ACCOUNT = "123456789012"
REGION = "eu-central-1"
CONTROL_HOST = "http://s3control.test"  # leads nowhere but through the proxy
CREDENTIALS = {"aws_access_key_id": "testing", "aws_secret_access_key": "testing"}


class GlacierStandIn:
    """S3 and S3 Control at `endpoint`. Methods may be called from any thread.

    `start`: the time at first, in seconds since 1970; now, if left out. `speed`: how much faster than real
    time passes by itself. `counters` counts requests by operation ("RestoreObject"), by operation and
    status ("RestoreObject 202"), and `faults` that struck ("fault drop").
    """

    def __init__(
        self,
        *,
        port: int = 0,
        start: float | None = None,
        seed: int = 0,
        speed: float = 0.0,
        region: str = REGION,
        account: str = ACCOUNT,
    ) -> None:
        self.clock = Clock(time.time() if start is None else start)
        self.faults = Faults(seed)
        self.counters: Counter[str] = Counter()
        self._region = region
        self._restorer = Restorer(self.clock, self.faults, seed)
        self._notifier = Notifier(self.clock, region, account, seed)
        self._restorer.told = self._notifier.restore
        self._restorer.wanted = self._notifier.wants
        self.clock.release = self._notifier.release
        self.clock.deliver = self._notifier.deliver
        self._s3 = S3(self.clock, self.faults, self._restorer, self._notifier)
        self._s3.region = region
        self._stop = threading.Event()
        self._flow = threading.Thread(target=self._let_time_flow, args=(speed,), name="glacier-time")
        self._batch = Batch(self._s3, self.clock, self._restorer)
        self._control = Control(self._batch, region, account)
        self._admin = Admin(self)
        self._server = Server(self._handle, port)
        self._notifier.start()
        self.endpoint = f"http://{HOST}:{self._server.port}"
        if speed:
            self._flow.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._stop.set()
        if self._flow.is_alive():
            self._flow.join()
        self._server.stop()
        self._notifier.close()

    # ------------------------------------------------------------------ what there is

    def bucket(self, name: str, *, versioning: bool = False) -> None:
        """Make a bucket if there is none; switch its versioning on if asked for."""
        with self.clock.lock:
            bucket = self._s3.make(name)
            if versioning:
                bucket.versioning = "Enabled"

    def put(
        self,
        bucket: str,
        key: str,
        size: int = 100,
        storage_class: str = "GLACIER",
        *,
        body: bytes | None = None,
        access_tier: str = "",
        parts: Sequence[int] = (),
        modified: float | None = None,
        checksum: bool = True,
    ) -> str:
        """Store an object, its bucket too, and return its version ID.

        Without a `body` its bytes are made up. `parts` are the sizes of what it was uploaded in; `modified`
        is in seconds since 1970; without `checksum` it is of the time before S3 computed CRC-64 by itself.
        """
        size = sum(parts) if parts else size if body is None else len(body)
        with self.clock.lock:
            when = self.clock.now if modified is None else modified
            stored = Stored(key, size, when, storage_class, access_tier, body=body, parts=tuple(parts))
            stored.checksummed = checksum
            return self._s3.make(bucket).put(stored).version

    def populate(
        self,
        bucket: str,
        count: int,
        *,
        prefix: str = "",
        suffix: str = "",
        size: int | Sequence[int] = 100,
        storage_class: str | Sequence[str] = "GLACIER",
        access_tier: str | Sequence[str] = "",
        modified: float | None = None,
    ) -> None:
        """Add objects with the keys prefix + number + suffix; numbers have as many digits as the last.

        A million of them cost no memory before they are restored, and 25 MB then. Where there are several
        sizes, classes or access tiers, they go round.
        """
        with self.clock.lock:
            crowd = Crowd(
                count,
                self.clock.now if modified is None else modified,
                prefix=prefix,
                suffix=suffix,
                sizes=(size,) if isinstance(size, int) else tuple(size),
                classes=_several(storage_class),
                access_tiers=_several(access_tier),
            )
            self._s3.make(bucket).crowds.append(crowd)

    def state(self, bucket: str, key: str, version: str | None = None) -> str:
        """Return "readable", "archived", "ongoing" or "restored"."""
        with self.clock.lock:
            return state_of(self._s3.bucket(bucket).find(key, version), self.clock.now).value

    def ready_at(self, bucket: str, key: str, version: str | None = None) -> float | None:
        """Return when the restore of a version ends or ended, in seconds since 1970; None if it has none."""
        with self.clock.lock:
            restore = self._s3.bucket(bucket).find(key, version).restore
            return restore.ready if restore else None

    def content(self, bucket: str, key: str, version: str | None = None) -> bytes:
        with self.clock.lock:
            return self._s3.bucket(bucket).find(key, version).content

    def restores(self, bucket: str) -> int:
        """Return how many versions of the bucket have ever been restored, however often."""
        with self.clock.lock:
            return self._s3.bucket(bucket).restores

    @property
    def begun(self) -> int:
        """How many restores of archived objects have begun; one that goes again counts again."""
        return self._restorer.begun

    def count(self, bucket: str, state: str, prefix: str = "") -> int:
        """Return how many current versions are in a state; this looks at each."""
        wanted = State(state)
        with self.clock.lock:
            now = self.clock.now
            found = (it[-1] for it in self._s3.bucket(bucket).after(prefix, "", inclusive=True))
            return sum(not it.is_marker and state_of(it, now) is wanted for it in found)

    # ------------------------------------------------------------------ who looks at it

    def client(self, service: str, **config: Any) -> Any:
        """Make an unmodified client of boto3 for "s3" or "s3control"; `config` goes into its Config.

        Whoever makes a client for s3control: endpoint_url=CONTROL_HOST and
        Config(proxies={"http": endpoint}).
        """
        url = self.endpoint
        if service == "s3control":
            url = CONTROL_HOST
            config["proxies"] = {"http": self.endpoint}
        else:
            config.setdefault("s3", {"addressing_style": "path"})
        with _one_at_a_time:
            return _session(self._region).client(service, endpoint_url=url, config=Config(**config))

    def environment(self) -> dict[str, str]:
        """Return what a process must find in its environment for its clients to come here by themselves."""
        return {
            "AWS_ACCESS_KEY_ID": CREDENTIALS["aws_access_key_id"],
            "AWS_SECRET_ACCESS_KEY": CREDENTIALS["aws_secret_access_key"],
            "AWS_DEFAULT_REGION": self._region,
            "AWS_ENDPOINT_URL_S3": self.endpoint,
            "AWS_ENDPOINT_URL_S3_CONTROL": CONTROL_HOST,
            "HTTP_PROXY": self.endpoint,
            "NO_PROXY": HOST,
        }

    @property
    def delivery(self) -> Delivery:
        """How events come."""
        return self._notifier.delivery

    def listen(self, listener: Callable[[dict[str, Any]], None]) -> None:
        """Have a function called with each record of an event, in another thread.

        Restores that have begun before anybody listened tell nothing more.
        """
        with self.clock.lock:
            self._notifier.listeners.append(listener)

    def deliver_to(self, url: str) -> None:
        """Deliver events to the queues, topics and event buses at `url`, such as moto's server.

        Which of them, is what the notification configuration of each bucket says. What cannot be delivered
        is noted in `delivery.undelivered`.
        """
        with _one_at_a_time:
            session = _session(self._region)
            self._notifier.clients = {it: session.client(it, endpoint_url=url) for it in TARGETS}

    def flush(self) -> None:
        """Return when all events that are due have been delivered."""
        self._notifier.release()
        self._notifier.deliver()

    @property
    def pace(self) -> Pace:
        """How batch jobs go."""
        return self._batch.pace

    @property
    def jobs(self) -> dict[str, str]:
        """The states of all batch jobs by job ID, oldest first."""
        with self.clock.lock:
            return {it.identifier: it.status for it in self._batch.jobs.values()}

    def force_job(self, identifier: str, status: str, *, known: bool = True) -> None:
        """Put a job into a state and leave it there; unless `known`, AWS may have no such state (yet)."""
        with self.clock.lock:
            self._batch.force(identifier, status, known=known)

    def forget_job(self, identifier: str) -> None:
        """Let a job vanish, as AWS does 90 days after its end."""
        with self.clock.lock:
            self._batch.forget(identifier)

    def drop_connections(self) -> None:
        """Reset all connections of clients."""
        self._server.drop_connections()

    # ------------------------------------------------------------------ requests

    def _let_time_flow(self, speed: float) -> None:
        before = time.monotonic()
        while not self._stop.wait(0.05):
            now = time.monotonic()
            self.clock.advance((now - before) * speed)
            before = now

    def _handle(self, request: Request) -> Reply:
        if request.path.startswith(admin.PATH):
            return self._admin.answer(request)
        bucket, _, key = request.path[1:].partition("/")
        is_head = request.method == "HEAD"
        if request.path.startswith(control.PATH):
            bucket = ""
            operation = control.operation_of(request)
        else:
            operation = s3.operation_of(request, is_object=bool(key))
        self.counters[operation] += 1
        with self.clock.lock:
            fault = self.faults.strike(operation, key)
            kind = fault.kind if fault else ""
            if fault:
                self.counters[f"fault {kind}"] += 1
            if kind in ("drop", "hang"):
                return Reply(fate=kind)
            try:
                if kind in ANSWERS:
                    reply = refusal_reply(ANSWERS[kind], is_head=is_head)
                else:
                    reply = self._answer(operation, bucket, key, request)
            except Refusal as refusal:
                reply = refusal_reply(refusal, is_head=is_head)
            except Exception as error:  # noqa: BLE001 - whatever goes wrong, the client gets an answer
                reply = refusal_reply(Refusal(501, "StandInFailure", repr(error)), is_head=is_head)
        self.counters[f"{operation} {reply.status}"] += 1
        if kind in ("drop-after", "cut"):
            reply.fate = kind.removesuffix("-after")
        elif fault is not None:
            reply.delay = fault.seconds
        return reply

    def _answer(self, operation: str, bucket: str, key: str, request: Request) -> Reply:
        if not operation:
            message = f"The stand-in does not know {request.method} {request.path}"
            raise Refusal(501, "NotImplemented", message)
        if not bucket:
            return self._control.answer(operation, request)
        return self._s3.answer(operation, bucket, key, request)


_one_at_a_time = threading.Lock()  # sessions are not thread-safe, clients are


@functools.lru_cache
def _session(region: str) -> boto3.session.Session:
    """Make the one session: it takes long, and the clients made from it do not."""
    return boto3.session.Session(**CREDENTIALS, region_name=region)


def _several(value: str | Sequence[str]) -> tuple[str, ...]:
    return (value,) if isinstance(value, str) else tuple(value)
