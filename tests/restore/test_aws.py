"""The only proof that S3 does what its documentation, and so our stand-in, says. It costs some cents.

    TIDEGATE_AWS_BUCKET=my-bucket pytest -m aws tests/restore/test_aws.py

The bucket must be one whose objects you may write, restore and delete; objects below `tidegate-test/` are made
and deleted. An object in GLACIER is billed for 90 days even so.
"""

from __future__ import annotations

import os
import time
import uuid
from typing import TYPE_CHECKING

import boto3
import pytest

from tidegate.restore.connect import connect
from tidegate.restore.decide import state_of
from tidegate.restore.nouns import Kind, State
from tidegate.store.archive_calls import Order
from tidegate.store.errors import S3Error

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tidegate.store.archive_calls import Archive

BUCKET = os.environ.get("TIDEGATE_AWS_BUCKET", "")
KEY = f"tidegate-test/{uuid.uuid4().hex}/a b+c,é.bin"

pytestmark = [
    pytest.mark.aws,
    pytest.mark.skipif(not BUCKET, reason="needs an account of AWS: name a bucket in TIDEGATE_AWS_BUCKET"),
]


@pytest.fixture(scope="module")
def archive() -> Iterator[Archive]:
    """The client of this package, with one object in GLACIER."""
    s3 = boto3.client("s3")
    s3.put_object(Bucket=BUCKET, Key=KEY, Body=b"content", StorageClass="GLACIER")
    region = s3.get_bucket_location(Bucket=BUCKET)["LocationConstraint"] or "us-east-1"
    ways = connect({"region": region}, os.environ, wall=time.time)
    yield ways.archive
    ways.close()
    s3.delete_object(Bucket=BUCKET, Key=KEY)
    s3.close()


def test_a_listing_and_a_head_tell_the_same_of_an_archived_object(archive):
    (listed,) = archive.page(BUCKET, prefix=KEY).found
    head = archive.head(BUCKET, KEY)
    assert head is not None
    assert (listed.storage, listed.size, listed.ongoing) == (head.storage, head.size, head.ongoing)
    assert state_of(listed, now=time.time(), days=1) == (State.WANTED, Kind.GLACIER)


def test_a_restore_is_taken_once_then_under_way_in_both_views_and_a_conflict(archive):
    order = Order.of("Standard", 1)
    assert archive.restore(BUCKET, KEY, "", order) == 202
    with pytest.raises(S3Error) as caught:
        archive.restore(BUCKET, KEY, "", order)
    assert (caught.value.status, caught.value.code) == (409, "RestoreAlreadyInProgress")
    (listed,) = archive.page(BUCKET, prefix=KEY).found
    head = archive.head(BUCKET, KEY)
    assert head is not None
    assert listed.ongoing
    assert head.ongoing
