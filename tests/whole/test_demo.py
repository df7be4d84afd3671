"""The demo shows what it promises, and leaves no process behind."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from examples.demo import demo_configuration, differences
from tidegate.config import parse

if TYPE_CHECKING:
    from collections.abc import Iterator

DEMO = Path(__file__).parents[2] / "examples" / "demo.py"
VERDICT = re.compile(r"(\d+) files written, (\d+) stored, every byte equal, 0 left\.")


@pytest.fixture
def demo() -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-u", str(DEMO), "--seconds", "3"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,  # a signal must reach the demo alone: ending the others is its task
    )
    with process:
        yield process
        process.kill()


def started(output: str) -> list[int]:
    return [int(pid) for pid in re.findall(r"\(process (\d+)\)", output)]


def is_running(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


@pytest.mark.slow
def test_every_file_is_stored_byte_for_byte_and_deleted(demo: subprocess.Popen[str]) -> None:
    output, _ = demo.communicate(timeout=100)
    assert demo.returncode == 0, output
    verdict = VERDICT.search(output)
    assert verdict, output
    assert verdict[1] == verdict[2] != "0"
    assert "newest of its group" in output
    assert "answer on tidegate/statistics/get/accepted" in output
    assert f'totals: {{"uploaded": {verdict[1]},' in output
    assert len(started(output)) == 4
    assert not any(map(is_running, started(output)))


@pytest.mark.slow
def test_an_interrupt_ends_every_process_that_was_started(demo: subprocess.Popen[str]) -> None:
    assert demo.stdout
    output = ""
    while "written" not in output:
        line = demo.stdout.readline()
        assert line, output
        output += line
    assert all(map(is_running, started(output)))
    demo.send_signal(signal.SIGINT)
    rest, _ = demo.communicate(timeout=30)
    assert demo.returncode == 130, rest
    assert "Interrupted" in rest
    assert len(started(output)) == 4
    assert not any(map(is_running, started(output)))


def test_a_byte_that_differs_is_found() -> None:
    written = {"a": b"1", "b": b"2", "c": b"3"}
    assert differences(written, dict(written)) == []
    assert differences(written, {"a": b"1", "b": b"X", "d": b"4"}) == [
        "c is not in S3",
        "d is in S3, and nobody wrote it",
        "b differs: 1 bytes written, 1 stored",
    ]


def test_the_configuration_of_the_demo_is_a_good_one() -> None:
    assert parse(demo_configuration(Path("/tmp/x"), "127.0.0.1:8088")).sources
