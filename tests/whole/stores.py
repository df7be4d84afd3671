"""Where a world's files go, by each carrier: a Stream Manager with a bucket, or an S3."""

from __future__ import annotations

import random
from collections import Counter
from typing import TYPE_CHECKING, Any, ClassVar

from tests.standins.faulty_s3 import Fault, FaultyS3, error
from tests.standins.streammanager import StreamManagerStandIn
from tests.whole.shelf import Shelf, eventually
from tidegate.model import State

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from typing_extensions import Self

    from tests.standins.faulty_s3 import Seen

BUCKET = "bucket"
MIB = 2**20
REFUSED = "delete/refused.csv"
"""The key that is refused once."""

LARGE = random.Random(5).randbytes(6 * MIB + 1)


class ByStreams:
    """Stream Manager, which outlives the agent and goes on uploading."""

    more: ClassVar[dict[str, bytes]] = {}
    """Files beside those of each world."""

    def __init__(self, folder: Path) -> None:
        self._shelf = Shelf()
        self._shelf.refusing[REFUSED] = 1
        self._stream_manager = StreamManagerStandIn(
            data_dir=folder, noop_exporter=True, on_export=self._shelf
        )
        self._tries: Counter[str] = Counter()

    def __enter__(self) -> Self:
        self._stream_manager.__enter__()
        return self

    def __exit__(self, *how: object) -> None:
        self._stream_manager.__exit__(*how)

    def settings(self) -> dict[str, Any]:
        """Keys of the configuration."""
        return {
            "Carrier": "StreamManager",
            "StreamManager": {"Port": self._stream_manager.port, "Streams": 1},
        }

    def objects(self) -> dict[str, bytes]:
        return self._shelf.objects

    def agent_has_died(self, aside: set[str]) -> None:  # noqa: ARG002 - its promise knows that it is stored
        """Take note of what was sent until now. `aside` are keys of files that were about to be deleted."""
        self._tries = self._shelf.tries.copy()

    def wrongs(self, books: dict[bytes, State]) -> list[str]:
        """Say what was sent that need not have been, after an agent died with these books."""
        finished = [it for it, state in books.items() if state in (State.STORED, State.DONE)]
        again = [it for it in finished if self._shelf.tries[it.hex()] > self._tries[it.hex()]]
        return [f"{id_.hex()} was sent again for nothing" for id_ in again]


class ByDirect:
    """An S3 that remembers everything it ever stored. One file goes in parts."""

    more: ClassVar = {"large.csv": LARGE}

    def __init__(self, folder: Path) -> None:  # noqa: ARG002 - it needs none
        self._s3 = Remembering(self._refuse_once)
        self._refused = False
        self._may_come_again: set[str] = set()

    def __enter__(self) -> Self:
        self._s3.__enter__()
        return self

    def __exit__(self, *how: object) -> None:
        self._s3.__exit__(*how)

    def settings(self) -> dict[str, Any]:
        """Keys of the configuration."""
        sizes = {"PartSize": 5 * MIB, "MultipartThreshold": 5 * MIB}
        return {"Carrier": "Direct", "MaxConcurrent": 1, "S3": {"EndpointUrl": self._s3.url} | sizes}

    def objects(self) -> dict[str, bytes]:
        bucket = f"{BUCKET}/"
        return {path.removeprefix(bucket): held.body for path, held in self._s3.objects.items()}

    def agent_has_died(self, aside: set[str]) -> None:
        """See that nothing is on its way any more. What was put `aside` goes back as a new version."""
        self._may_come_again |= {f"{BUCKET}/{key}" for key in aside}
        eventually(lambda: not self._s3.has_clients, pause=0.001)

    def wrongs(self, books: dict[bytes, State]) -> list[str]:  # noqa: ARG002 - nothing is ever to come twice
        """Say what came twice, and what was left."""
        twice = [
            f"{what} came {count} times"
            for what, count in self._s3.stored.items()
            if count > 1 + (what[1] in self._may_come_again)
        ]
        return twice + [f"an upload to {it[0]} is still open" for it in self._s3.uploads.values()]

    def _refuse_once(self, seen: Seen) -> Fault | None:
        if self._refused or seen.kind != "put" or seen.path != f"{BUCKET}/{REFUSED}":
            return None
        self._refused = True
        return Fault(error(400, "InvalidDigest"))


class Remembering(FaultyS3):
    """Counts what was stored, by place and bytes: objects, parts, and which objects were made of parts."""

    def __init__(self, script: Callable[[Seen], Fault | None]) -> None:
        super().__init__(script)
        self.stored: Counter[tuple[str, str, int]] = Counter()

    @property
    def has_clients(self) -> bool:
        return bool(self._open)

    def _carry_out(self, seen: Seen) -> bytes:
        answer = super()._carry_out(seen)
        if seen.kind in ("put", "part", "complete") and answer.startswith(b"HTTP/1.1 200"):
            what = f"{seen.kind} {seen.query.get('partNumber', '')}"
            self.stored[what, seen.path, hash(seen.body)] += 1
        return answer
