"""Alerts: one a regression, with a state and an owner, derived from the records and from nothing else."""

from dataclasses import dataclass, replace
from datetime import date
from typing import Literal

from ensemble.report.documents.nightly import Accept, Acknowledge, Comparison, Night, RowResult
from jobs.nightly.history import History
from jobs.nightly.suite import MEMBER_ERROR

State = Literal["open", "acknowledged", "resolved"]

STREAM = "stream"
"""The metric of an alert of an e-detector."""

# A worse figure that is no longer shown to be worse is shown to be well, or is the baseline's own.
_RESOLVING = ("ok", "improved", "identical")


@dataclass(frozen=True)
class Alert:
    """A regression of one metric of one row, from the night that found it to the night that it was gone.

    Attributes:
        row: Name of the row.
        metric: Name of the metric.
        opened: Number of the night that opened it.
        opened_on: Date of that night.
        owner: Who looks after the row.
        nights: Number of nights that it has been open.
        last: The comparison that was worst on the last night that found it; None for a stream.
        state: Open, acknowledged or resolved.
        until: The last date on which it is acknowledged; None where it is not.
        resolved: Number of the record that resolved it; None while it is not.
    """

    row: str
    metric: str
    opened: int
    opened_on: date
    owner: str
    nights: int
    last: Comparison | None
    state: State = "open"
    until: date | None = None
    resolved: int | None = None

    @property
    def key(self) -> str:
        """Name by which a person acknowledges it."""
        return f"{self.row}/{self.metric}"


def replay(history: History, today: date | None = None) -> tuple[Alert, ...]:
    """Go through the records, and tell which alerts there were and are, in the order in which they opened.

    Args:
        history: All records.
        today: The date for which acknowledged alerts are told; that of the last night if not passed.
    """
    alerts: dict[str, Alert] = {}
    over: list[Alert] = []
    for entry in history.records:
        record = entry.record
        if isinstance(record, Acknowledge) and record.alert in alerts:
            alert = alerts[record.alert]
            alerts[record.alert] = replace(alert, state="acknowledged", until=record.until)
        elif isinstance(record, Accept):
            # Whoever accepts a night knows its figures.
            for key in [key for key, alert in alerts.items() if alert.row in record.rows]:
                over.append(_resolved(alerts.pop(key), entry.number))
        elif isinstance(record, Night) and not record.is_smoke:
            today_of_night = record.date
            for row in record.rows:
                _update(alerts, over, entry.number, record, row)
            today = max(today, today_of_night) if today else today_of_night
    now = today or date.min
    current = [_expired(alert, now) for alert in alerts.values()]
    return tuple(sorted([*over, *current], key=lambda alert: (alert.opened, alert.key)))


def opened_by(alerts: tuple[Alert, ...], number: int) -> tuple[Alert, ...]:
    """Choose the alerts that a record opened."""
    return tuple(alert for alert in alerts if alert.opened == number)


def resolved_by(alerts: tuple[Alert, ...], number: int) -> tuple[Alert, ...]:
    """Choose the alerts that a record resolved."""
    return tuple(alert for alert in alerts if alert.resolved == number)


def _update(
    alerts: dict[str, Alert], over: list[Alert], number: int, night: Night, row: RowResult
) -> None:
    if row.error or row.is_worthless:
        return  # it says nothing of the figures
    by_metric: dict[str, list[Comparison]] = {}
    for comparison in row.comparisons:
        if comparison.is_gate:
            by_metric.setdefault(comparison.metric, []).append(comparison)
    has_regressed = any(
        c.verdict == "regressed" and c.metric != MEMBER_ERROR for c in row.comparisons if c.is_gate
    )
    for metric, comparisons in by_metric.items():
        bad = [c for c in comparisons if c.verdict == "regressed"]
        if metric == MEMBER_ERROR and has_regressed and f"{row.name}/{metric}" not in alerts:
            continue  # the ensemble's own alert names the member: one regression, one alert
        worst = max(bad, key=lambda c: c.loss or 0.0, default=None)
        is_over = all(c.verdict in _RESOLVING for c in comparisons)
        _step(alerts, over, number, night, row, metric, worst is not None, worst, is_over)
    if row.stream is not None:
        has_alarmed = row.stream.alarmed_at is not None
        _step(alerts, over, number, night, row, STREAM, has_alarmed, None, not has_alarmed)


def _step(
    alerts: dict[str, Alert],
    over: list[Alert],
    number: int,
    night: Night,
    row: RowResult,
    metric: str,
    is_bad: bool,
    worst: Comparison | None,
    is_over: bool,
) -> None:
    key = f"{row.name}/{metric}"
    alert = alerts.get(key)
    if is_bad and alert is None:
        alerts[key] = Alert(row.name, metric, number, night.date, row.owner, 1, worst)
    elif alert is not None and is_over:
        over.append(_resolved(alerts.pop(key), number))
    elif alert is not None:
        alert = _expired(alert, night.date)
        alerts[key] = replace(alert, nights=alert.nights + 1, last=worst or alert.last)


def _resolved(alert: Alert, number: int) -> Alert:
    return replace(alert, state="resolved", resolved=number)


def _expired(alert: Alert, today: date) -> Alert:
    """An alert counts again after the last date for which somebody acknowledged it."""
    if alert.state == "acknowledged" and alert.until is not None and alert.until < today:
        return replace(alert, state="open", until=None)
    return alert
