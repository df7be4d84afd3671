"""objects/post, as it is done: many requests at a time, so that what makes them durable is paid for once."""

from __future__ import annotations

import functools
import queue
import threading
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Union

from tidegate.errors import TidegateError, Unavailable
from tidegate.ledger import Post
from tidegate.ledger.posts import tagged
from tidegate.model import State
from tidegate.routes.bodies import as_promised
from tidegate.routes.targets import body_of, files_of
from tidegate.routes.waiting import Waiting
from tidegate.routes.wire import REPLY_BYTES, Rejected, accepted, cut, failure, packed, rejected

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from contextlib import AbstractContextManager
    from typing import BinaryIO

    from tidegate.ledger import Settled
    from tidegate.model import Transfer
    from tidegate.routes.bodies import Bodies, Body
    from tidegate.routes.posting import Posting
    from tidegate.routes.site import Site
    from tidegate.routes.wire import Reply

QUEUED = 2000
"""Requests that may wait to be written down."""

BATCH = 128
ETAGS = 10_000
"""ETags that are remembered, for requests that come twice."""
TICK_SECONDS = 0.5
_STORED = (State.STORED, State.DONE)
_WORDS = {
    State.READY: "waiting",
    State.SENT: "inFlight",
    State.STORED: "stored",
    State.DONE: "stored",
    State.DROPPED: "dropped",
    State.FAILED: "quarantined",
}

Found = tuple["Site", "Bodies"]
_Job = Union["Order", tuple["Order", str], threading.Event, None]


@dataclass(slots=True, kw_only=True)
class Order:
    """One request. `transfers` are those of files; `listed` is what its answer says of each object."""

    posting: Posting
    token: str
    digest: bytes
    answer: Callable[[Reply], None]
    bodies: list[Body] = field(default_factory=list)
    transfers: list[Transfer] = field(default_factory=list)
    listed: list[dict[str, Any]] = field(default_factory=list)
    also: str = ""
    """Another token by which the request is known."""

    def reject(self, error: Rejected) -> None:
        """Answer that it is not done."""
        self.answer(rejected(error, self.token))


class Poster:
    """Writes down what is posted, and answers when it is stored or nobody wants to wait any longer."""

    def __init__(self, use: Callable[[], AbstractContextManager[Found]], steady: Callable[[], float]) -> None:
        """`use` waits for an agent, and raises Rejected where there is none for long."""
        self._use = use
        self._steady = steady
        self._queue: queue.SimpleQueue[_Job] = queue.SimpleQueue()
        self.waiting = Waiting()
        self._etags: dict[str, str] = {}
        self._thread = threading.Thread(target=self._run, name="posts", daemon=True)
        self._thread.start()

    def settled(self, settled: Settled) -> None:
        """Hear what became of promises."""
        if settled.etags:
            self._etags |= {id_.hex(): etag for id_, etag in settled.etags.items()}
            for id_ in list(self._etags)[: max(0, len(self._etags) - ETAGS)]:
                self._etags.pop(id_, None)
        self.waiting.settled(settled)

    def put(self, order: Order) -> None:
        """Have it done. Raises Rejected when too many wait already."""
        if self._queue.qsize() >= QUEUED:
            raise Rejected(503, "Busy", f"{QUEUED} requests wait already; post it again later")
        self._queue.put(order)

    def give_up(self) -> None:
        """Answer who waits with how far it is. They have their answers when this returns: in a second."""
        self.waiting.give_up()
        answered = threading.Event()
        self._queue.put(answered)
        answered.wait(1.0)

    def close(self) -> None:
        """Take nothing more, and answer who waits."""
        self.waiting.give_up()
        self._queue.put(None)
        self._thread.join(5.0)

    def _run(self) -> None:
        ended = False
        while not ended:
            following = self.waiting.expire(self._steady())
            some = self._some(TICK_SECONDS if following is None else max(0.0, min(following, TICK_SECONDS)))
            ended = None in some
            for one in some:
                if isinstance(one, tuple):
                    self._guarded(one[0], self._tell, *one)
                elif isinstance(one, threading.Event):
                    one.set()
            if orders := [one for one in some if isinstance(one, Order)]:
                self._do(orders)

    def _some(self, seconds: float) -> list[_Job]:
        some: list[_Job] = []
        with suppress(queue.Empty):
            some.append(self._queue.get(timeout=seconds))
            while len(some) < BATCH:
                some.append(self._queue.get_nowait())
        return some

    def _do(self, orders: Sequence[Order]) -> None:
        try:
            with self._use() as (site, folder):
                self.do(site, folder, orders)
        except Rejected as err:
            for order in orders:
                order.reject(err)

    def do(self, site: Site, folder: Bodies, orders: Sequence[Order]) -> None:
        """Write down these requests, and answer each, now or later. Raises nothing."""
        mine: dict[object, Order] = {}
        for order in orders:
            if order.token in mine:  # twins: the second one finds what the first has left
                self._queue.put(order)
            elif self._guarded(order, self._prepare, site, order):
                mine[order.token or id(order)] = order
        self._all(site, folder, list(mine.values()))

    def _all(self, site: Site, folder: Bodies, orders: Sequence[Order]) -> None:
        if not orders:
            return
        try:
            self._keep(site, folder, orders)
        except (Unavailable, OSError) as err:
            if len(orders) > 1:  # one that is too large must not keep the others out
                for order in orders:
                    self._all(site, folder, [order])
                return
            orders[0].reject(
                Rejected(507, "NoRoom", f"it cannot be kept: {err}; post it again when there is room")
            )
        except Exception as err:  # noqa: BLE001 - whatever it is becomes the answer
            error = failure(err)
            for order in orders:
                order.reject(error)

    def _guarded(self, order: Order, step: Callable[..., Any], *arguments: Any) -> Any:
        """Do a step for one request; should it fail, the request is answered so, and the others go on."""
        try:
            return step(*arguments)
        except Exception as err:  # noqa: BLE001 - whatever it is becomes the answer
            order.reject(failure(err))
        return False

    def _prepare(self, site: Site, order: Order) -> bool:
        """Find out where the objects go. False: it was written down before, and only an answer is due."""
        for token in filter(None, (order.token, order.also)):
            if (before := site.ledger.orders.answered(token)) is None:
                continue
            digest, answer = before
            if token == order.token and digest != order.digest:
                raise Rejected(
                    409, "Conflict", f'clientToken: "{token}" was that of another request; write a new one'
                )
            order.listed = answer["objects"]
            self._wait(site, order)
            return False
        for wanted in order.posting.wanted:
            if wanted.path:
                order.transfers += files_of(site, wanted)
            else:
                data = wanted.data or b""
                write = functools.partial(_write, data)
                order.bodies.append(body_of(site, wanted, size=len(data), write=write))
        return True

    def _keep(self, site: Site, folder: Bodies, orders: Sequence[Order]) -> None:
        """Make it durable: the bodies, then the promises."""
        bodies = [body for order in orders for body in order.bodies]
        kept = iter(folder.keep(bodies) if bodies else ())
        posts = []
        for order in orders:  # what is kept stands in no order: it may have to be kept once more
            made = [as_promised(next(kept), body, site.choose(body.source)[0]) for body in order.bodies]
            transfers = [*order.transfers, *made]
            order.listed = [_describe(transfer) for transfer in transfers]
            tokens = tuple(filter(None, (order.token, order.also)))
            posts.append(
                Post(
                    transfers=transfers,
                    tokens=tokens,
                    digest=order.digest,
                    answer={"objects": order.listed},
                )
            )
        site.ledger.posts.offer(posts, now=site.clock.wall())
        site.agent.send_now()
        for order in orders:
            if order.posting.wait == 0 and not order.transfers:
                self._guarded(order, self._tell, order, "new")  # nobody waits, and nothing is to be asked
            else:
                self._guarded(order, self._wait, site, order)

    def _wait(self, site: Site, order: Order) -> None:
        """Answer when all of it is stored, or its time is over."""
        ids = [bytes.fromhex(one["id"]) for one in order.listed]
        until = self._steady() + order.posting.wait
        wait = self.waiting.add(ids, until, lambda why: self._queue.put((order, why)))
        stand = site.ledger.posts.stand(ids)  # what was stored before anybody waited is not told again
        over = all(stand.get(id_, (State.DONE, ""))[0] not in (State.READY, State.SENT) for id_ in ids)
        if wait is None:
            self._tell(order, "late", site)
        elif over:
            self.waiting.drop(wait)
            self._tell(order, "over", site)

    def _tell(self, order: Order, why: str, site: Site | None = None) -> None:
        """Answer with where the objects stand: the site of now is looked for, unless it is known."""
        stands = [(State.DONE, "")] * len(order.listed) if why == "stored" else self._stands(order, why, site)
        body = _told(
            [
                one | tagged(self._etags.get(one["id"])) | {"state": _WORDS[stand]}
                for one, (stand, _) in zip(order.listed, stands, strict=True)
            ]
        )
        for state, note in stands:
            if state in (State.FAILED, State.DROPPED):
                words = "refused; it is kept in quarantine, and retry/post tries it again"
                if state is State.DROPPED:
                    words = "gone or changed before it could be stored; post it again"
                error = Rejected(
                    502 if state is State.FAILED else 409, "NotStored", f"{words}: {cut(note, 500)}"
                )
                order.answer(rejected(error, order.token, body))
                return
        done = all(state in _STORED for state, _ in stands)
        order.answer(accepted(body, order.token, 200 if done else 202))

    def _stands(self, order: Order, why: str, site: Site | None) -> list[tuple[State, str]]:
        """Look where the promises of a request stand. What cannot be looked at is durable, and waits."""
        ids = [bytes.fromhex(one["id"]) for one in order.listed]
        if why in ("ended", "new"):
            return [(State.READY, "")] * len(ids)
        try:
            if site:
                notes = site.ledger.posts.stand(ids)
            else:
                with self._use() as (found, _):
                    notes = found.ledger.posts.stand(ids)
        except TidegateError:
            return [(State.READY, "")] * len(ids)
        if why != "late" and any(id_ not in notes for id_ in ids):
            raise Rejected(
                410,
                "Forgotten",
                "clientToken: it was done so long ago that nobody knows; look into the bucket",
            )
        return [notes.get(id_, (State.READY, "")) for id_ in ids]


def _write(data: bytes, file: BinaryIO) -> None:
    file.write(data)


def _describe(transfer: Transfer) -> dict[str, Any]:
    return {
        "id": transfer.id.hex(),
        "bucket": transfer.target.bucket,
        "key": transfer.target.key,
        "size": transfer.body.fingerprint.size,
    }


def _told(objects: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """One object is told at the top, several in a list; of very many only what there is room for."""
    if len(objects) == 1:
        return dict(objects[0])
    body = {"objects": list(objects)}
    if len(packed(body)) > REPLY_BYTES - 1200:
        return {"objects": [{"id": one["id"], "state": one["state"]} for one in objects]}
    return body
