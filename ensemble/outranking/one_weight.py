"""What the error and the NLL do while the weight of one member runs and the others stay."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float, Int

from ensemble.outranking.fixed_point import GRID_STEPS, PROBABILITY_FLOOR
from ensemble.outranking.log_pool import losses_of, pool_scores
from ensemble.outranking.plateaus import Line, Plateaus
from ensemble.outranking.sweep import error_curve
from ensemble.outranking.table import OutrankingTable

_FACTORS = 16


def sweep(
    table: OutrankingTable,
    units: Int[np.ndarray, " member"],
    member: int,
    k: int,
    scores: Float[np.ndarray, " pair"] | None = None,
    num_steps: int = GRID_STEPS,
) -> Int[np.ndarray, " weight"]:
    """Count the top-k errors at evenly spaced weights from 0 to 1.00 of one member.

    Args:
        table: The errors are counted on.
        units: Weights of the others, in units of 0.00001; that of `member` is not read.
        member: Index of the member whose weight runs.
        k: The error is top-k.
        scores: `scores` of the others' weights, where the caller has them.
        num_steps: 100 for the paper's weights; `WEIGHT_UNITS` for all weights there are.

    Returns:
        One count more than steps.

    Raises:
        ShapeError: There is not one weight for each member.
        ConfigError: The weights or k are outside what the table is exact for.
    """
    others = np.array(units)
    others[member] = 0
    others = table.checked(others, k)
    start = table.scores(others) if scores is None else scores
    pairs, slope = table.pairs, table.differences[member]
    lost = table.decided[table.num_certain[table.decided] >= k]

    def curve(counts: Int[np.ndarray, " image"]) -> Int[np.ndarray, " weight"]:
        errors = error_curve(start, slope, pairs, counts[pairs.images], k, num_steps)
        return errors + counts[lost].sum()

    if not table.num_broken.any():
        return curve(table.counts)
    is_broken = table.is_broken(others)
    breaks = table.broken[:, member] & ~is_broken
    errors = curve(np.where(is_broken | breaks, 0, table.counts))
    errors += table.count(is_broken | breaks)
    errors[0] -= table.count(breaks & (table.num_outranking(start > 0) < k))
    return errors


def plateaus(
    table: OutrankingTable,
    units: Int[np.ndarray, " member"],
    member: int,
    k: int,
    scores: Float[np.ndarray, " pair"],
    low: int,
    high: int | None,
    last: int,
    at_most: float = np.inf,
) -> Plateaus | None:
    """Count the top-k errors at every real weight of one member from `low` to `high`.

    Args:
        table: The errors are counted on.
        units: Weights of the others, in units of 0.00001; that of `member` is not read.
        member: Index of the member whose weight runs.
        k: The error is top-k.
        scores: `scores` of the others' weights.
        low: The least weight, units.
        high: The greatest weight that is looked at, units; None: without end.
        last: The greatest weight there may be, units.
        at_most: No plateau with more errors is of interest.

    Returns:
        None where no plateau can have as few errors as `at_most`.

    Raises:
        ShapeError: There is not one weight for each member.
        ConfigError: The weights or k are outside what the table is exact for.
    """
    others = np.array(units)
    others[member] = 0
    others = table.checked(others, k)
    counts = table.counts
    is_broken = table.is_broken(others)
    breaks = table.broken[:, member] & ~is_broken
    start = scores + table.differences[member] * float(low) if low else scores
    num_outranking = table.num_outranking(start > 0)
    line = Line(
        start,
        table.differences[member],
        table.bias,
        table.images,
        num_outranking,
        np.where(is_broken | breaks, 0, counts),
        k,
        low,
    )
    lost = int(counts[is_broken | breaks].sum())
    counted = line.plateaus(high, last, at_most - lost)
    if counted is None or not lost:
        return counted
    at_zero = int(counts[breaks & (num_outranking < k)].sum()) if low == 0 else 0
    return counted.raised(lost, at_zero)


def nlls(
    table: OutrankingTable, units: Int[np.ndarray, " member"], member: int, weights: Sequence[int]
) -> list[float]:
    """Give the NLL (nats) at some weights of one member, as `search_nll`; the others are added up once.

    Args:
        table: The images and members.
        units: Weights of the others, in units of 0.00001; that of `member` is not read.
        member: Index of the member whose weight runs.
        weights: Weights of that member, units.
    """
    others = np.array(units)
    others[member] = 0
    if table.combine == "logs":
        return _log_nlls(table, others, member, weights)
    # Not by BLAS, whose threads take longer to meet than the sum takes.
    others_sum = np.einsum("m,mi->i", others.astype(np.float64), table.label_columns)
    total = others.sum()
    own, losses = table.label_columns[member], []
    for weight in weights:
        average = own * float(weight)
        average += others_sum
        average /= total + weight
        if table.num_broken.any():
            tried = np.array(others)
            tried[member] = weight
            average[as_counted(table, table.is_broken(tried))] = 0
        losses.append(mean_loss(average))
    return losses


def _log_nlls(
    table: OutrankingTable, others: Int[np.ndarray, " member"], member: int, weights: Sequence[int]
) -> list[float]:
    sample = table.log_sample
    others_sum, own = pool_scores(sample.logs, others.astype(np.float64)), sample.logs[member]
    nlls = []
    for weight in weights:
        tried = np.array(others)
        tried[member] = weight
        scores = others_sum + own * float(weight)
        scores *= sample.common_scale / tried.sum()
        nlls.append(sample.mean(losses_of(scores, sample.offsets), tried))
    return nlls


def as_counted(
    table: OutrankingTable, marked: Bool[np.ndarray, " image"]
) -> Bool[np.ndarray, " item"]:
    """Repeat a mark of each image as often as it counts, as in `label_columns`."""
    return marked if table.image_counts is None else np.repeat(marked, table.image_counts)


def mean_loss(averages: Float[np.ndarray, " item"]) -> float:
    """Average -log of probabilities, none taken for less than the floor of `nll`. Writes into them.

    Logs are taken of products of 16, which is several times faster: 16 floors are above 2^-1022.
    """
    np.maximum(averages, PROBABILITY_FLOOR, out=averages)
    rest = len(averages) % _FACTORS
    products = np.multiply.reduce(averages[rest:].reshape(_FACTORS, -1), axis=0)
    return float(-(np.log(products).sum() + np.log(averages[:rest]).sum()) / len(averages))
