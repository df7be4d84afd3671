"""Whatever is asked, there is one answer, it is small, and where something is wrong it says what to write."""

from __future__ import annotations

import json
import threading
from contextlib import ExitStack
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.helpers import eventually, transfer
from tests.routes.rig import Answered, rig
from tidegate.clock import Clock
from tidegate.ledger import Settled
from tidegate.routes import REPLY_BYTES, REQUEST_BYTES, Routes
from tidegate.routes.routes import WAITING, _Once
from tidegate.routes.waiting import MOST, Waiting
from tidegate.routes.wire import accepted

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.routes.rig import Rig

NAMES = (
    *("key", "body", "bodyBase64", "contentType", "metadata", "path", "source", "objects", "waitSeconds"),
    *("upload", "part", "parts", "sha256", "clientToken", "cursor", "id", "nonsense", ""),
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=4),
    max_leaves=8,
)
ROUTES = st.sampled_from((*Routes.verbs, "objects/get", "", "statistics", "/../"))


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    with rig(tmp_path_factory.mktemp("shared")) as made:
        yield made


@given(route=ROUTES, body=st.dictionaries(st.sampled_from(NAMES), JSON, max_size=6))
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_is_asked_is_answered_once(shared: Rig, route: str, body: dict[str, Any]) -> None:
    body = {**body, "waitSeconds": body.get("waitSeconds") if isinstance(body.get("waitSeconds"), str) else 0}
    reply = shared.ask(route, json.dumps(body).encode())
    assert reply.status != 500, reply
    if not reply.accepted:
        assert reply.body["message"]


@given(route=ROUTES, payload=st.binary(max_size=60))
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_bytes_that_are_no_request_are_answered_too(shared: Rig, route: str, payload: bytes) -> None:
    assert shared.ask(route, payload).status < 500


@pytest.mark.parametrize(
    ("route", "body", "words"),
    [
        ("statistics/get", b"{", "the request is not JSON"),
        ("statistics/get", b"[1]", "the request is a list; write a map"),
        ("statistics/get", b"\xff\xfe", "the request is not JSON"),
        ("statistics/get", b"[" * 5000, "the request is not JSON"),
        ("statistics/put", b"", '"statistics/put" is no route; write one of objects/post, statistics/get'),
        ("statistics/get", {"cursor": 5}, "cursor: 5 is not text; put it in quotes"),
        ("statistics/get", {"curser": "a"}, "curser: there is no such key here; did you mean cursor?"),
        ("explain/get", {}, "path: is missing; write the path of a file, or the id of a promise"),
        (
            "explain/get",
            {"path": "a.csv"},
            'path: "a.csv" is no absolute path; write for example /data/a.csv',
        ),
        ("explain/get", {"id": "xyz"}, 'id: "xyz" is no id; write the one that objects/post has answered'),
        ("explain/get", {"id": "00" * 16}, "is not known (any more)"),
        ("scan/post", {"source": "x"}, 'source: "x" is not configured; write one of default'),
        ("objects/post", {"body": "x"}, "key: is missing; write what the object is called"),
        ("objects/post", {"key": "a"}, "body: is missing; write body, bodyBase64 or, instead of a key, path"),
        ("objects/post", {"key": "a", "body": 5}, "body: 5 is not text; put it in quotes"),
        ("objects/post", {"key": "a", "bodyBase64": "?"}, 'bodyBase64: "?" is not Base64; write for example'),
        (
            "objects/post",
            {"key": "a", "body": "", "bodyBase64": ""},
            "stands beside body; write one of the two",
        ),
        ("objects/post", {"key": "/a", "body": ""}, 'key: "/a" is no key; write a name such as'),
        ("objects/post", {"key": "a/../b", "body": ""}, "has an empty or dotted part"),
        ("objects/post", {"key": "x" * 1025, "body": ""}, "key_too_long"),
        ("objects/post", {"key": "a", "body": "\ud800"}, "holds half a character"),
        ("objects/post", {"key": "a", "body": "", "contentType": "?"}, 'contentType: "?"'),
        ("objects/post", {"key": "a", "body": "", "metadata": {"ü": "1"}}, "metadata: a map has the name"),
        ("objects/post", {"key": "a", "body": "", "waitSeconds": 601}, "waitSeconds: 601 is more than 600"),
        ("objects/post", {"key": "a", "body": "", "part": 1}, "part: 1 has no use without upload"),
        ("objects/post", {"objects": []}, "objects: a list has 0 entries; write 1 to 100"),
        ("objects/post", {"objects": [5]}, "objects[0]: 5 is not a map"),
        ("objects/post", {"objects": [{"key": "a"}]}, "objects[0].body: is missing"),
        (
            "objects/post",
            {"objects": [{"key": "a", "boddy": "x"}]},
            "objects[0].boddy: there is no such key here",
        ),
        ("objects/post", {"path": "/a", "key": "a"}, 'path: "/a" names a file; leave out key'),
        ("objects/post", {"path": "/nowhere/a.csv"}, "belongs to no source"),
        ("objects/post", {"upload": "u", "part": 4, "parts": 3, "body": ""}, "part: 4 is more than parts, 3"),
        ("objects/post", {"upload": "u", "sha256": "12"}, 'sha256: "12" is no SHA-256'),
        ("objects/post", {"clientToken": "x" * 65, "key": "a", "body": ""}, "is no token; write up to 64"),
    ],
)
def test_a_faulty_request_is_rejected_with_key_value_and_remedy(
    shared: Rig, route: str, body: Any, words: str
) -> None:
    reply = shared.ask(route, body)
    assert 400 <= reply.status < 500
    assert words in reply.body["message"]


def test_all_faults_of_a_request_are_told_at_once(shared: Rig) -> None:
    message = shared.ask("objects/post", {"key": 5, "body": 6, "foo": 7}).body["message"]
    assert [line.partition(":")[0] for line in message.splitlines()] == ["key", "body", "foo"]


def test_a_rejected_request_gets_its_token_back(shared: Rig) -> None:
    assert shared.ask("no/where", {"clientToken": "mine"}).body["clientToken"] == "mine"
    assert shared.ask("objects/post", {"clientToken": "mine", "key": 5}).body["clientToken"] == "mine"


def test_a_request_that_is_too_large_is_rejected(shared: Rig) -> None:
    reply = shared.ask("objects/post", b"x" * (REQUEST_BYTES + 1))
    assert (reply.status, reply.body["code"]) == (413, "TooLarge")


def test_long_values_do_not_make_the_answer_long(shared: Rig) -> None:
    for value in ("\U0001f600" * 5000, "\\" * 9000, "ü" * 9000):
        shared.ask("objects/post", {value: value, "key": value, "source": value, "path": value})
        shared.ask("explain/get", {"path": f"/{value}", "clientToken": "\U0001f600" * 64})
        shared.ask(value)


def test_an_answer_that_fails_takes_nobody_with_it(shared: Rig) -> None:
    def gone(_: object) -> None:
        raise ConnectionError("the door is gone")

    for route in Routes.verbs:
        if route != "pause/post":  # it might be done after resume/post, and nothing would go any more
            shared.routes.handle(route, b"{}", gone)
    shared.routes.handle("objects/post", b'{"key": "a", "body": "x"}', gone)
    eventually(lambda: ("bucket", "a") in shared.carrier.objects)
    assert shared.ask("objects/post", {"key": "b", "body": "x"}).status == 200
    assert shared.ask("retry/post").status == 200


def test_requests_are_answered_while_the_agent_is_started_anew(one: Rig) -> None:
    one.stop()
    early = [one.send(route) for route in ("statistics/get", "retry/post")]
    early.append(one.send("objects/post", {"key": "a", "body": "x"}))
    one.start()
    assert [answer.reply().status for answer in early] == [200, 200, 200]


def test_without_an_agent_they_are_told_to_ask_again(tmp_path: Path) -> None:
    with ExitStack() as stack:
        routes = Routes(Clock())
        stack.callback(routes.close)
        answers = {route: Answered() for route in Routes.verbs}
        for route, answer in answers.items():
            routes.handle(route, b'{"key": "a", "body": "x"}' if route == "objects/post" else b"{}", answer)
        for route in ("statistics/get", "retry/post", "objects/post"):
            reply = answers[route].reply()
            assert (reply.status, reply.body["code"]) == (503, "Unavailable"), route


def test_more_than_can_wait_are_turned_away_at_once(tmp_path: Path) -> None:
    routes = Routes(Clock())
    try:
        answers = [Answered() for _ in range(WAITING + 10)]
        for answer in answers:
            routes.handle("retry/post", b"{}", answer)
        busy = [answer for answer in answers if answer.replies]
        assert len(busy) >= 10 - 2  # two are with the workers
        assert {answer.reply().body["code"] for answer in busy} == {"Busy"}
    finally:
        routes.close()
    assert threading.active_count() < 50


def test_an_answer_that_would_cost_the_connection_is_not_given_and_that_is_told() -> None:
    answered = Answered()
    _Once(answered)(accepted({"a": "x" * REPLY_BYTES}, "t"))
    assert answered.reply().status == 500
    assert answered.reply().body["code"] == "Failed"


def test_who_has_an_answer_takes_no_place_from_those_who_wait() -> None:
    waiting, over = Waiting(), []
    for number in range(3 * MOST):
        id_ = number.to_bytes(16, "big")
        assert waiting.add([id_], 600.0, over.append)
        waiting.settled(Settled(stored=[replace(transfer("a"), id=id_)]))
    assert len(over) == 3 * MOST
    assert len(waiting._ends) <= 2 * MOST
    waits = [waiting.add([number.to_bytes(16, "big")], 600.0, over.append) for number in range(MOST + 1)]
    assert all(waits[:MOST])
    assert waits[MOST] is None
    waiting.drop(waits[0])  # type: ignore[arg-type]
    assert waiting.add([b"another"], 600.0, over.append)
