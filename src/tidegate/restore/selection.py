"""Reads which objects are meant: a manifest as S3 Batch Operations takes it, or keys line by line.

A manifest is CSV, with quotes where needed and keys encoded as in URLs, a space as %20 or as +. Only CR and
LF end a line: what else Unicode takes for an end of lines may be in a key.
"""

from __future__ import annotations

import csv
import io
import re
from typing import IO, TYPE_CHECKING
from urllib.parse import unquote_to_bytes

from tidegate.errors import ConfigFaults

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from _typeshed import WriteableBuffer

    from tidegate.store.archive_calls import Archive

FIELDS = ("bucket", "key", "version", "ignore")
_SHOWN = 5
_FIELD_BYTES = 16_384
_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,254}")


def manifest(
    stream: IO[bytes], *, fields: Sequence[str] = ("bucket", "key", "version"), plain: bool = False
) -> Iterator[tuple[str, str, str]]:
    """Read bucket, key and version of each row; empty lines are passed over.

    `fields` are the columns; what comes last in them may be missing from rows, but bucket and key.
    `plain` keys are not encoded. Raises `ConfigFaults`, with the numbers of wrong lines, before the end.
    """
    wrong: list[str] = []
    csv.field_size_limit(_FIELD_BYTES)
    # What is no text is let through, and found in its row: the decoder does not know the line.
    text = io.TextIOWrapper(stream, encoding="utf-8-sig", errors="surrogateescape", newline="")
    rows, is_first = csv.reader(text, strict=True), True
    try:
        for row in rows:
            if not row or row == [""]:
                continue
            try:
                if is_first:
                    _refuse_header(row)
                is_first = False
                yield _row(row, fields, plain=plain)
            except ValueError as error:
                wrong.append(f"the manifest, line {rows.line_num}: {error}")
                if len(wrong) == _SHOWN:
                    break
    except csv.Error as error:
        wrong.append(f"the manifest, line {max(1, rows.line_num)}: {error}")
    finally:
        text.detach()  # the stream is the caller's to close
    if wrong:
        raise ConfigFaults(wrong)


def keys(stream: IO[bytes], bucket: str, *, zero: bool = False) -> Iterator[tuple[str, str, str]]:
    """Read one key a line, as it is; with `zero`, each ends with a zero byte instead.

    Raises `ConfigFaults` for what cannot be a key.
    """
    for number, line in enumerate(_pieces(stream, b"\0") if zero else stream, 1):
        text = line if zero else line.rstrip(b"\n").removesuffix(b"\r")
        if text:
            try:
                yield bucket, _key(text), ""
            except ValueError as error:
                raise ConfigFaults([f"key number {number}: {error}"]) from error


def _refuse_header(row: list[str]) -> None:
    """Raise ValueError for the names of columns."""
    if {"bucket", "key"} <= {cell.strip().lower() for cell in row}:
        raise ValueError(f"{','.join(row)[:80]} is a header; take this line away")


def _row(row: list[str], fields: Sequence[str], *, plain: bool) -> tuple[str, str, str]:
    try:
        "".join(row).encode()
    except UnicodeEncodeError:
        raise ValueError("it is not text in UTF-8") from None
    if len(row) < 2 or len(row) > len(fields):
        raise ValueError(f"there are {len(row)} fields instead of {','.join(fields)}")
    said = dict(zip(fields, row, strict=False))
    if not said.get("bucket") or not said.get("key"):
        raise ValueError("it names no bucket, or no key")
    bucket = said["bucket"].strip()
    if not _BUCKET.fullmatch(bucket):
        is_turned = tuple(fields[:2]) == ("bucket", "key") and _BUCKET.fullmatch(said["key"].strip())
        hint = "; is it --fields key,bucket?" if is_turned else ""
        raise ValueError(f"{bucket[:80]!r} is not the name of a bucket{hint}")
    key = said["key"] if plain else _key(unquote_to_bytes(said["key"].replace("+", " ")))
    if plain:
        _key(key.encode("utf-8", "surrogatepass"))
    return bucket, key, said.get("version", "").strip()


def _key(text: bytes) -> str:
    """Raises ValueError for what cannot be a key."""
    if len(text) > 1024:
        raise ValueError(f"a key has at most 1024 bytes, and this one {len(text)}")
    try:
        return text.decode()
    except UnicodeDecodeError:
        raise ValueError(f"the key {text[:80]!r} is not text in UTF-8") from None


def _pieces(stream: IO[bytes], end: bytes) -> Iterator[bytes]:
    rest = b""
    while more := stream.read(65_536):
        *whole, rest = (rest + more).split(end)
        yield from whole
    yield rest


class ObjectStream(io.RawIOBase):
    """Reads an object of S3 from its beginning, a few megabytes at a time."""

    def __init__(self, archive: Archive, bucket: str, key: str) -> None:
        """Raises what asking S3 raises; so does reading."""
        self._archive = archive
        self._place = bucket, key
        self._stored = archive.stored(bucket, key)
        self._at = 0

    @property
    def size(self) -> int:
        """How many bytes there are."""
        return self._stored.size or 0

    def readable(self) -> bool:
        """See io.RawIOBase."""
        return True

    def readinto(self, buffer: WriteableBuffer) -> int:
        """See io.RawIOBase."""
        view = memoryview(buffer)
        end = min(self._at + len(view), self._stored.size or 0)
        if end > self._at:
            view[: end - self._at] = self._archive.piece(*self._place, "", self._stored.etag, self._at, end)
        count, self._at = end - self._at, end
        return count


def chunks(rows: Iterable[tuple[str, str, str]], size: int = 10_000) -> Iterator[list[tuple[str, str, str]]]:
    """Put rows together, so that each transaction writes many."""
    chunk = []
    for row in rows:
        chunk.append(row)
        if len(chunk) == size:
            yield chunk
            chunk = []
    if chunk:
        yield chunk
