"""When sync cycles begin: a cron expression, on the clocks of a time zone. Reads no clock.

The only module that imports cronsim, which treats changes of the clocks as Debian's cron does: what falls
into an hour that they leave out comes right after it, and what falls into one that they show twice comes
once, but for expressions that name every hour or minute, which go by the time that passes.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta, timezone, tzinfo
from zoneinfo import ZoneInfo

_FIELDS = 5
_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)


@dataclass(frozen=True, slots=True)
class Schedule:
    """Points in time. Two are equal when their expressions are."""

    text: str

    @classmethod
    def parse(cls, text: str) -> Schedule:
        """Read an expression of five fields. Raises ValueError with a sentence that follows the value."""
        from cronsim import CronSim, CronSimError  # noqa: PLC0415 - the cloud app goes without

        fields = text.split()
        if len(fields) != _FIELDS:
            raise ValueError(
                "is not a cron expression of five fields (minute, hour, day, month, weekday);"
                ' write for example "0 2 * * *"'
            )
        schedule = cls(" ".join(fields))
        try:
            next(CronSim(schedule.text, _EPOCH))
        except (CronSimError, StopIteration) as err:
            reason = str(err).lower() or "it never comes"
            raise ValueError(
                f'is not a cron expression ({reason}); write for example "0 2 * * *" or "*/15 8-18 * * 1-5"'
            ) from None
        return schedule

    def after(self, wall: float, zone: str | None) -> float:
        """Return the first point in time after this one, both in wall-clock seconds.

        What the clocks in the zone show is what counts; without one, those of the system.
        """
        from cronsim import CronSim  # noqa: PLC0415

        clocks = _SYSTEM if zone is None else ZoneInfo(zone)
        begin = (_EPOCH + timedelta(seconds=wall)).astimezone(clocks)
        found: datetime = next(CronSim(self.text, begin))
        return found.timestamp()


class _System(tzinfo):
    """The clocks of this machine, as its C library shows them."""

    def utcoffset(self, dt: datetime | None) -> timedelta | None:
        """See tzinfo."""
        return None if dt is None else dt.replace(tzinfo=None).astimezone().utcoffset()

    def dst(self, _dt: datetime | None) -> timedelta | None:
        """See tzinfo. Nobody asks."""
        return None

    def tzname(self, _dt: datetime | None) -> str | None:
        """See tzinfo."""
        return "system"

    def fromutc(self, dt: datetime) -> datetime:
        """See tzinfo."""
        return datetime.fromtimestamp(dt.replace(tzinfo=timezone.utc).timestamp()).replace(tzinfo=self)  # noqa: DTZ006


_SYSTEM = _System()
