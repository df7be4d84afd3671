"""How fast may be sent: one rate, or a timetable of rates through the week. Reads no clock.

The syntax is rclone's, but a number without a letter counts bytes: `10M`, `08:00,512k 19:00,off` or
`Mon-08:00,512k Sat-00:00,off`.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Final
from zoneinfo import ZoneInfo

_UNITS: Final = {"": 1, "k": 1024, "m": 1024**2, "g": 1024**3}
_DAYS: Final = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
_DAY_MINUTES: Final = 24 * 60
_LEAST: Final = 1024  # bytes a second; whoever writes less has most likely forgotten a letter
_MOST: Final = 1024**4
_RATE: Final = re.compile(r"([0-9]+(?:\.[0-9]+)?)([kmg]?)", re.IGNORECASE)
_MOMENT: Final = re.compile(r"(?:([a-z]+)-)?([0-9]{1,2}):([0-9]{2})", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Bandwidth:
    """Bytes per second by the time of the week; None stands for no limit.

    `steps` are minutes since Monday 00:00 in ascending order, each with the rate that holds from then on.
    """

    steps: tuple[tuple[int, float | None], ...]

    @classmethod
    def parse(cls, text: str) -> Bandwidth:
        """Read a rate or a timetable. Raises ValueError with a sentence that follows the value.

        An entry without a day is one for each day; where a day has an entry of its own for the same
        minute, that one holds.
        """
        if "," not in text:
            return cls(((0, _rate(text.strip())),))
        daily: dict[int, float | None] = {}
        weekly: dict[int, float | None] = {}
        for entry in text.split():
            written, _, rate = entry.partition(",")
            day, minute = _moment(written, entry)
            table, start = (daily, minute) if day is None else (weekly, day * _DAY_MINUTES + minute)
            if start in table:
                raise ValueError(f'says twice what holds from "{written}"; keep one of the two')
            table[start] = _rate(rate, entry)
        every = {day * _DAY_MINUTES + minute: rate for day in range(7) for minute, rate in daily.items()}
        return cls(tuple(sorted((every | weekly).items())))

    def rate(self, local: datetime) -> float | None:
        """Bytes per second at this local time: by the last entry before it, be it of last week."""
        minute = local.weekday() * _DAY_MINUTES + local.hour * 60 + local.minute
        return self.steps[bisect_right(self.steps, minute, key=lambda step: step[0]) - 1][1]

    def at(self, wall: float, zone: str | None) -> float | None:
        """Bytes per second at this wall clock's time in a zone, or in that of the system.

        What the clocks in the zone show is what counts. An entry in an hour that they leave out holds from
        the end of the gap; one in an hour that they show twice begins twice.
        """
        moment = datetime.fromtimestamp(wall, timezone.utc)
        return self.rate(moment.astimezone(None if zone is None else ZoneInfo(zone)))


def zone_name(text: str) -> str:
    """Check the name of a time zone. Raises ValueError with a sentence that follows the value."""
    try:
        return ZoneInfo(text).key
    except (KeyError, ValueError, OSError):  # an unknown name, one that leads elsewhere, a folder of zones
        raise ValueError("is not a time zone of this system; write for example Europe/Berlin") from None


def _moment(written: str, entry: str) -> tuple[int | None, int]:
    """Read a day of the week (0 is Monday), if there is one, and a minute of the day."""
    found = _MOMENT.fullmatch(written)
    hour, minute = (int(found[2]), int(found[3])) if found else (0, 0)
    if found is None or hour > 23 or minute > 59:
        raise ValueError(
            f'is not a timetable, by its entry "{entry}"; write for example 08:00,512k 19:00,10M or '
            "Mon-08:00,512k Sat-00:00,off"
        )
    if found[1] is None:
        return None, hour * 60 + minute
    word = found[1].lower()
    days = [number for number, day in enumerate(_DAYS) if word in (day, day[:3])]
    if not days:
        raise ValueError(f'names no day of the week in "{entry}"; write Mon, Tue, Wed, Thu, Fri, Sat or Sun')
    return days[0], hour * 60 + minute


def _rate(written: str, entry: str | None = None) -> float | None:
    """Read bytes per second; `entry` is what of a timetable to name if they are wrong."""
    if written.lower() == "off":
        return None
    found = _RATE.fullmatch(written)
    rate = float(found[1]) * _UNITS[found[2].lower()] if found else 0.0
    by = "" if entry is None else f', by its entry "{entry}"'
    if found is None:
        raise ValueError(f"is not a number of bytes per second{by}; write for example 512k, 10M or off")
    if rate < _LEAST:
        raise ValueError(f"is less than 1k bytes per second{by}; write for example 512k, 10M or off")
    if rate > _MOST:
        raise ValueError(f"is more than 1024G bytes per second{by}; write for example 512k, 10M or off")
    return rate
