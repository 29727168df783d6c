"""The night as a job: do it, write its pages, tell other services, give the exit code; and find missed nights."""

from datetime import UTC, date, datetime, timedelta

from ensemble.errors import ConfigError, ProjectError
from ensemble.report.documents.nightly import Night
from ensemble.storage.open import open_store
from jobs.nightly.alerts import opened_by, replay, resolved_by
from jobs.nightly.candidate import Say, Workers
from jobs.nightly.history import read_history
from jobs.nightly.night import night
from jobs.nightly.notify import notify
from jobs.nightly.pages import write_pages
from jobs.nightly.suite import SuiteConfig
from jobs.nightly.text import describe_alert, describe_row, exit_code
from jobs.nightly.tracker import check_tracker, track


class MissedNightError(ProjectError):
    """No night came within the time that one should have."""


def do_night(
    suite: SuiteConfig, on: date, workers: Workers, say: Say, *, is_smoke: bool = False
) -> tuple[Night, int]:
    """Do a night with all that belongs to it.

    Args:
        suite: Checked settings.
        on: Date that the night is of.
        workers: Whoever finds and predicts.
        say: Prints a line.
        is_smoke: Judge a few images only.

    Returns:
        The record, and the exit code.

    Raises:
        ConfigError: The date has a night already.
        ProjectError: Nothing of the suite can be read or written.
    """
    check_tracker(suite)
    number, record = night(suite, on, workers, say, is_smoke=is_smoke)
    store = open_store(suite.folder, suite.storage)
    history = read_history(store)
    write_pages(store, history, number, suite.name or "suite")
    alerts = replay(history)
    for row in record.rows:
        for line in describe_row(row):
            say(line)
    current = [alert for alert in alerts if alert.state != "resolved"]
    for alert in current:
        say(f"alert: {describe_alert(alert)}")
    if not is_smoke:
        notify(suite, opened_by(alerts, number), resolved_by(alerts, number), say)
        track(suite, number, record, say)
    return record, exit_code(record, current)


def check_age(suite: SuiteConfig, max_age: timedelta, now: datetime | None = None) -> str:
    """Tell how old the last night is, from whatever clock this runs on.

    Args:
        suite: Checked settings.
        max_age: The oldest that the last night may be.
        now: The time; that of this machine if not passed.

    Raises:
        MissedNightError: The last night is older, or there is none.
    """
    last = read_history(open_store(suite.folder, suite.storage)).last
    if last is None:
        raise MissedNightError(
            f"the suite {suite.name!r} has no night yet in {suite.folder}. Expected one within "
            f"{_hours(max_age)}; look at its scheduler."
        )
    number, record = last
    age = (now or datetime.now(UTC)) - record.written_at
    text = f"the last night of {suite.name!r}, of {record.date} (record {number}), ended {_hours(age)} ago"
    if age > max_age:
        raise MissedNightError(
            f"{text}. Expected one within {_hours(max_age)}: a night was missed, or is still under way; look at "
            "its scheduler and its log."
        )
    return text


def parse_age(text: str) -> timedelta:
    """Read a duration, as 26h, 90m or 2d.

    Raises:
        ConfigError: The text is none.
    """
    units = {"m": 60, "h": 3600, "d": 86400}
    number, unit = text[:-1], text[-1:]
    try:
        seconds = float(number) * units[unit]
        if not 0 < seconds < 1e9:
            raise ValueError
    except (KeyError, ValueError) as error:
        raise ConfigError(
            f"{text!r} is no age; expected a number with m, h or d, as 26h."
        ) from error
    return timedelta(seconds=seconds)


def parse_date(text: str | None) -> date:
    """Read a date, as 2026-11-27; today's on this machine if there is none.

    Raises:
        ConfigError: The text is none.
    """
    if text is None:
        return datetime.now().astimezone().date()
    try:
        return date.fromisoformat(text)
    except ValueError as error:
        raise ConfigError(f"{text!r} is no date ({error}); expected one as 2026-11-27.") from error


def _hours(age: timedelta) -> str:
    return f"{age.total_seconds() / 3600:.1f} hours"
