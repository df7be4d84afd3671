"""Sockets that a real agent reads: a process, somebody who sends, and a bucket."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

import tidegate
from tests.sockets.talker import Talker
from tests.standins import s3
from tests.whole.plant import BUCKET, KEYS, Agent
from tests.whole.shelf import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.slow


class Meter:
    """An agent that reads one socket."""

    def __init__(self, folder: Path, endpoint: str, **keys: Any) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self.work = folder / "work"
        self.prefix = folder.name
        self.objects = s3.client(endpoint)
        self.endpoint = endpoint
        self.keys = {"BatchSeconds": 0.3} | keys
        self.agents: list[Agent] = []

    def start(self) -> Agent:
        config = self._folder / "config.yaml"
        settings = {
            "BucketName": BUCKET,
            "ObjectKeyPrefix": self.prefix,
            "S3": {"EndpointUrl": self.endpoint},
            "Carrier": "Direct",
            "Sources": {"meter": self.keys},
        }
        config.write_text(yaml.safe_dump(settings))
        run = [sys.executable, "-m", "tidegate", "run", "--config", str(config), "--work-dir", str(self.work)]
        self.agents.append(Agent(run, self._folder / "agent.log"))
        return self.agents[-1]

    def stored(self) -> list[bytes]:
        """The bodies of all objects, in the order of their keys."""
        listed = self.objects.list_objects_v2(Bucket=BUCKET, Prefix=f"{self.prefix}/").get("Contents", ())
        return [self.objects.get_object(Bucket=BUCKET, Key=one["Key"])["Body"].read() for one in listed]

    def lines(self) -> list[bytes]:
        return b"".join(self.stored()).splitlines(keepends=True)

    def report(self) -> dict[str, Any]:
        try:
            return dict(json.loads((self.work / "status.json").read_text())["sources"]["meter"])
        except (OSError, ValueError, KeyError):
            return {}

    def taken(self) -> int:
        figures = self.report().get("figures", {})
        return sum(figures.get(it, 0) for it in ("added", "skipped"))

    def ask(self, *arguments: str) -> str:
        run = [sys.executable, "-m", "tidegate", *arguments, "--work-dir", str(self.work)]
        env = os.environ | KEYS | {"PYTHONPATH": str(Path(tidegate.__file__).parents[1])}
        return subprocess.run(run, env=env, capture_output=True, text=True, check=True).stdout


@contextmanager
def meter(folder: Path, endpoint: str, **keys: Any) -> Iterator[Meter]:
    made = Meter(folder, endpoint, **keys)
    try:
        yield made
    finally:
        for agent in made.agents:
            agent.kill()


def test_lines_of_a_socket_become_objects_by_time_and_by_size(folder: Path, endpoint: str) -> None:
    lines = [b"%05d,1.5\n" % number for number in range(500)]
    with Talker() as talker, meter(folder, endpoint, Socket=talker.address, BatchBytes=1000) as one:
        one.start()
        for line in lines:
            talker.say(line)
        eventually(lambda: one.lines() == lines)
        assert max(map(len, one.stored())) <= 1000
        talker.say(b"the last one")
        talker.say(b", in two pieces\n")
        eventually(lambda: one.lines() == [*lines, b"the last one, in two pieces\n"])
        eventually(lambda: one.report()["figures"]["added"] == 501)
        assert one.report()["state"] == "connected"
        assert "meter: connected, 501 added" in one.ask("status").replace("; ", ", ")
        eventually(
            lambda: (
                json.loads(one.ask("status", "--json"))["sources"]["meter"]["counters"]["socket_added"] == 501
            )
        )


def test_nothing_that_was_replied_to_is_lost_however_often_the_agent_is_killed(
    folder: Path, endpoint: str
) -> None:
    said = 0
    with (
        Talker(replies=True) as talker,
        meter(folder, endpoint, Socket=talker.address, Replies=True, BatchBytes=400) as one,
    ):
        for _ in range(4):
            agent = one.start()
            before = len(talker.acknowledged)
            eventually(lambda: talker.is_heard)
            while len(talker.acknowledged) < before + 60:
                for _ in range(20):
                    talker.say(b"%05d\n" % said)
                    said += 1
                count = len(talker.acknowledged)
                eventually(lambda count=count: len(talker.acknowledged) > count)
            agent.kill()
        acknowledged = list(talker.acknowledged)
        one.start()
        eventually(lambda: set(acknowledged) <= set(one.lines()))
        eventually(lambda: len(talker.acknowledged) == said)
        eventually(lambda: set(one.lines()) == {b"%05d\n" % number for number in range(said)})
        eventually(lambda: not list((one.work / "spool" / "objects").glob("*-*")))


def test_a_socket_at_a_path_is_read_in_blocks_and_connected_to_again(folder: Path, endpoint: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with (
        Talker(folder / "s") as talker,
        meter(
            folder, endpoint, Socket=talker.address, Framing="Blocks", SkipRepeats=True, BatchSuffix=".bin"
        ) as one,
    ):
        one.start()
        eventually(lambda: talker.is_heard)
        for number, block in enumerate((b"\x00\n\xff", b"\x00\n\xff", b"second"), 1):
            talker.say(block)
            eventually(lambda number=number: one.taken() == number)
        eventually(lambda: one.stored() == [b"\x00\n\xff", b"second"])
        talker.hang_up()
        eventually(lambda: talker.connections == 2 and talker.is_heard)
        talker.say(b"third")
        eventually(lambda: one.stored()[2:] == [b"third"])
        figures = eventually(lambda: one.report()["figures"])
        assert (figures["skipped"], figures["errors"]) == (1, 1)


def test_an_orderly_stop_keeps_what_is_in_no_object_yet(folder: Path, endpoint: str) -> None:
    with Talker() as talker, meter(folder, endpoint, Socket=talker.address, BatchSeconds=3600) as one:
        agent = one.start()
        talker.say(b"1\n2\n")
        eventually(lambda: one.report().get("figures", {}).get("added") == 2)
        _, seconds = agent.terminate()
        assert seconds < 4
        assert one.stored() == []
        one.start()
        eventually(lambda: one.stored() == [b"1\n2\n"])
