"""A file that changes while it is uploaded: it is noticed soon, and nothing torn is ever stored."""

from __future__ import annotations

import logging
import os
import threading
import time
from pathlib import Path

import pytest

from tests.helpers import eventually
from tests.standins.faulty_s3 import Fault
from tidegate.model import State

MIB = 2**20
SIZE = 8 * MIB
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
ROUTES = {"put": {"threshold": 2 * SIZE}, "part": {"threshold": MIB, "part_size": 2 * MIB}}
# Of a body nothing is read, or so much in a hundredth of a second.
NETWORKS = {"stuck": Fault(take=0, wait=threading.Event()), "slow": Fault(pace=600)}


def is_under_way(server, route):
    return eventually(lambda: any(seen.kind == route for seen in server.seen))


def events(caplog, name):
    return [record for record in caplog.records if getattr(record, "event", "") == name]


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
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
    is_under_way(server, route)
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
