"""The statistics of a stage: means over seeds, differences to the base, and how sure the choice is."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from jaxtyping import Bool, Float

from ensemble.evaluation.crossed_bootstrap import crossed_bootstrap, crossed_samples
from ensemble.report.documents.study import BaseDifference
from ensemble.statistics import Interval

# A difference counts as detectable if such a study finds it in this share of its repetitions.
_POWER = 0.8


@dataclass(frozen=True)
class Choice:
    """Which row of a stage has the lowest validation error.

    Attributes:
        winner: Index of the row; of rows with equal errors the first, so that the base stays.
        shares: Share of bootstrap samples in which each row has the lowest error; equal rows divide a sample.
    """

    winner: int
    shares: Float[np.ndarray, " row"]


def choose(wrong: Bool[np.ndarray, "row seed image"], resamples: int, seed: int) -> Choice:
    """Choose the row with the lowest mean error, and tell how often a bootstrap would choose each row.

    Args:
        wrong: Whether each seed's network of each row errs on each validation image.
        resamples: Number of bootstrap samples of seeds and images.
        seed: Seed of the resampling.

    Raises:
        EmptySplitError: There is no image.
    """
    samples = crossed_samples(wrong.astype(float), np.ones(wrong.shape[1:], bool), resamples, seed)
    is_lowest = samples == samples.min(axis=0)
    shares = (is_lowest / is_lowest.sum(axis=0)).mean(axis=1)
    return Choice(int(wrong.sum(axis=(1, 2)).argmin()), shares)


def against_base(
    wrong: Sequence[Bool[np.ndarray, "unit image"]],
    base: Bool[np.ndarray, "seed image"],
    resamples: int,
    seed: int,
) -> tuple[BaseDifference, ...]:
    """Bound the difference of each row's error to the base's, by a bootstrap over seeds and images.

    Seeds are paired as images are: a sample holds the same seeds and images of the row and of the base.

    A row of averages has one of them for several seeds, and is compared with the mean of the base over these.

    Args:
        wrong: Whether each seed's network, or each average, errs on each test image, for each row.
        base: The same for the base's networks.
        resamples: Number of bootstrap samples.
        seed: Seed of the resampling.
    """
    found = dict[int, BaseDifference]()
    for size in {len(row) for row in wrong}:
        rows = [number for number, row in enumerate(wrong) if len(row) == size]
        grouped = base[: size * (len(base) // size)].reshape(size, -1, base.shape[1]).mean(axis=1)
        differences = np.stack([wrong[number].astype(float) - grouped for number in rows])
        intervals = crossed_bootstrap(differences, np.ones(grouped.shape, bool), resamples, seed)
        for number, interval in zip(rows, intervals, strict=True):
            found[number] = BaseDifference(
                difference=interval.mean,
                low=interval.low,
                high=interval.high,
                level=interval.level,
                detectable=smallest_detectable(interval),
            )
    return tuple(found[number] for number in range(len(wrong)))


def smallest_detectable(interval: Interval) -> float:
    """Give the difference whose interval would exclude 0 in four of five repetitions.

    The standard error is taken from the width of the interval, as for a normal distribution.
    """
    normal = NormalDist()
    z = normal.inv_cdf((1 + interval.level) / 2)
    return (z + normal.inv_cdf(_POWER)) * (interval.high - interval.low) / (2 * z)
