"""The real process, asked through its socket: what was posted while S3 was away arrives, whatever came between."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from tests.helpers import eventually
from tests.standins.faulty_s3 import FaultyS3
from tidegate.doors.asking import NoAgent, ask
from tidegate.errors import Unavailable

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.slow

KEYS = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret"}


def configure(folder: Path, endpoint: str) -> None:
    raw = {"Objects": {"BucketName": "bucket"}, "S3": {"EndpointUrl": endpoint}}
    part = folder / "config.part"
    part.write_text(json.dumps(raw))
    part.replace(folder / "config.yaml")


@contextmanager
def running(folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    with (folder / "log").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "tidegate", "run", "--config", folder / "config.yaml"],
            env=os.environ
            | KEYS
            | {"TIDEGATE_WORK_DIR": str(folder / "work"), "PYTHONPATH": os.pathsep.join(sys.path)},
            stdout=log,
            stderr=log,
        )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def post(folder: Path, route: str, **fields: Any) -> dict[str, Any]:
    def attempt() -> dict[str, Any] | None:
        try:
            return ask(folder / "work", route, fields, seconds=20)
        except (NoAgent, Unavailable):
            return None

    found: dict[str, Any] = eventually(attempt, 30)
    return found


def test_what_was_posted_offline_arrives_after_a_kill_when_s3_is_back(tmp_path: Path) -> None:
    configure(tmp_path, "http://127.0.0.1:9")  # nobody there
    with running(tmp_path) as process:
        for number in range(20):
            reply = post(tmp_path, "objects/post", key=f"k{number}", body=f"body {number}", waitSeconds=0)
            assert reply["status"] == 202, reply
        waiting = post(tmp_path, "statistics/get")
        assert waiting["status"] == 200
        process.send_signal(signal.SIGKILL)
        process.wait()
    with FaultyS3() as s3, running(tmp_path) as process:
        post(tmp_path, "status/get")
        configure(tmp_path, s3.url)  # while it runs
        eventually(lambda: {f"bucket/k{number}" for number in range(20)} <= set(s3.objects), 30)
        reply = post(tmp_path, "objects/post", key="last", body="now", waitSeconds=15)
        assert (reply["status"], reply["state"]) == (200, "stored")
        assert reply["ETag"]  # as S3 has told it
        eventually(lambda: post(tmp_path, "statistics/get")["totals"]["uploaded"] == 21, 10)
        process.terminate()
        assert process.wait(10) == 0


def test_who_waits_when_the_process_is_told_to_end_has_an_answer(tmp_path: Path) -> None:
    configure(tmp_path, "http://127.0.0.1:9")
    with running(tmp_path) as process:
        post(tmp_path, "status/get")
        code = (
            "import sys, json; from pathlib import Path; from tidegate.doors.asking import ask;"
            " print('asking', flush=True);"
            " print(ask(Path(sys.argv[1]), 'objects/post',"
            " {'key': 'a', 'body': 'x', 'waitSeconds': 60}, seconds=30)['status'])"
        )
        env = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
        command = [sys.executable, "-c", code, str(tmp_path / "work")]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=env) as caller:
            assert caller.stdout
            assert caller.stdout.readline() == "asking\n"
            eventually(lambda: post(tmp_path, "statistics/get")["backlog"]["files"] == 1)
            process.terminate()
            assert caller.stdout.readline() == "202\n"
        assert process.wait(10) == 0
