"""One worker process: started when it is asked something, asked in batches, and killed when it is silent."""

from __future__ import annotations

import json
import os
import selectors
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

SILENT_SECONDS = 1.0
"""Nothing takes so long: an engine breaks a call off after 50 ms, where it can."""

START_SECONDS = 20.0
LONGEST_LINE = 65_536
BATCH = 100
MOST_DEATHS = 10
"""In one round. Then the others wait for the next one, so that a scan comes to its end."""

DIED_OF_IT = "its customizer crashed or hung on it, and was stopped"
GIVEN_UP = "its customizer crashed or hung on too many others; it is asked again later"
PROGRAM = Path(__file__).resolve().with_name("worker.py")

Item = tuple[str, dict[str, Any]]
"""The name of a file, and what is known of it."""


class CannotLoad(Exception):  # noqa: N818 - it is what has happened
    """The worker cannot use the code, for the reason given."""


class Worker:
    """Answers what one piece of code says about files. Safe to use from any thread.

    Where an answer is a text it is the key, and None says that the file is to be ignored; a map holds the
    `error`. The order is that of the questions, and there are as many.
    """

    def __init__(self, engine: str, code: str, settings: Any, *, program: Path = PROGRAM) -> None:
        self._wanted = json.dumps({"engine": engine, "code": code, "settings": settings})
        self._program = program
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._rest = b""
        self._said = 0

    def load(self) -> None:
        """Start it, if it does not run. Raises `CannotLoad`."""
        with self._lock:
            self._begin()

    def ask(self, items: Sequence[Item]) -> list[Any]:
        """Ask about files. Raises what `load` does."""
        answers: list[Any] = []
        deaths = 0
        with self._lock:
            while len(answers) < len(items):
                if deaths == MOST_DEATHS:
                    answers += [{"error": GIVEN_UP}] * (len(items) - len(answers))
                    break
                self._begin()
                found = self._ask(items[len(answers) : len(answers) + BATCH])
                answers += found
                if self._process is None:
                    deaths += 1
                    answers.append({"error": DIED_OF_IT})
        return answers[: len(items)]

    def close(self) -> None:
        """End the process. It is started again when it is asked something."""
        with self._lock:
            self._end()

    def _begin(self) -> None:
        if self._process is not None and self._process.poll() is None:
            return
        self._end()
        self._process = subprocess.Popen(  # noqa: S603 - our own program, by its path
            [sys.executable, "-I", "-B", "-X", "utf8", str(self._program)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            bufsize=0,
            env={},
            cwd="/",
        )
        self._said = 0
        self._rest = b""
        answers = self._exchange(self._wanted, 1, START_SECONDS)
        if answers == [None]:
            return
        self._end()
        raise CannotLoad(str(answers[0]["error"])[:500] if answers else "the worker crashed or hung on it")

    def _ask(self, items: Sequence[Item]) -> list[Any]:
        """Ask for a batch. When answers are missing, the process is no more and the next file to blame."""
        answers = self._exchange(json.dumps(items), len(items), SILENT_SECONDS)
        if len(answers) < len(items):
            self._end()
        return answers

    def _exchange(self, text: str, count: int, seconds: float) -> list[Any]:
        """Send a line and read so many, or as many as come: silence for so many seconds is the end."""
        assert self._process is not None
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        to, back = self._process.stdin.fileno(), self._process.stdout.fileno()
        os.set_blocking(to, False)
        left = memoryview(text.encode() + b"\n")
        answers: list[Any] = []
        with selectors.DefaultSelector() as selector:
            selector.register(back, selectors.EVENT_READ)
            selector.register(to, selectors.EVENT_WRITE)
            while len(answers) < count:
                ready = [key.fd for key, _ in selector.select(seconds)]
                if to in ready:
                    try:
                        left = left[os.write(to, left) :]
                    except OSError:  # it is dead
                        return answers
                    if not left:
                        selector.unregister(to)
                if back in ready:
                    chunk = os.read(back, LONGEST_LINE)
                    if not chunk:
                        return answers
                    if not self._take(chunk, count, answers):
                        return answers[: count - 1]  # it is not to be trusted any more
                if not ready:
                    break
        return answers

    def _take(self, chunk: bytes, count: int, answers: list[Any]) -> bool:
        """Add what was said to the answers. Tells whether a worker may say that: in order, and no more."""
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        for line in lines:
            try:
                number, said = json.loads(line)
            except (ValueError, TypeError, RecursionError):
                return False
            right = (
                said is None or isinstance(said, str) or (isinstance(said, dict) and set(said) == {"error"})
            )
            if not right or number != self._said or len(answers) == count:
                return False
            self._said += 1
            answers.append(said)
        return len(self._rest) <= LONGEST_LINE

    def _end(self) -> None:
        if self._process is None:
            return
        process, self._process = self._process, None
        process.kill()
        with process:  # closes its pipes, and waits
            pass
