"""Builds the outranking table while predictions arrive, a window of images at a time."""

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import replace
from threading import Lock

import numpy as np
from jaxtyping import Float, Int, Shaped

from ensemble.errors import EmptySplitError, ShapeError, TableError
from ensemble.outranking.combine import Combine
from ensemble.outranking.contested import (
    Columns,
    ContestedBlock,
    Workspace,
    check_window,
    contested_pairs,
)
from ensemble.outranking.fixed_point import FixedPoint
from ensemble.outranking.likely_classes import LikelyClasses, LikelyReader
from ensemble.outranking.pairs import bounds
from ensemble.outranking.piece import GrowingBlock, GrowingLikely, OutrankingPiece
from ensemble.outranking.side_by_side import side_by_side
from ensemble.outranking.table import OutrankingTable

_BLOCK_VALUES = 1 << 19  # of one member: 524 images of 1000 classes; smaller keep threads waiting
# Images whose likely classes are kept where logarithms are not asked for: how sure members are of
# themselves can then still be told.
_FIRST_SAMPLED, _EVERY_SAMPLED = 512, 16


def from_columns(
    columns: Mapping[str, Float[np.ndarray, "image class"]],
    labels: Shaped[np.ndarray, " image"],
    threads: int = 1,
    combines: Sequence[Combine] = ("probabilities",),
) -> OutrankingTable:
    """Build a table from whole columns of log-probabilities.

    Args:
        columns: Log of the softmax averaged over views, by member name; as in
            `OutrankingBuilder.add`.
        labels: Class index of each image.
        threads: Threads that read columns side by side.
        combines: As in `OutrankingBuilder`.

    Raises:
        ShapeError: Members, images or classes do not agree with the labels.
        TableError: A label is not a class, or a value is too large for a log-probability.
        EmptySplitError: There is no image.
    """
    builder = OutrankingBuilder(tuple(columns), threads, combines)
    builder.add(list(columns.values()), labels)
    return builder.finish()


class OutrankingBuilder:
    """Builds an outranking table from windows of images, as predictions arrive.

    The result does not depend on how the images were cut into windows, nor on `threads`.

    Args:
        member_names: The pool.
        threads: Threads that read columns side by side.
        combines: Means of what are wanted: probabilities always are, logarithms may be. These take
            about as much memory again.
        num_classes: Classes that there are, where the columns hold only those that can outrank a
            label. What a row lacks to 1 is then spread evenly over those that are not shown.
        first_image: Place of the first image in the whole table, where a piece of it is made.
    """

    def __init__(
        self,
        member_names: Sequence[str],
        threads: int = 1,
        combines: Sequence[Combine] = ("probabilities",),
        num_classes: int | None = None,
        first_image: int = 0,
    ) -> None:
        if not member_names or len(set(member_names)) != len(member_names):
            raise TableError(f"members {list(member_names)}: expected at least one, all different.")
        self._member_names = tuple(member_names)
        self._threads = threads
        self._points = [FixedPoint.of(len(self._member_names), "probabilities")]
        if "logs" in combines:
            self._points.append(FixedPoint.of(len(self._member_names), "logs"))
        self._labels: list[Int[np.ndarray, " image"]] = []
        self._contested = [GrowingBlock(len(self._member_names)) for _ in self._points]
        self._likely = GrowingLikely(len(self._member_names))
        self._workspaces: list[Workspace] = []  # those that no thread is using
        self._num_classes = 0
        self._all_classes = num_classes
        self._first_image = self._num_images = first_image

    @property
    def num_images(self) -> int:
        """Number of images of the whole table up to here."""
        return self._num_images

    def add(self, log_probabilities: Columns, labels: Shaped[np.ndarray, " label"]) -> None:
        """Read a window of images; nothing of the input is kept.

        Args:
            log_probabilities: Log of the softmax averaged over views, for every member in order;
                float16, float32 or float64. -inf is a probability of 0, NaN and +inf break a row.
            labels: Class index of each image.

        Raises:
            ShapeError: Members, images or classes do not agree with the labels or earlier windows.
            TableError: A label is not a class, or a value is too large for a log-probability.
        """
        columns = list(log_probabilities)
        self._num_classes = check_window(columns, labels, self._member_names, self._num_classes)
        labels = labels.astype(np.int64)
        share = -(-len(labels) // self._threads)
        num_images = max(1, min(share, _BLOCK_VALUES // self._num_classes))
        starts = range(0, len(labels), num_images)
        waiting, reads = deque(starts), iter(starts)  # each thread reads the next
        done = dict[int, tuple[tuple[ContestedBlock, ...], LikelyClasses]]()
        lock = Lock()

        def read() -> None:
            workspace = self._workspaces.pop() if self._workspaces else Workspace.of(columns)
            if not workspace.is_for(columns):
                workspace = Workspace.of(columns)
            for first in reads:
                part = slice(first, first + num_images)
                reader = self._likely_reader(labels[part], first)
                blocks = contested_pairs(
                    [column[part] for column in columns],
                    labels[part],
                    self._points,
                    workspace,
                    reader.read,
                )
                likely = reader.finish(blocks[0].broken, self._num_images + first)
                # At once: blocks that wait for the last one would all take fresh memory.
                with lock:
                    done[first] = blocks, likely
                    while waiting and waiting[0] in done:
                        self._append(*done.pop(waiting.popleft()))
            self._workspaces.append(workspace)

        side_by_side([read] * self._threads, self._threads)
        self._labels.append(labels)
        self._num_images += len(labels)

    def _append(self, blocks: Sequence[ContestedBlock], likely: LikelyClasses) -> None:
        for growing, block in zip(self._contested, blocks, strict=True):
            growing.append(block)
        self._likely.append(likely)

    def _likely_reader(self, labels: Int[np.ndarray, " image"], first: int) -> LikelyReader:
        """Keep the likely classes of all images of a block, or of those that the sample has."""
        rows = np.arange(len(labels))
        if len(self._points) == 1:
            index = rows + first + self._num_images
            rows = rows[(index < _FIRST_SAMPLED) | (index % _EVERY_SAMPLED == 0)]
        num_classes = self._all_classes or self._num_classes
        return LikelyReader(len(self._member_names), labels, rows, self._num_classes, num_classes)

    def append(self, piece: OutrankingPiece) -> None:
        """Put the piece of the images that follow behind the others, as if their rows had been read here.

        Raises:
            ShapeError: The piece is of other images than those that follow, or of other classes.
        """
        num_classes = self._num_classes or piece.num_classes
        if (piece.first_image, piece.num_classes) != (self._num_images, num_classes):
            raise ShapeError(
                f"a piece begins at image {piece.first_image} and has {piece.num_classes} classes; expected "
                f"one that begins at image {self._num_images} and has {num_classes}."
            )
        self._num_classes = num_classes
        self._append(piece.contested, piece.likely)
        self._labels.append(piece.labels)
        self._num_images += len(piece.labels)

    def finish_piece(self) -> OutrankingPiece:
        """Put the windows together as a piece of a larger table; nothing can be added then.

        Raises:
            EmptySplitError: No image was added.
        """
        self._check_not_empty()
        return OutrankingPiece(
            labels=np.concatenate(self._labels),
            contested=tuple(growing.finish(self._threads) for growing in self._contested),
            likely=self._likely.finish(self._threads),
            num_classes=self._num_classes,
            first_image=self._first_image,
        )

    def _check_not_empty(self) -> None:
        if self._num_images == self._first_image:
            raise EmptySplitError("no image was added; an outranking table needs at least one.")

    def finish(self) -> OutrankingTable:
        """Put the windows together; nothing can be added then.

        Raises:
            EmptySplitError: No image was added.
        """
        self._check_not_empty()
        labels = np.concatenate(self._labels)
        likely = self._likely.finish(self._threads)
        tables = [
            self._table(point, growing.finish(self._threads), labels, likely)
            for point, growing in zip(self._points, self._contested, strict=True)
        ]
        return replace(tables[0], logs=tables[1]) if len(tables) > 1 else tables[0]

    def _table(
        self,
        point: FixedPoint,
        whole: ContestedBlock,
        labels: Int[np.ndarray, " image"],
        likely: LikelyClasses,
    ) -> OutrankingTable:
        return OutrankingTable(
            member_names=self._member_names,
            labels=labels,
            num_classes=self._num_classes,
            bits=point.bits,
            indptr=bounds(whole.num_pairs),
            classes=whole.classes,
            differences=whole.differences,
            num_certain=np.zeros(len(labels), dtype=np.int32),
            true_probabilities=label_probabilities(point, whole),
            broken=np.ascontiguousarray(whole.broken.T),
            ranks=np.ascontiguousarray(whole.ranks.T),
            combine=point.combine,
            likely=likely,
        )


def label_probabilities(
    point: FixedPoint, whole: ContestedBlock
) -> Float[np.ndarray, "image member"]:
    """Give the probability of the label by each member, from its fixed-point score; 0 where broken."""
    probabilities = point.probabilities(np.ascontiguousarray(whole.label_scores.T))
    probabilities[whole.broken.T] = 0
    return probabilities
