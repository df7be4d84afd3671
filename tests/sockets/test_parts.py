"""Cutting what comes, and keeping it."""

from __future__ import annotations

import itertools
import json
import os
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from tidegate.config import Framing, SocketAddress
from tidegate.inward.framing import LONGEST_LINE, Cutter
from tidegate.inward.journal import Batch, Journal

if TYPE_CHECKING:
    from pathlib import Path


def in_pieces(data: bytes, cuts: list[int]) -> list[bytes]:
    places = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    return [data[start:end] for start, end in itertools.pairwise(places)]


@given(st.binary(max_size=60).map(lambda it: it.replace(b"\x01", b"\n")), st.lists(st.integers(0, 60)))
def test_lines_are_the_same_however_they_come(data: bytes, cuts: list[int]) -> None:
    cutter = Cutter(Framing.LINES, 100, skip_repeats=False)
    found = [line for piece in in_pieces(data, cuts) for line in (*cutter.put(piece), *cutter.pause())]
    found += cutter.end()
    whole = data if data.endswith(b"\n") or not data else data + b"\n"
    assert found == whole.splitlines(keepends=True) or found == [
        line + b"\n" for line in whole.removesuffix(b"\n").split(b"\n")
    ]
    assert b"".join(found) == whole
    assert cutter.taken == len(found)


@given(st.binary(max_size=60), st.lists(st.integers(0, 60)), st.integers(1, 20))
def test_a_block_is_what_comes_without_a_pause_up_to_its_largest_size(
    data: bytes, cuts: list[int], most: int
) -> None:
    cutter = Cutter(Framing.BLOCKS, most, skip_repeats=False)
    found = [block for piece in in_pieces(data, cuts) for block in cutter.put(piece)] + cutter.pause()
    assert found == [data[start : start + most] for start in range(0, len(data), most)]


def test_what_is_as_the_one_before_is_left_out_only_when_asked() -> None:
    for skip, kept in ((True, [b"a\n", b"b\n", b"a\n"]), (False, [b"a\n", b"a\n", b"b\n", b"a\n"])):
        cutter = Cutter(Framing.LINES, 100, skip_repeats=skip)
        assert cutter.put(b"a\na\nb\na\n") == kept
        assert (cutter.taken, cutter.skipped) == (4, 4 - len(kept))


def test_a_line_without_end_is_cut() -> None:
    cutter = Cutter(Framing.LINES, 100, skip_repeats=False)
    found = cutter.put(b"x" * (2 * LONGEST_LINE + 5)) + cutter.end()
    assert [len(line) for line in found] == [LONGEST_LINE + 1, LONGEST_LINE + 1, 6]


class Journals(RuleBasedStateMachine):
    """Whatever is added is in exactly one batch, in order, over deaths at any moment."""

    def __init__(self) -> None:
        super().__init__()
        import tempfile  # noqa: PLC0415
        from pathlib import Path  # noqa: PLC0415

        self.temporary = tempfile.TemporaryDirectory()
        self.folder = Path(self.temporary.name) / "j"
        self.expected: list[bytes] = []
        self.shipped: dict[str, bytes] = {}
        self.names = 0
        self.journal: Journal | None = None
        self.born()

    def begin(self, number: int) -> dict[str, str]:
        self.names += 1
        return {"key": f"{number:05}"}

    def born(self) -> None:
        self.journal = Journal(self.folder, self.begin, in_lines=True)
        for batch in self.journal.open():
            self.ship(batch, forget=True)

    def ship(self, batch: Batch, *, forget: bool) -> None:
        path = self.folder / "copy"
        with path.open("wb") as file:
            batch.copy_to(file)
        body = path.read_bytes()
        path.unlink()
        assert len(body) == batch.size
        assert self.shipped.get(batch.head["key"], body) == body  # done twice it is the same object
        self.shipped[batch.head["key"]] = body
        if forget:
            self.journal.done(batch)

    @rule(lines=st.lists(st.sampled_from([b"a\n", b"bb\n", b"\n"]), min_size=1, max_size=5))
    def add(self, lines: list[bytes]) -> None:
        self.journal.add(b"".join(lines))
        self.expected += lines

    @rule(dies=st.booleans())
    def end(self, *, dies: bool) -> None:
        batch = self.journal.close_batch()
        if batch:
            self.ship(batch, forget=not dies)

    @rule(torn=st.binary(max_size=4))
    def die(self, torn: bytes) -> None:
        """A power cut may leave a piece of a line behind."""
        self.journal.close()
        numbers = [int(path.stem) for path in self.folder.glob("*.batch")]
        last = self.folder / f"{max(numbers)}.batch"
        if last.stat().st_size:
            with last.open("ab") as file:
                file.write(torn.replace(b"\n", b"."))
        self.born()

    @invariant()
    def nothing_is_lost_or_comes_twice(self) -> None:
        stored = b"".join(self.shipped[key] for key in sorted(self.shipped))
        assert b"".join(self.expected).startswith(stored)

    def teardown(self) -> None:
        try:
            self.die(b"")
            assert b"".join(self.shipped[key] for key in sorted(self.shipped)) == b"".join(self.expected)
        finally:
            self.journal.close()
            self.temporary.cleanup()


TestJournals = Journals.TestCase
TestJournals.settings = settings(max_examples=40, stateful_step_count=20, deadline=None)


def test_a_disk_that_fails_at_the_end_does_not_keep_a_journal_from_going_on(tmp_path: Path) -> None:
    journal = Journal(tmp_path, lambda _: {"key": "k"}, in_lines=True)
    journal.open()
    journal.add(b"1\n")
    reader, writer = os.pipe()
    os.dup2(writer, journal._descriptor)  # which cannot be synced
    journal.close()
    (batch,) = journal.open()
    journal.add(b"2\n")
    journal.close()
    for one in (reader, writer):
        os.close(one)
    assert batch.path.read_bytes()[batch.start :] == b"1\n"
    assert [one.size for one in Journal(tmp_path, dict, in_lines=True).open()] == [2, 2]


def test_numbers_are_never_used_twice(tmp_path: Path) -> None:
    seen = []
    for _ in range(3):
        journal = Journal(tmp_path, lambda number: {"key": str(number)}, in_lines=True)
        assert journal.open() == []
        journal.add(b"1\n")
        batch = journal.close_batch()
        assert batch
        seen.append(batch.head["key"])
        journal.done(batch)
        journal.close()
    assert seen == ["1", "2", "3"]


def test_a_batch_that_does_not_say_what_it_is_is_left_out(tmp_path: Path) -> None:
    (tmp_path / "4.batch").write_bytes(b"{torn")
    journal = Journal(tmp_path, lambda number: {"key": str(number)}, in_lines=True)
    assert journal.open() == []
    journal.add(b"1\n")
    batch = journal.close_batch()
    assert batch
    assert batch.path.read_bytes() == json.dumps({"key": "4"}).encode() + b"\n1\n"
    journal.close()


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("tcp://10.0.0.7:9000", "tcp://10.0.0.7:9000"),
        ("TCP://meter.local:1/", "tcp://meter.local:1"),
        ("tcp://[::1]:65535", "tcp://[::1]:65535"),
        ("unix:/run/a", "unix:/run/a"),
        ("unix:///run//a", "unix:/run/a"),
    ],
)
def test_an_address_of_a_socket(text: str, shown: str) -> None:
    assert str(SocketAddress.parse(text)) == shown


@pytest.mark.parametrize(
    "text",
    ["", "tcp:a:1", "tcp://a", "tcp://a:0", "tcp://a:70000", "tcp://a b:1", "unix:a", "unix:/", "http://a:1"],
)
def test_what_is_no_address_is_told(text: str) -> None:
    with pytest.raises(ValueError, match="write for example"):
        SocketAddress.parse(text)
