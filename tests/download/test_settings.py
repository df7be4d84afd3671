"""What a user can say of downloads and sockets."""

from __future__ import annotations

from typing import Any

import pytest

from tidegate.config import Framing, Verify, parse
from tidegate.errors import ConfigFaults

MODELS = {"Direction": "Download", "TargetFolder": "/srv/models/", "ObjectsBelow": "/models/press/"}
METER = {"Socket": "tcp://10.0.0.7:9000"}
TOP = {"BucketName": "my-bucket", "S3": {"Region": "eu-central-1"}, "Interval": 30}


def test_a_download_takes_over_from_the_top_what_concerns_it() -> None:
    top = TOP | {"ObjectKeyPrefix": "up", "Compress": "Zstd", "After": "Keep"}
    config = parse(top | {"Sources": {"in": MODELS, "out": {"PathName": "/data/*", "Direction": "upload"}}})
    (download,) = config.downloads
    assert [source.name for source in config.sources] == ["out"]
    assert (download.name, download.bucket, download.folder) == ("in", "my-bucket", "/srv/models")
    assert (download.below, download.keys, download.delete_unlisted) == ("models/press", (), False)
    assert (download.interval_seconds, download.verify) == (30.0, Verify.CHECKSUM)
    assert download.s3.region == "eu-central-1"


def test_a_socket_makes_objects_as_those_that_are_posted() -> None:
    config = parse(
        TOP | {"Compress": "Gzip", "Sources": {"meter": METER | {"Framing": "blocks", "Priority": 1}}}
    )
    (socket,) = config.sockets
    assert config.sources == ()
    assert (socket.way.name, socket.way.bucket, socket.way.priority) == ("meter", "my-bucket", 1)
    assert socket.way.key.suffix == ".gz"
    assert (socket.framing, socket.batch_bytes, socket.batch_seconds) == (Framing.BLOCKS, 2**20, 60)


def test_a_slash_alone_is_the_whole_bucket() -> None:
    (download,) = parse(TOP | {"Sources": {"in": MODELS | {"ObjectsBelow": "/"}}}).downloads
    assert download.below == ""


@pytest.mark.parametrize(
    ("sources", "fault"),
    [
        ({"in": {"Direction": "Download"}}, "Sources.in.TargetFolder: is missing"),
        ({"in": {"Direction": "Download"}}, "Sources.in.ObjectKeys: is missing"),
        ({"in": MODELS | {"ObjectKeys": ["a"]}}, "Sources.in.ObjectKeys: has no use with ObjectsBelow"),
        ({"in": MODELS | {"Direction": "Dwn"}}, 'Sources.in.Direction: "Dwn" is not among the words'),
        ({"in": MODELS | {"Direction": ["Download"]}}, "Sources.in.Direction: a list is not among the words"),
        ({"in": MODELS | {"PathName": "/a/*"}}, "Sources.in.PathName: there is no such key here"),
        ({"in": MODELS | {"S3": {"Regin": "x"}}}, "Sources.in.S3.Regin: there is no such key here"),
        ({"in": MODELS | {"DeleteUnlisted": 3}}, "Sources.in.DeleteUnlisted: 3 is not among the words"),
        ({"in": MODELS | {"ObjectsBelow": "a\0"}}, "Sources.in.ObjectsBelow: "),
        ({"in": MODELS | {"ObjectsBelow": "x" * 1025}}, "Sources.in.ObjectsBelow: "),
        (
            {"in": {"Direction": "Download", "TargetFolder": "/a", "ObjectKeys": ["x/a", "y/a"]}},
            "Sources.in.ObjectKeys: a list holds",
        ),
        (
            {"in": {"Direction": "Download", "TargetFolder": "/a", "ObjectKeys": ["x/"]}},
            "Sources.in.ObjectKeys: a list holds",
        ),
        ({"in": MODELS, "out": {"PathName": "/srv/**"}}, 'TargetFolder: "/srv/models" is watched by out'),
        ({"in": MODELS, "out": {"PathName": "/srv/*/*.x"}}, 'TargetFolder: "/srv/models" is watched by out'),
        (
            {"in": MODELS, "out": {"PathName": "/srv/models/a/*"}},
            'TargetFolder: "/srv/models" is watched by out',
        ),
        ({"in": MODELS, "too": MODELS | {"TargetFolder": "/srv/models/a"}}, "is shared with in"),
        ({"meter": {"Socket": "10.0.0.7"}}, 'Sources.meter.Socket: "10.0.0.7" is not the address'),
        ({"meter": METER | {"PathName": "/a/*"}}, "Sources.meter.PathName: there is no such key here"),
        ({"meter": METER | {"BatchBytes": 0}}, "Sources.meter.BatchBytes: 0 is less than 1"),
        ({"meter": METER | {"BatchSuffix": "csv"}}, 'Sources.meter.BatchSuffix: "csv" is no end of a name'),
        ({"in": {"TargetFolder": "/a", "PathName": "/b/*"}}, "write it in a source with Direction: Download"),
        ({"in": {"BatchBytes": 5, "PathName": "/b/*"}}, "write it in a source with Socket"),
        ({"objects": METER}, "Sources.objects: is what posted objects are called"),
    ],
)
def test_what_is_wrong_is_told(sources: dict[str, Any], fault: str) -> None:
    with pytest.raises(ConfigFaults) as caught:
        parse(TOP | {"Sources": sources})
    assert any(fault in one for one in caught.value.faults), caught.value.faults


@pytest.mark.parametrize("pattern", ["/srv/*", "/srv/models*", "/srv/mo/**", "/srv/models.old/**"])
def test_a_source_that_cannot_see_what_comes_is_no_fault(pattern: str) -> None:
    assert parse(TOP | {"Sources": {"in": MODELS, "out": {"PathName": pattern}}}).downloads


def test_without_a_bucket_a_download_is_told_so() -> None:
    with pytest.raises(ConfigFaults, match="BucketName: is missing; write where the objects are"):
        parse({"Sources": {"in": MODELS}})
