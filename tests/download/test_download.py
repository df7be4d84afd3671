"""What a download makes of its folder."""

from __future__ import annotations

import hashlib
import os
import threading
import time
from typing import TYPE_CHECKING

import pytest

from tests.download.rig import BUCKET, Desk, figures
from tests.standins.faulty_s3 import Fault, error, reply
from tidegate.carry.direct import Throttle
from tidegate.errors import Unavailable
from tidegate.fetch.bring import SMALL_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.standins.faulty_s3 import Seen

LARGE = os.urandom(SMALL_BYTES * 3 + 17)


def test_all_objects_below_come_with_their_bytes_and_are_not_fetched_again(desk: Desk) -> None:
    bodies = {"a.bin": b"", "x/b c+é.bin": b"2", "x/y/large.bin": LARGE}
    for name, body in bodies.items():
        desk.put(f"up/{name}", body)
    desk.put("upper/not.bin", b"3")
    desk.put("up/x/", b"")  # what consoles make for a folder
    assert figures(desk.round()) == (3, 0, 0)
    assert desk.files() == bodies
    gets = desk.asked("get")
    assert figures(desk.round()) == (0, 3, 0)
    desk.restart()
    assert figures(desk.round()) == (0, 3, 0)
    assert desk.asked("get") == gets
    assert desk.counters == {
        "downloads_added": 3,
        "bytes_downloaded": len(LARGE) + 1,
        "downloads_unchanged": 6,
    }
    assert desk.parts() == []


def test_exact_keys_come_under_their_last_names(make_desk: Callable[..., Desk]) -> None:
    desk = make_desk(ObjectKeys=["deep/down/one.json", "two.json", "gone.json"])
    desk.put("deep/down/one.json", b"1")
    desk.put("two.json", b"2")
    made = desk.round()
    assert desk.files() == {"one.json": b"1", "two.json": b"2"}
    assert made.problems == {"gone.json": "there is no such object; what is here stays"}
    desk.drop("two.json")
    assert figures(desk.round()) == (0, 1, 0)
    assert desk.files() == {"one.json": b"1", "two.json": b"2"}


def test_a_changed_object_replaces_its_file_in_one_step_and_only_when_it_is_whole(desk: Desk) -> None:
    desk.put("up/a.bin", LARGE)
    desk.round()
    other = os.urandom(len(LARGE))
    desk.put("up/a.bin", other)
    desk.s3.script = lambda seen: (
        Fault(cut=5000, reset=True) if seen.kind == "get" and seen.number % 3 == 0 else None
    )
    before = desk.folder / "a.bin"
    opened = before.open("rb")
    made = desk.round()
    assert "a.bin" in str(made.problems)
    assert before.read_bytes() == LARGE
    desk.s3.script = lambda _: None
    assert figures(desk.round()) == (1, 0, 0)
    assert before.read_bytes() == other
    assert opened.read() == LARGE  # who reads it has the old one to the end
    opened.close()


def test_a_large_object_goes_on_where_it_was_broken_off(desk: Desk) -> None:
    desk.put("up/a.bin", LARGE)
    desk.s3.script = lambda seen: Fault(cut=5000) if seen.kind == "get" and seen.number == 3 else None
    desk.round()
    (part,) = desk.parts()
    begun = part.stat().st_size
    assert begun > 0
    desk.restart()
    desk.s3.script = lambda _: None
    seen = len(desk.s3.seen)
    desk.round()
    assert desk.files() == {"a.bin": LARGE}
    ranges = [one.headers["range"] for one in desk.s3.seen[seen:] if one.kind == "get"]
    assert ranges[0].startswith(f"bytes={begun}-")


def test_bytes_that_are_not_what_s3_has_never_get_the_name(desk: Desk) -> None:
    desk.put("up/a.bin", b"right")
    desk.put("up/b.bin", LARGE)
    desk.round()
    desk.put("up/a.bin", b"newer")
    desk.put("up/b.bin", LARGE[::-1])

    def script(seen: Seen) -> Fault | None:
        if seen.kind != "get":
            return None
        answer = desk.s3._get(seen)
        return Fault(answer[:-1] + bytes([answer[-1] ^ 1]))

    desk.s3.script = script
    made = desk.round()
    assert set(made.problems) == {"up/a.bin", "up/b.bin"}
    assert "not what S3 says" in made.problems["up/a.bin"]
    assert desk.files() == {"a.bin": b"right", "b.bin": LARGE}
    gets = desk.asked("get")
    assert set(desk.round(1).problems) == {"up/a.bin", "up/b.bin"}
    assert desk.asked("get") == gets  # it is not tried in each round
    desk.s3.script = lambda _: None
    assert figures(desk.round()) == (2, 0, 0)
    assert desk.files() == {"a.bin": b"newer", "b.bin": LARGE[::-1]}


def test_an_md5_as_etag_proves_where_there_are_no_checksums(desk: Desk) -> None:
    desk.s3.has_checksums, desk.s3.has_md5 = False, True
    desk.put("up/a.bin", b"1")
    assert figures(desk.round()) == (1, 0, 0)


def test_without_any_proof_nothing_comes_unless_the_size_is_to_be_enough(
    make_desk: Callable[..., Desk],
) -> None:
    desk = make_desk()
    desk.s3.has_checksums = False
    desk.put("up/a.bin", b"1")
    assert "write Verify: Head" in desk.round().problems["up/a.bin"]
    assert desk.files() == {}
    desk.restart(Verify="Head")
    assert figures(desk.round()) == (1, 0, 0)


def test_what_is_not_listed_any_more_stays_unless_it_is_to_be_deleted(make_desk: Callable[..., Desk]) -> None:
    desk = make_desk()
    desk.s3.page_size = 2
    for number in range(7):
        desk.put(f"up/{number}.bin", b"%d" % number)
    desk.round()
    for number in (0, 3, 4, 6):
        desk.drop(f"up/{number}.bin")
    assert figures(desk.round()) == (0, 3, 0)
    assert len(desk.files()) == 7
    desk.restart(DeleteUnlisted=True)
    assert figures(desk.round()) == (0, 3, 4)
    assert set(desk.files()) == {"1.bin", "2.bin", "5.bin"}
    assert desk.counters["downloads_deleted"] == 4


def test_files_that_were_not_brought_or_were_changed_since_are_never_deleted(
    make_desk: Callable[..., Desk],
) -> None:
    desk = make_desk(DeleteUnlisted=True)
    for name in ("a.bin", "b.bin", "c.bin"):
        desk.put(f"up/{name}", b"1")
    desk.round()
    (desk.folder / "mine.bin").write_bytes(b"mine")
    (desk.folder / "b.bin").write_bytes(b"mine, too")
    for name in ("a.bin", "b.bin"):
        desk.drop(f"up/{name}")
    assert figures(desk.round()) == (0, 1, 1)
    assert desk.files() == {"mine.bin": b"mine", "b.bin": b"mine, too", "c.bin": b"1"}
    assert figures(desk.round()) == (0, 1, 0)


def test_nothing_is_deleted_after_a_listing_that_came_to_no_end_or_is_in_no_order(
    make_desk: Callable[..., Desk],
) -> None:
    desk = make_desk(DeleteUnlisted=True)
    desk.s3.page_size = 2
    for number in range(5):
        desk.put(f"up/{number}.bin", b"1")
    desk.round()
    files = desk.files()
    desk.drop("up/4.bin")
    lists = desk.asked("list")
    desk.s3.script = lambda seen: (
        Fault(error(503, "SlowDown")) if (seen.kind, seen.number) == ("list", lists + 2) else None
    )
    with pytest.raises(Unavailable):
        desk.round()
    assert desk.files() == files
    desk.s3.script = lambda seen: Fault(mixed(desk.s3._list(seen))) if seen.kind == "list" else None
    assert "does not list in order" in desk.round().problems[BUCKET]
    assert desk.files() == files
    desk.s3.script = lambda _: None
    assert figures(desk.round()) == (0, 4, 1)


def mixed(answer: bytes) -> bytes:
    """Say the first object of a listing after the others."""
    begin, end = answer.index(b"<Contents>"), answer.index(b"</Contents>") + 11
    last = answer.rindex(b"</Contents>") + 11
    return answer[:begin] + answer[end:last] + answer[begin:end] + answer[last:]


def test_a_file_that_somebody_changed_or_deleted_comes_again(desk: Desk) -> None:
    for name in ("a.bin", "b.bin"):
        desk.put(f"up/{name}", b"1")
    desk.round()
    (desk.folder / "a.bin").unlink()
    (desk.folder / "b.bin").write_bytes(b"2")
    assert figures(desk.round()) == (2, 0, 0)
    assert desk.files() == {"a.bin": b"1", "b.bin": b"1"}


def test_after_the_ledger_was_lost_what_is_there_is_looked_at_and_not_fetched(desk: Desk) -> None:
    desk.put("up/a.bin", LARGE)
    desk.put("up/b.bin", b"1")
    desk.round()
    desk.stop()
    for file in desk.folder.parent.glob("ledger.db*"):
        file.unlink()
    (desk.folder / "b.bin").write_bytes(b"2")
    desk.start()
    gets = desk.asked("get")
    assert figures(desk.round()) == (1, 1, 0)
    assert desk.asked("get") == gets + 1
    assert desk.files() == {"a.bin": LARGE, "b.bin": b"1"}


BAD = (
    "up/../x",
    "up/a/../../x",
    "up//x",
    "up/./x",
    "up/a/..",
    "up/a\nb",
    "up/.tidegate-download/x",
    f"up/{'n' * 256}",
)


def test_keys_that_would_leave_the_folder_are_refused_and_told_and_the_others_come(desk: Desk) -> None:
    for key in (*BAD, "up/...", "up/..a"):
        desk.put(key, b"1")
    made = desk.round()
    assert set(made.problems) == set(BAD)
    assert desk.files() == {"...": b"1", "..a": b"1"}
    assert not (desk.folder.parent / "x").exists()


def test_links_in_the_folder_lead_nowhere(desk: Desk) -> None:
    outside = desk.folder.parent / "outside"
    outside.mkdir()
    (outside / "victim").write_bytes(b"untouched")
    desk.folder.mkdir()
    (desk.folder / "link").symlink_to(outside)
    (desk.folder / "victim").symlink_to(outside / "victim")
    desk.put("up/link/victim", b"1")
    desk.put("up/victim", b"2")
    made = desk.round()
    assert "up/link/victim" in made.problems
    assert (outside / "victim").read_bytes() == b"untouched"
    assert not (desk.folder / "victim").is_symlink()
    assert (desk.folder / "victim").read_bytes() == b"2"


def test_a_file_in_the_place_of_a_folder_is_told_and_stops_nothing_else(desk: Desk) -> None:
    desk.put("up/a", b"1")
    desk.put("up/a/b", b"2")
    desk.put("up/c", b"3")
    desk.round()
    made = desk.round()
    assert len(made.problems) == 1
    assert desk.files()["c"] == b"3"


def test_a_bucket_that_lets_nothing_be_read_is_left_alone_in_growing_pauses(desk: Desk) -> None:
    desk.put("up/a.bin", b"1")
    desk.s3.script = lambda _: Fault(error(403, "AccessDenied"))
    with pytest.raises(Unavailable, match="AccessDenied"):
        desk.round()
    asked = len(desk.s3.seen)
    for _ in range(4):
        with pytest.raises(Unavailable, match="AccessDenied"):
            desk.round(1)
    assert len(desk.s3.seen) == asked
    with pytest.raises(Unavailable):
        desk.round(2)
    with pytest.raises(Unavailable):
        desk.round(6)
    assert len(desk.s3.seen) == asked + 1
    desk.s3.script = lambda _: None
    assert figures(desk.round(10)) == (1, 0, 0)


def test_an_object_that_may_not_be_read_keeps_no_other(desk: Desk) -> None:
    for name in "abcdef":
        desk.put(f"up/{name}", b"1")
    desk.s3.script = lambda seen: (
        Fault(error(403, "AccessDenied")) if seen.kind == "get" and seen.path[-1] in "ef" else None
    )
    assert set(desk.round().problems) == {"up/e", "up/f"}
    assert set(desk.files()) == set("abcd")


def test_an_outage_is_waited_for_in_growing_intervals_and_its_end_noticed(desk: Desk) -> None:
    desk.put("up/a.bin", b"1")
    desk.s3.script = lambda _: Fault(error(503, "ServiceUnavailable"))
    for _ in range(3):
        with pytest.raises(Unavailable):
            desk.round(1)
    asked = len(desk.s3.seen)
    for _ in range(100):
        with pytest.raises(Unavailable):
            desk.round(1)
    assert 3 <= len(desk.s3.seen) - asked <= 6
    desk.s3.script = lambda _: None
    assert figures(desk.round(50)) == (1, 0, 0)
    assert figures(desk.round(1)) == (0, 1, 0)


def test_a_paused_source_asks_for_nothing(desk: Desk) -> None:
    desk.ledger.orders.pause(["in"])
    desk.put("up/a.bin", b"1")
    desk.download.step()
    assert desk.s3.seen == []
    desk.ledger.orders.resume(None)
    assert figures(desk.round()) == (1, 0, 0)


def test_no_more_come_at_a_time_than_there_are_slots(desk: Desk) -> None:
    lock, counts, pause = threading.Lock(), [0, 0], threading.Event()

    def script(seen: Seen) -> Fault | None:
        if seen.kind == "get":
            with lock:
                counts[0] += 1
                counts[1] = max(counts)
            pause.wait(0.05)
            with lock:
                counts[0] -= 1
        return None

    desk.download._slots = threading.BoundedSemaphore(2)
    for number in range(8):
        desk.put(f"up/{number}", b"1")
    desk.s3.script = script
    assert figures(desk.round()) == (8, 0, 0)
    assert counts[1] == 2


def test_what_comes_keeps_to_the_limit_of_bandwidth(desk: Desk) -> None:
    rate, size = 400_000.0, 600_000
    for number in range(2):
        desk.put(f"up/{number}", os.urandom(size // 2))
    desk.download._bringer._throttle = Throttle(lambda: rate, time.monotonic)
    began = time.monotonic()
    assert figures(desk.round()) == (2, 0, 0)
    assert size / rate * 0.8 < time.monotonic() - began < size / rate * 1.5 + 0.5


def test_where_there_is_no_room_nothing_comes_and_it_is_told(desk: Desk) -> None:
    desk.put("up/small", b"1")
    desk.round()
    desk.put("up/small", b"2")
    desk.put("up/large", b"1")
    huge = 2**60
    desk.s3.script = lambda seen: Fault(sized(desk.s3._list(seen), huge)) if seen.kind == "list" else None
    assert "no room" in desk.round().problems["up/large"]
    assert desk.files() == {"small": b"2"}


def sized(answer: bytes, size: int) -> bytes:
    """Let a listing say that its first object is larger."""
    return reply(
        200, body=answer.partition(b"\r\n\r\n")[2].replace(b"<Size>1</Size>", b"<Size>%d</Size>" % size, 1)
    )


def test_a_stop_ends_a_round_that_waits_for_an_answer(desk: Desk) -> None:
    waiting, go = threading.Event(), threading.Event()

    def script(seen: Seen) -> Fault | None:
        if seen.kind == "get":
            waiting.set()
            return Fault(wait=go)
        return None

    desk.put("up/a", b"1")
    desk.s3.script = script
    thread = threading.Thread(target=desk.download.step)
    thread.start()
    assert waiting.wait(5)
    desk.download.stop()
    thread.join(3)
    assert not thread.is_alive()
    go.set()
    assert desk.files() == {}


def test_many_files_are_known_again_by_what_they_hold(desk: Desk) -> None:
    desk.s3.page_size = 50
    names = [f"{hashlib.sha256(b'%d' % number).hexdigest()[:3]}/{number}" for number in range(230)]
    for name in names:
        desk.put(f"up/{name}", name.encode())
    assert figures(desk.round()) == (230, 0, 0)
    assert desk.files() == {name: name.encode() for name in names}
    desk.restart()
    assert figures(desk.round()) == (0, 230, 0)


def test_a_link_in_place_of_the_folder_for_parts_leads_nowhere(desk: Desk) -> None:
    outside = desk.folder.parent / "outside"
    outside.mkdir()
    (outside / "victim").write_bytes(b"untouched")
    desk.folder.mkdir()
    (desk.folder / ".tidegate-download").symlink_to(outside)
    desk.put("up/a", b"1")
    with pytest.raises(Unavailable, match="cannot be used"):
        desk.round()
    assert [one.name for one in outside.iterdir()] == ["victim"]


def test_a_link_in_place_of_a_part_leads_nowhere(desk: Desk) -> None:
    victim = desk.folder.parent / "victim"
    victim.write_bytes(b"untouched")
    bodies = {"a": b"1", "b": LARGE}
    parts = desk.folder / ".tidegate-download"
    (parts / "somebody's").mkdir(parents=True)
    for name, body in bodies.items():
        desk.put(f"up/{name}", body)
    for page in desk.download._library.pages(BUCKET, "up/"):
        for one in page:
            (parts / desk.download._bringer.part_of(one)).symlink_to(victim)
    assert figures(desk.round()) == (2, 0, 0)
    assert victim.read_bytes() == b"untouched"
    assert desk.files() == bodies
