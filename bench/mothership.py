"""How many phone-homes a second a mothership takes, with 10,000 devices: each on a connection of its own.

    python bench/mothership.py [--devices 10000] [--seconds 10] [--lines 64] [--write]

The devices are one other process on the same machine; what it costs is in the figures. Everything that is
answered is on the disk.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from common import ROOT, machine, write_section

HOST = "127.0.0.1"
SOURCE = ROOT / "src"
GOAL = 1000


def message(path: str, token: str, body: dict[str, Any]) -> bytes:
    text = json.dumps(body).encode()
    head = f"POST {path} HTTP/1.1\r\nhost: {HOST}\r\nauthorization: Bearer {token}\r\nconnection: close\r\n"
    return f"{head}content-length: {len(text)}\r\n\r\n".encode() + text


def heartbeat(number: int) -> bytes:
    info = {"hostname": f"d{number}", "backlog": {"files": number % 7, "bytes": 4096, "oldestSeconds": 3}}
    counters = dict.fromkeys(("added", "updated", "skipped", "ignored", "unchanged", "delayed"), 12)
    context = {
        "state": "configured",
        "version": "0.1.0",
        "action": "heartbeat",
        "info": info,
        "result": counters,
    }
    return message("/ingestor", f"token-{number}", {"context": {**context, "rev": 1, "rejected": None}})


async def exchange(port: int, data: bytes) -> bytes:
    reader, writer = await asyncio.open_connection(HOST, port)
    try:
        writer.write(data)
        return await reader.read()
    finally:
        writer.close()


async def each(port: int, messages: list[bytes], lines: int, until: float) -> list[float]:
    """Send these over and over, on so many connections at a time. Returns how long each took, in seconds."""
    took: list[float] = []
    numbers = iter(range(10**9))

    async def work() -> None:
        while time.monotonic() < until and (number := next(numbers)) < len(messages) * 10_000:
            began = time.monotonic()
            answer = await exchange(port, messages[number % len(messages)])
            assert answer.startswith((b"HTTP/1.1 200", b"HTTP/1.1 201")), answer[:200]
            took.append(time.monotonic() - began)

    await asyncio.gather(*(work() for _ in range(lines)))
    return took


async def once(port: int, messages: list[bytes], lines: int) -> None:
    waiting = iter(messages)

    async def work() -> None:
        for data in waiting:
            answer = await exchange(port, data)
            assert answer.startswith(b"HTTP/1.1 20"), answer[:200]

    await asyncio.gather(*(work() for _ in range(lines)))


def memory_and_cpu(pid: int) -> tuple[float, float]:
    status = Path(f"/proc/{pid}/status").read_text()
    peak = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM"))
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
    return peak / 1024, (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--devices", type=int, default=10_000)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--lines", type=int, default=64)
    parser.add_argument("--write", action="store_true", help="put the table into bench/RESULTS.md")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        with socket.create_server((HOST, 0)) as one:
            port = one.getsockname()[1]
        command = ["mothership", "--db", f"{folder}/f.db", "--listen", f"{HOST}:{port}"]
        environment = {**os.environ, "PYTHONPATH": str(SOURCE)}
        process = subprocess.Popen(
            [sys.executable, "-m", "tidegate", *command], env=environment, stdout=subprocess.DEVNULL
        )
        try:
            lines = measure(options, process.pid, port, Path(folder))
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait()
    asked = f"--devices {options.devices} --seconds {options.seconds:g} --lines {options.lines}"
    facts = (
        f"`python bench/mothership.py {asked} --write` on {time.strftime('%Y-%m-%d')} on {machine()},"
        f" with all devices on the same processors. The goal is {GOAL:,} phone-homes a second."
    )
    text = "\n".join([facts, "", "| what | measured |", "|---|---|", *lines])
    print(text)
    if options.write:
        write_section("mothership", text)


def wait_for(port: int) -> None:
    while True:
        try:
            socket.create_connection((HOST, port)).close()
        except ConnectionRefusedError:
            time.sleep(0.05)
        else:
            return


def measure(options: argparse.Namespace, pid: int, port: int, folder: Path) -> list[str]:
    wait_for(port)
    bootstrap = (folder / "f.db.bootstrap").read_text().strip()
    digests = [hashlib.sha256(f"token-{number}".encode()).hexdigest() for number in range(options.devices)]
    enrolments = [
        message("/ingestor/enrol", bootstrap, {"name": f"d{number}", "token_sha256": digest})
        for number, digest in enumerate(digests)
    ]
    began = time.monotonic()
    asyncio.run(once(port, enrolments, options.lines))
    enrolled = options.devices / (time.monotonic() - began)
    messages = [heartbeat(number) for number in range(options.devices)]
    _, cpu = memory_and_cpu(pid)
    began = time.monotonic()
    took = sorted(asyncio.run(each(port, messages, options.lines, began + options.seconds)))
    passed = time.monotonic() - began
    peak, after = memory_and_cpu(pid)
    rows = {
        f"enrolments a second, {options.devices:,} devices": f"{enrolled:,.0f}",
        "phone-homes a second": f"{len(took) / passed:,.0f}",
        "median, 99 % of them": f"{took[len(took) // 2] * 1000:.1f} ms, {took[len(took) * 99 // 100] * 1000:.1f} ms",
        "CPU of the mothership for each": f"{1000 * (after - cpu) / len(took):.2f} ms",
        "most memory of the mothership": f"{peak:.0f} MiB",
    }
    return [f"| {what} | {figure} |" for what, figure in rows.items()]


if __name__ == "__main__":
    main()
