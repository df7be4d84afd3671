"""What a device says of its mothership to somebody who asks the device."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
import yaml

from tests.fleet.rig import ENVIRONMENT, answer, calling, lying
from tests.whole.shelf import eventually

if TYPE_CHECKING:
    import socket
    from pathlib import Path

    from tests.fleet.rig import Heard

pytestmark = pytest.mark.slow


def refusing(_: Heard, connection: socket.socket) -> None:
    connection.sendall(answer(None, "401 Unauthorized"))


def test_a_mothership_that_does_not_know_a_device_or_has_not_configured_it_is_named(folder: Path) -> None:
    state = ""

    def saying(_: Heard, connection: socket.socket) -> None:
        connection.sendall(answer({"state": state}))

    with lying(refusing) as home, calling(folder, home.url) as caller:
        eventually(lambda: caller.home.note.startswith("it cannot be heard: "))
        assert "does not accept the token" in caller.home.note
        state = "registered"
        home.script = saying
        eventually(lambda: caller.home.note == "to it this device is registered: no source runs")
        state = "configured"
        eventually(lambda: caller.home.note == "")


def test_status_shows_it(folder: Path) -> None:
    (folder / "token").write_text("a-token-of-this-device\n")
    (folder / "token").chmod(0o600)
    with lying(refusing) as home:
        settings = {"Home": {"Url": home.url, "TokenFile": str(folder / "token")}}
        (folder / "config.yaml").write_text(yaml.safe_dump(settings))
        command = [sys.executable, "-m", "tidegate"]
        where = ["--work-dir", str(folder / "work")]
        env = ENVIRONMENT
        run = [*command, "run", "--config", str(folder / "config.yaml"), *where]

        def shown() -> str:
            return subprocess.run(
                [*command, "status", *where], env=env, capture_output=True, text=True, check=False
            ).stdout

        with subprocess.Popen(run, env=env, stderr=subprocess.DEVNULL) as agent:
            try:
                eventually(lambda: "the mothership:\n  it cannot be heard: " in shown(), 20)
            finally:
                agent.kill()
