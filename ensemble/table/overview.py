"""A summary of each column of a table, and the differences between two tables."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ensemble.table.log_entry import Commit

UNKNOWN_KIND = "unknown"


@dataclass(frozen=True)
class ColumnSummary:
    """A summary of one column.

    Attributes:
        member: Name of the member in the last commit.
        column: Identity of the column.
        identity: Everything that the column's fingerprint is made of.
        shards: Number of shard files.
        rows: Number of images with a row.
        bad: Number of images with a reason instead of a row.
        size_bytes: Size of the shard files.
        dtype: How the numbers are stored.
        seconds: Time that the forward passes took.
        forward_passes: Number of forward passes.
        hosts: Names of the machines that committed the shards.
        rows_by_device_kind: Number of rows that each kind of device computed; `unknown` where the
            commits do not say.
        first: Time at which the first shard was committed, in UTC and ISO 8601.
        last: Time at which the last shard was committed.
    """

    member: str
    column: str
    identity: dict[str, object]
    shards: int
    rows: int
    bad: int
    size_bytes: int
    dtype: str
    seconds: float
    forward_passes: int
    hosts: tuple[str, ...]
    rows_by_device_kind: dict[str, int]
    first: str
    last: str

    @property
    def is_mixed(self) -> bool:
        """Whether more than one kind of device is known to have computed rows."""
        return len(self.rows_by_device_kind.keys() - {UNKNOWN_KIND}) > 1


def summarise(commits: Sequence[Commit]) -> tuple[ColumnSummary, ...]:
    """Summarise each column, in the order of their first commits."""
    by_column: dict[str, list[Commit]] = {}
    for commit in commits:
        by_column.setdefault(commit.column, []).append(commit)
    return tuple(_summarise(of_column) for of_column in by_column.values())


def _summarise(commits: list[Commit]) -> ColumnSummary:
    times = sorted(commit.committed_at for commit in commits)
    last = commits[-1]
    return ColumnSummary(
        member=last.name,
        column=last.column,
        identity=last.identity,
        shards=len(commits),
        rows=sum(commit.rows for commit in commits),
        bad=sum(len(commit.bad) for commit in commits),
        size_bytes=sum(commit.size_bytes for commit in commits),
        dtype=", ".join(sorted({commit.dtype for commit in commits})),
        seconds=sum(commit.seconds for commit in commits),
        forward_passes=sum(commit.forward_passes for commit in commits),
        hosts=tuple(sorted({commit.host for commit in commits})),
        rows_by_device_kind=_rows_by_device_kind(commits),
        first=times[0],
        last=times[-1],
    )


def _rows_by_device_kind(commits: Sequence[Commit]) -> dict[str, int]:
    rows = Counter[str]()
    for commit in commits:
        if commit.rows:
            rows[commit.device_kind or UNKNOWN_KIND] += commit.rows
    return dict(sorted(rows.items()))


@dataclass(frozen=True)
class Difference:
    """The difference between a member's columns in two tables, A and B.

    Attributes:
        member: Name of the member in the first table that has it.
        state: `same`, `renamed`, `changed`, `only in A`, `only in B`.
        reasons: Keys of the identity that differ, with both values.
    """

    member: str
    state: str
    reasons: tuple[str, ...] = ()


def compare(a: Sequence[ColumnSummary], b: Sequence[ColumnSummary]) -> tuple[Difference, ...]:
    """Compare columns by identity first, and by name where identities differ."""
    by_column = {column.column: column for column in b}
    by_name = {column.member: column for column in b}
    differences, seen = [], set()
    for column in a:
        same, namesake = by_column.get(column.column), by_name.get(column.member)
        if same is not None:
            seen.add(same.column)
            if same.member == column.member:
                differences.append(Difference(column.member, "same"))
            else:
                reason = f"called {same.member!r} in B"
                differences.append(Difference(column.member, "renamed", (reason,)))
        elif namesake is not None and namesake.column not in {each.column for each in a}:
            seen.add(namesake.column)
            reasons = tuple(list_differences(column.identity, namesake.identity))
            differences.append(Difference(column.member, "changed", reasons))
        else:
            differences.append(Difference(column.member, "only in A"))
    differences += [Difference(c.member, "only in B") for c in b if c.column not in seen]
    return tuple(differences)


def list_differences(a: object, b: object, key: str = "") -> list[str]:
    """List the keys of two identities that differ, with both values: `views.kind: 'center' -> 'ten_crop'`."""
    if isinstance(a, dict) and isinstance(b, dict):
        return [
            line
            for name in sorted(a.keys() | b.keys())
            for line in list_differences(a.get(name), b.get(name), f"{key}.{name}" if key else name)
        ]
    return [] if a == b else [f"{key}: {_short(a)} -> {_short(b)}"]


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:37]}..."
