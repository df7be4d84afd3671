"""One signed request to S3, from what is asked to an answer that is not an error."""

from __future__ import annotations

import calendar
import re
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import tidegate
from tidegate.errors import Refused, Unavailable
from tidegate.store.endpoints import place_of
from tidegate.store.errors import STALE_CREDENTIALS, Kind, S3Error, error_of
from tidegate.store.http import Request
from tidegate.store.pool import Pool
from tidegate.store.sigv4 import UNSIGNED, amz_date, encode_key, sign

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from tidegate.store.answers import Answer
    from tidegate.store.body import Buffer
    from tidegate.store.endpoints import Endpoint, Place
    from tidegate.store.sigv4 import Credentials
    from tidegate.store.wire import Address, Manner

_NAME = re.compile(r"[a-z0-9-]+")
_SKEW_SECONDS = 900  # S3 accepts clocks that are wrong by 15 minutes
_AGENT = f"user-agent: tidegate/{tidegate.__version__}\r\n"


class Content(Protocol):
    """What is sent with a request. Nothing but its bytes may change from one call to the next."""

    size: int
    to_the_end: bool
    """Whether `check` is also called while the answer is awaited."""

    def check(self) -> None:
        """Called about each second while nothing can be sent; whatever it raises ends the request."""

    def chunks(self) -> Iterable[Buffer]:
        """All of it, from the beginning each time."""


class Identity(Protocol):
    """Knows who we are."""

    def current(self) -> Credentials:
        """Return credentials that are good now. Raises `Unavailable`."""

    def spoiled(self, credentials: Credentials) -> None:
        """Be told that S3 does not take these any more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Briefing:
    """All that is needed to make requests to one bucket for a while. `ahead` is how far S3's clock is."""

    bucket: str
    place: Place
    manner: Manner
    credentials: Credentials
    ahead: float
    sign_payload: bool


class Caller:
    """Makes requests to one destination: finds the way, signs, and understands a no.

    Raises `Unavailable` when the network, the server or the credentials fail, `Refused` for what can
    never be sent, `S3Error` when S3 says no, and whatever the content raises.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        identity: Identity,
        *,
        manner: Callable[[Address], Manner],
        clock: Callable[[], float],
    ) -> None:
        self._endpoint = endpoint
        self._identity = identity
        self._manner = manner
        self._clock = clock
        self._ahead = 0.0  # how many seconds S3's clock is ahead of ours, where that has mattered
        self._gate = threading.Lock()
        self._places: dict[str, tuple[Place, Pool]] = {}
        self._pools: dict[Address, Pool] = {}
        self._closed = False

    def is_private(self, bucket: str) -> bool:
        """Whether requests to the bucket go through TLS."""
        return self._way(bucket)[0].address.scheme == "https"

    def brief(self, bucket: str, *, sign_payload: bool) -> Briefing:
        """Tell all that is needed to make requests to this bucket elsewhere."""
        place, pool = self._way(bucket)
        return Briefing(
            bucket=bucket,
            place=place,
            manner=pool.manner,
            credentials=self._identity.current(),
            ahead=self._ahead,
            sign_payload=sign_payload,
        )

    def follow(self, briefing: Briefing) -> None:
        """Make requests to this bucket as somebody found out elsewhere."""
        self._ahead = briefing.ahead
        place, _ = self._places.get(briefing.bucket, (None, None))
        if place != briefing.place:
            pool = Pool(briefing.place.address, briefing.manner)
            self._places[briefing.bucket] = briefing.place, pool

    def call(
        self,
        method: str,
        bucket: str,
        key: str,
        *,
        query: str = "",
        headers: Mapping[str, str],
        content: Content,
        payload: str = UNSIGNED,
    ) -> Answer:
        """Make a request. `query` is encoded, `headers` are in lower case, `payload` is what `sign` takes."""
        place, pool = self._way(bucket)
        target = _target(place, key)
        credentials = self._identity.current()
        fields = {"x-amz-content-sha256": payload, **headers}
        lines = self._signed(method, place, target, query, fields, credentials)
        answer = pool.exchange(
            Request(
                method=method,
                target=f"{target}?{query}" if query else target,
                head=f"{lines}content-length: {content.size}\r\n{_AGENT}",
                chunks=content.chunks,
                check=content.check,
                to_the_end=content.to_the_end,
                repeatable=method != "POST",
            )
        )
        if 200 <= answer.status < 300 and not _is_hidden_error(method, answer):
            return answer
        raise self._understood(method, answer, credentials)

    def close(self) -> None:
        """Hang up: requests under way fail with `Unavailable`, and so do later ones."""
        with self._gate:
            self._closed = True
            for pool in self._pools.values():
                pool.close()

    def _signed(
        self,
        method: str,
        place: Place,
        target: str,
        query: str,
        fields: Mapping[str, str],
        credentials: Credentials,
    ) -> str:
        """Sign the request as of now, and return its headers as they are sent."""
        signed = {"x-amz-date": amz_date(int(self._clock() + self._ahead)), **fields}
        if credentials.token:
            signed["x-amz-security-token"] = credentials.token
        lines = "".join([f"{name}: {value}\r\n" for name, value in signed.items()])
        signed["host"] = place.address.authority
        authorization = sign(
            method=method,
            path=target,
            query=query,
            headers=signed,
            payload=fields["x-amz-content-sha256"],
            credentials=credentials,
            region=place.region,
        )
        return f"{lines}authorization: {authorization}\r\n"

    def _way(self, bucket: str) -> tuple[Place, Pool]:
        """Find the place of a bucket, once, and the connections that lead there."""
        known = self._places.get(bucket)
        if known is not None:
            return known
        with self._gate:
            if self._closed:
                raise Unavailable("the destination was closed")
            place = place_of(bucket, self._endpoint)
            pool = self._pools.get(place.address)
            if pool is None:
                pool = self._pools[place.address] = Pool(place.address, self._manner(place.address))
            self._places[bucket] = place, pool
            return place, pool

    def _understood(self, method: str, answer: Answer, credentials: Credentials) -> S3Error:
        """Make the error, and learn from it."""
        error = error_of(answer)
        code, kind = error.code, error.kind
        ahead = self._clock_of(answer) - self._clock()
        is_mute = method == "HEAD"  # it is answered without a reason; we take the likeliest
        far_off = abs(ahead - self._ahead) > _SKEW_SECONDS
        if code == "RequestTimeTooSkewed" or (is_mute and answer.status == 403 and far_off):
            self._ahead, kind = ahead, Kind.AGAIN
        elif is_mute and answer.status == 400:
            code, kind = "ExpiredToken", Kind.AGAIN
        if code in STALE_CREDENTIALS:
            self._identity.spoiled(credentials)
        return S3Error(kind, error.status, error.code, error.message, error.request_id)

    def _clock_of(self, answer: Answer) -> float:
        """What time it is according to the server; what we believe if it does not say."""
        try:
            said = time.strptime(answer.headers.get("date", ""), "%a, %d %b %Y %H:%M:%S GMT")
        except ValueError:
            return self._clock() + self._ahead
        return float(calendar.timegm(said))


def refuse_odd_headers(headers: Mapping[str, str]) -> None:
    """Raise `Refused` for what cannot be a header: S3 takes no more than printable ASCII."""
    for name, value in headers.items():
        if not _NAME.fullmatch(name) or not (value.isascii() and value.isprintable()):
            raise Refused(f"the header {name!r} cannot be sent: {value!r} is not printable ASCII")


def _target(place: Place, key: str) -> str:
    """The path of a request. Raises `Refused` for a key that S3 cannot have."""
    try:
        return f"{place.path}/{encode_key(key)}"
    except UnicodeEncodeError as error:
        raise Refused(f"the key {key!r} is not text: {error.reason}") from error


def _is_hidden_error(method: str, answer: Answer) -> bool:
    """S3 may say 200 to a completion, then find that it fails, and say so in the body."""
    return method == "POST" and b"<Error" in answer.body
