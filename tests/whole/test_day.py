"""A day in the life of the component: all that happens to one, to the same process or the next, in one go."""

from __future__ import annotations

import hashlib
import io
import zipfile
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

from tests.helpers import eventually, write
from tests.standins.faulty_s3 import Fault
from tests.standins.nucleus import CLASSIC, LITE
from tests.whole.component import SECONDS, TOLD, Device, accepted, ask, events, stopped
from tests.whole.stores import Remembering

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.standins.faulty_s3 import Seen

pytestmark = pytest.mark.slow

POSTS = 12
PARTS = ["first ", "second ", "third"]


class Day(Device):
    """A device whose network can go away, all of it at once."""

    def __init__(self, folder: Path, mode: str) -> None:
        self.is_offline = False
        self.records = folder / "records"
        self.records.mkdir()
        super().__init__(folder, Remembering(self._fate), mode)

    def _fate(self, _: Seen) -> Fault | None:
        """Nothing gets through while there is no network, neither a request nor an answer."""
        return Fault(answer=b"", take=0, cut=0, reset=True) if self.is_offline else None

    def settings(self) -> dict[str, Any]:
        """What the recipe gives a component that nobody has configured."""
        return {"PathName": "", "BucketName": "", "accessControl": super().settings()["accessControl"]}

    def merge(self) -> dict[str, Any]:
        continuous = {"PathName": f"{self.data}/*.csv", "QuietSeconds": "0", "HoldBack": "None"}
        cycle = {
            "PathName": f"{self.records}/**",
            "Mode": "Cycle",
            "Interval": "3600",
            "Archive": "Zip",
            "Layout": "ThingAndTime",
        }
        return {
            "BucketName": "bucket",
            "Interval": "1",
            "Carrier": "Direct",
            "Objects": {"BucketName": "bucket"},
            "S3": {"EndpointUrl": self.s3.url},
            "Sources": {
                "csv": continuous,
                "records": cycle | {"QuietSeconds": "0", "HoldBack": "None"},
            },
        }

    def lose_the_network(self) -> None:
        self.is_offline = True
        self.nucleus.go_offline()

    def have_it_back(self) -> None:
        self.is_offline = False
        self.nucleus.go_online()

    def stored(self) -> set[str]:
        return {path.removeprefix("bucket/") for path in self.s3.objects}

    def object(self, key: str) -> bytes:
        return self.s3.objects[f"bucket/{key}"].body

    def statistics(self) -> Any:
        return accepted(self, "statistics/get")

    def backlog(self) -> int:
        return int(self.statistics()["backlog"]["files"])

    def post(self, **fields: Any) -> Any:
        verdict, body = ask(self, "objects/post", {"waitSeconds": 0, **fields})
        assert verdict == "accepted", body
        return body

    def begin_cycle(self) -> None:
        """Have a cycle begin that finds what is there: what has just changed would wait for the next one."""
        for path in self.records.rglob("*.*"):
            eventually(lambda path=path: not self.is_held(path), SECONDS)
        assert ask(self, "scan/post", {"source": "records"})[1]["sources"] == 1

    def is_held(self, path: Path) -> bool:
        sources = ask(self, "explain/get", {"path": str(path)})[1]["sources"]
        return any(one["held"] for one in sources)


@pytest.fixture(params=[LITE, CLASSIC])
def day(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Day]:
    one = Day(tmp_path, request.param)
    with one.s3:
        yield one
        one.close()


def test_a_day_in_the_life_of_a_component(day: Day) -> None:
    # Morning: it is deployed by somebody who has not said what it is for, and then does.
    process = day.start()
    day.says("waiting for a better configuration: PathName: is missing")
    verdict, _ = day.deploy(day.merge(), reset=["/PathName"])
    assert verdict == ("UNASKED" if day.nucleus.lite else "ACCEPTED")
    contents = {f"{name}.csv": f"{name}, in the morning" for name in ("one", "two", "three")}
    for name, content in contents.items():
        write(day.data / name, content)
    eventually(lambda: day.stored() == set(contents), SECONDS)
    eventually(lambda: not list(day.data.glob("*.csv")), SECONDS)

    # The network goes away. Files, a cycle and posted objects come all the same.
    day.lose_the_network()
    for name in ("four", "five"):
        contents[f"{name}.csv"] = f"{name}, at noon"
        write(day.data / f"{name}.csv", contents[f"{name}.csv"])
    members = {f"{folder}/{number}.bin": f"{folder} {number}" for folder in "ab" for number in range(3)}
    for name, content in (members | {"loose.txt": "loose"}).items():
        write(day.records / name, content)
    day.begin_cycle()
    for number in range(POSTS):
        body = day.post(key=f"posts/{number}", body=f"post {number}", clientToken=f"t{number}")
        assert (body["status"], body["key"]) == (202, f"posts/{number}")
        contents[f"posts/{number}"] = f"post {number}"
    whole = "".join(PARTS)
    digest = hashlib.sha256(whole.encode()).hexdigest()
    for number in (2, 1):
        body = day.post(upload="large", part=number, parts=3, body=PARTS[number - 1])
        assert (body["status"], body["missingCount"]) == (202, number)
    waiting = 2 + 3 + POSTS  # files, two archives and the loose file, objects
    eventually(lambda: day.backlog() == waiting, SECONDS)
    assert not day.statistics()["carriers"]["working"]
    assert eventually(lambda: events(day, "carrier-down"), SECONDS)
    assert not events(day, "stored")

    # The nucleus stops it and starts it again; still there is no network.
    assert stopped(process) == TOLD
    process = day.start()
    eventually(lambda: day.backlog() == waiting, SECONDS)
    again = day.post(key="posts/0", body="post 0", clientToken="t0")  # its answer may not have arrived
    assert again["status"] == 202
    body = day.post(upload="large", part=3, parts=3, key="posts/large", sha256=digest, body=PARTS[2])
    assert (body["status"], body["key"]) == (202, "posts/large")
    contents["posts/large"] = whole
    eventually(lambda: day.backlog() == waiting + 1, SECONDS)

    # It is paused, also over a restart, while the network comes back: nothing moves.
    before = day.stored()
    assert ask(day, "pause/post")[1]["all"]
    assert stopped(process) == TOLD
    day.have_it_back()
    process = day.start()
    write(day.data / "six.csv", "six, in the afternoon")
    contents["six.csv"] = "six, in the afternoon"
    eventually(lambda: day.backlog() == waiting + 2, SECONDS)
    assert day.statistics()["paused"]
    assert accepted(day, "statistics/get", cloud=True)["paused"]
    assert day.stored() == before

    # It is resumed: all of it arrives.
    assert not ask(day, "resume/post", cloud=True)[1]["all"]
    eventually(lambda: day.backlog() == 0, SECONDS)
    eventually(lambda: not [path for path in day.records.rglob("*") if path.is_file()], SECONDS)
    eventually(lambda: not list(day.data.glob("*.csv")), SECONDS)
    verdict, body = ask(day, "objects/post", {"key": "posts/now", "body": "evening"}, cloud=True)
    assert (verdict, body["status"], body["state"]) == ("accepted", 200, "stored")
    contents["posts/now"] = "evening"

    # Each event is told on both lines, those of the objects with the token of their request.
    for cloud in (False, True):
        eventually(lambda c=cloud: len(stored_events(day, cloud=c)) >= POSTS + 1, SECONDS)
        told = stored_events(day, cloud=cloud)
        assert set(told) == {f"posts/{number}" for number in range(POSTS)} | {"posts/large"}
        assert {told[f"posts/{number}"]["clientToken"] for number in range(POSTS)} == {
            f"t{number}" for number in range(POSTS)
        }
        finished = eventually(
            lambda c=cloud: [
                one for one in events(day, "cycle-finished", cloud=c) if one["source"] == "records"
            ],
            SECONDS,
        )
        assert finished

    # Evening: it is stopped, and what the next one tells adds up with what is in the store, once each.
    assert stopped(process) == TOLD
    process = day.start()
    statistics = day.statistics()
    archives = {key for key in day.stored() if key.endswith(".zip")}
    (cycle,) = {key.split("/")[1] for key in day.stored() if key.startswith("thing/")}
    expected = {path: text.encode() for path, text in contents.items()}
    expected[f"thing/{cycle}/loose.txt"] = b"loose"
    assert archives == {f"thing/{cycle}/{folder}.zip" for folder in "ab"}
    assert {key: day.object(key) for key in day.stored() - archives} == expected
    assert unpacked(day, archives) == members
    puts = Counter(path for (what, path, _), count in day.s3.stored.items() for _ in range(count))
    assert {path: count for path, count in puts.items() if count != 1} == {}
    totals = statistics["totals"]
    assert totals["uploaded"] == len(day.stored()) == len(expected) + 2
    assert totals["bytes"] == sum(len(held.body) for held in day.s3.objects.values())
    assert (totals["failed"], totals["dropped"], statistics["backlog"]["files"]) == (0, 0, 0)
    by_source = {one["name"]: one["totals"]["uploaded"] for one in statistics["sources"]}
    assert by_source == {"csv": 6, "records": 3, "objects": POSTS + 2}
    files = totals["uploaded"] - len(archives) + len(members)
    eventually(lambda: day.statistics()["totals"]["deleted"] == files, SECONDS)
    assert statistics["carriers"]["working"]
    eventually(lambda: day.statistics()["events"] == {"waiting": 0, "dropped": 0}, SECONDS)
    assert stopped(process) == TOLD


def stored_events(day: Day, *, cloud: bool) -> dict[str, Any]:
    return {one["key"]: one for one in events(day, "stored", cloud=cloud)}


def unpacked(day: Day, archives: set[str]) -> dict[str, str]:
    found = {}
    for key in archives:
        folder = key.rpartition("/")[2].removesuffix(".zip")
        with zipfile.ZipFile(io.BytesIO(day.object(key))) as archive:
            found |= {
                f"{folder}/{name.rpartition('/')[2]}": archive.read(name).decode()
                for name in archive.namelist()
            }
    return found
