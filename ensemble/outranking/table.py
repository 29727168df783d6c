"""The outranking table: the part of a pool's predictions that decides the errors of any average.

**Rank rule.** Class c outranks the label y iff its score is greater, or equal with c < y: the order
of a stable sort, and argmax at k = 1. An image is a top-k error iff k or more classes outrank its
label.

**Exact scores.** Scores are S_c = sum_m w_m q_m[c] with fixed-point probabilities q, or logarithms
of them, and integer weights w (`fixed_point`). With the differences D_m[c] = q_m[c] - q_m[y], c
outranks y iff sum_m w_m D_m[c] + b > 0, where the bias b is +1/2 if c < y and -1/2 if c > y: the sum is
an integer, so one half decides ties and nothing else, and the whole is never zero. Nothing below
depends on whether q is a probability or a logarithm, as it only speaks of the integers D: the softmax
of a mean of logarithms keeps the order of its scores.

**Contested pairs.** If D_m[c] < 0 in every member, then sum_m w_m D_m[c] < 0 for all non-negative
weights that are not all zero: c neither outranks nor ties with y, whatever the weights, and the
pair (image, c) can be forgotten. Kept are the pairs with D_m[c] >= 0 in at least one member, a few
per cent of all. (Weights below zero would break this, so they are refused.) `box` says which of
them a search with a fixed anchor does not need either.

**Broken rows.** A row with NaN or +inf (log 0 = -inf is fine) makes the average of that image
meaningless: it is a miss for every ensemble that gives the member a weight, and its label has
probability 0. Such rows are counted in `num_broken`.

**Two tables in one.** A table is of means of probabilities or of logarithms. That of probabilities has
that of logarithms with it, in `logs`, where both were built; they have the same images and members.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from jaxtyping import Bool, Float, Int, Int32

from ensemble.errors import ConfigError, EmptySplitError, ShapeError
from ensemble.outranking.box import Box, recall
from ensemble.outranking.combine import Combine
from ensemble.outranking.fixed_point import PROBABILITY_FLOOR, WEIGHT_UNITS, checked_units
from ensemble.outranking.likely_classes import LikelyClasses
from ensemble.outranking.log_pool import LogSample
from ensemble.outranking.pairs import Pairs

_BLOCK_PAIRS = 1 << 14  # so that a sum over members stays in cache
_SHARED = ("images", "bias", "num_broken", "pairs", "decided", "label_losses")


@dataclass(frozen=True, eq=False)
class OutrankingTable:
    """Contested (image, class) pairs with every member's score differences. Read-only.

    Attributes:
        member_names: The pool, in the order of every member axis.
        labels: Class index of each image.
        num_classes: Classes scored.
        bits: Fraction bits of the fixed-point scores.
        indptr: Pairs of image i are indptr[i]:indptr[i + 1]; one longer than the images.
        classes: Class of each pair.
        differences: Score of the class minus that of the label by each member (D in the text above),
            integers in units of 2^-bits.
        num_certain: Classes that outrank the label for all weights that the table is made for.
        true_probabilities: Probability of the label by each member, from its fixed-point score; 0 where
            broken.
        broken: Rows with NaN or +inf.
        ranks: Classes that outrank the label in each single member; all classes where broken.
        image_counts: How often each image counts (a fold, a bootstrap sample); None: once each.
        box: The weights it is limited to, or None.
        combine: What scores are means of.
        likely: The likely classes of all images, or of a sample where logarithms were not asked for;
            None in a table that was extended by a member.
        logs: The table of means of logarithms that was built with this one of probabilities, or None.
    """

    member_names: tuple[str, ...]
    labels: Int[np.ndarray, " image"]
    num_classes: int
    bits: int
    indptr: Int[np.ndarray, " bound"]
    classes: Int32[np.ndarray, " pair"]
    differences: Int32[np.ndarray, "member pair"]
    num_certain: Int32[np.ndarray, " image"]
    true_probabilities: Float[np.ndarray, "image member"]
    broken: Bool[np.ndarray, "image member"]
    ranks: Int32[np.ndarray, "image member"]
    image_counts: Int[np.ndarray, " image"] | None = None
    box: Box | None = None
    combine: Combine = "probabilities"
    likely: LikelyClasses | None = None
    logs: "OutrankingTable | None" = None

    def __post_init__(self) -> None:
        for array in vars(self).values():
            if isinstance(array, np.ndarray):
                array.flags.writeable = False

    @property
    def num_members(self) -> int:
        """Count the members of the pool."""
        return len(self.member_names)

    @property
    def num_images(self) -> int:
        """Count the images."""
        return len(self.labels)

    @cached_property
    def num_counted(self) -> int:
        """Count the images, each as often as it counts."""
        return self.num_images if self.image_counts is None else int(self.image_counts.sum())

    @property
    def num_pairs(self) -> int:
        """Count the contested pairs."""
        return len(self.classes)

    @cached_property
    def num_broken(self) -> Int[np.ndarray, " member"]:
        """Count for each member the images on which its row has NaN or +inf."""
        return np.asarray(np.count_nonzero(self.broken, axis=0))

    @cached_property
    def label_columns(self) -> Float[np.ndarray, "member item"]:
        """Give the probability of the label by each member, of each image as often as it counts."""
        counts = 1 if self.image_counts is None else self.image_counts
        return np.repeat(np.ascontiguousarray(self.true_probabilities.T), counts, axis=1)

    @cached_property
    def images(self) -> Int32[np.ndarray, " pair"]:
        """Give the image of each pair."""
        return np.repeat(np.arange(self.num_images, dtype=np.int32), np.diff(self.indptr))

    @cached_property
    def bias(self) -> Float[np.ndarray, " pair"]:
        """Give +1/2 for a pair whose class wins ties against the label, -1/2 for the others."""
        return (self.classes < np.repeat(self.labels.astype(np.int32), np.diff(self.indptr))) - 0.5

    def of(self, combine: Combine) -> "OutrankingTable":
        """Give the table whose scores are means of probabilities, or of logarithms.

        Raises:
            ConfigError: The table was not built for such means.
        """
        if combine == self.combine:
            return self
        if self.logs is None:
            raise ConfigError(
                f"the outranking table was built for means of {self.combine}, not of {combine}. Build it "
                "with combines=('probabilities', 'logs')."
            )
        return self.logs

    @property
    def combines(self) -> tuple[Combine, ...]:
        """List what means the table is built for."""
        return (self.combine,) if self.logs is None else (self.combine, "logs")

    @cached_property
    def log_sample(self) -> LogSample:
        """Draw images that the NLL of means of logarithms is compared on.

        Raises:
            ConfigError: The table has no likely classes.
        """
        if self.likely is None:
            raise ConfigError(
                "the outranking table has no likely classes, on which means of logarithms are judged. "
                "Build it from all members at once."
            )
        return LogSample.draw(self.likely, self.counts, self.broken)

    def reweighted(self, image_counts: Int[np.ndarray, " item"]) -> "OutrankingTable":
        """Let each image count so often; everything else is shared, boxed tables included.

        Raises:
            ShapeError: There is not one count for each image.
            EmptySplitError: No image counts.
        """
        if len(image_counts) != self.num_images or image_counts.min(initial=0) < 0:
            raise ShapeError(
                f"{len(image_counts)} counts for {self.num_images} images; pass one for each, none "
                "below 0."
            )
        if not image_counts.any():
            raise EmptySplitError("no image counts; at least one must.")
        return self.with_counts(np.array(image_counts, dtype=np.int64))

    def select(self, members: Sequence[int]) -> "OutrankingTable":
        """Keep the members with these indices only, in their order.

        Raises:
            ConfigError: The table is boxed.
        """
        if self.box:
            raise ConfigError(f"the table is boxed ({self.box}); select from the full table.")
        kept = list(members)
        return replace(
            self,
            member_names=tuple(self.member_names[member] for member in kept),
            differences=self.differences[kept],
            true_probabilities=self.true_probabilities[:, kept],
            broken=self.broken[:, kept],
            ranks=self.ranks[:, kept],
            likely=self.likely.select(kept) if self.likely else None,
            logs=self.logs.select(kept) if self.logs else None,
        )

    def count(self, marked: Bool[np.ndarray, " image"]) -> int:
        """Count the marked images, each as often as it counts."""
        if self.image_counts is None:
            return int(np.count_nonzero(marked))
        return int(self.image_counts[marked].sum())

    @cached_property
    def label_losses(self) -> Float[np.ndarray, "image member"]:
        """Give -log of the label's probability (nats) by each single member, floored as the NLL is."""
        return np.asarray(-np.log(np.maximum(self.true_probabilities, PROBABILITY_FLOOR)))

    def is_error(self, units: Int[np.ndarray, " member"], k: int) -> Bool[np.ndarray, " image"]:
        """Tell for each image whether k or more classes outrank its label.

        Args:
            units: Weight of each member, integers of one unit.
            k: The error is top-k.

        Raises:
            ShapeError: There is not one weight for each member.
            ConfigError: The weights or k are outside what the table is exact for.
        """
        weights = self.checked(units, k)
        anchor = int(weights.argmax())
        if weights[anchor] == WEIGHT_UNITS and (boxed := recall(self.pairs, Box(anchor, k))):
            return boxed.is_error(weights, k)  # the same, ten times faster
        num_outranking = self.num_outranking(self.scores(weights) > 0)
        return np.asarray((num_outranking >= k) | self.is_broken(weights))

    def errors(self, units: Int[np.ndarray, " member"], k: int) -> int:
        """Count the top-k errors of weights.

        Args:
            units: Weight of each member, integers of one unit.
            k: The error is top-k.

        Raises:
            ShapeError: There is not one weight for each member.
            ConfigError: The weights or k are outside what the table is exact for.
        """
        return self.count(self.is_error(units, k))

    def scores(self, units: Int[np.ndarray, " member"]) -> Float[np.ndarray, " pair"]:
        """Give for each pair what the class has above the label, plus the bias: outranks iff > 0.

        Linear in the weights but for the bias, so that a search can keep it up to date itself.
        """
        scores = np.array(self.bias)
        selected = np.flatnonzero(units)
        for first in range(0, self.num_pairs, _BLOCK_PAIRS):
            part = slice(first, first + _BLOCK_PAIRS)
            for member in selected:
                scores[part] += self.differences[member, part] * float(units[member])
        return scores

    def with_counts(self, image_counts: Int[np.ndarray, " image"] | None) -> "OutrankingTable":
        """Count the images otherwise, and share what does not depend on that; checks nothing."""
        logs = self.logs.with_counts(image_counts) if self.logs else None
        view = replace(self, image_counts=image_counts, logs=logs)
        for name in _SHARED:
            view.__dict__[name] = getattr(self, name)  # where a cached property keeps its value
        return view

    def num_outranking(self, outranks: Bool[np.ndarray, " pair"]) -> Int[np.ndarray, " image"]:
        """Count for each image the marked pairs, and the classes that outrank in any case."""
        total: Int[np.ndarray, " image"] = self.num_certain + self.count_pairs(outranks)
        return total

    def count_pairs(self, marked: Bool[np.ndarray, " pair"]) -> Int32[np.ndarray, " image"]:
        """Count the marked pairs of each image."""
        counts = np.zeros(self.num_images, dtype=np.int32)
        counts[self.pairs.images] = self.pairs.count(marked)
        return counts

    @cached_property
    def counts(self) -> Int[np.ndarray, " image"]:
        """Give how often each image counts."""
        counts = self.image_counts
        return np.ones(self.num_images, np.int64) if counts is None else counts

    @cached_property
    def pairs(self) -> Pairs:
        """Give where the pairs of each image are."""
        return Pairs.of(self.indptr, self.num_certain)

    @cached_property
    def decided(self) -> Int[np.ndarray, " image"]:
        """List the images without pairs that some class outranks in any case."""
        return np.flatnonzero((np.diff(self.indptr) == 0) & (self.num_certain > 0))

    def is_broken(self, weights: Int[np.ndarray, " member"]) -> Bool[np.ndarray, " image"]:
        """Tell for each image whether a member with a weight is broken there."""
        selected = np.flatnonzero((weights > 0) & (self.num_broken > 0))
        is_broken: Bool[np.ndarray, " image"] = np.any(self.broken[:, selected], axis=1)
        return is_broken

    def checked(self, units: Int[np.ndarray, " weight"], k: int) -> Int[np.ndarray, " weight"]:
        """Give weights that the table is exact for.

        Raises:
            ShapeError: There is not one weight for each member.
            ConfigError: The weights or k are outside what the table is exact for.
        """
        weights = checked_units(units, self.num_members, self.combine)
        self.checked_k(k)
        if self.box and not (weights[self.box.anchor] == WEIGHT_UNITS == weights.max()):
            raise ConfigError(
                f"weights {weights.tolist()} (units of 0.00001) are outside {self.box} that the "
                "table is limited to; use the full table."
            )
        return weights

    def checked_k(self, k: int) -> int:
        """Give k where the table is exact for it.

        Raises:
            ConfigError: k is outside the classes, or the table is boxed for another k.
        """
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
