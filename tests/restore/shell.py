"""The command `tidegate restore` at a stand-in for Glacier: as a process of its own, or in this one."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from typing import TYPE_CHECKING, Any

from tests.helpers import environment
from tidegate import cli

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.standins.glacier import GlacierStandIn

HOURS_IN_A_SECOND = 3600.0 * 10


class Shell:
    """Runs the command against a stand-in in which ten hours are a second."""

    def __init__(self, glacier: GlacierStandIn, folder: Path) -> None:
        self.glacier = glacier
        self.folder = folder
        self.environment = {
            **environment(),
            **glacier.environment(),
            "TIDEGATE_WORK_DIR": str(folder / "work"),
        }
        self._s3: Any = None

    @property
    def s3(self) -> Any:
        """An unmodified boto3."""
        if self._s3 is None:
            self._s3 = self.glacier.client("s3")
        return self._s3

    def close(self) -> None:
        if self._s3 is not None:
            self._s3.close()

    def start(self, *arguments: str, **fields: Any) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "tidegate", "restore", *arguments],
            stdin=subprocess.PIPE,
            stdout=fields.pop("stdout", subprocess.PIPE),
            stderr=subprocess.PIPE,
            text=True,
            env=self.environment,
            **fields,
        )

    def run(self, *arguments: str, given: bytes = b"") -> tuple[int, str, str]:
        """Run a command in this process: exit code, what it printed, and what it complained about."""
        out, err = (io.TextIOWrapper(io.BytesIO(), "utf-8", write_through=True) for _ in range(2))
        with self._inside(given), redirect_stdout(out), redirect_stderr(err):
            try:
                code = cli.run(["restore", *arguments])
            except SystemExit as end:
                code = int(end.code or 0)
        return code, *(it.buffer.getvalue().decode() for it in (out, err))

    @contextmanager
    def _inside(self, given: bytes) -> Iterator[None]:
        before, stdin, on_term = dict(os.environ), sys.stdin, signal.getsignal(signal.SIGTERM)
        os.environ.clear()
        os.environ.update(self.environment)
        sys.stdin = io.TextIOWrapper(io.BytesIO(given))
        try:
            yield
        finally:
            sys.stdin = stdin
            os.environ.clear()
            os.environ.update(before)
            signal.signal(signal.SIGTERM, on_term)

    def create(self, *arguments: str, given: bytes = b"") -> tuple[int, list[dict[str, Any]], str]:
        code, out, err = self.run("create", "--poll=0.1s", "--rate=1000", *arguments, given=given)
        return code, [json.loads(text) for text in out.splitlines()], err
