"""The exports of the Stream Manager stand-in: one worker for each S3 executor of each stream.

A worker takes the messages of its stream strictly one after another; the uploads of all workers share
one pool of threads. Everything but the upload itself happens in the server's thread.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from boto3.s3.transfer import TransferConfig
from botocore.config import Config
from botocore.exceptions import ClientError

from tests.standins.aws import s3_client
from tests.standins.switches import ExportTask, Status

if TYPE_CHECKING:
    from tests.standins.statuses import Statuses
    from tests.standins.stream import Stream
    from tests.standins.switches import Hook, Switches

PART_BYTES = 5 * 1024 * 1024


class Stopped(Exception):  # noqa: N818 - not an error of the upload
    """The stand-in is being closed: the task is left for the next start."""


class Refused(Exception):  # noqa: N818 - its text is what the test wants to see
    """The switch `refuse` said so."""


class Exporter:
    """Runs the workers. `exported` lists each success as (stream, sequence number, key)."""

    def __init__(self, switches: Switches, statuses: Statuses, *, endpoint: str | None, threads: int) -> None:
        self.exported: list[tuple[str, int, str]] = []
        self._switches = switches
        self._statuses = statuses
        self._client = None if endpoint is None else make_client(endpoint)
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="export")
        self._stopping = threading.Event()
        self._killed = False
        self._running = asyncio.Event()
        self._running.set()
        self._workers: dict[tuple[str, str], asyncio.Task[None]] = {}
        self._busy: set[asyncio.Task[None]] = set()

    def attend(self, stream: Stream) -> None:
        """Have a worker for each enabled executor in the stream's definition, and for no other."""
        wanted = {(stream.name, name) for name, it in stream.executors.items() if not it.get("disabled")}
        for address in [it for it in self._workers if it[0] == stream.name and it not in wanted]:
            self._workers.pop(address).cancel()
        for address in wanted - self._workers.keys():
            self._workers[address] = asyncio.create_task(self._work(stream, address[1]))

    def abandon(self, stream: Stream, identifiers: set[str]) -> None:
        """Stop exporting what is about to be deleted, and say so if the switch is on."""
        for identifier in identifiers:
            worker = self._workers.pop((stream.name, identifier), None)
            if worker is not None:
                worker.cancel()
            if self._switches.emit_canceled_on_delete:
                executor = stream.executors[identifier]
                for sequence, _, payload in stream.read(stream.progress[identifier].last + 1, sys.maxsize):
                    task = parse_task(stream.name, identifier, sequence, payload)
                    self._statuses.write(executor, task, Status.CANCELED, "the export was deleted")

    def pause(self) -> None:
        self._running.clear()

    def resume(self) -> None:
        self._running.set()

    async def stop(self, grace_seconds: float) -> None:
        """Begin nothing new; wait so long for uploads that are under way; forget the rest."""
        self._killed = grace_seconds == 0
        self._stopping.set()
        for worker in set(self._workers.values()) - self._busy:
            worker.cancel()
        if self._busy and grace_seconds:
            await asyncio.wait(self._busy, timeout=grace_seconds)
        for worker in self._workers.values():
            worker.cancel()
        self._pool.shutdown(wait=False, cancel_futures=True)
        if self._client is not None:
            self._client.close()

    async def _work(self, stream: Stream, identifier: str) -> None:
        """Export for ever, beginning after the last message that was exported before."""
        progress = stream.progress[identifier]
        rounds = 0
        while not self._stopping.is_set():
            await self._running.wait()
            found = stream.read(progress.last + 1, 1)
            if not found:
                await stream.changed()
                continue
            sequence, _, payload = found[0]
            task = parse_task(stream.name, identifier, sequence, payload)
            await self._export(stream, task)
            rounds += 1
            if rounds % 64 == 0:  # the worker of a no-op exporter would never wait for anything
                await asyncio.sleep(0)

    async def _export(self, stream: Stream, task: ExportTask) -> None:
        """Take one task to its end, which under `on_error` "retry" may never come."""
        executor, progress = stream.executors[task.identifier], stream.progress[task.identifier]
        if not task.problem:
            self._statuses.write(executor, task, Status.IN_PROGRESS)
        for attempt in itertools.count():
            progress.attempted_ms = time.time_ns() // 1_000_000
            error = await self._attempt(task, executor)
            progress.error = "" if error is None else f"{type(error).__name__}: {error}"
            if error is None:
                if self._switches.warning_before_success:
                    self._statuses.write(executor, task, Status.WARNING, "could not clean up")
                self._statuses.write(executor, task, Status.SUCCESS)
                self.exported.append((stream.name, task.sequence, task.key))
                stream.advance(task.identifier, task.sequence, len(task.payload))
                return
            if self._switches.on_error == "failure" or not may_be_retried(error):
                self._statuses.write(executor, task, Status.FAILURE, progress.error)
                stream.advance(task.identifier, task.sequence, 0)
                return
            delay = self._switches.retry_base * 2.0 ** min(attempt, 32)
            await asyncio.sleep(min(delay, self._switches.retry_cap))
            await self._running.wait()

    async def _attempt(self, task: ExportTask, executor: dict[str, Any]) -> Exception | None:
        """Upload once; return what went wrong."""
        if task.problem:
            return ValueError(task.problem)
        if self._switches.noop_exporter:
            return None if self._switches.on_export is None else call(self._switches.on_export, task)
        worker = asyncio.current_task()
        self._busy.add(worker)
        try:
            await asyncio.get_running_loop().run_in_executor(self._pool, self._upload, task, executor)
        except Stopped:
            raise asyncio.CancelledError from None
        except Exception as error:  # noqa: BLE001 - every error of an upload is the task's, not the worker's
            if self._stopping.is_set():
                raise asyncio.CancelledError from None
            return error
        finally:
            self._busy.discard(worker)
        return None

    def _upload(self, task: ExportTask, executor: dict[str, Any]) -> None:
        """Do the work of one attempt, in a thread of the pool."""
        switches = self._switches
        if switches.on_export is not None:
            switches.on_export(task)
        if self._stopping.wait(switches.upload_delay):
            raise Stopped
        refuse(switches, task)
        threshold = executor.get("sizeThresholdForMultipartUploadBytes", PART_BYTES)
        options = {
            "Bucket": task.bucket,
            "Key": task.key,
            "ExtraArgs": {"Metadata": {name: str(value) for name, value in task.metadata.items()}},
            "Config": TransferConfig(
                multipart_threshold=threshold + 1, multipart_chunksize=PART_BYTES, use_threads=False
            ),
        }
        path = local_path(task.input_url, percent_decode=switches.percent_decode)
        if switches.open_file_first:
            with open(path, "rb") as body:  # noqa: PTH123 - a path is whatever the task says
                self._begin_reading(task)
                self._client.upload_fileobj(body, **options)
        else:
            self._begin_reading(task)
            self._client.upload_file(path, **options)
        if switches.after_read is not None:
            switches.after_read(task)

    def _begin_reading(self, task: ExportTask) -> None:
        if self._switches.before_read is not None:
            self._switches.before_read(task)
        if self._killed:  # a dead process uploads nothing
            raise Stopped


def make_client(endpoint: str) -> Any:
    """Make an S3 client that tries once, reads a body once, and gives up soon: retries are policy here."""
    config = Config(
        connect_timeout=3,
        read_timeout=20,
        retries={"total_max_attempts": 1},
        request_checksum_calculation="when_required",
        s3={"addressing_style": "path", "payload_signing_enabled": False},
    )
    return s3_client(endpoint, config)


def parse_task(stream: str, identifier: str, sequence: int, payload: bytes) -> ExportTask:
    """Read a message as a task; one that is none is returned with its problem."""
    address = {"stream": stream, "identifier": identifier, "sequence": sequence, "payload": payload}
    try:
        task = json.loads(payload.decode())
        return ExportTask(
            **address,
            input_url=task["inputUrl"],
            bucket=task["bucket"],
            key=task["key"],
            metadata=task.get("userMetadata") or {},
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        return ExportTask(**address, problem=f"not an S3 export task: {error!r}")


def local_path(input_url: str, *, percent_decode: bool) -> str:
    """Return the path in `file:/abs` or `file:///abs`. `#` and `?` are ordinary characters of it."""
    scheme, colon, path = input_url.partition(":")
    path = path.removeprefix("//")
    if scheme != "file" or not colon or not path.startswith("/"):
        raise ValueError(f"not a local file: {input_url}")
    return unquote(path) if percent_decode else path


def refuse(switches: Switches, task: ExportTask) -> None:
    """Raise if the switch `refuse` has something against this task."""
    if switches.refuse is None:
        return
    if callable(switches.refuse):
        text = switches.refuse(task)
    else:
        text = next((text for part, text in switches.refuse.items() if part in task.key), None)
    if text is not None:
        raise Refused(text)


def may_be_retried(error: Exception) -> bool:
    """Except the one case the documentation names, and what can never become a task."""
    if isinstance(error, ClientError):
        return error.response["Error"]["Code"] != "NoSuchBucket"
    return not isinstance(error, ValueError)


def call(hook: Hook, task: ExportTask) -> Exception | None:
    """Call a hook; return what it raised."""
    try:
        hook(task)
    except Exception as error:  # noqa: BLE001 - raising is how a hook makes an upload fail
        return error
    return None
