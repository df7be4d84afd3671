from __future__ import annotations

import string

from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials as BotocoreCredentials
from hypothesis import given, settings
from hypothesis import strategies as st

from tidegate.store.sigv4 import UNSIGNED, Credentials, amz_date, encode_key, encode_query, sign

TEXT = st.text(st.characters(exclude_categories=("Cs",)), max_size=30)
KEYS = st.one_of(
    TEXT, st.sampled_from(["a b", "a+b", "100%", "ü/ß", "a//b", "../a", "a/./b", "~a", "a\nb", "*'()!"])
)
NAMES = st.text(string.ascii_lowercase + string.digits + "-", min_size=1, max_size=10)
VALUES = st.text(string.ascii_letters + string.digits + " =/+%;:,", max_size=30)
SECRETS = st.text(string.ascii_letters + "/+", min_size=1, max_size=40)


@settings(deadline=None, max_examples=300)
@given(
    method=st.sampled_from(["PUT", "GET", "POST", "HEAD", "DELETE"]),
    key=KEYS,
    query=st.dictionaries(NAMES, TEXT, max_size=3),
    fields=st.dictionaries(NAMES.map("x-amz-meta-".__add__), VALUES, max_size=4),
    secret=SECRETS,
    token=st.one_of(st.just(""), SECRETS),
    region=st.sampled_from(["us-east-1", "eu-central-1", "cn-north-1"]),
    payload=st.sampled_from([UNSIGNED, "0" * 64]),
)
def test_signs_like_botocore(method, key, query, fields, secret, token, region, payload):
    encoded, path = encode_query(query.items()), "/" + encode_key(key)
    url = f"https://bucket.example:9000{path}" + (f"?{encoded}" if encoded else "")
    request = AWSRequest(method=method, url=url, headers=fields)
    request.context["the payload's hash"] = payload
    auth = Oracle(BotocoreCredentials("AKID", secret, token or None), "s3", region)
    auth.add_auth(request)
    headers = {
        **fields,
        "host": "bucket.example:9000",
        "x-amz-date": request.headers["X-Amz-Date"],
        "x-amz-content-sha256": request.headers["X-Amz-Content-SHA256"],
    }
    if token:
        headers["x-amz-security-token"] = token
    ours = sign(
        method=method,
        path=path,
        query=encoded,
        headers=headers,
        payload=headers["x-amz-content-sha256"],
        credentials=Credentials(access_key="AKID", secret_key=secret, token=token),
        region=region,
    )
    assert ours == request.headers["Authorization"]


class Oracle(S3SigV4Auth):
    """The one of botocore, with the hash of the payload as it is told."""

    def payload(self, request):
        return request.context["the payload's hash"]


def test_a_key_is_encoded_once_and_never_tidied_up():
    assert encode_key("a//b/../c d+e%20~ü") == "a//b/../c%20d%2Be%2520~%C3%BC"


def test_a_query_is_sorted_as_it_is_sent():
    assert encode_query([("b", "ä/ "), ("a", ""), ("B", "1")]) == "B=1&a=&b=%C3%A4%2F%20"


def test_dates_are_in_utc():
    assert amz_date(1_700_000_000.9) == "20231114T221320Z"


def test_secrets_stay_out_of_what_is_printed():
    assert "HIDDEN" not in repr(Credentials(access_key="AKID", secret_key="HIDDEN", token="HIDDEN"))
