"""Runs a mothership until it is told to stop."""

from __future__ import annotations

import logging
import os
import secrets
import socket
from contextlib import suppress
from typing import TYPE_CHECKING

import uvicorn

from tidegate.errors import ConfigFaults, TidegateError, Unavailable
from tidegate.mothership.bank import Bank
from tidegate.mothership.books import Books
from tidegate.mothership.options import Options, checked
from tidegate.mothership.web import Tokens, Web

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tidegate.mothership.bridge import Bridge

BACKLOG = 2048
LEAST_TOKEN = 16

log = logging.getLogger(__name__)


def serve(options: Options, wall: Callable[[], float]) -> None:
    """Serve until SIGTERM or SIGINT. Raises ConfigFaults for what the operator has to mend.

    What cannot start makes no tokens.
    """
    host, port = checked(options)
    listener = _listener(host, port)
    os.umask(0o077)  # for the database
    bridge = _bridge(options)
    books = _books(options.database)
    tokens = Tokens(
        admin=_token("--admin-token-file", options.admin_file or _beside(options.database, "admin")),
        bootstrap=_token(
            "--bootstrap-token-file", options.bootstrap_file or _beside(options.database, "bootstrap")
        ),
    )
    web = Web(books, tokens, Bank(options.grant), wall, bridge)
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
    with suppress(KeyboardInterrupt):  # by then all is closed
        uvicorn.Server(config).run(sockets=[listener])


def _bridge(options: Options) -> Bridge | None:
    if options.broker is None:
        return None
    from tidegate.mothership.bridge import Bridge  # noqa: PLC0415 - an extra

    login = _read("--mqtt-login-file", options.broker_login) if options.broker_login else ""
    try:
        return Bridge(options.broker, login, str(options.broker_ca) if options.broker_ca else None)
    except ValueError as err:
        raise ConfigFaults([f"--mqtt: {err}"]) from err
    except Unavailable as err:
        raise ConfigFaults([f"--mqtt-ca: {err}; write a file with certificates as PEM"]) from err


def _listener(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), backlog=BACKLOG, family=family)
    except (OSError, UnicodeError) as err:
        why = err.strerror if isinstance(err, OSError) else err
        remedy = "write an address of this machine, and a port that nobody else has"
        raise ConfigFaults([f"--listen: {host}:{port} cannot be had: {why}; {remedy}"]) from err


def _books(path: Path) -> Books:
    try:
        return Books(path)
    except TidegateError as err:
        raise ConfigFaults(
            [f"--db: {path} cannot be used: {err}; write a database of a mothership, or a new file"]
        ) from err


def _beside(database: Path, what: str) -> Path:
    return database.with_name(f"{database.name}.{what}")


def _token(option: str, path: Path) -> str:
    """Read a token, or make one, for its owner only. Raises ConfigFaults if it is too easy to guess."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        token = _read(option, path)
    except OSError as err:
        raise ConfigFaults([f"{option}: {path} cannot be made: {err.strerror}; write another file"]) from err
    else:
        token = secrets.token_urlsafe(32)
        with os.fdopen(descriptor, "w") as file:
            file.write(f"{token}\n")
        log.warning("made a token: %s", path)
    if len(token) < LEAST_TOKEN:
        raise ConfigFaults(
            [f"{option}: the token in {path} is too short; write at least {LEAST_TOKEN} characters"]
        )
    return token


def _read(option: str, path: Path) -> str:
    try:
        return path.read_text("utf-8").strip()
    except (OSError, ValueError) as err:
        raise ConfigFaults(
            [f"{option}: {path} cannot be read: {err}; write a file with one line of text"]
        ) from err
