import shutil
import subprocess
from datetime import UTC, datetime
from itertools import islice

import pytest
from cronsim import CronSim
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from ensemble.errors import ConfigError
from jobs.schedule.cron import parse_cron

_BASE = datetime(2026, 1, 1)


def _field(low: int, high: int) -> st.SearchStrategy[str]:
    number = st.integers(low, high)
    ranges = st.tuples(number, number).map(lambda pair: f"{min(pair)}-{max(pair)}")
    lists = st.lists(st.one_of(number.map(str), ranges), min_size=1, max_size=3).map(",".join)
    return st.one_of(st.just("*"), lists, st.integers(1, 7).map(lambda step: f"*/{step}"))


_FIELDS = st.tuples(_field(0, 59), _field(0, 23), _field(1, 28), _field(1, 12), _field(0, 6))


def _elapses(on_calendar: tuple[str, ...], count: int) -> list[datetime]:
    """The next times of each line, as systemd computes them."""
    words = [
        "systemd-analyze",
        "calendar",
        f"--iterations={count}",
        "--base-time=2025-12-31 23:59:59 UTC",
    ]
    moments = set()
    for line in on_calendar:
        text = subprocess.run([*words, line], capture_output=True, text=True, check=True).stdout
        for row in text.splitlines():
            label, _, value = row.strip().partition(": ")
            if label in {"Next elapse", "(in UTC)"} or label.startswith("Iter"):
                moment = datetime.strptime(value.strip(), "%a %Y-%m-%d %H:%M:%S UTC")
                moments.add(moment)
    return sorted(moments)


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs systemd")
@settings(max_examples=20)
@given(_FIELDS)
@example(("*", "*", "2", "*", "0-6"))
@example(("0", "2", "1-31", "*", "1"))
def test_systemd_starts_at_the_times_of_cron(words: tuple[str, ...]) -> None:
    fields = " ".join(words)
    _, _, day, _, weekday = words
    # The one form that schedulers read differently.
    assume("*/" not in day + weekday or "*" in {day, weekday})
    time = parse_cron(fields, "UTC")
    expected = list(islice(CronSim(fields, datetime(2025, 12, 31, 23, 59)), 4))
    assert _elapses(time.on_calendar, 4)[:4] == expected


@pytest.mark.parametrize(
    ("fields", "line"),
    [
        ("0 2 * * *", ("*-*-* 02:00:00 Asia/Seoul",)),
        ("30 1 * * 1-5", ("Mon..Fri *-*-* 01:30:00 Asia/Seoul",)),
        ("0 2 * * SUN", ("Sun *-*-* 02:00:00 Asia/Seoul",)),
        ("0 2 * * 7", ("Sun *-*-* 02:00:00 Asia/Seoul",)),
        ("*/30 4,5 1 JAN-MAR *", ("*-01..03-01 04..05:00,30:00 Asia/Seoul",)),
        ("0 2 1 * 1", ("*-*-01 02:00:00 Asia/Seoul", "Mon *-*-* 02:00:00 Asia/Seoul")),
    ],
)
def test_on_calendar(fields: str, line: tuple[str, ...]) -> None:
    assert parse_cron(fields, "Asia/Seoul").on_calendar == line


_NOT_PORTABLE = (
    "|0 2 * *|@daily|0 0 2 * * *|60 2 * * *|0 24 * * *|0 2 31 2 *|0 2 30 FEB *|0 2 L * *|0 2 * * 5L|"
    "0 2 * * 1#2|0 2 15W * *|0 2 * * MOON|0 2 */2 * 1|0 2 % * *"
)


@pytest.mark.parametrize("fields", _NOT_PORTABLE.split("|"))
def test_what_not_every_scheduler_reads_is_refused(fields: str) -> None:
    with pytest.raises(ConfigError, match=r"^--cron is "):
        parse_cron(fields, "UTC")


@pytest.mark.parametrize(
    ("zone", "hint"),
    [
        ("Asia/Soul", "Did you mean Asia/Seoul"),
        ("", "Expected one such as"),
        ("../etc", "Expected"),
    ],
)
def test_an_unknown_zone_is_refused_with_one_that_is_close(zone: str, hint: str) -> None:
    with pytest.raises(ConfigError, match=hint):
        parse_cron("0 2 * * *", zone)


@pytest.mark.parametrize(
    ("fields", "hours"),
    [
        ("0 2 * * *", 24),
        ("0 2 * * 1-5", 72),
        ("0 */6 * * *", 6),
        ("0 2 1 * *", 744),
        ("0 2 29 2 *", 1461 * 24),
    ],
)
def test_longest_gap(fields: str, hours: int) -> None:
    assert parse_cron(fields, "UTC").longest_gap_hours == hours


def test_nights_at_which_the_clock_is_changed_are_found() -> None:
    assert [
        f"{night:%m-%d}" for night in parse_cron("30 2 * * *", "Europe/Berlin").shifted_nights
    ] == [
        "03-29",
        "10-25",
    ]
    assert parse_cron("30 4 * * *", "Europe/Berlin").shifted_nights == ()
    assert parse_cron("30 2 * * *", "Asia/Seoul").shifted_nights == ()
    assert parse_cron("30 2 * * *", "UTC").nights[0].replace(tzinfo=UTC).hour == 2
