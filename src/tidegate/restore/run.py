"""Runs one job, step by step. It may be stopped anywhere, also by a kill -9, and goes on from its journal.

    READING     the selection is being written down by whoever orders the job
    PLANNING    `plan`
    REQUESTING  `direct` or `batch`
    WAITING     `watch`; and `fetch`, as objects become ready
    FETCHING    `fetch`, until all is here
    ENDED       one event has told so

The notes of a job, beside its objects: `plan`, `percent`, `failed` and `status` as they were told last,
`sequence` of the last event, `tier` now, `began` and `last` (when it was asked first and last), `look` (when
to look again), `share` (how much of what is under way has come), `rounds` (how often lost requests were
repeated), `trouble`, `batches` (see `batch`), `eta`, `refused` (since when there is no capacity).
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from tidegate.errors import Refused, Unavailable
from tidegate.restore import progress, watch
from tidegate.restore.decide import DAY, MINUTE, still, window
from tidegate.restore.nouns import Kind, Phase, State, Status
from tidegate.restore.plan import plan
from tidegate.restore.sinks import deliver
from tidegate.store.errors import Kind as Fault
from tidegate.store.errors import S3Error

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tidegate.restore.batch import Batches
    from tidegate.restore.direct import Sender, Sent
    from tidegate.restore.fetch import Fetcher
    from tidegate.restore.journal import Journal, Listed
    from tidegate.restore.look import Looker
    from tidegate.restore.pace import Pace
    from tidegate.restore.sinks import Sink
    from tidegate.store.archive_calls import Found

SLICE_SECONDS = 5.0
"""How long a step sends, or fetches, before it lets others see how far it is."""

CAPACITY_SECONDS = 10 * MINUTE
"""How long Expedited is asked for while there is no capacity, before the job goes on with its fallback."""

TOO_MANY = "MoreThanAllowed"
"""The code of a job that has ended because there was more to be asked for than it may."""

AWAY_SECONDS = 10.0
_WORTH_FETCHING = 0.05
_LISTING_PRICE = 12.5  # in questions for one object
_ROUNDS = 3
_LOST = ("NotRestored", "S3 took the request several times, and then nothing was under way")

log = logging.getLogger(__name__)


def too_many(requests: int, most: int) -> str:
    """Say why nothing is asked for."""
    return f"{requests} objects would have to be asked for, and --most allows {most}; nothing was asked for"


class _Over(Exception):  # noqa: N818 - it is no mishap
    """The job has ended in the middle of a step."""


@dataclass(slots=True, kw_only=True)
class Tools:
    """What a job is run with. `wall` is in seconds since 1970."""

    wall: Callable[[], float]
    looker: Looker
    sinks: Sequence[Sink] = ()
    sender: Sender | None = None
    pace: Pace | None = None
    batches: Batches | None = None
    fetcher: Fetcher | None = None
    slice_seconds: float = SLICE_SECONDS


class Run:
    """One job. One process runs it at a time."""

    def __init__(self, journal: Journal, tools: Tools, listed: Callable[[], Listed] | None = None) -> None:
        """`listed` opens a selection by key, if there is one."""
        self._journal = journal
        self._tools = tools
        self._spec = journal.spec
        self._listed = listed

    def step(self) -> float | None:
        """Do what is due; return the seconds until the next step, None after the last.

        Raises `LedgerLost`, and nothing that is to be expected of S3.
        """
        phase = self._journal.phase()
        if phase is Phase.ENDED:
            if self._tools.fetcher is not None:
                self._tools.fetcher.clear()
            return None if deliver(self._journal, self._tools.sinks) else AWAY_SECONDS
        try:
            self._check()
            wait = self._steps[phase](self)
        except _Over:
            wait = 0.0
        except Unavailable as error:
            self._note(trouble=str(error))
            wait = AWAY_SECONDS
        except (S3Error, Refused) as error:
            wait = self._refused(error)
        deliver(self._journal, self._tools.sinks)
        return wait

    def _check(self) -> None:
        """End the job if that is wished, or its time is over; raise `_Over` then."""
        if self._journal.wish() == "cancel":
            self._cancel()
            raise _Over
        if self._tools.wall() > self._spec.created + self._spec.timeout:
            self._end(Status.TIMEOUT, "not everything was restored in time")
            raise _Over

    def _refused(self, error: S3Error | Refused) -> float:
        if isinstance(error, S3Error) and error.kind is Fault.AGAIN:
            self._note(trouble=str(error))
            return AWAY_SECONDS
        self._end(Status.FAILED, str(error), code=getattr(error, "code", ""))
        return 0.0

    def _cancel(self) -> None:
        if self._tools.batches is not None:
            self._tools.batches.cancel()
        self._end(Status.CANCELLED, "somebody has cancelled it; what S3 was asked for is still restored")

    def _read(self) -> float:
        self._end(Status.FAILED, "its selection was not read to the end; create it anew")
        return 0.0

    def _plan(self) -> float:
        listed = self._listed() if self._listed else None
        try:
            made = plan(
                self._spec,
                self._journal,
                self._tools.looker,
                listed,
                now=self._tools.wall(),
                check=self._check,
            )
        finally:
            if listed is not None:
                listed.close()
        kinds = [int(kind) for kind in made.kinds]
        said = made.as_json(self._spec.rate)
        price = made.pages * _LISTING_PRICE + made.heads
        self._note(plan=said, kinds=kinds, tier=self._spec.tier, price=price, trouble="")
        counts = self._journal.counts()
        if not counts.total:
            self._end(Status.FAILED, "nothing is there that was selected", code="NothingSelected")
            return 0.0
        if self._spec.most is not None and counts.wanted > self._spec.most:
            self._end(Status.FAILED, too_many(counts.wanted, self._spec.most), code=TOO_MANY)
            return 0.0
        self._journal.note({}, phase=Phase.REQUESTING)
        self._tell(Status.RESTORING)
        return 0.0

    def _request(self) -> float:
        notes, now = self._journal.notes(), self._tools.wall()
        if "began" not in notes:
            self._note(began=now)
        if self._tools.batches is not None:
            wait = self._by_batch()
            if wait is not None:
                self._tell(Status.RESTORING)
                return wait
        elif self._tools.sender is not None:
            tier = notes["tier"]
            sent = self._tools.sender.run(seconds=self._tools.slice_seconds, tier=tier, days=self._spec.days)
            self._note(trouble=sent.trouble, last=self._tools.wall())
            self._tell(Status.RESTORING)
            if not sent.is_done:
                return self._not_done(sent, notes)
        self._wait_from(self._tools.wall())
        return 0.0

    def _by_batch(self) -> float | None:
        assert self._tools.batches is not None
        wait = self._tools.batches.step(self._journal.notes())
        if self._tools.batches.failure:
            self._end(Status.FAILED, self._tools.batches.failure, code="BatchJobFailed")
            raise _Over
        if self._tools.batches.is_cancelled:
            self._end(Status.CANCELLED, "the batch job was cancelled")
            raise _Over
        return wait

    def _not_done(self, sent: Sent, notes: dict[str, Any]) -> float:
        """Decide how to go on after a run that has not sent everything."""
        if sent.blocked is not None:
            self._end(Status.FAILED, str(sent.blocked), code=sent.blocked.code)
            return 0.0
        if sent.no_capacity:
            return self._without_capacity(notes)
        return AWAY_SECONDS if sent.trouble else 0.0

    def _without_capacity(self, notes: dict[str, Any]) -> float:
        now = self._tools.wall()
        since = notes.get("refused", now)
        if self._spec.fallback and now - since >= CAPACITY_SECONDS:
            self._note(tier=self._spec.fallback, trouble="", refused=None)
            return 0.0
        self._note(refused=since, trouble="S3 has no capacity for Expedited at the moment")
        return MINUTE / 2

    def _wait_from(self, now: float) -> None:
        """Begin to wait. Nothing will be there before the tier's least time, but what others began."""
        notes, counts = self._journal.notes(), self._journal.counts()
        first, longest = self._window(notes)
        soon = progress.look_seconds(longest)
        pause = soon if counts.already or not counts.asked else max(first, soon)
        pause = min(pause, self._spec.poll or pause)
        look = now if not counts.waiting else now + pause
        self._journal.note({"last": now, "look": look}, phase=Phase.WAITING)

    def _wait(self) -> float:
        notes, now = self._journal.notes(), self._tools.wall()
        if self._tools.fetcher is not None and self._journal.counts().ready:
            self._fetch_some()
        if now < notes["look"]:
            return min(float(notes["look"] - now), self._pause(notes))
        counts = self._journal.counts()
        part = self._look(notes) if counts.waiting else 1.0
        counts = self._journal.counts()
        self._note(share=part, trouble="", look=now + self._pause(notes))
        if counts.wanted:
            return self._ask_again(notes)
        if counts.waiting:
            self._tell(Status.RESTORING)
            return self._pause(notes)
        self._journal.note({}, phase=Phase.FETCHING)
        return 0.0

    def _look(self, notes: dict[str, Any]) -> float:
        """Look how far it is, in the cheaper of two ways; at all that is left if that may be the end.

        Returns the part that has come of what is still under way by the journal.
        """
        _, others = self._journal.sample()
        part = 0.0
        exact = notes.get("price", 0.0) <= len(others)
        if not exact:
            part, is_coming = watch.share(self._journal, self._tools.looker, self._judge(notes))
            exact = not is_coming or (self._tools.fetcher is not None and part >= _WORTH_FETCHING)
        if exact:
            looker = self._tools.looker
            before = looker.pages * _LISTING_PRICE + looker.heads
            watch.exact(self._journal, looker, self._judge(notes), salt=self._spec.id, check=self._check)
            self._note(price=looker.pages * _LISTING_PRICE + looker.heads - before)
            part = 0.0
        return part

    def _judge(self, notes: dict[str, Any]) -> Callable[[Found | None, State], State]:
        now, spec = self._tools.wall(), self._spec
        asked, first = notes.get("began", spec.created), self._window(notes)[0]
        lengthens = self._tools.sender is not None

        def judge(found: Found | None, before: State) -> State:
            state = still(found, now=now, asked=asked, days=spec.days, first=first)
            if state is State.ASKED:
                return before
            is_short = (
                found is not None
                and found.expires is not None
                and found.expires < spec.created + spec.days * DAY
            )
            # Somebody else's restore may end too soon for us: asked again, it is lengthened.
            return State.WANTED if is_short and before is State.ALREADY and lengthens else state

        return judge

    def _ask_again(self, notes: dict[str, Any]) -> float:
        rounds = notes.get("rounds", 0) + 1
        if rounds > _ROUNDS:
            watch.give_up(self._journal, _LOST)
            return 0.0
        self._journal.note({"rounds": rounds}, phase=Phase.REQUESTING)
        return 0.0

    def _fetch(self) -> float:
        if self._tools.fetcher is not None:
            done = self._fetch_some(State.READY, State.OPEN)
            if not done:
                self._tell(Status.RESTORING)
                return AWAY_SECONDS if self._tools.fetcher.trouble else 0.0
        counts = self._journal.counts()
        if counts.wanted:  # its copy was gone before it was fetched
            return self._ask_again(self._journal.notes())
        if counts.failed == counts.total:
            code = next(iter(self._journal.failure_codes()), "")
            self._end(Status.FAILED, "nothing of it can be restored", code=code)
        else:
            self._end(Status.COMPLETE)
        return 0.0

    def _fetch_some(self, *states: State) -> bool:
        assert self._tools.fetcher is not None
        done = self._tools.fetcher.run(
            *(states or (State.READY,)), seconds=self._tools.slice_seconds, check=self._check
        )
        self._note(trouble=self._tools.fetcher.trouble, unproven=self._tools.fetcher.unproven)
        return done

    def _window(self, notes: dict[str, Any]) -> tuple[float, float]:
        kinds = [Kind(number) for number in notes.get("kinds", ())]
        by_batch = self._tools.batches is not None
        return window(notes.get("tier", self._spec.tier), kinds, by_batch=by_batch)

    def _pause(self, notes: dict[str, Any]) -> float:
        pause = progress.look_seconds(self._window(notes)[1])
        return min(pause, self._spec.poll or pause)

    def _note(self, **notes: Any) -> None:
        self._journal.note(notes)

    def _tell(self, status: Status, reason: str = "", code: str = "") -> None:
        """Make an event if there is anything new to tell, and keep in mind how far it is."""
        notes, counts, now = self._journal.notes(), self._journal.counts(), self._tools.wall()
        shown = progress.percent(counts, notes.get("share", 0.0), notes.get("percent", 0))
        shown = 100 if status is Status.COMPLETE else shown
        batch_ids = ",".join(it["id"] for it in notes.get("batches", ()) if it.get("id"))
        told = [status.value, shown, counts.failed, batch_ids]
        rate = self._tools.pace.rate if self._tools.pace is not None else self._spec.rate
        last = now if counts.wanted else notes.get("last", now)
        eta = progress.left(
            counts,
            notes.get("share", 0.0),
            now=now,
            began=notes.get("began", now),
            last=last,
            rate=rate,
            longest=self._window(notes)[1],
        )
        eta = eta if status is Status.RESTORING else 0.0
        if told == notes.get("told"):
            self._note(eta=eta)
            return
        sequence = notes.get("sequence", 0) + 1
        detail = {
            "eventId": f"{self._spec.id}-{sequence}",
            "time": now,
            "counts": counts.as_json(),
            "etaSeconds": round(eta),
            "tier": notes.get("tier", self._spec.tier),
        }
        extra = {"clientTag": self._spec.tag, "reason": reason, "code": code, "trouble": notes.get("trouble")}
        detail |= {name: value for name, value in extra.items() if value}
        event = progress.event(self._spec, status, shown, counts.failed, batch_ids, detail)
        self._journal.note(
            {
                "told": told,
                "percent": shown,
                "sequence": sequence,
                "eta": eta,
                "status": status.value,
                "reason": reason,
                "code": code,
            },
            phase=None if status is Status.RESTORING else Phase.ENDED,
            event=event,
            sinks=len(self._tools.sinks),
        )

    def _end(self, status: Status, reason: str = "", code: str = "") -> None:
        """Tell the end; in the same transaction, the job has ended."""
        self._tell(status, reason, code)
        if self._tools.fetcher is not None:
            self._tools.fetcher.clear()

    _steps: ClassVar[dict[Phase, Callable[[Run], float | None]]] = {
        Phase.READING: _read,
        Phase.PLANNING: _plan,
        Phase.REQUESTING: _request,
        Phase.WAITING: _wait,
        Phase.FETCHING: _fetch,
    }
