"""Where a bucket is served, and for which region requests to it are signed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlsplit

from tidegate.errors import Refused
from tidegate.store.sigv4 import encode_key
from tidegate.store.wire import Address

if TYPE_CHECKING:
    from collections.abc import Mapping

Addressing = Literal["auto", "path", "virtual"]


@dataclass(frozen=True, slots=True)
class Place:
    """Where the objects of one bucket are. `path` begins the target of every request: "" or "/bucket"."""

    address: Address
    path: str
    region: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """How to find buckets: by the rules of AWS, or at `url`, which alone may be plain HTTP.

    `auto` means the rules of AWS with AWS, and the path with any other `url`: few compatible stores have
    a name in the DNS for each bucket.
    """

    region: str
    url: str | None = None
    addressing: Addressing = "auto"
    dualstack: bool = False
    fips: bool = False


def place_of(bucket: str, endpoint: Endpoint) -> Place:
    """Find the place of a bucket. Costs 20 MB and some 100 ms the first time, without a `url`.

    Raises `Refused` if there is none, with the reason.
    """
    if endpoint.url is None:
        return _by_the_rules(bucket, endpoint)
    try:
        address = Address.of(endpoint.url)
    except ValueError as error:
        raise Refused(str(error)) from error
    base = urlsplit(endpoint.url).path.rstrip("/")
    if endpoint.addressing == "virtual":
        return Place(Address(address.scheme, f"{bucket}.{address.host}", address.port), base, endpoint.region)
    return Place(address, f"{base}/{encode_key(bucket)}", endpoint.region)


def _by_the_rules(bucket: str, endpoint: Endpoint) -> Place:
    """Ask the rules that come with botocore: partitions, dual-stack, FIPS and access points change."""
    import botocore.exceptions  # type: ignore[import-untyped]  # noqa: PLC0415 - heavy, and often not needed
    from botocore.endpoint_provider import EndpointProvider  # type: ignore[import-untyped]  # noqa: PLC0415
    from botocore.loaders import create_loader  # type: ignore[import-untyped]  # noqa: PLC0415

    loader = create_loader()
    rules = EndpointProvider(
        loader.load_service_model("s3", "endpoint-rule-set-1"), loader.load_data("partitions")
    )
    try:
        found = rules.resolve_endpoint(
            Bucket=bucket,
            Region=endpoint.region,
            ForcePathStyle=endpoint.addressing == "path",
            UseDualStack=endpoint.dualstack,
            UseFIPS=endpoint.fips,
        )
    except botocore.exceptions.BotoCoreError as error:
        raise Refused(f"there is no endpoint for the bucket {bucket}: {error}") from error
    scheme = _scheme(found.properties)
    if scheme.get("name") != "sigv4" or scheme.get("signingName") != "s3":
        raise Refused(f"the bucket {bucket} wants signatures of another kind ({scheme.get('name')})")
    path = urlsplit(found.url).path.rstrip("/")
    return Place(Address.of(found.url), path, scheme.get("signingRegion", endpoint.region))


def _scheme(properties: Mapping[str, Any]) -> Mapping[str, Any]:
    """The way of signing that the rules name first."""
    schemes = properties.get("authSchemes") or [{"name": "sigv4", "signingName": "s3"}]
    first: Mapping[str, Any] = schemes[0]
    return first
