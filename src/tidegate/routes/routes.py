"""The one dispatcher behind every door: finds who answers, in which thread; nothing goes unanswered."""

from __future__ import annotations

import functools
import hashlib
import logging
import queue
import threading
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tidegate.errors import TidegateError
from tidegate.routes import again, answers, orders, reports, restore
from tidegate.routes.board import Board, Picture, look
from tidegate.routes.bodies import Bodies
from tidegate.routes.notices import Notices
from tidegate.routes.poster import Order, Poster
from tidegate.routes.posting import Posting, posting_of
from tidegate.routes.targets import body_of
from tidegate.routes.uploads import SHOWN, Uploads
from tidegate.routes.wire import (
    CURSOR,
    REPLY_BYTES,
    TOKEN,
    Rejected,
    Reply,
    accepted,
    failure,
    fields_of,
    packed,
    payload_of,
    rejected,
    token_of,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from tidegate.clock import Clock
    from tidegate.config.schema import Key
    from tidegate.routes.posting import Part
    from tidegate.routes.site import Site
    from tidegate.routes.unready import Unready

    Answer = Callable[[Reply], None]
    Does = Callable[[Site, Mapping[str, Any]], dict[str, Any]]

WAITING = 64
"""Questions and orders that may wait for their turn; more are rejected: who asks knows when to ask again."""

WORKERS = 2
PATIENCE_SECONDS = 5.0
"""For how long requests wait for an agent that is being started anew."""

FAREWELL_SECONDS = 2.0
"""For how long an agent that ends waits for the requests that are being done."""

_REPORTS = {"statistics/get": reports.statistics, "status/get": reports.status}
POST = "objects/post"

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Verb:
    """What a route takes, who does it, and whether it changes anything."""

    keys: tuple[Key, ...]
    does: Does
    changes: bool


_VERBS = {
    "explain/get": Verb(answers.EXPLAIN, answers.explain, changes=False),
    "configuration/get": Verb(answers.CONFIGURATION, answers.configuration, changes=False),
    "retry/post": Verb(orders.RETRY, orders.retry, changes=True),
    "scan/post": Verb(orders.ABOUT_SOURCE, orders.scan, changes=True),
    "pause/post": Verb(orders.ABOUT_SOURCE, orders.pause, changes=True),
    "resume/post": Verb(orders.ABOUT_SOURCE, orders.resume, changes=True),
    "restart/post": Verb(again.RESTART, again.restart, changes=True),
    "restore/post": Verb(restore.POST, restore.post, changes=True),
    "restore/get": Verb(restore.ABOUT_JOB, restore.get, changes=False),
    "restore/list": Verb(restore.LIST, restore.listed, changes=False),
    "restore/cancel/post": Verb(restore.ABOUT_JOB, restore.cancel, changes=True),
}


class Routes:
    """Answers requests. Lives as long as the process; agents come and go: see `attach`."""

    verbs = (POST, *_REPORTS, *_VERBS)
    """All routes."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._changed = threading.Condition()
        self._site: Site | None = None
        self._unready: Unready | None = None
        self._bodies: Bodies | None = None
        self._paused: frozenset[str] = frozenset()
        self._faults: tuple[str, ...] = ()
        self._closing = False
        self._users = 0
        self._tokens: set[str] = set()  # for which a worker works just now
        self._recovered = False
        self._absent_since = clock.steady()
        self._notices = Notices()
        self._board = Board(self._picture, clock.steady)
        self._poster = Poster(self._use, clock.steady)
        self._queue: queue.Queue[Callable[[], None] | None] = queue.Queue(WAITING)
        self._workers = [
            threading.Thread(target=self._work, name=f"routes {number}", daemon=True)
            for number in range(1, WORKERS + 1)
        ]
        for worker in self._workers:
            worker.start()

    # What the application says

    def attach(self, site: Site, *, mended: bool = False) -> None:
        """From now on this agent is asked and commanded. Before it starts: what was posted is promised anew.

        `mended`: its ledger takes the place of one that was lost.
        """
        ledger, settings = site.ledger, site.config.events
        if (mended or site.in_memory) and self._paused:
            ledger.orders.pause(self._paused)
        ledger.events.switch(settings)
        ledger.posts.awaited = self._poster.waiting.claims
        ledger.posts.listen(site.agent.count, self._poster.settled)
        bodies = Bodies(site.folder, site.config)
        if mended or site.in_memory or not self._recovered:
            carriers = {way.name: site.choose(way)[0] for way in site.posted}
            bodies.recover(ledger, site.posted, carriers, site.clock.wall())
            ledger.posts.recover(now=site.clock.wall())
        self._recovered = not site.in_memory  # what is posted meanwhile is not in the ledger on the disk
        with self._changed:
            self._site, self._bodies, self._unready = site, bodies, None
            self._changed.notify_all()
        self._board.forget()

    def excuse(self, unready: Unready) -> None:
        """Until an agent is attached, there is none for this reason: so everybody is answered at once."""
        self._unready = unready

    def renew(self, site: Site) -> None:
        """The agent that is attached goes by another configuration from now on."""
        with self._changed:
            if self._site:
                self._site = site
        self._board.forget()

    def detach(self) -> None:
        """The agent ends; another one follows, or none."""
        with self._changed:
            if self._site:
                self._paused = self._site.ledger.orders.paused
            self._site = self._bodies = None
            self._absent_since = self._clock.steady()
            self._changed.wait_for(lambda: not self._users, FAREWELL_SECONDS)
        self._board.forget()

    def faults(self, faults: Sequence[str]) -> None:
        """Note what is wrong with the configuration that was tried last; nothing: it is in use."""
        self._faults = tuple(faults)
        self._board.forget()

    @property
    def known_faults(self) -> tuple[str, ...]:
        """What is wrong with the configuration that was tried last."""
        return self._faults

    def step(self) -> None:
        """Look around, about once a second: tells of what has changed, and tidies up."""
        site, bodies = self._site, self._bodies
        if site is None or bodies is None:
            return
        moment = self._clock.now()
        for kind, body in self._notices.step(site.agent.snapshot(), site.config.events.held_seconds, moment):
            self._record(site, kind, body)
        if self._notices.is_time_to_tidy(moment.steady):
            try:
                bodies.tidy()
                Uploads(site.folder).expire(moment.wall)
            except OSError as err:
                log.warning("the folder of posted objects cannot be tidied: %s", err)

    def give_up(self) -> None:
        """Answer who waits for something to be stored: there is no time left to wait with them."""
        self._poster.give_up()

    def close(self) -> None:
        """Answer what waits, and nothing more."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self._board.close()
        self._poster.close()
        for _ in self._workers:
            self._queue.put(None)
        for worker in self._workers:
            worker.join(2.0)

    # What doors ask

    def handle(self, route: str, payload: bytes, answer: Answer) -> None:
        """Have a request answered, once, here or later in another thread. Takes milliseconds, never raises.

        `answer` must not block either.
        """
        say = _Once(answer)
        try:
            raw = payload_of(payload)
            say.token = token_of(raw)
            if (unready := self._unready) and route in self.verbs:
                say.body(unready.answer(route, raw))
            elif route in _REPORTS:
                self._report(route, fields_of(raw, (TOKEN, CURSOR))["cursor"], say)
            elif route == POST:
                self._post(posting_of(raw), _digest(route, raw), say)
            elif verb := _VERBS.get(route):
                fields = fields_of(raw, verb.keys)
                self._later(functools.partial(self._do, verb, fields, _digest(route, raw), say), say)
            else:
                say.failed(_unknown(route))
        except Exception as err:  # noqa: BLE001 - whatever it is becomes the answer
            say.failed(err)

    def _report(self, route: str, cursor: str | None, say: _Once) -> None:
        """Answer here, of what was read a moment ago; if nothing was, have it read."""
        if picture := self._board.at_hand():
            say.body(_REPORTS[route](picture, cursor))
        else:
            self._later(functools.partial(self._read, route, cursor, say), say)

    def _read(self, route: str, cursor: str | None, say: _Once) -> None:
        with self._use() as (site, _):
            picture = self._board.show(look(site, self._faults))
        say.body(_REPORTS[route](picture, cursor))

    def _do(self, verb: Verb, fields: Mapping[str, Any], digest: bytes, say: _Once) -> None:
        with self._alone(say.token if verb.changes else ""), self._use() as (site, _):
            say.body(self._done(site, verb, fields, digest, say.token))

    def _done(
        self, site: Site, verb: Verb, fields: Mapping[str, Any], digest: bytes, token: str
    ) -> Mapping[str, Any]:
        """Do it, unless it was done already, and return what is to be answered."""
        if not verb.changes:
            return verb.does(site, fields)
        if token and (before := site.ledger.orders.answered(token)):
            if before[0] != digest:
                raise _token_used(token)
            return before[1]
        body = verb.does(site, fields)
        if token:
            site.ledger.orders.remember(token, digest, body)
        self._board.forget()
        return body

    # Posting

    def _post(self, posting: Posting, digest: bytes, say: _Once) -> None:
        if posting.part:
            self._later(functools.partial(self._add_part, posting, digest, say), say)
        else:
            self._poster.put(Order(posting=posting, token=say.token, digest=digest, answer=say))

    def _add_part(self, posting: Posting, digest: bytes, say: _Once) -> None:
        part: Part | None = posting.part
        assert part
        order = Order(
            posting=posting, token=say.token, digest=digest, answer=say, also=f"upload {part.upload}"
        )
        with self._alone(order.also), self._use() as (site, bodies):
            self._add(site, bodies, order, part, say)

    def _add(self, site: Site, bodies: Bodies, order: Order, part: Part, say: _Once) -> None:
        if site.ledger.orders.answered(order.also):
            self._poster.do(site, bodies, [order])
            return
        upload = Uploads(site.folder).of(part.upload)
        upload.add(part)
        missing = upload.missing()
        if missing or not upload.is_begun():
            body = {"upload": part.upload, "missing": missing[:SHOWN], "missingCount": len(missing)}
            say.body(body, 202)
            return
        wanted, size = upload.whole()
        order.bodies.append(body_of(site, wanted, size=size, write=upload.copy))
        self._poster.do(site, bodies, [order])
        if site.ledger.orders.answered(order.also):
            upload.remove()

    # Parts

    @contextmanager
    def _alone(self, token: str) -> Iterator[None]:
        """Work while nobody else works for that token: its twin finds what was done."""
        with self._changed:
            self._changed.wait_for(lambda: token not in self._tokens)
            if token:
                self._tokens.add(token)
        try:
            yield
        finally:
            with self._changed:
                self._tokens.discard(token)
                self._changed.notify_all()

    @contextmanager
    def _use(self) -> Iterator[tuple[Site, Bodies]]:
        """Work on what there is, which stays meanwhile; waits a moment for it. Raises Rejected."""
        with self._changed:
            patience = self._absent_since + PATIENCE_SECONDS - self._clock.steady()
            self._changed.wait_for(lambda: self._site or self._closing, max(0.0, patience))
            if self._site is None or self._bodies is None:
                raise _started_anew()
            found = self._site, self._bodies
            self._users += 1
        try:
            yield found
        finally:
            with self._changed:
                self._users -= 1
                self._changed.notify_all()

    def _picture(self) -> Picture | None:
        if self._site is None:
            return None
        with self._use() as (site, _):
            return look(site, self._faults)

    def _record(self, site: Site, kind: str, body: Mapping[str, Any]) -> None:
        try:
            site.ledger.events.record(kind, body, now=site.clock.wall())
        except TidegateError as err:  # the agent finds out, too
            log.warning("an event could not be kept: %s", err)

    def _later(self, job: Callable[[], None], say: _Once) -> None:
        try:
            self._queue.put_nowait(functools.partial(_guarded, job, say))
        except queue.Full:
            raise Rejected(503, "Busy", f"{WAITING} requests wait already; ask again later") from None

    def _work(self) -> None:
        while (job := self._queue.get()) is not None:
            job()


class _Once:
    """The answer to one request: the first one counts, and there is none after it."""

    def __init__(self, answer: Answer) -> None:
        self._answer = answer
        self._lock = threading.Lock()
        self._said = False
        self.token = ""

    def __call__(self, reply: Reply) -> None:
        with self._lock:
            if self._said:
                return
            self._said = True
        if (size := len(reply.json())) > REPLY_BYTES:  # a nucleus would hang up
            log.error("an answer of %d bytes cannot be given", size)
            reply = rejected(Rejected(500, "Failed", "the answer is too large for a message"), self.token)
        try:
            self._answer(reply)
        except Exception:  # a door that is gone must not take others with it
            log.exception("an answer could not be given")

    def body(self, body: Mapping[str, Any], status: int = 200) -> None:
        self(accepted(body, self.token, status))

    def failed(self, err: Exception) -> None:
        if not isinstance(err, Rejected):
            err = failure(err)
        self(rejected(err, self.token))


def _guarded(job: Callable[[], None], say: _Once) -> None:
    try:
        job()
    except Exception as err:  # noqa: BLE001 - whatever it is becomes the answer
        say.failed(err)


def _digest(route: str, raw: Mapping[str, Any]) -> bytes:
    """Tell the same request from another one. How long to wait makes no difference."""
    asked = {name: value for name, value in raw.items() if name.lower() != "waitseconds"}
    return hashlib.blake2b(route.encode() + packed(sorted(asked.items())), digest_size=16).digest()


def _unknown(route: str) -> Rejected:
    return Rejected(404, "NotFound", f'"{route[:80]}" is no route; write one of {", ".join(Routes.verbs)}')


def _token_used(token: str) -> Rejected:
    return Rejected(409, "Conflict", f'clientToken: "{token}" was that of another request; write a new one')


def _started_anew() -> Rejected:
    return Rejected(503, "Unavailable", "the agent is being started anew; ask again in some seconds")
