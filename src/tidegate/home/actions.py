"""What a mothership may ask for, by fixed names. Programs run only where the device itself names them."""

from __future__ import annotations

import logging
import os
import re
import signal
import subprocess
import threading
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from tidegate.home.overlay import Overlay

COMMANDS = ("restart", "upgrade", "reboot")
POLICIES = ("apply-policies", "customizers", "wakeup")
"""After these the policies run, and are reported of."""

SECONDS = 600.0
"""A program that takes longer is ended."""

_LOGIN = re.compile(r"//[^/@\s]*@")

log = logging.getLogger(__name__)


class Failed(Exception):  # noqa: N818 - an answer, not a mishap
    """An action that was not done; `code` is for programs."""

    def __init__(self, code: str | int, message: str) -> None:
        super().__init__(message)
        self.code = code

    @property
    def error(self) -> dict[str, Any]:
        """As it is told."""
        return {"code": self.code, "message": str(self)}


class Actions:
    """Does them, one at a time."""

    def __init__(
        self, overlay: Overlay, commands: Mapping[str, tuple[str, ...]], *, ended: Callable[[], bool]
    ) -> None:
        """`ended` tells whether this process is to end, so that nobody waits for a program any more."""
        self._overlay = overlay
        self._commands = commands
        self._ended = ended

    def check(self, action: str, action_id: str | None) -> None:
        """Raise Failed if it cannot be done at all."""
        if action not in ("report", *POLICIES, *COMMANDS):
            raise Failed("UnknownAction", "there is no such action")
        if action in COMMANDS:
            if action not in self._commands:
                raise Failed("NotAllowed", f"Home.Commands on the device names no {action.capitalize()}")
            if action_id is None:  # it would be done at every call, for ever
                raise Failed("NoActionId", f"{action} needs an action_id, so that it is done once")

    def do(self, action: str) -> dict[str, Any]:
        """Do it. Returns what the answer holds beside its name. Raises Failed."""
        if action == "report":
            return {"result": _shown(self._overlay.shown())}
        if action in COMMANDS:
            self._run(action)
        return {}

    def _run(self, action: str) -> None:
        argv = self._commands[action]
        log.warning("the mothership asks for %s: running %s", action, argv[0])
        path = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8"}
        try:
            process = subprocess.Popen(  # noqa: S603 - named by the configuration of the device, and no shell
                argv, env=path, cwd="/", stdin=subprocess.DEVNULL, start_new_session=True
            )
        except OSError as err:
            raise Failed("CannotRun", f"{argv[0]}: {err.strerror}") from err
        waited = 0.0
        while waited < SECONDS:
            try:
                code = process.wait(1.0)
            except subprocess.TimeoutExpired:
                waited += 1.0
                if self._ended():  # most likely by that very program: let it go on
                    threading.Thread(target=process.wait, daemon=True).start()
                    return
                continue
            if code:
                raise Failed(code, f"{argv[0]} ended with {code}")
            return
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        raise Failed("TimedOut", f"{argv[0]} had not ended after {SECONDS:.0f} seconds")


def _shown(value: Any) -> Any:
    """Return a configuration without logins."""
    if isinstance(value, dict):
        return {str(name): _shown(one) for name, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_shown(one) for one in value]
    return _LOGIN.sub("//…@", value) if isinstance(value, str) else value
