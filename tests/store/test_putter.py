"""The process that puts small files for another one, spoken to as that one does."""

from __future__ import annotations

import hashlib
import socket
import subprocess
import sys
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from tests.standins.faulty_s3 import FaultyS3
from tests.store.conftest import OURS
from tidegate.model import Fingerprint
from tidegate.store.calls import Briefing
from tidegate.store.endpoints import Endpoint, place_of
from tidegate.store.putter import Batch, Errand, receive, send
from tidegate.store.wire import Manner

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

LANE = ("source", "bucket")


@pytest.fixture
def server() -> Iterator[FaultyS3]:
    with FaultyS3(lambda _: None) as server:
        server.has_md5 = True
        yield server


@pytest.fixture
def briefing(server: FaultyS3) -> Briefing:
    return Briefing(
        bucket="bucket",
        place=place_of("bucket", Endpoint(region="us-east-1", url=server.url)),
        manner=Manner(),
        credentials=OURS,
        ahead=0.0,
        sign_payload=True,
    )


@pytest.fixture
def putter() -> Iterator[socket.socket]:
    ours, theirs = socket.socketpair()
    program = "import sys; sys.path = sys.argv[1:]; from tidegate.store.putter import main; main()"
    with ours, subprocess.Popen([sys.executable, "-c", program, *sys.path], stdin=theirs) as process:
        theirs.close()
        assert receive(ours.recv) == []  # it is ready
        yield ours
        ours.close()
        assert process.wait(10) == 0


def errand(path: Path, number: int) -> Errand:
    mark = Fingerprint.of(path.stat())
    return Errand(number, str(path), tuple(mark), LANE, path.name, {"x-amz-meta-a": "b"}, "CRC64NVME")


def test_it_puts_what_it_is_given_and_says_so(putter, server, briefing, tmp_path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"content")
    send(putter, Batch([errand(path, 7)], 1, {LANE: briefing}))
    ((number, etag),) = receive(putter.recv)
    assert server.objects["bucket/a"].body == b"content"
    assert (number, etag) == (7, hashlib.md5(b"content", usedforsecurity=False).hexdigest())
    assert server.seen[0].headers["x-amz-meta-a"] == "b"


def test_what_has_changed_or_gone_is_not_put(putter, server, briefing, tmp_path) -> None:
    path, gone = tmp_path / "a", tmp_path / "gone"
    for one in (path, gone):
        one.write_bytes(b"content")
    errands = [errand(path, 1), errand(gone, 2)]
    path.write_bytes(b"CONTENT")
    gone.unlink()
    send(putter, Batch(errands, 2, {LANE: briefing}))
    answers = receive(putter.recv)
    while len(answers) < 2:
        answers += receive(putter.recv)
    assert sorted(answers) == [(1, ""), (2, "")]
    assert not server.seen


def test_it_goes_by_the_newest_briefing(putter, server, briefing, tmp_path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"content")
    send(putter, Batch([errand(path, 1)], 1, {LANE: briefing}))
    assert receive(putter.recv)[0][0] == 1
    later = replace(briefing, credentials=replace(OURS, access_key="NEW"), ahead=40 * 86_400.0)
    send(putter, Batch([errand(path, 2)], 1, {LANE: later}))
    assert receive(putter.recv)[0][0] == 2
    first, second = (seen.headers for seen in server.seen)
    assert "Credential=AKID/" in first["authorization"]
    assert "Credential=NEW/" in second["authorization"]
    assert first["x-amz-date"][:6] != second["x-amz-date"][:6]
    assert server.seen[0].connection == server.seen[1].connection
