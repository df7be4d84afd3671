"""What is kept on the device goes again when it has changed, and is skipped where the bucket has it already."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pytest

from tests.standins.faulty_s3 import Fault, error, reply
from tidegate.model import State

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.depot import Depot
    from tests.standins.faulty_s3 import Seen

LARGE = bytes(range(256)) * 4096 * 6  # in two parts


def words(depot: Depot) -> dict[str, int]:
    named = ("added", "updated", "skipped", "files_stored", "bytes_stored")
    return {name: value for name, value in depot.counters().items() if name in named}


@pytest.mark.parametrize("content", [b"content", b"", LARGE], ids=["small", "empty", "large"])
@pytest.mark.parametrize("keys", [{}, {"Compress": "Gzip"}], ids=["plain", "packed"])
def test_what_the_bucket_has_already_is_skipped_and_what_differs_is_replaced(
    make_depot: Callable[..., Depot], make_bucket: Callable[[], str], content: bytes, keys: dict[str, Any]
) -> None:
    bucket = make_bucket()
    first = make_depot(bucket, After="Keep", **keys)
    first.send("a.csv", content)
    first.settle()
    assert words(first) == {"added": 1, "files_stored": 1} | (
        {"bytes_stored": len(content)} if content else {}
    )
    second = make_depot(bucket, After="Keep", **keys)  # knows nothing of the first
    second.send("a.csv", content)
    second.settle()
    assert words(second) == {"skipped": 1, "files_stored": 1}
    assert set(second.uploads().values()) == {1}
    other = content[:-1] + b"!"
    changed = second.send("a.csv", other)
    second.settle()
    assert words(second)["updated"] == 1
    assert set(second.uploads().values()) == {2}
    if not keys:
        assert second.content(changed) == other


def test_a_change_that_keeps_size_and_time_is_sent(make_depot: Callable[..., Depot]) -> None:
    depot = make_depot(After="Keep")
    depot.send("a.csv", b"one", modified=1_700_000_000)
    depot.settle()
    changed = depot.send("a.csv", b"two", modified=1_700_000_000)
    depot.settle()
    assert depot.content(changed) == b"two"
    assert words(depot)["updated"] == 1


def test_a_file_that_was_only_touched_is_not_sent(make_depot: Callable[..., Depot]) -> None:
    depot = make_depot(After="Keep")
    sent = depot.send("a.csv", b"one")
    depot.settle()
    os.utime(sent.body.path, (1, 1))
    depot.promise(sent.body.path)
    depot.settle()
    assert (words(depot)["skipped"], depot.uploads()) == (1, {"a.csv": 1})


def test_another_key_that_begins_the_same_is_another_object(make_depot: Callable[..., Depot]) -> None:
    # s3-ingestor lists by prefix: with x2 in the bucket it took x for stored, and deleted it unsent.
    depot = make_depot(After="Keep")
    depot.rig.s3.put_object(Bucket=depot.bucket, Key="x2", Body=b"same size")
    sent = depot.send("x", b"12345 789", modified=1)
    depot.settle()
    assert depot.content(sent) == b"12345 789"
    assert words(depot) == {"added": 1, "files_stored": 1, "bytes_stored": 9}


@pytest.mark.parametrize("keys", [{"After": "Delete"}, {"After": "Keep", "Force": True}])
def test_without_keep_or_with_force_nobody_looks_first(
    on_faulty: Callable[..., Any], keys: dict[str, Any]
) -> None:
    depot, server = on_faulty(**keys)
    depot.send("a.csv")
    depot.settle()
    assert [seen.method for seen in server.seen] == ["PUT"]


def test_only_the_object_itself_is_asked_for_and_nothing_is_listed(on_faulty: Callable[..., Any]) -> None:
    depot, server = on_faulty(After="Keep")
    depot.send("a.csv")
    depot.settle()
    assert [(seen.method, seen.path, seen.headers.get("if-none-match")) for seen in server.seen] == [
        ("PUT", "bucket/a.csv", "*")  # a small file is sent on condition: that takes no request of its own
    ]
    depot.send("b.csv", b"x" * 300_000)
    depot.settle()
    assert [(seen.method, seen.path.partition("?")[0]) for seen in server.seen[1:2]] == [
        ("HEAD", "bucket/b.csv")
    ]


def test_a_store_that_knows_no_conditions_is_asked(on_faulty: Callable[..., Any]) -> None:
    def refuse(seen: Seen) -> Fault | None:
        return Fault(answer=error(501, "NotImplemented")) if "if-none-match" in seen.headers else None

    depot, server = on_faulty(refuse, After="Keep")
    depot.send("a.csv", b"one")
    depot.settle()
    depot.send("b.csv", b"two")
    depot.settle()
    assert [seen.method for seen in server.seen] == ["PUT", "HEAD", "PUT", "HEAD", "PUT"]
    assert words(depot)["added"] == 2
    depot.send("b.csv", b"three")
    depot.settle()
    assert words(depot)["updated"] == 1
    assert server.objects["bucket/b.csv"].body == b"three"


def test_who_may_not_look_uploads(on_faulty: Callable[..., Any]) -> None:
    def forbid(seen: Seen) -> Fault | None:
        return Fault(answer=reply(403, is_head=True)) if seen.method == "HEAD" else None

    depot, _ = on_faulty(forbid, After="Keep")
    depot.send("a.csv")
    depot.send("b.csv", b"x" * 1500)
    depot.settle()
    assert depot.tally() == {State.STORED: 2}
    assert words(depot)["added"] == 2
