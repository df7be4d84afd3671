"""Code that comes from a bucket, over the way that files of the source go."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from tests.customize.helpers import STAR, names, sha256
from tests.helpers import the_source
from tests.standins import s3
from tidegate.customize.connect import namers
from tidegate.customize.shelf import LARGEST

if TYPE_CHECKING:
    from pathlib import Path

KEYS = {"AWS_ACCESS_KEY_ID": "id", "AWS_SECRET_ACCESS_KEY": "key"}
CODE = f"{STAR}    return 'from-bucket/' + name\n"


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (CODE.encode(), ""),
        (CODE.encode() + b"\n", "SHA-256"),
        (b"x" * (LARGEST + 1), "bytes"),
        (None, "cannot be fetched"),
    ],
    ids=["as asked for", "another one", "too large", "missing"],
)
def test_code_is_fetched_from_a_bucket_and_compared(
    s3_endpoint: str, tmp_path: Path, content: bytes | None, problem: str
) -> None:
    client = s3.client(s3_endpoint)
    client.create_bucket(Bucket="programs")
    client.delete_object(Bucket="programs", Key="code/names.star")
    if content is not None:
        client.put_object(Bucket="programs", Key="code/names.star", Body=content)
    customizer = {
        "File": "names.star",
        "FromBucket": "programs",
        "FromPrefix": "code",
        "Sha256": sha256(CODE),
    }
    source = the_source("/data", "**", Customizer=customizer, S3={"EndpointUrl": s3_endpoint})
    made = namers(tmp_path, KEYS, thing="thing", wall=time.time)
    namer = made.of(source)
    assert namer is not None
    (found,) = names(namer, "a")
    assert found.key == ("" if problem else "from-bucket/a")
    assert problem in found.problem
    assert not found.ignored
    made.close()
    assert (tmp_path / "customizers").exists() == (not problem)
