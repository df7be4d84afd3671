"""One large file on its way as a multipart upload, which several workers send and which outlives them all."""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING

from tidegate.errors import TidegateError
from tidegate.ledger import OpenUpload
from tidegate.model import Effect, ObjectRef
from tidegate.store.body import Body, BodyChanged
from tidegate.store.checksum import MD5, combine
from tidegate.store.errors import Kind, S3Error
from tidegate.store.stored import Part

if TYPE_CHECKING:
    from collections.abc import Callable

    from tidegate.carry.direct.content import Content
    from tidegate.carry.direct.way import Way
    from tidegate.ledger.uploads import Uploads
    from tidegate.model import Transfer
    from tidegate.store.checksum import Digest
    from tidegate.store.stored import Stored

MOST_PARTS = 10_000
_MIB = 2**20

Known = dict[int, Part]
"""Parts that were seen to be stored, by number."""

log = logging.getLogger(__name__)


def part_size_for(size: int, wanted: int) -> int:
    """Return the size of a part: the one wanted, or more whole MiB where there would be too many parts."""
    if size <= wanted * MOST_PARTS:
        return wanted
    return -(-size // (MOST_PARTS * _MIB)) * _MIB


class Multipart:
    """Used by several workers at once, each with a ticket; the one that hands in the last ticket ends it.

    `known` are parts that an earlier attempt of this process proved, so that they need not be read again.
    """

    def __init__(
        self,
        transfer: Transfer,
        way: Way,
        uploads: Uploads,
        open_content: Callable[[], Content],
        taker: Callable[[Callable[[], None]], Callable[[int], int]],
        known: Known,
    ) -> None:
        self.number: int | None = None  # its place in the queue
        self.transfer = transfer
        self.way = way
        self.known = known
        self._uploads = uploads
        self._open_content = open_content
        self._take = taker(self._check)
        self._lock = threading.Lock()
        self._content: Content | None = None
        self._upload: OpenUpload | None = None
        self._waiting: list[int] = []
        self._tickets = 1
        self.failure: BaseException | None = None
        self.etag = ""
        """Of the finished object, if it is known."""
        self.effect = Effect.ADDED
        self._is_there = False

    def work(self, share: Callable[[], None]) -> bool:
        """Do what one ticket is for: begin the upload, or send a part. Returns whether nothing is left to do.

        `share` is called when another worker may help, and is to bring this back with one ticket more.
        """
        try:
            if self._content is None:
                self._begin()
            number = self._next(share)
            if number:
                self._send(number)
        except BaseException as error:  # noqa: BLE001 - told by the last one to leave
            self._fail(error)
        with self._lock:
            self._tickets -= 1
            return self._tickets == 0

    def finish(self) -> None:
        """Make the object of the parts and prove it. Raises why that cannot be."""
        try:
            if self.failure is not None:
                raise self.failure
            if not self._is_there:
                self._complete()
        except (BodyChanged, S3Error) as error:
            if isinstance(error, BodyChanged) or error.kind is Kind.CLEAN_START or error.status == 412:
                self.known.clear()
                self._give_up()
            raise
        finally:
            if self._content is not None:
                self._content.close()

    def _begin(self) -> None:
        content = self._content = self._open_content()
        found = self._uploads.of(self.transfer.id)
        if found is not None:
            if self._goes_on(content, found):
                return
            abort_all(self.way, found)
        elif self.way.looks_first and self._is_stored(content):
            return
        self.known = {}
        self._upload = self._create(content)
        self._waiting = list(range(self._count(self._upload), 0, -1))

    def _goes_on(self, content: Content, found: OpenUpload) -> bool:
        """Take up an upload that was begun before; False: nothing of it is of use."""
        if found.upload_id is None or ObjectRef(found.bucket, found.key) != self.transfer.target:
            return False
        listed = self._listed(found)
        if listed is None:
            self._is_there = self._holds(found)
            return self._is_there
        self._upload = found
        self.known = self._proven(content, found, listed)
        self._waiting = [n for n in range(self._count(found), 0, -1) if n not in self.known]
        return True

    def _is_stored(self, content: Content) -> bool:
        """Whether the object is there already, with these bytes."""
        asked = self._asked(content)
        bodies = [self._body(number, asked) for number in range(1, self._count(asked) + 1)]
        same = self.way.prover.compare(
            self.transfer.target,
            content.size,
            lambda: combine([body.measure(self.way.prover.algorithm)[0] for body in bodies]),
            lambda: self._by_etag(asked),
        )
        self.effect = {True: Effect.SKIPPED, False: Effect.UPDATED, None: Effect.ADDED}[same]
        self._is_there = same is True
        return self._is_there

    def _asked(self, content: Content) -> OpenUpload:
        """Describe an upload that nobody has begun yet."""
        return OpenUpload(
            promise=self.transfer.id,
            source=self.transfer.source,
            bucket=self.transfer.target.bucket,
            key=self.transfer.target.key,
            upload_id=None,
            part_size=part_size_for(content.size, self.way.source.s3.part_size),
        )

    def _create(self, content: Content) -> OpenUpload:
        target, asked = self.transfer.target, self._asked(content)
        self._uploads.note(asked)
        upload_id = self.way.s3.create_upload(
            target.bucket,
            target.key,
            headers=self.way.headers(self.transfer),
            algorithm=self.way.prover.algorithm,
        )
        begun = OpenUpload(
            promise=asked.promise,
            source=asked.source,
            bucket=asked.bucket,
            key=asked.key,
            upload_id=upload_id,
            part_size=asked.part_size,
        )
        self._uploads.note(begun)
        return begun

    def _listed(self, upload: OpenUpload) -> dict[int, Stored] | None:
        """Ask which parts are there; None: the upload is not open any more."""
        assert upload.upload_id is not None
        try:
            return self.way.s3.list_parts(upload.bucket, upload.key, upload.upload_id)
        except S3Error as error:
            if error.kind is Kind.CLEAN_START or error.code == "NoSuchKey":
                return None
            raise

    def _holds(self, upload: OpenUpload) -> bool:
        """Whether the upload was completed, and only the answer was lost."""
        digests = [self._body(number, upload) for number in range(1, self._count(upload) + 1)]
        whole = combine([body.measure(self.way.prover.algorithm)[0] for body in digests])
        return self.way.prover.holds(self.transfer.target, whole, lambda: self._by_etag(upload))

    def _by_etag(self, upload: OpenUpload) -> Digest:
        bodies = [self._body(number, upload) for number in range(1, self._count(upload) + 1)]
        return combine([body.measure(MD5)[0] for body in bodies])

    def _proven(self, content: Content, upload: OpenUpload, listed: dict[int, Stored]) -> Known:
        """Pick the parts that are stored and are, as their checksums tell, what the file holds there."""
        known: Known = {}
        algorithm = self.way.prover.algorithm
        for number in range(1, self._count(upload) + 1):
            stored = listed.get(number)
            if stored is None:
                continue
            before = self.known.get(number)
            if before is not None and before.etag == stored.etag:
                known[number] = before
                continue
            body = self._body(number, upload)
            digest, _ = body.measure(algorithm)
            proven = stored.proves(digest)
            if proven is None and algorithm != MD5:
                proven = stored.proves(self._body(number, upload).measure(MD5)[0])
            if proven:
                known[number] = Part(number, stored.etag, digest)
        content.check()
        return known

    def _next(self, share: Callable[[], None]) -> int:
        with self._lock:
            number = self._waiting.pop() if self._waiting and self.failure is None else 0
            more = bool(self._waiting) and self.failure is None
            self._tickets += more
        if more:
            share()
        return number

    def _send(self, number: int) -> None:
        upload = self._upload
        assert upload is not None
        assert upload.upload_id is not None
        body = self._body(number, upload, take=self._take)
        stored = self.way.s3.upload_part(
            upload.bucket,
            upload.key,
            upload.upload_id,
            number,
            body,
            algorithm=self.way.prover.algorithm,
        )
        self.way.outage.worked()
        if stored.proves(body.digest) is False:
            raise S3Error(Kind.CLEAN_START, 200, "", f"part {number} arrived with another checksum", "")
        with self._lock:
            self.known[number] = Part(number, stored.etag, body.digest)

    def _complete(self) -> None:
        upload = self._upload
        assert upload is not None
        assert self._content is not None
        upload_id = upload.upload_id
        assert upload_id is not None
        self._content.check()
        parts = [self.known[number] for number in sorted(self.known)]

        done: list[Stored] = []

        def send(condition: dict[str, str]) -> Stored:
            done.append(
                self.way.s3.complete_upload(upload.bucket, upload.key, upload_id, parts, headers=condition)
            )
            return done[-1]

        self.etag, _ = self.way.write(
            self.transfer,
            self._content.descriptor,
            [part.digest.size for part in parts],
            send,
            lambda: combine([part.digest for part in parts]),
            in_parts=True,
        )
        if not done:  # the object was there already
            abort_all(self.way, upload)

    def _fail(self, error: BaseException) -> None:
        with self._lock:
            if self.failure is None or isinstance(error, BodyChanged):
                self.failure = error
            self._waiting.clear()

    def _give_up(self) -> None:
        """Abort the upload. What cannot be aborted now stays in the ledger, and is aborted later."""
        if self._upload is None:
            return
        try:
            abort_all(self.way, self._upload)
        except TidegateError as error:
            log.warning("an upload to %s cannot be aborted yet: %s", self._upload.key, error)
        else:
            self._uploads.forget([self.transfer.id])

    def _check(self) -> None:
        """Stop sending a part of a file that another worker has seen to be changed."""
        assert self._content is not None
        if isinstance(self.failure, BodyChanged):
            raise self.failure
        self._content.check()

    def _body(self, number: int, upload: OpenUpload, take: Callable[[int], int] | None = None) -> Body:
        assert self._content is not None
        offset = (number - 1) * upload.part_size
        size = min(upload.part_size, self._content.size - offset)
        return Body(
            self._content.descriptor, size, offset=offset, check=self._check, take=take, to_the_end=True
        )

    def _count(self, upload: OpenUpload) -> int:
        assert self._content is not None
        return -(-self._content.size // upload.part_size)


def abort_all(way: Way, upload: OpenUpload) -> None:
    """Abort an upload, or, where its id never reached us, every upload to its key. Raises as `S3` does."""
    if upload.upload_id is not None:
        way.s3.abort_upload(upload.bucket, upload.key, upload.upload_id)
        return
    for found in list(way.s3.list_uploads(upload.bucket, upload.key)):
        if found.key == upload.key:
            way.s3.abort_upload(upload.bucket, found.key, found.upload_id)
