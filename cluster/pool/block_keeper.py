"""Blocks that stay in Ray's object store until the outranking table has what it needs of them.

The driver owns the references and never gets a row: where all members have a shard, a task reads their
blocks without a copy on the node that has most of them, and the driver gets the contested pairs.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import ray
from jaxtyping import Float, Int
from ray import exceptions as ray_exceptions

from cluster.pool.ray_errors import translate
from cluster.scheduling.failures import Cause
from ensemble.errors import ClusterError, ProjectError
from ensemble.images.index import ImageIndex
from ensemble.images.shard import ShardSpec
from ensemble.members.member import Member
from ensemble.outranking.builder import OutrankingBuilder
from ensemble.outranking.combine import Combine
from ensemble.outranking.piece import OutrankingPiece
from ensemble.storage.open import open_store
from ensemble.table.log_entry import Commit
from ensemble.table.shard_reader import load_shard
from ensemble.table.shard_writer import Receipt, ShardWriter

_MB = 1 << 20


@dataclass(frozen=True)
class _Rows:
    """Where a member's rows of some images are.

    Attributes:
        commits: Log entries of the files that have them, in order.
        block: Which of the kept blocks has them; none if they are read from the files.
        view: Place of the member in that block.
        rows: Their numbers in the block; all of them, in order, if None.
    """

    commits: tuple[Commit, ...]
    block: int | None
    view: int
    rows: Int[np.ndarray, " row"] | None


@dataclass(frozen=True)
class _Part:
    """Images that follow one another, and all that a task needs to make their piece of the table.

    Attributes:
        labels: Class index of each image.
        first: Place of the first one in the whole table.
        member_names: The pool.
        sources: Where the rows of each member are.
        writer: Says where the files are.
        combines: Means that are wanted.
    """

    labels: Int[np.ndarray, " image"]
    first: int
    member_names: tuple[str, ...]
    sources: tuple[_Rows, ...]
    writer: ShardWriter
    combines: tuple[Combine, ...]


@ray.remote(num_cpus=0, max_retries=3)  # type: ignore[untyped-decorator]
def _make_piece(part: _Part, *blocks: list[np.ndarray]) -> OutrankingPiece:
    builder = OutrankingBuilder(part.member_names, combines=part.combines, first_image=part.first)
    columns = [_read(source, blocks, part.writer) for source in part.sources]
    builder.add(columns, part.labels)
    return builder.finish_piece()


def _read(
    source: _Rows, blocks: Sequence[list[np.ndarray]], writer: ShardWriter
) -> Float[np.ndarray, "image class"]:
    """Give rows as `LogitTable.read` would: float32, whatever they are stored as."""
    if source.block is not None:
        rows = blocks[source.block][source.view]
    else:
        store = open_store(writer.place, writer.storage)
        rows = np.concatenate([load_shard(store, commit) for commit in source.commits])
    rows = rows if source.rows is None else rows[source.rows]
    return rows.astype(np.float32, copy=False)


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
        if spec not in self._arrivals:
            self._arrivals[spec] = {}
            self._shard_of |= dict.fromkeys(spec.image_ids, spec)
        arrivals = [_Arrival(receipt.commits, ref, view) for view, receipt in enumerate(receipts)]
        size = sum(arrival.size_bytes for arrival in arrivals)
        if self.size_bytes + size > self._most_bytes:
            arrivals = [replace(arrival, ref=None) for arrival in arrivals]
        else:
            self.size_bytes += size
            self.largest_bytes = max(self.largest_bytes, self.size_bytes)
        for member, arrival in zip(members, arrivals, strict=True):
            self._arrivals[spec][member.column] = arrival

    def start_piece(self, images: ImageIndex, first: int) -> "PieceTask | None":
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
            sources.append(_Rows(arrival.commits, block, arrival.view, rows_or_all))
        assert spec is not None
        names = tuple(member.name for member in self._members)
        part = _Part(images.labels, first, names, tuple(sources), self._writer, self._combines)
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
    places = {image_id: place for place, image_id in enumerate(ids)}
    if any(image_id not in places for image_id in wanted):
        return None
    return np.array([places[image_id] for image_id in wanted], np.int64)


class PieceTask:
    """A piece of the outranking table under way.

    Args:
        part: The images' labels, and where their rows are.
        refs: References to the kept blocks.
        on_done: Called once the piece is made.
    """

    def __init__(self, part: _Part, refs: Sequence[Any], on_done: Callable[[], None]) -> None:
        self._part, self._on_done = part, on_done
        self._ref = _make_piece.remote(part, *refs)

    def is_done(self) -> bool:
        """Tell whether `result` would not wait."""
        return bool(ray.wait([self._ref], timeout=0)[0])

    def result(self) -> OutrankingPiece:
        """Wait for the piece; where blocks were lost, it is made of their files.

        Raises:
            ClusterError: The task failed in another way.
            TableError: A file is damaged.
        """
        try:
            piece: OutrankingPiece = ray.get(self._ref)
        except ray_exceptions.RayError as error:
            if translate(error)[0] is Cause.OWN_CODE:
                raise _explained(error) from error
            sources = tuple(replace(rows, block=None) for rows in self._part.sources)
            try:
                piece = ray.get(_make_piece.remote(replace(self._part, sources=sources)))
            except ray_exceptions.RayError as again:
                raise _explained(again) from again
        self._on_done()
        return piece


def _explained(error: ray_exceptions.RayError) -> ProjectError:
    original = error.cause if isinstance(error, ray_exceptions.RayTaskError) else error
    if isinstance(original, ProjectError):
        return original
    return ClusterError(f"making a piece of the outranking table failed: {translate(error)[1]}")
