"""Restored objects are downloaded as they become ready, proven, and within bounds."""

from __future__ import annotations

import hashlib
import io
import shutil
import sqlite3
import threading
import time
from typing import TYPE_CHECKING

import pytest

from tests.restore.rig import ODD
from tests.standins.glacier import DAY
from tidegate.errors import ConfigFaults, LedgerLost
from tidegate.restore.fetch import PARTIAL, local_name
from tidegate.restore.selection import manifest

if TYPE_CHECKING:
    from pathlib import Path

    from tests.restore.rig import Rig

MIB = 2**20


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


def into(home: Path, **fields: object) -> dict[str, object]:
    return {"folder": str(home), "bandwidth": 0, "reserve": 0, "room": 0, **fields}


def begun(rig: Rig, home: Path) -> Path:
    """Where the job keeps what it has of bucket/a."""
    etag = rig.s3.head_object(Bucket="bucket", Key="a")["ETag"][1:-1]
    with rig.jobs.journal("job") as journal:
        job = f"{journal.spec.id}\0{journal.spec.created}"
    (home / PARTIAL).mkdir(parents=True)
    mark, name = (hashlib.sha256(it.encode()).hexdigest() for it in (job, f"bucket\0a\0\0{etag}"))
    return home / PARTIAL / f"{mark[:16]}-{name}"


def test_all_is_there_and_right_and_nothing_else(rig, home):
    for key in ODD:
        rig.glacier.put("bucket", key, size=1000)
    rig.glacier.put("bucket", "big", size=9 * MIB)
    rig.glacier.put("bucket", "parts", parts=(5 * MIB, 5 * MIB, 100), checksum=False)
    rig.glacier.put("bucket", "plain", storage_class="STANDARD", body=b"never archived", checksum=False)
    rig.glacier.put("bucket", "empty", size=0)
    rig.order(tier="Expedited", fetch=into(home))
    assert rig.run() == "Complete"
    assert rig.counts().fetched == len(ODD) + 4
    for key in (*ODD, "big", "parts", "plain", "empty"):
        assert (home / local_name("", key, "")).read_bytes() == rig.glacier.content("bucket", key)
    assert list((home / PARTIAL).iterdir()) == []
    assert rig.notes()["unproven"] == 0


def test_a_link_below_the_folder_leads_nothing_out_of_it(rig, home, tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    home.mkdir()
    (home / "link").symlink_to(outside)
    rig.glacier.put("bucket", "link/a", size=1000)
    rig.glacier.put("bucket", "b", size=1000)
    rig.order(tier="Expedited", fetch=into(home))
    assert rig.run() == "Complete"
    assert (rig.counts().fetched, rig.counts().failed) == (1, 1)
    assert list(outside.iterdir()) == []
    assert (home / "b").exists()


def test_what_is_ready_comes_while_the_rest_is_under_way(rig, home):
    rig.glacier.populate("bucket", 20, prefix="near/")
    rig.glacier.put("bucket", "deep", storage_class="DEEP_ARCHIVE")
    rig.order(fetch=into(home))
    with rig.jobs.running("job") as run:
        while rig.counts().fetched < 20:
            rig.step(run)
        assert rig.counts().asked == 1
        assert len(list((home / "near").iterdir())) == 20
        while rig.step(run) is not None:
            pass
    assert rig.status() == "Complete"


def test_bytes_that_are_wrong_are_fetched_again_and_never_get_their_name(rig, home):
    rig.glacier.put("bucket", "a", size=100)
    rig.order(tier="Expedited", fetch=into(home))
    assert rig.run(until="fetching") == "fetching"
    begun(rig, home).write_bytes(b"x" * 50)  # half of a file, and not of this one
    assert rig.run() == "Complete"
    assert (home / "a").read_bytes() == rig.glacier.content("bucket", "a")
    assert rig.glacier.counters["GetObject"] == 2


def test_a_file_that_was_begun_is_gone_on_with(rig, home):
    rig.glacier.put("bucket", "a", size=9 * MIB)
    rig.order(tier="Expedited", fetch=into(home))
    assert rig.run(until="fetching") == "fetching"
    begun(rig, home).write_bytes(rig.glacier.content("bucket", "a")[: 8 * MIB])
    assert rig.run() == "Complete"
    assert (home / "a").read_bytes() == rig.glacier.content("bucket", "a")
    assert rig.glacier.counters["GetObject"] == 1  # of what was missing


def test_no_more_than_the_bandwidth_is_used(rig, home):
    rig.glacier.populate("bucket", 8, size=256 * 1024)
    rig.order(tier="Expedited", fetch=into(home, bandwidth=MIB))
    began = time.monotonic()
    assert rig.run() == "Complete"
    assert 1.6 < time.monotonic() - began < 8


def test_a_disk_without_room_is_waited_for(rig, home):
    rig.glacier.populate("bucket", 3, size=1000)
    home.mkdir()
    rig.order(tier="Expedited", fetch=into(home, reserve=shutil.disk_usage(home).total), timeout=7200)
    assert rig.run() == "Timeout"
    assert "there is no room" in rig.notes()["trouble"]
    assert (rig.counts().ready, rig.counts().fetched) == (3, 0)


def test_a_folder_that_is_full_is_waited_for_until_somebody_takes_files_away(rig, home):
    rig.glacier.populate("bucket", 4, size=1000)
    rig.order(tier="Expedited", fetch=into(home, room=2500))
    with rig.jobs.running("job") as run:
        while rig.counts().fetched < 2:
            rig.step(run)
        for _ in range(3):
            rig.step(run)
        assert rig.counts().fetched == 2
        for path in home.glob("[0-9]*"):
            path.unlink()
        while rig.step(run) is not None:
            pass
    assert (rig.status(), rig.counts().fetched) == ("Complete", 4)


def test_a_name_that_cannot_be_is_one_failure(rig, home):
    rig.glacier.put("bucket", "a")
    rig.glacier.put("bucket", "a/b")  # a cannot be a file and a folder
    rig.glacier.put("bucket", "c")
    rig.order(tier="Expedited", fetch=into(home))
    assert rig.run() == "Complete"
    assert (rig.counts().fetched, rig.counts().failed) == (2, 1)
    assert rig.failures()[0]["code"] == "LocalFile"


def test_an_object_in_parts_of_several_sizes_is_there_but_unproven(rig, home):
    rig.glacier.put("bucket", "a", parts=(6 * MIB, 5 * MIB, 5 * MIB, 100), checksum=False)
    rig.order(tier="Expedited", fetch=into(home))
    assert rig.run() == "Complete"
    assert (home / "a").read_bytes() == rig.glacier.content("bucket", "a")
    assert rig.notes()["unproven"] == 1


def test_a_failing_network_only_takes_longer(rig, home):
    rig.glacier.populate("bucket", 30, size=2000)
    rig.order(tier="Expedited", fetch=into(home))
    assert rig.run(until="fetching") == "fetching"
    rig.glacier.faults.add("cut", "GetObject", times=20)
    rig.glacier.faults.add("internal-error", "GetObject", times=20, skip=5)
    assert rig.run() == "Complete"
    assert rig.counts().fetched == 30


@pytest.mark.parametrize(
    ("key", "name"),
    [
        ("a/b.bin", "a/b.bin"),
        ("../../etc/passwd", "%2E%2E/%2E%2E/etc/passwd"),
        ("/a//b/", "%/a/%/b/%"),
        ("./100%", "%2E/100%25"),
        (f"{PARTIAL}/x", "%2Etidegate-restore/x"),
        ("zero\0byte", "zero%00byte"),
    ],
)
def test_every_key_has_a_place_of_its_own_below_the_folder(key, name):
    assert local_name("", key, "") == name
    assert local_name("bucket", key, "v1") == f"bucket/{name}%40v1"


def test_two_jobs_that_fetch_the_same_object_to_the_same_folder_do_not_spoil_it(rig, home):
    rig.glacier.put("bucket", "a", size=9 * MIB)
    for name in ("one", "two"):
        rig.order(name, tier="Expedited", fetch=into(home))
        assert rig.run(name, until="waiting") == "waiting"
    rig.glacier.clock.advance(600)
    rig.glacier.faults.add("delay", "GetObject", times=None, seconds=0.1)
    crew = [threading.Thread(target=rig.run, args=(name,)) for name in ("one", "two")]
    for thread in crew:
        thread.start()
    for thread in crew:
        thread.join()
    assert (rig.status("one"), rig.status("two")) == ("Complete", "Complete")
    assert (home / "a").read_bytes() == rig.glacier.content("bucket", "a")
    assert list((home / PARTIAL).iterdir()) == []


@pytest.mark.parametrize("how", ["cancelled", "replaced", "in the way"])
def test_what_was_begun_and_is_not_wanted_any_more_is_taken_away(rig, home, how):
    rig.glacier.put("bucket", "a", size=9 * MIB)
    rig.order(tier="Expedited", fetch=into(home))
    assert rig.run(until="fetching") == "fetching"
    rig.glacier.faults.add("internal-error", "GetObject", skip=1, times=30)
    if how == "in the way":
        rig.glacier.faults.clear()
        (home / "a").mkdir(parents=True)
    with rig.jobs.running("job", slice_seconds=0.3) as run:
        rig.step(run)
        if how != "in the way":
            assert [it.stat().st_size for it in (home / PARTIAL).iterdir()] == [4 * MIB]
        rig.glacier.faults.clear()
        if how == "cancelled":
            rig.jobs.cancel("job")
        elif how == "replaced":
            rig.glacier.put("bucket", "a", storage_class="STANDARD", body=b"another")
        while rig.step(run) is not None:
            pass
    assert rig.status() == {"cancelled": "Cancelled", "replaced": "Complete", "in the way": "Failed"}[how]
    assert list((home / PARTIAL).iterdir()) == []


def test_what_breaks_a_download_off_is_told_and_not_taken_for_its_end(rig, home):
    rig.glacier.put("bucket", "a", size=10)
    rig.order(tier="Expedited", fetch=into(home))
    assert rig.run(until="fetching") == "fetching"
    with sqlite3.connect(rig.folder / "restore" / "job.job") as damage:
        damage.execute("UPDATE sheets SET keys = x'00'")
    damage.close()
    with pytest.raises(LedgerLost, match="the keys of a sheet cannot be read"):
        rig.run()
    assert rig.status() == "Restoring"


@pytest.mark.parametrize("bucket", ["..", "../../etc", "a/b", "/etc", "A B", "x" * 300])
def test_a_bucket_that_can_be_none_is_refused_before_it_is_a_folder(rig, bucket):
    with pytest.raises(ConfigFaults, match=r"the manifest, line 1: .* is not the name of a bucket"):
        rig.order(rows=manifest(io.BytesIO(f"{bucket},key\n".encode())))
    assert rig.jobs.names() == []


def test_a_copy_that_was_gone_before_it_was_fetched_is_asked_for_again(rig, home):
    rig.glacier.populate("bucket", 3, size=1000)
    rig.order(tier="Expedited", days=1, fetch=into(home), timeout=30 * DAY)
    assert rig.run(until="fetching") == "fetching"
    left, waited = rig.counts().ready, rig.waited
    assert left
    rig.glacier.clock.advance(3 * DAY)
    assert rig.run() == "Complete"
    assert rig.waited - waited < DAY
    assert (rig.counts().fetched, rig.glacier.begun) == (3, 3 + left)
