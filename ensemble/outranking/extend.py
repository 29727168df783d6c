"""A table grows by images or by a member: the same, bit for bit, as one built from everything at once.

Images are independent of each other, so theirs are concatenated. A further member contests pairs that
no member did before; only for these are the old members' predictions needed again.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float, Int, Int32

from ensemble.errors import ConfigError, ShapeError, TableError
from ensemble.outranking.builder import label_probabilities
from ensemble.outranking.contested import ContestedBlock, Workspace, check_window, contested_pairs
from ensemble.outranking.fixed_point import FixedPoint
from ensemble.outranking.likely_classes import LikelyClasses, LikelyReader
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

    A table with means of logarithms needs all old rows once more: which classes are likely depends on all
    members. One of probabilities alone has no likely classes then.

    Args:
        table: The table of the old members.
        name: Name of the new member.
        column: Its log-probabilities for the images of the table, in order.
        read_old: Asked for every image where the table has means of logarithms, otherwise for nothing
            but images on which the new member contests a new pair.

    Raises:
        TableError: The table has this member, or its fixed point has no room for one more.
        ShapeError: The column is not of the table's images and classes.
        ConfigError: The table is boxed, has means of logarithms alone, or its images do not count once
            each.
    """
    _check_whole(table)
    if table.combine == "logs":
        raise ConfigError(
            "a table of means of logarithms alone cannot grow; extend the one of both means."
        )
    tables = (table, table.logs) if table.logs else (table,)
    points = [FixedPoint.of(table.num_members + 1, each.combine) for each in tables]
    bits, old_bits = ([item.bits for item in items] for items in (points, tables))
    if name in table.member_names or bits != old_bits:
        raise TableError(
            f"{name!r} cannot join {table.num_members} members: a name may stand once only, and "
            f"scores of one more need {bits} fraction bits where the table has {old_bits}. Build "
            "the table anew."
        )
    check_window([column], table.labels, [name], table.num_classes)
    num_images = max(1, _BLOCK_VALUES // table.num_classes)
    workspace = Workspace.of([column])
    blocks, likely = list[tuple[ContestedBlock, ...]](), list[LikelyClasses]()
    for first in range(0, table.num_images, num_images):
        part = slice(first, min(first + num_images, table.num_images))
        rows = column[part]
        new = contested_pairs([rows], table.labels[part], points, workspace)
        pairs = [
            _JoinedPairs.of(each, part, block) for each, block in zip(tables, new, strict=True)
        ]
        is_read = np.any([joined.has_new for joined in pairs], axis=0) | (len(tables) > 1)
        old_rows = _read_old(table, np.flatnonzero(is_read), first, read_old)
        place = np.cumsum(is_read) - 1
        blocks.append(
            tuple(
                joined.differences(point, rows, old_rows, place)
                for joined, point in zip(pairs, points, strict=True)
            )
        )
        if len(tables) > 1:
            broken = blocks[-1][0].broken
            likely.append(_likely(table, part, [*old_rows, rows], broken))
    names, all_likely = (*table.member_names, name), None
    if likely:
        all_likely = LikelyClasses.concatenate(likely)
    grown = [
        _grown(each, names, point, ContestedBlock.concatenate(parts), all_likely)
        for each, point, parts in zip(tables, points, zip(*blocks, strict=True), strict=True)
    ]
    return replace(grown[0], logs=grown[1]) if len(grown) > 1 else grown[0]


@dataclass(frozen=True, eq=False)
class _JoinedPairs:
    """The pairs of some images that old members or the new one contest, of one mean.

    Attributes:
        table: The table of the old members.
        part: The images.
        new: The pairs of the new member.
        images: Image of each pair, counted from the first of the part.
        classes: Class of each pair.
        was_old: Whether the table has each pair.
    """

    table: OutrankingTable
    part: slice
    new: ContestedBlock
    images: Int[np.ndarray, " pair"]
    classes: Int[np.ndarray, " pair"]
    was_old: Bool[np.ndarray, " pair"]

    @classmethod
    def of(cls, table: OutrankingTable, part: slice, new: ContestedBlock) -> "_JoinedPairs":
        pairs = slice(table.indptr[part.start], table.indptr[part.stop])
        old_keys = _keys(np.diff(table.indptr)[part], table.classes[pairs], table.num_classes)
        keys = np.union1d(old_keys, _keys(new.num_pairs, new.classes, table.num_classes))
        images, classes = np.divmod(keys, table.num_classes)
        is_old = np.isin(keys, old_keys, assume_unique=True)
        return cls(table, part, new, images, classes, is_old)

    @property
    def has_new(self) -> Bool[np.ndarray, " image"]:
        """Whether the new member contests a pair of each image that no old member does."""
        has_new = np.zeros(self.part.stop - self.part.start, dtype=np.bool_)
        has_new[self.images[~self.was_old]] = True
        return has_new

    def differences(
        self,
        point: FixedPoint,
        rows: Float[np.ndarray, "image class"],
        old_rows: Sequence[Float[np.ndarray, "row class"]],
        place: Int[np.ndarray, " image"],
    ) -> ContestedBlock:
        """Give the block of all members.

        Args:
            point: The fixed point of the scores.
            rows: Log-probabilities of the new member.
            old_rows: Those of the old members for the images that were read.
            place: Place of each image among those.
        """
        table, part, new, is_new = self.table, self.part, self.new, ~self.was_old
        broken = np.ascontiguousarray(table.broken[part].T)
        label_scores = point.label_scores(np.ascontiguousarray(table.true_probabilities[part].T))
        differences = np.empty((table.num_members + 1, len(self.images)), dtype=np.int32)
        pairs = slice(table.indptr[part.start], table.indptr[part.stop])
        differences[:-1, self.was_old] = table.differences[:, pairs]
        images, classes = self.images[is_new], self.classes[is_new]
        for member, logs in enumerate(old_rows):
            differences[member, is_new] = _differences(
                logs[place[images], classes], images, label_scores[member], broken[member], point
            )
        differences[-1] = _differences(
            rows[self.images, self.classes],
            self.images,
            new.label_scores[0],
            new.broken[0],
            point,
        )
        return ContestedBlock(
            num_pairs=np.bincount(self.images, minlength=len(rows)),
            classes=self.classes.astype(np.int32),
            differences=differences,
            label_scores=np.concatenate([label_scores, new.label_scores]),
            broken=np.concatenate([broken, new.broken]),
            ranks=np.concatenate([table.ranks[part].T, new.ranks]),
        )


def _grown(
    table: OutrankingTable,
    names: tuple[str, ...],
    point: FixedPoint,
    whole: ContestedBlock,
    likely: LikelyClasses | None,
) -> OutrankingTable:
    return replace(
        table,
        member_names=names,
        indptr=bounds(whole.num_pairs),
        classes=whole.classes,
        differences=whole.differences,
        true_probabilities=label_probabilities(point, whole),
        broken=np.ascontiguousarray(whole.broken.T),
        ranks=np.ascontiguousarray(whole.ranks.T),
        likely=likely,
    )


def _likely(
    table: OutrankingTable,
    part: slice,
    rows: Sequence[Float[np.ndarray, "image class"]],
    broken: Bool[np.ndarray, "member image"],
) -> LikelyClasses:
    assert table.likely is not None  # a table of both means has those of every image
    labels = table.labels[part]
    # Classes that the columns do not show are counted there, too.
    num_classes = round(float(table.likely.class_counts.sum()))
    reader = LikelyReader(len(rows), labels, np.arange(len(labels)), table.num_classes, num_classes)
    reader.read(np.stack(rows), 0)
    return reader.finish(broken, part.start)


def _keys(
    num_pairs: Int[np.ndarray, " image"], classes: Int32[np.ndarray, " pair"], num_classes: int
) -> Int[np.ndarray, " pair"]:
    return np.repeat(np.arange(len(num_pairs)) * num_classes, num_pairs) + classes


def _differences(
    logs: Float[np.ndarray, " pair"],
    images: Int[np.ndarray, " pair"],
    label_scores: Float[np.ndarray, " image"],
    broken: Bool[np.ndarray, " image"],
    point: FixedPoint,
) -> Int32[np.ndarray, " pair"]:
    is_broken = broken[images]
    scores = point.quantise(np.where(is_broken, -np.inf, logs)) - label_scores[images]
    return np.where(is_broken, 0, scores).astype(np.int32)


def _read_old(
    table: OutrankingTable, images: Int[np.ndarray, " row"], first: int, read_old: ReadOld
) -> Sequence[Float[np.ndarray, "row class"]]:
    """Read the old members' rows of some images of a block; none where no image is asked for."""
    if not len(images):
        return []
    rows = read_old(images + first)
    expected = (len(images), table.num_classes)
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
