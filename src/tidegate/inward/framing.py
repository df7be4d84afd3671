"""From bytes as they come to lines and blocks. Keeps what is not whole yet; reads and writes nothing."""

from __future__ import annotations

from tidegate.config import Framing

LONGEST_LINE = 2**20
"""A line that is longer is cut."""

PAUSE_SECONDS = 0.2
"""A block ends with a pause of so long."""


class Cutter:
    """Cuts what comes on one connection. A line has its newline, a block is as it came."""

    def __init__(self, framing: Framing, most: int, *, skip_repeats: bool) -> None:
        """A block has at most `most` bytes. `skip_repeats`: one that is as the one before is left out."""
        self._in_lines = framing is Framing.LINES
        self._most = most
        self._skip = skip_repeats
        self._rest = b""
        self._last: bytes | None = None
        self.taken = 0
        """How many there were, those left out included."""
        self.skipped = 0

    @property
    def has_rest(self) -> bool:
        """Whether something has come that is not whole yet."""
        return bool(self._rest)

    def put(self, data: bytes) -> list[bytes]:
        """Take what has come. Returns what is whole with it."""
        self._rest += data
        whole: list[bytes] = []
        if self._in_lines:
            *lines, self._rest = self._rest.split(b"\n")
            whole += [line + b"\n" for line in lines]
            while len(self._rest) > LONGEST_LINE:
                whole.append(self._rest[:LONGEST_LINE] + b"\n")
                self._rest = self._rest[LONGEST_LINE:]
        else:
            while len(self._rest) >= self._most:
                whole.append(self._rest[: self._most])
                self._rest = self._rest[self._most :]
        return self._new(whole)

    def pause(self) -> list[bytes]:
        """Nothing has come for a while: that ends a block."""
        return [] if self._in_lines else self.end()

    def end(self) -> list[bytes]:
        """Nothing more comes: what there is counts as whole."""
        rest, self._rest = self._rest, b""
        return self._new([rest + b"\n" * self._in_lines] if rest else [])

    def _new(self, whole: list[bytes]) -> list[bytes]:
        kept = []
        for one in whole:
            self.taken += 1
            if self._skip and one == self._last:
                self.skipped += 1
                continue
            self._last = one
            kept.append(one)
        return kept
