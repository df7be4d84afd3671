"""A file that changes while it is uploaded: it is noticed soon, and nothing torn is ever stored."""

from __future__ import annotations

import logging
import os
import threading
import time
from pathlib import Path

import pytest

from tests.helpers import eventually
from tests.standins.faulty_s3 import Fault, error
from tidegate.model import State

MIB = 2**20
SIZE = 16 * MIB
PART = 8 * MIB  # more than the kernel takes off our hands while the network is stuck
NOTICED_SECONDS = 2.0


def append(path):
    with path.open("ab") as file:
        file.write(b"more")


def overwrite(path):
    with path.open("r+b") as file:
        file.seek(SIZE - 100)
        file.write(os.urandom(100))


def truncate(path):
    os.truncate(path, SIZE // 2)


def replace(path):
    other = path.with_name("other")
    other.write_bytes(os.urandom(SIZE))
    other.rename(path)


def restamp(path):
    """Write, and set the old date again."""
    before = path.stat()
    overwrite(path)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


CHANGES = [append, overwrite, truncate, replace, restamp, Path.unlink]
ROUTES = {"put": {"threshold": 2 * SIZE}, "part": {"threshold": MIB, "part_size": PART}}
# Of a body nothing is read, or so much in a hundredth of a second.
NETWORKS = {"stuck": Fault(take=0, wait=threading.Event()), "slow": Fault(pace=600)}


def all_under_way(server, route):
    wanted = 1 if route == "put" else SIZE // PART
    eventually(lambda: sum(seen.kind == route for seen in server.seen) == wanted)


def events(caplog, name):
    return [it for it in caplog.records if getattr(it, "fields", {}).get("event") == name]


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize(
    ("change", "network"),
    [(overwrite, "slow"), *((change, "stuck") for change in CHANGES)],
    ids=lambda value: getattr(value, "__name__", value),
)
def test_a_change_is_noticed_soon_and_only_the_new_version_is_stored(
    on_faulty, caplog, change, route, network
):
    caplog.set_level(logging.WARNING)
    works = threading.Event()
    depot, server = on_faulty(
        lambda seen: NETWORKS[network] if seen.kind == route and not works.is_set() else None,
        receive_buffer=4096,
        read_seconds=30,
        **ROUTES[route],
    )
    path = Path(depot.write("file", os.urandom(SIZE)))
    (transfer,) = depot.promise(str(path))
    depot.hand_over()
    all_under_way(server, route)
    change(path)
    began = time.monotonic()
    depot.run_until(lambda: depot.tally() == {State.DROPPED: 1})
    assert time.monotonic() - began < NOTICED_SECONDS
    (event,) = events(caplog, "changed_during_upload")
    assert "changed while it was uploaded" in event.message
    eventually(lambda: server.objects == server.uploads == {})
    assert depot.ledger.uploads.of(transfer.id) is None
    works.set()
    if path.exists():
        depot.promise(str(path))
        depot.settle()
        assert server.objects["bucket/file"].body == path.read_bytes()
        assert server.uploads == {}


def test_a_small_file_that_changes_while_its_answer_is_awaited_is_stored_as_it_was(on_faulty):
    answers = threading.Event()
    depot, server = on_faulty(lambda _: Fault(wait=answers))
    path = Path(depot.write("file", b"a" * 500))
    depot.promise(str(path))
    depot.hand_over()
    eventually(lambda: server.objects)
    path.write_bytes(b"b" * 500)
    answers.set()
    depot.settle()
    assert depot.tally() == {State.STORED: 1}
    assert server.objects["bucket/file"].body == b"a" * 500


def test_a_file_that_changed_before_a_worker_came_to_it_is_not_sent_at_all(on_faulty, caplog):
    answers = threading.Event()
    depot, server = on_faulty(lambda _: Fault(wait=answers), workers=1)
    depot.send("first", modified=1)
    path = Path(depot.write("second", b"old"))
    depot.promise(str(path))
    depot.hand_over()
    eventually(lambda: server.seen)
    path.write_bytes(b"new")
    answers.set()
    depot.settle()
    assert depot.tally() == {State.STORED: 1, State.DROPPED: 1}
    assert [seen.path for seen in server.seen] == ["bucket/first"]
    assert len(events(caplog, "changed_during_upload")) == 1


def test_an_upload_that_cannot_be_aborted_after_a_change_is_aborted_later(on_faulty, caplog):
    answers, forbidden = threading.Event(), threading.Event()
    forbidden.set()

    def script(seen):
        if seen.kind == "abort" and forbidden.is_set():
            return Fault(error(403, "AccessDenied"))
        return Fault(wait=answers) if seen.kind == "part" else None

    depot, server = on_faulty(script)
    path = Path(depot.write("file", b"a" * 1500))
    (transfer,) = depot.promise(str(path))
    depot.hand_over()
    eventually(lambda: any(seen.kind == "part" for seen in server.seen))
    path.write_bytes(b"b" * 1500)
    answers.set()
    depot.settle()
    assert depot.tally() == {State.DROPPED: 1}
    assert len(events(caplog, "changed_during_upload")) == 1
    assert depot.ledger.pauses() == {}
    depot.run_for(200, tick=20)
    assert len(server.uploads) == 1
    forbidden.clear()
    depot.run_until(lambda: not server.uploads)
    depot.run_until(lambda: depot.ledger.uploads.of(transfer.id) is None)
    assert server.objects == {}
