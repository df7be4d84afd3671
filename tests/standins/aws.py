"""S3 clients with credentials that are worth nothing, for the stand-ins and for those who look at them."""

from __future__ import annotations

import functools
import threading
from typing import TYPE_CHECKING, Any

import boto3

if TYPE_CHECKING:
    from botocore.config import Config

_one_at_a_time = threading.Lock()  # sessions are not thread-safe, clients are


@functools.lru_cache
def _session() -> boto3.session.Session:
    """Make the one session: it takes long, and the clients made from it do not."""
    return boto3.session.Session(
        aws_access_key_id="testing", aws_secret_access_key="testing", region_name="us-east-1"
    )


def s3_client(url: str, config: Config) -> Any:
    """Make a client that finds no credentials but these, whatever the environment offers."""
    with _one_at_a_time:
        return _session().client("s3", endpoint_url=url, config=config)
