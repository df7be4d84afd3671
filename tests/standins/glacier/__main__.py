"""The stand-in by hand, and what can be said to one that is running.

    python -m tests.standins.glacier serve --port 9100 --populate archive=100000
    python -m tests.standins.glacier advance 12h
    python -m tests.standins.glacier do put bucket=archive key=a.bin size=1000 storage_class=DEEP_ARCHIVE
    python -m tests.standins.glacier do fault kind=slow-down operation=RestoreObject times=100
    python -m tests.standins.glacier do set of=faults restore_rate=150
    python -m tests.standins.glacier show

`serve` prints the environment for clients and serves until SIGINT or SIGTERM. The others ask the one at --at.
Values are JSON where they can be read as such. Actions of `do`: bucket, put, populate, state, restores, count,
fault, clear, set, force-job, forget-job, drop-connections; their arguments are those of the methods of
GlacierStandIn, and of Fault.
"""

from __future__ import annotations

import argparse
import json
import re
import shlex
import sys
import urllib.error
import urllib.request
from typing import Any

from tests.standins.glacier import DAY, HOUR, MINUTE, GlacierStandIn
from tests.standins.glacier.admin import PATH
from tests.standins.process import wait_for_signal

PORT = 9100
UNITS = {"": 1.0, "s": 1.0, "m": MINUTE, "h": HOUR, "d": DAY}


def seconds(text: str) -> float:
    """Read 90, 90s, 5m, 12h or 2d."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smhd]?)", text)
    if match is None:
        raise argparse.ArgumentTypeError(f"{text} is no time such as 90, 5m, 12h or 2d")
    return float(match[1]) * UNITS[match[2]]


def population(text: str) -> tuple[str, int, str]:
    match = re.fullmatch(r"([^=]+)=(\d+)(?::(\w+))?", text)
    if match is None:
        raise argparse.ArgumentTypeError(f"{text} is not BUCKET=COUNT or BUCKET=COUNT:CLASS")
    return match[1], int(match[2]), match[3] or "GLACIER"


def argument(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not equals:
        raise argparse.ArgumentTypeError(f"{text} is not NAME=VALUE")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value


def ask(endpoint: str, action: str, arguments: dict[str, Any] | None = None) -> int:
    """Ask a running stand-in, print its answer and return an exit code."""
    body = None if arguments is None else json.dumps(arguments).encode()
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(f"{endpoint}{PATH}/{action}", body) as answer:
            print(json.dumps(json.load(answer), indent=2))
    except urllib.error.HTTPError as error:
        print(error.read().decode().strip(), file=sys.stderr)
        return 1
    except urllib.error.URLError as error:
        print(f"nothing answers at {endpoint}: {error.reason}", file=sys.stderr)
        return 1
    return 0


def serve(options: argparse.Namespace) -> int:
    with GlacierStandIn(port=options.port, speed=options.speed, seed=options.seed) as glacier:
        for bucket, count, storage_class in options.populate:
            glacier.populate(bucket, count, storage_class=storage_class)
        if options.deliver_to:
            glacier.deliver_to(options.deliver_to)
        for name, value in glacier.environment().items():
            print(f"export {name}={shlex.quote(value)}")
        print(f"# listening on {glacier.endpoint}", flush=True)
        wait_for_signal()
    return 0


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.standins.glacier",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True)
    serving = commands.add_parser("serve", help="serve a pretended S3 with archives on 127.0.0.1")
    serving.add_argument("--port", type=int, default=PORT, help=f"{PORT}; 0 takes a free one")
    serving.add_argument("--speed", type=float, default=0.0, help="seconds that go by in a second (0)")
    serving.add_argument("--seed", type=int, default=0, help="of how long restores take, and of faults")
    serving.add_argument(
        "--populate", type=population, action="append", default=[], metavar="BUCKET=COUNT[:CLASS]"
    )
    serving.add_argument(
        "--deliver-to", metavar="URL", help="where SQS, SNS and EventBridge are: moto's server"
    )
    advancing = commands.add_parser("advance", help="let time go by")
    advancing.add_argument("seconds", type=seconds, help="90, 5m, 12h or 2d")
    doing = commands.add_parser("do", help="do something else with it")
    doing.add_argument("action")
    doing.add_argument("arguments", type=argument, nargs="*", metavar="NAME=VALUE")
    for command in (advancing, doing, commands.add_parser("show", help="show time, counters and jobs")):
        command.add_argument("--at", default=f"http://127.0.0.1:{PORT}", metavar="URL")
    options = parser.parse_args()
    if options.command == "serve":
        return serve(options)
    if options.command == "advance":
        return ask(options.at, "advance", {"seconds": options.seconds})
    if options.command == "do":
        return ask(options.at, options.action, dict(options.arguments))
    return ask(options.at, "")


if __name__ == "__main__":
    sys.exit(main())
