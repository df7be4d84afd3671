"""The commands for fleets without Greengrass: run a mothership, and come over from s3-ingestor."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from tidegate.clock import Clock
from tidegate.config import parse
from tidegate.errors import ConfigFaults
from tidegate.importing import imported, read
from tidegate.logs import set_up

if TYPE_CHECKING:
    import argparse

WRONG, INCOMPLETE = 2, 1
MOTHERSHIP_CODES = """\
exit codes:
  0    it was interrupted
  2    an option is wrong, a file or the address cannot be used, or a package is missing
  143  it was ended by SIGTERM"""

IMPORT_CODES = """\
exit codes:
  0    the configuration says the same
  1    it is written, but something has no equivalent, or has to be added
  2    FILE cannot be read, or is no configuration of s3-ingestor"""


class Add(Protocol):
    """Adds a command."""

    def __call__(
        self, name: str, command: object, does: str, example: str, codes: str
    ) -> argparse.ArgumentParser:
        """Return it."""


def add(command: Add) -> None:
    """Add the commands of this module."""
    mothership = command(
        "mothership",
        _mothership,
        "run a server that devices call",
        "tidegate mothership --db fleet.db --listen 127.0.0.1:8080",
        MOTHERSHIP_CODES,
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
    mothership.add_argument("--mqtt", metavar="URL", help="also answer through this broker")
    mothership.add_argument("--mqtt-login-file", type=Path, metavar="FILE", help="user:password for it")
    mothership.add_argument("--mqtt-ca", type=Path, metavar="FILE", help="the certificates to trust there")
    coming = command(
        "import-s3-ingestor",
        _import,
        "write a configuration of s3-ingestor as one of ours",
        "tidegate import-s3-ingestor s3-ingestor.json > my.yaml",
        IMPORT_CODES,
    )
    coming.add_argument(
        "file", type=Path, metavar="FILE", help="its configuration, s3-ingestor.json as a rule"
    )
    coming.add_argument(
        "--base", type=Path, metavar="DIR", help="where s3-ingestor was started (default: the folder of FILE)"
    )


def _import(options: argparse.Namespace) -> int:
    """Write it on standard output, and what has no equivalent both there and on standard error."""
    base = (options.base or options.file.parent).resolve()
    made = imported(read(options.file), str(base))
    try:
        parse(made.config)
    except ConfigFaults as err:
        made.missing += err.faults
    print(made.text(), end="")
    for sentence in made.missing:
        print(f"no equivalent: {sentence}", file=sys.stderr)
    return INCOMPLETE if made.missing else 0


def _mothership(options: argparse.Namespace) -> int:
    needed = ("starlette", "uvicorn", "jinja2", *(("paho",) if options.mqtt else ()))
    missing = [name for name in needed if not importlib.util.find_spec(name)]
    if missing:
        extras = "mothership,mqtt" if options.mqtt else "mothership"
        remedy = f"pip install '.[{extras}]' in a copy of tidegate's repository"
        print(f"{', '.join(missing)}: not installed; {remedy}", file=sys.stderr)
        return WRONG
    from tidegate.mothership.options import Options  # noqa: PLC0415 - no agent needs all that
    from tidegate.mothership.serve import serve  # noqa: PLC0415

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
            broker=options.mqtt,
            broker_login=options.mqtt_login_file,
            broker_ca=options.mqtt_ca,
        ),
        Clock().wall,
    )
    return 0
