"""A time to start at, as the five fields of cron: checked, explained in systemd's words, and looked ahead."""

import re
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta
from difflib import get_close_matches
from functools import cached_property
from itertools import islice, pairwise, takewhile
from math import ceil
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, available_timezones

from cronsim import CronSim, CronSimError

from ensemble.errors import ConfigError

# What every scheduler here reads alike; not @daily, not L, W or #, not a sixth field of seconds.
_FIELD = re.compile(r"[0-9A-Za-z*,/-]+")
_EXTENSION = re.compile(r"(?<![A-Za-z])[LW](?![A-Za-z])|\dL\b", re.IGNORECASE)
_EXPECTED = (
    "Expected five fields: minute, hour, day of the month, month and weekday, such as '0 2 * * *' for "
    "02:00 every night, or '30 1 * * 1-5' for 01:30 from Monday to Friday."
)
_WEEKDAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_START, _YEAR = datetime(2026, 1, 1), timedelta(days=366)


@dataclass(frozen=True)
class CronTime:
    """When a night starts.

    Attributes:
        fields: The five fields of cron.
        timezone: Name of the time zone that the fields are read in, as in the IANA database.
    """

    fields: str
    timezone: str

    @cached_property
    def _parsed(self) -> CronSim:
        return CronSim(self.fields, _START)

    @property
    def on_calendar(self) -> tuple[str, ...]:
        """The same times as lines of systemd's `OnCalendar`, each of which starts a night.

        Two lines where both the day of the month and the weekday are limited: cron starts on a day
        that is either, and systemd on one that is both.
        """
        parsed = self._parsed
        # A pair is the n-th weekday of a month, which `parse_cron` refuses.
        weekdays = {day % 7 or 7 for day in parsed.weekdays if isinstance(day, int)}
        days = _ranges(parsed.days, 31)
        names = "" if len(weekdays) == 7 else f"{_names(weekdays)} "
        clock = f"{_ranges(parsed.hours, 24)}:{_ranges(parsed.minutes, 60)}:00 {self.timezone}"
        month = _ranges(parsed.months, 12)
        _, _, day, _, weekday = self.fields.split()
        if "*" not in (day[0], weekday[0]) and (not names or days == "*"):
            # Either of both is enough for cron, and one is written so that it names every day.
            return (f"*-{month}-* {clock}",)
        if not names or days == "*":
            return (f"{names}*-{month}-{days} {clock}",)
        return f"*-{month}-{days} {clock}", f"{names}*-{month}-* {clock}"

    @cached_property
    def nights(self) -> tuple[datetime, ...]:
        """The times of a year by the zone's own clock, 800 of them at most; two at least, where they are rare."""
        times = CronSim(self.fields, _START)
        first = tuple(islice(times, 2))
        return *first, *takewhile(lambda night: night < _START + _YEAR, islice(times, 800))

    @property
    def longest_gap_hours(self) -> int:
        """Hours between two nights at most, rounded up."""
        gaps = [later - earlier for earlier, later in pairwise(self.nights)]
        return ceil(max(gaps) / timedelta(hours=1))

    @property
    def shifted_nights(self) -> tuple[datetime, ...]:
        """Nights whose local time is skipped or comes twice, because the clock is changed then."""
        zone = ZoneInfo(self.timezone)

        def offset(moment: datetime, fold: int) -> timedelta | None:
            return moment.replace(tzinfo=zone, fold=fold).utcoffset()

        return tuple(night for night in self.nights if offset(night, 0) != offset(night, 1))


def parse_cron(fields: str, timezone: str) -> CronTime:
    """Read a time to start at.

    Args:
        fields: The five fields of cron.
        timezone: Name of a time zone of the IANA database.

    Raises:
        ConfigError: The fields or the time zone cannot be read, or the time never comes.
    """
    _check_zone(timezone)
    words = fields.split()
    if len(words) != 5 or not all(map(_FIELD.fullmatch, words)) or _EXTENSION.search(fields):
        raise ConfigError(f"--cron is {fields!r}. {_EXPECTED}")
    try:
        parsed = CronSim(" ".join(words), _START)
        if next(parsed, None) is None:
            raise ConfigError(f"--cron is {fields!r}, a time that never comes. {_EXPECTED}")
    except CronSimError as error:
        raise ConfigError(f"--cron is {fields!r} ({str(error).lower()}). {_EXPECTED}") from error
    _, _, day, _, weekday = words
    if (day.startswith("*/") and weekday != "*") or (weekday.startswith("*/") and day != "*"):
        raise ConfigError(
            f"--cron is {fields!r}: where one day is limited by */n and the other as well, some "
            "schedulers start on days that are either, others on days that are both. "
            "List the days instead, such as 1,3,5."
        )
    return CronTime(" ".join(words), timezone)


def _check_zone(name: str) -> None:
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        close = get_close_matches(name, available_timezones(), n=1)
        hint = f"Did you mean {close[0]}?" if close else "Expected one such as Asia/Seoul or UTC."
        raise ConfigError(f"--timezone is {name!r}, which is no time zone. {hint}") from error


def _ranges(values: Collection[int], count: int) -> str:
    """Write a set of numbers as systemd does; a star for all `count` of them."""
    if len(values) == count:
        return "*"
    return ",".join(
        f"{first:02}" if first == last else f"{first:02}..{last:02}"
        for first, last in _runs(values)
    )


def _names(weekdays: Collection[int]) -> str:
    names = [(_WEEKDAYS[first - 1], _WEEKDAYS[last - 1]) for first, last in _runs(weekdays)]
    return ",".join(first if first == last else f"{first}..{last}" for first, last in names)


def _runs(values: Collection[int]) -> list[tuple[int, int]]:
    """Group numbers that follow each other: the first and the last of each group."""
    runs: list[tuple[int, int]] = []
    for value in sorted(values):
        if runs and value == runs[-1][1] + 1:
            runs[-1] = runs[-1][0], value
        else:
            runs.append((value, value))
    return runs
