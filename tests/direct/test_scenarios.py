"""Long stories: what happens on devices in weeks, by a clock that moves when it is told to."""

from __future__ import annotations

from contextlib import closing

import pytest

from tests.standins.faulty_s3 import FaultyS3
from tests.store.test_credentials import GOOD, exchange
from tidegate.carry.direct import connect
from tidegate.config import parse
from tidegate.errors import Unavailable
from tidegate.model import State

DAY = 86_400


def test_after_fourteen_days_without_a_network_everything_goes_within_a_minute(make_depot, rig):
    depot = make_depot()
    rig.go_away()
    depot.send_many(40)
    depot.run_for(14 * DAY, tick=2 * 3600)
    depot.run_until(lambda: depot.tally() == {State.READY: 40}, tick=0)
    assert depot.counters().get("refusals", 0) == 0
    assert depot.counters().get("files_quarantined", 0) == 0
    assert depot.carrier.troubles()
    rig.come_back()
    began = depot.clock.now
    depot.run_until(lambda: depot.tally().get(State.STORED, 0) > 0, tick=1)
    assert depot.clock.now - began <= 60
    depot.settle(tick=1)
    assert depot.clock.now - began <= 120
    assert set(depot.uploads().values()) == {1}


def settings(**keys):
    (source,) = parse({"PathName": "/x/*", "BucketName": "bucket", "S3": keys}).sources
    return source.s3


def test_the_role_of_the_device_signs_and_not_the_decoy_beside_it():
    with exchange([(200, GOOD)]) as (environment, _), FaultyS3() as server:
        with closing(connect(settings(EndpointUrl=server.url), environment, thing="thing")) as s3:
            s3.head("bucket", "key")
        assert "Credential=FROM-EXCHANGE/" in server.seen[0].headers["authorization"]
        assert "/us-east-1/s3/" in server.seen[0].headers["authorization"]


def test_the_region_is_the_one_configured_else_that_of_the_environment():
    environment = {"AWS_ACCESS_KEY_ID": "A", "AWS_SECRET_ACCESS_KEY": "B", "AWS_DEFAULT_REGION": "eu-west-1"}
    with FaultyS3() as server:
        for region in (None, "eu-central-1"):
            keys = {"EndpointUrl": server.url} | ({"Region": region} if region else {})
            with closing(connect(settings(**keys), environment, thing="thing")) as s3:
                s3.head("bucket", "key")
        first, second = (seen.headers["authorization"] for seen in server.seen)
        assert "/eu-west-1/s3/" in first
        assert "/eu-central-1/s3/" in second


def test_a_proxy_is_the_one_configured_else_that_of_the_environment_else_none():
    keys = {"AWS_ACCESS_KEY_ID": "A", "AWS_SECRET_ACCESS_KEY": "B"}
    with FaultyS3() as proxy, FaultyS3() as server:
        behind = keys | {"HTTP_PROXY": proxy.url}
        ways = [
            (keys, {"Proxy": proxy.url}, proxy),
            (behind, {}, proxy),
            (behind, {"Proxy": "Direct"}, server),
            (keys, {}, server),
        ]
        for environment, said, through in ways:
            before = len(through.seen)
            with closing(connect(settings(EndpointUrl=server.url, **said), environment, thing="t")) as s3:
                s3.head("bucket", "key")
            assert len(through.seen) == before + 1
        assert proxy.seen[0].target.startswith(f"{server.url}/bucket/key")


def test_a_proxy_that_is_none_is_told_and_nothing_goes_past_it():
    environment = {"AWS_ACCESS_KEY_ID": "A", "AWS_SECRET_ACCESS_KEY": "B", "HTTP_PROXY": "socks5://x:1"}
    with (
        FaultyS3() as server,
        closing(connect(settings(EndpointUrl=server.url), environment, thing="t")) as s3,
    ):
        with pytest.raises(Unavailable, match="proxy that is none"):
            s3.head("bucket", "key")
        assert server.seen == []
