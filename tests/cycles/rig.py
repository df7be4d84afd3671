"""What tests of cycles share."""

from __future__ import annotations

import io
import threading
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.helpers import later, the_source, write
from tidegate.disk.space import usage_of
from tidegate.flows.cycle import Cycles
from tidegate.flows.pack import sweep
from tidegate.flows.release import release_stored
from tidegate.ledger import Ledger
from tidegate.model import Fingerprint, Outcome, Verdict
from tidegate.spool import Spool

if TYPE_CHECKING:
    from tidegate.ledger import Cycle


class Shop:
    """One source, its cycles and a pretended bucket, without threads and without time."""

    def __init__(
        self, folder: Path, *, zone: str | None = None, usage: Any = usage_of, **keys: object
    ) -> None:
        """`keys` are those of the configuration, beside those that every cycle must have."""
        self.root = folder / "data"
        self.root.mkdir(exist_ok=True)
        self._folder = folder
        self._zone = zone
        self._usage = usage
        self._keys = {"Mode": "Cycle", "Interval": 1000, "Layout": "ThingAndTime"} | keys
        self.objects: dict[str, bytes] = {}
        self.refused: set[str] = set()
        """Names of objects that are refused for good."""
        self.start()

    def start(self, **keys: object) -> None:
        """Begin as an agent does, perhaps with another configuration."""
        self._keys |= keys
        self.source = the_source(
            self.root, "**", **{key: it for key, it in self._keys.items() if it is not None}
        )
        self.ledger = Ledger(self._folder / "ledger.db", jitter=lambda: 0.5)
        self.ledger.recover(now=0)
        self.spool = Spool(self._folder / "archives", usage=self._usage)
        sweep(self.spool, self.ledger)
        self.stopping = threading.Event()
        self.cycles = Cycles(
            self.source,
            self.ledger,
            self.spool,
            zone=self._zone,
            thing="thing",
            never=frozenset([str(self._folder / "moved")]),
            stopping=self.stopping,
        )

    def stop(self) -> None:
        """End, in order or not: what is in memory is gone."""
        self.ledger.close()

    def write(self, name: str, content: str = "1,2,3\n") -> Path:
        return write(self.root / name, content)

    def step(self, at: float) -> float:
        """Bring the cycles on, at so many seconds from now; files made until now are quiet then."""
        return self.cycles.step(later(at))

    def deliver(self, *, limit: int = 100) -> list[str]:
        """Store what waits, but never over something else. Returns the keys."""
        taken = self.ledger.claim(self.source.name, "", limit=limit, now=later(0).wall)
        outcomes = []
        for transfer in taken:
            key = transfer.target.key
            if key.rpartition("/")[2] in self.refused:
                outcomes += [Outcome(verdict=Verdict.REFUSED, promise=transfer.id, note="no")]
                continue
            body = Path(transfer.body.path)
            if not body.exists() or Fingerprint.of(body.stat()) != transfer.body.fingerprint:
                outcomes += [Outcome(verdict=Verdict.CHANGED, promise=transfer.id)]
                continue
            assert key not in self.objects, f"{key} came twice"
            self.objects[key] = body.read_bytes()
            outcomes += [Outcome(verdict=Verdict.STORED, promise=transfer.id)]
        self.ledger.settle("direct", outcomes, position=None, now=later(0).wall)
        return [transfer.target.key for transfer in taken]

    def release(self, at: float = 0) -> None:
        while release_stored(self.source, self.ledger, now=later(at).wall):
            pass

    def run(self, at: float) -> Cycle | None:
        """Make a whole cycle, if one is due; what is then known of the last one."""
        self.step(at)
        while self.deliver():
            pass
        self.step(at)
        self.release(at)
        return self.ledger.cycles.last(self.source.name)

    def files(self) -> set[str]:
        return {str(path.relative_to(self.root)) for path in self.root.rglob("*") if path.is_file()}

    def stored(self) -> list[tuple[str, bytes]]:
        """List what the bucket holds, in archives or not: names and bytes."""
        found = []
        for key, body in self.objects.items():
            name = key.split("/", 2)[2]
            if name.endswith(".zip") and zipfile.is_zipfile(io.BytesIO(body)):
                with zipfile.ZipFile(io.BytesIO(body)) as archive:
                    found += [(member, archive.read(member)) for member in archive.namelist()]
            else:
                found.append((name, body))
        return sorted(found)

    def names(self) -> list[str]:
        """List what objects are called under their cycles."""
        return sorted(key.split("/", 2)[2] for key in self.objects)
