"""What is kept between calls, in a folder of its own that only its owner may look into.

Each file is replaced in one step and is on the disk when that returns. What cannot be read is as if it were
not there, but for the context: a device that has lost it says so, by the state `error`.
"""

from __future__ import annotations

import json
import logging
import os
import secrets
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from tidegate.home.words import ERROR, UNREGISTERED, Keys

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

KEYS_FILE = "credentials.json"
MOST_DONE = 1000
"""Actions that are remembered, so that one that comes again is not done again."""

_EXPIRATION = "%Y-%m-%dT%H:%M:%SZ"

log = logging.getLogger(__name__)


class Memory:
    """The folder. One thread writes; others may read what is given out."""

    def __init__(self, folder: Path) -> None:
        """`folder` need not exist. Raises OSError if it cannot be made."""
        self._folder = folder
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder.chmod(0o700)
        self.context = self._context()
        remote = self._map("remote.json")
        self.rev: int | str | None = remote.get("rev")
        self.config: dict[str, Any] | None = remote.get("config")
        self.rejected: int | str | None = remote.get("rejected")
        done = self._map("actions.json")
        self._done: dict[str, dict[str, Any]] = done.get("done") or {}
        self.pending: dict[str, Any] | None = done.get("pending")

    @property
    def state(self) -> str:
        """What the mothership last said that we are."""
        return str(self.context.get("state", UNREGISTERED))

    def keep_context(self, cookie: Mapping[str, Any]) -> None:
        """Keep what we are to send back. What says nothing of the state leaves it as it is."""
        kept = {"state": self.state, **cookie}
        if kept != self.context:
            self.context = kept
            self._write("context.json", kept)

    def keep_config(self, rev: int | str | None, config: dict[str, Any]) -> None:
        """Use this configuration from now on, also after a restart."""
        self.rev, self.config, self.rejected = rev, config, None
        self._keep_remote()

    def reject(self, rev: int | str | None) -> None:
        """Remember that this one cannot be used."""
        self.rejected = rev
        self._keep_remote()

    def _keep_remote(self) -> None:
        self._write("remote.json", {"rev": self.rev, "config": self.config, "rejected": self.rejected})

    # Actions

    def done(self, action_id: str) -> dict[str, Any] | None:
        """Return the answer to an action that was done already."""
        return self._done.get(action_id)

    def begin(self, action: str, action_id: str) -> None:
        """Remember what is being done. Raises OSError: then it must not be done."""
        self._write(
            "actions.json", {"done": self._done, "pending": {"action": action, "action_id": action_id}}
        )
        self.pending = {"action": action, "action_id": action_id}

    def finish(self, action_id: str, answer: dict[str, Any]) -> None:
        """Remember what was answered."""
        self.pending = None
        self._done[action_id] = answer
        while len(self._done) > MOST_DONE:
            del self._done[next(iter(self._done))]
        self._write("actions.json", {"done": self._done, "pending": None})

    # Secrets

    def token(self) -> str:
        """Return the token that we made for ourselves; the first time, make it. Raises OSError."""
        path = self._folder / "token.json"
        if token := self._map(path.name).get("token"):
            return str(token)
        token = secrets.token_urlsafe(32)
        self._write(path.name, {"token": token, "enrolled": False})
        return token

    @property
    def is_enrolled(self) -> bool:
        """Whether the mothership knows that token."""
        return self._map("token.json").get("enrolled") is True

    def enrolled(self, *, known: bool) -> None:
        """Note whether it does."""
        self._write("token.json", {"token": self.token(), "enrolled": known})

    def keep_keys(self, keys: Keys) -> None:
        """Have these used for uploads from now on."""
        expires = datetime.fromtimestamp(keys.expires, timezone.utc).strftime(_EXPIRATION)
        values = {"AccessKeyId": keys.access_key_id, "SecretAccessKey": keys.secret_access_key}
        self._write(KEYS_FILE, {**values, "Token": keys.session_token, "Expiration": expires})

    def keys_expire(self) -> str | None:
        """Return when those that are kept end, as ISO 8601; None: there are none."""
        found = self._map(KEYS_FILE).get("Expiration")
        try:
            datetime.strptime(str(found), _EXPIRATION)  # noqa: DTZ007 - it is only looked at
        except ValueError:
            return None
        return str(found)

    # Files

    def _context(self) -> dict[str, Any]:
        if not (self._folder / "context.json").exists():
            return {"state": UNREGISTERED}
        found = self._map("context.json")
        return found if isinstance(found.get("state"), str) else {"state": ERROR}

    def _map(self, name: str) -> dict[str, Any]:
        try:
            found = json.loads((self._folder / name).read_text("utf-8"))
        except FileNotFoundError:
            return {}
        except (OSError, ValueError) as err:
            log.warning("%s cannot be read: %s", self._folder / name, err)
            return {}
        return found if isinstance(found, dict) else {}

    def _write(self, name: str, value: Mapping[str, Any]) -> None:
        part = self._folder / f"{name}.part"
        descriptor = os.open(
            part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600
        )
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            os.fchmod(descriptor, 0o600)
            json.dump(value, file)
            file.flush()
            os.fsync(descriptor)
        part.replace(self._folder / name)
        folder = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
