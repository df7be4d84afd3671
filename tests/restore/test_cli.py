"""The command `tidegate restore`: what it prints, and with which code it ends."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import signal
import time

import pytest

from tests.helpers import eventually
from tests.restore.rig import ODD
from tidegate.restore.batch import line

ROLE = "arn:aws:iam::123456789012:role/batch"


def test_a_prefix_is_restored_fetched_and_told_in_json_lines(shell):
    shell.glacier.populate("bucket", 50, prefix="a/")
    home = shell.folder / "home"
    code, events, err = shell.create("s3://bucket/a/", "--id=one", f"--fetch={home}", "--tag=mine")
    assert (code, err) == (0, "")
    assert [events[0]["Status"], events[-1]["Status"]] == ["Restoring", "Complete"]
    assert {event["detail"]["clientTag"] for event in events} == {"mine"}
    assert len(list((home / "a").iterdir())) == 50
    code, out, _ = shell.run("list")
    assert (code, out.splitlines()[1].split()) == (
        0,
        ["one", "Complete", "100", "50", "0", "Standard", "s3://bucket/a/"],
    )
    assert json.loads(shell.run("show", "one", "--json")[1])["counts"]["fetched"] == 50
    assert "50 fetched" in shell.run("show", "one")[1]
    assert shell.run("resume", "one")[0] == 0
    assert shell.run("watch", "one")[0] == 0


def test_a_dry_run_tells_what_it_would_take_and_asks_for_nothing(shell):
    shell.glacier.populate("bucket", 20, prefix="a/", size=2048)
    shell.glacier.put("bucket", "a/plain", storage_class="STANDARD")
    code, out, _ = shell.run("create", "s3://bucket/a/", "--dry-run", "--json")
    said = json.loads(out)
    assert (code, said["objects"], said["requests"], said["bytes"]) == (0, 21, 20, 20 * 2048 + 100)
    assert said["byState"]["open"] == {"objects": 1, "bytes": 100}
    assert said["seconds"] == {"Expedited": 300.4, "Standard": 18_000.4, "Bulk": 43_200.4}
    text = shell.run("create", "s3://bucket/a/", "-n")[1]
    assert "21 object(s), 40.1 KiB; 20 to be asked for" in text
    assert "with Bulk: all there after about 12 h 0 min" in text
    assert shell.glacier.begun == 0
    assert not (shell.folder / "work").exists()


@pytest.mark.parametrize("place", ["local", "s3"])
def test_a_manifest_is_read_here_or_in_s3(shell, place):
    for key in ODD:
        shell.glacier.put("bucket", key)
    manifest = b"".join(line("bucket", key, "") for key in (*ODD, ODD[0], "none"))
    target = "s3://lists/a manifest.csv"
    if place == "local":
        path = shell.folder / "list.csv"
        path.write_bytes(manifest)
        target = str(path)
    else:
        shell.glacier.put("lists", "a manifest.csv", body=manifest, storage_class="STANDARD")
    code, events, err = shell.create(f"--manifest={target}", "--id=one")
    assert (code, events[-1]["detail"]["counts"]["ready"], events[-1]["FailedBatchFiles"]) == (
        1,
        len(ODD),
        "1",
    )
    assert "1 object(s) were named twice" in err
    failed = json.loads(shell.run("show", "one", "--failed")[1])
    assert (failed["key"], failed["code"]) == ("none", "NoSuchKey")


@pytest.mark.parametrize(("flags", "end"), [((), b"\n"), (("-0",), b"\0")])
def test_keys_come_on_standard_input(shell, flags, end):
    keys = [key for key in ODD if end == b"\0" or "\n" not in key]
    for key in keys:
        shell.glacier.put("bucket", key)
    given = end.join(key.encode() for key in keys) + end
    code, events, _ = shell.create("--keys=bucket", *flags, given=given)
    assert (code, events[-1]["detail"]["counts"]["ready"]) == (0, len(keys))


def test_s3_batch_operations_are_reached_by_the_same_command(shell):
    shell.glacier.populate("bucket", 30)
    shell.glacier.bucket("reports")
    del shell.environment["HTTP_PROXY"]
    batch = ("--engine=batch", "--account=123456789012", f"--role={ROLE}", "--report=s3://reports/x")
    code, events, err = shell.create("s3://bucket/", *batch, f"--control-url={shell.glacier.endpoint}")
    assert (code, err) == (0, "")
    assert [events[-1]["BatchJobId"]] == list(shell.glacier.jobs)


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("s3://bucket/", "--keys=bucket"),
        ("bucket/prefix",),
        ("s3://bucket/", "--days=0"),
        ("s3://bucket/", "--tier=Fast"),
        ("s3://bucket/", "--smallest=big"),
        ("s3://bucket/", "--after=yesterday"),
        ("s3://bucket/", "--timeout=soon"),
        ("s3://bucket/", "--webhook=http://x/"),
        ("s3://bucket/", "--webhook=http://x/", "--webhook-secret=/nowhere"),
        ("s3://bucket/", "--webhook=nothing", "--webhook-secret=/etc/hostname"),
        ("s3://bucket/", "--engine=batch"),
        ("--manifest=/nowhere",),
        ("--keys=bucket", "--fields=key"),
        ("s3://bucket/", "--id=../x"),
    ],
)
def test_what_cannot_be_ordered_ends_with_2_and_leaves_nothing(shell, arguments):
    code, out, err = shell.run("create", *arguments)
    assert (code, out) == (2, "")
    assert err
    assert shell.run("list", "--json")[1] == "[]\n"


def test_what_is_not_there_ends_with_3(shell):
    shell.glacier.bucket("bucket")
    assert shell.create("s3://nothing/")[0] == 3
    assert shell.create("s3://bucket/")[0] == 3
    assert shell.create("--manifest=s3://bucket/none.csv")[0] == 3
    assert shell.run("create", "-n", "s3://nothing/")[0] == 3
    for command in ("show", "watch", "cancel", "resume"):
        assert shell.run(command, "nosuch")[0] == 3


def test_what_is_refused_ends_with_7_and_what_takes_too_long_with_5(shell):
    shell.glacier.populate("bucket", 5, storage_class="DEEP_ARCHIVE")
    shell.glacier.faults.add("denied", "ListObjectsV2", times=2)
    assert shell.create("s3://bucket/")[0] == 7
    assert shell.run("create", "-n", "s3://bucket/")[0] == 7
    assert shell.create("s3://bucket/", "--timeout=1s", "--tier=Bulk")[0] == 5


def test_bounds_end_with_8_and_nothing_to_do_with_9(shell):
    shell.glacier.populate("bucket", 5)
    assert shell.create("s3://bucket/", "--most=4")[0] == 8
    assert shell.glacier.begun == 0
    assert shell.create("s3://bucket/", "--most=5")[0] == 0
    assert shell.create("s3://bucket/", "--most=5", "--error-if-none", "--days=1")[0] == 9
    assert shell.run("create", "-n", "s3://bucket/", "--error-if-none", "--days=1")[0] == 9


def test_a_job_that_runs_is_followed_locked_and_cancelled_by_others(shell):
    shell.glacier.populate("bucket", 5, storage_class="DEEP_ARCHIVE")
    with shell.start("create", "s3://bucket/", "--id=one", "--poll=1h") as runs:
        assert runs.stdout is not None
        assert json.loads(runs.stdout.readline())["Status"] == "Restoring"
        with shell.start("watch", "one") as watches:
            assert shell.run("resume", "one")[0] == 11
            assert shell.run("cancel", "one")[0] == 0
            assert [process.wait(20) for process in (runs, watches)] == [4, 4]
            assert watches.stdout is not None
            assert [json.loads(text)["Status"] for text in watches.stdout] == ["Restoring", "Cancelled"]
    assert shell.run("cancel", "one")[1] == "the job one has ended already\n"


def test_an_interrupted_job_is_resumed(shell):
    shell.glacier.populate("bucket", 50)
    with shell.start("create", "s3://bucket/", "--id=one", "--rate=20", "--poll=0.1s") as runs:
        assert runs.stdout is not None
        runs.stdout.readline()
        eventually(lambda: shell.glacier.begun > 5)
        runs.send_signal(signal.SIGINT)
        assert runs.wait(20) == 130
        assert runs.stderr is not None
        assert "tidegate restore resume" in runs.stderr.read()
    assert shell.create("s3://bucket/none", "--id=two")[0] == 3
    assert shell.run("create", "s3://bucket/", "--id=three", "--poll=0.1s", "--detach") == (0, "three\n", "")
    code, out, _ = shell.run("resume", "--all")
    assert code == 0
    assert {json.loads(text)["JobId"] for text in out.splitlines()} == {"one", "three"}
    assert shell.glacier.begun == 50


def test_on_a_terminal_there_is_a_line_that_is_drawn_over_itself(shell):
    shell.glacier.populate("bucket", 5)
    ours, theirs = pty.openpty()
    with shell.start("create", "s3://bucket/", "--poll=0.1s", "--id=one", stdout=theirs) as runs:
        os.close(theirs)
        shown = b""
        with contextlib.suppress(OSError):  # the other end is closed
            while piece := os.read(ours, 4096):
                shown += piece
        assert runs.wait(20) == 0
    os.close(ours)
    lines = shown.decode().split("\r\x1b[K")
    assert len(lines) > 3
    assert lines[1].startswith("Restoring [....................]   0 %  requesting  0 of 5")
    assert lines[-1].startswith("Complete [####################] 100 %")
    assert "status:     Complete, 100 % (ended)" in lines[-1]


@pytest.mark.slow
def test_after_a_kill_in_the_middle_a_hundred_thousand_objects_are_asked_for_once_each(shell):
    shell.glacier.faults.restore_rate = None
    shell.glacier.populate("bucket", 100_000)
    order = (
        "create",
        "s3://bucket/",
        "--id=one",
        "--rate=5000",
        "--poll=1s",
        "--tier=Expedited",
        "--days=365",
    )
    with shell.start(*order) as runs:
        eventually(lambda: shell.glacier.begun > 30_000, seconds=180)
        runs.kill()
    said = json.loads(shell.run("show", "one", "--json")[1])["counts"]
    assert 0 < said["wanted"] < 100_000
    began = time.monotonic()
    with shell.start("resume", "one") as resumed:
        out, _ = resumed.communicate(timeout=300)
        assert resumed.returncode == 0
    assert time.monotonic() - began < 300
    assert shell.glacier.begun == 100_000
    assert shell.glacier.restores("bucket") == 100_000
    last = json.loads(out.splitlines()[-1])
    assert (last["Status"], last["FailedBatchFiles"]) == ("Complete", "0")
    assert (last["detail"]["counts"]["total"], last["detail"]["counts"]["ready"]) == (100_000, 100_000)
