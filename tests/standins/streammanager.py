"""A stand-in for AWS IoT Greengrass Stream Manager. It is for tests, the demo and benchmarks, never shipped.

It speaks Stream Manager's wire protocol to the unmodified SDK, runs the S3 export tasks of its streams
with boto3 against any S3 endpoint, and writes status messages to the status streams.

    python -m tests.standins.streammanager --port 8088 --s3-endpoint http://127.0.0.1:9000 --data-dir sm

What it does is known to different degrees.

DOCUMENTED (the AWS developer guide, the SDK's source, or measured with the SDK)
  - the protocol: frames, operations, fields, status numbers; replies in any order
  - reads: start clamped to the oldest message, maximum 1 unless given, too few in time is status 13
  - RejectNewData refuses, OverwriteOldestData drops whole oldest segments
  - File streams survive a restart and their numbers keep rising; Memory streams lose their content
  - a status stream must exist before the stream that exports to it is created
  - tasks of one stream run one after another in the order of the appends, five streams at a time
  - a file larger than the threshold goes as a multipart upload, any other as one PUT
  - InProgress when an upload starts, Success when it is done, Failure for an error that is not retried,
    of which a bucket that does not exist is the documented case (a Failure whatever `on_error` says)
  - a status message echoes the task, and names stream, executor and sequence number
  - update: persistence stays, omitted fields fall back to defaults, omitted exports are removed
  - exportStatuses: lastExportTime is the last attempt, errorMessage the last attempt's if it failed,
    exportedBytesFromStream is without failed messages

INFERRED (likely, but nobody says so)
  - creating an existing stream is status 3 with "already exists", an unknown stream is status 5, a change
    of persistence is 17, the other refused definitions are 3, a message larger than its stream is 4
  - exporting is at least once: after a restart it goes on behind the last task that was noted as done
  - exported messages keep their place in the stream (see `free_exported`)
  - a Failure moves lastExportedSequenceNumber on and counts in exportedMessagesCount, like a Success
  - levels: Failure is ERROR, Warning and Canceled are WARN, Success and InProgress are INFO
  - InProgress is written once for a task, not for each retry; only Failure, Warning and Canceled carry a
    text
  - a message that is no S3 task is a Failure without task definition
  - the status stream refusing a message, or being gone, loses the message and nothing else

OUR CHOICE (it had to be something)
  - an empty stream has oldest 0 and newest -1; lastExportedSequenceNumber is -1 before the first export
  - a Memory stream is defined but empty after a restart, and numbers from 0 again
  - the size of a stream is that of its payloads
  - an executor that is added later exports the stream from its oldest message on
  - the time to live, flushOnWrite and priorities are accepted and ignored; `!{timestamp:…}` in keys is
    not resolved; exports to anything but S3 are ignored

SWITCHES, because nobody outside knows (tidegate has to live with every position)
  - what an upload error leads to: `on_error`
  - percent-decoding of inputUrl: `percent_decode`
  - the status of an append to a full stream: `full_status`; whether exported messages make room in it:
    `free_exported`
  - Canceled messages at deletion: `emit_canceled_on_delete`
  - whether the file is opened once: `open_file_first`

The rest of `Switches` are faults.
"""

from __future__ import annotations

import argparse
import asyncio
import concurrent.futures
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from tests.standins.exporter import Exporter
from tests.standins.process import wait_for_signal
from tests.standins.server import Counters, Server
from tests.standins.statuses import Statuses
from tests.standins.store import Store
from tests.standins.switches import Switches

if TYPE_CHECKING:
    from collections.abc import Callable

    from typing_extensions import Self

T = TypeVar("T")
GRACE_SECONDS = 5.0
CALL_SECONDS = 30.0


class StreamManagerStandIn(Switches):
    """A running Stream Manager: it serves from the constructor's return until `close` or `kill`.

    Another one on the same `data_dir` is the same Stream Manager after a restart. Its switches are its
    attributes. Everything here may be called from any thread.
    """

    def __init__(
        self,
        *,
        data_dir: Path | str,
        s3_endpoint: str | None = None,
        port: int = 0,
        threads: int = 5,
        **switches: Any,
    ) -> None:
        super().__init__(**switches)
        if s3_endpoint is None and not self.noop_exporter:
            raise ValueError("without an S3 endpoint nothing but noop_exporter can work")
        self._data_dir = Path(data_dir)
        self._s3_endpoint = s3_endpoint
        self._threads = threads
        self._thread = threading.Thread(target=self._run, args=(port,), name="stream-manager")
        self._ready: concurrent.futures.Future[int] = concurrent.futures.Future()
        self._thread.start()
        self.port = self._ready.result()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop in good order: what is being uploaded may finish and is told."""
        self._stop(grace_seconds=GRACE_SECONDS)

    def kill(self) -> None:
        """Stop as kill -9 would: connections end, uploads are forgotten, nothing more is written."""
        self._stop(grace_seconds=0)

    @property
    def streams(self) -> list[str]:
        """The names of all streams."""
        return self._call(lambda: list(self._store.streams))

    @property
    def exported(self) -> list[tuple[str, int, str]]:
        """Every success since the start, as (stream, sequence number, key)."""
        return list(self._exporter.exported)

    @property
    def counters(self) -> Counters:
        """How often what was asked since the start."""
        return self._server.counters

    @property
    def lost_statuses(self) -> int:
        """How many status messages were swallowed by a switch or by their stream."""
        return self._statuses.lost

    def payloads(self, stream: str) -> list[bytes]:
        """Everything that is in a stream, without a client."""
        found = self._call(lambda: self._store.find(stream).read(0, sys.maxsize))
        return [payload for _, _, payload in found]

    def pause(self) -> None:
        """Begin no new upload until `resume`."""
        self._call(self._exporter.pause)

    def resume(self) -> None:
        self._call(self._exporter.resume)

    def drop_connections(self, *, reset: bool = False) -> None:
        """End the connection of every client, as a dying server does, or reset it."""
        self._call(lambda: self._server.drop_connections(reset=reset))

    def delete_stream(self, name: str) -> None:
        """Delete a stream behind its clients' backs."""
        self._call(lambda: self._server.delete_stream(name))

    def wipe(self) -> None:
        """Lose all streams, as when the store's directory was removed."""
        self._call(lambda: [self._server.delete_stream(name) for name in list(self._store.streams)])

    def inject_status(self, stream: str, payload: bytes) -> int:
        """Append any bytes to a stream and return their sequence number."""
        return self._call(lambda: self._store.find(stream).append(payload))

    def _call(self, function: Callable[[], T]) -> T:
        """Run a function in the server's thread and return its result."""
        if threading.current_thread() is self._thread:
            return function()
        result: concurrent.futures.Future[T] = concurrent.futures.Future()

        def run() -> None:
            try:
                result.set_result(function())
            except Exception as error:  # noqa: BLE001 - it is raised where it was called from
                result.set_exception(error)

        self._loop.call_soon_threadsafe(run)
        return result.result(timeout=CALL_SECONDS)

    def _stop(self, *, grace_seconds: float) -> None:
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._finish, grace_seconds)
            self._thread.join()

    def _finish(self, grace_seconds: float) -> None:
        if not self._end.done():
            self._end.set_result(grace_seconds)

    def _run(self, port: int) -> None:
        try:
            asyncio.run(self._serve(port))
        except Exception as error:  # noqa: BLE001 - it is raised by the constructor
            self._ready.set_exception(error)

    async def _serve(self, port: int) -> None:
        self._loop = asyncio.get_running_loop()
        self._end: asyncio.Future[float] = self._loop.create_future()
        self._store = Store(self._data_dir)
        self._statuses = Statuses(self, self._store)
        self._exporter = Exporter(self, self._statuses, endpoint=self._s3_endpoint, threads=self._threads)
        self._server = Server(self, self._store, self._exporter)
        try:
            bound = await self._server.start(port)
            for stream in self._store.streams.values():
                self._exporter.attend(stream)
            self._ready.set_result(bound)
            grace_seconds = await self._end
            await self._exporter.stop(grace_seconds)
            if grace_seconds:
                self._statuses.flush()
            await self._server.stop()
        finally:
            self._store.close()


def pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise argparse.ArgumentTypeError(f"not SUBSTRING=TEXT: {text}")
    return name, value


def late(text: str) -> tuple[int, float]:
    count, _, seconds = text.partition(":")
    return int(count), float(seconds)


def arguments() -> argparse.ArgumentParser:
    """Make the command line. The switches have the names and meanings of `Switches`."""
    parser = argparse.ArgumentParser(
        description="Pretend to be Stream Manager on 127.0.0.1.", argument_default=argparse.SUPPRESS
    )
    parser.add_argument("--port", type=int, help="0, the default, takes a free one")
    parser.add_argument("--s3-endpoint", metavar="URL")
    parser.add_argument("--data-dir", metavar="DIR", required=True)
    parser.add_argument("--threads", type=int, help="uploads at a time, 5 unless given")
    parser.add_argument("--on-error", choices=("failure", "retry"))
    parser.add_argument(
        "--refuse", type=pair, action="append", metavar="SUBSTRING=TEXT", help="keys to refuse"
    )
    parser.add_argument("--late-reply", type=late, metavar="N:SECONDS")
    parser.add_argument(
        "--noop", dest="noop_exporter", action="store_true", help="upload nothing, succeed at once"
    )
    parser.add_argument("--no-open-file-first", dest="open_file_first", action="store_false")
    for name in ("token", "late-on", "drop-on"):
        parser.add_argument(f"--{name}")
    for name in ("append-delay", "upload-delay", "retry-base", "retry-cap"):
        parser.add_argument(f"--{name}", type=float, metavar="SECONDS")
    for name in ("drop-after", "full-status", "reorder-statuses", "seed", "lose-statuses"):
        parser.add_argument(f"--{name}", type=int, metavar="N")
    for name in ("silent", "fragment-header", "free-exported", "percent-decode", "duplicate-statuses"):
        parser.add_argument(f"--{name}", action="store_true")
    for name in ("warning-before-success", "emit-canceled-on-delete"):
        parser.add_argument(f"--{name}", action="store_true")
    return parser


def main() -> None:
    options = vars(arguments().parse_args())
    if "refuse" in options:
        options["refuse"] = dict(options["refuse"])
    with StreamManagerStandIn(**options) as stand_in:
        print(f"listening on 127.0.0.1:{stand_in.port}", flush=True)
        wait_for_signal()


if __name__ == "__main__":
    main()
