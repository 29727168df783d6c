"""The outranking table: all of a pool's predictions that a weighted average's errors depend on.

**Rank rule.** Class c outranks the label y iff its score is greater, or equal with c < y: the order
of a stable sort, and argmax at k = 1. An image is a top-k error iff k or more classes outrank its
label.

**Exact scores.** Scores are S_c = sum_m w_m q_m[c] with fixed-point probabilities q and integer
weights w (`fixed_point`). With the differences D_m[c] = q_m[c] - q_m[y], c outranks y iff
sum_m w_m D_m[c] + b > 0, where the bias b is +1/2 if c < y and -1/2 if c > y: the sum is an
integer, so one half decides ties and nothing else, and the whole is never zero.

**Contested pairs.** If D_m[c] < 0 in every member, then sum_m w_m D_m[c] < 0 for all non-negative
weights that are not all zero: c neither outranks nor ties with y, whatever the weights, and the
pair (image, c) can be forgotten. Kept are the pairs with D_m[c] >= 0 in at least one member, a few
per cent of all. (Weights below zero would break this, so they are refused.) `box` says which of
them a search with a fixed anchor does not need either.

**Broken rows.** A row with NaN or +inf (log 0 = -inf is fine) makes the average of that image
meaningless: it is a miss for every ensemble that gives the member a weight, and its label has
probability 0. Such rows are counted in `num_broken`.
"""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from jaxtyping import Bool, Float, Int, Int32, Shaped

from ensemble.errors import ConfigError, EmptySplitError, TableError
from ensemble.search.box import Box, decided_pairs
from ensemble.search.contested import Columns, ContestedBlock, check_window, contested_pairs
from ensemble.search.fixed_point import (
    PROBABILITY_FLOOR,
    WEIGHT_STEPS,
    checked_hundredths,
    fraction_bits,
)
from ensemble.search.sweep import error_curve

_BLOCK_VALUES = 1 << 16  # of one member: 64 images of 1000 classes, so that a block stays in cache


@dataclass(frozen=True, eq=False)
class OutrankingTable:
    """Contested (image, class) pairs with every member's score differences. Read-only.

    Attributes:
        member_names: The pool, in the order of every member axis.
        labels: Class index of each image.
        num_classes: Classes scored.
        bits: Fraction bits of the fixed-point probabilities.
        indptr: Pairs of image i are indptr[i]:indptr[i + 1]; one longer than the images.
        classes: Class of each pair.
        differences: D of the module's text, integers in units of 2^-bits.
        num_certain: Classes that outrank the label for all weights that the table is made for.
        true_probabilities: Probability of the label, a multiple of 2^-bits; 0 where broken.
        broken: Rows with NaN or +inf.
        ranks: Classes that outrank the label in each single member; all classes where broken.
        box: The weights it is limited to, or None.
    """

    member_names: tuple[str, ...]
    labels: Int[np.ndarray, " image"]
    num_classes: int
    bits: int
    indptr: Int[np.ndarray, " bound"]
    classes: Int32[np.ndarray, " pair"]
    differences: Float[np.ndarray, "member pair"]
    num_certain: Int32[np.ndarray, " image"]
    true_probabilities: Float[np.ndarray, "image member"]
    broken: Bool[np.ndarray, "image member"]
    ranks: Int32[np.ndarray, "image member"]
    box: Box | None = None

    def __post_init__(self) -> None:
        for array in vars(self).values():
            if isinstance(array, np.ndarray):
                array.flags.writeable = False

    @classmethod
    def from_columns(
        cls,
        columns: Mapping[str, Float[np.ndarray, "image class"]],
        labels: Shaped[np.ndarray, " image"],
        threads: int = 1,
    ) -> "OutrankingTable":
        """Build from whole columns of log-probabilities by member name; see `OutrankingBuilder`."""
        builder = OutrankingBuilder(tuple(columns), threads)
        builder.add(list(columns.values()), labels)
        return builder.finish()

    @property
    def num_members(self) -> int:
        """Count the members of the pool."""
        return len(self.member_names)

    @property
    def num_images(self) -> int:
        """Count the images."""
        return len(self.labels)

    @property
    def num_pairs(self) -> int:
        """Count the contested pairs."""
        return len(self.classes)

    @cached_property
    def num_broken(self) -> Int[np.ndarray, " member"]:
        """Count for each member the images on which its row has NaN or +inf."""
        return np.asarray(np.count_nonzero(self.broken, axis=0))

    @cached_property
    def images(self) -> Int32[np.ndarray, " pair"]:
        """Give the image of each pair."""
        return np.repeat(np.arange(self.num_images, dtype=np.int32), np.diff(self.indptr))

    @cached_property
    def bias(self) -> Float[np.ndarray, " pair"]:
        """Give one half, signed by who wins a tie: +1/2 the class, -1/2 the label."""
        return np.where(self.classes < self.labels[self.images], 0.5, -0.5)

    def member_errors(
        self, k: int, image_counts: Int[np.ndarray, " image"] | None = None
    ) -> Int[np.ndarray, " member"]:
        """Count the top-k errors of each single member."""
        is_error = self.ranks >= self._checked_k(k)
        if image_counts is None:
            return np.asarray(np.count_nonzero(is_error, axis=0))
        return np.array([image_counts[column].sum() for column in is_error.T])

    def member_nll(
        self, image_counts: Int[np.ndarray, " image"] | None = None
    ) -> Float[np.ndarray, " member"]:
        """Average -log of the label's probability (nats) for each single member, as `nll` does."""
        return np.asarray(np.average(self._member_losses, axis=0, weights=image_counts))

    @cached_property
    def _member_losses(self) -> Float[np.ndarray, "image member"]:
        return np.negative(np.log(np.maximum(self.true_probabilities, PROBABILITY_FLOOR)))

    def is_error(
        self, hundredths: Int[np.ndarray, " member"], k: int
    ) -> Bool[np.ndarray, " image"]:
        """Tell for each image whether k or more classes outrank its label.

        Args:
            hundredths: Weight of each member in hundredths.
            k: The error is top-k.

        Raises:
            ShapeError: There is not one weight for each member.
            ConfigError: The weights or k are outside what the table is exact for.
        """
        weights = self._checked(hundredths, k)
        num_outranking = self._num_outranking(self.scores(weights) > 0)
        return np.logical_or(num_outranking >= k, self._is_broken(weights))

    def errors(
        self,
        hundredths: Int[np.ndarray, " member"],
        k: int,
        image_counts: Int[np.ndarray, " image"] | None = None,
    ) -> int:
        """Count the top-k errors; arguments and exceptions as in `is_error` and `sweep`."""
        is_error = self.is_error(hundredths, k)
        return int(is_error.sum() if image_counts is None else image_counts[is_error].sum())

    def num_ties(self, hundredths: Int[np.ndarray, " member"], k: int) -> int:
        """Count the images whose top-k outcome hangs on how equal scores are ordered."""
        weights = self._checked(hundredths, k)
        above = self.scores(weights) - self.bias
        surely = self._num_outranking(above > 0) >= k
        possibly = self._num_outranking(above >= 0) >= k
        return int(np.count_nonzero((surely != possibly) & ~self._is_broken(weights)))

    def scores(self, hundredths: Int[np.ndarray, " member"]) -> Float[np.ndarray, " pair"]:
        """Give for each pair what the class has above the label, plus the bias: outranks iff > 0.

        Linear in the weights but for the bias, so that a search can keep it up to date itself.
        """
        scores = np.array(self.bias)
        term = np.empty_like(scores)
        for member in np.flatnonzero(hundredths):
            np.multiply(self.differences[member], float(hundredths[member]), out=term)
            scores += term
        return scores

    def sweep(
        self,
        hundredths: Int[np.ndarray, " member"],
        member: int,
        k: int,
        image_counts: Int[np.ndarray, " image"] | None = None,
        scores: Float[np.ndarray, " pair"] | None = None,
    ) -> Int[np.ndarray, " weight"]:
        """Count the top-k errors at each weight 0.00, 0.01, …, 1.00 of one member.

        Args:
            hundredths: Weights of the others in hundredths; that of `member` is not read.
            member: Index of the member whose weight runs.
            k: The error is top-k.
            image_counts: How often each image counts (a bootstrap sample); once each by default.
            scores: `scores` of the others' weights, where the caller has them.

        Returns:
            101 counts.

        Raises:
            ShapeError: There is not one weight for each member.
            ConfigError: The weights or k are outside what the table is exact for.
        """
        others = np.array(hundredths)
        others[member] = 0
        others = self._checked(others, k)
        start = self.scores(others) if scores is None else scores
        counts = np.ones(self.num_images, np.int64) if image_counts is None else image_counts
        num_outranking = self._num_outranking(start > 0)
        slope = self.differences[member]
        if not self.num_broken.any():
            return error_curve(start, slope, self.images, num_outranking, counts, k)
        is_broken = self._is_broken(others)
        breaks = self.broken[:, member] & ~is_broken
        sound = np.where(is_broken | breaks, 0, counts)
        curve = error_curve(start, slope, self.images, num_outranking, sound, k)
        curve += counts[is_broken].sum()
        curve[0] += counts[breaks & (num_outranking >= k)].sum()
        curve[1:] += counts[breaks].sum()
        return curve

    def nll(self, hundredths: Int[np.ndarray, " member"]) -> float:
        """Average -log of the label's averaged probability (nats); below 2^-40 it counts as that.

        `num_floored` says how often.
        """
        return float(-np.log(np.maximum(self._true_average(hundredths), PROBABILITY_FLOOR)).mean())

    def num_floored(self, hundredths: Int[np.ndarray, " member"]) -> int:
        """Count the images whose label has less than 2^-40 on average, broken ones included."""
        return int(np.count_nonzero(self._true_average(hundredths) < PROBABILITY_FLOOR))

    def _true_average(self, hundredths: Int[np.ndarray, " member"]) -> Float[np.ndarray, " image"]:
        weights = checked_hundredths(hundredths, self.num_members)
        average = self.true_probabilities @ weights.astype(np.float64) / weights.sum()
        return np.where(self._is_broken(weights), 0.0, average)

    def boxed(self, anchor: int, k: int, w_max: int = WEIGHT_STEPS) -> "OutrankingTable":
        """Drop what no weighting with `anchor` at `w_max` and the others in [0, `w_max`] can turn.

        Args:
            anchor: Index of the member with the fixed weight.
            k: The error is top-k.
            w_max: The largest weight, hundredths.

        Returns:
            A table a tenth as large, exact for this k and these weights; it refuses others.

        Raises:
            ConfigError: k is not below the number of classes, or the table is boxed already.
        """
        if self.box:
            raise ConfigError(f"the table is boxed already ({self.box}); box the full table.")
        box = Box(anchor, self._checked_k(k), w_max)
        never, always = decided_pairs(self.differences, anchor)
        num_certain = self._count(always)
        is_open = (num_certain < k) & (num_certain + self._count(~(never | always)) >= k)
        kept = np.flatnonzero(~(never | always) & is_open[self.images])
        return replace(
            self,
            indptr=_bounds(np.bincount(self.images[kept], minlength=self.num_images)),
            classes=self.classes[kept],
            differences=np.stack([row[kept] for row in self.differences]),
            num_certain=num_certain,
            box=box,
        )

    def _num_outranking(self, outranks: Bool[np.ndarray, " pair"]) -> Int[np.ndarray, " image"]:
        total: Int[np.ndarray, " image"] = self.num_certain + self._count(outranks)
        return total

    def _count(self, marked: Bool[np.ndarray, " pair"]) -> Int32[np.ndarray, " image"]:
        counts = np.zeros(self.num_images, dtype=np.int32)
        images, first = self._open_images
        if len(images):
            counts[images] = np.add.reduceat(marked.view(np.int8), first, dtype=np.int32)
        return counts

    @cached_property
    def _open_images(self) -> tuple[Int[np.ndarray, " open"], Int[np.ndarray, " open"]]:
        """List the images that have pairs, and the first pair of each."""
        images = np.flatnonzero(np.diff(self.indptr))
        return images, self.indptr[images]

    def _is_broken(self, weights: Int[np.ndarray, " member"]) -> Bool[np.ndarray, " image"]:
        selected = np.flatnonzero((weights > 0) & (self.num_broken > 0))
        is_broken: Bool[np.ndarray, " image"] = np.any(self.broken[:, selected], axis=1)
        return is_broken

    def _checked(
        self, hundredths: Int[np.ndarray, " weight"], k: int
    ) -> Int[np.ndarray, " weight"]:
        weights = checked_hundredths(hundredths, self.num_members)
        self._checked_k(k)
        box = self.box
        if box and not (weights[box.anchor] == box.w_max == weights.max()):
            raise ConfigError(
                f"weights {weights.tolist()} (hundredths) are outside {box} that the table is "
                "limited to; use the full table."
            )
        return weights

    def _checked_k(self, k: int) -> int:
        if not 1 <= k < self.num_classes:
            raise ConfigError(
                f"k = {k} with {self.num_classes} classes: nothing can be in error; "
                f"k must be between 1 and {self.num_classes - 1}."
            )
        if self.box and k != self.box.k:
            raise ConfigError(
                f"k = {k}, but the table is boxed for {self.box.k}; use the full one."
            )
        return k


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
        num_images = max(1, _BLOCK_VALUES // self._num_classes)

        def read(first: int) -> ContestedBlock:
            part = slice(first, first + num_images)
            return contested_pairs([column[part] for column in columns], labels[part], self._bits)

        starts = range(0, len(labels), num_images)
        with ThreadPoolExecutor(self._threads) as pool:
            self._blocks += pool.map(read, starts)
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
            indptr=_bounds(whole.num_pairs),
            classes=whole.classes,
            differences=whole.differences,
            num_certain=np.zeros(len(labels), dtype=np.int32),
            true_probabilities=np.ascontiguousarray(whole.label_scores.T) * 2.0**-self._bits,
            broken=np.ascontiguousarray(whole.broken.T),
            ranks=np.ascontiguousarray(whole.ranks.T),
        )


def _bounds(counts: Int[np.ndarray, " image"]) -> Int[np.ndarray, " bound"]:
    return np.concatenate([[0], np.cumsum(counts)])
