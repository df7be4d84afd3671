"""Whatever happens in whatever order: what was written last is here or in the bucket, and nothing came twice."""

from __future__ import annotations

import shutil
import tempfile
from collections import Counter
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from tests.cycles.rig import Shop
from tests.helpers import MEMORY

NAMES = st.sampled_from(["A/1.csv", "A/2.csv", "A/b/3.csv", "B/1.csv", "1.csv", "A.zip"])


class Cycling(RuleBasedStateMachine):
    """A shop that is written to, that delivers and releases when it likes, and that dies."""

    @initialize(archive=st.sampled_from(["Zip", "None"]))
    def open(self, archive: str) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="tidegate-test-", dir=MEMORY))
        self.shop = Shop(self.folder, Archive=archive, Interval=100)
        self.last: dict[str, str] = {}
        self.at = 60.0
        self.count = 0

    @rule(name=NAMES)
    def write(self, name: str) -> None:
        self.count += 1
        self.last[name] = f"version {self.count}"
        self.shop.write(name, self.last[name])

    @rule(name=NAMES)
    def replace(self, name: str) -> None:
        self.count += 1
        self.last[name] = f"version {self.count}"
        draft = self.folder / "draft"
        draft.write_text(self.last[name])
        (self.shop.root / name).parent.mkdir(parents=True, exist_ok=True)
        draft.replace(self.shop.root / name)

    @rule(name=NAMES)
    def delete(self, name: str) -> None:
        (self.shop.root / name).unlink(missing_ok=True)
        self.last.pop(name, None)

    @rule(seconds=st.sampled_from([0, 10, 150, 1000]))
    def step(self, seconds: float) -> None:
        self.at += seconds
        self.shop.step(self.at)

    @rule(limit=st.integers(1, 3))
    def deliver(self, limit: int) -> None:
        self.shop.deliver(limit=limit)

    @rule(names=st.sets(st.sampled_from(["A.zip", "1.csv"])))
    def refuse(self, names: set[str]) -> None:
        self.shop.refused = names

    @rule()
    def retry(self) -> None:
        self.shop.ledger.retry(None, now=0)

    @rule()
    def release(self) -> None:
        self.shop.release(self.at)

    @rule()
    def die(self) -> None:
        self.shop.stop()
        self.shop.start()

    @invariant()
    def nothing_is_lost_and_nothing_came_twice(self) -> None:
        stored = Counter(body.decode() for _, body in self.shop.stored())
        assert set(stored.values()) <= {1}, stored
        for name, content in self.last.items():
            path = self.shop.root / name
            assert (path.exists() and path.read_text() == content) or stored[content], name

    def teardown(self) -> None:
        self.shop.refused = set()
        for _ in range(8):
            self.at += 1000
            self.shop.ledger.retry(None, now=0)
            self.shop.run(self.at)
        self.nothing_is_lost_and_nothing_came_twice()
        assert self.shop.files() == set()
        assert self.shop.spool.names() == []
        self.shop.stop()
        shutil.rmtree(self.folder)


Cycling.TestCase.settings = settings(
    max_examples=40, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck)
)
test_whatever_happens_nothing_is_lost_and_nothing_comes_twice = Cycling.TestCase
