"""A table grows by images or by a member: the same, bit for bit, as one built from everything at once.

Images are independent of each other, so theirs are concatenated. A further member contests pairs that
no member did before; only for these are the old members' predictions needed again.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from jaxtyping import Float, Int, Int32

from ensemble.errors import ConfigError, ShapeError, TableError
from ensemble.outranking.contested import ContestedBlock, Workspace, check_window, contested_pairs
from ensemble.outranking.fixed_point import FixedPoint, quantise
from ensemble.outranking.likely_classes import LikelyClasses
from ensemble.outranking.pairs import bounds
from ensemble.outranking.table import OutrankingTable

ReadOld = Callable[[Int[np.ndarray, " image"]], Sequence[Float[np.ndarray, "image class"]]]
"""Gives the log-probabilities of every old member, in pool order, for some images by their index."""

_BLOCK_VALUES = 1 << 17


def append_images(first: OutrankingTable, second: OutrankingTable) -> OutrankingTable:
    """Put the images of a second table behind those of a first.

    Raises:
        TableError: The tables have different members or classes.
        ConfigError: A table is boxed, or its images do not count once each.
    """
    for table in (first, second):
        _check_whole(table)
    pools = [(table.member_names, table.num_classes, table.combines) for table in (first, second)]
    if pools[0] != pools[1]:
        raise TableError(
            f"the tables are of {pools[0][0]} with {pools[0][1]} classes and means of {pools[0][2]}, and "
            f"of {pools[1][0]} with {pools[1][1]} and {pools[1][2]}; expected the same members in the "
            "same order, the same classes and the same means."
        )

    def joined(name: str, axis: int = 0) -> np.ndarray:
        return np.concatenate([getattr(first, name), getattr(second, name)], axis=axis)

    return replace(
        first,
        labels=joined("labels"),
        indptr=np.concatenate([first.indptr, second.indptr[1:] + first.num_pairs]),
        classes=joined("classes"),
        differences=joined("differences", axis=1),
        num_certain=joined("num_certain"),
        true_probabilities=joined("true_probabilities"),
        broken=joined("broken"),
        ranks=joined("ranks"),
        likely=_joined_likely(first, second),
        logs=append_images(first.logs, second.logs) if first.logs and second.logs else None,
    )


def _joined_likely(first: OutrankingTable, second: OutrankingTable) -> LikelyClasses | None:
    if first.likely is None or second.likely is None:
        return None
    images = second.likely.images + np.int32(first.num_images)
    return LikelyClasses.concatenate([first.likely, replace(second.likely, images=images)])


def add_member(
    table: OutrankingTable, name: str, column: Float[np.ndarray, "image class"], read_old: ReadOld
) -> OutrankingTable:
    """Put a further member behind the others: one pass over its column.

    Args:
        table: The table of the old members.
        name: Name of the new member.
        column: Its log-probabilities for the images of the table, in order.
        read_old: Asked for nothing but images on which the new member contests a new pair.

    Raises:
        TableError: The table has this member, its fixed point has no room for one more, or it has means
            of logarithms.
        ShapeError: The column is not of the table's images and classes.
        ConfigError: The table is boxed, or its images do not count once each.
    """
    _check_whole(table)
    if table.combines != ("probabilities",):
        raise TableError(
            f"the table has means of {' and '.join(table.combines)}; a member can join one of "
            "probabilities alone. Build the table anew."
        )
    bits = FixedPoint.of(table.num_members + 1, "probabilities").bits
    if name in table.member_names or bits != table.bits:
        raise TableError(
            f"{name!r} cannot join {table.num_members} members: a name may stand once only, and "
            f"scores of one more need {bits} fraction bits where the table has {table.bits}. Build "
            "the table anew."
        )
    check_window([column], table.labels, [name], table.num_classes)
    num_images = max(1, _BLOCK_VALUES // table.num_classes)
    workspace = Workspace.of([column])
    blocks = [
        _extended(table, slice(first, first + num_images), column, read_old, workspace)
        for first in range(0, table.num_images, num_images)
    ]
    whole = ContestedBlock.concatenate(blocks)
    return replace(
        table,
        member_names=(*table.member_names, name),
        indptr=bounds(whole.num_pairs),
        classes=whole.classes,
        differences=whole.differences,
        true_probabilities=np.ascontiguousarray(whole.label_scores.T) * 2.0**-bits,
        broken=np.ascontiguousarray(whole.broken.T),
        ranks=np.ascontiguousarray(whole.ranks.T),
        likely=None,  # which classes are likely depends on the rows of all members
    )


def _extended(
    table: OutrankingTable,
    part: slice,
    column: Float[np.ndarray, "image class"],
    read_old: ReadOld,
    workspace: Workspace,
) -> ContestedBlock:
    """Give some images' block of the extended table."""
    labels, rows = table.labels[part], column[part]
    (new,) = contested_pairs([rows], labels, [FixedPoint("probabilities", table.bits)], workspace)
    begin, end = table.indptr[part.start], table.indptr[min(part.stop, table.num_images)]
    old_keys = _keys(np.diff(table.indptr)[part], table.classes[begin:end], table.num_classes)
    new_keys = _keys(new.num_pairs, new.classes, table.num_classes)
    keys = np.union1d(old_keys, new_keys)
    was_old = np.isin(keys, old_keys, assume_unique=True)
    image, classes = np.divmod(keys, table.num_classes)

    old_scores = np.ascontiguousarray(table.true_probabilities[part].T) * 2.0**table.bits
    old_broken = np.ascontiguousarray(table.broken[part].T)
    differences = np.empty((table.num_members + 1, len(keys)), dtype=np.int32)
    differences[:-1, was_old] = table.differences[:, begin:end]
    if not was_old.all():
        images, row = np.unique(image[~was_old], return_inverse=True)
        old_rows = _checked_rows(read_old(images + part.start), table, len(images))
        for member, logs in enumerate(old_rows):
            differences[member, ~was_old] = _differences(
                logs[row, classes[~was_old]],
                image[~was_old],
                old_scores[member],
                old_broken[member],
                table.bits,
            )
    differences[-1] = _differences(
        rows[image, classes], image, new.label_scores[0], new.broken[0], table.bits
    )
    return ContestedBlock(
        num_pairs=np.bincount(image, minlength=len(labels)),
        classes=classes.astype(np.int32),
        differences=differences,
        label_scores=np.concatenate([old_scores, new.label_scores]),
        broken=np.concatenate([old_broken, new.broken]),
        ranks=np.concatenate([table.ranks[part].T, new.ranks]),
    )


def _keys(
    num_pairs: Int[np.ndarray, " image"], classes: Int32[np.ndarray, " pair"], num_classes: int
) -> Int[np.ndarray, " pair"]:
    return np.repeat(np.arange(len(num_pairs)) * num_classes, num_pairs) + classes


def _differences(
    logs: Float[np.ndarray, " pair"],
    image: Int[np.ndarray, " pair"],
    label_scores: Float[np.ndarray, " image"],
    broken: np.ndarray,
    bits: int,
) -> Int32[np.ndarray, " pair"]:
    scores = quantise(np.where(broken[image], -np.inf, logs), bits) - label_scores[image]
    return np.where(broken[image], 0, scores).astype(np.int32)


def _checked_rows(
    rows: Sequence[Float[np.ndarray, "..."]], table: OutrankingTable, num_images: int
) -> Sequence[Float[np.ndarray, "image class"]]:
    expected = (num_images, table.num_classes)
    shapes = [member.shape for member in rows]
    if len(rows) != table.num_members or any(shape != expected for shape in shapes):
        raise ShapeError(
            f"the old members' rows have the shapes {shapes}; expected {expected}, the images asked "
            f"for and all classes, for each of {table.num_members} members."
        )
    return rows


def _check_whole(table: OutrankingTable) -> None:
    if table.box or table.image_counts is not None:
        raise ConfigError(
            "a table that is boxed or counts its images otherwise cannot grow; extend the full one."
        )
