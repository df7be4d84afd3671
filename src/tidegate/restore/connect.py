"""From the settings of a job and the environment to ways to AWS."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tidegate.errors import ConfigFaults
from tidegate.store.archive_calls import Archive
from tidegate.store.calls import Caller
from tidegate.store.control import Control
from tidegate.store.credentials import Keyring, assumed, issuer
from tidegate.store.endpoints import Endpoint
from tidegate.store.messages import Messages
from tidegate.store.s3 import S3
from tidegate.store.wire import Manner, Proxy, proxy_for

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from tidegate.store.wire import Address

SETTINGS = (
    *("region", "endpoint_url", "addressing", "ca_bundle", "proxy", "role_arn"),
    *("account", "control_url", "messages_url"),
)
"""What a job may say of its ways: texts, all of them optional."""


@dataclass(frozen=True, slots=True)
class Ways:
    """Clients that share who we are. Nothing is asked over the network before one is used."""

    archive: Archive
    s3: S3
    messages: Messages
    manner: Callable[[Address], Manner]
    control: Control | None

    def close(self) -> None:
        """Hang up."""
        for client in (self.archive, self.s3, self.messages, self.control):
            if client is not None:
                client.close()


def connect(
    settings: Mapping[str, Any], environment: Mapping[str, str], *, wall: Callable[[], float]
) -> Ways:
    """Make the clients. `wall` is what the device believes the time is.

    Raises `ConfigFaults` for a proxy that is none.
    """
    region = (
        settings.get("region")
        or environment.get("AWS_REGION")
        or environment.get("AWS_DEFAULT_REGION")
        or "us-east-1"
    )
    ca_bundle = settings.get("ca_bundle") or environment.get("AWS_CA_BUNDLE")
    url = settings.get("endpoint_url") or environment.get("AWS_ENDPOINT_URL_S3")
    url = url or environment.get("AWS_ENDPOINT_URL")
    endpoint = Endpoint(region=region, url=url, addressing=settings.get("addressing") or "auto")
    issue = issuer(environment)
    if role := settings.get("role_arn"):
        issue = assumed(issue, role, region=region, session_name="tidegate-restore", ca_bundle=ca_bundle)
    keyring = Keyring(issue)

    def manner(address: Address) -> Manner:
        return Manner(ca_bundle=ca_bundle, proxy=_proxy(settings.get("proxy"), address, environment))

    control = None
    if account := settings.get("account"):
        control = Control(
            account=account,
            region=region,
            url=settings.get("control_url") or environment.get("AWS_ENDPOINT_URL_S3_CONTROL"),
            identity=keyring,
            manner=manner,
            wall=wall,
        )
    other = settings.get("messages_url") or environment.get("AWS_ENDPOINT_URL")
    return Ways(
        archive=Archive(Caller(endpoint, keyring, manner=manner, clock=wall)),
        s3=S3(endpoint, keyring, manner=manner, clock=wall),
        messages=Messages(keyring, region=region, endpoint_url=other, ca_bundle=ca_bundle),
        manner=manner,
        control=control,
    )


def _proxy(written: str | None, address: Address, environment: Mapping[str, str]) -> Proxy | None:
    if written == "direct":
        return None
    try:
        return Proxy.of(written) if written else proxy_for(address, environment)
    except ValueError as error:
        raise ConfigFaults([f"the proxy cannot be used: {error}"]) from error
