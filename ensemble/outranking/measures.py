"""What a table says beside the errors: NLL, ties, and every member alone."""

import numpy as np
from jaxtyping import Float, Int

from ensemble.errors import ConfigError
from ensemble.outranking.fixed_point import PROBABILITY_FLOOR, checked_units
from ensemble.outranking.log_pool import fit_scale, pool_losses
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


def nll(table: OutrankingTable, units: Int[np.ndarray, " member"], scale: float = 1.0) -> float:
    """Average -log of the label's averaged probability (nats); below 2^-30 it counts as that.

    `num_floored` says how often.

    Args:
        table: The images and members.
        units: Weight of each member, integers of one unit.
        scale: As in `label_average`.

    Raises:
        ShapeError: There is not one weight for each member.
        ConfigError: The weights are outside what the table is exact for.
    """
    return float(np.average(losses(table, units, scale), weights=table.image_counts))


def losses(
    table: OutrankingTable, units: Int[np.ndarray, " member"], scale: float = 1.0
) -> Float[np.ndarray, " image"]:
    """Give -log of the label's averaged probability of each image (nats), floored as in `nll`.

    Raises:
        ShapeError: There is not one weight for each member.
        ConfigError: The weights are outside what the table is exact for.
    """
    return np.asarray(-np.log(np.maximum(label_average(table, units, scale), PROBABILITY_FLOOR)))


def search_nll(table: OutrankingTable, units: Int[np.ndarray, " member"]) -> float:
    """Give the NLL that searches compare: of logarithms, on a sample and at a scale of all members.

    Raises:
        ShapeError: There is not one weight for each member.
        ConfigError: The weights are outside what the table is exact for.
    """
    if table.combine == "probabilities":
        return nll(table, units)
    return table.log_sample.nll(checked_units(units, table.num_members, table.combine))


def num_floored(
    table: OutrankingTable, units: Int[np.ndarray, " member"], scale: float = 1.0
) -> int:
    """Count the images whose label has less than 2^-30 on average, broken ones included."""
    return table.count(label_average(table, units, scale) < PROBABILITY_FLOOR)


def label_average(
    table: OutrankingTable, units: Int[np.ndarray, " member"], scale: float = 1.0
) -> Float[np.ndarray, " image"]:
    """Give the label's probability in the average; 0 where a member with weight > 0 is broken.

    Args:
        table: The images and members.
        units: Weight of each member, integers of one unit.
        scale: What a mean of logarithms is multiplied by before the softmax; probabilities have none.

    Raises:
        ShapeError: There is not one weight for each member.
        ConfigError: The weights are outside what the table is exact for, or a table of logarithms lacks
            the likely classes of an image.
    """
    weights = checked_units(units, table.num_members, table.combine)
    if table.combine == "logs":
        if table.likely is None or len(table.likely.images) != table.num_images:
            raise ConfigError(
                "the outranking table has not the likely classes of every image, which the NLL of a "
                "mean of logarithms is made from. Build it from all members at once."
            )
        exponents = weights * (scale / weights.sum())
        average = np.exp(-pool_losses(table.likely, exponents))
    else:
        # Not by BLAS, whose threads take longer to meet than the sum takes.
        average = np.einsum("im,m->i", table.true_probabilities, weights.astype(np.float64))
        average /= weights.sum()
    return np.where(table.is_broken(weights), 0.0, average)


def temperature(table: OutrankingTable, member: int) -> float:
    """Give the temperature that suits a single member, by the NLL on a sample of the images.

    Raises:
        ConfigError: The table has no likely classes.
    """
    return 1 / fit_scale(table.log_sample, np.eye(table.num_members, dtype=np.int64)[member])


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
