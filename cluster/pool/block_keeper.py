"""Blocks that stay in Ray's object store until the outranking table has what it needs of them.

The driver owns the references and never gets a row: where all members have a shard, a task reads their
blocks without a copy on the node that has most of them, and the driver gets the contested pairs.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Int

from cluster.pool.piece_task import Part, PieceTask, Rows
from ensemble.images.index import ImageIndex
from ensemble.images.shard import ShardSpec
from ensemble.members.member import Member
from ensemble.outranking.combine import Combine
from ensemble.table.log_entry import Commit
from ensemble.table.shard_writer import Receipt, ShardWriter

_MB = 1 << 20


@dataclass(frozen=True)
class _Arrival:
    """A block that is durable: its files, and its rows if they were kept."""

    commits: tuple[Commit, ...]
    ref: Any
    view: int

    @property
    def size_bytes(self) -> int:
        return sum(c.rows * c.classes * np.dtype(c.dtype).itemsize for c in self.commits)


class BlockKeeper:
    """Blocks of some members, from their arrival until their piece of the outranking table is made.

    Args:
        members: The pool, in order.
        writer: What the workers write with.
        combines: Means that the table is wanted for.
        most_mb: Size of the blocks that are kept at a time, in MB; the rows of others are read from their
            files.
    """

    def __init__(
        self,
        members: Sequence[Member],
        writer: ShardWriter,
        combines: Sequence[Combine],
        most_mb: float,
    ) -> None:
        self._members, self._writer = tuple(members), writer
        self._combines: tuple[Combine, ...] = tuple(combines)
        self._most_bytes = most_mb * _MB
        self._arrivals: dict[ShardSpec, dict[str, _Arrival]] = {}
        self._shard_of: dict[str, ShardSpec] = {}
        self.size_bytes = 0
        self.largest_bytes = 0
        self.read_from_files = 0

    def learn(self, specs: Iterable[ShardSpec], commits: Iterable[Commit]) -> None:
        """Note what is in the table already, in shards of any size; it is read from its files.

        Args:
            specs: Shards that will come, or have come.
            commits: All of the table, in their order.
        """
        for spec in specs:
            self._expect(spec)
        columns = {member.column for member in self._members}
        for commit in commits:
            if commit.column not in columns:
                continue
            found = {self._shard_of[i] for i in commit.image_ids if i in self._shard_of}
            for spec in found:
                arrivals = self._arrivals[spec]
                before = arrivals.get(commit.column, _Arrival((), None, 0))
                arrivals[commit.column] = replace(before, commits=(*before.commits, commit))

    def _expect(self, spec: ShardSpec) -> None:
        if spec not in self._arrivals:
            self._arrivals[spec] = {}
            self._shard_of |= dict.fromkeys(spec.image_ids, spec)

    def keep(
        self, spec: ShardSpec, members: Sequence[Member], receipts: Sequence[Receipt], ref: Any
    ) -> None:
        """Note that a network's blocks of a shard are durable, and keep their rows if there is room.

        Args:
            spec: The shard.
            members: The members that the network predicted.
            receipts: What the worker handed over for each.
            ref: Reference to the list of their rows, as they are stored.
        """
        self._expect(spec)
        arrivals = [_Arrival(receipt.commits, ref, view) for view, receipt in enumerate(receipts)]
        size = sum(arrival.size_bytes for arrival in arrivals)
        if self.size_bytes + size > self._most_bytes:
            arrivals = [replace(arrival, ref=None) for arrival in arrivals]
        else:
            self.size_bytes += size
            self.largest_bytes = max(self.largest_bytes, self.size_bytes)
        for member, arrival in zip(members, arrivals, strict=True):
            before = self._arrivals[spec].get(member.column)
            if before is None:
                self._arrivals[spec][member.column] = arrival
                continue
            # Some of its images were there: these rows are the ones that count.
            commits = (*before.commits, *arrival.commits)
            self._arrivals[spec][member.column] = _Arrival(commits, None, 0)
            self.size_bytes -= arrival.size_bytes if arrival.ref is not None else 0

    def start_piece(self, images: ImageIndex, first: int) -> PieceTask | None:
        """Start to make the piece of some images of one shard; None if not all of their blocks came by here.

        Args:
            images: The images.
            first: Place of the first one in the whole table.
        """
        spec = self._shard_of.get(str(images.image_ids[0]))
        arrivals = self._arrivals.get(spec, {}) if spec is not None else {}
        found = [arrivals.get(member.column) for member in self._members]
        refs: list[Any] = []
        sources = []
        for arrival in found:
            rows = _find_rows(arrival.commits, images) if arrival else None
            if arrival is None or rows is None:
                return None
            if arrival.ref is not None and arrival.ref not in refs:
                refs.append(arrival.ref)
            block = refs.index(arrival.ref) if arrival.ref is not None else None
            is_whole = len(rows) == sum(c.rows for c in arrival.commits) and bool(
                (rows == np.arange(len(rows))).all()
            )
            rows_or_all = None if is_whole else rows
            sources.append(Rows(arrival.commits, block, arrival.view, rows_or_all))
        assert spec is not None
        names = tuple(member.name for member in self._members)
        part = Part(images.labels, first, names, tuple(sources), self._writer, self._combines)
        self.read_from_files += sum(source.block is None for source in sources)
        return PieceTask(part, refs, lambda: self._let_go(spec))

    def _let_go(self, spec: ShardSpec) -> None:
        arrivals = self._arrivals.pop(spec, {})
        self.size_bytes -= sum(a.size_bytes for a in arrivals.values() if a.ref is not None)


def _find_rows(commits: Sequence[Commit], images: ImageIndex) -> Int[np.ndarray, " row"] | None:
    """Find the rows of images in a block; None if it lacks one."""
    ids = [image_id for commit in commits for image_id in commit.image_ids]
    wanted = images.image_ids.tolist()
    if ids == wanted:
        return np.arange(len(ids))
    # Backwards, because the first row of an image is its row.
    places = {ids[place]: place for place in reversed(range(len(ids)))}
    if any(image_id not in places for image_id in wanted):
        return None
    return np.array([places[image_id] for image_id in wanted], np.int64)
