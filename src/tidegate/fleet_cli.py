"""The commands for fleets without Greengrass: run a mothership, and come over from s3-ingestor."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from tidegate.clock import Clock
from tidegate.logs import set_up

if TYPE_CHECKING:
    import argparse

WRONG = 2


class Add(Protocol):
    """Adds a command."""

    def __call__(self, name: str, command: object, does: str, example: str) -> argparse.ArgumentParser:
        """Return it."""


def add(command: Add) -> None:
    """Add the commands of this module."""
    mothership = command(
        "mothership",
        _mothership,
        "run a server that devices call",
        "tidegate mothership --db fleet.db --listen 127.0.0.1:8080",
    )
    mothership.add_argument(
        "--db", type=Path, required=True, metavar="FILE", help="where it keeps what it knows"
    )
    mothership.add_argument(
        "--listen", default="127.0.0.1:8080", metavar="HOST:PORT", help="default: %(default)s"
    )
    mothership.add_argument("--tls-cert", type=Path, metavar="FILE", help="its certificate, as PEM")
    mothership.add_argument("--tls-key", type=Path, metavar="FILE", help="the key of that")
    mothership.add_argument("--behind-proxy", action="store_true", help="a proxy before it does TLS")
    mothership.add_argument(
        "--admin-token-file", type=Path, metavar="FILE", help="the operator's password (default: FILE.admin)"
    )
    mothership.add_argument(
        "--bootstrap-token-file", type=Path, metavar="FILE", help="enrols devices (default: FILE.bootstrap)"
    )
    mothership.add_argument(
        "--grant", metavar="PROGRAM", help="prints credentials for the device that it is called with"
    )


def _mothership(options: argparse.Namespace) -> int:
    missing = [name for name in ("starlette", "uvicorn", "jinja2") if not importlib.util.find_spec(name)]
    if missing:
        print(f"{', '.join(missing)}: not installed; pip install 'tidegate[mothership]'", file=sys.stderr)
        return WRONG
    from tidegate.mothership.serve import Options, serve  # noqa: PLC0415 - no agent needs all that

    set_up("INFO", "Text")
    serve(
        Options(
            database=options.db,
            listen=options.listen,
            certificate=options.tls_cert,
            key=options.tls_key,
            admin_file=options.admin_token_file,
            bootstrap_file=options.bootstrap_token_file,
            grant=options.grant,
            behind_proxy=options.behind_proxy,
        ),
        Clock().wall,
    )
    return 0
