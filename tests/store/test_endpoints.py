from __future__ import annotations

import pytest

from tidegate.errors import Refused
from tidegate.store.endpoints import Endpoint, place_of


@pytest.mark.parametrize(
    ("bucket", "endpoint", "expected"),
    [
        ("data", Endpoint(region="eu-west-1"), "https://data.s3.eu-west-1.amazonaws.com"),
        ("data", Endpoint(region="us-east-1"), "https://data.s3.us-east-1.amazonaws.com"),
        ("data", Endpoint(region="cn-north-1"), "https://data.s3.cn-north-1.amazonaws.com.cn"),
        ("my.data", Endpoint(region="eu-west-1"), "https://s3.eu-west-1.amazonaws.com/my.data"),
        ("data", Endpoint(region="eu-west-1", addressing="path"), "https://s3.eu-west-1.amazonaws.com/data"),
        (
            "data",
            Endpoint(region="eu-west-1", dualstack=True),
            "https://data.s3.dualstack.eu-west-1.amazonaws.com",
        ),
        ("data", Endpoint(region="us-west-2", fips=True), "https://data.s3-fips.us-west-2.amazonaws.com"),
        ("data", Endpoint(region="x", url="http://localhost:9000"), "http://localhost:9000/data"),
        ("data", Endpoint(region="x", url="https://host/base/"), "https://host/base/data"),
        ("data", Endpoint(region="x", url="https://host", addressing="virtual"), "https://data.host"),
        ("Da ta", Endpoint(region="x", url="https://host"), "https://host/Da%20ta"),
    ],
)
def test_a_bucket_has_its_place(bucket, endpoint, expected):
    place = place_of(bucket, endpoint)
    assert f"{place.address}{place.path}" == expected
    assert place.region == endpoint.region


def test_an_access_point_is_signed_for_its_own_region():
    endpoint = Endpoint(region="us-east-1")
    place = place_of("arn:aws:s3:eu-west-1:123456789012:accesspoint/mine", endpoint)
    assert str(place.address) == "https://mine-123456789012.s3-accesspoint.eu-west-1.amazonaws.com"
    assert place.region == "eu-west-1"


@pytest.mark.parametrize(
    ("bucket", "endpoint", "reason"),
    [
        ("data", Endpoint(region="eu-west-1", url="s3.local"), "is not the URL of a server"),
        ("data", Endpoint(region="not a region"), "no endpoint"),
        ("data--use1-az4--x-s3", Endpoint(region="us-east-1"), "signatures of another kind"),
        (
            "arn:aws:s3::123456789012:accesspoint/mfz.mrap",
            Endpoint(region="us-east-1"),
            "signatures of another kind",
        ),
    ],
)
def test_a_place_that_cannot_be_is_refused(bucket, endpoint, reason):
    with pytest.raises(Refused, match=reason):
        place_of(bucket, endpoint)
