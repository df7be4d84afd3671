"""Small files uploaded by a second process: everything that holds for the first one holds for it."""

from __future__ import annotations

import hashlib
import itertools
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.contract_carrier import CarrierContract
from tests.direct_rig import MotoRig
from tests.helpers import eventually
from tests.standins.faulty_s3 import CRC, Fault, error, reply
from tidegate.carry.direct import Terms
from tidegate.carry.direct.annex import PROGRAM
from tidegate.ledger import Post
from tidegate.model import State

if TYPE_CHECKING:
    from collections.abc import Iterator

ALWAYS = Terms(backlog=1, load=-1.0)


def annexes() -> list[int]:
    """Find the second processes of this one."""
    found = []
    for task in Path("/proc/self/task").iterdir():
        for pid in (task / "children").read_text().split():
            command = Path(f"/proc/{pid}/cmdline")
            found += [int(pid)] * (PROGRAM.encode() in command.read_bytes())
    return found


class TestTheContract(CarrierContract):
    @pytest.fixture
    def rig(self, s3_endpoint: str) -> Iterator[MotoRig]:
        rig = MotoRig(s3_endpoint, annex=ALWAYS)
        yield rig
        rig.close()


def bodies(server):
    return {key.partition("/")[2]: stored.body for key, stored in server.objects.items()}


def some_files(depot, count: int = 1000) -> dict[str, bytes]:
    files = {f"f{number}": os.urandom(number % 300) for number in range(count)}
    depot.promise(*(depot.write(name, content) for name, content in files.items()))
    return files


def uploaded(caplog) -> int:
    """Tell how many files second processes have uploaded."""
    said = [record for record in caplog.records if "second process has uploaded" in record.msg]
    return sum(int(str(record.args[0])) for record in said if record.args)


@pytest.fixture(autouse=True)
def _tell(caplog) -> None:
    caplog.set_level(logging.INFO, logger="tidegate.carry.direct.annex")


def unhurried(seen) -> Fault | None:
    """Be slow with the first process, whose connections come first, so that the second one takes part."""
    return Fault(delay=0.01) if seen.connection <= 4 else None


def test_many_small_files_are_uploaded_by_another_process(on_faulty, caplog) -> None:
    depot, server = on_faulty(unhurried, annex=ALWAYS)
    files = some_files(depot)
    depot.settle()
    assert bodies(server) == files
    assert [seen.method for seen in server.seen].count("PUT") == len(files)  # none of them twice
    depot.close()
    assert uploaded(caplog) > 100


@pytest.mark.parametrize(("size", "both"), [(1024, False), (40 * 1024, True)])
def test_what_takes_long_is_uploaded_by_both_and_the_rest_by_the_other_one(on_faulty, size, both) -> None:
    others = threading.Event()

    def script(seen) -> Fault:
        """Be slow with the first process until the second one is there, and then with that one."""
        if seen.connection > 4:
            others.set()
            return Fault(delay=0.02)
        return Fault(delay=0.0 if others.is_set() else 0.02)

    depot, server = on_faulty(script, annex=ALWAYS, threshold=size)
    files = {f"f{number}": os.urandom(size) for number in range(500)}
    depot.promise(*(depot.write(name, content) for name, content in files.items()))
    depot.settle()
    assert bodies(server) == files
    is_ours = [seen.connection <= 4 for seen in server.seen if seen.method == "PUT"]
    since_then = is_ours[is_ours.index(False) :]
    assert (sum(since_then) > 50) == both


def test_who_has_posted_small_objects_is_told_the_etags_of_all_of_them(on_faulty, caplog) -> None:
    depot, server = on_faulty(unhurried, annex=ALWAYS)
    server.has_md5 = True
    told: dict[bytes, str] = {}
    depot.ledger.posts.listen(lambda settled: told.update(settled.etags))
    transfers = depot.promise(*(depot.write(f"f{number}", b"%d" % number) for number in range(500)))
    depot.ledger.posts.offer([Post(transfers=transfers, tokens=(), digest=b"", answer={})], now=0.0)
    depot.settle()
    depot.close()
    assert uploaded(caplog) > 50
    assert told == {
        transfer.id: hashlib.md5(Path(transfer.body.path).read_bytes(), usedforsecurity=False).hexdigest()
        for transfer in transfers
    }


def test_it_is_not_begun_for_a_few_files(on_faulty) -> None:
    depot, server = on_faulty(annex=Terms(backlog=3000, load=-1.0))
    files = some_files(depot)
    depot.settle()
    assert bodies(server) == files
    assert annexes() == []


def test_it_is_not_begun_while_we_would_only_wait(on_faulty, caplog) -> None:
    depot, server = on_faulty(annex=Terms(backlog=1, load=1.1))
    files = some_files(depot)
    depot.settle()
    depot.close()
    assert bodies(server) == files
    assert uploaded(caplog) == 0


def test_whatever_goes_wrong_with_its_requests_each_file_is_stored_exactly(on_faulty, caplog) -> None:
    numbers = itertools.count(1)
    answers = (
        error(500, "InternalError"),
        error(503, "SlowDown"),
        reply(200, {"ETag": '"e"', CRC: "AAAAAAAAAAA="}),
    )

    def script(seen):
        number = next(numbers)
        if seen.method == "PUT" and number % 50 == 0:
            return Fault(answer=answers[number % 3])
        return unhurried(seen)

    depot, server = on_faulty(script, annex=ALWAYS)
    files = some_files(depot)
    depot.settle(tick=2)
    assert depot.tally() == {State.STORED: len(files)}
    assert bodies(server) == files
    depot.close()
    assert uploaded(caplog) > 100


def test_no_more_requests_are_under_way_than_was_said(on_faulty, caplog) -> None:
    lasts = 0.005
    gate = threading.Lock()
    begun: deque[float] = deque()
    most = 0

    def script(seen):
        nonlocal most
        with gate:
            now = time.monotonic()
            begun.append(now)
            while begun[0] < now - lasts:
                begun.popleft()
            most = max(most, len(begun))
        return Fault(delay=2 * lasts)

    depot, server = on_faulty(script, workers=3, annex=ALWAYS)
    files = some_files(depot)
    depot.settle()
    assert bodies(server) == files
    assert most <= 3
    depot.close()
    assert uploaded(caplog) > 100


def test_while_a_limit_is_kept_it_is_left_alone(on_faulty, caplog) -> None:
    depot, server = on_faulty(annex=ALWAYS, limit=10_000_000.0)
    files = some_files(depot)
    depot.settle()
    depot.close()
    assert bodies(server) == files
    assert uploaded(caplog) == 0


def test_when_it_is_killed_each_file_is_stored_all_the_same(on_faulty, caplog) -> None:
    killed: list[int] = []

    def script(seen):
        if not killed and seen.connection > 5 and (found := annexes()):  # it has connections of its own
            killed.extend(found)
            os.kill(found[0], signal.SIGKILL)
        return unhurried(seen)

    depot, server = on_faulty(script, annex=ALWAYS)
    files = some_files(depot)
    depot.settle()
    assert killed
    assert bodies(server) == files
    assert "the process that uploads small files is gone" in caplog.text
    caplog.clear()


def test_it_ends_with_the_process_that_it_works_for() -> None:
    ours = (
        f"import sys, threading; sys.path = {sys.path!r}\n"
        "from tidegate.carry.direct.annex import Annex\n"
        "annex = Annex(None, None, load=None, fits=None, stored=None, left=None)\n"
        "annex._endpoint()\n"
        "print(annex._child.pid, flush=True)\n"
        "threading.Event().wait(60)\n"
    )
    with subprocess.Popen([sys.executable, "-c", ours], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        command = Path(f"/proc/{int(parent.stdout.readline())}/cmdline")
        assert PROGRAM in command.read_text()
        parent.kill()
    eventually(lambda: not command.exists() or not command.read_bytes())  # what is left is nobody's child
