"""How fast the S3 client alone is: files put, milliseconds of CPU for each, megabytes resident.

    python bench/put_rate.py [--files 10000] [--bytes 4096] [--threads 8] [--rounds 3] [--latency 0]

The server is the sink of tests/standins, in a process of its own. Each file is opened, checked and
hashed as the carrier does; its SHA-256 is signed as S3 wants it over plain HTTP, or not (`--unsigned`).
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT / "src")]

from tidegate.store.body import Body  # noqa: E402
from tidegate.store.credentials import Keyring, issuer  # noqa: E402
from tidegate.store.endpoints import Endpoint  # noqa: E402
from tidegate.store.s3 import S3  # noqa: E402
from tidegate.store.wire import Manner  # noqa: E402

KEYS = {"AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing"}


def put_all(client: S3, paths: list[str], threads: int, prefix: str) -> None:
    todo = iter(paths)
    gate = threading.Lock()
    failures: list[BaseException] = []

    def work() -> None:
        try:
            while True:
                with gate:
                    path = next(todo, None)
                if path is None:
                    return
                descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
                try:
                    body = Body(descriptor, os.fstat(descriptor).st_size)
                    client.put("bucket", prefix + path[1:], body)
                finally:
                    os.close(descriptor)
        except BaseException as error:
            failures.append(error)
            raise

    crew = [threading.Thread(target=work) for _ in range(threads)]
    for thread in crew:
        thread.start()
    for thread in crew:
        thread.join()
    if failures:
        raise SystemExit(f"failed: {failures[0]!r}")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--files", type=int, default=10_000)
    parser.add_argument("--bytes", type=int, default=4096)
    parser.add_argument("--threads", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--latency", type=float, default=0.0)
    parser.add_argument("--unsigned", action="store_true")
    asked = parser.parse_args()
    server = subprocess.Popen(
        [sys.executable, "-m", "tests.standins.sink", "--latency", str(asked.latency)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        url = server.stdout.readline().split()[-1]
        with tempfile.TemporaryDirectory() as folder:
            paths = [f"{folder}/{number:06}.bin" for number in range(asked.files)]
            for path in paths:
                Path(path).write_bytes(os.urandom(asked.bytes))
            client = S3(
                Endpoint(region="us-east-1", url=url),
                Keyring(issuer(KEYS)),
                manner=lambda _: Manner(),
                sign_payload=not asked.unsigned,
            )
            print("round   wall s    CPU s   CPU ms/file   files/s   peak RSS MB")
            for number in range(asked.rounds):
                wall, cpu = time.perf_counter(), time.process_time()
                put_all(client, paths, asked.threads, f"{number}/")
                wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
                peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
                each = cpu / asked.files * 1000
                print(
                    f"{number:5} {wall:8.2f} {cpu:8.2f} {each:13.3f} {asked.files / wall:9.0f} {peak:13.0f}"
                )
            client.close()
    finally:
        server.terminate()
        server.wait()
        server.stdout.close()


if __name__ == "__main__":
    main()
