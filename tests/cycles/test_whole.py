"""Cycles of a real agent: a process, a bucket, and Stream Manager or none."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import zipfile
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
import yaml

from tests.helpers import environment, eventually, writing
from tests.whole.plant import BUCKET, KEYS, Plant

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.slow


class Answer(NamedTuple):
    """How a command ended, and what it said."""

    code: int
    text: str


class Works(Plant):
    """A plant whose one source works in cycles, by either carrier."""

    def __init__(self, folder: Path, endpoint: str, *, direct: bool) -> None:
        super().__init__(folder, endpoint)
        self.more: dict[str, Any] = {"Interval": 3600}
        self._direct = direct

    def settings(self) -> dict[str, Any]:
        others = {"Carrier": "Direct", "S3": {"EndpointUrl": self._endpoint}} if self._direct else {}
        return (
            super().settings()
            | others
            | {"PathName": f"{self.data}/**", "Mode": "Cycle", "Layout": "ThingAndTime", "Archive": "Zip"}
            | {"ThingName": "press-7", **self.more}
        )

    def configure(self) -> None:
        """Edit the configuration, as editors do."""
        part = self._folder / "config.part"
        part.write_text(yaml.safe_dump(self.settings()))
        part.replace(self._folder / "config.yaml")

    def put(self, name: str, content: str) -> Path:
        path = self.data / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
        return path

    def held(self) -> dict[str, dict[str, bytes]]:
        """What the bucket holds, by cycle and name; archives opened."""
        found: dict[str, dict[str, bytes]] = {}
        for key in self.keys():
            _, cycle, name = key.split("/", 2)
            body = self.objects.get_object(Bucket=BUCKET, Key=f"{self.prefix}/{key}")["Body"].read()
            if name.endswith(".zip"):
                with zipfile.ZipFile(io.BytesIO(body)) as archive:
                    assert archive.testzip() is None
                    found.setdefault(cycle, {}).update({it: archive.read(it) for it in archive.namelist()})
            else:
                found.setdefault(cycle, {})[name] = body
        return found

    def report(self) -> dict[str, Any]:
        """What the agent says of its source."""
        try:
            found = json.loads((self.work / "status.json").read_text())["sources"]
        except (OSError, ValueError):
            return {}
        return found.get("default", {})

    def ask(self, *command: str) -> Answer:
        run = subprocess.run(
            [sys.executable, "-m", "tidegate", *command, "--work-dir", str(self.work)],
            capture_output=True,
            text=True,
            check=False,
            env=environment() | KEYS,
        )
        return Answer(run.returncode, run.stdout + run.stderr)


@pytest.fixture(params=["streams", "direct"])
def works(request: pytest.FixtureRequest, folder: Path, endpoint: str) -> Iterator[Works]:
    made = Works(folder / f"{folder.name}-{request.param}", endpoint, direct=request.param == "direct")
    try:
        yield made
    finally:
        made.close()


def test_cycles_by_either_carrier(works: Works) -> None:
    written = {"A/1.csv": "one", "A/sub/zwölf.csv": "two", "B/3.csv": "three", "4.csv": "four"}
    paths = {name: works.put(name, content) for name, content in written.items()}
    busy = works.put("C/open.csv", "not yet")
    works.put("C/done.csv", "yes")
    with writing(busy):
        works.start()
        eventually(lambda: (works.report().get("last") or {}).get("finished"))
        eventually(lambda: not any(path.exists() for path in paths.values()))
        (cycle,) = works.held()
        assert works.held()[cycle] == {name: content.encode() for name, content in written.items()}
        last = works.report()["last"]
        assert (last["found"], last["uploaded"], last["failed"], last["held"]) == (4, 3, 0, 1)
        told = works.ask("explain", str(works.data / "C" / "done.csv")).text
        assert f"its folder waits because of {busy}: process" in told
        assert "it waits for the cycle at 20" in told
        assert "press-7/{cycle}/C.zip" in told
    assert f"default: {cycle} stored 3 of 4" in works.ask("status").text


def test_a_cycle_that_is_asked_for_begins_now(works: Works) -> None:
    works.more = {"Schedule": "0 0 1 1 *", "TimeZone": "Asia/Tokyo"}
    works.put("A/1.csv", "one")
    agent = works.start()
    eventually(lambda: works.report().get("next_at"))
    assert works.keys() == set()
    os.kill(agent.pid, signal.SIGHUP)
    eventually(lambda: not (works.data / "A" / "1.csv").exists())
    assert len(works.keys()) == 1


def test_nothing_but_its_time_or_a_request_begins_a_cycle(works: Works) -> None:
    live = works.data.parent / "live"
    works.more = {
        "Schedule": "0 0 1 1 *",
        "Sources": {
            "live": {"PathName": f"{live}/*", "Mode": "Continuous", "Interval": 0.2, "HoldBack": "None"}
        },
    }
    works.put("A/1.csv", "one")
    works.start()
    eventually(lambda: works.report().get("next_at"))
    for number in range(3):
        works.put("A/2.csv", f"{number}")
        path = works.put(f"../live/{number}.csv", f"{number}")
        eventually(lambda path=path: not path.exists())  # type: ignore[misc]
    assert works.keys() == {"0.csv", "1.csv", "2.csv"}
    assert works.report()["last"] is None


def test_a_killed_agent_goes_on_with_its_cycle(works: Works) -> None:
    for folder in range(20):
        for number in range(5):
            works.put(f"{folder}/{number}.csv", f"{folder} {number}" * 1000)
    agent = works.start()
    eventually(lambda: list((works.work / "archives").glob("*.zip")))
    agent.kill()
    works.start()
    eventually(lambda: not [name for _, _, names in os.walk(works.data) for name in names], seconds=30)
    eventually(lambda: not list((works.work / "archives").iterdir()))
    (held,) = works.held().values()
    assert len(held) == 100
    assert len(works.keys()) == 20


def test_a_single_pass_makes_one_cycle_and_says_what_was_held(works: Works) -> None:
    works.more = {"Schedule": "0 0 1 1 *"}
    paths = [works.put("A/1.csv", "one"), works.put("B/2.csv", "two"), works.put("3.csv", "three")]
    works.configure()
    config = works.data.parent / "config.yaml"
    with writing(paths[1]):
        assert works.ask("run", "--once", "--config", str(config)).code == 4
    assert [path.exists() for path in paths] == [False, True, False]
    assert works.ask("run", "--once", "--config", str(config)).code == 0
    assert not paths[1].exists()
    assert len(works.keys()) == 3
    assert len(works.held()) == 2


def test_another_time_zone_is_followed_while_the_agent_runs(works: Works) -> None:
    works.more = {"Schedule": "0 12 * * *", "TimeZone": "Europe/Berlin"}
    works.start()
    before = eventually(lambda: works.report().get("next_at"))
    works.more["TimeZone"] = "Asia/Tokyo"
    works.configure()
    after = eventually(
        lambda: works.report().get("next_at") not in (before, None) and works.report()["next_at"]
    )
    assert (after - before) % 86400 in (17 * 3600, 16 * 3600)


def test_another_schedule_is_followed_while_the_agent_runs(works: Works) -> None:
    works.more = {"Schedule": "0 0 1 1 *"}
    works.put("A/1.csv", "one")
    works.start()
    eventually(lambda: works.report().get("next_at"))
    works.more = {"Interval": 1}
    works.configure()
    eventually(lambda: not (works.data / "A" / "1.csv").exists())
    assert len(works.keys()) == 1
