"""What every carrier must do, whatever it is made of. A carrier's test module subclasses `CarrierContract`.

It brings three fixtures: `rig` (see depot.Rig), `make_bucket` (buckets that remember every upload) and
`make_depot` (an agent in the test's hands, on a new bucket unless one is named).
"""

from __future__ import annotations

import logging
import os
import unicodedata
import uuid
from typing import TYPE_CHECKING
from urllib.parse import unquote_to_bytes

import pytest

from tidegate.config.naming import unescape
from tidegate.model import State
from tidegate.policy import NAME_METADATA

if TYPE_CHECKING:
    from tests.depot import Depot

REFUSED = "S3Exception: the object is not welcome (Service: S3, Status Code: 400, Request ID: 1)"
FORBIDDEN = "S3Exception: Access Denied (Service: S3, Status Code: 403, Request ID: 1)"
REFUSALS_BEFORE_QUARANTINE = 3

ODD_NAMES = [
    *(
        "a b.csv",
        "a#b",
        "a?b",
        "100%",
        "a%20b",
        "~a",
        "[a]",
        "it's",
        "a^b",
        "a|b",
        "{a}",
        "!{timestamp:YYYY}",
    ),
    *(
        'say "a"',
        "<a>",
        "back\\slash",
        "back`tick",
        "a=b",
        "a=20b",
        "a+b&c,d;e:f@g(h)!$*",
        "-rf",
        "--",
        "...a",
    ),
    *(" a ", "new\nline", "tab\ta", "bell\x07", "del\x7f", "日本語", "naïve", "\U0001f600"),
    unicodedata.normalize("NFC", "é.csv"),
    unicodedata.normalize("NFD", "é.csv"),
    os.fsdecode(b"not \xff\xfe utf-8"),
    os.fsdecode(b"\xc3"),
    "n" * 255,
    " " * 255,
    "folder with blanks/and more/a b",
]


def odd_names_arrive(depot: Depot) -> None:
    """Send a file of each odd name and look for it, under a key that leads back to its name."""
    paths = [depot.write(name, os.fsencode(name)) for name in ODD_NAMES]
    transfers = depot.promise(*paths)
    depot.settle()
    assert depot.tally() == {State.STORED: len(ODD_NAMES)}
    assert len(depot.keys()) == len(ODD_NAMES)
    for name, transfer in zip(ODD_NAMES, transfers, strict=True):
        target = transfer.target
        found = depot.rig.s3.get_object(Bucket=target.bucket, Key=target.key)
        assert found["Body"].read() == os.fsencode(name)
        assert unescape(target.key) == name
        original = found["Metadata"].get(NAME_METADATA)
        assert unquote_to_bytes(original or target.key) == os.fsencode(name)


class CarrierContract:
    """Tests to inherit."""

    @pytest.fixture
    def depot(self, make_depot):
        return make_depot()

    # What arrives

    def test_a_promised_file_becomes_an_object_with_exactly_its_bytes_and_metadata(self, depot):
        content = os.urandom(300_000) + b"\r\n\x00"
        transfer = depot.send("folder/a b.bin", content)
        depot.settle()
        found = depot.rig.s3.get_object(Bucket=depot.bucket, Key="folder/a=20b.bin")
        assert found["Body"].read() == content
        assert transfer.metadata.items() <= found["Metadata"].items()
        assert found["Metadata"][NAME_METADATA] == "folder/a%20b.bin"

    def test_an_empty_file_becomes_an_empty_object(self, depot):
        transfer = depot.send("empty", b"")
        depot.settle()
        assert depot.content(transfer) == b""

    def test_a_file_that_is_sent_in_parts_arrives_whole(self, depot):
        content = os.urandom(6 * 2**20)
        transfer = depot.send("large", content)
        depot.settle()
        assert depot.content(transfer) == content

    def test_files_of_odd_names_arrive(self, depot):
        odd_names_arrive(depot)

    def test_many_files_each_arrive_once(self, depot):
        transfers = depot.send_many(100)
        depot.settle()
        assert set(depot.uploads()) == {transfer.target.key for transfer in transfers}
        assert set(depot.uploads().values()) == {1}
        assert depot.content(transfers[77]) == b"content 77"

    def test_a_stored_promise_is_only_told_after_the_object_is_there(self, depot):
        depot.rig.hold()
        transfer = depot.send("file")
        for _ in range(5):
            depot.round()
            assert depot.tally() == {State.SENT: 1}
        depot.rig.let_go()
        depot.settle()
        assert depot.content(transfer) == b"content"

    def test_nothing_crosses_over_between_two_sources_with_two_buckets(
        self, make_depot, make_bucket, tmp_path
    ):
        other = make_bucket()
        source = {"PathName": f"{tmp_path}/depot0/files/**", "BucketName": other, "ObjectKeyPrefix": "other"}
        depot = make_depot(Sources={"other": source})
        depot.rig.hold()
        paths = [depot.write(f"file{n}", b"%d" % n) for n in range(20)]
        depot.promise(*paths[:15])
        depot.promise(*paths[10:], source="other")  # five go to both
        depot.hand_over()
        depot.restart()
        depot.rig.let_go()
        depot.settle()
        assert sorted(depot.keys()) == sorted(f"file{n}" for n in range(15))
        assert sorted(depot.keys(other)) == sorted(f"other/file{n}" for n in range(10, 20))

    # News

    def test_news_that_is_read_twice_changes_nothing(self, depot):
        depot.rig.refuse(lambda key: REFUSED if key == "poison" else None)
        depot.send_many(5)
        depot.send("poison")
        depot.run_until(lambda: depot.tally() == {State.STORED: 5, State.READY: 1}, tick=0)
        before = {name: count for name, count in depot.counters().items() if name != "statuses_foreign"}
        depot.ledger.rewind(depot.carrier.name)
        depot.collect()
        depot.collect()
        after = {name: count for name, count in depot.counters().items() if name != "statuses_foreign"}
        assert after == before
        assert depot.tally() == {State.STORED: 5, State.READY: 1}

    def test_an_audit_of_a_carrier_that_works_finds_nothing(self, depot):
        depot.rig.hold()
        depot.send_many(5)
        depot.hand_over()
        assert [depot.audit() for _ in range(3)] == [0, 0, 0]
        depot.rig.let_go()
        depot.settle()
        assert depot.audit() == 0
        assert depot.carrier.troubles() == {}
        assert set(depot.uploads().values()) == {1}

    # Being away, and starting anew

    def test_a_carrier_that_is_away_at_the_start_is_waited_for(self, depot):
        depot.rig.go_away()
        depot.send_many(5)
        depot.run_for(600, tick=20)
        depot.run_until(lambda: depot.tally() == {State.READY: 5}, tick=0)  # the last try has failed, too
        assert depot.unavailable
        depot.rig.come_back()
        depot.settle()
        assert depot.tally() == {State.STORED: 5}
        assert {depot.entry(it).attempts for it in depot.promise(*map(str, depot.files.iterdir()))} == {0}

    def test_a_carrier_that_goes_away_in_the_middle_goes_on_when_it_is_back(self, depot):
        transfers = depot.send_many(30)
        depot.run_until(lambda: depot.tally().get(State.STORED, 0) >= 5)
        depot.rig.go_away()
        depot.run_for(60, tick=20)
        depot.rig.come_back()
        depot.settle()
        assert depot.tally() == {State.STORED: 30}
        assert {depot.content(transfer) for transfer in transfers} == {b"content %d" % n for n in range(30)}
        assert max(depot.uploads().values()) <= 2

    def test_what_was_handed_over_is_settled_by_a_new_carrier_on_the_same_ledger(self, depot):
        depot.rig.hold()
        depot.send_many(10)
        depot.hand_over()
        depot.restart()
        depot.send_many(5, "later")
        depot.rig.let_go()
        depot.settle()
        assert depot.tally() == {State.STORED: 15}
        assert set(depot.uploads().values()) == {1}

    def test_what_was_stored_while_the_agent_was_dead_is_settled_when_it_starts(self, depot):
        depot.send_many(10)
        depot.hand_over()
        depot.restart()
        depot.settle()
        assert depot.tally() == {State.STORED: 10}
        assert max(depot.uploads().values()) <= 2

    # Refusals

    def test_a_refused_file_does_not_delay_the_others(self, depot):
        depot.rig.refuse(lambda key: REFUSED if key == "poison" else None)
        poison = depot.send("poison", modified=1_000_000_000)
        depot.send_many(49)
        depot.run_until(lambda: depot.tally().get(State.STORED) == 49, tick=0.01)
        assert depot.entry(poison).state is not State.FAILED

    def test_a_refused_file_goes_to_quarantine_with_its_reason_and_can_be_retried(self, depot):
        depot.rig.refuse(lambda key: REFUSED if key == "poison" else None)
        poison = depot.send("poison")
        depot.send_many(3)
        depot.settle()
        assert depot.tally() == {State.STORED: 3, State.FAILED: 1}
        entry = depot.entry(poison)
        assert "not welcome" in entry.note
        assert entry.attempts == depot.counters()["refusals"] == REFUSALS_BEFORE_QUARANTINE
        depot.run_for(7200, tick=600)
        assert depot.counters()["refusals"] == REFUSALS_BEFORE_QUARANTINE  # nobody asked for another try
        depot.rig.refuse(None)
        assert depot.ledger.retry(poison.body.path, now=depot.clock.wall()) == 1
        depot.settle()
        assert depot.content(poison) == b"content"

    def test_a_bucket_that_forbids_everything_pauses_and_drains_when_it_works_again(self, depot, caplog):
        caplog.set_level(logging.WARNING)
        depot.rig.refuse(lambda _: FORBIDDEN)
        depot.send_many(20)
        depot.run_for(7200, tick=200)
        depot.run_until(lambda: depot.tally() == {State.READY: 20}, tick=0)  # the last try has failed, too
        assert depot.counters().get("refusals", 0) == 0
        depot.rig.refuse(None)
        began = depot.clock.now
        depot.settle(tick=1)
        assert depot.tally() == {State.STORED: 20}
        assert depot.clock.now - began < 120
        assert sum("refuses everything" in record.message for record in caplog.records) == 1

    def test_a_bucket_that_does_not_exist_pauses_and_drains_when_it_is_created(self, make_depot, caplog):
        caplog.set_level(logging.WARNING)
        depot = make_depot(f"missing-{uuid.uuid4()}")
        depot.send_many(20)
        depot.run_for(600, tick=30)
        depot.run_until(lambda: depot.tally() == {State.READY: 20}, tick=0)  # the last try has failed, too
        assert list(depot.ledger.pauses()) == [f"bucket {depot.bucket}"]
        assert depot.counters().get("refusals", 0) == 0
        depot.rig.s3.create_bucket(Bucket=depot.bucket)
        began = depot.clock.now
        depot.settle(tick=1)
        assert depot.tally() == {State.STORED: 20}
        assert depot.clock.now - began < 120
        assert depot.ledger.pauses() == {}
        told = [record.message.partition(" ")[2].split(" and ")[0] for record in caplog.records]
        assert told == [f"{depot.bucket} refuses everything", f"{depot.bucket} works again"]

    # Order

    def test_one_target_has_one_transfer_at_a_time_and_the_oldest_goes_first(self, make_depot):
        depot = make_depot(ObjectKey="{name}")
        depot.rig.hold()
        transfers = [depot.send(f"{folder}/same", folder.encode()) for folder in ("c", "a", "b")]
        others = depot.send_many(3)
        for transfer in transfers:
            depot.hand_over()
            depot.hand_over()
            assert depot.entry(transfer).state is State.SENT
            assert depot.tally()[State.SENT] == 1 + sum(depot.entry(it).state is State.SENT for it in others)
            depot.rig.let_go()
            depot.run_until(lambda it=transfer: depot.entry(it).state is State.STORED)
            depot.rig.hold()
        assert depot.content(transfers[0]) == b"b"

    def test_the_last_version_of_a_file_wins(self, depot):
        depot.rig.hold()
        for version in (1, 2, 3):
            last = depot.send("file", b"version %d" % version * version)
            depot.hand_over()
        depot.send("other")
        depot.rig.let_go()
        depot.settle()
        assert depot.content(last) == b"version 3" * 3
        assert not depot.tally().keys() & {State.FAILED}
