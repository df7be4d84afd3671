"""A mothership as a process and its operator; devices as processes; and a mothership that says anything at all."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import requests
import yaml

import tidegate
from tests.whole.shelf import eventually
from tidegate.config import parse
from tidegate.config.file import Watched
from tidegate.home import open_home

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Iterator

HOST = "127.0.0.1"
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(Path(tidegate.__file__).parents[1])}


def free_port() -> int:
    with socket.create_server((HOST, 0)) as one:
        return int(one.getsockname()[1])


class Process:
    """A command of ours that runs until it is told to stop. What it says is in `log`."""

    def __init__(self, folder: Path, name: str, *arguments: str, **environment: str) -> None:
        self._path = folder / f"{name}.log"
        with self._path.open("ab") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tidegate", *arguments],
                env={**ENVIRONMENT, **environment},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )

    @property
    def log(self) -> str:
        return self._path.read_text("utf-8")

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def is_running(self) -> bool:
        return self._process.poll() is None

    def kill(self) -> None:
        self._process.kill()
        self._process.wait(timeout=10)

    def terminate(self, number: signal.Signals = signal.SIGTERM) -> int:
        self._process.send_signal(number)
        return self._process.wait(timeout=20)


class Mothership:
    """The process, and its operator's word."""

    def __init__(self, folder: Path, *more: str) -> None:
        self._folder, self._more = folder, more
        self.port = free_port()
        self.url = f"http://{HOST}:{self.port}"
        self.bootstrap = folder / "fleet.db.bootstrap"
        self.start()
        self.admin = (folder / "fleet.db.admin").read_text().strip()

    def start(self) -> None:
        """Start it, also again after a `kill`, on the same port and the same database."""
        database = str(self._folder / "fleet.db")
        listen = f"{HOST}:{self.port}"
        self._process = Process(
            self._folder, "mothership", "mothership", "--db", database, "--listen", listen, *self._more
        )
        eventually(self._answers)

    def _answers(self) -> bool:
        assert self._process.is_running, self._process.log
        with contextlib.suppress(requests.ConnectionError):
            return requests.get(f"{self.url}/", timeout=5).status_code == 401
        return False

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        """Say a word as the operator. Returns the answer; it must be a good one."""
        headers = {"authorization": f"Bearer {self.admin}"}
        answer = requests.request(method, f"{self.url}{path}", json=body, headers=headers, timeout=10)
        assert answer.status_code < 300, answer.text
        return answer.json()

    def device(self, name: str) -> dict[str, Any]:
        return next((one for one in self.ask("GET", "/devices")["devices"] if one["name"] == name), {})

    def action(self, name: str, action_id: str) -> dict[str, Any]:
        return next(one for one in self.ask("GET", f"/devices/{name}")["actions"] if one["id"] == action_id)

    def kill(self) -> None:
        self._process.kill()

    def interrupt(self) -> int:
        """End it as Ctrl-C does. Returns its exit code."""
        return self._process.terminate(signal.SIGINT)

    @property
    def log(self) -> str:
        return self._process.log


def read_request(connection: socket.socket) -> tuple[bytes, bytes]:
    """Read one request: its head and its body. Both are empty at the end of the connection."""
    data = b""
    while b"\r\n\r\n" not in data:
        piece = connection.recv(65_536)
        if not piece:
            return b"", b""
        data += piece
    head, _, body = data.partition(b"\r\n\r\n")
    length = next(
        int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")
    )
    while len(body) < length:
        body += connection.recv(65_536)
    return head, body


@dataclass(frozen=True)
class Heard:
    """What a device said."""

    path: str
    token: str
    context: dict[str, Any]


def answer(body: bytes | dict[str, Any] | None, status: str = "200 OK") -> bytes:
    """Write an answer as HTTP has it."""
    text = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
    return f"HTTP/1.1 {status}\r\ncontent-length: {len(text)}\r\n\r\n".encode() + text


class Liar:
    """A mothership that answers whatever it is told to. `script` writes the answer itself, to the socket."""

    def __init__(
        self,
        script: Callable[[Heard, socket.socket], None],
        *,
        context: ssl.SSLContext | None = None,
        port: int = 0,
    ) -> None:
        self.script = script
        self.heard: list[Heard] = []
        self._context = context
        self._listener = socket.create_server((HOST, port))
        self.url = f"http{'s' if context else ''}://{HOST}:{self._listener.getsockname()[1]}/ingestor"
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, plain: socket.socket) -> None:
        with contextlib.suppress(OSError), plain:
            connection = self._context.wrap_socket(plain, server_side=True) if self._context else plain
            with connection:
                head, body = read_request(connection)
                if not head:
                    return
                lines = head.decode().split("\r\n")
                token = next((one[22:] for one in lines if one.startswith("authorization: Bearer ")), "")
                said = json.loads(body)
                heard = Heard(lines[0].split(" ")[1], token, said.get("context", said))
                self.heard.append(heard)
                self.script(heard, connection)

    def causes(self) -> list[str]:
        return [one.context.get("action", "") for one in self.heard]

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()


@contextlib.contextmanager
def lying(script: Callable[[Heard, socket.socket], None], **more: Any) -> Iterator[Liar]:
    liar = Liar(script, **more)
    try:
        yield liar
    finally:
        liar.close()


class Caller:
    """The client of one device, in this process; there is no agent behind it."""

    def __init__(self, folder: Path, url: str, *, heartbeat: float = 0.2, **keys: Any) -> None:
        self.heartbeat = heartbeat
        self.folder, self.work = folder, folder / "work"
        (folder / "token").write_text("a-token-of-this-device\n")
        settings = {"Url": url, "TokenFile": str(folder / "token"), "ReadTimeout": 1}
        self.file = folder / "config.yaml"
        self.file.write_text(yaml.safe_dump({"Home": {**settings, **keys}}))
        self.start()

    def start(self) -> None:
        local = Watched(self.file)
        config = parse(local.load())
        assert config.home
        settings = dataclasses.replace(config.home, heartbeat_seconds=self.heartbeat)
        self.overlay, self.home = open_home(
            settings, self.work, local, name="press-7", environment={}, round_seconds=0.2
        )
        self.overlay.load()
        self.home.follow(settings)

    def close(self) -> None:
        self.home.close(5)

    def restart(self) -> None:
        self.close()
        self.start()

    def kept(self, name: str) -> Any:
        return json.loads((self.work / "home" / name).read_text())

    @property
    def state(self) -> str:
        return self.kept("context.json")["state"] if (self.work / "home" / "context.json").exists() else ""


@contextlib.contextmanager
def calling(folder: Path, url: str, *, heartbeat: float = 0.2, **keys: Any) -> Iterator[Caller]:
    caller = Caller(folder, url, heartbeat=heartbeat, **keys)
    try:
        yield caller
    finally:
        caller.close()
