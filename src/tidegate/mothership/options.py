"""What the operator of a mothership says, and what is wrong with it: told before anything is made."""

from __future__ import annotations

import shutil
import ssl
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tidegate.config import is_near
from tidegate.errors import ConfigFaults

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MOST_PORT = 65_535


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


def checked(options: Options) -> tuple[str, int]:
    """Return the host and the port to listen on. Raises ConfigFaults with all that is wrong."""
    host, _, port = options.listen.rpartition(":")
    host = host.strip("[]")
    faults = []
    if not (host and port.isascii() and port.isdigit() and 1 <= int(port[:9]) <= MOST_PORT):
        faults.append(
            f'--listen: "{options.listen}" is no address with a port from 1 to {MOST_PORT};'
            " write for example 127.0.0.1:8080"
        )
    elif not (options.certificate or options.behind_proxy or is_near(host)):
        faults.append(
            f"--listen: on {options.listen} tokens would go over the network in the clear;"
            " write --tls-cert and --tls-key"
        )
    faults += _of_files(options)
    if options.grant is not None and shutil.which(options.grant) is None:
        faults.append(
            f'--grant: "{options.grant}" is no program that can be run; write its path, and make it'
            " executable with chmod +x"
        )
    if faults:
        raise ConfigFaults(faults)
    return host, int(port)


def _of_files(options: Options) -> Iterator[str]:
    """Say which files cannot be read, and whether certificate and key are what TLS needs."""
    unreadable = []
    for option, path in (
        ("--tls-cert", options.certificate),
        ("--tls-key", options.key),
        ("--mqtt-login-file", options.broker_login),
        ("--mqtt-ca", options.broker_ca),
    ):
        try:
            if path is not None:
                path.open("rb").close()
        except OSError as err:
            unreadable.append(option)
            yield f"{option}: {path} cannot be read: {err.strerror}; write a file that this user may read"
    if options.certificate is None:
        if options.key is not None:
            yield f"--tls-key: {options.key} is of no use alone; write --tls-cert with its certificate"
    elif not {"--tls-cert", "--tls-key"}.intersection(unreadable):
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(options.certificate, options.key)
        except (ssl.SSLError, ValueError) as err:
            yield (
                f"--tls-cert: {options.certificate} cannot be used with the key in"
                f" {options.key or 'the same file'}: {err}; write both as PEM, the key with --tls-key"
            )
