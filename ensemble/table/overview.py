"""What a table holds, and in what two tables differ: values for a person or a program."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ensemble.table.commit_log import Commit


@dataclass(frozen=True)
class ColumnSummary:
    """One column.

    Attributes:
        member: What it was called last.
        column: Its identity.
        identity: What that is made of.
        shards: Files.
        rows: Images with a row.
        bad: Images without one, for a reason.
        size_bytes: Of the files.
        dtype: How numbers are stored.
        seconds: Of its forward passes.
        forward_passes: How many.
        hosts: Who computed and committed it.
        first: When the first file was committed.
        last: When the last one was.
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
    first: str
    last: str


def summarise(commits: Sequence[Commit]) -> tuple[ColumnSummary, ...]:
    """One summary a column, in the order they came."""
    by_column: dict[str, list[Commit]] = {}
    for commit in commits:
        by_column.setdefault(commit.column, []).append(commit)
    return tuple(_summarise(ours) for ours in by_column.values())


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
        first=times[0],
        last=times[-1],
    )


@dataclass(frozen=True)
class Difference:
    """How a member's column stands in two tables.

    Attributes:
        member: Its name, in the first table that has it.
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
    found, seen = [], set()
    for column in a:
        same, namesake = by_column.get(column.column), by_name.get(column.member)
        if same is not None:
            seen.add(same.column)
            if same.member == column.member:
                found.append(Difference(column.member, "same"))
            else:
                reason = f"called {same.member!r} in B"
                found.append(Difference(column.member, "renamed", (reason,)))
        elif namesake is not None and namesake.column not in {each.column for each in a}:
            seen.add(namesake.column)
            reasons = tuple(_differences(column.identity, namesake.identity))
            found.append(Difference(column.member, "changed", reasons))
        else:
            found.append(Difference(column.member, "only in A"))
    found += [Difference(c.member, "only in B") for c in b if c.column not in seen]
    return tuple(found)


def _differences(a: object, b: object, key: str = "") -> list[str]:
    if isinstance(a, dict) and isinstance(b, dict):
        return [
            line
            for name in sorted(a.keys() | b.keys())
            for line in _differences(a.get(name), b.get(name), f"{key}.{name}" if key else name)
        ]
    return [] if a == b else [f"{key}: {_short(a)} -> {_short(b)}"]


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:37]}..."
