"""The error at every real weight from 0 on of one member: where it changes, and how.

As in `sweep`, a pair (image, class) outranks the label iff a + w · d > 0, or = 0 and the class wins
ties; a and d are integers, w is real. So it changes at most once over w >= 0, at the crossing point
-a / d: at it, or just after it where the tie still goes the old way. Crossing points are put in order
exactly: as their floor and the first 62 bits of what is left, which differ for any two different
fractions whose denominators have 31 bits. Between two changes of the error lies a plateau. One that
holds no multiple of 0.00001 exists, but no weight can be set to it.

Source: Och 2003.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int, Int32

from ensemble.outranking.sweep import transitions


@dataclass(frozen=True, eq=False)
class Plateaus:
    """Weights between which the error does not change, from the smallest weights to the largest.

    Attributes:
        first: The least weight of each plateau that is an integer number of units.
        last: The greatest such weight; less than `first` where the plateau lies between two units,
            or beyond what a weight may be.
        errors: Errors on each plateau.
    """

    first: Int[np.ndarray, " plateau"]
    last: Int[np.ndarray, " plateau"]
    errors: Int[np.ndarray, " plateau"]

    @property
    def can_be_set(self) -> Bool[np.ndarray, " plateau"]:
        """Mark the plateaus that hold a weight of whole units."""
        can_be_set: Bool[np.ndarray, " plateau"] = self.last >= self.first
        return can_be_set

    def at(self, weights: Int[np.ndarray, " weight"]) -> Int[np.ndarray, " weight"]:
        """Give the errors at some weights, units."""
        errors: Int[np.ndarray, " weight"] = self.errors[
            np.searchsorted(self.first, weights, side="right") - 1
        ]
        return errors

    def raised(self, errors: int, less_at_zero: int) -> "Plateaus":
        """Add errors that do not depend on the weight, but for some that need one above 0."""
        first, last, raised = self.first, self.last, self.errors + errors
        if less_at_zero:
            first = np.concatenate([[0, 1], first[1:]])
            last = np.concatenate([[0], last])
            raised = np.concatenate([raised[:1] - less_at_zero, raised])
        return Plateaus(first, last, raised)

    def then(self, further: "Plateaus") -> "Plateaus":
        """Go on with plateaus that begin where these end, at the same errors."""
        return Plateaus(
            first=np.concatenate([self.first, further.first[1:]]),
            last=np.concatenate([self.last[:-1], further.last]),
            errors=np.concatenate([self.errors, further.errors[1:]]),
        )


@dataclass(frozen=True, eq=False)
class Line:
    """Pairs whose scores rise or fall with one weight, from its value `low` on.

    Attributes:
        start: Half-integer scores against the label at weight `low`.
        slope: Change of a score for each unit of weight.
        bias: The part of each score that is not an integer: +1/2 where the class wins ties.
        images: Image of each pair, ascending.
        num_outranking: Classes that outrank the label at `low`, by pairs or certainly.
        image_counts: How often each image counts.
        k: An image is an error when k or more classes outrank its label.
        low: The weight at which the line begins, units.
    """

    start: Float[np.ndarray, " pair"]
    slope: Int32[np.ndarray, " pair"]
    bias: Float[np.ndarray, " pair"]
    images: Int[np.ndarray, " pair"]
    num_outranking: Int[np.ndarray, " image"]
    image_counts: Int[np.ndarray, " image"]
    k: int
    low: int

    def plateaus(self, high: int | None, last: int, at_most: float) -> Plateaus | None:
        """Find the plateaus from `low` to `high`, or over all greater weights.

        Args:
            high: The greatest weight that is looked at, units; None: without end.
            last: The greatest weight there may be, units.
            at_most: No plateau with more errors is of interest.

        Returns:
            None where no plateau can have as few errors as `at_most`.
        """
        outranks = self.start > 0
        end = np.where(self.slope, self.slope, self.start)
        if high is not None:
            end = self.start + self.slope * float(high - self.low)
        index = np.flatnonzero(outranks != (end > 0))
        changes = self._count(index)
        least = self.num_outranking - self._count(index[outranks[index]])
        if self.image_counts[least >= self.k].sum() > at_most:
            return None
        errors = int(self.image_counts[self.num_outranking >= self.k].sum())
        # Most images stay on one side of k whatever the order of their changes.
        can_pass = (least < self.k) & (least + changes >= self.k)
        index = index[can_pass[self.images[index]]]
        if not len(index):
            return Plateaus(np.array([self.low]), np.array([last]), np.array([errors]))
        return self._between_changes(index, ~outranks[index], errors, last)

    def _count(self, index: Int[np.ndarray, " change"]) -> Int[np.ndarray, " image"]:
        return np.bincount(self.images[index], minlength=len(self.image_counts))

    def _between_changes(
        self,
        index: Int[np.ndarray, " change"],
        upwards: Bool[np.ndarray, " change"],
        errors: int,
        last: int,
    ) -> Plateaus:
        whole, rest = self._positions(index, upwards)
        order = np.lexsort((rest, whole))
        whole, rest = whole[order], rest[order]
        is_new = np.append(True, (whole[1:] != whole[:-1]) | (rest[1:] != rest[:-1]))
        place = np.empty(len(order), dtype=np.int64)
        place[order] = np.cumsum(is_new) - 1
        whole, rest = whole[is_new] + self.low, rest[is_new]
        keys = (self.images[index].astype(np.int64) << 32) | (place << 1) | upwards
        keys.sort()
        where, image, change = transitions(keys, 32, self.num_outranking, self.k)
        moved = np.bincount(where, change * self.image_counts[image], minlength=len(whole))
        changes = np.flatnonzero(moved)
        whole, rest = whole[changes], rest[changes]
        begins = np.where(rest == 0, whole, whole + 1)  # 0: at a whole unit, and not just after it
        return Plateaus(
            first=np.concatenate([[self.low], begins]),
            last=np.minimum(np.concatenate([begins - 1, [last]]), last),
            errors=np.concatenate([[errors], errors + np.cumsum(moved[changes]).astype(np.int64)]),
        )

    def _positions(
        self, index: Int[np.ndarray, " change"], upwards: Bool[np.ndarray, " change"]
    ) -> tuple[Int[np.ndarray, " change"], Int[np.ndarray, " change"]]:
        """Give each change's floor and 62 bits of the rest, with one bit for "just after it"."""
        bias = self.bias[index]
        slope = self.slope[index].astype(np.int64)
        below = np.abs((self.start[index] - bias).astype(np.int64))
        whole, rest = np.divmod(below, np.abs(slope))
        high, rest = np.divmod(rest << 31, np.abs(slope))
        low = (rest << 31) // np.abs(slope)
        after = (bias > 0) != upwards
        return whole, (((high << 31) | low) << 1) | after
