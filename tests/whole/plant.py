"""A whole plant for tests: a pretended S3 and Stream Manager, the real agent as a process, and its files."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from botocore.exceptions import ClientError

import tidegate
from tests.standins import s3
from tests.standins.streammanager import StreamManagerStandIn
from tests.whole.shelf import eventually
from tidegate.disk.walk import PRIVATE_FOLDER

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

BUCKET = "bucket"
KEYS = {"AWS_ACCESS_KEY_ID": "AKID", "AWS_SECRET_ACCESS_KEY": "SECRET"}


class Agent:
    """One process of the agent."""

    def __init__(self, command: Sequence[str], log: Path) -> None:
        self._began = log.stat().st_size if log.exists() else 0
        self._log = log
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                command,
                env=os.environ | KEYS | {"PYTHONPATH": str(Path(tidegate.__file__).parents[1])},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )

    @property
    def log(self) -> str:
        """What it has said so far."""
        return self._log.read_bytes()[self._began :].decode()

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def is_running(self) -> bool:
        return self._process.poll() is None

    def kill(self) -> None:
        """Stop it as a power cut does, as far as a process can be concerned."""
        self._process.kill()
        self._process.wait(timeout=10)

    def terminate(self) -> tuple[int, float]:
        """Ask it to stop. Returns its exit code, and the seconds that it took."""
        began = time.monotonic()
        self._process.send_signal(signal.SIGTERM)
        return self._process.wait(timeout=20), time.monotonic() - began

    def wait(self) -> int:
        return self._process.wait(timeout=20)


class Plant:
    """Everything around the agent. `switches` are the Stream Manager stand-in's."""

    def __init__(self, folder: Path, endpoint: str, **switches: Any) -> None:
        self.data = folder / "data"
        self.data.mkdir(parents=True)
        self.work = folder / "work"
        self.objects = s3.client(endpoint)
        self.prefix = folder.name
        self._folder = folder
        self._endpoint = endpoint
        self._switches = switches
        self._agents: list[Agent] = []
        self.stream_manager = self._serve(0)

    def settings(self) -> dict[str, Any]:
        return {
            "PathName": f"{self.data}/**/*.csv",
            "BucketName": BUCKET,
            "ObjectKeyPrefix": self.prefix,
            "Interval": 0.2,
            "QuietSeconds": 0.1,
            "Carrier": "StreamManager",
            "StreamManager": {"Port": self.stream_manager.port, "Streams": 2},
        }

    def start(self, *, largest_file: int | None = None) -> Agent:
        """Start an agent; it is killed with the plant. It can write no file larger than that many bytes."""
        config = self._folder / "config.yaml"
        config.write_text(yaml.safe_dump(self.settings()))
        run = [sys.executable, "-m", "tidegate", "run", "--config", str(config), "--work-dir", str(self.work)]
        if largest_file is not None:
            run = ["sh", "-c", 'ulimit -f "$0" && exec "$@"', str(largest_file // 512), *run]
        agent = Agent(run, self._folder / "agent.log")
        self._agents.append(agent)
        return agent

    def restart_stream_manager(self) -> None:
        """Kill Stream Manager, and start it again on what it has on disk."""
        port = self.stream_manager.port
        self.stream_manager.kill()
        self.stream_manager = self._serve(port)

    def stored(self, name: str) -> bytes | None:
        """Return the object of this file; None when there is none."""
        key = name.replace(" ", "=20")
        try:
            return self.objects.get_object(Bucket=BUCKET, Key=f"{self.prefix}/{key}")["Body"].read()
        except ClientError as err:
            if err.response["Error"]["Code"] == "NoSuchKey":
                return None
            raise

    def keys(self) -> set[str]:
        pages = self.objects.get_paginator("list_objects_v2").paginate(
            Bucket=BUCKET, Prefix=f"{self.prefix}/"
        )
        found = (it["Key"] for page in pages for it in page.get("Contents", ()))
        return {key.removeprefix(f"{self.prefix}/") for key in found}

    def write(self, name: str, content: bytes) -> Path:
        """Write a closed file, and beside it the newest one, which is held back."""
        path = self.data / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        newest = self.data / "newest.csv"
        newest.write_bytes(b"")
        later = path.stat().st_mtime_ns + 10_000_000
        os.utime(newest, ns=(later, later))
        return path

    def delivers(self, name: str) -> None:
        """Expect a file written now to be stored and deleted."""
        path = self.write(name, name.encode())
        eventually(lambda: not path.exists())
        eventually(lambda: not (path.parent / PRIVATE_FOLDER).exists())
        assert self.stored(name) == name.encode()

    def is_on_disk(self, name: str, content: bytes) -> bool:
        """Tell whether the file, whole, is at its place, or where the next start of the agent finds it."""
        path = self.data / name
        for place in (path, path.parent / PRIVATE_FOLDER / path.name):
            try:
                if place.read_bytes() == content:
                    return True
            except FileNotFoundError:
                continue
        return False

    def close(self) -> None:
        for agent in self._agents:
            agent.kill()
        self.stream_manager.kill()

    def _serve(self, port: int) -> StreamManagerStandIn:
        folder = self._folder / "streams"
        return StreamManagerStandIn(data_dir=folder, s3_endpoint=self._endpoint, port=port, **self._switches)


@contextmanager
def plant(folder: Path, endpoint: str, **switches: Any) -> Iterator[Plant]:
    """Make a plant, and end all of it."""
    made = Plant(folder, endpoint, **switches)
    try:
        yield made
    finally:
        made.close()
