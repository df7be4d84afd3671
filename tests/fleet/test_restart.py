"""An agent that is told to start anew does so, once for each token, and its process stays."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import yaml

from tests.fleet.rig import Process
from tests.whole.shelf import eventually
from tidegate.doors.asking import NoAgent, ask
from tidegate.errors import Unavailable

if TYPE_CHECKING:
    from pathlib import Path


def test_an_agent_is_started_anew_in_its_process_once_for_each_token(folder: Path) -> None:
    (folder / "data").mkdir()
    config, work = folder / "config.yaml", folder / "work"
    source = {"PathName": f"{folder}/data/*", "BucketName": "bucket", "Carrier": "Direct", "Interval": 0.2}
    config.write_text(yaml.safe_dump(source))
    process = Process(folder, "agent", "run", "--config", str(config), "--work-dir", str(work))

    def said(route: str, **asked: str) -> Any:
        try:
            return ask(work, route, asked, seconds=10)
        except (NoAgent, Unavailable):
            return {}

    try:
        since = eventually(lambda: said("statistics/get").get("since"))
        assert said("restart/post", clientToken="again")["status"] == 200
        later = eventually(lambda: (found := said("statistics/get").get("since")) != since and found)
        assert said("restart/post", clientToken="again")["status"] == 200
        eventually(lambda: said("scan/post").get("sources") == 1)
        assert said("statistics/get")["since"] == later
        assert process.is_running
    finally:
        process.kill()
