"""The classes that an image's probability is spread over, few enough to be kept: for the NLL of a mean of logs.

A mean of probabilities needs the label's alone. A mean of logarithms is divided by its sum over all
classes. Of each image the label is kept, and of the other classes, from the likeliest for any member to
the least likely, the first `NUM_LIKELIEST` and then two of the next 8, of the next 16, of the next 32, and
so on: each stands for its part of them. All with every member's log-probability. So the NLL is exact for up
to 17 classes and off by some thousandths of a nat for 1,000. As a function of the weights it is as convex
as that of all classes. Errors never depend on it: they are counted on contested pairs, exactly.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int, Int32, UInt16

from ensemble.outranking.fixed_point import LOG_FLOOR, PROBABILITY_FLOOR

NUM_LIKELIEST = 16
"""Classes beside the label that stand for themselves alone."""

_STEPS_PER_NAT = 3072  # the floor is at 63,880 of 65,535
_FIRST_PART, _KEPT_OF_PART = 8, 2
_BLOCK_VALUES = 1 << 16  # of one member: 65 images of 1000 classes


@dataclass(frozen=True, eq=False)
class LikelyClasses:
    """Log-probabilities of the label and of classes that stand for the others.

    Attributes:
        images: Image of each row, ascending.
        steps: Log-probabilities, the label's first; floored, in steps of 1/3072 nat below 0: half the
            memory of float32. Where a member is broken it says nothing: all are 0.
        class_counts: Classes that each slot stands for.
    """

    images: Int32[np.ndarray, " row"]
    steps: UInt16[np.ndarray, "member row slot"]
    class_counts: Float[np.ndarray, " slot"]

    def __post_init__(self) -> None:
        for array in vars(self).values():
            array.flags.writeable = False

    @classmethod
    def concatenate(cls, blocks: Sequence["LikelyClasses"]) -> "LikelyClasses":
        """Put blocks together whose images count on."""
        return cls(
            images=np.concatenate([block.images for block in blocks]),
            steps=np.concatenate([block.steps for block in blocks], axis=1),
            class_counts=blocks[0].class_counts,
        )

    def select(self, members: Sequence[int]) -> "LikelyClasses":
        """Keep some members only, in their order."""
        return LikelyClasses(self.images, self.steps[list(members)], self.class_counts)

    def logs(
        self, rows: Int[np.ndarray, " chosen"] | slice
    ) -> Float[np.ndarray, "member chosen slot"]:
        """Give the log-probabilities of some rows."""
        return self.steps[:, rows] * (-1 / _STEPS_PER_NAT)


def likely_classes(
    log_probabilities: Sequence[Float[np.ndarray, "image class"]],
    labels: Int[np.ndarray, " image"],
    broken: Bool[np.ndarray, "member image"],
    rows: Int[np.ndarray, " row"],
    first: int,
    num_classes: int,
) -> LikelyClasses:
    """Keep the likely classes of some images.

    Args:
        log_probabilities: One array for each member.
        labels: Class index of each image.
        broken: Rows with NaN or +inf.
        rows: The images of these arrays that are kept.
        first: Index of the first image of these arrays among all.
        num_classes: Classes that there are, where the arrays hold only those that can matter. What a row
            lacks to 1 is spread evenly over those that are not there: one more slot stands for them.
    """
    shown = log_probabilities[0].shape[1]
    ranks, counts = _kept_ranks(shown - 1)
    num_hidden = num_classes - shown
    class_counts = np.array([1, *counts, *([num_hidden] if num_hidden else [])], dtype=np.float64)
    steps = np.empty((len(log_probabilities), len(rows), len(class_counts)), dtype=np.uint16)
    few = max(1, _BLOCK_VALUES // shown)
    for start in range(0, len(rows), few):
        part = rows[start : start + few]
        blocks = [_rows(column, part) for column in log_probabilities]
        places = _ranked(blocks, labels[part], ranks)
        places += np.arange(len(part))[:, None] * shown
        for member, block in enumerate(blocks):
            out = steps[member, start : start + few]
            out[:, : 1 + len(ranks)] = _to_steps(block.reshape(-1).take(places))
            is_broken = broken[member, part]
            if num_hidden:
                sound = np.where(is_broken[:, None], -np.inf, block)
                left = 1 - np.exp(sound, dtype=np.float64).sum(axis=1)
                out[:, -1] = _to_steps(np.log(np.maximum(left / num_hidden, PROBABILITY_FLOOR)))
            if is_broken.any():
                out[is_broken] = 0
    return LikelyClasses((rows + first).astype(np.int32), steps, class_counts)


def _to_steps(logs: Float[np.ndarray, "*axes"]) -> UInt16[np.ndarray, "*axes"]:
    steps = np.clip(logs.astype(np.float64), LOG_FLOOR, 0.0)
    steps *= -_STEPS_PER_NAT
    # A broken row is set to 0 behind this.
    return np.nan_to_num(np.rint(steps, out=steps), copy=False).astype(np.uint16)


def _kept_ranks(num_others: int) -> tuple[list[int], list[float]]:
    """List the ranks, from 0, of the classes that are kept, and how many classes each stands for."""
    ranks = list(range(min(NUM_LIKELIEST, num_others)))
    counts = [1.0] * len(ranks)
    begin, size = NUM_LIKELIEST, _FIRST_PART
    while begin < num_others:
        length = min(size, num_others - begin)
        kept = min(_KEPT_OF_PART, length)
        ranks += [begin + (2 * number + 1) * length // (2 * kept) for number in range(kept)]
        counts += [length / kept] * kept
        begin, size = begin + length, 2 * size
    return ranks, counts


def _rows(
    column: Float[np.ndarray, "image class"], rows: Int[np.ndarray, " row"]
) -> Float[np.ndarray, "row class"]:
    """Take some rows; without a copy where they follow each other."""
    follows = rows[-1] - rows[0] == len(rows) - 1
    return column[rows[0] : rows[-1] + 1] if follows else column[rows]


def _ranked(
    blocks: Sequence[Float[np.ndarray, "image class"]],
    labels: Int[np.ndarray, " image"],
    ranks: Sequence[int],
) -> Int[np.ndarray, "image slot"]:
    """List the label of each image, then the others that have some ranks by their likeliest member.

    The bits of a log-probability grow as it falls, and a class behind them makes each of them another
    integer: integers are sorted several times faster than places are.
    """
    if all(block.dtype == np.float16 for block in blocks):
        lowest = blocks[0].view(np.uint16)
        for block in blocks[1:]:
            lowest = np.minimum(lowest, block.view(np.uint16))
        keys = lowest.astype(np.int64)
    else:
        highest = blocks[0].astype(np.float32)
        for block in blocks[1:]:
            np.maximum(highest, block.astype(np.float32, copy=False), out=highest)
        keys = np.negative(highest, out=highest).view(np.int32).astype(np.int64)
    num_classes = keys.shape[1]
    bits = int(num_classes).bit_length()
    keys <<= bits
    keys |= np.arange(num_classes)
    keys[np.arange(len(labels)), labels] = np.iinfo(np.int64).max  # behind all others
    keys.sort(axis=1)
    others = keys[:, list(ranks)] & ((1 << bits) - 1)
    return np.concatenate([labels[:, None], others], axis=1)
