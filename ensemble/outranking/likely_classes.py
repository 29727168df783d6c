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


class LikelyReader:
    """Keeps the likely classes of some images, a few at a time, while their rows are in cache.

    Args:
        num_members: Members.
        labels: Class index of each image that will be read.
        images: Those of them that are kept, ascending.
        num_shown: Classes of the rows.
        num_classes: Classes that there are, where rows hold only those that can matter. What a row lacks
            to 1 is spread evenly over those that are not there: one more slot stands for them.
    """

    def __init__(
        self,
        num_members: int,
        labels: Int[np.ndarray, " image"],
        images: Int[np.ndarray, " row"],
        num_shown: int,
        num_classes: int,
    ) -> None:
        self._labels, self._images = labels, images
        self._ranks, counts = _kept_ranks(num_shown - 1)
        self._num_hidden = num_classes - num_shown
        hidden = [self._num_hidden] if self._num_hidden else []
        self._class_counts = np.array([1, *counts, *hidden], dtype=np.float64)
        shape = (num_members, len(images), len(self._class_counts))
        self._steps = np.empty(shape, dtype=np.uint16)

    def read(self, rows: Float[np.ndarray, "member image class"], first: int) -> None:
        """Read the images from `first` on."""
        begin, end = np.searchsorted(self._images, [first, first + rows.shape[1]])
        images = self._images[begin:end]
        if not len(images):
            return
        if len(images) < rows.shape[1]:
            rows = rows[:, images - first]
        num_members, num_images, num_shown = rows.shape
        places = _ranked(rows, self._labels[images], self._ranks)
        places += np.arange(num_images)[:, None] * num_shown
        out = self._steps[:, begin:end]
        out[:, :, : places.shape[1]] = _to_steps(rows.reshape(num_members, -1).take(places, axis=1))
        if self._num_hidden:
            with np.errstate(over="ignore"):  # of what is no probability; it is broken
                left = 1 - np.exp(rows, dtype=np.float64).sum(axis=2)
            out[:, :, -1] = _to_steps(np.log(np.fmax(left / self._num_hidden, PROBABILITY_FLOOR)))

    def finish(self, broken: Bool[np.ndarray, "member image"], first: int) -> LikelyClasses:
        """Give them once all images were read.

        Args:
            broken: Rows with NaN or +inf.
            first: Index of the first image that was read among all.
        """
        if broken.any():
            self._steps[broken[:, self._images]] = 0
        return LikelyClasses(
            (self._images + first).astype(np.int32), self._steps, self._class_counts
        )


def _to_steps(logs: Float[np.ndarray, "*axes"]) -> UInt16[np.ndarray, "*axes"]:
    # NaN becomes the floor: its row is set to 0 in the end. float32 counts to 2^24 in whole steps.
    steps = np.fmax(logs, LOG_FLOOR, dtype=np.result_type(logs, np.float32))
    np.fmin(steps, 0.0, out=steps)
    steps *= -_STEPS_PER_NAT
    return np.rint(steps, out=steps).astype(np.uint16)


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


def _ranked(
    rows: Float[np.ndarray, "member image class"],
    labels: Int[np.ndarray, " image"],
    ranks: Sequence[int],
) -> Int[np.ndarray, "image slot"]:
    """List the label of each image, then the others that have some ranks by their likeliest member.

    The bits of a log-probability grow as it falls, and a class in place of the lowest of them makes each
    of them another integer: integers are sorted several times faster than places are. For 1,000
    classes 22 bits are left, so two that differ by less than 1/8192 of themselves count as equal.
    """
    if rows.dtype == np.float16:
        keys = np.minimum.reduce(rows.view(np.uint16), axis=0).astype(np.int32) << 15
    else:
        highest = np.maximum.reduce(rows, axis=0).astype(np.float32, copy=False)
        keys = np.negative(highest, out=highest).view(np.int32)
    num_classes = keys.shape[1]
    class_bits = (1 << int(num_classes).bit_length()) - 1
    keys &= ~class_bits
    keys |= np.arange(num_classes, dtype=np.int32)
    keys[np.arange(len(labels)), labels] = np.iinfo(np.int32).max  # behind all others
    keys.sort(axis=1)
    others = keys[:, list(ranks)].astype(np.int64) & class_bits
    return np.concatenate([labels[:, None], others], axis=1)
