"""The commands that speak to an agent that runs: what they ask it, and how its answer is shown."""

from __future__ import annotations

import argparse
import base64
import contextlib
import hashlib
import json
import os
import sys
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from tidegate.doors.asking import NoAgent, ask
from tidegate.errors import Unavailable

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

SECONDS = 30.0
"""For an answer, beside what the agent was asked to wait itself."""

PART_BYTES = 524_288
"""Bodies of more bytes go in parts of so many."""

NO_AGENT, WRONG, UNAVAILABLE = 3, 2, 5


class Add(Protocol):
    """Adds a command with the options that all have."""

    def __call__(self, name: str, command: Any, does: str, example: str) -> argparse.ArgumentParser:
        """Return it."""


def add(command: Add) -> None:
    """Add the commands of this module."""
    statistics = command(
        "statistics", _statistics, "show what was sent, and what waits", "tidegate statistics --json"
    )
    _json(statistics)
    for name, does in (
        ("pause", "send nothing more until told to resume, also after a restart"),
        ("resume", "send again what was paused"),
        ("scan", "look for files now"),
    ):
        one = command(name, _about_source, does, f"tidegate {name} --source logs")
        one.set_defaults(route=f"{name}/post", did=name)
        one.add_argument("--source", metavar="NAME", help="only this source (default: all)")
        _json(one)
    post = command(
        "post",
        _post,
        "store an object: a file of a source right now, or any bytes under a key",
        "tidegate post /data/a.csv\n  echo done | tidegate post --key reports/today.txt -",
    )
    post.add_argument("path", metavar="PATH", help="the file; with --key also - for standard input")
    post.add_argument("--key", help="what the object is called; the file need not be of a source then")
    post.add_argument("--source", metavar="NAME", help="whose bucket and prefix are meant")
    post.add_argument("--content-type", metavar="TYPE", help="with --key: what it holds, such as text/plain")
    post.add_argument(
        "--wait", type=_seconds, default=10, metavar="S", help="until it is stored (10, at most 600)"
    )
    _json(post)


def retry(folder: Path, path: str | None) -> int | None:
    """Have the agent try files again. Returns how many; None where no agent runs. Raises TidegateError."""
    try:
        reply = ask(folder, "retry/post", _token() | ({"path": path} if path else {}), seconds=SECONDS)
    except NoAgent:
        return None
    if reply["status"] >= 400:
        raise Unavailable(reply.get("message", "the agent refused it"))
    return int(reply["files"])


def _json(command: argparse.ArgumentParser) -> None:
    command.add_argument("--json", action="store_true", help="print the agent's answer as JSON")


def _seconds(text: str) -> int:
    with contextlib.suppress(ValueError):
        if 0 <= (value := int(text)) <= 600:
            return value
    raise argparse.ArgumentTypeError(f"{text!r} is no number of seconds from 0 to 600")


def _token() -> dict[str, str]:
    return {"clientToken": uuid.uuid4().hex}


def _statistics(options: argparse.Namespace) -> int:
    found: dict[str, Any] = {}
    cursor: dict[str, str] = {}
    while True:
        reply, code = _asked(options.work_dir, "statistics/get", cursor)
        if code:
            return code
        sources = [*found.get("sources", ()), *reply.get("sources", ())]
        found = {**reply, "sources": sources}
        if "cursor" not in reply:
            break
        cursor = {"cursor": reply["cursor"]}
    found.pop("cursor", None)
    _show(found, options, _table(found))
    return 0


def _about_source(options: argparse.Namespace) -> int:
    fields = _token() | ({"source": options.source} if options.source else {})
    reply, code = _asked(options.work_dir, options.route, fields)
    if not code:
        whom = options.source or "all sources"
        words = {
            "pause": f"{whom} paused",
            "resume": f"{whom} resumed",
            "scan": f"looking for files of {whom}",
        }
        _show(reply, options, [words[options.did]])
    return code


def _post(options: argparse.Namespace) -> int:
    if options.key is None:
        if options.path == "-" or options.content_type:
            print("the bytes need a name: add --key, for example --key reports/a.txt", file=sys.stderr)
            return WRONG
        path = os.path.abspath(options.path)  # noqa: PTH100 - without following links
        requests: Iterator[dict[str, Any]] = iter([{"path": path}])
    else:
        data = sys.stdin.buffer.read() if options.path == "-" else Path(options.path).read_bytes()
        requests = _bodies(options, data)
    shared = {"waitSeconds": options.wait} | ({"source": options.source} if options.source else {})
    reply: dict[str, Any] = {}
    for request in requests:
        reply, code = _asked(
            options.work_dir, "objects/post", _token() | shared | request, SECONDS + options.wait
        )
        if code:
            return code
    where = f"s3://{reply.get('bucket', '?')}/{reply.get('key', '?')}"
    stored = "is stored as" if reply["status"] == 200 else "is safe here, and will be stored as"
    _show(reply, options, [f"{options.path} {stored} {where}"])
    return 0


def _bodies(options: argparse.Namespace, data: bytes) -> Iterator[dict[str, Any]]:
    """Make the requests that bring these bytes: one, or one for each part, which may be sent again."""
    head: dict[str, Any] = {"key": options.key}
    if options.content_type:
        head["contentType"] = options.content_type
    if len(data) <= PART_BYTES:
        yield head | {"bodyBase64": base64.b64encode(data).decode()}
        return
    digest = hashlib.sha256(data).hexdigest()
    upload = hashlib.sha256(f"{options.key}\0{digest}".encode()).hexdigest()[:40]
    head |= {"upload": upload, "sha256": digest, "parts": -(-len(data) // PART_BYTES)}
    for number in range(head["parts"]):
        part = data[number * PART_BYTES : (number + 1) * PART_BYTES]
        yield head | {"part": number + 1, "bodyBase64": base64.b64encode(part).decode()}


def _asked(
    folder: Path, route: str, fields: Mapping[str, Any], seconds: float = SECONDS
) -> tuple[dict[str, Any], int]:
    """Ask, say what is wrong if anything is, and return the reply with the exit code."""
    try:
        reply = ask(folder, route, fields, seconds=seconds)
    except NoAgent as err:
        print(f"{err}; start it, or name its folder with --work-dir", file=sys.stderr)
        return {}, NO_AGENT
    status = reply["status"]
    if status < 400:
        return reply, 0
    print(reply.get("message", f"the agent refused it ({status})"), file=sys.stderr)
    return reply, NO_AGENT if status == 404 else WRONG if status < 500 else UNAVAILABLE


def _show(reply: Mapping[str, Any], options: argparse.Namespace, lines: list[str]) -> None:
    if options.json:
        print(json.dumps({key: value for key, value in reply.items() if key != "clientToken"}, indent=2))
    else:
        print("\n".join(lines))


def _table(found: Mapping[str, Any]) -> list[str]:
    """Write the figures of each source in a row, and what is wrong below."""
    rows = [["source", "stored", "bytes", "failed", "waiting", "bytes", "held", "quarantined", ""]]
    for one in found["sources"]:
        totals, backlog = one["totals"], one["backlog"]
        figures = [totals["uploaded"], totals["bytes"], totals["failed"], backlog["files"], backlog["bytes"]]
        figures += [one["held"], one["quarantined"]]
        rows.append([one["name"], *map(str, figures), "paused" if one["paused"] else ""])
    widths = [max(len(row[number]) for row in rows) for number in range(len(rows[0]))]
    lines = [
        "  ".join(
            cell.rjust(width) if number else cell.ljust(width)
            for number, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
    faults = found.get("configuration", {}).get("faults", [])
    troubles = [one["reason"] for one in found.get("carriers", {}).get("troubles", [])]
    return [*lines, *(f"fault of the configuration: {it}" for it in faults), *troubles]
