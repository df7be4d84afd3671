"""The command as people use it: a real process, a real folder, and stand-ins for Stream Manager and S3."""

from __future__ import annotations

import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from tests.helpers import eventually, transfer, write, writing
from tests.standins import s3
from tests.standins.streammanager import StreamManagerStandIn
from tidegate.ledger import Ledger

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.slow

BUCKET = "bucket"
COMMANDS = ("run", "status", "explain", "retry", "check-config")


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """One device: a folder that is watched, a configuration, and the agent's own folder."""

    root: Path
    work: Path
    config: Path
    port: int

    def configure(self, **keys: object) -> None:
        raw = {
            "PathName": f"{self.root}/**/*.csv",
            "BucketName": BUCKET,
            "Interval": 1,
            "QuietSeconds": 0,
            "HoldBack": "None",
            "Carrier": "StreamManager",
            "StreamManager": {"Port": self.port, "Streams": 2},
            **keys,
        }
        self.config.write_text(json.dumps({key: value for key, value in raw.items() if value is not None}))

    def command(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "tidegate", *arguments],
            capture_output=True,
            text=True,
            check=False,
            timeout=40,
            env=self.environment(),
        )

    def environment(self) -> dict[str, str]:
        return {
            "PATH": os.environ["PATH"],
            "HOME": str(self.work),
            "TIDEGATE_WORK_DIR": str(self.work),
            "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
        }

    def once(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return self.command("run", "--config", str(self.config), "--once", *arguments)

    @contextmanager
    def started(self, *arguments: str) -> Iterator[subprocess.Popen[str]]:
        """Start the agent, and see that nothing is left of it after the block."""
        process = subprocess.Popen(
            [sys.executable, "-m", "tidegate", "run", "--config", str(self.config), *arguments],
            env=self.environment(),
            stdout=subprocess.DEVNULL,
            text=True,
        )
        with process:
            try:
                yield process
            finally:
                process.kill()

    def hasten(self) -> None:
        """Let the waits of refused files be over, as if the time had passed."""
        if (self.work / "status.json").exists():
            with closing(sqlite3.connect(self.work / "ledger.db")) as ledger, ledger:
                ledger.execute("UPDATE promise SET due = 0 WHERE state = 0")

    def explain(self, path: Path | str) -> str:
        return self.command("explain", str(path)).stdout

    def status(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.command("status", "--json").stdout)
        return found

    @contextmanager
    def running(self) -> Iterator[subprocess.Popen[str]]:
        """Run the agent for the length of the block, and see that it ends well when it is told to."""
        with self.started() as process:
            eventually((self.work / "status.json").exists)
            yield process
            process.terminate()
            assert process.wait(5) == 0


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    with s3.serving() as url:
        s3.client(url).create_bucket(Bucket=BUCKET)
        yield url


@pytest.fixture
def sm(tmp_path: Path, endpoint: str) -> Iterator[StreamManagerStandIn]:
    with StreamManagerStandIn(data_dir=tmp_path / "sm", s3_endpoint=endpoint) as stand_in:
        yield stand_in


def site_in(folder: Path, port: int) -> Site:
    site = Site(root=folder / "data", work=folder / "work", config=folder / "config.yaml", port=port)
    site.root.mkdir()
    site.configure()
    return site


@pytest.fixture
def site(tmp_path: Path, sm: StreamManagerStandIn) -> Site:
    return site_in(tmp_path, sm.port)


@pytest.fixture
def lonely(tmp_path: Path) -> Site:
    """A device whose Stream Manager is away."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    return site_in(tmp_path, port)


def objects(endpoint: str, bucket: str = BUCKET) -> dict[str, bytes]:
    client = s3.client(endpoint)
    listed = client.list_objects_v2(Bucket=bucket).get("Contents", [])
    return {item["Key"]: client.get_object(Bucket=bucket, Key=item["Key"])["Body"].read() for item in listed}


# One pass


def test_a_pass_in_which_all_goes_well_ends_with_0(site: Site, endpoint: str) -> None:
    written = {f"one/{name}": f"{name}\n" * 100 for name in ("a.csv", "sub/b.csv", "odd name #1.csv")}
    for name, content in written.items():
        write(site.root / name, content)
    result = site.once()
    assert result.returncode == 0, result.stdout
    stored = {key: body.decode() for key, body in objects(endpoint).items() if key.startswith("one/")}
    assert stored == {name.replace(" ", "=20").replace("#", "=23"): text for name, text in written.items()}
    assert not [path for path in site.root.rglob("*") if path.is_file()]


def test_a_pass_over_nothing_ends_with_0(site: Site) -> None:
    assert site.once().returncode == 0


def test_a_second_pass_sends_nothing_twice(site: Site, endpoint: str) -> None:
    site.configure(After="Keep", ObjectKeyPrefix="twice")
    path = write(site.root / "a.csv")
    assert site.once().returncode == 0
    first = s3.client(endpoint).head_object(Bucket=BUCKET, Key="twice/a.csv")["LastModified"]
    assert site.once().returncode == 0
    assert s3.client(endpoint).head_object(Bucket=BUCKET, Key="twice/a.csv")["LastModified"] == first
    assert path.exists()
    state = site.status()["sources"]["default"]
    assert state["counters"]["files_stored"] == 1


def test_a_pass_in_which_a_file_is_held_back_ends_with_4_and_says_which(site: Site) -> None:
    site.configure(HoldBack="Newest")
    write(site.root / "old.csv", age=100)
    path = write(site.root / "new.csv")
    assert site.once().returncode == 4
    assert [it.name for it in site.root.iterdir()] == ["new.csv"]
    assert "newest of its group" in site.command("status").stdout
    assert "it is the newest file (HoldBack Newest); 60 min left" in site.explain(path)


def test_a_pass_in_which_a_file_is_refused_ends_with_1_and_it_can_be_tried_again(
    site: Site, sm: StreamManagerStandIn
) -> None:
    sm.refuse = {"poison": "InvalidRequest: no such thing"}
    poison = write(site.root / "poison.csv")
    good = write(site.root / "good.csv")
    with site.started("--once") as process:
        eventually(lambda: site.hasten() or process.poll() is not None, 30)
        assert process.wait() == 1
    assert (poison.exists(), good.exists()) == (True, False)
    state = site.status()
    assert [entry["path"] for entry in state["quarantine"]] == [str(poison)]
    assert "InvalidRequest: no such thing" in state["quarantine"][0]["note"]
    explained = site.explain(poison)
    assert "is in quarantine" in explained
    assert "refused 3 time(s)" in explained
    assert "InvalidRequest: no such thing" in explained
    assert site.command("retry", str(site.root / "unknown.csv")).returncode == 3
    sm.refuse = None
    retried = site.command("retry", str(poison))
    assert (retried.returncode, retried.stdout.split()[0]) == (0, "1")
    assert site.once().returncode == 0
    assert not poison.exists()
    assert site.command("retry", "--all").returncode == 0


def test_a_key_that_cannot_be_ends_a_pass_with_1_until_the_configuration_gives_another(site: Site) -> None:
    site.configure(ObjectKey="x" * 1020 + "/{path}")
    path = write(site.root / "a.csv")
    assert site.once().returncode == 1
    assert "it can never be sent: key_too_long" in site.explain(path)
    site.configure()
    assert site.once().returncode == 0
    assert not path.exists()


def test_a_pass_without_stream_manager_ends_with_5_when_its_time_is_over(lonely: Site) -> None:
    path = write(lonely.root / "a.csv")
    began = time.monotonic()
    result = lonely.once("--timeout", "1.5")
    assert result.returncode == 5
    assert time.monotonic() - began < 15
    assert path.exists()
    assert "cannot connect to Stream Manager" in result.stdout
    explained = lonely.explain(path)
    assert "waits to be sent" in explained


def test_a_pass_does_not_wait_for_what_is_paused_and_ends_with_4(site: Site) -> None:
    site.configure(Carrier="Direct")
    with site.running():
        assert site.command("pause").returncode == 0
    path = write(site.root / "a.csv", age=100)
    said = site.once()
    assert said.returncode == 4
    assert "paused: everything; `tidegate resume` has it sent again" in said.stderr + said.stdout
    assert path.exists()
    assert site.status()["paused_sources"] == ["default"]


def test_a_pass_of_a_device_that_its_mothership_has_not_configured_says_so_and_ends_with_4(
    site: Site, tmp_path: Path
) -> None:
    token = tmp_path / "token"
    token.write_text("secret")
    token.chmod(0o600)
    site.configure(Home={"Url": "https://home.example.com/ingestor", "TokenFile": str(token)})
    path = write(site.root / "a.csv", age=100)
    said = site.once()
    assert (said.returncode, path.exists()) == (4, True)
    assert "the mothership has not configured this device yet, so no source runs" in said.stderr


def test_a_work_directory_may_be_named_from_here(site: Site, tmp_path: Path) -> None:
    site.configure(HoldBack="None")
    path = write(site.root / "a.csv", age=100)
    (tmp_path / "here").mkdir()
    run = [
        sys.executable,
        "-m",
        "tidegate",
        "run",
        "--config",
        str(site.config),
        "--once",
        "--work-dir",
        "../w",
    ]
    env = site.environment() | {"TIDEGATE_WORK_DIR": "../x"}
    said = subprocess.run(run, cwd=tmp_path / "here", env=env, capture_output=True, text=True, check=False)
    assert said.returncode == 0, said.stderr
    assert not path.exists()
    assert (tmp_path / "w" / "ledger.db").exists()
    write(site.root / "b.csv", age=100)
    said = subprocess.run(
        run[:-2], cwd=tmp_path / "here", env=env, capture_output=True, text=True, check=False
    )
    assert said.returncode == 0, said.stderr
    assert (tmp_path / "x" / "ledger.db").exists()


def test_a_bucket_that_was_missing_is_tried_at_once_by_the_next_pass(site: Site, endpoint: str) -> None:
    site.configure(BucketName="made-later")
    path = write(site.root / "a.csv")
    result = site.once("--timeout", "4")
    assert result.returncode == 5
    assert "refuses everything" in result.stdout
    assert "its bucket refuses everything" in site.explain(path)
    with closing(sqlite3.connect(site.work / "ledger.db")) as ledger, ledger:  # as if an hour had passed
        ledger.execute("UPDATE destination SET since = since - 3600, due = due + 50")
    s3.client(endpoint).create_bucket(Bucket="made-later")
    assert site.once("--timeout", "12").returncode == 0
    assert not path.exists()


def test_one_file_for_two_destinations_arrives_at_both_before_it_is_deleted(
    site: Site, endpoint: str
) -> None:
    s3.client(endpoint).create_bucket(Bucket="second")
    both = {name: {"BucketName": name, "PathName": f"{site.root}/*.csv"} for name in (BUCKET, "second")}
    site.configure(PathName=None, BucketName=None, ObjectKeyPrefix="both", Sources=both)
    paths = [write(site.root / f"{number}.csv", str(number)) for number in range(20)]
    assert site.once().returncode == 0
    keys = {f"both/{number}.csv" for number in range(20)}
    assert keys <= set(objects(endpoint))
    assert keys <= set(objects(endpoint, "second"))
    assert not any(path.exists() for path in paths)


def test_what_a_dead_agent_left_aside_is_put_back_and_sent(site: Site, endpoint: str) -> None:
    write(site.root / ".tidegate-release" / "aside.csv", "left")
    assert site.once().returncode in {0, 4}  # 4: putting it back counts as a change, a moment ago
    assert site.once().returncode == 0
    assert objects(endpoint)["aside.csv"] == b"left"
    assert list(site.root.iterdir()) == []


def test_a_ledger_that_turns_out_to_be_damaged_stops_no_delivery(site: Site, endpoint: str) -> None:
    site.work.mkdir()
    path = site.work / "ledger.db"
    ledger = Ledger(path, jitter=lambda: 0)
    ledger.offer([(transfer(f"{number}.csv"), "") for number in range(3000)], now=0)
    ledger.close()
    half = path.stat().st_size // 2  # the schema is still readable: it opens, and fails when it is used
    with path.open("r+b") as file:
        file.seek(half)
        file.write(b"\xa5" * half)
    write(site.root / "after-damage.csv", "safe")
    result = site.once()
    assert result.returncode == 0, result.stdout
    assert objects(endpoint)["after-damage.csv"] == b"safe"
    assert len(list(site.work.glob("ledger.damaged-*.db"))) == 1
    assert result.stdout.count("the ledger cannot be used") == 1


def test_a_wrong_configuration_ends_with_2_and_all_its_faults(site: Site) -> None:
    site.configure(Intervall=5, QuietSeconds="soon", BucketName="No_Bucket", After="Burn")
    for result in (site.once(), site.command("check-config", str(site.config))):
        assert result.returncode == 2
        for word in ("Intervall", "QuietSeconds", "No_Bucket", "Burn", "4 fault(s)"):
            assert word in result.stderr


def test_a_missing_configuration_ends_with_2(site: Site) -> None:
    result = site.command("check-config", str(site.root / "missing.yaml"))
    assert (result.returncode, "cannot be read" in result.stderr) == (2, True)


def test_a_good_configuration_is_told_in_a_few_lines(site: Site) -> None:
    result = site.command("check-config", str(site.config))
    assert result.returncode == 0
    assert f"s3://{BUCKET}/" in result.stdout


def test_a_work_directory_that_cannot_be_is_told_in_one_line(site: Site) -> None:
    write(site.root / "file")
    result = site.once("--work-dir", str(site.root / "file" / "below"))
    assert result.returncode != 0
    assert "Traceback" not in result.stderr
    assert str(site.root / "file") in result.stderr


@pytest.mark.parametrize("command", ["status", "retry"])
def test_where_no_agent_ever_ran_the_answer_is_3(site: Site, command: str) -> None:
    result = site.command(command, *(["--all"] if command == "retry" else []))
    assert (result.returncode, "no agent ever ran" in result.stderr) == (3, True)


@pytest.mark.parametrize("command", COMMANDS)
def test_the_help_of_every_command_has_an_example_that_names_it(site: Site, command: str) -> None:
    result = site.command(command, "--help")
    assert result.returncode == 0
    assert "example:" in result.stdout
    assert f"\n  tidegate {command}" in result.stdout


# While it runs


def test_status_explain_and_the_lock_while_the_agent_runs(site: Site) -> None:
    site.configure(HoldBack="Newest", QuietSeconds=5, Exclude=["skip.csv"])
    newest = write(site.root / "newest.csv")
    with site.running() as process:
        second = site.once()
        assert second.returncode == 11
        assert f"process {process.pid}" in second.stderr
        eventually(lambda: site.status()["sources"]["default"]["found"] == 1)
        state = site.status()
        assert (state["running"], state["pid"]) == (True, process.pid)
        text = site.command("status").stdout
        assert f"is running (process {process.pid})" in text
        assert str(newest) in text
    assert site.status()["running"] is False
    assert "No agent is running here" in site.command("status").stdout


def test_explain_names_the_reason_whatever_it_is(site: Site) -> None:
    site.configure(
        PathName=f"{site.root}/*.csv", QuietSeconds=30, Exclude=["skip*"], HoldBack="Newest", LogFormat="Json"
    )
    names = ("a.csv", "skip.csv", ".hidden.csv", "other.txt", ".other.txt", "sub/a.csv")
    paths = {name: write(site.root / name) for name in names}
    os.mkfifo(site.root / "fifo.csv")
    (site.root / "link.csv").symlink_to("a.csv")
    assert site.once().returncode == 4
    no_match = f"PathName {site.root}/*.csv does not match"
    for path, words in {
        paths["other.txt"]: no_match,
        paths[".other.txt"]: no_match,
        paths["sub/a.csv"]: no_match,
        paths["skip.csv"]: "Exclude skip* leaves it out",
        paths[".hidden.csv"]: "it is hidden, and IncludeHidden is false",
        site.root / "fifo.csv": "it is not a regular file",
        site.root / "link.csv": "it is a symbolic link, and FollowSymlinks is false",
        site.root / "missing.csv": "does not exist",
        site.work / "ledger.db": "a folder of the agent's own",
        site.config: f"it is not below {site.root}",
        paths["a.csv"]: "QuietSeconds is 30",
    }.items():
        assert words in site.explain(path), path
    assert site.command("explain", str(site.root / "missing.csv")).returncode == 3
    with writing(paths["a.csv"]) as writer:
        assert f"process {writer.pid} has it open for writing" in site.explain(paths["a.csv"])
    answer = json.loads(site.command("explain", "--json", str(paths["a.csv"])).stdout)
    assert answer["sources"][0]["matches"] is True
    assert answer["sources"][0]["seconds"] == pytest.approx(20, abs=12)


def test_explain_tells_of_a_file_that_is_on_its_way_and_of_one_that_is_finished(
    site: Site, sm: StreamManagerStandIn
) -> None:
    sm.upload_delay = 600
    path = write(site.root / "a.csv")
    with site.running():
        eventually(lambda: "is on its way" in site.explain(path))
        explained = site.explain(path)
        assert "receipt: number 0 in" in explained
        assert "nothing holds it back" in explained
    # It stays on its way while no agent runs: Stream Manager has it.
    assert "is on its way" in site.explain(path)


def test_explain_remembers_what_became_of_a_file(site: Site) -> None:
    path = write(site.root / "a.csv")
    assert site.once().returncode == 0
    result = site.command("explain", str(path))
    assert result.returncode == 0
    assert "does not exist (any more)" in result.stdout
    assert "was stored, and is finished" in result.stdout


def test_an_odd_name_breaks_no_line_of_what_is_told(site: Site) -> None:
    site.configure(HoldBack="Newest")
    path = write(site.root / "two\nlines\x1b[31m.csv")
    result = site.once()
    assert result.returncode == 4
    for text in (result.stdout, site.command("status").stdout, site.explain(path)):
        assert "\x1b" not in text
        assert "\nlines" not in text
    assert json.loads(site.command("explain", "--json", str(path)).stdout)["path"] == str(path)


def test_log_lines_tell_no_payload_and_no_argument(site: Site) -> None:
    site.configure(LogLevel="DEBUG", LogFormat="Json")
    write(site.root / "a.csv", "the-payload")
    result = site.once()
    assert result.returncode == 0
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    (stored,) = [line for line in lines if line["message"].endswith("(11 bytes)")]
    assert str(site.root / "a.csv") in stored["message"]
    assert "the-payload" not in result.stdout
    assert "--once" not in result.stdout


def test_a_hang_up_brings_the_next_scan_forward(site: Site) -> None:
    site.configure(Interval=3600, QuietSeconds=0)
    with site.running() as process:
        eventually(lambda: site.status()["sources"]["default"]["scanned_at"])
        path = site.root / "a.csv"
        site.root.rename(site.root.with_name("away"))  # where no watch sees what happens
        (site.root.with_name("away") / path.name).write_text("1")
        site.root.with_name("away").rename(site.root)
        process.send_signal(signal.SIGHUP)
        process.send_signal(signal.SIGHUP)
        eventually(lambda: not path.exists())
