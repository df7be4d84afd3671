"""A wrong order is told by option, value and remedy, before S3 is asked and before anything is written down."""

from __future__ import annotations

import contextlib
import os
import pty
import signal
import sqlite3
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from tests.helpers import eventually
from tidegate.clock import Clock
from tidegate.restore.jobs import Jobs
from tidegate.restore.nouns import Spec

if TYPE_CHECKING:
    import subprocess

PREFIX = "s3://bucket/"
BATCH = (
    *("--engine=batch", "--account=123456789012", "--role=arn:aws:iam::123456789012:role/batch"),
    "--report=s3://reports/x",
)
NOWHERE = "--endpoint-url=http://127.0.0.1:1"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ((PREFIX, "--sns=foo"), '--sns "foo" is not the ARN of a topic; write arn:aws:sns:'),
        ((PREFIX, "--sns=arn:aws:sqs:eu-west-1:123456789012:q"), "is not the ARN of a topic"),
        ((PREFIX, "--sqs=bar"), '--sqs "bar" is not the URL of a queue; write https://sqs.'),
        ((PREFIX, "--sqs=arn:aws:sqs:eu-west-1:123456789012:q"), "is not the URL of a queue"),
        ((PREFIX, "--sns=foo", "--dry-run"), "is not the ARN of a topic"),
        ((PREFIX, "--fetch=/proc/x"), "--fetch /proc/x cannot be used: No such file or directory"),
        ((PREFIX, "--fetch=/etc/hostname"), "--fetch /etc/hostname cannot be used: it is no folder"),
        ((PREFIX, "--events=/proc/x/y"), "--events /proc/x/y cannot be used: No such file or directory"),
        ((PREFIX, "--events=/proc"), "--events /proc cannot be used: Is a directory"),
        (("--manifest=x", "--class=GLACIER"), "--class goes with s3://BUCKET/PREFIX only"),
        (("--keys=bucket", "--smallest=0"), "--smallest goes with s3://BUCKET/PREFIX only"),
        (("--keys=bucket", "--largest=1k"), "--largest goes with s3://BUCKET/PREFIX only"),
        (("--keys=bucket", "--after=2024-01-01"), "--after goes with s3://BUCKET/PREFIX only"),
        (("--keys=bucket", "--before=2024-01-01"), "--before goes with s3://BUCKET/PREFIX only"),
        (("--keys=bucket", "--suffix=.bin"), "--suffix goes with s3://BUCKET/PREFIX only"),
        ((PREFIX, "--fields=bucket,key"), "--fields goes with --manifest only"),
        ((PREFIX, "--plain"), "--plain goes with --manifest only"),
        ((PREFIX, "--null"), "--null goes with --keys only"),
        ((PREFIX, "--generator"), "--generator goes with --engine batch only"),
        ((PREFIX, "--report=s3://reports/x"), "--report goes with --engine batch only"),
        ((PREFIX, "--bandwidth=1m"), "--bandwidth goes with --fetch only"),
        ((PREFIX, "--reserve=1m"), "--reserve goes with --fetch only"),
        ((PREFIX, "--room=1m"), "--room goes with --fetch only"),
        ((PREFIX, "--webhook-secret=/etc/hostname"), "--webhook-secret goes with --webhook only"),
        ((PREFIX, "--webhook=nothing", "--webhook-secret=/etc/hostname"), "--webhook nothing cannot be used"),
        ((PREFIX, "--class=GLACIR"), "GLACIR is no storage class; write one of GLACIER, "),
        (
            (PREFIX, "--endpoint-url=127.0.0.1:9100"),
            "--endpoint-url 127.0.0.1:9100: write a URL, for example",
        ),
        ((PREFIX, "--proxy=https://x"), "--proxy https://x: a proxy is reached by http"),
        ((PREFIX, "--ca-bundle=/nowhere"), "--ca-bundle /nowhere: there is no such file"),
        ((PREFIX, "--days=0"), "--days 0: write a number of days from 1 to 36500"),
        ((PREFIX, "--days=x"), "argument --days: x is not a whole number; write for example 7"),
        ((PREFIX, "--rate=0"), "--rate 0: write a number of requests a second up to 5000"),
        ((PREFIX, "--rate=x"), "argument --rate: x is not a number; write for example 50"),
        ((PREFIX, "--most=-1"), "--most -1: write a number of objects, 0 or more"),
        ((PREFIX, "--id=../x"), "--id ../x: write up to 60 letters"),
        ((PREFIX, *BATCH, "--account=12345"), "--account 12345: write the 12 digits"),
        ((PREFIX, *BATCH, "--role=foo", "-n"), "--role foo is not the ARN of a role; write arn:aws:iam::"),
        ((PREFIX, *BATCH, "--report=reports"), "--report reports: write s3://BUCKET/PREFIX"),
        ((PREFIX, *BATCH, "--report=s3://", "-n"), "--report s3://: write s3://BUCKET/PREFIX"),
        (("--manifest=/nowhere.csv",), "--manifest /nowhere.csv cannot be read: No such file or directory"),
        (("--manifest=s3://lists",), "--manifest s3://lists: write s3://BUCKET/KEY"),
    ],
)
def test_a_wrong_order_is_named_and_nothing_is_asked(shell, arguments, sentence):
    shell.glacier.populate("bucket", 1)
    code, out, err = shell.run("create", *arguments, given=b"key\n")
    assert (code, out) == (2, "")
    assert sentence in err
    assert "the configuration" not in err
    assert shell.run("list", "--json")[1] == "[]\n"
    assert sum(shell.glacier.counters.values()) == 0


def test_a_storage_class_may_be_written_small(shell):
    shell.glacier.populate("bucket", 3)
    assert shell.run("create", PREFIX, "-n", "--class=glacier")[1].startswith("3 object(s)")


def test_a_folder_and_a_file_that_are_not_there_yet_are_made(shell):
    shell.glacier.populate("bucket", 1)
    told = shell.folder / "told.jsonl"
    code, _, err = shell.create(PREFIX, f"--fetch={shell.folder}/a/b", f"--events={told}")
    assert (code, err) == (0, "")
    assert len(list((shell.folder / "a" / "b").iterdir())) == 2  # the object, and what was begun
    assert '"Complete"' in told.read_text()


def test_what_is_not_there_is_named(shell):
    shell.glacier.bucket("bucket")
    code, _, err = shell.run("create", "--manifest=s3://bucket/none.csv")
    assert (code, "--manifest s3://bucket/none.csv: there is no such object" in err) == (3, True)
    code, events, err = shell.create("s3://archiv/")
    assert (code, "archiv" in events[-1]["detail"]["reason"], "archiv" in err) == (3, True, True)
    for more in ((), ("-n",)):
        code, _, err = shell.run("create", "--keys=archiv", *more, given=b"one\n")
        assert (code, "does not exist: archiv" in err) == (3, True)
    assert shell.run("create", "-n", "--keys=bucket", given=b"one\n")[0] == 3


def test_a_bucket_for_reports_that_is_not_there_is_named(shell):
    shell.glacier.populate("bucket", 1)
    del shell.environment["HTTP_PROXY"]
    order = (*BATCH[:-1], "--report=s3://nowhere/x", f"--control-url={shell.glacier.endpoint}")
    code, events, _ = shell.create(PREFIX, *order)
    assert (code, "nowhere" in events[-1]["detail"]["reason"]) == (3, True)


def test_more_than_is_allowed_is_told_as_that_and_not_as_cancelled(shell):
    shell.glacier.populate("bucket", 5)
    reason = "5 objects would have to be asked for, and --most allows 4; nothing was asked for"
    code, events, err = shell.create(PREFIX, "--most=4", "--id=one")
    assert (code, [it["Status"] for it in events]) == (8, ["Failed"])
    assert (events[0]["detail"]["reason"], events[0]["detail"]["code"]) == (reason, "MoreThanAllowed")
    assert err == f"the job one: {reason}\n"
    assert shell.run("watch", "one")[0] == 8
    code, out, err = shell.run("create", PREFIX, "--most=4", "-n")
    assert (code, out.startswith("5 object(s)"), err) == (8, True, f"{reason}\n")


def test_what_is_allowed_is_written_down_with_the_job(shell):
    shell.glacier.populate("bucket", 5)
    assert shell.run("create", PREFIX, "--most=4", "--id=one", "--detach")[0] == 0
    assert shell.run("resume", "one")[0] == 8
    assert shell.glacier.begun == 0


def until(descriptor: int, words: bytes) -> bytes:
    """Read until these words have come, and return all that came."""
    os.set_blocking(descriptor, False)
    shown = bytearray()

    def is_told() -> bool:
        with contextlib.suppress(OSError):  # nothing more yet
            shown.extend(os.read(descriptor, 4096))
        return words in shown

    eventually(is_told)
    return bytes(shown)


def interrupted(runs: subprocess.Popen[str]) -> str:
    runs.send_signal(signal.SIGINT)
    _, err = runs.communicate(timeout=20)
    assert runs.returncode == 130
    return err


def test_what_is_in_the_way_is_told_and_who_interrupts_hears_which_job_waits(shell):
    with shell.start("create", PREFIX, "--id=one", NOWHERE) as runs:
        try:
            assert until(runs.stderr.fileno(), b"refused").startswith(b"the job one: ")
            assert "\ntrouble:  " in shell.run("show", "one")[1]
        finally:
            os.set_blocking(runs.stderr.fileno(), True)
            err = interrupted(runs)
        assert err.endswith("interrupted; `tidegate restore resume one` goes on with it\n")


def test_on_a_small_terminal_what_is_in_the_way_is_told_in_whole(shell):
    ours, theirs = pty.openpty()
    shell.environment["COLUMNS"] = "40"
    with shell.start("create", PREFIX, "--id=one", NOWHERE, stdout=theirs) as runs:
        os.close(theirs)
        try:
            until(ours, b"refused")
        finally:
            interrupted(runs)
    os.close(ours)


def test_a_job_that_breaks_leaves_the_others_alone(shell):
    shell.glacier.populate("bucket", 2)
    clock = Clock()
    jobs = Jobs(shell.folder / "work", environment={}, clock=clock)
    wrong = Spec(id="sink", tier="Standard", days=1, created=clock.wall(), bucket="bucket")
    jobs.create(replace(wrong, sinks=({"kind": "sns", "target": "foo"},)))
    assert shell.run("create", PREFIX, "--detach", "--id=good", "--poll=0.1s")[0] == 0
    code, out, err = shell.run("resume", "--all")
    assert (code, '"Complete"' in out) == (2, True)
    assert err.startswith('the job sink: --sns "foo" is not the ARN of a topic')
    jobs.create(replace(wrong, id="broken"))
    with contextlib.closing(sqlite3.connect(shell.folder / "work" / "restore" / "broken.job")) as file:
        file.execute("UPDATE job SET spec = '{}'")
        file.commit()
    code, _, err = shell.run("resume", "--all")
    assert (code, "the job broken: KeyError" in err) == (5, True)


def test_the_help_of_create_shows_examples(shell):
    code, out, _ = shell.run("create", "--help")
    assert (code, "examples:\n  tidegate restore create s3://" in out) == (0, True)
