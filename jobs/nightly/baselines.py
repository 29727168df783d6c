"""The two baselines of a row: the accepted one, which moves with `accept`, and the anchor, which seldom does."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from ensemble.report.documents.nightly import Accept, BaselineName, Conditions, RowResult, VaultLine
from jobs.nightly.history import History

MUST_MATCH_ALWAYS = ("images", "labels", "classes", "seeds")
"""Conditions without which a comparison image by image means nothing."""

OF_TIME = ("device", "driver", "libraries", "precision")
"""Conditions without which times mean nothing."""


@dataclass(frozen=True)
class Baseline:
    """What a row is compared with.

    Attributes:
        name: Which of the two it is.
        number: Number of the night's record.
        row: The row on that night.
    """

    name: BaselineName
    number: int
    row: RowResult


def baselines(history: History, row: str) -> tuple[Baseline, ...]:
    """Find the baselines of a row: of the first night that judged it, until somebody accepts another.

    Returns:
        The accepted one, and the anchor where it is another night; none before the first night.
    """
    accepted, anchor = _first(history, row), _first(history, row)
    for _, accept in history.accepts():
        if row in accept.rows:
            accepted = accept.night
            anchor = accept.night if accept.is_anchor else anchor
    names: list[tuple[BaselineName, int | None]] = [("accepted", accepted)]
    if anchor != accepted:
        names.append(("anchor", anchor))
    rows = [(name, number, history.night(number).row(row)) for name, number in names if number]
    return tuple(Baseline(name, number, result) for name, number, result in rows if result)


def anchor_of(history: History, row: str) -> Baseline | None:
    """Find the anchor of a row, whether or not it is the accepted night; None before the first night."""
    all_of_row = baselines(history, row)
    return all_of_row[-1] if all_of_row else None


def vault_of(history: History, row: str) -> VaultLine | None:
    """Find what the vault showed when the row was last accepted; None where it was never opened."""
    lines = [line for _, accept in history.accepts() for line in accept.vault if line.row == row]
    return lines[-1] if lines else None


def vault_openings(history: History, days: int = 365) -> int:
    """Count the openings of the vault in the days before the last record."""
    accepts: list[Accept] = [accept for _, accept in history.accepts()]
    if not accepts:
        return 0
    since = max(accept.written_at for accept in accepts) - timedelta(days=days)
    return sum(len(accept.vault) for accept in accepts if accept.written_at >= since)


def differences(before: Conditions, after: Conditions, fields: Sequence[str]) -> str:
    """Say which of some conditions differ, with both values; empty where none does."""
    lines = []
    for field in fields:
        old, new = getattr(before, field), getattr(after, field)
        if old != new:
            lines.append(f"{field}: {_short(old)} -> {_short(new)}")
    return "; ".join(lines)


def _first(history: History, row: str) -> int | None:
    for number, night in history.nights():
        result = night.row(row)
        if result is not None and not result.error:
            return number
    return None


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= 60 else f"{text[:16]}…"
