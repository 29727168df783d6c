"""What a table says beside the errors: NLL, ties, and every member alone."""

import numpy as np
from jaxtyping import Float, Int

from ensemble.outranking.fixed_point import PROBABILITY_FLOOR, checked_units
from ensemble.outranking.table import OutrankingTable


def member_errors(table: OutrankingTable, k: int) -> Int[np.ndarray, " member"]:
    """Count the top-k errors of each single member.

    Raises:
        ConfigError: k is outside what the table is exact for.
    """
    is_error = table.ranks >= table.checked_k(k)
    if table.image_counts is None:
        return np.asarray(np.count_nonzero(is_error, axis=0))
    return np.asarray(np.where(is_error, table.image_counts[:, None], 0).sum(axis=0))


def member_nll(table: OutrankingTable) -> Float[np.ndarray, " member"]:
    """Average -log of the label's probability (nats) for each single member, as `nll` does."""
    return np.asarray(np.average(table.label_losses, axis=0, weights=table.image_counts))


def nll(table: OutrankingTable, units: Int[np.ndarray, " member"]) -> float:
    """Average -log of the label's averaged probability (nats); below 2^-30 it counts as that.

    `num_floored` says how often.

    Args:
        table: The images and members.
        units: Weight of each member, integers of one unit.

    Raises:
        ShapeError: There is not one weight for each member.
        ConfigError: The weights are outside what the table is exact for.
    """
    losses = -np.log(np.maximum(label_average(table, units), PROBABILITY_FLOOR))
    return float(np.average(losses, weights=table.image_counts))


def num_floored(table: OutrankingTable, units: Int[np.ndarray, " member"]) -> int:
    """Count the images whose label has less than 2^-30 on average, broken ones included."""
    return table.count(label_average(table, units) < PROBABILITY_FLOOR)


def label_average(
    table: OutrankingTable, units: Int[np.ndarray, " member"]
) -> Float[np.ndarray, " image"]:
    """Give the label's averaged probability; 0 where a member with weight > 0 is broken."""
    weights = checked_units(units, table.num_members)
    # Not by BLAS, whose threads take longer to meet than the sum takes.
    average = np.einsum("im,m->i", table.true_probabilities, weights.astype(np.float64))
    average /= weights.sum()
    return np.where(table.is_broken(weights), 0.0, average)


def num_ties(table: OutrankingTable, units: Int[np.ndarray, " member"], k: int) -> int:
    """Count the images whose top-k outcome hangs on how equal scores are ordered.

    Raises:
        ShapeError: There is not one weight for each member.
        ConfigError: The weights or k are outside what the table is exact for.
    """
    weights = table.checked(units, k)
    above = table.scores(weights) - table.bias
    surely = table.num_outranking(above > 0) >= k
    possibly = table.num_outranking(above >= 0) >= k
    return table.count((surely != possibly) & ~table.is_broken(weights))
