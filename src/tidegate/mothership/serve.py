"""Runs a mothership until it is told to stop."""

from __future__ import annotations

import logging
import os
import secrets
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING

import uvicorn

from tidegate.config import is_near
from tidegate.errors import ConfigFaults
from tidegate.mothership.bank import Bank
from tidegate.mothership.books import Books
from tidegate.mothership.web import Tokens, Web

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tidegate.mothership.bridge import Bridge

BACKLOG = 2048
LEAST_TOKEN = 16

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What the operator says. Token files are made where they are not there yet, beside the database."""

    database: Path
    listen: str
    certificate: Path | None = None
    key: Path | None = None
    admin_file: Path | None = None
    bootstrap_file: Path | None = None
    grant: str | None = None
    behind_proxy: bool = False
    broker: str | None = None
    broker_login: Path | None = None
    broker_ca: Path | None = None


def serve(options: Options, wall: Callable[[], float]) -> None:
    """Serve until SIGTERM or SIGINT. Raises ConfigFaults, OSError, and what opening a database raises."""
    host, _, port = options.listen.rpartition(":")
    host = host.strip("[]")
    if not (host and port.isascii() and port.isdigit()):
        raise ConfigFaults([f'--listen: "{options.listen}" is no address; write for example 127.0.0.1:8080'])
    if not (options.certificate or options.behind_proxy or is_near(host)):
        raise ConfigFaults(
            ["--listen: tokens would go over the network in the clear; write --tls-cert and --tls-key"]
        )
    tokens = Tokens(
        admin=_token(options.admin_file or options.database.with_name(options.database.name + ".admin")),
        bootstrap=_token(
            options.bootstrap_file or options.database.with_name(options.database.name + ".bootstrap")
        ),
    )
    listener = socket.create_server((host, int(port)), backlog=BACKLOG, family=_family(host))
    os.umask(0o077)  # for the database
    bridge = _bridge(options)
    web = Web(Books(options.database), tokens, Bank(options.grant), wall, bridge)
    config = uvicorn.Config(
        web.app,
        log_config=None,
        access_log=False,
        server_header=False,
        ws="none",
        backlog=BACKLOG,
        timeout_keep_alive=30,
        timeout_graceful_shutdown=5,
        ssl_certfile=options.certificate,
        ssl_keyfile=options.key,
    )
    log.info("listening on %s:%d", *listener.getsockname()[:2])
    uvicorn.Server(config).run(sockets=[listener])


def _bridge(options: Options) -> Bridge | None:
    if options.broker is None:
        return None
    from tidegate.mothership.bridge import Bridge  # noqa: PLC0415 - an extra

    login = options.broker_login.read_text("utf-8") if options.broker_login else ""
    try:
        return Bridge(options.broker, login, str(options.broker_ca) if options.broker_ca else None)
    except ValueError as err:
        raise ConfigFaults([f"--mqtt: {err}"]) from err


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET


def _token(path: Path) -> str:
    """Read a token, or make one, for its owner only. Raises ConfigFaults if it is too easy to guess."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        token = path.read_text("utf-8").strip()
    else:
        token = secrets.token_urlsafe(32)
        with os.fdopen(descriptor, "w") as file:
            file.write(f"{token}\n")
        log.warning("made a token: %s", path)
    if len(token) < LEAST_TOKEN:
        raise ConfigFaults([f"{path}: its token is too short; write at least {LEAST_TOKEN} characters"])
    return token
