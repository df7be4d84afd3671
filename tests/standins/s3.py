"""A stand-in for S3: moto's server on the loopback interface. It is for tests and the demo, never shipped.

Its buckets live in the process that serves them: all servers of one process show the same buckets, and
they are gone when the process ends.

    python -m tests.standins.s3 --port 9000
"""

from __future__ import annotations

import argparse
import contextlib
import logging
from typing import TYPE_CHECKING, Any

from botocore.config import Config
from moto import s3 as moto_s3
from moto.server import ThreadedMotoServer

from tests.standins.aws import s3_client
from tests.standins.process import wait_for_signal

if TYPE_CHECKING:
    from collections.abc import Iterator

HOST = "127.0.0.1"


def client(url: str) -> Any:
    """Make an S3 client for the server at `url`."""
    return s3_client(url, Config(s3={"addressing_style": "path"}))


@contextlib.contextmanager
def serving(port: int = 0, *, fresh: bool = True) -> Iterator[str]:
    """Serve S3 and yield its URL.

    `fresh` forgets all buckets at the start; without it, and with the same port, the server is back
    after an outage.
    """
    logging.getLogger("werkzeug").setLevel(logging.WARNING)
    if fresh:
        moto_s3.s3_backends.reset()
    server = ThreadedMotoServer(ip_address=HOST, port=port, verbose=False)
    server.start()
    try:
        yield "http://{}:{}".format(*server.get_host_and_port())
    finally:
        server.stop()
        server._server.server_close()  # moto leaves the listening socket open


def main() -> None:
    parser = argparse.ArgumentParser(description="Serve a pretended S3 on 127.0.0.1.")
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    with serving(parser.parse_args().port) as url:
        print(f"listening on {url}", flush=True)
        wait_for_signal()


if __name__ == "__main__":
    main()
