"""How far two kinds of device differ on the same rows, where two tables hold a column of one identity."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from ensemble.table.logit_table import LogitTable

_ROWS_AT_ONCE = 4096


@dataclass(frozen=True)
class KindDifference:
    """The difference between rows of one column that two kinds of device computed.

    Attributes:
        member: Name of the member in the first table.
        column: Identity of the column.
        kinds: Kind of device in the first table and in the second.
        rows: Number of images that both computed.
        largest: Largest difference of a probability.
        answers: Number of images whose most probable class differs.
    """

    member: str
    column: str
    kinds: tuple[str, str]
    rows: int
    largest: float
    answers: int

    def describe(self) -> str:
        """Describe the difference in one line."""
        return (
            f"{self.member}: {self.kinds[0]} and {self.kinds[1]} computed the same {self.rows} rows: "
            f"{self.answers} answers differ, and probabilities by up to {self.largest:.1e}"
        )


def compare_kinds(a: LogitTable, b: LogitTable) -> tuple[KindDifference, ...]:
    """Compare the rows that both tables have of one column, where different kinds computed them.

    Args:
        a: The first table; rows without a recorded kind are left out, in both tables.
        b: The second table.

    Raises:
        DamagedTableError: A shard is not what was committed.
    """
    ids_a, ids_b = _ids_by_kind(a), _ids_by_kind(b)
    names = {commit.column: commit.name for commit in a.commits()}
    return tuple(
        _compare(a, b, names[column], column, (kind_a, kind_b), sorted(ids & others))
        for (column, kind_a), ids in ids_a.items()
        for (other_column, kind_b), others in ids_b.items()
        if column == other_column and kind_a != kind_b and ids & others
    )


def _ids_by_kind(table: LogitTable) -> dict[tuple[str, str], set[str]]:
    """List the image ids of each column that each kind of device computed."""
    ids: dict[tuple[str, str], set[str]] = {}
    for commit in table.commits():
        if commit.device_kind is not None:
            ids.setdefault((commit.column, commit.device_kind), set()).update(commit.image_ids)
    return ids


def _compare(
    a: LogitTable,
    b: LogitTable,
    member: str,
    column: str,
    kinds: tuple[str, str],
    image_ids: list[str],
) -> KindDifference:
    largest, answers = 0.0, 0
    for ids in _windows(image_ids):
        first, second = a.read(column, ids), b.read(column, ids)
        largest = max(largest, float(np.abs(np.exp(first) - np.exp(second)).max(initial=0.0)))
        answers += int((first.argmax(axis=1) != second.argmax(axis=1)).sum())
    return KindDifference(member, column, kinds, len(image_ids), largest, answers)


def _windows(image_ids: list[str]) -> Iterator[list[str]]:
    for start in range(0, len(image_ids), _ROWS_AT_ONCE):
        yield image_ids[start : start + _ROWS_AT_ONCE]
