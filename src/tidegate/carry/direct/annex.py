"""A second process for small files, as long as many of them wait.

One Python process keeps one processor busy; an upload takes as long as all else that is done for a small
file. So while there is a backlog another process uploads: see store/putter. It knows nothing but how to
put a file. What it does not report as stored, for whatever reason, is left to us, who ask S3 first what
has become of it.
"""

from __future__ import annotations

import itertools
import logging
import socket
import sys
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tidegate.carry.direct.way import UNLESS_THERE
from tidegate.errors import TidegateError
from tidegate.store.putter import Batch, Errand, Lane, receive, send

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable, Sequence

    from tidegate.carry.direct.jobs import Jobs
    from tidegate.carry.direct.way import Small
    from tidegate.store.calls import Briefing

PROGRAM = "tidegate.store.putter"
DEPTH = 192
DEPTH_BYTES = 8 * 2**20
LONG_BYTES = 32 * 2**10
"""A file of so many bytes takes its upload longer than all that we have to do for it: so we upload, too."""

IDLE_SECONDS = 10.0
PAUSE_SECONDS = 0.05
REST_SECONDS = 60.0

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Terms:
    """When a second process is worth its start.

    So many small files wait for it, and we wait for answers less than the rest of that part of our time: else
    another process would only wait, too.
    """

    backlog: int = 256
    load: float = 0.5


class Annex:
    """Does light jobs in another process while there are many, from a thread of its own.

    `load` tells which part of our time we are busy with them, `fits` which jobs may be done there. `stored`
    is told of those that were, with their ETags, and `left` of those that may not have been. A process that
    dies is not replaced for a minute.
    """

    def __init__(
        self,
        jobs: Jobs[Any, Small],
        terms: Terms,
        *,
        load: Callable[[], float],
        fits: Callable[[Small], bool],
        stored: Callable[[Sequence[tuple[Small, str]]], None],
        left: Callable[[Sequence[Small]], None],
    ) -> None:
        self._jobs = jobs
        self._terms = terms
        self._load = load
        self._fits = fits
        self._stored = stored
        self._left = left
        self._numbers = itertools.count()
        self._out: dict[int, Small] = {}
        self._out_bytes = 0
        self._told: dict[Lane, Briefing] = {}
        self._child: subprocess.Popen[bytes] | None = None
        self._socket: socket.socket | None = None
        self._closing = threading.Event()
        self.thread = threading.Thread(target=self._run, name="annex", daemon=True)

    def close(self) -> None:
        """End the process, be it in the middle of something."""
        self._closing.set()
        if self._child:
            self._child.kill()

    def _run(self) -> None:
        while not self._closing.is_set():
            if not self._jobs.many_light(self._terms.backlog, IDLE_SECONDS):
                self._hang_up()
                continue
            try:
                if not self._work_off():
                    self._closing.wait(PAUSE_SECONDS)  # what is next does not fit
            except (OSError, EOFError) as error:
                if not self._closing.is_set():
                    log.warning("the process that uploads small files is gone, the others go on: %r", error)
                    self._hang_up()
                    self._closing.wait(REST_SECONDS)
            except Exception:
                log.exception("small files are not uploaded by another process any more")
                break
        self._hang_up()

    def _work_off(self) -> int:
        """Have errands done until no light job is left that fits. Returns how many."""
        if self._load() <= self._terms.load:
            return 0
        held = done = 0
        try:
            endpoint = self._endpoint()
            while (held or self._load() > self._terms.load) and not self._closing.is_set():
                held = self._jobs.lend(held, half=self._out_bytes >= LONG_BYTES * max(1, len(self._out)))
                if batch := self._next_batch(held):
                    send(endpoint, batch)
                elif not self._out:
                    break
                answers = receive(endpoint.recv)
                self._settle(answers)
                done += sum(1 for _, etag in answers if etag)
        finally:
            lost, self._out, self._out_bytes = list(self._out.values()), {}, 0
            self._left(lost)
            self._jobs.repay(held)
        if done:
            log.info("a second process has uploaded %d small files", done)
        return done

    def _next_batch(self, limit: int) -> Batch | None:
        room = DEPTH - len(self._out)

        def accepts(small: Small) -> bool:
            nonlocal room
            if room <= 0 or self._out_bytes > DEPTH_BYTES or not self._fits(small):
                return False
            room -= 1
            self._out_bytes += small.transfer.body.fingerprint.size
            return True

        briefings: dict[Lane, Briefing] = {}
        errands = []
        for small in self._jobs.take_light(accepts):
            lane = small.transfer.source, small.transfer.target.bucket
            number = next(self._numbers)
            self._out[number] = small
            try:
                if lane not in briefings:
                    briefings[lane] = small.way.s3.brief(lane[1])
            except TidegateError:  # it is said by who tries again
                self._leave(number)
                continue
            errands.append(_errand(number, small, lane))
        if not errands:
            return None
        news = {lane: briefing for lane, briefing in briefings.items() if self._told.get(lane) != briefing}
        self._told |= news
        return Batch(errands, limit, news)

    def _settle(self, answers: Sequence[tuple[int, str]]) -> None:
        self._stored([(self._back(number), etag) for number, etag in answers if etag])
        for number, etag in answers:
            if not etag:
                self._leave(number)

    def _leave(self, number: int) -> None:
        self._left([self._back(number)])

    def _back(self, number: int) -> Small:
        small = self._out.pop(number)
        self._out_bytes -= small.transfer.body.fingerprint.size
        return small

    def _endpoint(self) -> socket.socket:
        if self._socket is None:
            import subprocess  # noqa: PLC0415 - many an agent never needs it

            self._socket, theirs = socket.socketpair()
            with theirs:
                program = f"import sys; sys.path = sys.argv[1:]; import {PROGRAM} as it; it.main()"
                self._child = subprocess.Popen(  # noqa: S603 - ourselves
                    [sys.executable, "-I", "-S", "-c", program, *sys.path],
                    stdin=theirs.fileno(),
                    stdout=subprocess.DEVNULL,
                )
            receive(self._socket.recv)  # it is ready; until then small files go as ever
            self._told = {}
        return self._socket

    def _hang_up(self) -> None:
        if self._socket is None or self._child is None:
            return
        self._socket.close()
        self._child.kill()
        self._child.wait()
        self._socket = self._child = None


def _errand(number: int, small: Small, lane: Lane) -> Errand:
    transfer, way = small.transfer, small.way
    mark = transfer.body.fingerprint
    return Errand(
        number=number,
        path=transfer.body.path,
        mark=(mark.device, mark.inode, mark.size, mark.mtime_ns, mark.ctime_ns),
        lane=lane,
        key=transfer.target.key,
        headers=way.headers(transfer) | (UNLESS_THERE if way.asks_by_writing(mark.size) else {}),
        algorithm=way.prover.algorithm,
    )
