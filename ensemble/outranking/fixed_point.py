"""Probabilities, their logarithms and weights as integers: scores are exact whatever the order of summation.

A probability p becomes the integer rint(p · 2^bits), a weight an integer number of units of 0.00001;
both are held in float64. While the sum of all weights times 2^bits stays below 2^52, every product,
sum and difference of them, plus or minus one half, is a float64 without rounding: blocking, threads,
FMA and the order of members cannot change a score, and equal scores come out equal.

52 bits have to do for both. 30 for a probability tell apart what differs by 1e-9 (float16 storage
keeps 24), and differences of two fit into int32, half the memory of float64. The 22 that are left
hold 41 members at weight 1.00, or fewer at greater weights, in units fine enough for the searches
that look at all real weights. Only the ratios of weights matter to a score, so any integers will do.

**Logarithms.** A log-probability l becomes rint(max(l, F) · 2^bits) with the floor F = log 2^-30 =
-20.79 nats, the one that the NLL and temperatures have: -inf and all that is less likely tie there.
With l <= 0.009 (`LOG_TOLERANCE`) all values lie in a range of R = 20.81 nats, so that a difference
of two is at most R · 2^bits, and a score's at most sum(w) · R · 2^bits. At 25 bits (3e-8 nats; what
float32 stores of a log below -1 is coarser) a difference is below 2^30, which int32 holds, and 41
members at 1.00 come to 4.1e6 · 20.81 · 2^25 = 2.9e15, less than 2^52 = 4.5e15: all that is said of
sums above holds for them too. There is room for 63 members; beyond, bits are taken off. What the sweep and
the plateaus need of differences is that they are integers below 2^31, and they are. NaN and +inf are
no numbers of either kind: their rows are broken, and add nothing to a score.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int, Shaped

from ensemble.errors import ConfigError, ShapeError
from ensemble.outranking.combine import Combine

WEIGHT_UNITS = 100_000
"""A weight is an integer number of these parts of 1.00."""

GRID_STEPS = 100
"""Weights that the paper tries lie this many to 1.00."""

MAX_BITS = 30
MAX_LOG_BITS = 25
LOG_TOLERANCE = 0.009
"""Log-probabilities may exceed 0 by this much (rounding of a low-precision softmax)."""

PROBABILITY_FLOOR = 2.0**-MAX_BITS
"""What less counts as in the NLL (20.8 nats): the log of one zero would hide all other images."""

LOG_FLOOR = float(np.log(PROBABILITY_FLOOR))
"""What a lower log-probability counts as in a mean of logs."""

_LOG_RANGE = 21  # nats: more than there are between LOG_FLOOR and LOG_TOLERANCE


@dataclass(frozen=True)
class FixedPoint:
    """How the members' predictions become integers.

    Attributes:
        combine: Whether they are probabilities or logarithms.
        bits: Fraction bits.
    """

    combine: Combine
    bits: int

    @classmethod
    def of(cls, num_members: int, combine: Combine) -> "FixedPoint":
        """Choose bits such that all members at weight 1.00 stay exact: the most for up to 41."""
        return cls(combine, fraction_bits(num_members, combine))

    def quantise(self, log_probabilities: Float[np.ndarray, "*axes"]) -> Float[np.ndarray, "*axes"]:
        """Turn log-probabilities into integers in units of 2^-bits, held in float64.

        The one place where an integer is made from a log-probability: equality with brute force rests
        on it. NaN and +inf are for the caller to mark; here they stay what they are.
        """
        if self.combine == "probabilities":
            return quantise(log_probabilities, self.bits)
        logs = np.maximum(log_probabilities, LOG_FLOOR, dtype=np.float64)
        logs *= 2.0**self.bits
        return np.rint(logs, out=logs)

    def lowest_logs(self, scores: Float[np.ndarray, "*axes"]) -> Float[np.ndarray, "*axes"]:
        """Give for each integer a log-probability below which all have a smaller integer."""
        lowest = (scores - 0.5) * 2.0**-self.bits
        if self.combine == "probabilities":
            with np.errstate(divide="ignore"):
                lowest = np.log(np.maximum(lowest, 0))
        else:
            lowest[scores <= self.least] = -np.inf
        # Far more than exp, log and a product can err; it only lets a few more candidates through.
        return lowest - 1e-9

    @property
    def least(self) -> float:
        """The integer that -inf becomes."""
        return (
            0.0 if self.combine == "probabilities" else float(np.rint(LOG_FLOOR * 2.0**self.bits))
        )

    def probabilities(self, scores: Float[np.ndarray, "*axes"]) -> Float[np.ndarray, "*axes"]:
        """Give the probabilities that a single member's integers stand for."""
        scaled = scores * 2.0**-self.bits
        return scaled if self.combine == "probabilities" else np.exp(scaled)

    def label_scores(self, probabilities: Float[np.ndarray, "*axes"]) -> Float[np.ndarray, "*axes"]:
        """Give back the integers that `probabilities` made probabilities of; that of -inf for 0.

        A logarithm that went through exp and log is off by less than 1e-14, and integers are 3e-8 apart.
        """
        if self.combine == "probabilities":
            return probabilities * 2.0**self.bits
        with np.errstate(divide="ignore"):
            return self.quantise(np.log(probabilities))


def fraction_bits(num_members: int, combine: Combine = "probabilities") -> int:
    """Choose bits such that all members at weight 1.00 stay exact.

    30 for up to 41 members' probabilities, 25 for up to 63 members' logarithms.
    """
    total = WEIGHT_UNITS * num_members
    if combine == "logs":
        return min(MAX_LOG_BITS, 52 - (_LOG_RANGE * total).bit_length())
    return min(MAX_BITS, 52 - _with_tolerance(total).bit_length())


def largest_total(num_members: int, combine: Combine = "probabilities") -> int:
    """Give the largest sum of weights, units, for which scores are exact.

    41.11 for 41 members' probabilities, 63.91 for their logarithms.
    """
    room = 1 << (52 - fraction_bits(num_members, combine))
    return (room // _LOG_RANGE if combine == "logs" else room * 100 // 101) - 1


def quantise(
    log_probabilities: Float[np.ndarray, "*axes"], bits: int
) -> Float[np.ndarray, "*axes"]:
    """Turn log-probabilities into probabilities as integers in units of 2^-bits, held in float64.

    The one place where a probability is made from its logarithm: equality with brute force rests
    on it.
    """
    # Contiguous, and not in place: NumPy may take another exp, one ulp apart, for other memory.
    probabilities = np.exp(np.ascontiguousarray(log_probabilities, dtype=np.float64))
    probabilities *= 2.0**bits
    return np.rint(probabilities, out=probabilities)


def to_units(weights: Float[np.ndarray, " member"]) -> Int[np.ndarray, " member"]:
    """Read weights such as 1.00 and 0.37 as 100,000 and 37,000 units.

    Raises:
        ConfigError: A weight is not a multiple of 0.00001, or as in `checked_units`.
    """
    scaled = np.asarray(weights, dtype=np.float64) * WEIGHT_UNITS
    rounded = np.rint(scaled)
    if not np.all(np.abs(scaled - rounded) < 1e-3):
        raise ConfigError(
            f"weights {weights.tolist()} are not multiples of {1 / WEIGHT_UNITS:.5f}; round them "
            "first."
        )
    return checked_units(rounded.astype(np.int64), len(weights))


def checked_units(
    units: Shaped[np.ndarray, " member"], num_members: int, combine: Combine = "probabilities"
) -> Int[np.ndarray, " member"]:
    """Accept weights only where scores stay exact and the ever-outranking lemma holds.

    Raises:
        ShapeError: There is not one weight for each member.
        ConfigError: A weight is negative, all are zero, or their sum is too large for exact scores.
    """
    if len(units) != num_members:
        raise ShapeError(f"{len(units)} weights for {num_members} members; pass one for each.")
    total = int(units.sum())
    if units.min() < 0 or total == 0:
        raise ConfigError(
            f"weights {units.tolist()} (units of {1 / WEIGHT_UNITS:.5f}): none may be negative and "
            "one must be positive."
        )
    largest = largest_total(num_members, combine)
    if total > largest:
        raise ConfigError(
            f"weights {units.tolist()} (units of {1 / WEIGHT_UNITS:.5f}) sum to {total}; scores of "
            f"{num_members} members are exact up to {largest}. Divide all by the largest."
        )
    return units.astype(np.int64)


def _with_tolerance(total: int) -> int:
    # exp(LOG_TOLERANCE) < 1.01: a probability may exceed 1 by that much.
    return total + total // 100
