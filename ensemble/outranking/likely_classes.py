"""The classes that have nearly all of the probability, so that the NLL of a mean of logs can be told.

A mean of probabilities needs the label's alone. A mean of logarithms is divided by its sum over all
classes, so every class matters that some member gives some probability. Of each image the label is
kept and the `NUM_LIKELIEST` other classes that are likeliest for any member, each with every member's
log-probability. What a member has left to 1 is spread evenly over the classes that are not kept. So
the NLL is exact for as many classes as that, and where no class beyond them has any probability; for
1,000 classes it is off by some thousandths of a nat. Errors never depend on it: they are counted on
contested pairs, exactly.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Float32, Int, Int32

from ensemble.outranking.fixed_point import LOG_FLOOR, PROBABILITY_FLOOR

NUM_LIKELIEST = 24
"""Classes beside the label that are kept of each image."""

_BLOCK_VALUES = 1 << 16  # of one member: 65 images of 1000 classes


@dataclass(frozen=True, eq=False)
class LikelyClasses:
    """Log-probabilities of the label, of the likeliest classes, and of each of the others.

    Attributes:
        images: Image of each row, ascending.
        logs: The label first, then the likeliest others, then what each of the rest has; floored.
            Where a member is broken it says nothing: all its logs are 0.
        num_rest: Classes that the last slot stands for; 0: there is no such slot.
    """

    images: Int32[np.ndarray, " row"]
    logs: Float32[np.ndarray, "member row slot"]
    num_rest: int

    def __post_init__(self) -> None:
        self.images.flags.writeable = False
        self.logs.flags.writeable = False

    @classmethod
    def concatenate(cls, blocks: Sequence["LikelyClasses"]) -> "LikelyClasses":
        """Put blocks together whose images count on."""
        return cls(
            images=np.concatenate([block.images for block in blocks]),
            logs=np.concatenate([block.logs for block in blocks], axis=1),
            num_rest=blocks[0].num_rest,
        )

    def select(self, members: Sequence[int]) -> "LikelyClasses":
        """Keep some members only, in their order."""
        return LikelyClasses(self.images, self.logs[list(members)], self.num_rest)

    @property
    def slot_offsets(self) -> Float[np.ndarray, " slot"]:
        """Give the log of the number of classes that each slot stands for."""
        offsets = np.zeros(self.logs.shape[2])
        if self.num_rest:
            offsets[-1] = np.log(self.num_rest)
        return offsets


def likely_classes(
    log_probabilities: Sequence[Float[np.ndarray, "image class"]],
    labels: Int[np.ndarray, " image"],
    broken: Bool[np.ndarray, "member image"],
    rows: Int[np.ndarray, " row"],
    first: int,
    num_classes: int,
) -> LikelyClasses:
    """Keep the likeliest classes of some images.

    Args:
        log_probabilities: One array for each member.
        labels: Class index of each image.
        broken: Rows with NaN or +inf.
        rows: The images of these arrays that are kept.
        first: Index of the first image of these arrays among all.
        num_classes: Classes that there are, where the arrays hold only those that can matter.
    """
    shown = log_probabilities[0].shape[1]
    num_others = min(NUM_LIKELIEST, shown - 1)
    num_rest = num_classes - 1 - num_others
    slots = 1 + num_others + (num_rest > 0)
    logs = np.empty((len(log_probabilities), len(rows), slots), dtype=np.float32)
    few = max(1, _BLOCK_VALUES // shown)
    for start in range(0, len(rows), few):
        part = rows[start : start + few]
        blocks = [_rows(column, part) for column in log_probabilities]
        places = _likeliest(blocks, labels[part], num_others)
        places += np.arange(len(part))[:, None] * shown
        for member, block in enumerate(blocks):
            kept = block.reshape(-1).take(places).astype(np.float64)
            np.maximum(kept, LOG_FLOOR, out=kept)
            is_broken = broken[member, part]
            out = logs[member, start : start + few]
            out[:, : 1 + num_others] = kept
            if num_rest:
                with np.errstate(over="ignore"):  # of a broken row
                    left = (1 - np.exp(kept).sum(axis=1)) / num_rest
                out[:, -1] = np.log(np.maximum(left, PROBABILITY_FLOOR))
            if is_broken.any():
                out[is_broken] = 0
    return LikelyClasses((rows + first).astype(np.int32), logs, num_rest)


def _rows(
    column: Float[np.ndarray, "image class"], rows: Int[np.ndarray, " row"]
) -> Float[np.ndarray, "row class"]:
    """Take some rows; without a copy where they follow each other."""
    follows = rows[-1] - rows[0] == len(rows) - 1
    return column[rows[0] : rows[-1] + 1] if follows else column[rows]


def _likeliest(
    blocks: Sequence[Float[np.ndarray, "image class"]],
    labels: Int[np.ndarray, " image"],
    num_others: int,
) -> Int[np.ndarray, "image slot"]:
    """List the label of each image, then the others that are likeliest for any member, by class.

    The bits of a log-probability grow as it falls, and a class behind them makes each of them another
    integer: integers are partitioned several times faster than places are.
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
    keys[np.arange(len(labels)), labels] = np.iinfo(np.int64).max
    others = np.partition(keys, max(num_others - 1, 0), axis=1)[:, :num_others]
    others &= (1 << bits) - 1
    others.sort(axis=1)
    return np.concatenate([labels[:, None], others], axis=1)
