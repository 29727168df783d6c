"""Reading the logit table: columns at their temperatures, a window of images at a time.

No stage has every row of every member in memory. What is made from the rows, averages and outcomes,
is in `outcome`.
"""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, Int, Shaped

from ensemble.evaluation.calibration import apply_temperature
from ensemble.images.index import ImageIndex
from ensemble.members.member import Member
from ensemble.outranking.builder import OutrankingBuilder
from ensemble.outranking.combine import Combine
from ensemble.outranking.piece import OutrankingPiece
from ensemble.outranking.table import OutrankingTable
from ensemble.table.logit_table import LogitTable

WINDOW_IMAGES = 1024


@runtime_checkable
class Column(Protocol):
    """A column of the table and the temperature at which it is read; a `Member` is one."""

    @property
    def name(self) -> str:
        """Name of the member."""

    @property
    def column(self) -> str:
        """Identity of the column in the table."""

    @property
    def temperature(self) -> float:
        """Temperature of the member's probabilities; 1 leaves them as they are."""


@dataclass(frozen=True)
class ColumnAtTemperature:
    """A `Column` whose member is not loaded.

    Attributes:
        name: Name of the member.
        column: Identity of the column in the table.
        temperature: Temperature of the member's probabilities; 1 leaves them as they are.
    """

    name: str
    column: str
    temperature: float = 1.0


def read_column(
    table: LogitTable, column: Column, image_ids: Sequence[str] | Shaped[np.ndarray, "image"]
) -> Float[np.ndarray, "image class"]:
    """Read the log-probabilities of a member at its temperature.

    Raises:
        IncompleteTableError: The table lacks the row of an image.
    """
    return apply_temperature(table.read(column.column, image_ids), column.temperature)


def read_windows(
    table: LogitTable, columns: Sequence[Column], images: ImageIndex
) -> Iterator[tuple[list[Float[np.ndarray, "image class"]], Int[np.ndarray, " image"]]]:
    """Read all columns and the labels, at most `WINDOW_IMAGES` images at a time.

    Raises:
        IncompleteTableError: The table lacks the row of an image.
    """
    for start in range(0, len(images), WINDOW_IMAGES):
        window = slice(start, start + WINDOW_IMAGES)
        ids = images.image_ids[window]
        yield [read_column(table, column, ids) for column in columns], images.labels[window]


def build_outranking(
    table: LogitTable,
    columns: Sequence[Column],
    images: ImageIndex,
    threads: int = 1,
    combines: Sequence[Combine] = ("probabilities",),
) -> OutrankingTable:
    """Build the outranking table of a split.

    Args:
        table: The logit table, with a row of every column for every image.
        columns: The members, in pool order.
        images: Images of the split.
        threads: Threads that build side by side; the result does not depend on them.
        combines: Means of what the search is about, as `SearchConfig.combines` says.

    Raises:
        EmptySplitError: There is no image.
        IncompleteTableError: The table lacks the row of an image.
    """
    builder = OutrankingBuilder(tuple(column.name for column in columns), threads, combines)
    for rows, labels in read_windows(table, columns, images):
        builder.add(rows, labels)
    return builder.finish()


@runtime_checkable
class PieceHandle(Protocol):
    """A piece of an outranking table that is being made elsewhere."""

    def is_done(self) -> bool:
        """Tell whether `result` would not wait."""

    def result(self) -> OutrankingPiece:
        """Wait for the piece."""


# Starts to make the piece of some images, the first of which has this place in the whole table; None where
# that cannot be done, so that the rows are read here.
StartPiece = Callable[[ImageIndex, int], PieceHandle | None]


class StreamingOutranking:
    """The outranking table of a split, built while blocks arrive: what `build_outranking` gives.

    Args:
        table: The logit table that blocks arrive in.
        members: The members, in pool order.
        images: Images of the split.
        shard_images: Images of a shard, from the first image of the split on.
        combines: As in `build_outranking`.
        start_piece: Makes pieces elsewhere, so that no row is read here.
        most_pieces: Number of pieces that are made at a time.
    """

    def __init__(
        self,
        table: LogitTable,
        members: Sequence[Member],
        images: ImageIndex,
        shard_images: int,
        combines: Sequence[Combine] = ("probabilities",),
        start_piece: StartPiece | None = None,
        most_pieces: int = 1,
    ) -> None:
        self._table, self._members, self._images = table, members, images
        self._columns = [member.column for member in members]
        self._shard_images = shard_images
        self._combines = combines
        names = tuple(member.name for member in members)
        self._builder = OutrankingBuilder(names, combines=combines)
        self._start_piece, self._most_pieces = start_piece, most_pieces
        self._pieces: deque[PieceHandle] = deque()
        self._next = 0
        self._read: list[str] = []

    def read_landed(self) -> None:
        """Read every shard that all members have by now, up to the first that one of them lacks.

        While as many pieces are being made as may be, the others are left to the next call.
        """
        self._read_in_order(is_waiting=False)

    def _read_in_order(self, is_waiting: bool) -> None:
        while self._next < len(self._images):
            rows = np.arange(self._next, min(self._next + self._shard_images, len(self._images)))
            ids = self._images.image_ids[rows]
            if any(self._table.missing(column, ids) for column in self._columns):
                break
            while len(self._pieces) >= self._most_pieces:
                if not is_waiting and not self._pieces[0].is_done():
                    return
                self._append_next()
            bad = {image.image_id for image in self._table.bad_images(self._columns)}
            part = self._images.take(rows[[str(i) not in bad for i in ids]])
            if len(part):
                self._read_part(part)
            self._read += part.image_ids.tolist()
            self._next += len(rows)
        while self._pieces and self._pieces[0].is_done():
            self._append_next()

    def finish(self, images: ImageIndex) -> OutrankingTable:
        """Give the table of the remaining images once all blocks are there.

        Where these are not the images that were read, all of them are read again.

        Args:
            images: Images of the split without those that could not be decoded.

        Raises:
            EmptySplitError: No image remains.
            IncompleteTableError: The table lacks a block.
        """
        self._read_in_order(is_waiting=True)
        while self._pieces:
            self._append_next()
        if self._read and self._read == images.image_ids.tolist():
            return self._builder.finish()
        return build_outranking(self._table, self._members, images, combines=self._combines)

    def _read_part(self, part: ImageIndex) -> None:
        first = len(self._read)
        handle = self._start_piece(part, first) if self._start_piece else None
        if handle is not None:
            self._pieces.append(handle)
            return
        while self._pieces:
            self._append_next()
        for columns, labels in read_windows(self._table, self._members, part):
            self._builder.add(columns, labels)

    def _append_next(self) -> None:
        self._builder.append(self._pieces.popleft().result())
