"""What the network and the server may do to a request, seen by one who puts an object."""

from __future__ import annotations

import contextlib
import socket
import threading
import time

import pytest

from tests.helpers import eventually
from tests.standins.faulty_s3 import Fault, FaultyS3, error, reply
from tests.store.conftest import client_for
from tests.store.talking import Proxy, make_certificate, serving, until
from tidegate.errors import Unavailable
from tidegate.store import wire
from tidegate.store.body import Body
from tidegate.store.errors import Kind, S3Error
from tidegate.store.wire import Address, Manner, proxy_for

LARGE = 24 * 1024 * 1024  # more than sockets hold
OK = reply(200, {"ETag": '"e"', "Content-Type": "text/plain"}, b"some bytes of a body")


@pytest.fixture(scope="module")
def tls(tmp_path_factory):
    return make_certificate(tmp_path_factory.mktemp("tls"))


@pytest.fixture(params=["a thread", "a hub"], autouse=True)
def place(request):
    """Where the request is made: in a thread that waits for it, or beside others in one."""
    return request.param


@pytest.fixture(params=["plain", "tls"])
def channel(request, tls):
    """How a server is made, and how it is talked to: without and with TLS."""
    context, bundle = tls if request.param == "tls" else (None, None)

    def manner(**keys):
        return Manner(ca_bundle=bundle, **{"connect_seconds": 5, "read_seconds": 5, **keys})

    def serve(script=lambda _: None, **keys):
        return FaultyS3(script, context=context, **keys)

    return serve, manner


def test_a_connection_is_used_again(channel, opened):
    serve, manner = channel
    with serve() as server, client_for(server.url, manner=manner()) as s3:
        for size in (0, 1, 300_000, 1):
            s3.put("bucket", "key", Body(opened(b"x" * size), size))
        assert [seen.connection for seen in server.seen] == [1, 1, 1, 1]


def test_a_large_body_arrives_whole(channel, opened):
    serve, manner = channel
    content = bytes(range(256)) * (LARGE // 256)
    with serve() as server, client_for(server.url, manner=manner()) as s3:
        s3.put("bucket", "key", Body(opened(content), LARGE))
        assert server.objects["bucket/key"].body == content


@pytest.mark.parametrize("reset", [False, True])
def test_a_kept_connection_that_was_closed_is_replaced(channel, reset, opened):
    serve, manner = channel
    with serve() as server, client_for(server.url, manner=manner()) as s3:
        s3.put("bucket", "one", Body(opened(b"1"), 1))
        server.drop_connections(reset=reset)
        s3.put("bucket", "two", Body(opened(b"2"), 1))
        assert sorted(server.objects) == ["bucket/one", "bucket/two"]
        assert server.connections == 2


def test_a_large_body_survives_a_kept_connection_that_was_closed(opened):
    with FaultyS3() as server, client_for(server.url) as s3:
        s3.put("bucket", "one", Body(opened(b"1"), 1))
        server.drop_connections(reset=True)
        s3.put("bucket", "two", Body(opened(b"2" * LARGE), LARGE))
        assert len(server.objects["bucket/two"].body) == LARGE


def test_what_must_not_happen_twice_is_not_sent_twice():
    with FaultyS3(lambda seen: Fault(cut=0) if seen.kind == "create" else None) as server:
        with client_for(server.url) as s3:
            s3.head("bucket", "key")
            with pytest.raises(Unavailable):
                s3.create_upload("bucket", "key")
        assert [seen.kind for seen in server.seen] == ["head", "create"]


def test_a_fresh_connection_that_fails_is_not_replaced(opened):
    with FaultyS3(lambda _: Fault(cut=0)) as server, client_for(server.url) as s3:
        with pytest.raises(Unavailable, match="hung up"):
            s3.put("bucket", "key", Body(opened(b"1"), 1))
        assert len(server.seen) == 1


def test_a_time_out_is_not_taken_for_a_closed_connection(channel, opened):
    serve, manner = channel
    never = threading.Event()
    with serve(lambda seen: Fault(wait=never) if seen.kind == "put" else None) as server:
        with client_for(server.url, manner=manner(read_seconds=0.2)) as s3:
            s3.head("bucket", "key")
            with pytest.raises(Unavailable, match=r"sent nothing for 0\.2 seconds"):
                s3.put("bucket", "key", Body(opened(b"1"), 1))
        assert [seen.kind for seen in server.seen] == ["head", "put"]


@pytest.mark.parametrize("taken", [0, 1000, LARGE // 2])
def test_an_answer_that_comes_early_is_read(channel, taken, opened):
    serve, manner = channel
    fault = Fault(error(503, "SlowDown"), take=taken)
    with serve(lambda seen: fault if seen.number == 1 else None) as server:
        with client_for(server.url, manner=manner()) as s3:
            descriptor = opened(b"x" * LARGE)
            with pytest.raises(S3Error) as caught:
                s3.put("bucket", "key", Body(descriptor, LARGE))
            assert (caught.value.kind, caught.value.code) == (Kind.AGAIN, "SlowDown")
            s3.put("bucket", "key", Body(descriptor, LARGE))
        assert [seen.connection for seen in server.seen] == [1, 2]


def test_an_answer_is_read_when_the_server_takes_no_more_and_stays(opened):
    stuck, done, late, checks = threading.Event(), threading.Event(), [], []

    def check():
        checks.append("check")
        if "spent" in checks and checks[-2:] == [
            "check",
            "check",
        ]:  # between two chunks something is always spent
            stuck.set()

    def converse(endpoint):
        until(endpoint, b"\r\n\r\n")
        stuck.wait(10)
        endpoint.sendall(error(403, "AccessDenied"))
        late.append(not done.wait(3))

    body = Body(opened(b"x" * LARGE), LARGE, check=check, take=lambda count: checks.append("spent") or count)
    with serving(converse, receive_buffer=4096) as port, client_for(f"http://127.0.0.1:{port}") as s3:
        with pytest.raises(S3Error) as caught:
            s3.put("bucket", "key", body)
        done.set()
        eventually(lambda: late == [False])
    assert caught.value.code == "AccessDenied"


def test_sending_stops_as_soon_as_there_is_an_answer(opened):
    """The server goes on reading what it was promised, so that connection is of no use any more."""
    answered, spent = threading.Event(), []

    def converse(endpoint):
        while until(endpoint, b"\r\n\r\n"):
            endpoint.sendall(error(403, "AccessDenied"))
            answered.set()
            left = LARGE - 65_536
            while left > 0 and (piece := endpoint.recv(65_536)):
                left -= len(piece)

    def take(count):
        spent.append(count)
        if len(spent) == 2:
            assert answered.wait(10)
            answered.clear()
        return count

    with serving(converse) as port, client_for(f"http://127.0.0.1:{port}") as s3:
        for _ in range(2):
            spent.clear()
            with pytest.raises(S3Error):
                s3.put("bucket", "key", Body(opened(b"x" * LARGE), LARGE, take=take))
            assert len(spent) == 2


def test_an_interim_answer_does_not_stop_the_body(opened):
    def converse(endpoint):
        until(endpoint, b"\r\n\r\n")
        endpoint.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        received = 0
        while received < LARGE - 65_536:
            received += len(endpoint.recv(65_536))
        endpoint.sendall(b"HTTP/1.1 102 Processing\r\n\r\n" + OK)
        until(endpoint, b"the end")

    with serving(converse) as port, client_for(f"http://127.0.0.1:{port}") as s3:
        assert s3.put("bucket", "key", Body(opened(b"x" * LARGE), LARGE)).etag == "e"


@pytest.mark.parametrize("cut", range(0, len(OK), 9))
def test_half_an_answer_is_none(cut, opened):
    with (
        FaultyS3(lambda _: Fault(OK, cut=cut)) as server,
        client_for(server.url) as s3,
        pytest.raises(Unavailable),
    ):
        s3.put("bucket", "key", Body(opened(b"1"), 1))


@pytest.mark.parametrize(
    "answer",
    [
        b"SSH-2.0-OpenSSH_9.2\r\n\r\n",
        b"HTTP/1.1 abc OK\r\n\r\n",
        b"HTTP/1.1 999 Huh\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n folded: x\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nabc\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nfffffffff\r\n",
        b"HTTP/1.1 200 OK\r\nA: " + b"x" * 100_000,
        b"\x16\x03\x01\x00\x05hello\r\n\r\n",
    ],
)
def test_garbage_is_no_answer(answer, opened):
    with (
        FaultyS3(lambda _: Fault(answer, hang_up=True)) as server,
        client_for(server.url) as s3,
        pytest.raises(Unavailable, match="the server"),
    ):
        s3.put("bucket", "key", Body(opened(b"1"), 1))


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (b"HTTP/1.1 200 OK\r\nA: " + b"x" * 100_000, "headers without end"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"x" * 100_000, "line without end"),
        (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
            + b"100000\r\n%b\r\n" % (b"x" * 0x100000) * 9,
            "too long",
        ),
        (b"HTTP/1.0 200 OK\r\n\r\n" + b"x" * 9_000_000, "too long"),
    ],
)
def test_an_answer_without_end_is_not_read_to_the_end(answer, reason, opened):
    never = threading.Event()

    def converse(endpoint):
        until(endpoint, b"\r\n\r\n")
        endpoint.sendall(answer)
        never.wait(2)

    with serving(converse) as port, client_for(f"http://127.0.0.1:{port}") as s3:
        with pytest.raises(Unavailable, match=reason):
            s3.put("bucket", "key", Body(opened(b"1"), 1))
        never.set()


def test_answers_may_come_in_chunks():
    body = b"<InitiateMultipartUploadResult><UploadId>abc</UploadId></InitiateMultipartUploadResult>"
    chunks = b"".join(b"%x;a=b\r\n%b\r\n" % (len(piece), piece) for piece in (body[:10], body[10:]))
    answer = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks + b"0\r\nTrailer: x\r\n\r\n"
    with FaultyS3(lambda _: Fault(answer)) as server, client_for(server.url) as s3:
        assert s3.create_upload("bucket", "key") == s3.create_upload("bucket", "key") == "abc"
        assert server.connections == 1


def test_an_answer_may_last_until_the_connection_ends():
    body = b"<InitiateMultipartUploadResult><UploadId>abc</UploadId></InitiateMultipartUploadResult>"
    answer = b"HTTP/1.0 200 OK\r\n\r\n" + body
    with FaultyS3(lambda _: Fault(answer, hang_up=True)) as server, client_for(server.url) as s3:
        assert s3.create_upload("bucket", "key") == "abc"


def test_a_server_that_says_it_will_hang_up_is_believed(opened):
    answer = reply(200, {"ETag": '"e"', "Connection": "close"})
    with FaultyS3(lambda _: Fault(answer)) as server, client_for(server.url) as s3:
        for _ in range(2):
            s3.put("bucket", "key", Body(opened(b"1"), 1))
        assert [seen.connection for seen in server.seen] == [1, 2]


def test_more_than_was_asked_for_ends_the_connection(opened):
    with FaultyS3(lambda seen: Fault(OK + b"more") if seen.number == 1 else None) as server:
        with client_for(server.url) as s3:
            for _ in range(2):
                s3.put("bucket", "key", Body(opened(b"1"), 1))
        assert [seen.connection for seen in server.seen] == [1, 2]


def test_a_server_that_takes_nothing_is_given_up(channel, opened):
    serve, manner = channel
    never = threading.Event()
    with (
        serve(lambda _: Fault(take=0, wait=never), receive_buffer=4096) as server,
        client_for(server.url, manner=manner(read_seconds=1)) as s3,
        pytest.raises(Unavailable, match="took nothing for 1 seconds"),
    ):
        s3.put("bucket", "key", Body(opened(b"x" * LARGE), LARGE))


class Stop(Exception):  # noqa: N818
    pass


def test_a_request_that_is_stuck_can_be_stopped_by_its_check(channel, opened):
    serve, manner = channel
    never, checks = threading.Event(), []

    def check():
        checks.append(1)
        if "spent" in checks and checks[-2:] == [1, 1]:  # between two chunks something is always spent
            raise Stop

    body = Body(opened(b"x" * LARGE), LARGE, check=check, take=lambda count: checks.append("spent") or count)
    with serve(lambda _: Fault(take=0, wait=never), receive_buffer=4096) as server:
        with client_for(server.url, manner=manner()) as s3, pytest.raises(Stop):
            s3.put("bucket", "key", body)
        assert server.objects == {}


def test_what_the_body_raises_reaches_the_caller_and_nothing_is_stored(opened):
    with FaultyS3() as server, client_for(server.url) as s3:
        spent = []

        def take(count):
            spent.append(count)
            if sum(spent) > LARGE // 2:
                raise Stop
            return count

        descriptor = opened(b"x" * LARGE)
        with pytest.raises(Stop):
            s3.put("bucket", "key", Body(descriptor, LARGE, take=take))
        assert server.objects == {}
        s3.put("bucket", "key", Body(descriptor, LARGE))
        assert [seen.connection for seen in server.seen] == [1, 2]


def test_closing_ends_what_hangs(channel, opened):
    serve, manner = channel
    never = threading.Event()
    failures = []
    with (
        serve(lambda _: Fault(wait=never)) as server,
        client_for(server.url, manner=manner(read_seconds=60)) as s3,
    ):

        def put():
            try:
                s3.put("bucket", "key", Body(descriptor, 1))
            except Unavailable as failure:
                failures.append(failure)

        descriptor = opened(b"1")
        thread = threading.Thread(target=put)
        thread.start()
        eventually(lambda: server.seen)
        s3.close()
        thread.join(5)
        assert len(failures) == 1
        with pytest.raises(Unavailable):
            s3.put("bucket", "key", Body(descriptor, 1))


def test_nobody_listening_is_unavailable(opened):
    with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as gone:
        port = gone.getsockname()[1]
    with client_for(f"http://127.0.0.1:{port}") as s3, pytest.raises(Unavailable, match="Connection refused"):
        s3.put("bucket", "key", Body(opened(b"1"), 1))


def test_a_name_that_nobody_knows_is_unavailable(opened):
    with client_for("http://nowhere.invalid") as s3, pytest.raises(Unavailable, match=r"nowhere\.invalid:80"):
        s3.put("bucket", "key", Body(opened(b"1"), 1))


def test_a_certificate_that_is_not_trusted_is_unavailable(tls, opened):
    with (
        FaultyS3(context=tls[0]) as server,
        client_for(server.url) as s3,
        pytest.raises(Unavailable, match="self-signed certificate"),
    ):
        s3.put("bucket", "key", Body(opened(b"1"), 1))


def test_a_server_that_does_not_speak_tls_is_unavailable(opened):
    with (
        FaultyS3() as server,
        client_for(server.url.replace("http:", "https:"), manner=Manner(connect_seconds=0.5)) as s3,
        pytest.raises(Unavailable, match="cannot speak to"),
    ):
        s3.put("bucket", "key", Body(opened(b"1"), 1))


def test_a_bundle_that_is_not_there_is_unavailable(opened):
    manner = Manner(ca_bundle="/no/such/bundle.pem")
    with (
        client_for("https://127.0.0.1:1", manner=manner) as s3,
        pytest.raises(Unavailable, match="/no/such/bundle"),
    ):
        s3.put("bucket", "key", Body(opened(b"1"), 1))


def test_the_payload_is_not_signed_over_tls(tls, opened):
    context, bundle = tls
    with FaultyS3(context=context) as server, client_for(server.url, manner=Manner(ca_bundle=bundle)) as s3:
        s3.put("bucket", "key", Body(opened(b"1"), 1))
        assert server.seen[0].headers["x-amz-content-sha256"] == "UNSIGNED-PAYLOAD"


def test_requests_go_through_a_proxy(channel, opened):
    serve, manner = channel
    proxy = Proxy("Basic bWU6cEBzcw==")
    with serve() as server, serving(proxy) as port:
        via = wire.Proxy.of(f"http://me:p%40ss@127.0.0.1:{port}")
        with client_for(server.url, manner=manner(proxy=via)) as s3:
            for _ in range(2):
                s3.put("bucket", "a b", Body(opened(b"1"), 1))
        assert list(server.objects) == ["bucket/a b"]
        assert len(server.seen) == 2
    secure = server.url.startswith("https")
    expected = f"CONNECT 127.0.0.1:{server.port}" if secure else f"PUT {server.url}/bucket/a%20b"
    assert proxy.requests == [f"{expected} HTTP/1.1"]


def test_a_proxy_that_refuses_is_unavailable(tls, opened):
    context, bundle = tls
    with FaultyS3(context=context) as server, serving(Proxy("Basic secret")) as port:
        via = wire.Proxy.of(f"127.0.0.1:{port}")
        with (
            client_for(server.url, manner=Manner(proxy=via, ca_bundle=bundle)) as s3,
            pytest.raises(Unavailable, match="407 Who are you"),
        ):
            s3.put("bucket", "key", Body(opened(b"1"), 1))


def test_a_proxy_that_hangs_up_is_unavailable(opened):
    with serving(lambda endpoint: until(endpoint, b"\r\n\r\n")) as port:
        via = wire.Proxy.of(f"127.0.0.1:{port}")
        with (
            client_for("https://example.invalid", manner=Manner(proxy=via)) as s3,
            pytest.raises(Unavailable, match=r"hung up instead of connecting to example\.invalid:443"),
        ):
            s3.put("bucket", "key", Body(opened(b"1"), 1))


@pytest.mark.parametrize(
    ("url", "environment", "expected"),
    [
        ("https://s3.example", {"HTTPS_PROXY": "http://proxy:3128"}, "http://proxy:3128"),
        ("https://s3.example", {"https_proxy": "proxy:3128"}, "http://proxy:3128"),
        ("https://s3.example", {"HTTP_PROXY": "http://proxy"}, None),
        ("http://s3.example", {"HTTP_PROXY": "http://proxy"}, "http://proxy"),
        ("http://s3.example", {"ALL_PROXY": "http://proxy"}, "http://proxy"),
        ("http://s3.example", {"ALL_PROXY": "http://proxy", "NO_PROXY": "other, .example"}, None),
        ("http://s3.example", {"ALL_PROXY": "http://proxy", "no_proxy": "example"}, None),
        ("http://s3.example", {"ALL_PROXY": "http://proxy", "NO_PROXY": "ample"}, "http://proxy"),
        ("http://s3.example", {"ALL_PROXY": "http://proxy", "NO_PROXY": "*"}, None),
        ("http://127.0.0.1:9000", {"ALL_PROXY": "http://proxy", "NO_PROXY": "localhost,127.0.0.1"}, None),
        ("http://s3.example", {}, None),
    ],
)
def test_the_environment_names_the_proxy(url, environment, expected):
    proxy = proxy_for(Address.of(url), environment)
    assert (proxy and str(proxy.address)) == expected


def test_a_proxy_that_is_none_is_told():
    with pytest.raises(ValueError, match="by http, not by socks5"):
        wire.Proxy.of("socks5://proxy:1080")


@pytest.mark.parametrize(
    ("url", "authority"),
    [
        ("http://a", "a"),
        ("http://a:80", "a"),
        ("https://a:80", "a:80"),
        ("https://[::1]:9000/x", "[::1]:9000"),
    ],
)
def test_the_usual_port_is_not_named(url, authority):
    assert Address.of(url).authority == authority


def test_what_is_no_url_of_a_server_is_told():
    with pytest.raises(ValueError, match="is not the URL of a server"):
        Address.of("ftp://a")


def test_a_body_is_watched_while_its_answer_is_awaited_if_that_was_asked_for(opened):
    stuck = threading.Event()
    with FaultyS3(lambda _: Fault(wait=stuck)) as server, client_for(server.url) as s3:
        sent = threading.Event()

        def check():
            if sent.is_set():
                raise Stop

        def converse():
            assert eventually(lambda: server.seen)
            sent.set()

        watcher = threading.Thread(target=converse)
        watcher.start()
        began = time.monotonic()
        with pytest.raises(Stop):
            s3.put("bucket", "key", Body(opened(b"x" * 100), 100, check=check, to_the_end=True))
        assert time.monotonic() - began < 3
        watcher.join()
        stuck.set()
