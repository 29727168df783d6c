"""Probabilities and weights as integers, so that scores are exact whatever the order of summation.

A probability p becomes the integer rint(p · 2^bits), a weight an integer number of units of 0.00001;
both are held in float64. While the sum of all weights times 2^bits stays below 2^52, every product,
sum and difference of them, plus or minus one half, is a float64 without rounding: blocking, threads,
FMA and the order of members cannot change a score, and equal scores come out equal.

52 bits have to do for both. 30 for a probability tell apart what differs by 1e-9 (float16 storage
keeps 24), and differences of two fit into int32, half the memory of float64. The 22 that are left
hold 41 members at weight 1.00, or fewer at greater weights, in units fine enough for the searches
that look at all real weights. Only the ratios of weights matter to a score, so any integers will do.
"""

import numpy as np
from jaxtyping import Float, Int, Shaped

from ensemble.errors import ConfigError, ShapeError

WEIGHT_UNITS = 100_000
"""A weight is an integer number of these parts of 1.00."""

GRID_STEPS = 100
"""Weights that the paper tries lie this many to 1.00."""

MAX_BITS = 30
LOG_TOLERANCE = 0.009
"""Log-probabilities may exceed 0 by this much (rounding of a low-precision softmax)."""

PROBABILITY_FLOOR = 2.0**-MAX_BITS
"""What less counts as in the NLL (20.8 nats): the log of one zero would hide all other images."""


def fraction_bits(num_members: int) -> int:
    """Choose bits such that all members at weight 1.00 stay exact: 30 for up to 41 members."""
    return min(MAX_BITS, 52 - _with_tolerance(WEIGHT_UNITS * num_members).bit_length())


def largest_total(num_members: int) -> int:
    """Give the largest sum of weights, units, for which scores are exact: 41.11 for 41 members."""
    return (1 << (52 - fraction_bits(num_members))) * 100 // 101 - 1


def quantise(
    log_probabilities: Float[np.ndarray, "*axes"], bits: int
) -> Float[np.ndarray, "*axes"]:
    """Turn log-probabilities into integers in units of 2^-bits, held in float64.

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
    units: Shaped[np.ndarray, " member"], num_members: int
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
    if total > largest_total(num_members):
        raise ConfigError(
            f"weights {units.tolist()} (units of {1 / WEIGHT_UNITS:.5f}) sum to {total}; scores of "
            f"{num_members} members are exact up to {largest_total(num_members)}. Divide all by the "
            "largest."
        )
    return units.astype(np.int64)


def _with_tolerance(total: int) -> int:
    # exp(LOG_TOLERANCE) < 1.01: a probability may exceed 1 by that much.
    return total + total // 100
