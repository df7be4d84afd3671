"""A long bad day for the Direct carrier: an S3 that fails in every way, programs that write, and kill -9.

    python bench/soak.py [--seconds 600] [--seed N] [--keep FOLDER]

Each writer has its own files, and creates, replaces, overwrites in place, appends to and renames them, small
ones and ones that go in parts. The server changes its mood every few seconds. At the end all is well again;
the agent sends what is left, and everything is counted. The code is 1 if anything was lost, torn or left over.

    lost   the last version of a file is neither its object nor on the disk
    torn   an object that was ever stored is no version that a program ever wrote
"""

from __future__ import annotations

import argparse
import collections
import hashlib
import os
import random
import re
import secrets
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import ExitStack, suppress
from pathlib import Path

import yaml
from common import ROOT, pause

sys.path[:0] = [str(ROOT / "src"), str(ROOT)]

from tests.standins.faulty_s3 import CRC, Fault, FaultyS3, Seen, error, reply  # noqa: E402

BUCKET = "soak"
MIB = 2**20
PROGRESS_SECONDS = 10.0
DRAIN_SECONDS = 240.0
"""Longer than the longest wait of a refused file or a paused bucket, and the next sweep of open uploads."""

MOODS = {"fair": 5, "rough": 6, "busy": 2, "forbidden": 1, "away": 1, "cutting": 3, "lying": 3}
BUSY = ((500, "InternalError"), (503, "SlowDown"), (503, "ServiceUnavailable"), (409, "OperationAborted"))


class Diary:
    """Every version that was ever written, and the last one of each file. Safe to use from any thread."""

    def __init__(self) -> None:
        self.last: dict[str, bytes] = {}
        self.versions: dict[bytes, str] = {}
        self.written = 0
        self._gate = threading.Lock()

    def note(self, name: str, content: bytes) -> None:
        """A file is about to hold this."""
        with self._gate:
            mark = hashlib.sha256(content).digest()
            self.versions[mark] = name
            self.last[name] = mark
            self.written += 1

    def renamed(self, old: str, new: str) -> None:
        with self._gate:
            self.last[new] = self.last.pop(old)

    def knows(self, content: bytes) -> bool:
        with self._gate:
            return hashlib.sha256(content).digest() in self.versions


class BadS3(FaultyS3):
    """Misbehaves at random, and looks at each object the moment it is stored."""

    def __init__(self, diary: Diary, seed: int) -> None:
        super().__init__(self._misbehave)
        self.mood = "fair"
        self.torn: list[str] = []
        self.stored = self.duplicates = self.faults = 0
        self.kinds: collections.Counter[str] = collections.Counter()
        self._diary = diary
        self._chance = random.Random(f"{seed} server")
        self._dice = threading.Lock()

    def next_mood(self) -> None:
        self.mood = self._chance.choices(list(MOODS), MOODS.values())[0]

    def _misbehave(self, seen: Seen) -> Fault | None:
        with self._gate:
            self.seen.clear()  # with their bodies
            self.kinds[seen.kind] += 1
        with self._dice:
            fault = self._fault(seen, self._chance)
        self.faults += fault is not None
        return fault

    def _fault(self, seen: Seen, chance: random.Random) -> Fault | None:
        if self.mood == "calm":
            return None
        if self.mood == "forbidden":
            return Fault(error(403, "AccessDenied"), take=chance.choice((None, 1000)))
        if self.mood == "away":
            return Fault(error(500, "InternalError"), take=0, cut=0, reset=chance.random() < 0.5)
        if chance.random() > {"fair": 0.02, "rough": 0.25}.get(self.mood, 0.4):
            return None
        how = self.mood if self.mood in TROUBLES else chance.choice(list(TROUBLES))
        return TROUBLES[how](seen, chance)

    def _carry_out(self, seen: Seen) -> bytes:
        chance = self._chance.random() if self.mood != "calm" else 1.0
        if chance < 0.02 and seen.kind in ("part", "list parts", "complete"):
            with self._gate:  # somebody else has aborted it
                self.uploads.pop(seen.query["uploadId"], None)
        if chance < 0.05 and seen.kind == "list parts":
            with self._gate:  # a part has got lost
                parts = self.uploads.get(seen.query["uploadId"], ("", {}, {}))[2]
                parts.pop(next(iter(parts), 0), None)
        path = seen.path
        with self._gate:
            before = self.objects.get(path)
            open_upload = self.uploads.get(seen.query.get("uploadId", ""))
        answer = super()._carry_out(seen)
        if seen.kind in ("put", "complete") and answer.startswith(b"HTTP/1.1 200"):
            path = open_upload[0] if open_upload else path
            self._look_at(path, before.body if before else None)
        return answer

    def _look_at(self, path: str, before: bytes | None) -> None:
        body = self.objects[path].body
        self.stored += 1
        self.duplicates += body == before
        if not self._diary.knows(body):
            self.torn.append(f"{path} ({len(body)} bytes)")


def _busy(_: Seen, chance: random.Random) -> Fault:
    return chance.choice(
        (
            Fault(error(*chance.choice(BUSY))),
            Fault(error(*chance.choice(BUSY)), take=chance.randrange(100_000), hang_up=True),
            Fault(delay=chance.uniform(0.0, 1.0)),
            Fault(pace=chance.randrange(20_000, 60_000)),  # time enough to change a large file on its way
            Fault(delay=chance.uniform(2.0, 4.0)),  # longer than the agent waits
            Fault(error(400, "RequestTimeout")),
            Fault(error(403, "RequestTimeTooSkewed")),
        )
    )


def _cutting(_: Seen, chance: random.Random) -> Fault:
    reset = chance.random() < 0.5
    return chance.choice(
        (
            Fault(cut=0, reset=reset),  # done, and nobody told
            Fault(cut=chance.randrange(1, 300), reset=reset),
            Fault(error(500, "InternalError"), take=chance.randrange(6 * MIB), cut=0, reset=reset),
            Fault(hang_up=True),
            Fault(take=chance.randrange(10_000)),  # half of the body, and it says so
        )
    )


def _lying(seen: Seen, chance: random.Random) -> Fault:
    wrong = {"ETag": '"0123456789abcdef"', CRC: "AAAAAAAAAAA="}
    lies = {
        "put": [Fault(reply(200, wrong)), Fault(error(400, "BadDigest")), Fault(reply(200, {"ETag": '"x"'}))],
        "part": [
            Fault(reply(200, wrong)),
            Fault(error(400, "BadDigest")),
            Fault(reply(200, {"ETag": '"x"'})),
        ],
        "create": [
            Fault(reply(200, body=b"<InitiateMultipartUploadResult/>")),
            Fault(reply(200, body=b"half <")),
        ],
        "list parts": [
            Fault(reply(200, body=b"<ListPartsResult><IsTruncated>false</IsTruncated></ListPartsResult>")),
            Fault(reply(200, body=b"nothing")),
        ],
        "complete": [
            Fault(error(400, "InvalidPart")),
            Fault(reply(200, body=b"<Error><Code>InternalError</Code><Message>late</Message></Error>")),
            Fault(reply(200, body=b"<CompleteMultipartUploadResult/>")),
        ],
        "head": [
            Fault(reply(200, wrong | {"Content-Length": "1"}, is_head=True)),
            Fault(reply(500, is_head=True)),
        ],
    }
    return chance.choice(lies.get(seen.kind, [Fault(error(503, "SlowDown"))]))


TROUBLES = {"busy": _busy, "cutting": _cutting, "lying": _lying}


class Writer:
    """A program with files of its own, written one after the other until it is stopped."""

    def __init__(self, name: str, folder: Path, diary: Diary, seed: int, *, large: bool) -> None:
        self._name = name
        self._folder = folder
        self._diary = diary
        self._large = large
        self._chance = random.Random(f"{seed} {name}")
        self._files = [f"{name}-{number}.csv" for number in range(2 if large else 30)]
        self._stop = threading.Event()
        self.problem: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name=name)
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        try:
            while not self._stop.wait(
                self._chance.uniform(1, 8) if self._large else self._chance.expovariate(25)
            ):
                name = self._chance.choice(self._files)
                how = self._chance.choice(
                    (self._replace, self._replace, self._overwrite, self._append, self._rename)
                )
                how(name)
        except BaseException as problem:
            self.problem = problem
            raise

    def _bytes(self) -> bytes:
        size = (
            self._chance.randrange(6 * MIB, 13 * MIB) if self._large else int(self._chance.paretovariate(0.6))
        )
        return self._chance.randbytes(min(size, 13 * MIB if self._large else 300_000))

    def _replace(self, name: str) -> None:
        draft = self._folder / f"{name}.part"
        content = self._bytes()
        draft.write_bytes(content)
        self._diary.note(name, content)
        draft.replace(self._folder / name)

    def _overwrite(self, name: str) -> None:
        content = self._bytes()
        self._diary.note(name, content)
        with (self._folder / name).open("wb", buffering=0) as file:
            self._write(file, content)

    def _append(self, name: str) -> None:
        content = self._bytes()[: 100_000 if self._large else None]
        with (self._folder / name).open("a+b", buffering=0) as file:
            file.seek(0)  # what is open now stays ours: nobody deletes it
            self._diary.note(name, file.read() + content)
            self._write(file, content)

    def _rename(self, name: str) -> None:
        other = self._chance.choice(self._files)
        if other == name:
            return
        with suppress(FileNotFoundError):  # sent and deleted
            (self._folder / name).rename(self._folder / other)
            self._diary.renamed(name, other)

    def _write(self, file, content: bytes) -> None:
        half = len(content) // 2
        file.write(content[:half])
        self._stop.wait(self._chance.choice((0.0, 0.01, 0.5)))
        file.write(content[half:])


class Soak:
    def __init__(self, folder: Path, seconds: float, seed: int) -> None:
        self.diary = Diary()
        self._chance = random.Random(f"{seed} kills")
        self._seconds = seconds
        self._seed = seed
        self._folder = folder
        self._data = folder / "data"
        self._data.mkdir()
        self._log = folder / "agent.log"
        self._process: subprocess.Popen[bytes] | None = None
        self._kills = 0

    def run(self) -> bool:
        with ExitStack() as stack:
            self._s3 = stack.enter_context(BadS3(self.diary, self._seed))
            self._configure()
            stack.callback(self._kill)
            self._start()
            writers = [
                Writer(name, self._data, self.diary, self._seed, large=name.startswith("large"))
                for name in ("small1", "small2", "small3", "large1", "large2")
            ]
            try:
                self._endure()
            finally:
                for writer in writers:
                    writer.stop()
            problems = [repr(writer.problem) for writer in writers if writer.problem]
            drained = self._drain()
            self._kill()
            return self._verdict(drained, problems)

    def _configure(self) -> None:
        (self._folder / "soak.yaml").write_text(
            yaml.safe_dump(
                {
                    "PathName": f"{self._data}/*.csv",
                    "BucketName": BUCKET,
                    "Carrier": "Direct",
                    "HoldBack": "None",
                    "Interval": 0.5,
                    "QuietSeconds": 0.2,
                    "MaxConcurrent": 6,
                    "S3": {
                        "EndpointUrl": self._s3.url,
                        "ReadTimeout": 2,
                        "ConnectTimeout": 2,
                        "PartSize": 5 * MIB,
                        "MultipartThreshold": 5 * MIB,
                    },
                }
            )
        )

    def _command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "tidegate", *arguments, "--work-dir", str(self._folder / "work")]

    def _environment(self) -> dict[str, str]:
        return {
            "PATH": os.environ["PATH"],
            "HOME": str(self._folder),
            "PYTHONPATH": str(ROOT / "src"),
            "AWS_ACCESS_KEY_ID": "AKID",
            "AWS_SECRET_ACCESS_KEY": "SECRET",
        }

    def _start(self) -> None:
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command("run", "--config", str(self._folder / "soak.yaml")),
                env=self._environment(),
                stdout=log,
                stderr=log,
            )

    def _kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def _endure(self) -> None:
        began = time.monotonic()
        next_mood, next_kill, next_line = 0.0, self._chance.uniform(3, 15), PROGRESS_SECONDS
        while (passed := time.monotonic() - began) < self._seconds:
            if passed >= next_mood:
                self._s3.next_mood()
                next_mood = passed + self._chance.uniform(1, 6)
            if passed >= next_kill or self._process.poll() is not None:
                if self._process.poll() is not None:
                    print(f"the agent ended by itself with code {self._process.returncode}", flush=True)
                self._kill()
                self._kills += 1
                self._start()
                next_kill = passed + self._chance.choice((0.5, 5, 10, 20, 30)) * self._chance.uniform(
                    0.5, 1.5
                )
            if passed >= next_line:
                self._tell(passed)
                next_line += PROGRESS_SECONDS
            pause(0.05)

    def _tell(self, passed: float) -> None:
        s3 = self._s3
        print(
            f"{passed:4.0f} s  {s3.mood:9}  written {self.diary.written:6}  stored {s3.stored:6}  torn {len(s3.torn)}"
            f"  kills {self._kills}  faults {s3.faults} of {sum(s3.kinds.values())}"
            f"  on disk {len(self._on_disk()):3}  uploads open {len(s3.uploads)}",
            flush=True,
        )

    def _drain(self) -> float:
        """All is well again: seconds until nothing was left, or infinity."""
        self._s3.mood = "calm"
        self._kill()
        self._start()
        began = time.monotonic()
        retried = 0.0
        while (passed := time.monotonic() - began) < DRAIN_SECONDS:
            if not self._on_disk() and not self._s3.uploads:
                return passed
            if passed > retried + 5:  # what the lies have brought into quarantine
                retried = passed
                subprocess.run(
                    self._command("retry", "--all"), env=self._environment(), capture_output=True, check=False
                )
                self._tell(self._seconds + passed)
            pause(0.1)
        return float("inf")

    def _on_disk(self) -> list[Path]:
        return [path for path in self._data.rglob("*") if path.is_file() and path.suffix != ".part"]

    def _verdict(self, drained: float, problems: list[str]) -> bool:
        s3, last = self._s3, self.diary.last
        stored = {path.removeprefix(f"{BUCKET}/"): held.body for path, held in s3.objects.items()}
        marks = {name: hashlib.sha256(body).digest() for name, body in stored.items()}
        kept = {hashlib.sha256(path.read_bytes()).digest() for path in self._on_disk()}
        arrived = sum(marks.get(name) == mark for name, mark in last.items())
        lost = [name for name, mark in last.items() if marks.get(name) != mark and mark not in kept]
        said = self._log.read_text("utf-8", "replace")
        traces = re.findall(r"\n(\w*(?:Error|Exception)\b.*)", said)
        print(
            f"\n{self._seconds:.0f} seconds, seed {self._seed}, {self._kills} kills, drained in {drained:.0f} s"
        )
        print(
            f"requests            {sum(s3.kinds.values())}, of which {s3.faults} met a fault: {dict(s3.kinds)}"
        )
        print(f"versions written    {self.diary.written}")
        print(
            f"objects stored      {s3.stored}, of which {s3.duplicates} were there already with the same bytes"
        )
        print(f"files (last ones)   {len(last)}, of which {arrived} are stored")
        print(f"lost                {len(lost)} {lost[:10]}")
        print(f"torn                {len(s3.torn)} {s3.torn[:10]}")
        print(f"left on the disk    {len(self._on_disk())} {[it.name for it in self._on_disk()[:5]]}")
        print(f"open uploads left   {len(s3.uploads)} {[it[0] for it in s3.uploads.values()][:5]}")
        print(f"changed on the way  {said.count('changed while it was uploaded')}")
        print(f"quarantined         {said.count('goes to quarantine')}, and tried again")
        print(f"tracebacks logged   {len(traces)} {sorted(set(traces))[:5]}")
        print(f"writers that failed {len(problems)} {problems}", flush=True)
        return not (lost or s3.torn or s3.uploads or traces or problems) and drained != float("inf")


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--keep", type=Path, help="work here, and leave all of it")
    chosen = parser.parse_args()
    seed = chosen.seed if chosen.seed is not None else secrets.randbelow(10**6)
    print(f"seed {seed}", flush=True)
    with ExitStack() as stack:
        folder = chosen.keep
        if folder is None:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tidegate-soak-")))
        folder.mkdir(parents=True, exist_ok=True)
        return 0 if Soak(folder, chosen.seconds, seed).run() else 1


if __name__ == "__main__":
    raise SystemExit(main())
