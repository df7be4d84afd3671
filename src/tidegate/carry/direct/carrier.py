"""Promises kept by this process: it uploads the files, and proves what was stored.

Small files are uploaded by one thread that waits for many answers at a time, all others by workers that
can read and hash side by side.

What is under way here dies with the process, so a promise has no receipt: the next start takes back what
was given out, and asks S3 first whether it is there already. Large files go on where they were.
"""

from __future__ import annotations

import functools
import logging
import threading
from typing import TYPE_CHECKING

from tidegate.carry import News
from tidegate.carry.direct.annex import Annex, Terms
from tidegate.carry.direct.content import Packed, Plain
from tidegate.carry.direct.headers import headers_for
from tidegate.carry.direct.jobs import Gathered, Jobs
from tidegate.carry.direct.outage import Outage
from tidegate.carry.direct.parts import Known, Multipart, abort_all
from tidegate.carry.direct.proof import Prover, etag_of
from tidegate.carry.direct.verdict import verdict_of
from tidegate.carry.direct.way import Small, Way
from tidegate.config import Compress, OnConflict, Verify
from tidegate.errors import TidegateError, Unavailable
from tidegate.model import Effect, Outcome, Verdict
from tidegate.policy import again_seconds
from tidegate.store.body import CHUNK_BYTES, Body
from tidegate.store.errors import S3Error
from tidegate.store.hub import Hub, is_available

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from tidegate.carry import Answer
    from tidegate.carry.direct.content import Content
    from tidegate.carry.direct.throttle import Throttle
    from tidegate.config import S3Settings, Source
    from tidegate.ledger import Ledger, OpenUpload
    from tidegate.model import Transfer
    from tidegate.store.checksum import Digest
    from tidegate.store.s3 import S3
    from tidegate.store.stored import Stored

POLL_SECONDS = 1.0
NEWS_LIMIT = 1000
ENOUGH_NEWS = 500
SWEEP_SECONDS = 60.0
LEAST_URGENT = 100
LANE = ""

log = logging.getLogger(__name__)


class Direct:
    """Uploads from threads of its own, up to `limit` requests at a time."""

    name = "direct"
    depth = 2048

    def __init__(  # noqa: PLR0913 - all that it stands on
        self,
        sources: Sequence[Source],
        ledger: Ledger,
        *,
        connect: Callable[[S3Settings], S3],
        thing: str,
        spool: Path,
        throttle: Throttle,
        limit: int,
        steady: Callable[[], float],
        jitter: Callable[[], float],
        poll_seconds: float = POLL_SECONDS,
        annex: Terms | None = None,
    ) -> None:
        """`spool` is a folder of ours for files while they are packed; `annex` says when we may be two."""
        self._ledger = ledger
        self._spool = spool
        self._throttle = throttle
        self._steady = steady
        self._jitter = jitter
        self._poll_seconds = poll_seconds
        self._connect = connect
        self._thing = thing
        self._clients: dict[S3Settings, S3] = {}
        self._sources = sources
        self._ways = {source.name: self._way(source) for source in sources}
        self._doubtful = ledger.given_out(self.name)  # may be stored: the process that knew has died
        self._failures: dict[bytes, int] = {}
        self._known: dict[bytes, Known] = {}
        self._outcomes: Gathered[Outcome] = Gathered(ENOUGH_NEWS)
        self._hub = hub = Hub(steady) if is_available else None
        self._annex: Annex | None = None
        self._jobs: Jobs[Multipart | Callable[[], None], Small] = Jobs(
            limit, self._hub.wake if self._hub else tuple
        )
        self._sweep_due = steady()
        self._closing = False
        self._workers = self._more_workers(0, limit)
        self._threads: list[threading.Thread] = []
        self._gate = threading.Lock()
        if hub is None:
            self._begin(*self._workers)
        else:
            loop = functools.partial(hub.run, self._next_light)
            self._begin(threading.Thread(target=loop, name="upload", daemon=True))
            if annex and limit > 1:
                self._annex = Annex(
                    self._jobs,
                    annex,
                    load=lambda: hub.load,
                    fits=self._fits,
                    stored=self._all_stored,
                    left=self._left,
                )
                self._begin(self._annex.thread)

    def follow(self, sources: Sequence[Source], *, limit: int) -> None:
        """From now on these are the sources, and so many requests are sent at a time.

        What was started goes on as it was begun, also of sources that are not there any more.
        """
        self._ways |= {
            source.name: self._way(source)
            for source in sources
            if source.name not in self._ways or self._ways[source.name].source != source
        }
        self._sources = sources
        with self._gate:
            more = self._more_workers(len(self._workers), limit)
            self._workers += more
            if self._workers[0].ident:
                self._begin(*more)
        self._jobs.resize(limit)

    def wake(self) -> None:
        """See Carrier."""
        self._outcomes.wake()

    def close(self) -> None:
        """See Carrier. Requests under way are broken off."""
        self._closing = True
        self._jobs.close()
        self._throttle.close()
        for client in self._clients.values():
            client.close()
        if self._hub:
            self._hub.close()
        if self._annex:
            self._annex.close()
        for thread in self._threads:
            thread.join(1.0)

    def lanes(self, source: str) -> Sequence[str]:
        """See Carrier. There is one: the workers share a queue. Raises `Unavailable` during an outage."""
        outage = self._ways[source].outage
        if outage.is_closed():
            raise Unavailable(outage.reason)
        return (LANE,)

    def start(self, tasks: Sequence[tuple[Transfer, str]]) -> Sequence[Answer]:
        """See Carrier."""
        return [self._start(transfer) for transfer, _ in tasks]

    def _start(self, transfer: Transfer) -> Answer:
        way = self._ways[transfer.source]
        if not way.outage.admits():
            return Unavailable(way.outage.reason)
        urgency = way.source.priority
        self._outcomes.expect(1)
        if self._is_light(transfer, way):
            self._jobs.put_light(urgency, Small(transfer, way))
            return None
        self._begin_workers()
        if transfer.body.fingerprint.size <= way.source.s3.multipart_threshold:
            self._jobs.put(urgency, functools.partial(self._carry, Small(transfer, way)))
        else:
            upload = self._multipart(transfer, way)
            upload.number = self._jobs.put_large(urgency, upload)
        return None

    def _is_light(self, transfer: Transfer, way: Way) -> bool:
        """Whether there is so little to read and to compute that others need not wait for it."""
        return (
            self._hub is not None
            and transfer.body.fingerprint.size <= min(CHUNK_BYTES, way.source.s3.multipart_threshold)
            and way.source.attributes.compress is Compress.NONE
        )

    def news(self, position: int) -> News:  # noqa: ARG002 - what is not settled dies with the process
        """See Carrier."""
        return News(self._outcomes.take(NEWS_LIMIT, self._poll_seconds), None)

    def audit(self) -> Iterator[Sequence[Outcome]]:
        """See Carrier. Nothing gets lost between us; but uploads that nobody wants any more are aborted."""
        if self._steady() >= self._sweep_due:
            self._sweep_due = self._steady() + SWEEP_SECONDS
            if stale := self._ledger.uploads.stale():
                self._begin_workers()
                self._jobs.put(LEAST_URGENT, functools.partial(self._sweep, stale))
        yield ()

    def away(self, source: str) -> str:
        """See Carrier. Who only tries whether it works again has not been answered yet."""
        outage = self._ways[source].outage
        return outage.reason if outage.lasts else ""

    def troubles(self) -> dict[str, str]:
        """Sources whose destination cannot be reached."""
        ways = {source.name: self._ways[source.name] for source in self._sources}
        return {f"direct {name}": way.outage.reason for name, way in ways.items() if way.outage.lasts}

    def finished(self, transfer: Transfer) -> None:
        """See Carrier."""
        if transfer.body.fingerprint.size > self._ways[transfer.source].source.s3.multipart_threshold:
            self._ledger.uploads.forget([transfer.id])
            self._known.pop(transfer.id, None)

    # What threads do

    def _more_workers(self, count: int, limit: int) -> list[threading.Thread]:
        """Make as many as there are to be, if there are `count` of them."""
        return [
            threading.Thread(target=self._work, name=f"upload {number}", daemon=True)
            for number in range(count + 1, limit + 1)
        ]

    def _begin(self, *threads: threading.Thread) -> None:
        for thread in threads:
            thread.start()
        self._threads += threads

    def _begin_workers(self) -> None:
        with self._gate:
            if not self._workers[0].ident:
                self._begin(*self._workers)

    def _work(self) -> None:
        while (found := self._jobs.get()) is not None:
            job, large = found
            self._do(functools.partial(self._carry_on, job) if isinstance(job, Multipart) else job)
            self._jobs.done(large=large)

    def _next_light(self) -> Callable[[], None] | None:
        small = self._jobs.get_light()
        return None if small is None else lambda: self._do_light(small)

    def _do_light(self, small: Small) -> None:
        self._do(lambda: self._carry(small))
        self._jobs.done()

    def _do(self, job: Callable[[], None]) -> None:
        try:
            job()
        except Exception:
            if not self._closing:
                log.exception("an upload stumbled, and the others go on")

    def _carry(self, small: Small) -> None:
        """Upload a file with one request."""
        transfer, way = small.transfer, small.way
        if way.outage.forbids():
            self._tell(transfer, Verdict.AGAIN, way.outage.reason)
            return
        try:
            content = self._open(transfer, way)
            try:
                etag, effect = self._put(transfer, way, content)
            finally:
                content.close()
        except Exception as error:  # noqa: BLE001 - whatever it is becomes the outcome
            self._failed(transfer, way, error)
        else:
            self._stored(transfer, way, etag, effect)

    def _put(self, transfer: Transfer, way: Way, content: Content) -> tuple[str, Effect]:
        """Upload it, if need be. Returns its ETag, if that is known, and what that came to."""
        target = transfer.target
        body = Body(
            content.descriptor, content.size, check=content.check, take=self._taker(way, content.check)
        )
        algorithm = way.prover.algorithm
        headers = way.headers(transfer)

        def send(condition: dict[str, str]) -> Stored:
            return way.s3.put(
                target.bucket, target.key, body, headers=headers | condition, algorithm=algorithm
            )

        def by_etag() -> Digest:
            return etag_of(content.descriptor, [content.size], in_parts=False)

        asks = way.asks_by_writing(content.size)
        same = None
        if transfer.id in self._doubtful and not asks:
            digest, _ = body.measure(algorithm)
            if way.prover.holds(target, digest, by_etag):
                return "", Effect.ADDED
        elif way.looks_first and not asks:
            same = way.prover.compare(target, content.size, lambda: body.measure(algorithm)[0], by_etag)
            if same:
                return "", Effect.SKIPPED
        etag, effect = way.write(
            transfer, content.descriptor, [content.size], send, lambda: body.digest, in_parts=False, asks=asks
        )
        return etag, effect if same is None else Effect.UPDATED

    def _multipart(self, transfer: Transfer, way: Way) -> Multipart:
        return Multipart(
            transfer,
            way,
            self._ledger.uploads,
            functools.partial(self._open, transfer, way),
            functools.partial(self._taker, way),
            self._known.pop(transfer.id, {}),
        )

    def _carry_on(self, upload: Multipart) -> None:
        """Do the next piece of a large file; whoever does the last one finishes it."""
        transfer, way = upload.transfer, upload.way

        def share() -> None:
            self._jobs.put_large(way.source.priority, upload, upload.number)

        if not upload.work(share):
            return
        try:
            upload.finish()
        except Exception as error:  # noqa: BLE001 - whatever it is becomes the outcome
            if upload.known:
                self._known[transfer.id] = upload.known
            self._failed(transfer, way, error)
        else:
            self._stored(transfer, way, upload.etag, upload.effect)

    def _sweep(self, stale: Sequence[OpenUpload]) -> None:
        for upload in stale:
            way = self._ways.get(upload.source)
            if way is None:
                continue
            try:
                abort_all(way, upload)
            except TidegateError as error:
                log.warning("an upload to %s cannot be aborted yet: %s", upload.key, error)
            else:
                self._ledger.uploads.forget([upload.promise])

    # What becomes of it

    def _stored(self, transfer: Transfer, way: Way, etag: str, effect: Effect) -> None:
        way.outage.worked()
        self._failures.pop(transfer.id, None)
        self._doubtful.discard(transfer.id)
        self._outcomes.put(Outcome(verdict=Verdict.STORED, promise=transfer.id, etag=etag, effect=effect))

    def _fits(self, small: Small) -> bool:
        """Whether the annex may try: where that has worked before, and no limit is to be kept."""
        transfer, way = small.transfer, small.way
        return (
            way.prover.is_settled
            and way.source.verify is Verify.CHECKSUM
            and way.source.on_conflict is OnConflict.OVERWRITE
            and (not way.looks_first or way.prover.takes_conditions)
            and not way.outage.lasts
            and transfer.id not in self._doubtful
            and self._throttle.is_open()
        )

    def _all_stored(self, smalls: Sequence[tuple[Small, str]]) -> None:
        for way in {small.way.source.name: small.way for small, _ in smalls}.values():
            way.outage.worked()
        for small, _ in smalls:
            self._failures.pop(small.transfer.id, None)
        self._outcomes.put_all(
            [Outcome(verdict=Verdict.STORED, promise=small.transfer.id, etag=etag) for small, etag in smalls]
        )

    def _left(self, smalls: Sequence[Small]) -> None:
        """The annex does not know what has become of these."""
        for small in smalls:
            self._doubtful.add(small.transfer.id)
            self._jobs.put_light(small.way.source.priority, small)

    def _failed(self, transfer: Transfer, way: Way, error: Exception) -> None:
        if self._closing:
            return  # the next start takes it back
        verdict, note, is_outage = verdict_of(error)
        if isinstance(error, S3Error) and way.prover.gives_in(error):
            verdict = Verdict.AGAIN
        if is_outage:
            self._doubtful.add(transfer.id)
            way.outage.failed(note)
        elif isinstance(error, TidegateError):
            way.outage.worked()
        else:
            way.outage.undecided()
        wait = 0.0
        if verdict is Verdict.AGAIN:
            failures = self._failures[transfer.id] = self._failures.get(transfer.id, 0) + 1
            wait = again_seconds(failures, self._jitter())
        else:
            self._failures.pop(transfer.id, None)
        self._tell(transfer, verdict, note, wait)

    def _tell(self, transfer: Transfer, verdict: Verdict, note: str = "", wait: float = 0.0) -> None:
        self._outcomes.put(Outcome(verdict=verdict, promise=transfer.id, note=note[:500], wait=wait))

    # Parts

    def _way(self, source: Source) -> Way:
        s3 = self._clients.get(source.s3)
        if s3 is None:
            s3 = self._clients[source.s3] = self._connect(source.s3)
        return Way(
            source=source,
            s3=s3,
            prover=Prover(s3, source.verify),
            outage=Outage(self._steady, self._jitter),
            headers=headers_for(source, self._thing),
        )

    def _open(self, transfer: Transfer, way: Way) -> Content:
        how = way.source.attributes.compress
        return Plain(transfer.body) if how is Compress.NONE else Packed(transfer.body, how, self._spool)

    def _taker(self, way: Way, check: Callable[[], None]) -> Callable[[int], int]:
        return lambda count: self._throttle.take(count, way.source.priority, check)
