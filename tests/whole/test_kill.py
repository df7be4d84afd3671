"""The agent as a process of its own: killed at any moment, and asked to stop at bad ones."""

from __future__ import annotations

import os
import random
import subprocess
import threading
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.whole.plant import Plant, plant
from tests.whole.shelf import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.slow

KILLS = 15
STOP_SECONDS = 4.0


class Logger:
    """A program that keeps writing one file, and renames it when it is full, as loggers do."""

    def __init__(self, folder: Path) -> None:
        self.closed: dict[str, bytes] = {}
        self._folder = folder
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        chance = random.Random(7)
        number = 0
        while not self._stop.is_set():
            name = f"{'sub/' if number % 5 == 0 else ''}log {number:04}.csv"
            content = self._fill(chance)
            (self._folder / name).parent.mkdir(exist_ok=True)
            (self._folder / "current.csv").rename(self._folder / name)
            self.closed[name] = content
            number += 1
        (self._folder / "current.csv").touch()

    def _fill(self, chance: random.Random) -> bytes:
        content = b""
        with (self._folder / "current.csv").open("wb", buffering=0) as file:
            for _ in range(chance.randint(1, 4)):
                line = chance.randbytes(chance.randint(0, 3000))
                file.write(line)
                content += line
                self._stop.wait(0.03)
        return content


@pytest.fixture
def works(tmp_path: Path, endpoint: str) -> Iterator[Plant]:
    with plant(tmp_path / tmp_path.name, endpoint) as made:
        yield made


def test_an_agent_that_is_killed_again_and_again_loses_nothing(works: Plant) -> None:
    chance, pause = random.Random(11), threading.Event()
    logger, safe = Logger(works.data), set()
    try:
        for number in range(KILLS):
            agent = works.start()
            if number % 2:  # else: wherever it may be in its start
                eventually(lambda agent=agent: "is stored as" in agent.log)
            pause.wait(chance.uniform(0.0, 0.8))
            agent.kill()
            if number in (4, 10):
                works.restart_stream_manager()
            for name, content in list(logger.closed.items()):
                if name not in safe and not works.is_on_disk(name, content):
                    assert works.stored(name) == content, f"{name} is lost after {number + 1} kills"
                    safe.add(name)
    finally:
        logger.stop()
    agent = works.start()
    eventually(lambda: _files(works) == {"current.csv"}, 30)
    assert agent.terminate()[0] == 0
    assert works.keys() == {name.replace(" ", "=20") for name in logger.closed}
    for name, content in logger.closed.items():
        assert works.stored(name) == content
    print(f"{KILLS} kills, {len(logger.closed)} files")


def _files(works: Plant) -> set[str]:
    """All that is there, however fast folders come and go."""
    return {
        os.path.relpath(Path(at, name), works.data) for at, _, names in os.walk(works.data) for name in names
    }


def test_it_stops_in_time_while_uploads_are_slow_and_goes_on_later(works: Plant) -> None:
    works.stream_manager.upload_delay = 5.0
    path = works.write("a.csv", b"content")
    agent = works.start()
    eventually(lambda: works.stream_manager.counters.appends)
    code, seconds = agent.terminate()
    print(f"stopped in {seconds:.1f} seconds")
    assert (code, seconds < STOP_SECONDS) == (0, True)
    assert path.exists()
    works.stream_manager.upload_delay = 0.0
    works.start()
    eventually(lambda: not path.exists())
    assert works.stored("a.csv") == b"content"


@pytest.mark.parametrize("moment", ["from the start", "later"])
def test_it_stops_in_time_while_stream_manager_is_silent(works: Plant, moment: str) -> None:
    works.stream_manager.silent = moment == "from the start"
    agent = works.start()
    if moment == "later":
        works.delivers("a.csv")
        works.stream_manager.silent = True
    works.write("b.csv", b"content")
    eventually(lambda: works.stream_manager.counters.connections and _has_found_both(works))
    code, seconds = agent.terminate()
    print(f"stopped in {seconds:.1f} seconds")
    assert (code, seconds < STOP_SECONDS) == (0, True)


def _has_found_both(works: Plant) -> bool:
    status = works.work / "status.json"
    return status.exists() and '"found": 2' in status.read_text()


def test_it_stops_in_time_while_stream_manager_is_away(works: Plant) -> None:
    works.stream_manager.kill()
    works.write("a.csv", b"content")
    agent = works.start()
    eventually(lambda: "nothing is lost, and it is tried without end" in agent.log)
    code, seconds = agent.terminate()
    print(f"stopped in {seconds:.1f} seconds")
    assert (code, seconds < STOP_SECONDS) == (0, True)


def test_a_second_agent_on_the_same_work_directory_goes_and_the_first_does_not_notice(works: Plant) -> None:
    first = works.start()
    works.delivers("a.csv")
    said = first.log
    second = works.start()
    assert second.wait() == 11
    assert f"belongs to an agent that runs (process {first.pid})" in second.log
    assert first.is_running
    assert first.log.startswith(said)
    works.delivers("b.csv")
    assert first.terminate()[0] == 0


def test_the_work_directory_of_a_killed_agent_is_free(works: Plant) -> None:
    works.start().kill()
    works.start()
    works.delivers("a.csv")


def _overwrite(path: Path) -> None:
    with path.open("r+b") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(0)
        file.write(b"not a ledger " * (size // 13))


def _damage_inside(path: Path) -> None:
    with path.open("r+b") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(100)
        file.write(b"\xff" * (size - 100))


def _cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2 + 7)


@pytest.mark.parametrize("damage", [_overwrite, _damage_inside, _cut])
def test_a_ledger_damaged_while_the_agent_was_away_is_set_aside_and_delivery_goes_on(
    works: Plant, damage
) -> None:
    agent = works.start()
    works.delivers("a.csv")
    assert agent.terminate()[0] == 0
    damage(works.work / "ledger.db")
    agent = works.start()
    works.delivers("b.csv")
    assert agent.log.count("the ledger cannot be used") == 1
    assert len(list(works.work.glob("ledger.damaged-*.db"))) == 1


@pytest.mark.parametrize("damage", [_overwrite, _cut])
def test_a_ledger_damaged_under_the_running_agent_stops_neither_it_nor_the_next_one(
    works: Plant, damage
) -> None:
    agent = works.start()
    works.delivers("a.csv")
    for suffix in ("", "-wal"):
        damage(works.work / f"ledger.db{suffix}")
    works.delivers("b.csv")  # what SQLite holds in memory may be all it looks at until the next start
    works.delivers("c.csv")
    assert agent.is_running
    assert agent.log.count("the ledger cannot be used") <= 1
    assert agent.terminate()[0] == 0
    agent = works.start()
    works.delivers("d.csv")
    assert agent.log.count("the ledger cannot be used") <= 1


def test_an_agent_without_room_for_its_ledger_delivers_all_the_same(works: Plant) -> None:
    agent = works.start(largest_file=16_384)
    works.delivers("a.csv")
    assert "the ledger cannot be written" in agent.log
    assert agent.terminate()[0] == 0


def test_an_agent_whose_ledger_has_no_room_to_grow_delivers_all_the_same(works: Plant) -> None:
    """The limit is met by the write-ahead log, after a few dozen files."""

    agent = works.start(largest_file=400_000)
    works.delivers("a.csv")
    assert "the ledger cannot be written" not in agent.log
    for number in range(60):
        if "the ledger cannot be written" in agent.log:
            break
        works.delivers(f"{number}.csv")
    assert "the ledger cannot be written" in agent.log
    works.delivers("b.csv")
    assert agent.terminate()[0] == 0


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of a megabyte, where mounting one is allowed."""
    folder = tmp_path / "small"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tidegate-test", str(folder)]
    try:
        made = subprocess.run(mount, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        made = False
    if not made:
        pytest.skip("file systems cannot be mounted here")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def _fill(path: Path) -> None:
    with suppress(OSError), path.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))


def test_a_full_disk_does_not_stop_delivery(works: Plant, small_disk: Path) -> None:
    works.work = small_disk
    agent = works.start()
    works.delivers("a.csv")
    _fill(small_disk / "filler")
    for number in range(40):
        works.delivers(f"{number}.csv")
        if "the ledger cannot be written" in agent.log:
            break
    works.delivers("b.csv")
    assert agent.log.count("the ledger cannot be written") == 1
    assert agent.terminate()[0] == 0
