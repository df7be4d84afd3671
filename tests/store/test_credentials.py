"""Who we are: against a small token exchange, a decoy home, and an STS that is moto's."""

from __future__ import annotations

import calendar
import json
import os
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.helpers import eventually
from tests.standins.faulty_s3 import Fault, FaultyS3, error
from tests.standins.s3 import serving as serving_aws
from tests.store.conftest import client_for, issued
from tests.store.talking import serving
from tidegate.errors import Unavailable
from tidegate.store.body import Body
from tidegate.store.checksum import combine
from tidegate.store.credentials import Keyring, assumed, issuer
from tidegate.store.exchange import Issued
from tidegate.store.stored import Part

TIME = 1_800_000_000.0
GOOD = {
    "AccessKeyId": "FROM-EXCHANGE",
    "SecretAccessKey": "S",
    "Token": "T",
    "Expiration": "2027-01-15T09:00:00Z",
}
ROOT = Path(__file__).parents[2]


@contextmanager
def exchange(answers):
    """Serve credentials as Greengrass does: each answer is a status and a body, the last one is repeated."""
    seen = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            seen.append((self.path, self.headers.get("Authorization")))
            status, body = answers[min(len(seen), len(answers)) - 1]
            self.send_response(status)
            self.end_headers()
            self.wfile.write(body if isinstance(body, bytes) else json.dumps(body).encode())

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        environment = {
            "AWS_CONTAINER_CREDENTIALS_FULL_URI": f"http://localhost:{server.server_port}/2016-11-01/credentialprovider/",
            "AWS_CONTAINER_AUTHORIZATION_TOKEN": "SVCUID",
            "AWS_ACCESS_KEY_ID": "DECOY",
            "AWS_SECRET_ACCESS_KEY": "DECOY",
        }
        try:
            yield environment, seen
        finally:
            server.shutdown()
            thread.join()


class Hands:
    """A clock whose hands are moved by the test."""

    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


def test_the_token_exchange_is_asked_as_greengrass_wants_it():
    with exchange([(200, GOOD)]) as (environment, seen):
        got = issuer(environment)()
    assert seen == [("/2016-11-01/credentialprovider/", "SVCUID")]
    assert (got.credentials.access_key, got.credentials.token) == ("FROM-EXCHANGE", "T")
    assert got.expires == calendar.timegm((2027, 1, 15, 9, 0, 0))


def test_the_token_may_be_in_a_file(tmp_path):
    (tmp_path / "token").write_text("FROM-FILE\n")
    with exchange([(200, GOOD)]) as (environment, seen):
        issuer(environment | {"AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE": str(tmp_path / "token")})()
    assert seen[0][1] == "FROM-FILE"


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ((200, b"null"), "it answered null"),
        ((403, b""), "status 403"),
        ((404, b""), "status 404"),
        ((500, b"oops"), "status 500"),
        ((200, b"<html>"), "something else"),
        ((200, {"AccessKeyId": "A"}), "something else"),
        ((200, GOOD | {"Expiration": "soon"}), "something else"),
        ((200, b"[]"), "something else"),
    ],
)
def test_an_exchange_that_has_nothing_makes_us_wait_and_no_decoy_wins(answer, reason):
    with exchange([answer]) as (environment, _):
        keyring = Keyring(issuer(environment))
        with pytest.raises(Unavailable, match=f"no AWS credentials: .*{reason}"):
            keyring.current()


def test_an_exchange_that_hangs_is_waited_for_only_so_long():
    gone = threading.Event()

    def hang(endpoint):
        endpoint.recv(1)
        gone.wait(10)

    with serving(hang) as port:
        environment = {"AWS_CONTAINER_CREDENTIALS_FULL_URI": f"http://127.0.0.1:{port}/"}
        keyring = Keyring(issuer(environment), patience_seconds=0.2)
        begun = time.monotonic()
        with pytest.raises(Unavailable, match=r"came within 0\.2 seconds"):
            keyring.current()
        assert time.monotonic() - begun < 2
        gone.set()


def test_an_exchange_elsewhere_is_not_told_our_token_in_the_clear():
    with pytest.raises(Unavailable, match="not on this device"):
        issuer({"AWS_CONTAINER_CREDENTIALS_FULL_URI": "http://example.com/"})()


def test_the_relative_form_is_asked_of_the_container_host():
    environment = {"AWS_CONTAINER_CREDENTIALS_RELATIVE_URI": "x@example.com/"}
    with pytest.raises(Unavailable, match="not on this device"):
        issuer(environment)()


def test_keys_in_the_environment_are_taken_without_asking():
    environment = {"AWS_ACCESS_KEY_ID": "A", "AWS_SECRET_ACCESS_KEY": "B", "AWS_SESSION_TOKEN": "C"}
    got = issuer(environment)()
    assert (got.credentials.access_key, got.credentials.secret_key, got.credentials.token) == ("A", "B", "C")
    assert got.expires is None


CHAIN = """
import os
from tidegate.store.credentials import Keyring, issuer
print(Keyring(issuer(os.environ)).current().access_key)
"""


def run_in(home, **environment):
    (home / ".aws").mkdir()
    (home / ".aws" / "credentials").write_text(
        "[default]\naws_access_key_id = DECOY\naws_secret_access_key = S\n"
    )
    clean = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    clean |= {"HOME": str(home), "PYTHONPATH": str(ROOT / "src"), "AWS_EC2_METADATA_DISABLED": "true"}
    return subprocess.run(
        [sys.executable, "-c", CHAIN], env=clean | environment, capture_output=True, text=True, check=False
    )


def test_without_an_exchange_the_standard_chain_finds_the_files(tmp_path):
    assert run_in(tmp_path).stdout == "DECOY\n"


def test_with_an_exchange_the_files_lose(tmp_path):
    with exchange([(200, GOOD)]) as (environment, _):
        assert run_in(tmp_path, **environment).stdout == "FROM-EXCHANGE\n"


def test_with_an_exchange_that_fails_the_files_lose_too(tmp_path):
    with exchange([(500, b"")]) as (environment, _):
        assert "status 500" in run_in(tmp_path, **environment).stderr


def test_nothing_anywhere_is_said_so(tmp_path):
    (tmp_path / "empty").write_text("")
    empty = str(tmp_path / "empty")
    done = run_in(tmp_path, AWS_SHARED_CREDENTIALS_FILE=empty, AWS_CONFIG_FILE=empty)
    assert "none of the usual places has any" in done.stderr


def test_credentials_are_renewed_before_they_expire_while_the_old_ones_still_serve():
    hands, asked, hold = Hands(), [], threading.Event()

    def issue():
        asked.append(1)
        if len(asked) > 1:
            assert hold.wait(10)
        return issued(f"KEY{len(asked)}", TIME + 3600 * len(asked))

    keyring = Keyring(issue, clock=lambda: TIME + hands.now - 1000, steady=hands)
    assert keyring.current().access_key == "KEY1"
    hands.now += 1700
    assert keyring.current().access_key == "KEY1"
    assert len(asked) == 1
    hands.now += 200
    assert keyring.current().access_key == "KEY1"  # nobody waits for the new ones
    eventually(lambda: len(asked) == 2)
    hold.set()
    eventually(lambda: keyring.current().access_key == "KEY2")


def test_credentials_that_have_expired_are_not_used():
    hands = Hands()
    answers = iter([issued("KEY1", TIME + 600)])
    keyring = Keyring(lambda: next(answers), clock=lambda: TIME, steady=hands)
    assert keyring.current().access_key == "KEY1"
    hands.now += 601
    with pytest.raises(Unavailable, match="StopIteration"):
        keyring.current()


def test_credentials_that_s3_refuses_are_fetched_anew():
    hands = Hands()
    answers = iter([issued("KEY1"), issued("KEY2")])
    keyring = Keyring(lambda: next(answers), steady=hands)
    first = keyring.current()
    keyring.spoiled(first)
    with pytest.raises(Unavailable, match="does not accept the last ones"):
        keyring.current()  # too soon to ask again
    hands.now += 6
    assert keyring.current().access_key == "KEY2"
    keyring.spoiled(first)  # by a request that began before
    assert keyring.current().access_key == "KEY2"


def test_a_clock_that_is_ahead_does_not_make_fresh_credentials_old():
    hands, asked = Hands(), []

    def issue():
        asked.append(1)
        return issued("KEY", TIME)

    keyring = Keyring(issue, clock=lambda: TIME + 86_400, steady=hands)
    for _ in range(10):
        assert keyring.current().access_key == "KEY"
    assert len(asked) == 1


def test_after_a_failure_nobody_is_asked_for_a_while():
    hands, asked = Hands(), []

    def issue():
        asked.append(1)
        if len(asked) < 2:
            raise TypeError("'NoneType' object is not subscriptable")
        return issued("KEY")

    keyring = Keyring(issue, steady=hands)
    for _ in range(3):
        with pytest.raises(Unavailable, match="NoneType"):
            keyring.current()
    assert len(asked) == 1
    hands.now += 6
    assert keyring.current().access_key == "KEY"


def test_who_never_answers_is_asked_anew():
    hands, asked, forever = Hands(), [], threading.Event()

    def issue():
        asked.append(1)
        if len(asked) == 1:
            forever.wait(10)
            raise ValueError
        return issued("KEY")

    keyring = Keyring(issue, steady=hands, patience_seconds=0.2)
    for _ in range(2):
        with pytest.raises(Unavailable, match="came within"):
            keyring.current()
    assert len(asked) == 1
    hands.now += 61
    assert keyring.current().access_key == "KEY"
    forever.set()


def test_many_who_ask_at_once_cause_one_request():
    asked, hold, got = [], threading.Event(), []

    def issue():
        asked.append(1)
        assert hold.wait(10)
        return issued("KEY")

    keyring = Keyring(issue)
    threads = [threading.Thread(target=lambda: got.append(keyring.current())) for _ in range(8)]
    for thread in threads:
        thread.start()
    eventually(lambda: asked)
    hold.set()
    for thread in threads:
        thread.join()
    assert (len(asked), len(got)) == (1, 8)


def test_an_upload_goes_on_with_new_credentials_when_the_old_ones_expire(opened):
    """The store takes each key for two requests."""
    descriptor = opened(b"x" * 40)
    hands, serial = Hands(), iter(range(1, 100))
    keyring = Keyring(lambda: Issued(issued(f"KEY{next(serial)}").credentials, None), steady=hands)
    used: dict[str, int] = {}

    def script(seen):
        key = seen.headers["authorization"].split("Credential=")[1].split("/")[0]
        used[key] = used.get(key, 0) + 1
        return Fault(error(400, "ExpiredToken")) if used[key] > 2 else None

    def insist(work):
        try:
            return work()
        except Exception:  # noqa: BLE001 - whatever it is, it will be looked at below
            hands.now += 6
            return work()

    with FaultyS3(script) as server, client_for(server.url, keyring) as s3:
        upload_id = s3.create_upload("bucket", "key")
        parts = []
        for number in range(1, 5):
            body = Body(descriptor, 10, offset=10 * (number - 1))
            stored = insist(
                lambda body=body, number=number: s3.upload_part("bucket", "key", upload_id, number, body)
            )
            parts.append(Part(number, stored.etag, body.digest))
        done = insist(lambda: s3.complete_upload("bucket", "key", upload_id, parts))
        assert done.proves(combine([part.digest for part in parts])) is True
    assert len(used) == 3


def test_another_role_is_taken_on_through_sts():
    with serving_aws() as url:
        issue = assumed(
            lambda: issued("OWN"),
            "arn:aws:iam::123456789012:role/uploader",
            region="us-east-1",
            session_name="tidegate",
            endpoint_url=url,
        )
        got = issue()
    assert got.credentials.token
    assert got.credentials.access_key != "OWN"
    assert got.expires is not None
    assert got.expires > time.time() + 60


def test_a_role_that_cannot_be_taken_on_is_unavailable():
    with FaultyS3(lambda _: Fault(error(403, "AccessDenied"))) as server:
        issue = assumed(
            lambda: issued("OWN"),
            "arn:aws:iam::1:role/x",
            region="us-east-1",
            session_name="test",
            endpoint_url=server.url,
        )
        with pytest.raises(Unavailable, match="AssumeRole"):
            Keyring(issue).current()
