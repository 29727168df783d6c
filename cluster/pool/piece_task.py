"""Tasks that make a piece of the outranking table where the rows of its images are."""

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
from ensemble.outranking.builder import OutrankingBuilder
from ensemble.outranking.combine import Combine
from ensemble.outranking.piece import OutrankingPiece
from ensemble.storage.open import open_store
from ensemble.table.log_entry import Commit
from ensemble.table.shard_reader import load_shard
from ensemble.table.shard_writer import ShardWriter


@dataclass(frozen=True)
class Rows:
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
class Part:
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
    sources: tuple[Rows, ...]
    writer: ShardWriter
    combines: tuple[Combine, ...]


@ray.remote(num_cpus=0, max_retries=3)  # type: ignore[untyped-decorator]
def _make_piece(part: Part, *blocks: list[np.ndarray]) -> OutrankingPiece:
    builder = OutrankingBuilder(part.member_names, combines=part.combines, first_image=part.first)
    columns = [_read(source, blocks, part.writer) for source in part.sources]
    builder.add(columns, part.labels)
    return builder.finish_piece()


def _read(
    source: Rows, blocks: Sequence[list[np.ndarray]], writer: ShardWriter
) -> Float[np.ndarray, "image class"]:
    """Give rows as `LogitTable.read` would: float32, whatever they are stored as."""
    if source.block is not None:
        rows = blocks[source.block][source.view]
    else:
        store = open_store(writer.place, writer.storage)
        rows = np.concatenate([load_shard(store, commit) for commit in source.commits])
    rows = rows if source.rows is None else rows[source.rows]
    return rows.astype(np.float32, copy=False)


class PieceTask:
    """A piece of the outranking table under way.

    Args:
        part: The images' labels, and where their rows are.
        refs: References to the kept blocks.
        on_done: Called once the piece is made.
    """

    def __init__(self, part: Part, refs: Sequence[Any], on_done: Callable[[], None]) -> None:
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
