"""Clients and files for the tests of the S3 client."""

from __future__ import annotations

import os
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from tidegate.store.endpoints import Endpoint
from tidegate.store.exchange import Issued
from tidegate.store.hub import Hub
from tidegate.store.s3 import S3
from tidegate.store.sigv4 import Credentials
from tidegate.store.wire import Manner

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

OURS = Credentials(access_key="AKID", secret_key="SECRET", token="TOKEN")


class Purse:
    """Always has the same credentials, and remembers which were spoiled."""

    def __init__(self, credentials: Credentials = OURS) -> None:
        self._credentials = credentials
        self.spoilt: list[Credentials] = []

    def current(self) -> Credentials:
        return self._credentials

    def spoiled(self, credentials: Credentials) -> None:
        self.spoilt.append(credentials)


def issued(name: str, expires: float | None = None) -> Issued:
    return Issued(Credentials(access_key=name, secret_key="SECRET"), expires)


@contextmanager
def client_for(
    url: str, purse: Purse | None = None, *, manner: Manner | None = None, **keys: object
) -> Iterator[S3]:
    manner = manner or Manner(connect_seconds=5, read_seconds=5)
    client = S3(Endpoint(region="us-east-1", url=url), purse or Purse(), manner=lambda _: manner, **keys)
    try:
        yield client
    finally:
        client.close()


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Callable[[bytes], int]]:
    """Write a file and open it, as often as one likes; all are closed at the end."""
    descriptors: list[int] = []

    def write(content: bytes) -> int:
        path = tmp_path / f"file{len(descriptors)}"
        path.write_bytes(content)
        descriptors.append(os.open(path, os.O_RDONLY))
        return descriptors[-1]

    yield write
    for descriptor in descriptors:
        os.close(descriptor)


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Run the test as a task of a hub, if it has the fixture `place` and that says so."""
    if pyfuncitem.funcargs.get("place") != "a hub":
        return None
    hub = Hub(time.monotonic)
    errors: list[BaseException] = []

    def run() -> None:
        try:
            pyfuncitem.obj(**{name: pyfuncitem.funcargs[name] for name in pyfuncitem._fixtureinfo.argnames})
        except BaseException as error:  # noqa: BLE001 - pytest is to see it
            errors.append(error)
        finally:
            hub.close()

    jobs = [run]
    hub.run(lambda: jobs.pop() if jobs else None)
    if errors:
        raise errors[0]
    return True
