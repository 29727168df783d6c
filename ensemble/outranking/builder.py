"""Builds the outranking table while predictions arrive, a window of images at a time."""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from jaxtyping import Float, Int, Shaped

from ensemble.errors import EmptySplitError, TableError
from ensemble.outranking.contested import (
    Columns,
    ContestedBlock,
    Workspace,
    check_window,
    contested_pairs,
)
from ensemble.outranking.fixed_point import fraction_bits
from ensemble.outranking.pairs import bounds
from ensemble.outranking.table import OutrankingTable

_BLOCK_VALUES = 1 << 19  # of one member: 524 images of 1000 classes; smaller keep threads waiting


def from_columns(
    columns: Mapping[str, Float[np.ndarray, "image class"]],
    labels: Shaped[np.ndarray, " image"],
    threads: int = 1,
) -> OutrankingTable:
    """Build a table from whole columns of log-probabilities.

    Args:
        columns: Log of the softmax averaged over views, by member name; as in
            `OutrankingBuilder.add`.
        labels: Class index of each image.
        threads: Threads that read columns side by side.

    Raises:
        ShapeError: Members, images or classes do not agree with the labels.
        TableError: A label is not a class, or a value is too large for a log-probability.
        EmptySplitError: There is no image.
    """
    builder = OutrankingBuilder(tuple(columns), threads)
    builder.add(list(columns.values()), labels)
    return builder.finish()


class OutrankingBuilder:
    """Builds an outranking table from windows of images, as predictions arrive.

    The result does not depend on how the images were cut into windows, nor on `threads`.
    """

    def __init__(self, member_names: Sequence[str], threads: int = 1) -> None:
        if not member_names or len(set(member_names)) != len(member_names):
            raise TableError(f"members {list(member_names)}: expected at least one, all different.")
        self._member_names = tuple(member_names)
        self._threads = threads
        self._bits = fraction_bits(len(self._member_names))
        self._labels: list[Int[np.ndarray, " image"]] = []
        self._blocks: list[ContestedBlock] = []
        self._workspaces: list[Workspace] = []  # those that no thread is using
        self._num_classes = 0

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
        starts = iter(range(0, len(labels), num_images))  # each thread takes the next from it
        blocks: dict[int, ContestedBlock] = {}

        def read() -> None:
            workspace = self._workspaces.pop() if self._workspaces else Workspace.of(columns)
            if not workspace.is_for(columns):
                workspace = Workspace.of(columns)
            for first in starts:
                part = slice(first, first + num_images)
                block = [column[part] for column in columns]
                blocks[first] = contested_pairs(block, labels[part], self._bits, workspace)
            self._workspaces.append(workspace)

        with ThreadPoolExecutor(max(1, self._threads - 1)) as pool:
            others = [pool.submit(read) for _ in range(self._threads - 1)]
            read()
            for other in others:
                other.result()
        self._blocks += [blocks[first] for first in sorted(blocks)]
        self._labels.append(labels)

    def finish(self) -> OutrankingTable:
        """Put the windows together.

        Raises:
            EmptySplitError: No image was added.
        """
        if not self._blocks:
            raise EmptySplitError("no image was added; an outranking table needs at least one.")
        labels, whole = np.concatenate(self._labels), ContestedBlock.concatenate(self._blocks)
        return OutrankingTable(
            member_names=self._member_names,
            labels=labels,
            num_classes=self._num_classes,
            bits=self._bits,
            indptr=bounds(whole.num_pairs),
            classes=whole.classes,
            differences=whole.differences,
            num_certain=np.zeros(len(labels), dtype=np.int32),
            true_probabilities=np.ascontiguousarray(whole.label_scores.T) * 2.0**-self._bits,
            broken=np.ascontiguousarray(whole.broken.T),
            ranks=np.ascontiguousarray(whole.ranks.T),
        )
