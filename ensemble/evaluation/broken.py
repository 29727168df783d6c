"""Members whose predictions are no numbers: named, and kept out of the search and of every comparison.

A row with NaN makes the average of its image a miss, whatever the other members say. A member with
many such rows would make the plain average of the pool look bad, and any ensemble without it good.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int

from ensemble.errors import DataError
from ensemble.evaluation.reading import Column, read_windows
from ensemble.images.index import ImageIndex
from ensemble.table.logit_table import LogitTable

# Share of the images up to which broken rows count as errors of the member and no more. They change
# the error of an average by as much at most.
TOLERATED_SHARE = 0.001


def count_broken(
    table: LogitTable, columns: Sequence[Column], images: ImageIndex
) -> Int[np.ndarray, " member"]:
    """Count for each member the images on which its row has NaN or infinity.

    Raises:
        IncompleteTableError: The table lacks the row of an image.
    """
    counts = np.zeros(len(columns), np.int64)
    for rows, _ in read_windows(table, columns, images):
        # A maximum carries NaN on, and NaN is not below infinity.
        counts += [int((~(part.max(axis=1) < np.inf)).sum()) for part in rows]
    return counts


@dataclass(frozen=True)
class SoundMembers:
    """The members of a pool whose predictions are numbers, and what is said of the others.

    Attributes:
        kept: Indices of the members that stay.
        left_out: Names of the others.
        notes: A sentence for each of the others.
    """

    kept: tuple[int, ...]
    left_out: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def leave_out_broken(
    names: Sequence[str], num_broken: Int[np.ndarray, " member"], num_images: int
) -> SoundMembers:
    """Choose the members whose predictions are numbers.

    Args:
        names: Names of the members.
        num_broken: Number of images on which each one's row has NaN or infinity.
        num_images: Number of images in all.

    Raises:
        DataError: No member stays.
    """
    is_broken = num_broken > TOLERATED_SHARE * num_images
    sentences = tuple(
        f"{name} is left out of the search and of every comparison: it predicted NaN or infinity on "
        f"{count:,} of {num_images:,} images of the search split. Its training may have diverged, or its "
        "precision is too small for it: try precision: float32, or other weights."
        for name, count, broken in zip(names, num_broken.tolist(), is_broken, strict=True)
        if broken
    )
    if is_broken.all():
        raise DataError(f"no member is left to search with. {' '.join(sentences)}")
    left_out = tuple(names[index] for index in np.flatnonzero(is_broken).tolist())
    return SoundMembers(tuple(np.flatnonzero(~is_broken).tolist()), left_out, sentences)
