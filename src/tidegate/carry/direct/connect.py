"""From settings and the environment to a client of S3."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tidegate.errors import Unavailable
from tidegate.store.credentials import Keyring, assumed, issuer
from tidegate.store.endpoints import Endpoint
from tidegate.store.s3 import S3
from tidegate.store.wire import Manner, Proxy, proxy_for

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from tidegate.config import S3Settings
    from tidegate.store.wire import Address

REGION = "us-east-1"
"""What is signed for where nobody names a region: compatible stores take it, and S3 tells the right one."""


def connect(settings: S3Settings, environment: Mapping[str, str], *, thing: str) -> S3:
    """Make a client. Nothing is asked over the network yet."""
    endpoint, keyring, manner = way_to(settings, environment, thing=thing)
    return S3(endpoint, keyring, manner=manner)


def way_to(
    settings: S3Settings, environment: Mapping[str, str], *, thing: str
) -> tuple[Endpoint, Keyring, Callable[[Address], Manner]]:
    """Find out where S3 is, who we are there, and how it is talked to."""
    region = (
        settings.region or environment.get("AWS_REGION") or environment.get("AWS_DEFAULT_REGION") or REGION
    )
    endpoint = Endpoint(
        region=region,
        url=settings.endpoint_url,
        addressing=settings.addressing,
        dualstack=settings.dualstack,
        fips=settings.fips,
    )
    ca_bundle = settings.ca_bundle or environment.get("AWS_CA_BUNDLE")
    issue = issuer(environment)
    if settings.role_arn:
        session = f"tidegate-{thing}".replace(":", "-")[:64]
        issue = assumed(issue, settings.role_arn, region=region, session_name=session, ca_bundle=ca_bundle)

    def manner(address: Address) -> Manner:
        return Manner(
            connect_seconds=settings.connect_seconds,
            read_seconds=settings.read_seconds,
            ca_bundle=ca_bundle,
            proxy=_proxy(settings.proxy, address, environment),
        )

    return endpoint, Keyring(issue), manner


def _proxy(written: str | None, address: Address, environment: Mapping[str, str]) -> Proxy | None:
    if written == "direct":
        return None
    if written:
        return Proxy.of(written)
    try:
        return proxy_for(address, environment)
    except ValueError as error:
        raise Unavailable(f"the environment names a proxy that is none: {error}") from error
