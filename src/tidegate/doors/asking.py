"""How to ask an agent that runs, by the socket in its work directory: what the commands do."""

from __future__ import annotations

import json
import socket
from typing import TYPE_CHECKING, Any

from tidegate.doors.unix import address
from tidegate.errors import TidegateError, Unavailable

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


class NoAgent(TidegateError):  # noqa: N818 - it is a state, not a mishap
    """No agent runs in that work directory, or it is not ours to ask."""


def ask(folder: Path, route: str, fields: Mapping[str, Any], *, seconds: float) -> dict[str, Any]:
    """Send one request and return the body of the reply, accepted or not: `status` tells.

    Raises NoAgent, and Unavailable where the agent hangs up or is silent for so many seconds.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(seconds)
        try:
            with address(folder) as name:
                connection.connect(name)
        except FileNotFoundError as err:
            raise NoAgent(f"no agent runs in {folder}") from err
        except ConnectionRefusedError as err:
            raise NoAgent(f"no agent runs in {folder}; the last one was killed") from err
        except PermissionError as err:
            raise NoAgent(f"the agent in {folder} takes requests of its own user, and of root, only") from err
        try:
            connection.sendall(json.dumps({**fields, "route": route}).encode() + b"\n")
            with connection.makefile("rb") as lines:
                line = lines.readline()
        except OSError as err:
            raise Unavailable(f"the agent in {folder} has not answered {route}: {err}") from err
    if not line.endswith(b"\n"):
        raise Unavailable(f"the agent in {folder} hung up before it answered {route}")
    found: dict[str, Any] = json.loads(line)
    return found
