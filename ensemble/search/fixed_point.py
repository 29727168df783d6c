"""Probabilities and weights as integers, so that scores are exact whatever the order of summation.

A probability p becomes the integer rint(p · 2^bits), a weight an integer number of hundredths; both
are held in float64. While the sum of all weights times 2^bits stays below 2^52, every product, sum
and difference of them, plus or minus one half, is a float64 without rounding: blocking, threads,
FMA and the order of members cannot change a score, and equal scores come out equal.
"""

import numpy as np
from jaxtyping import Float, Int, Shaped

from ensemble.errors import ConfigError, ShapeError

WEIGHT_STEPS = 100
"""A weight is an integer number of these parts of 1.00."""

MAX_BITS = 40
LOG_TOLERANCE = 0.009
"""Log-probabilities may exceed 0 by this much (rounding of a low-precision softmax)."""

PROBABILITY_FLOOR = 2.0**-MAX_BITS
"""What less counts as in the NLL (27.7 nats): the log of one zero would hide all other images."""


def fraction_bits(num_members: int) -> int:
    """Choose bits such that all members at weight 1.00 stay exact: 40 for up to 40 members."""
    # exp(LOG_TOLERANCE) < 1.01, hence 101 rather than 100 parts for each member.
    largest_sum = (WEIGHT_STEPS + 1) * num_members
    return min(MAX_BITS, 52 - largest_sum.bit_length())


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


def to_hundredths(weights: Float[np.ndarray, " member"]) -> Int[np.ndarray, " member"]:
    """Read weights such as 1.00 and 0.37 as 100 and 37.

    Raises:
        ConfigError: A weight is not a multiple of 0.01, or as in `checked_hundredths`.
    """
    scaled = np.asarray(weights, dtype=np.float64) * WEIGHT_STEPS
    rounded = np.rint(scaled)
    if not np.all(np.abs(scaled - rounded) < 1e-6):
        raise ConfigError(
            f"weights {weights.tolist()} are not multiples of {1 / WEIGHT_STEPS}; round them first."
        )
    return checked_hundredths(rounded.astype(np.int64), len(weights))


def checked_hundredths(
    hundredths: Shaped[np.ndarray, " member"], num_members: int
) -> Int[np.ndarray, " member"]:
    """Accept weights only where scores stay exact and the ever-outranking lemma holds.

    Raises:
        ShapeError: There is not one weight for each member.
        ConfigError: A weight is negative, all are zero, or their sum is too large for exact scores.
    """
    if len(hundredths) != num_members:
        raise ShapeError(f"{len(hundredths)} weights for {num_members} members; pass one for each.")
    total = int(hundredths.sum())
    if hundredths.min() < 0 or total == 0:
        raise ConfigError(
            f"weights {hundredths.tolist()} (hundredths): none may be negative and one must be "
            "positive."
        )
    if total > WEIGHT_STEPS * num_members:
        raise ConfigError(
            f"weights {hundredths.tolist()} (hundredths) sum to {total}; scores are exact up to "
            f"{WEIGHT_STEPS} a member. Divide all by the largest."
        )
    return hundredths.astype(np.int64)
