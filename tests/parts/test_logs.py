"""A line of the log is one line, whatever it is about, and there are never too many of one kind."""

from __future__ import annotations

import io
import json
import logging
import re
from typing import TYPE_CHECKING, Any

import pytest

from tidegate.logs import BURST, REPEAT_SECONDS, JsonLines, Lines, RateLimit, set_up

if TYPE_CHECKING:
    from collections.abc import Iterator

NASTY = [
    "new\nline",
    "carriage\rreturn",
    "escape\x1b[2J",
    "\udcff\udcfe",
    "null\0",
    "\u2028separator",
    "tab\t",
]


def record(message: str, *values: object, level: int = logging.WARNING, **extra: Any) -> logging.LogRecord:
    made = logging.LogRecord("tidegate.test", level, "file.py", 7, message, values, None)
    made.__dict__.update(extra)
    return made


@pytest.fixture
def root_logger() -> Iterator[logging.Logger]:
    """Put the root logger back as it was: pytest listens there."""
    logger = logging.getLogger()
    before = logger.handlers[:], logger.level
    yield logger
    logger.handlers[:], logger.level = before


@pytest.mark.parametrize("name", NASTY)
def test_no_file_name_breaks_a_line_of_text(name: str) -> None:
    line = Lines().format(record("%s is stored", f"/data/{name}.csv"))
    assert len(line.splitlines()) == 1
    assert line.isprintable()
    line.encode("utf-8")


@pytest.mark.parametrize("name", NASTY)
def test_a_line_of_json_is_one_line_and_gives_the_name_back(name: str) -> None:
    line = JsonLines().format(record("%s is stored", f"/data/{name}.csv"))
    assert len(line.splitlines()) == 1
    assert json.loads(line)["message"] == f"/data/{name}.csv is stored"


def test_a_line_of_text_begins_with_the_time_in_utc_and_the_level() -> None:
    made = record("hello ü")
    made.created, made.msecs = 1_800_000_000.0, 0.0
    assert Lines().format(made) == "2027-01-15T08:00:00.000Z WARNING hello ü"


def test_a_line_of_json_has_fields_that_a_machine_can_use() -> None:
    made = record("%s is stored", "a.csv", level=logging.INFO)
    found = json.loads(JsonLines().format(made))
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+00:00", found["timestamp"])
    assert (found["level"], found["loggerName"], found["message"]) == (
        "INFO",
        "tidegate.test",
        "a.csv is stored",
    )


def test_an_exception_stays_within_its_line_of_json(root_logger: logging.Logger) -> None:
    stream = io.StringIO()
    set_up("INFO", "Json", stream)
    try:
        int("of\nall things")
    except ValueError:
        logging.getLogger("tidegate.test").exception("it failed")
    (line,) = stream.getvalue().splitlines()
    assert json.loads(line)["exception"].startswith("Traceback (most recent call last):\n")


def test_the_level_that_was_asked_for_is_the_least_that_is_written(root_logger: logging.Logger) -> None:
    stream = io.StringIO()
    set_up("WARNING", "Text", stream)
    logging.getLogger("tidegate.test").info("not this")
    logging.getLogger("tidegate.test").warning("this")
    assert [line.rpartition(" ")[2] for line in stream.getvalue().splitlines()] == ["this"]


def test_setting_up_twice_writes_each_line_once(root_logger: logging.Logger) -> None:
    stream = io.StringIO()
    for _ in range(2):
        set_up("INFO", "Text", stream)
    logging.getLogger("tidegate.test").warning("once")
    assert len(stream.getvalue().splitlines()) == 1


class Seconds:
    """A clock that a test turns by hand."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_lines_of_one_kind_are_limited_and_the_rest_is_counted() -> None:
    clock = Seconds()
    limit = RateLimit(clock)
    passed = [limit.filter(record("%s is refused", number)) for number in range(1000)]
    assert passed == [True] * BURST + [False] * (1000 - BURST)
    clock.now = REPEAT_SECONDS + 1
    after = record("%s is refused", "100%")
    assert limit.filter(after)
    assert after.getMessage() == f"100% is refused [{1000 - BURST} more like this were left out]"
    quiet = record("%s is refused", 1)
    assert limit.filter(quiet)
    assert "left out" not in quiet.getMessage()


def test_a_kind_that_is_limited_silences_no_other() -> None:
    limit = RateLimit(Seconds())
    for _ in range(1000):
        limit.filter(record("one kind"))
    other = record("another kind")
    other.lineno = 8
    assert limit.filter(other)


def test_promises_kept_are_not_limited() -> None:
    limit = RateLimit(Seconds())
    assert all(limit.filter(record("stored", level=logging.INFO)) for _ in range(1000))
