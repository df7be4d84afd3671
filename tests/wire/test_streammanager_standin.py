"""The Stream Manager stand-in, driven by the unmodified SDK."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import logging
import os
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

import cbor2
import pytest
from stream_manager import (
    ConnectFailedException,
    ExportDefinition,
    InvalidRequestException,
    MessageStreamDefinition,
    NotEnoughMessagesException,
    Persistence,
    ReadMessagesOptions,
    RequestPayloadTooLargeException,
    ResourceNotFoundException,
    S3ExportTaskDefinition,
    S3ExportTaskExecutorConfig,
    Status,
    StatusConfig,
    StatusLevel,
    StatusMessage,
    StrategyOnFull,
    StreamManagerClient,
    UnknownFailureException,
    UpdateNotAllowedException,
)
from stream_manager.util import Util

from tests.standins import s3
from tests.standins.streammanager import StreamManagerStandIn

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.standins.switches import ExportTask

BUCKET = "bucket"
MIB = 1024 * 1024
PATIENCE = 10.0

# The SDK closes neither the old connection when it makes a new one nor the one of a failed constructor.
pytestmark = pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    with s3.serving() as url:
        s3.client(url).create_bucket(Bucket=BUCKET)
        yield url


@pytest.fixture
def open_stand_in(tmp_path: Path, endpoint: str) -> Iterator[Callable[..., StreamManagerStandIn]]:
    """Make stand-ins on one and the same data directory; the test need not close them."""
    with contextlib.ExitStack() as stack:

        def open_one(**arguments: Any) -> StreamManagerStandIn:
            arguments = {"data_dir": tmp_path / "sm", "s3_endpoint": endpoint} | arguments
            return stack.enter_context(StreamManagerStandIn(**arguments))

        yield open_one


@pytest.fixture
def sm(open_stand_in: Callable[..., StreamManagerStandIn]) -> StreamManagerStandIn:
    return open_stand_in()


@pytest.fixture
def connect() -> Iterator[Callable[..., StreamManagerClient]]:
    """Make SDK clients that are closed with the test, however broken they are by then."""
    with contextlib.ExitStack() as stack:

        def connect_one(sm: StreamManagerStandIn, **arguments: Any) -> StreamManagerClient:
            client = StreamManagerClient(port=sm.port, logger=quiet_logger(), **arguments)
            stack.callback(close, client)
            return client

        yield connect_one


@pytest.fixture
def client(sm: StreamManagerStandIn, connect: Callable[..., StreamManagerClient]) -> StreamManagerClient:
    return connect(sm)


def quiet_logger() -> logging.Logger:
    logger = logging.getLogger("stream-manager-sdk")
    logger.setLevel(logging.CRITICAL)
    return logger


def close(client: StreamManagerClient) -> None:
    """Close a client for good: on a broken connection the SDK's own close stops half-way."""
    loop = client._StreamManagerClient__loop
    try:
        client.close()
    except OSError:
        loop.call_soon_threadsafe(client._StreamManagerClient__writer.transport.abort)
        loop.call_soon_threadsafe(lambda: loop.call_soon(loop.stop))
    client._StreamManagerClient__event_loop_thread.join()


def eventually(condition: Callable[[], Any], seconds: float = PATIENCE) -> Any:
    """Return the first true result of `condition`."""
    deadline = time.monotonic() + seconds
    pause = threading.Event()
    while time.monotonic() < deadline:
        result = condition()
        if result:
            return result
        pause.wait(0.01)
    raise AssertionError(f"not within {seconds} seconds")


def fails_to_connect(connect: Callable[[], Any], error: type[Exception]) -> None:
    """Expect a constructor to fail, and collect what the SDK leaves behind while it is excused."""
    with pytest.raises(error):
        connect()
    gc.collect()


def plain(name: str, **fields: Any) -> MessageStreamDefinition:
    return MessageStreamDefinition(name=name, **{"strategy_on_full": StrategyOnFull.RejectNewData} | fields)


def exporting(name: str, *, level: StatusLevel = StatusLevel.INFO, **fields: Any) -> MessageStreamDefinition:
    executor = S3ExportTaskExecutorConfig(
        identifier="executor",
        size_threshold_for_multipart_upload_bytes=5 * MIB,
        status_config=StatusConfig(status_level=level, status_stream_name="status"),
    )
    return plain(name, export_definition=ExportDefinition(s3_task_executor=[executor]), **fields)


def lay_pipes(client: StreamManagerClient, *names: str, level: StatusLevel = StatusLevel.INFO) -> None:
    client.create_message_stream(plain("status", strategy_on_full=StrategyOnFull.OverwriteOldestData))
    for name in names or ("export",):
        client.create_message_stream(exporting(name, level=level))


def export(client: StreamManagerClient, path: Path | str, key: str, **fields: Any) -> int:
    stream = fields.pop("stream", "export")
    url = fields.pop("url", f"file:{path}")
    task = S3ExportTaskDefinition(input_url=url, bucket=fields.pop("bucket", BUCKET), key=key, **fields)
    return client.append_message(stream, Util.validate_and_serialize_to_json_bytes(task))


def read_statuses(client: StreamManagerClient, count: int) -> list[StatusMessage]:
    options = ReadMessagesOptions(min_message_count=count, max_message_count=1000, read_timeout_millis=10_000)
    messages = client.read_messages("status", options)
    return [Util.deserialize_json_bytes_to_obj(message.payload, StatusMessage) for message in messages]


def told(client: StreamManagerClient, count: int) -> list[tuple[int, str]]:
    """Return (sequence number, status) of the first status messages."""
    return [(it.status_context.sequence_number, it.status.name) for it in read_statuses(client, count)]


def exports_of(client: StreamManagerClient, stream: str = "export") -> Any:
    return client.describe_message_stream(stream).export_statuses[0]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "file.txt"
    path.write_bytes(b"content")
    return path


def content(endpoint: str, key: str) -> bytes:
    return s3.client(endpoint).get_object(Bucket=BUCKET, Key=key)["Body"].read()


# Streams


def test_a_stream_is_created_filled_listed_described_read_and_deleted(client):
    client.create_message_stream(plain("a"))
    empty = client.describe_message_stream("a").storage_status
    assert (empty.oldest_sequence_number, empty.newest_sequence_number, empty.total_bytes) == (0, -1, 0)
    assert [client.append_message("a", b"one"), client.append_message("a", b"three")] == [0, 1]
    assert client.list_streams() == ["a"]
    info = client.describe_message_stream("a")
    assert (info.storage_status.newest_sequence_number, info.storage_status.total_bytes) == (1, 8)
    assert info.definition.persistence is Persistence.File
    before = time.time() * 1000
    (message,) = client.read_messages("a", ReadMessagesOptions(desired_start_sequence_number=1))
    assert (message.stream_name, message.sequence_number, message.payload) == ("a", 1, b"three")
    assert abs(message.ingest_time - before) < 60_000
    client.delete_message_stream("a")
    assert client.list_streams() == []


def test_creating_a_stream_again_is_refused(client):
    client.create_message_stream(plain("a"))
    with pytest.raises(InvalidRequestException, match="already exists"):
        client.create_message_stream(plain("a"))


def test_no_request_works_on_an_unknown_stream(client):
    for request in (
        lambda: client.append_message("a", b"x"),
        lambda: client.read_messages("a"),
        lambda: client.describe_message_stream("a"),
        lambda: client.delete_message_stream("a"),
        lambda: client.update_message_stream(plain("a")),
    ):
        with pytest.raises(ResourceNotFoundException):
            request()


def test_a_status_stream_must_exist_before_it_is_named(client):
    with pytest.raises(InvalidRequestException, match="status"):
        client.create_message_stream(exporting("export"))
    assert client.list_streams() == []


@pytest.mark.parametrize(("status", "error"), [(3, InvalidRequestException), (1, UnknownFailureException)])
def test_a_full_stream_rejects_new_data(sm, client, status, error):
    sm.full_status = status
    client.create_message_stream(plain("a", max_size=1024, stream_segment_size=1024))
    client.append_message("a", b"x" * 1024)
    with pytest.raises(error, match="full"):
        client.append_message("a", b"x")


def test_a_full_stream_drops_whole_oldest_segments(client):
    definition = plain(
        "a", max_size=4096, stream_segment_size=1024, strategy_on_full=StrategyOnFull.OverwriteOldestData
    )
    client.create_message_stream(definition)
    for number in range(20):
        client.append_message("a", b"%512d" % number)
    storage = client.describe_message_stream("a").storage_status
    assert (storage.oldest_sequence_number, storage.newest_sequence_number) == (12, 19)
    messages = client.read_messages("a", ReadMessagesOptions(max_message_count=100))
    assert [(it.sequence_number, int(it.payload)) for it in messages] == [(n, n) for n in range(12, 20)]


def test_a_message_larger_than_its_stream_is_refused(client):
    client.create_message_stream(plain("a", max_size=1024, stream_segment_size=1024))
    with pytest.raises(RequestPayloadTooLargeException):
        client.append_message("a", b"x" * 1025)


def test_exported_messages_may_make_room(open_stand_in, connect):
    sm = open_stand_in(noop_exporter=True, free_exported=True)
    client = connect(sm)
    client.create_message_stream(plain("status"))
    client.create_message_stream(exporting("export", max_size=2048, stream_segment_size=1024))
    for number in range(50):
        export(client, "/f", f"k{number}")
        eventually(lambda number=number: len(sm.exported) == number + 1)
    assert client.describe_message_stream("export").storage_status.oldest_sequence_number > 0


def test_an_update_may_not_change_the_persistence(client):
    client.create_message_stream(plain("a", persistence=Persistence.Memory))
    with pytest.raises(UpdateNotAllowedException):
        client.update_message_stream(plain("a"))


def test_an_update_sets_defaults_and_removes_exports_it_leaves_out(sm, client, file):
    lay_pipes(client)
    client.update_message_stream(exporting("export", max_size=1024 * 1024 * 1024))
    assert client.describe_message_stream("export").definition.max_size == 1024 * 1024 * 1024
    client.update_message_stream(plain("export"))
    info = client.describe_message_stream("export")
    assert (info.definition.max_size, info.export_statuses) == (268435456, [])
    export(client, file, "never")
    assert client.list_streams() == ["status", "export"]
    assert sm.exported == []


def test_an_update_may_not_cut_off_what_is_stored(client):
    client.create_message_stream(plain("a"))
    client.append_message("a", b"x" * 2000)
    with pytest.raises(InvalidRequestException):
        client.update_message_stream(plain("a", max_size=1024, stream_segment_size=1024))


# Reads


def test_a_read_returns_one_message_unless_told_otherwise(client):
    client.create_message_stream(plain("a"))
    for _ in range(5):
        client.append_message("a", b"x")
    assert len(client.read_messages("a")) == 1
    assert len(client.read_messages("a", ReadMessagesOptions(max_message_count=100))) == 5
    several = ReadMessagesOptions(desired_start_sequence_number=2, max_message_count=2)
    assert [it.sequence_number for it in client.read_messages("a", several)] == [2, 3]


def test_too_few_messages_in_time_are_an_error(client):
    client.create_message_stream(plain("a"))
    client.append_message("a", b"x")
    for timeout in (0, 50):
        options = ReadMessagesOptions(min_message_count=2, max_message_count=2, read_timeout_millis=timeout)
        with pytest.raises(NotEnoughMessagesException):
            client.read_messages("a", options)
    with pytest.raises(NotEnoughMessagesException):
        client.read_messages("a", ReadMessagesOptions(desired_start_sequence_number=1))


def test_a_waiting_read_holds_up_nothing_and_ends_with_the_message_it_waits_for(client):
    client.create_message_stream(plain("a"))
    options = ReadMessagesOptions(min_message_count=3, max_message_count=9, read_timeout_millis=10_000)
    found = []
    reader = threading.Thread(target=lambda: found.extend(client.read_messages("a", options)))
    reader.start()
    for number in range(3):
        assert client.append_message("a", b"x") == number
    reader.join()
    assert len(found) == 3


def test_a_waiting_read_ends_when_its_stream_is_deleted(sm, client):
    client.create_message_stream(plain("a"))
    reads = sm.counters.reads
    ended = []

    def read() -> None:
        with pytest.raises(ResourceNotFoundException):
            client.read_messages("a", ReadMessagesOptions(read_timeout_millis=10_000))
        ended.append(True)

    reader = threading.Thread(target=read)
    reader.start()
    eventually(lambda: sm.counters.reads > reads)
    sm.delete_stream("a")
    reader.join()
    assert ended


# Exports


@pytest.mark.parametrize("form", ["file:{}", "file://{}"])
def test_a_task_is_uploaded_and_told(sm, client, endpoint, tmp_path, form):
    path = tmp_path / "a b#c?d%20é.txt"
    path.write_bytes(b"content")
    lay_pipes(client)
    sequence = export(client, path, "told/key", url=form.format(path), user_metadata={"Id": "x1"})
    begun, done = read_statuses(client, 2)
    assert [begun.status, done.status] == [Status.InProgress, Status.Success]
    assert done.status_level is StatusLevel.INFO
    context = done.status_context
    assert (context.stream_name, context.sequence_number) == ("export", sequence)
    assert context.export_identifier == "executor"
    task = context.s3_export_task_definition
    assert (task.input_url, task.bucket, task.key) == (form.format(path), BUCKET, "told/key")
    assert task.user_metadata == {"Id": "x1"}
    assert abs(done.timestamp_epoch_ms / 1000 - time.time()) < 60
    assert content(endpoint, "told/key") == b"content"
    assert s3.client(endpoint).head_object(Bucket=BUCKET, Key="told/key")["Metadata"] == {"id": "x1"}
    assert sm.exported == [("export", 0, "told/key")]


@pytest.mark.parametrize(("decode", "expected"), [(False, b"literal"), (True, b"decoded")])
def test_percent_decoding_is_a_switch(sm, client, endpoint, tmp_path, decode, expected):
    (tmp_path / "a%20b").write_bytes(b"literal")
    (tmp_path / "a b").write_bytes(b"decoded")
    sm.percent_decode = decode
    lay_pipes(client)
    export(client, tmp_path / "a%20b", "decoding")
    assert told(client, 2)[-1] == (0, "Success")
    assert content(endpoint, "decoding") == expected


@pytest.mark.parametrize(("size", "parts"), [(5 * MIB, ""), (5 * MIB + 1, "-2")])
@pytest.mark.parametrize("open_file_first", [True, False])
def test_only_a_file_over_the_threshold_is_a_multipart_upload(
    sm, client, endpoint, tmp_path, size, parts, open_file_first
):
    sm.open_file_first = open_file_first
    path = tmp_path / "large"
    path.write_bytes(b"\0" * size)
    lay_pipes(client)
    export(client, path, "large")
    assert told(client, 2)[-1] == (0, "Success")
    head = s3.client(endpoint).head_object(Bucket=BUCKET, Key="large")
    assert head["ContentLength"] == size
    assert head["ETag"].strip('"').partition("-")[1:] == tuple(parts.partition("-")[1:])


def test_progress_is_described(client, file, tmp_path):
    lay_pipes(client)
    before = exports_of(client)
    assert (before.export_config_identifier, before.last_exported_sequence_number) == ("executor", -1)
    assert before.last_export_time is None
    export(client, file, "good")
    export(client, tmp_path / "missing", "bad")
    told(client, 4)
    after = exports_of(client)
    assert (after.last_exported_sequence_number, after.exported_messages_count) == (1, 2)
    assert "No such file" in after.error_message
    assert (
        0
        < after.exported_bytes_from_stream
        < client.describe_message_stream("export").storage_status.total_bytes
    )
    assert after.last_export_time


def test_an_upload_error_may_be_a_failure_and_the_next_task_goes_on(client, file, tmp_path):
    lay_pipes(client)
    export(client, tmp_path / "missing", "bad")
    export(client, file, "good")
    assert told(client, 4) == [(0, "InProgress"), (0, "Failure"), (1, "InProgress"), (1, "Success")]
    failure = read_statuses(client, 4)[1]
    assert "No such file" in failure.message
    assert failure.status_level is StatusLevel.ERROR


def test_an_upload_error_may_be_retried_silently_and_block_the_stream(sm, client, file, tmp_path):
    sm.on_error, sm.retry_base = "retry", 0.01
    lay_pipes(client)
    export(client, tmp_path / "missing", "late")
    export(client, file, "behind")
    eventually(lambda: "No such file" in (exports_of(client).error_message or ""))
    assert exports_of(client).last_exported_sequence_number == -1
    assert told(client, 1) == [(0, "InProgress")]
    (tmp_path / "missing").write_bytes(b"here")
    assert told(client, 4) == [(0, "InProgress"), (0, "Success"), (1, "InProgress"), (1, "Success")]
    assert exports_of(client).error_message is None


@pytest.mark.parametrize("on_error", ["failure", "retry"])
def test_a_bucket_that_does_not_exist_and_what_is_no_task_are_failures_always(sm, client, file, on_error):
    sm.on_error = on_error
    lay_pipes(client)
    export(client, file, "key", bucket="no-such-bucket")
    client.append_message("export", b"not JSON")
    client.append_message("export", b'{"inputUrl": 1}')
    statuses = read_statuses(client, 4)
    assert [it.status.name for it in statuses] == ["InProgress", "Failure", "Failure", "Failure"]
    assert "NoSuchBucket" in statuses[1].message
    assert statuses[2].status_context.s3_export_task_definition is None
    assert statuses[2].status_context.sequence_number == 1


def test_chosen_keys_are_refused(sm, client, file):
    sm.refuse = {"poison": "AccessDenied: no"}
    lay_pipes(client)
    export(client, file, "a/poison")
    export(client, file, "good")
    assert told(client, 4)[1::2] == [(0, "Failure"), (1, "Success")]
    assert "AccessDenied" in read_statuses(client, 4)[1].message
    sm.refuse = lambda task: "SlowDown" if task.sequence == 2 else None
    export(client, file, "good")
    assert told(client, 6)[-1] == (2, "Failure")


def test_one_stream_exports_in_order_and_several_in_parallel(sm, client, file):
    meeting = threading.Barrier(2, timeout=PATIENCE)
    active: list[str] = []
    together = []

    def hook(task: ExportTask) -> None:
        active.append(task.stream)
        together.append(sorted(active))
        if task.sequence == 0:
            meeting.wait()
        active.remove(task.stream)

    sm.on_export = hook
    lay_pipes(client, "a", "b")
    for stream in ("a", "a", "a", "b", "b"):
        export(client, file, "key", stream=stream)
    eventually(lambda: len(sm.exported) == 5)
    assert ["a", "b"] in together
    assert not any(at in (["a", "a"], ["b", "b"]) for at in together)
    assert [number for stream, number, _ in sm.exported if stream == "a"] == [0, 1, 2]


def test_threads_bound_the_uploads_of_all_streams(open_stand_in, connect, file):
    active = []
    most = []

    def hook(task: ExportTask) -> None:
        active.append(task)
        most.append(len(active))

    sm = open_stand_in(threads=1, on_export=hook, after_read=lambda _: active.pop())
    client = connect(sm)
    lay_pipes(client, "a", "b", "c")
    for stream in ("a", "b", "c"):
        export(client, file, "key", stream=stream)
    eventually(lambda: len(sm.exported) == 3)
    assert max(most) == 1


def test_a_paused_exporter_begins_nothing(sm, client, file):
    lay_pipes(client)
    sm.pause()
    export(client, file, "key")
    assert exports_of(client).last_export_time is None
    sm.resume()
    assert told(client, 2)[-1] == (0, "Success")


@pytest.mark.parametrize(("open_file_first", "expected"), [(True, "Success"), (False, "Failure")])
def test_a_file_that_vanishes_while_it_is_read(sm, client, file, open_file_first, expected):
    sm.open_file_first = open_file_first
    sm.before_read = lambda _: file.unlink()
    lay_pipes(client)
    export(client, file, "key")
    assert told(client, 2)[-1] == (0, expected)


def test_a_file_is_uploaded_as_it_is_when_it_is_read(sm, client, endpoint, file):
    seen = []
    sm.on_export = lambda _: file.write_bytes(b"newer")
    sm.after_read = lambda task: seen.append((task.key, len(sm.exported)))
    lay_pipes(client)
    export(client, file, "newer")
    told(client, 2)
    assert content(endpoint, "newer") == b"newer"
    assert seen == [("newer", 0)]


def test_a_hook_that_raises_is_an_upload_error(sm, client, file):
    def hook(_: ExportTask) -> None:
        raise TimeoutError("too slow")

    sm.after_read = hook
    lay_pipes(client)
    export(client, file, "key")
    assert read_statuses(client, 2)[1].message == "TimeoutError: too slow"


# Status messages


def test_statuses_below_the_level_are_not_written(sm, client, file, tmp_path):
    lay_pipes(client, level=StatusLevel.ERROR)
    export(client, file, "good")
    export(client, tmp_path / "missing", "bad")
    assert told(client, 1) == [(1, "Failure")]


def test_statuses_may_be_duplicated(sm, client, file):
    sm.duplicate_statuses = True
    lay_pipes(client)
    export(client, file, "key")
    assert told(client, 4) == [(0, "InProgress")] * 2 + [(0, "Success")] * 2


def test_statuses_may_be_reordered(open_stand_in, connect):
    sm = open_stand_in(noop_exporter=True, reorder_statuses=8, seed=1)
    client = connect(sm)
    lay_pipes(client)
    for _ in range(7):
        export(client, "/f", "key")
    found = told(client, 14)
    expected = [(number, status) for number in range(7) for status in ("InProgress", "Success")]
    assert found != expected
    assert sorted(found) == expected


def test_statuses_may_be_lost(open_stand_in, connect):
    sm = open_stand_in(noop_exporter=True, lose_statuses=2)
    client = connect(sm)
    lay_pipes(client)
    for _ in range(4):
        export(client, "/f", "key")
    found = told(client, 6)
    assert [number for number, status in found if status == "Success"] == [0, 2]
    assert len(sm.exported) == 4
    assert sm.lost_statuses == 2
    sm.lose_statuses = lambda task, status: task.key == "lost" or status.name == "IN_PROGRESS"
    export(client, "/f", "lost")
    export(client, "/f", "found")
    assert told(client, 7)[6:] == [(5, "Success")]


def test_a_warning_may_come_before_a_success(sm, client, file):
    sm.warning_before_success = True
    lay_pipes(client)
    export(client, file, "key")
    assert told(client, 3) == [(0, "InProgress"), (0, "Warning"), (0, "Success")]


@pytest.mark.parametrize("emit", [True, False])
def test_what_a_deleted_stream_had_not_exported_may_end_in_canceled(sm, client, file, emit):
    sm.emit_canceled_on_delete = emit
    lay_pipes(client)
    sm.pause()
    export(client, file, "one")
    export(client, file, "two")
    client.delete_message_stream("export")
    sm.inject_status("status", b"the end")
    expected = [(0, "Canceled"), (1, "Canceled")] if emit else []
    assert sm.payloads("status").pop() == b"the end"
    statuses = [json.loads(payload) for payload in sm.payloads("status")[:-1]]
    found = [(it["statusContext"]["sequenceNumber"], Status(it["status"]).name) for it in statuses]
    assert found == expected


def test_any_bytes_can_be_put_into_a_stream(sm, client):
    lay_pipes(client)
    assert sm.inject_status("status", b"\xff not a status") == 0
    assert client.read_messages("status")[0].payload == b"\xff not a status"


def test_a_full_status_stream_loses_the_message_and_nothing_else(sm, client, file):
    client.create_message_stream(plain("status", max_size=1024, stream_segment_size=1024))
    client.create_message_stream(exporting("export"))
    for _ in range(4):
        export(client, file, "key")
    eventually(lambda: len(sm.exported) == 4)
    assert sm.lost_statuses > 0


# Faults of the connection


def test_a_dropped_idle_client_connects_again(sm, client):
    client.create_message_stream(plain("a"))
    sm.drop_connections()
    eventually(lambda: sm.counters.connections == 2)
    eventually(lambda: client.connected)
    assert client.append_message("a", b"x") == 0


def test_a_reset_connection_is_never_replaced_by_the_sdk(sm, connect):
    client = connect(sm, request_timeout=0.3)
    sm.drop_connections(reset=True)
    for _ in range(3):
        with pytest.raises((ConnectionResetError, TimeoutError, asyncio.TimeoutError)):
            client.list_streams()
    assert client.connected
    assert sm.counters.connections == 1


def test_a_request_may_be_done_without_a_reply(sm, connect):
    client = connect(sm, request_timeout=0.3)
    client.create_message_stream(plain("a"))
    sm.drop_on, sm.drop_after = "append", 2
    assert client.append_message("a", b"one") == 0
    with pytest.raises(asyncio.TimeoutError):
        client.append_message("a", b"two")
    assert sm.payloads("a") == [b"one", b"two"]
    assert client.append_message("a", b"three") == 2


def test_a_reply_after_the_timeout_breaks_the_client(sm, connect):
    client = connect(sm, request_timeout=0.3)
    client.create_message_stream(plain("a"))
    sm.late_reply, sm.late_on = (1, 0.5), "append"
    with pytest.raises(asyncio.TimeoutError):
        client.append_message("a", b"x")
    with pytest.raises(asyncio.TimeoutError):  # from when the late reply comes
        eventually(lambda: client.list_streams() != ["a"])
    assert client.connected
    assert sm.payloads("a") == [b"x"]
    assert connect(sm).append_message("a", b"y") == 1


def test_appends_may_be_slow_without_holding_up_others(sm, client):
    client.create_message_stream(plain("a"))
    sm.append_delay = 0.3
    begun = time.monotonic()
    appends = [threading.Thread(target=client.append_message, args=("a", b"x")) for _ in range(5)]
    for append in appends:
        append.start()
    for append in appends:
        append.join()
    assert 0.3 <= time.monotonic() - begun < 1.2


def test_a_token_is_asked_for(open_stand_in, connect, monkeypatch):
    sm = open_stand_in(token="right")
    monkeypatch.setenv("AWS_CONTAINER_AUTHORIZATION_TOKEN", "right")
    assert connect(sm).list_streams() == []
    monkeypatch.setenv("AWS_CONTAINER_AUTHORIZATION_TOKEN", "wrong")
    fails_to_connect(lambda: connect(sm), ConnectFailedException)


def test_a_silent_server_holds_up_the_constructor_and_every_request(sm, connect):
    client = connect(sm, request_timeout=0.3)
    sm.silent = True
    with pytest.raises(asyncio.TimeoutError):
        client.list_streams()
    fails_to_connect(lambda: connect(sm, request_timeout=0.3), asyncio.TimeoutError)


def test_a_fragmented_header_breaks_the_client(sm, connect):
    client = connect(sm, request_timeout=0.3)
    sm.fragment_header = True
    with pytest.raises(asyncio.TimeoutError):
        client.list_streams()
    sm.fragment_header = False
    with pytest.raises(asyncio.TimeoutError):
        client.list_streams()
    assert connect(sm).list_streams() == []


def send(to: socket.socket, operation: int, request: dict[str, Any]) -> None:
    payload = cbor2.dumps(request)
    to.sendall(struct.pack(">ib", 1 + len(payload), operation) + payload)


def receive(stream: Any) -> tuple[int, dict[str, Any]]:
    length, operation = struct.unpack(">ib", stream.read(5))
    return operation, cbor2.loads(stream.read(length - 1))


def test_an_unknown_operation_is_answered(sm):
    with socket.create_connection(("127.0.0.1", sm.port)) as to, to.makefile("rb") as stream:
        to.sendall(b"\x01")
        send(to, 1, {"requestId": "r", "protocolVersion": "1.1.0"})
        assert stream.read(1) == b"\x01"
        operation, reply = receive(stream)
        assert (operation, reply["status"], reply["protocolVersion"]) == (6, 0, "1.1.0")
        send(to, 99, {"requestId": "s"})
        operation, reply = receive(stream)
        assert (operation, reply["requestId"], reply["status"]) == (17, "s", 18)
        send(to, 2, {"requestId": "t"})
        operation, reply = receive(stream)
        assert (operation, reply["status"]) == (7, 3)


@pytest.mark.parametrize(
    "nonsense", [b"GET / HTTP/1.1\r\n", b"\x01\0\0\0\x02\x01\xff", b"\x01\xff\xff\xff\xff"]
)
def test_who_does_not_speak_the_protocol_is_cut_off(sm, nonsense):
    with socket.create_connection(("127.0.0.1", sm.port), timeout=PATIENCE) as to:
        to.sendall(nonsense)
        with contextlib.suppress(ConnectionResetError):
            assert to.recv(1) == b""


# Restarts


def test_wiped_streams_are_gone_and_number_anew(sm, client):
    lay_pipes(client)
    client.append_message("export", b"x")
    sm.wipe()
    assert sm.streams == []
    lay_pipes(client)
    assert client.append_message("export", b"x") == 0


@pytest.mark.parametrize("ending", ["close", "kill"])
def test_a_restart_keeps_file_streams_and_empties_memory_streams(open_stand_in, connect, ending):
    sm = open_stand_in(noop_exporter=True)
    client = connect(sm)
    lay_pipes(client)
    client.create_message_stream(plain("a,b é", stream_segment_size=1024))
    client.create_message_stream(plain("memory", persistence=Persistence.Memory))
    for number in range(10):
        client.append_message("a,b é", b"%300d" % number)
        client.append_message("memory", b"x")
    export(client, "/f", "key")
    eventually(lambda: sm.exported)
    before = client.describe_message_stream("a,b é")
    getattr(sm, ending)()
    again = open_stand_in(port=sm.port, noop_exporter=True)
    client = connect(again)
    assert sorted(client.list_streams()) == ["a,b é", "export", "memory", "status"]
    after = client.describe_message_stream("a,b é")
    assert after.definition.as_dict() == before.definition.as_dict()
    assert after.storage_status.as_dict() == before.storage_status.as_dict()
    messages = client.read_messages("a,b é", ReadMessagesOptions(max_message_count=100))
    assert [int(it.payload) for it in messages] == list(range(10))
    assert client.append_message("a,b é", b"x") == 10
    assert client.append_message("memory", b"x") == 0
    exports = exports_of(client)
    assert (exports.last_exported_sequence_number, exports.exported_messages_count) == (0, 1)
    assert again.exported == []


def test_a_client_survives_a_restart_on_the_same_port(open_stand_in, connect):
    sm = open_stand_in()
    client = connect(sm, request_timeout=2)
    client.create_message_stream(plain("a"))
    sm.kill()
    eventually(lambda: not client.connected)
    with pytest.raises(ConnectionRefusedError):
        client.append_message("a", b"x")
    open_stand_in(port=sm.port)
    assert client.append_message("a", b"x") == 0


def test_a_record_that_was_half_written_is_cut_off(open_stand_in, connect, tmp_path):
    sm = open_stand_in()
    connect(sm).create_message_stream(plain("a"))
    for _ in range(3):
        sm.inject_status("a", b"whole")
    sm.kill()
    (log,) = (tmp_path / "sm").glob("a-*/*.seg")
    os.truncate(log, log.stat().st_size - 1)
    again = open_stand_in()
    assert again.payloads("a") == [b"whole"] * 2
    assert again.inject_status("a", b"next") == 2
    again.kill()
    assert open_stand_in().payloads("a") == [b"whole", b"whole", b"next"]


def test_an_upload_under_way_is_finished_by_close_and_begun_again_after_kill(open_stand_in, connect, file):
    begun, go_on = threading.Event(), threading.Event()

    def hook(_: ExportTask) -> None:
        begun.set()
        go_on.wait(PATIENCE)

    sm = open_stand_in(before_read=hook)
    client = connect(sm)
    lay_pipes(client)
    export(client, file, "key")
    begun.wait(PATIENCE)
    sm.kill()
    go_on.set()
    assert sm.exported == []

    begun.clear()
    go_on.clear()
    again = open_stand_in(before_read=hook)
    begun.wait(PATIENCE)
    closing = threading.Thread(target=again.close)
    closing.start()
    go_on.set()
    closing.join()
    assert again.exported == [("export", 0, "key")]

    last = open_stand_in()
    assert told(connect(last), 3) == [(0, "InProgress"), (0, "InProgress"), (0, "Success")]
    assert last.exported == []


def test_an_upload_is_not_done_after_kill(open_stand_in, connect, endpoint, file):
    killed = threading.Event()

    def hook(_: ExportTask) -> None:
        sm.kill()
        killed.set()

    sm = open_stand_in(before_read=hook)
    client = connect(sm)
    lay_pipes(client)
    sm.pause()
    export(client, file, "never")
    sm.resume()
    assert killed.wait(PATIENCE)
    assert sm.exported == []
    listing = s3.client(endpoint).list_objects_v2(Bucket=BUCKET, Prefix="never")
    assert listing["KeyCount"] == 0


def test_a_delayed_upload_is_left_for_the_next_start(open_stand_in, connect, file):
    sm = open_stand_in(upload_delay=60)
    client = connect(sm)
    lay_pipes(client)
    export(client, file, "key")
    told(client, 1)
    sm.close()
    again = open_stand_in()
    eventually(lambda: again.exported == [("export", 0, "key")])


def test_a_deleted_stream_leaves_nothing_to_the_next_of_its_name(open_stand_in, connect, tmp_path):
    sm = open_stand_in()
    connect(sm).create_message_stream(plain("a"))
    sm.inject_status("a", b"old")
    sm.kill()
    (definition,) = (tmp_path / "sm").glob("a-*/definition.json")
    definition.unlink()  # as when it was killed while it deleted the stream
    (tmp_path / "sm" / "foreign").mkdir()
    again = open_stand_in()
    assert again.streams == []
    connect(again).create_message_stream(plain("a"))
    assert again.payloads("a") == []
    assert (tmp_path / "sm" / "foreign").exists()


def test_a_port_that_is_taken_is_an_error(open_stand_in, tmp_path):
    sm = open_stand_in()
    with pytest.raises(OSError, match="address already in use"):
        open_stand_in(port=sm.port, data_dir=tmp_path / "other")


def test_there_is_no_exporting_without_an_endpoint(tmp_path):
    with pytest.raises(ValueError, match="endpoint"):
        StreamManagerStandIn(data_dir=tmp_path)


# Own processes


@contextlib.contextmanager
def process(module: str, *arguments: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    command = [sys.executable, "-m", f"tests.standins.{module}", *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as it:
        try:
            yield it, it.stdout.readline().strip()
        finally:
            it.kill()


def end(it: subprocess.Popen[str], number: int) -> int:
    it.send_signal(number)
    return it.wait(PATIENCE)


def test_what_was_acknowledged_survives_a_killed_process(tmp_path, file):
    with process("s3", "--port", "0") as (storage, greeting):
        url = greeting.removeprefix("listening on ")
        s3.client(url).create_bucket(Bucket=BUCKET)
        arguments = ["--port", "0", "--s3-endpoint", url, "--data-dir", str(tmp_path / "sm")]
        with process("streammanager", *arguments, "--refuse", "key=no", "--on-error", "retry") as (it, line):
            port = int(line.removeprefix("listening on 127.0.0.1:"))
            client = StreamManagerClient(port=port, logger=quiet_logger())
            lay_pipes(client)
            sequences = [export(client, file, "key") for _ in range(20)]
            assert end(it, signal.SIGKILL) == -signal.SIGKILL
            close(client)
        with process("streammanager", *arguments) as (it, line):
            port = int(line.removeprefix("listening on 127.0.0.1:"))
            client = StreamManagerClient(port=port, logger=quiet_logger())
            found = eventually(
                lambda: [it for it in told(client, 1) if it[1] == "Success"][19:] and told(client, 1)
            )
            assert [number for number, status in found if status == "Success"] == sequences
            close(client)
            assert end(it, signal.SIGTERM) == 0
        assert end(storage, signal.SIGINT) == 0
