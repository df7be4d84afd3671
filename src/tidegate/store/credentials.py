"""Who we are to AWS, and renewing that in time.

Where the environment names a token exchange (Greengrass does, as do containers on ECS and EKS), that is
asked and nothing else: a forgotten ~/.aws must not win over the role of the device, nor take its place
while the exchange is away. Otherwise it is the standard chain, as botocore walks it; keys in the
environment come first in that, and are taken without loading 20 MB of botocore.
"""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

from tidegate.errors import Unavailable
from tidegate.store.exchange import RELATIVE_HOST, Issued, ask_exchange, issued_of
from tidegate.store.hub import aside
from tidegate.store.sigv4 import Credentials

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

HANDED_OUT = "TIDEGATE_HANDED_OUT_CREDENTIALS"
"""Names a file with credentials in what `issuer` reads. The agent puts it there, not the environment."""

_RENEW_SECONDS = 300.0  # this long before they expire
_RENEW_AT_LATEST_SECONDS = 1800.0  # a clock that is behind makes credentials look better than they are
_ASK_AGAIN_SECONDS = 5.0
_UNKNOWN_SECONDS = 60.0
_LOOK_AGAIN_SECONDS = 20.0
_LOST_SECONDS = 60.0  # who has not answered by then is asked anew


class Keyring:
    """Holds credentials and renews them before they expire. Safe to use from several threads.

    `issue` fetches some and may raise anything; it is called by one thread of its own at a time. Who
    asks waits for it for at most `patience_seconds`, and only if there is nothing that may still be good.
    After a failure it is not called for some seconds, in which everybody gets the same answer.
    `clock` is what the device believes the time is, `steady` only ever grows.
    """

    def __init__(
        self,
        issue: Callable[[], Issued],
        *,
        clock: Callable[[], float] = time.time,
        steady: Callable[[], float] = time.monotonic,
        patience_seconds: float = 15.0,
    ) -> None:
        self._issue = issue
        self._clock = clock
        self._steady = steady
        self._patience_seconds = patience_seconds
        self._news = threading.Condition()
        self._held: Credentials | None = None
        self._renew_at = 0.0  # by the steady clock, as the next three
        self._expires_at = 0.0
        self._ask_at = self._asked_at = float("-inf")
        self._asking = False
        self._trouble = ""

    def current(self) -> Credentials:
        """Return credentials that are good as far as one can tell. Raises `Unavailable`, with the reason."""
        held = self._held
        if held is not None and self._steady() < self._renew_at:
            return held
        return aside(self._renewed)

    def spoiled(self, credentials: Credentials) -> None:
        """Be told that these are not accepted any more: they are not given out again, unless issued again."""
        with self._news:
            if credentials == self._held:
                self._held = None
                self._trouble = "S3 does not accept the last ones any more"

    def _renewed(self) -> Credentials:
        """Have new ones fetched, and wait for them if there is nothing else."""
        with self._news:
            self._ask_if_due()
            if self._held is not None and self._steady() < self._expires_at:
                return self._held
            self._news.wait_for(lambda: not self._asking, self._patience_seconds)
            if self._held is not None and self._steady() < self._expires_at:
                return self._held
            if self._asking:
                raise Unavailable(f"no AWS credentials came within {self._patience_seconds:g} seconds")
            raise Unavailable(f"no AWS credentials: {self._trouble}")

    def _ask_if_due(self) -> None:
        now = self._steady()
        if now < self._ask_at or (self._asking and now < self._asked_at + _LOST_SECONDS):
            return
        self._asking, self._asked_at = True, now
        threading.Thread(target=self._ask, name="credentials", daemon=True).start()

    def _ask(self) -> None:
        """Fetch credentials. Whatever goes wrong is told to those who ask; TES is known to answer `null`."""
        try:
            issued, trouble = self._issue(), ""
        except Exception as error:  # noqa: BLE001 - botocore raises anything from TypeError on
            issued, trouble = None, str(error) if isinstance(error, Unavailable) else repr(error)
        with self._news:
            now = self._steady()
            self._asking = False
            self._trouble = trouble
            self._ask_at = now + _ASK_AGAIN_SECONDS
            if issued is not None:
                self._hold(issued, now)
            self._news.notify_all()

    def _hold(self, issued: Issued, now: float) -> None:
        left = float("inf") if issued.expires is None else issued.expires - self._clock()
        if left <= 0:  # fresh, and expired by our clock: it is the clock that is wrong
            left = 2 * _UNKNOWN_SECONDS
        self._held = issued.credentials
        self._expires_at = now + left
        self._renew_at = now + min(max(left - _RENEW_SECONDS, left / 2), _RENEW_AT_LATEST_SECONDS)


def issuer(environment: Mapping[str, str]) -> Callable[[], Issued]:
    """Find out where this environment wants credentials to be taken from. Nothing is asked yet."""
    if path := environment.get(HANDED_OUT):
        return lambda: handed_out(Path(path), time.time())
    url = environment.get("AWS_CONTAINER_CREDENTIALS_FULL_URI")
    relative = environment.get("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI")
    if relative:
        url = RELATIVE_HOST + relative
    if url:
        return lambda: ask_exchange(url, environment)
    key, secret = environment.get("AWS_ACCESS_KEY_ID"), environment.get("AWS_SECRET_ACCESS_KEY")
    if key and secret:
        token = environment.get("AWS_SESSION_TOKEN") or environment.get("AWS_SECURITY_TOKEN") or ""
        return lambda: Issued(Credentials(access_key=key, secret_key=secret, token=token))
    return _from_chain


def handed_out(path: Path, now: float) -> Issued:
    """Read what was put there for us. It is read again soon: others may take its place before it expires."""
    try:
        said = json.loads(path.read_text("utf-8"))
        issued = issued_of(said["AccessKeyId"], said["SecretAccessKey"], said["Token"], said["Expiration"])
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise Unavailable("the mothership has handed out none yet") from error
    if issued.expires is None or issued.expires <= now:
        raise Unavailable("those from the mothership have expired")
    return Issued(issued.credentials, min(issued.expires, now + _LOOK_AGAIN_SECONDS))


def assumed(
    issue: Callable[[], Issued],
    role_arn: str,
    *,
    region: str,
    session_name: str,
    endpoint_url: str | None = None,
    ca_bundle: str | None = None,
) -> Callable[[], Issued]:
    """Take on another role, with the credentials that `issue` fetches, by way of STS."""

    def assume() -> Issued:
        import botocore.config  # type: ignore[import-untyped]  # noqa: PLC0415 - heavy, and few need it
        import botocore.session  # type: ignore[import-untyped]  # noqa: PLC0415

        own = issue().credentials
        client = botocore.session.Session().create_client(
            "sts",
            region_name=region,
            endpoint_url=endpoint_url,
            verify=ca_bundle,
            aws_access_key_id=own.access_key,
            aws_secret_access_key=own.secret_key,
            aws_session_token=own.token or None,
            config=botocore.config.Config(
                connect_timeout=5, read_timeout=10, retries={"total_max_attempts": 1}
            ),
        )
        try:
            answer = client.assume_role(RoleArn=role_arn, RoleSessionName=session_name)["Credentials"]
        finally:
            client.close()
        return issued_of(
            answer["AccessKeyId"], answer["SecretAccessKey"], answer["SessionToken"], answer["Expiration"]
        )

    return assume


def _from_chain() -> Issued:
    """Walk the standard chain: files, profiles, SSO, processes, roles of machines."""
    import botocore.session  # noqa: PLC0415 - heavy, and not needed on Greengrass

    found = botocore.session.Session().get_credentials()
    if found is None:
        raise Unavailable("none of the usual places has any (environment, ~/.aws, the role of the machine)")
    frozen = found.get_frozen_credentials()
    if not frozen.access_key or not frozen.secret_key:
        raise Unavailable("what was found is incomplete")
    renewed = getattr(found, "_expiry_time", None)
    return issued_of(frozen.access_key, frozen.secret_key, frozen.token or "", renewed)
