"""What an object is called in S3: templates, and an escaping that can be undone. Pure functions of text.

A key must please three readers: Stream Manager, which refuses some characters; S3, which takes 1,024 bytes
of UTF-8; and whoever unpacks a listing into folders, who must not be led astray by `..` or doubled slashes.
"""

from __future__ import annotations

import difflib
import enum
import posixpath
import re
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from types import MappingProxyType
from typing import TYPE_CHECKING
from urllib.parse import quote

from tidegate.errors import Refused

if TYPE_CHECKING:
    from collections.abc import Mapping

MAX_KEY_BYTES = 1024
DIRECTIVES = {
    "%Y": "{0.year:04d}",
    "%y": "{0:%y}",
    "%m": "{0.month:02d}",
    "%d": "{0.day:02d}",
    "%j": "{0:%j}",
    "%H": "{0.hour:02d}",
    "%M": "{0.minute:02d}",
    "%S": "{0.second:02d}",
    "%f": "{0.microsecond:06d}",
}
FIELDS = ("prefix", "thing", "source", "path", "dir", "name", "stem", "ext", "mtime", "now", "cycle")
_TIMES = frozenset({"mtime", "now"})
_TELLING = frozenset({"path", "name", "stem"})  # each gives different files different keys
_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_FIRST = datetime.min.replace(tzinfo=timezone.utc)
_LAST = datetime.max.replace(tzinfo=timezone.utc)
_MAX_METADATA = 1500  # S3 takes 2 KB of metadata in all

_REFUSED = r"\x00-\x20\"#%'<>?\[\\\]^`{|}~\x7f-\x9f\ud800-\udfff"
_REFUSED_LITERAL = re.compile(f"[{_REFUSED}]")
_UNSAFE = re.compile(f"[{_REFUSED}=]")
_UNTOLD = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")
_ESCAPED = re.compile(rb"=([0-9A-F]{2})")
_FIELD = re.compile(r"\{([^{}]*)\}")


class NameEscaping(enum.Enum):
    """How characters that a key may not hold are written."""

    PORTABLE = "Portable"
    NONE = "None"


def escape(name: str) -> str:
    """Write each byte that a key may not hold as `=` and two upper-case hex digits; "/" is kept.

    `name` is a name as the system gives it: bytes that are not UTF-8 stand in it as surrogates.
    """
    return _UNSAFE.sub(lambda match: "".join(f"={byte:02X}" for byte in _bytes(match[0])), name)


def unescape(key: str) -> str:
    """Give back what `escape` was given. What does not look escaped is left alone."""
    raw = _ESCAPED.sub(lambda match: bytes.fromhex(match[1].decode()), _bytes(key))
    return raw.decode("utf-8", "surrogateescape")


def natural(name: str) -> str:
    """Return a name as it is. Raises Refused, with a reason that begins with `name_unfit`, if it cannot be.

    S3 keeps UTF-8, and its answers are XML, which has no way to tell of most control characters.
    """
    if found := _UNTOLD.search(name):
        what = f"byte {_bytes(found[0])[0]:#04x}" if found[0] <= "\udfff" else f"character {ord(found[0]):#x}"
        reason = f"name_unfit: with NameEscaping: None a key cannot hold the {what}: {escape(name)[:80]}"
        raise Refused(reason)
    return name


def original_name(path: str, room: int = _MAX_METADATA) -> str:
    """Percent-encode a path, byte for byte, to travel as object metadata.

    Metadata has little room: of a path that takes more than `room` characters only the last part is told.
    """
    text = quote(_bytes(path))
    return text if len(text) <= room else text.rpartition("/")[2]


def literal(text: str) -> str:
    """Return text that is to stand in keys as it is (a prefix, say), without slashes at its ends.

    Raises ValueError, worded to follow the text, if Stream Manager would refuse it or if it has a segment
    `.` or `..`.
    """
    if found := _REFUSED_LITERAL.search(text):
        shown = found[0] if found[0].isprintable() else f"\\x{ord(found[0]):02x}"
        raise ValueError(f'holds "{shown}", which Stream Manager refuses in a key; leave it out')
    if not {".", ".."}.isdisjoint(text.split("/")):
        raise ValueError("has a folder . or .., which a key must not hold; write the folder itself")
    return text.strip("/")


@dataclass(frozen=True, slots=True)
class KeyTemplate:
    """How the key of an object follows from its file. Two are equal when they make the same keys.

    `fields` are the fields it uses, so that a caller can tell whether it needs a thing's name. `suffix`
    is added to the end of every key.
    """

    text: str
    fields: frozenset[str] = field(compare=False)
    _parts: tuple[tuple[str, str], ...] = field(compare=False, repr=False)
    escaping: NameEscaping = NameEscaping.PORTABLE
    suffix: str = ""

    @classmethod
    def parse(cls, text: str, *, names: frozenset[str] = frozenset(), one_file: bool = False) -> KeyTemplate:
        """Compile a template. Raises ValueError, worded to follow the text, with what is wrong.

        `names` are fields it may have beside ours. With `one_file` it need not tell files apart.
        """
        parts: list[tuple[str, str]] = []
        sample = ""
        for index, piece in enumerate(_FIELD.split(text)):
            if index % 2:
                parts.append((piece, "") if piece in names else _parse_field(piece))
                name, detail = parts[-1]
                sample += detail.format(_EPOCH) if name in _TIMES else "x"
            elif "{" in piece or "}" in piece:
                raise ValueError("has a brace without its partner; write fields such as {path}")
            else:
                parts.append(("", piece))
                sample += piece
        literal(sample)
        fields = frozenset(name for name, _ in parts if name)
        if not fields & (_TELLING | names) and not one_file:
            raise ValueError(
                "has no field that tells files apart: every file would go to one key; add {path}"
            )
        return cls(text, fields, tuple(parts))

    def render(
        self,
        *,
        prefix: str,
        thing: str,
        source: str,
        path: str,
        mtime_ns: int,
        now: float,
        cycle: float | None = None,
        parts: Mapping[str, str] = MappingProxyType({}),
    ) -> str:
        """Make the key of the file at `path` (relative to the root), last modified at `mtime_ns`.

        `now`, and when the `cycle` began, are wall-clock seconds since 1970; of a cycle that is not
        known yet, the field stays as it is. Times are in UTC; those beyond the years 1 to 9999 are taken
        for the nearest that is not. `parts` are what names of `parse` stand for. Raises Refused with a
        reason that begins with `key_too_long` or, where names are not escaped, `name_unfit`.
        """
        escaped = self._written(path)
        folder, name = posixpath.split(escaped)
        stem, ext = posixpath.splitext(name)
        given = {"": "", "prefix": prefix, "thing": self._written(thing), "source": source, "path": escaped}
        given |= {"dir": folder, "name": name, "stem": stem, "ext": ext[1:]}
        given["cycle"] = "{cycle}" if cycle is None else cycle_name(cycle)
        given |= {name: self._written(value) for name, value in parts.items()}
        pieces = []
        for part, detail in self._parts:
            if part == "mtime":
                pieces.append(detail.format(_moment(microseconds=mtime_ns // 1000)))
            elif part == "now":
                pieces.append(detail.format(_moment(seconds=now)))
            else:
                pieces.append(given[part] or detail)
        key = "/".join(_segment(text) for text in "".join(pieces).split("/") if text)
        return _fitting(key + self.suffix)

    def fit(self, prefix: str, key: str) -> str:
        """Make a key of what somebody else calls a file, below the prefix.

        Unlike a name it may hold `=`. Raises Refused as `render` does, and for folders `.` and `..`.
        """
        if not {".", ".."}.isdisjoint(key.split("/")):
            raise Refused(f"key_impossible: it has a folder . or ..: {escape(key)[:80]}")
        if self.escaping is NameEscaping.PORTABLE:
            key = _REFUSED_LITERAL.sub(lambda match: escape(match[0]), key)
        parts = [part for part in natural(f"{prefix}/{key}").split("/") if part]
        if parts == prefix.split("/") or not parts:
            raise Refused("key_impossible: nothing but slashes")
        return _fitting("/".join(parts) + self.suffix)

    def alters(self, path: str) -> bool:
        """Whether a path stands in keys in another form than its own."""
        return self.escaping is NameEscaping.PORTABLE and escape(path) != path

    def _written(self, name: str) -> str:
        return escape(name) if self.escaping is NameEscaping.PORTABLE else natural(name)


def cycle_name(started: float) -> str:
    """Write the time of a cycle as keys have it: in UTC and whole seconds, 2018-06-13T07:47:15+00:00."""
    return _moment(seconds=started).isoformat(timespec="seconds")


def _parse_field(piece: str) -> tuple[str, str]:
    """Split the inside of a pair of braces into a field and what `str.format` needs to write its time."""
    name, colon, form = piece.partition(":")
    if name not in FIELDS:
        nearest = difflib.get_close_matches(name, FIELDS, n=1, cutoff=0.5) or ["path"]
        hint = "now:%Y/%m/%d" if name == "timestamp" else nearest[0]
        raise ValueError(f"has an unknown field {{{name}}}; did you mean {{{hint}}}?")
    if name not in _TIMES:
        if colon:
            raise ValueError(f"has a format on {{{name}}}, which takes none; write {{{name}}}")
        return name, ""
    if not form:
        raise ValueError(f"has {{{name}}} without a format; write for example {{{name}:%Y/%m/%d}}")
    return name, re.sub("%.?", lambda match: _directive(match[0]), form)


def _directive(text: str) -> str:
    if text in {"%G", "%g"}:
        raise ValueError(f"has {text}, the year of a week, which is wrong around New Year; write %Y")
    if text not in DIRECTIVES:
        raise ValueError(f"has {text}, which is not among {' '.join(DIRECTIVES)}; write one of these")
    return DIRECTIVES[text]


def _moment(*, seconds: float = 0, microseconds: int = 0) -> datetime:
    try:
        return _EPOCH + timedelta(seconds=seconds, microseconds=microseconds)
    except OverflowError:  # a file system can hold any 64-bit time, a calendar cannot
        return _FIRST if min(seconds, microseconds) < 0 else _LAST


def _segment(text: str) -> str:
    # Fields that are empty can leave a dot alone, as `{dir}/.{ext}` does: it must not mean a folder.
    return text.replace(".", "=2E") if text in {".", ".."} else text


def _fitting(key: str) -> str:
    size = len(_bytes(key))
    if size > MAX_KEY_BYTES:
        reason = f"key_too_long: {size} bytes in UTF-8, and S3 takes {MAX_KEY_BYTES} at most: {key[:80]}…"
        raise Refused(reason)
    return key


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


THING_AND_TIME = KeyTemplate.parse("{prefix}/{thing}/{cycle}/{path}")
"""What Layout: ThingAndTime stands for. Without a prefix it is `{thing}/{cycle}/{path}`."""
