"""docs/FLEET.md: its steps are done as they stand there, and the tests that it names exist."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import requests

from tests.fleet.rig import ENVIRONMENT, HOST, free_port
from tests.standins.faulty_s3 import FaultyS3
from tests.test_promises import TESTS, names_in
from tests.whole.shelf import eventually

if TYPE_CHECKING:
    from collections.abc import Callable

GUIDE = (Path(__file__).parents[2] / "docs" / "FLEET.md").read_text("utf-8")
TRYING = GUIDE.partition("\n## Trying it on one machine\n")[2].partition("\n## ")[0]
COMMAND = f'tidegate() {{ "{sys.executable}" -m tidegate "$@"; }}\n'


def test_the_faults_of_s3_ingestor_have_tests_that_exist() -> None:
    table = GUIDE.partition("| what s3-ingestor did |")[2].splitlines()[2:]
    named = [re.findall(r"`([\w/]+\.py)::(test_\w+)`", line) for line in table]
    assert len(named) == 10
    for found in named:
        assert found
        assert all(name in names_in(TESTS / file) for file, name in found)


def test_the_guide_has_the_bucket_made_before_it_is_used() -> None:
    (bucket,) = re.findall(r'"BucketName": "(.*?)"', TRYING)
    assert f"s3 mb s3://{bucket}`" in TRYING.partition("```sh")[0]


@pytest.mark.slow
def test_the_steps_of_the_guide_lead_to_a_configured_device_with_counters_and_a_report(folder: Path) -> None:
    port = free_port()
    home = f"{HOST}:{port}"
    with FaultyS3() as s3:
        start, operate = (
            COMMAND + step.replace("127.0.0.1:8080", home).replace("http://127.0.0.1:9000", s3.url)
            for step in re.findall(r"```sh\n(.*?)```", TRYING, re.DOTALL)
        )
        without_keys = {name: it for name, it in ENVIRONMENT.items() if not name.startswith("AWS_")}

        def shell(script: str) -> subprocess.Popen[bytes]:
            with (folder / "log").open("ab") as log:
                return subprocess.Popen(
                    ["bash", "-ec", script],
                    cwd=folder,
                    env=without_keys,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                )

        def device() -> Any:
            token = (folder / "fleet.db.admin").read_text().strip()
            answer = requests.get(
                f"http://{home}/devices/press-7", headers={"authorization": f"Bearer {token}"}, timeout=10
            )
            return answer.json() if answer.status_code == 200 else {}

        started = shell(f"{start}\nwait")
        try:
            eventually(lambda: tried(device).get("history"))
            assert shell(operate).wait(20) == 0, (folder / "log").read_text()
            counted = lambda: device()["info"].get("result") or {}  # noqa: E731
            eventually(lambda: (counted().get("added"), counted().get("ignored")) == (1, 1), 30)
            (report,) = device()["actions"]
            assert report["result"]["ThingName"] == "press-7"
            assert str(next(iter(s3.objects))) == "my-bucket/a.csv"
        finally:
            os.killpg(started.pid, signal.SIGTERM)
            started.wait(20)


def tried(ask: Callable[[], Any]) -> Any:
    """Ask one that may not be there yet."""
    try:
        return ask()
    except (OSError, requests.ConnectionError):
        return {}
