"""Credentials for devices: short-lived, and made by a program that the operator names.

A mothership that could make credentials itself would have to hold some that are worth stealing. So it asks a
program, which prints what AWS STS answers; a role for each device, with a session policy, is its business.
"""

from __future__ import annotations

import asyncio
import json
import logging
from datetime import datetime, timezone
from typing import Any

SECONDS = 20.0
"""A program that takes longer is ended."""

FRESH = 0.5
"""Credentials are made anew when less than this share of their time is left."""

MOST_AT_ONCE = 4

log = logging.getLogger(__name__)


class Bank:
    """Asks `program` with the name of a device as its only argument. Keeps the answer while it is fresh."""

    def __init__(self, program: str | None) -> None:
        self._program = program
        self._kept: dict[str, tuple[float, float, dict[str, str]]] = {}
        self._turns = asyncio.Semaphore(MOST_AT_ONCE)

    async def keys(self, device: str, *, held_until: float | None, now: float) -> dict[str, str] | None:
        """Return credentials for a device whose own last until then; None: it needs none, or has to wait.

        While the program makes none, those that it made before are good for as long as they last.
        """
        if self._program is None:
            return None
        made, ends, keys = self._kept.get(device, (0.0, 0.0, {}))
        if ends - now <= FRESH * (ends - made):
            async with self._turns:
                fresh = await self._ask(device)
            if fresh:
                keys = fresh
                ends = datetime.fromisoformat(keys["expiration"].replace("Z", "+00:00")).timestamp()
                self._kept[device] = now, ends, keys
        is_better = held_until is None or held_until < ends - 1
        return keys if keys and ends > now and is_better else None

    async def _ask(self, device: str) -> dict[str, str]:
        assert self._program is not None
        nothing, pipe = asyncio.subprocess.DEVNULL, asyncio.subprocess.PIPE
        try:
            process = await asyncio.create_subprocess_exec(self._program, device, stdin=nothing, stdout=pipe)
        except OSError as err:
            log.error("%s cannot be run: %s", self._program, err)  # noqa: TRY400
            return {}
        try:
            output, _ = await asyncio.wait_for(process.communicate(), SECONDS)
            return _read(output)
        except (asyncio.TimeoutError, ValueError, KeyError, TypeError) as err:
            log.error("%s has made no credentials for %s: %r", self._program, device, err)  # noqa: TRY400
            return {}
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()


def _read(output: bytes) -> dict[str, str]:
    """Take what STS answers, with or without `Credentials` around it. Raises if it is something else."""
    said: Any = json.loads(output)
    said = said.get("Credentials", said)
    expiration = datetime.fromisoformat(said["Expiration"].replace("Z", "+00:00")).astimezone(timezone.utc)
    return {
        "access_key_id": str(said["AccessKeyId"]),
        "secret_access_key": str(said["SecretAccessKey"]),
        "session_token": str(said["SessionToken"]),
        "expiration": expiration.strftime("%Y-%m-%dT%H:%M:%SZ"),
    }
